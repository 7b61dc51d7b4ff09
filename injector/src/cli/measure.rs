//! `injector measure`: a campaign, and how it is reported while it runs.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::args::{Common, Measure as Args};
use super::failure::{Exit, Failure};
use super::human::{NONE, span_or_none};
use super::output::{print, tell};
use super::progress::{Estimate, Progress};
use crate::terminal::clean;
use injector_client::campaign::{CampaignEnd, CampaignEvent, Measure, Options, TrialCounts};
use injector_core::api::{Outcome, RecoveryRecord, Trial, role_suffix};
use injector_core::campaign::given::{GivenCell, GivenTraffic};
use injector_core::campaign::{CampaignSpec, file};
use injector_core::figures::{counted, maybe_percent, outcome, percent, percents};
use injector_core::measure::STARVED_REMEDY;
use injector_core::report::{ReportOptions, report};
use injector_core::run::Hooks;
use injector_core::run::settings::Settings;
use injector_core::stats::labels::{label, resolved_label};
use injector_core::stats::power;
use injector_core::stats::summary::Summary;

pub(super) async fn run(common: &Common, args: Args) -> Result<Exit, Failure> {
    let (quiet, out) = (args.quiet, args.out.clone());
    let options = options(common, args)?;
    // Before the first cut: a signal must not end us without a heal.
    let signals = catch()
        .map_err(|error| Failure::new(Exit::UNDECIDED, format!("signals can't be caught: {error}")))?;
    let mut measure = Measure::open(options).await?;
    let mut reporter = Reporter::new(common, quiet, &measure);
    reporter.intro(&measure);
    let (end, summary) = measure.run(signals, &mut |counts, news| reporter.report(counts, news)).await?;
    reporter.finish();
    match &end {
        CampaignEnd::Complete => {}
        CampaignEnd::Decided => reporter.line("stopped: the sequential test has decided"),
        CampaignEnd::GivenUp(why) => tell(&format!("injector: given up: {why}\n")),
        CampaignEnd::Interrupted(_) => tell("injector: interrupted; continue with --resume\n"),
    }
    if common.json {
        let last = serde_json::json!({ "end": end_word(&end), "summary": summary });
        print(&format!("{last}\n"))?;
    } else {
        print(&result(&out, &summary)?)?;
    }
    Ok(exit(&end, &summary))
}

fn result(out: &std::path::Path, summary: &Summary) -> Result<String, Failure> {
    if summary.trials == 0 {
        return Ok(format!("{}\n", summary.verdict.sentence));
    }
    Ok(report(out, &ReportOptions::default())?.text)
}

fn end_word(end: &CampaignEnd) -> &'static str {
    match end {
        CampaignEnd::Complete => "complete",
        CampaignEnd::Decided => "decided",
        CampaignEnd::GivenUp(_) => "given_up",
        CampaignEnd::Interrupted(_) => "interrupted",
    }
}

/// The exit code of a campaign that ended so.
fn exit(end: &CampaignEnd, summary: &Summary) -> Exit {
    match end {
        CampaignEnd::Complete | CampaignEnd::Decided => Exit(summary.verdict.exit_code),
        CampaignEnd::GivenUp(_) => Exit::UNDECIDED,
        CampaignEnd::Interrupted(signal) => Exit(u8::try_from(128 + signal).unwrap_or(Exit::UNDECIDED.0)),
    }
}

fn options(common: &Common, args: Args) -> Result<Options, Failure> {
    let from_file = args.campaign.as_deref().map(file::read).transpose()?.unwrap_or_default();
    let traffic: GivenTraffic = args.traffic.into();
    let cell = if args.shape.is_empty() {
        let of_shape = [
            ("--among", !args.among.is_empty()),
            ("--hold", args.hold.is_some()),
            ("--direction", traffic.direction.is_some()),
            ("--scope", !traffic.scopes.is_empty()),
            ("--loss", traffic.loss.is_some()),
            ("--flap", traffic.flap.is_some()),
            ("--neighbour", traffic.neighbour.is_some()),
        ];
        if let Some((option, _)) = of_shape.iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::usage(format!(
                "{option} belongs to a shape, and none is given; with --resume, leave {option} out, as the stored one is taken, or \
                 repeat the shape"
            )));
        }
        None
    } else {
        let shape = super::partition::shape(&args.shape, &args.among)?;
        Some(GivenCell { shape, hold: args.hold, traffic })
    };
    let given = CampaignSpec {
        cells: Vec::new(),
        given: cell,
        trials: args.trials,
        seed: args.seed,
        deadline: args.deadline,
        cooldown: args.cooldown,
        cycle: args.cycle,
        verdict: args.verdict.into(),
        no_gate: args.no_gate,
        max_rate: args.max_rate,
        stop_when: args.stop_when,
        healthy_timeout: args.healthy_timeout,
        abort_after: args.abort_after,
        hooks: Hooks {
            before_trial: args.before_trial,
            after_trial: args.after_trial,
            on_slow: args.on_slow,
        },
        systems: args.system.into_iter().collect(),
    };
    Ok(Options {
        address: common.address(),
        spec: given.over(from_file),
        out: args.out,
        resume: args.resume,
        command: std::env::args().collect(),
    })
}

