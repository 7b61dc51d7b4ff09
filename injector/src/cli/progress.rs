//! The line that a campaign shows while it runs: it fits a terminal of 80 columns, and estimates from the settings and from
//! what was seen.

use std::fmt::Write as _;
use std::time::Duration;

use injector_client::campaign::TrialCounts;
use injector_core::campaign::order;
use injector_core::figures::percents;
use injector_core::run::settings::Settings;

/// The characters of the line, at most.
const WIDTH: usize = 78;

/// The estimate of the time to go: the pauses, holds and observations that the settings ask for, trial by trial, and what
/// the trials of this process took beyond them.
#[derive(Clone, Debug)]
pub(super) struct Estimate {
    seed: u64,
    /// What a trial of each cell takes at least by the settings: hold, observation, cool-down.
    least: Vec<Duration>,
    /// The pause after each record but the last.
    cool_down: Duration,
    /// Trials that are still to be made,
    left: u64,
    /// and what they take at least.
    least_left: Duration,
    /// Trials that ended in this process,
    ended: u64,
    /// what they took at least,
    least_ended: Duration,
    /// and when the last of them ended, from the start of this process.
    last_end: Duration,
    /// What the present trial takes at least.
    least_present: Duration,
}

impl Estimate {
    /// The estimate for the trials that are not made yet.
    pub(super) fn new(settings: &Settings, missing: impl Iterator<Item = u64>) -> Self {
        let (rest, cool_down) = match settings.cycle {
            Some(cycle) => (cycle.0, Duration::ZERO),
            None => (settings.ready.observe.0 + settings.cool_down.0, settings.cool_down.0),
        };
        let least: Vec<Duration> = settings.cells.iter().map(|cell| cell.hold.0 + rest).collect();
        let mut estimate = Self {
            seed: settings.seed,
            least,
            cool_down,
            left: 0,
            least_left: Duration::ZERO,
            ended: 0,
            least_ended: Duration::ZERO,
            last_end: Duration::ZERO,
            least_present: Duration::ZERO,
        };
        for trial in missing {
            estimate.left += 1;
            estimate.least_left += estimate.least_of(trial);
        }
        estimate
    }

    fn least_of(&self, trial: u64) -> Duration {
        let cells = self.least.len();
        if cells == 0 { Duration::ZERO } else { self.least[order::cell(self.seed, trial, cells)] }
    }

    /// A trial began.
    pub(super) fn begins(&mut self, trial: u64) {
        self.least_present = self.least_of(trial);
    }

    /// A trial ended, with a record or without, so long after the start of this process.
    pub(super) fn ends(&mut self, trial: u64, elapsed: Duration) {
        let least = self.least_of(trial);
        self.left = self.left.saturating_sub(1);
        self.least_left = self.least_left.saturating_sub(least);
        self.ended += 1;
        self.least_ended += least;
        self.last_end = elapsed;
    }

    /// What a trial takes beyond what the settings ask for, on the average so far, in seconds: to wait for health, to
    /// recover. Less than 0 where trials end before their hold does.
    fn excess(&self) -> f64 {
        if self.ended == 0 {
            return 0.0;
        }
        // The cool-down of the last one is still to come.
        let least = self.least_ended.saturating_sub(self.cool_down);
        (self.last_end.as_secs_f64() - least.as_secs_f64()) / self.ended as f64
    }

    /// The time to go; only a lower bound before the first trial ends.
    pub(super) fn to_go(&self, elapsed: Duration) -> String {
        let excess = self.excess();
        // What the present trial has had of its time; a trial that takes longer does not shorten the others.
        let since = elapsed.saturating_sub(self.last_end).as_secs_f64();
        let spent = since.min((self.least_present.as_secs_f64() + excess).max(0.0));
        // Nothing follows the last record.
        let whole = self.least_left.saturating_sub(self.cool_down).as_secs_f64() + excess * self.left as f64;
        let left = rough(Duration::try_from_secs_f64((whole - spent).max(0.0)).unwrap_or(Duration::MAX));
        if self.ended == 0 { format!("at least {left}") } else { format!("about {left}") }
    }
}

/// What the line shows, at any time.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The rate so far.
    pub(super) counts: TrialCounts,
    /// Trials of the whole campaign.
    pub(super) trials: u64,
    /// The time to go.
    pub(super) estimate: Estimate,
    /// What happens now.
    pub(super) now: String,
}

/// Two units at most: `26h 10m`, `4m 20s`, `12s`.
fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

