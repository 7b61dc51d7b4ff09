//! The line that a campaign shows while it runs: it fits a terminal of 80 columns, and estimates from what was seen.

use std::fmt::Write as _;
use std::time::Duration;

use injector_client::campaign::TrialCounts;
use injector_core::figures::percents;
use injector_core::run::settings::Settings;

/// The characters of the line, at most.
const WIDTH: usize = 78;

/// What the estimate of the time to go is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct DutyCycle {
    /// Trials that were there when this process began.
    made_before: u64,
    /// What a trial takes at least by the settings: hold, observation, cool-down.
    least: Duration,
}

impl DutyCycle {
    pub(super) fn new(settings: &Settings, made_before: u64) -> Self {
        let hold: Duration = settings.cells.iter().map(|cell| cell.hold.0).sum();
        let hold = hold / u32::try_from(settings.cells.len().max(1)).unwrap_or(u32::MAX);
        let least = match settings.cycle {
            Some(cycle) => hold + cycle.0,
            None => hold + settings.ready.observe.0 + settings.cool_down.0,
        };
        Self { made_before, least }
    }

    /// The time to go: by the trials of this process, or at least what the settings ask for before the first ends.
    pub(super) fn to_go(self, made: u64, trials: u64, elapsed: Duration) -> String {
        let left = u32::try_from(trials.saturating_sub(made)).unwrap_or(u32::MAX);
        match made.saturating_sub(self.made_before) {
            0 => format!("at least {}", rough(self.least.saturating_mul(left))),
            own => {
                let each = elapsed / u32::try_from(own).unwrap_or(u32::MAX);
                format!("about {}", rough(each.saturating_mul(left)))
            }
        }
    }
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

/// The line: how far, how long, the rate so far, what happens now.
pub(super) fn line(
    counts: TrialCounts,
    trials: u64,
    pace: DutyCycle,
    elapsed: Duration,
    now: &str,
) -> String {
    let made = counts.made;
    let mut text = format!("{made}/{trials}, {}", rough(elapsed));
    if made < trials {
        let _ = write!(text, ", {} to go", pace.to_go(made, trials, elapsed));
    }
    if counts.decided > 0 {
        let _ = write!(text, "; {}/{} late ({})", counts.beyond, counts.decided, percents(counts.interval));
    }
    if !now.is_empty() {
        let _ = write!(text, "; {now}");
    }
    if text.chars().count() > WIDTH {
        text = text.chars().take(WIDTH - 1).chain(['…']).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: DutyCycle = DutyCycle { made_before: 0, least: Duration::from_secs(22) };

    #[test]
    fn before_the_first_trial_ends_the_settings_say_how_long_at_least() {
        let seen = line(TrialCounts::default(), 60, PACE, Duration::from_secs(9), "trial 0 is measured");
        assert_eq!(seen, "0/60, 9s, at least 22m 00s to go; trial 0 is measured");
    }

    /// Before the first cut a campaign says how long it will take at least.
    #[test]
    fn the_settings_give_a_lower_bound_for_what_is_left() {
        assert_eq!(PACE.to_go(0, 60, Duration::ZERO), "at least 22m 00s");
        let resumed = DutyCycle { made_before: 50, ..PACE };
        assert_eq!(resumed.to_go(50, 60, Duration::ZERO), "at least 3m 40s");
    }

    #[test]
    fn then_the_trials_of_this_process_do() {
        let interval = injector_core::stats::binomial::clopper_pearson(0, 4, 0.95);
        let counts = TrialCounts { made: 24, decided: 24, beyond: 0, interval };
        let resumed = DutyCycle { made_before: 20, ..PACE };
        let seen = line(counts, 60, resumed, Duration::from_secs(100), "");
        assert_eq!(seen, "24/60, 1m 40s, about 15m 00s to go; 0/24 late (0.0 to 60.3 %)");
    }

    #[test]
    fn it_never_breaks_a_line_of_80_columns() {
        let interval = Some([0.123, 0.456]);
        let counts = TrialCounts { made: 99_999, decided: 99_999, beyond: 12_345, interval };
        let now = "trial 99999 waits for healthy endpoints";
        let seen = line(counts, 100_000, PACE, Duration::from_secs(999_999), now);
        assert!(seen.chars().count() < 80, "{seen}");
        assert!(seen.starts_with("99999/100000, 277h 46m, about 10s to go; 12345/99999 late"), "{seen}");
    }
}