/// The first signal that asks us to end; a second one ends us at once, and the daemon heals.
fn catch() -> std::io::Result<watch::Receiver<Option<i32>>> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let (sender, receiver) = watch::channel(None);
    for kind in kinds {
        let mut caught: Signal = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                let number = kind.as_raw_value();
                if sender.borrow().is_some() {
                    std::process::exit(128 + number);
                }
                sender.send_replace(Some(number));
            }
        });
    }
    Ok(receiver)
}

/// Reports to people (on standard error) or programs (on standard output) how it goes.
struct Reporter {
    json: bool,
    quiet: bool,
    bar: Option<ProgressBar>,
    /// What the bar shows; the thread that draws it every second reads it.
    progress: Arc<Mutex<Progress>>,
    begun: Instant,
    /// Whether the remedy for a busy host was shown.
    is_remedy_shown: bool,
}

impl Reporter {
    fn new(common: &Common, quiet: bool, measure: &Measure) -> Self {
        let (settings, counts) = (measure.settings(), measure.counts());
        let estimate = Estimate::new(settings, measure.progress().missing(settings.trials));
        let progress = Progress { counts, trials: settings.trials, estimate, now: String::new() };
        let progress = Arc::new(Mutex::new(progress));
        let begun = Instant::now();
        let is_shown = !quiet && !common.json && std::io::stderr().is_terminal();
        let bar = is_shown.then(|| {
            let shown = Arc::clone(&progress);
            let line = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let line = shown.lock().unwrap_or_else(PoisonError::into_inner).line(begun.elapsed());
                let _ = out.write_str(&line);
            };
            let bar = ProgressBar::new(settings.trials).with_position(counts.made);
            let style = ProgressStyle::with_template("{line}").expect("the template is fixed");
            bar.set_style(style.with_key("line", line));
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        Self { json: common.json, quiet, bar, progress, begun, is_remedy_shown: false }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What will be done and what it can show, before the first cut.
    fn intro(&self, measure: &Measure) {
        if self.quiet || self.json {
            return;
        }
        let (made, torn) = (measure.counts().made, measure.progress().torn_line);
        let to_go = self.progress().estimate.to_go(Duration::ZERO);
        self.line(&plan(measure.settings(), &to_go));
        if made > 0 {
            self.line(&format!("resumed after {}", counted(made, "trial")));
        }
        if let Some(line) = torn {
            self.line(&format!("the torn line {line} of trials.jsonl was dropped"));
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            _ if self.quiet || self.json => {}
            Some(bar) => bar.println(clean(text)),
            None => tell(&format!("{text}\n")),
        }
    }

    fn report(&mut self, counts: TrialCounts, news: CampaignEvent<'_>) {
        let about = |what: &str, trial: Trial| format!("trial {} {what}", trial.index);
        match news {
            CampaignEvent::Waiting(trial) => {
                self.progress().estimate.begins(trial.index);
                self.now(counts, &about("waits for health", trial));
            }
            CampaignEvent::Cut(trial, _) => {
                self.progress().estimate.begins(trial.index);
                self.now(counts, &about("is measured", trial));
            }
            CampaignEvent::Record(record) => {
                if let Some(trial) = record.trial {
                    self.progress().estimate.ends(trial, self.begun.elapsed());
                }
                if record.starved && !std::mem::replace(&mut self.is_remedy_shown, true) {
                    self.warn(&format!("this host is too busy to measure well: {STARVED_REMEDY}"));
                }
                if self.json {
                    // A reader that has gone away does not end the campaign.
                    let _ = print(&format!("{}\n", json(&record)));
                } else {
                    self.line(&trial_line(&record, counts, self.bar.is_none()));
                }
                self.now(counts, "");
            }
            CampaignEvent::NotMade(trial, why) => {
                self.progress().estimate.ends(trial.index, self.begun.elapsed());
                self.warn(&format!("trial {} was not made: {why}", trial.index));
            }
            CampaignEvent::Warning(text) => self.warn(text),
        }
    }

    fn now(&self, counts: TrialCounts, text: &str) {
        {
            let mut progress = self.progress();
            progress.counts = counts;
            text.clone_into(&mut progress.now);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(counts.made);
        }
    }

    /// Shown also with --quiet.
    fn warn(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("warning: {}", clean(text))),
            None => tell(&format!("warning: {text}\n")),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// What will be done, in `to_go`, and what it can show.
fn plan(settings: &Settings, to_go: &str) -> String {
    let mut text = format!(
        "{}, seed {}, deadline {}",
        counted(settings.trials, "trial"),
        settings.seed,
        settings.deadline
    );
    for cell in &settings.cells {
        let _ = write!(text, "\n  {} for {}", label(&cell.shape), cell.hold);
    }
    if let Some(cycle) = settings.cycle {
        let _ = write!(text, "\n  the next cut {cycle} after each heal, whatever the state");
    }
    let _ = write!(
        text,
        "\nIt takes {to_go}; to wait until the cluster is healthy, and has recovered, takes more."
    );
    let chance = percent(power::chance_to_see(0.05, settings.trials));
    let smallest = maybe_percent(power::smallest_rate_seen(settings.trials, 0.95));
    let needed = |trials: Option<u64>| trials.map_or_else(|| NONE.to_owned(), |trials| trials.to_string());
    let _ = write!(
        text,
        "\nThe chance that {} a 5 % fault at least once is {chance} (95 % takes {}), and it is 95 % for a fault of \
         {smallest}.\nTo compare 5 % with none takes {} trials in each of two runs.",
        if settings.trials == 1 {
            "1 trial sees".to_owned()
        } else {
            format!("{} trials see", settings.trials)
        },
        needed(power::trials_to_see(0.05, 0.95)),
        needed(power::trials_per_arm(0.0, 0.05, power::POWER)),
    );
    text
}

fn rate(counts: TrialCounts) -> String {
    if counts.decided == 0 {
        return "no trial decided yet".to_owned();
    }
    format!("{}/{} beyond the deadline ({})", counts.beyond, counts.decided, percents(counts.interval))
}

fn trial_line(record: &RecoveryRecord, counts: TrialCounts, with_rate: bool) -> String {
    let mut text = format!(
        "trial {}: {}{}, {}",
        record.trial.unwrap_or_default(),
        resolved_label(&record.shape),
        role_suffix(&record.shape.roles),
        record.outcome.map_or("undecided", outcome)
    );
    if record.outcome == Some(Outcome::Recovered) {
        let _ = write!(text, ", settled after {}", span_or_none(record.heal_to_settled_ns));
    } else if let Some(reason) = &record.outcome_reason {
        let _ = write!(text, ": {reason}");
    }
    if record.starved {
        text.push_str(" (starved: this host was too busy to measure well)");
    }
    if with_rate {
        let _ = write!(text, "; {}", rate(counts));
    }
    text
}

/// One line a trial; the whole record is in trials.jsonl.
fn json(record: &RecoveryRecord) -> serde_json::Value {
    serde_json::json!({
        "trial": record.trial,
        "attempt": record.attempt,
        "name": record.name,
        "shape": record.shape,
        "outcome": record.outcome,
        "outcome_reason": record.outcome_reason,
        "heal_to_ready_ns": record.heal_to_ready_ns,
        "heal_to_settled_ns": record.heal_to_settled_ns,
        "starved": record.starved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, CommandLine};
    use injector_core::stats::summary::{Plan, summarize};

    #[test]
    fn a_campaign_that_was_not_ended_by_its_trials_is_not_passed() {
        let summary = summarize(&[], &Plan::default());
        assert_eq!(exit(&CampaignEnd::Complete, &summary), Exit::UNDECIDED);
        let mut passed = summary;
        passed.verdict.exit_code = 0;
        assert_eq!(exit(&CampaignEnd::Complete, &passed), Exit::OK);
        assert_eq!(exit(&CampaignEnd::GivenUp("x".to_owned()), &passed), Exit::UNDECIDED);
        assert_eq!(exit(&CampaignEnd::Interrupted(2), &passed), Exit(130));
    }

    #[test]
    fn options_of_a_shape_need_one() {
        for option in [
            "--among n1,n2",
            "--hold 2s",
            "--direction in",
            "--scope tcp",
            "--loss 30%",
            "--flap 1s/50%",
            "--neighbour keep",
        ] {
            let line = format!("injector measure --resume --out o {option}");
            let line = CommandLine::read_words(line.split(' ')).unwrap();
            let Command::Measure(args) = line.command else { panic!("it is measure") };
            let refused = options(&line.common, *args).map(|_| ()).unwrap_err();
            let name = option.split(' ').next().unwrap();
            assert_eq!(refused.exit, Exit::USAGE);
            assert!(
                refused.message.starts_with(&format!("{name} belongs to a shape")),
                "{}",
                refused.message
            );
        }
    }

    #[test]
    fn the_running_rate_has_its_exact_interval() {
        let interval = injector_core::stats::binomial::clopper_pearson(5, 100, 0.95);
        let counts = TrialCounts { made: 101, decided: 100, beyond: 5, interval };
        assert_eq!(rate(counts), "5/100 beyond the deadline (1.6 to 11.3 %)");
        assert_eq!(rate(TrialCounts::default()), "no trial decided yet");
    }
}