impl Progress {
    /// The line: how far, how long, the rate so far, what happens now.
    pub(super) fn line(&self, elapsed: Duration) -> String {
        let Self { counts, trials, .. } = self;
        let mut text = format!("{}/{trials}, {}", counts.made, rough(elapsed));
        if counts.made < *trials {
            let _ = write!(text, ", {} to go", self.estimate.to_go(elapsed));
        }
        if counts.decided > 0 {
            let _ =
                write!(text, "; {}/{} late ({})", counts.beyond, counts.decided, percents(counts.interval));
        }
        if !self.now.is_empty() {
            let _ = write!(text, "; {}", self.now);
        }
        if text.chars().count() > WIDTH {
            text = text.chars().take(WIDTH - 1).chain(['…']).collect();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Trials that take 20 s of hold and observation and 2 s of cool-down, of which this process has to make so many.
    fn even(left: u64) -> Estimate {
        Estimate {
            seed: 1,
            least: vec![seconds(22)],
            cool_down: seconds(2),
            left,
            least_left: seconds(22 * left),
            ended: 0,
            least_ended: Duration::ZERO,
            last_end: Duration::ZERO,
            least_present: Duration::ZERO,
        }
    }

    fn progress(counts: TrialCounts, trials: u64, estimate: Estimate, now: &str) -> Progress {
        Progress { counts, trials, estimate, now: now.to_owned() }
    }

    #[test]
    fn before_the_first_trial_ends_the_settings_say_how_long_at_least() {
        let mut estimate = even(60);
        estimate.begins(0);
        let mut line = progress(TrialCounts::default(), 60, estimate, "trial 0 is measured");
        // 60 × 22 s without the last cool-down.
        assert_eq!(line.line(seconds(0)), "0/60, 0s, at least 21m 58s to go; trial 0 is measured");
        assert_eq!(line.line(seconds(9)), "0/60, 9s, at least 21m 49s to go; trial 0 is measured");
        // A trial that does not end makes the others no shorter.
        assert_eq!(line.line(seconds(500)), "0/60, 8m 20s, at least 21m 36s to go; trial 0 is measured");
        line.counts.made = 60;
        assert_eq!(line.line(seconds(9)), "60/60, 9s; trial 0 is measured");
    }

    #[test]
    fn then_what_trials_took_beyond_the_settings_is_added() {
        let interval = injector_core::stats::binomial::clopper_pearson(0, 4, 0.95);
        let counts = TrialCounts { made: 24, decided: 24, beyond: 0, interval };
        let mut estimate = even(40);
        // Each took 3 s beyond what the settings ask for; the last cool-down is still to come.
        for trial in 0..4 {
            estimate.begins(20 + trial);
            estimate.ends(20 + trial, seconds(25 * (trial + 1) - 2));
        }
        let line = progress(counts, 60, estimate, "");
        // 36 × 25 s.
        assert_eq!(line.line(seconds(98)), "24/60, 1m 38s, about 14m 58s to go; 0/24 late (0.0 to 60.3 %)");
        assert_eq!(line.line(seconds(108)), "24/60, 1m 48s, about 14m 48s to go; 0/24 late (0.0 to 60.3 %)");
    }

    /// With holds of 1 s and 60 s, the mean of the trials so far says little of those that are missing.
    #[test]
    fn the_holds_of_the_missing_trials_count() {
        let cells = [1, 60];
        let holds: Vec<u64> = (0..10).map(|trial| cells[order::cell(7, trial, 2)]).collect();
        let mut estimate = Estimate {
            seed: 7,
            least: cells.map(seconds).to_vec(),
            cool_down: Duration::ZERO,
            left: 10,
            least_left: seconds(holds.iter().sum()),
            ..even(0)
        };
        assert_eq!(estimate.to_go(Duration::ZERO), "at least 5m 05s");
        let mut elapsed = 0;
        for (trial, hold) in holds.iter().enumerate() {
            estimate.begins(trial as u64);
            elapsed += hold + 2;
            estimate.ends(trial as u64, seconds(elapsed));
            let left: u64 = holds[trial + 1..].iter().map(|hold| hold + 2).sum();
            let expected = format!("about {}", rough(seconds(left)));
            assert_eq!(estimate.to_go(seconds(elapsed)), expected, "after trial {trial} of {holds:?}");
        }
    }

    #[test]
    fn it_never_breaks_a_line_of_80_columns() {
        let interval = Some([0.123, 0.456]);
        let counts = TrialCounts { made: 99_999, decided: 99_999, beyond: 12_345, interval };
        let mut estimate = even(2);
        estimate.ends(99_998, seconds(999_999));
        let seen = progress(counts, 100_000, estimate, "trial 99999 waits for healthy endpoints")
            .line(seconds(999_999));
        assert!(seen.chars().count() < 80, "{seen}");
        assert!(seen.starts_with("99999/100000, 277h 46m, about 277h 46m to go; 12345/99999 late"), "{seen}");
    }
}
