//! A campaign: many trials on one daemon, each written down as it comes. It drives the API's client.
//!
//! A trial: wait until the endpoints are healthy → cut, for exactly the hold, owned by the connection → the kernel
//! heals → long poll until the record is final → probes and record are appended and flushed → cool down. With a
//! *cycle* the next cut follows each heal after a fixed time, whatever the state; it is set ahead on the daemon's
//! clock, and closes the record before it (`censored`) where that was not decided by then.
//!
//! A trial that was begun and has no record is made again by a resumed campaign, as the next attempt, with the same
//! draws.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::trial::{Cut, Pending, Runner, Start, TrialError};
use crate::{Address, ClientError};
use injector_core::api::{Code, Outcome, Owner, PartitionRequest, ProbeView, RecoveryRecord, Status, Trial};
use injector_core::campaign::{CampaignSpec, SpecError, order};
use injector_core::clock::{MonoNs, Span, WallNs};
use injector_core::run::Conduct;
use injector_core::run::dir::{NotMade, Progress, RunDir, RunDirError};
use injector_core::run::settings::{CAMPAIGN_SCHEMA, Campaign, Cell, Clock, Settings, Versions};
use injector_core::run::{ReadError, read};
use injector_core::stats::binomial::clopper_pearson;
use injector_core::stats::sequential::{Decision, Sprt};
use injector_core::stats::summary::{Plan, Summary, summarize};
use injector_core::stats::{self, CONFIDENCE};

mod hook;
mod strategy;

use hook::HookVariables;
pub use strategy::{Blocks, Step, Strategy};

/// After how many trials the summary is rewritten.
const SUMMARY_EVERY: usize = 10;

/// Why a campaign can't be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The settings contradict each other, or a value is out of range.
    #[error(transparent)]
    Usage(#[from] SpecError),
    /// A trial could not be run to its end.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The run directory of a campaign that is resumed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How a campaign ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CampaignEnd {
    /// Every trial was made.
    Complete,
    /// The sequential test decided.
    Decided,
    /// Too many failures in a row; the last one.
    GivenUp(String),
    /// A signal came.
    Interrupted(i32),
}

/// An event that is reported while a campaign runs.
pub enum CampaignEvent<'a> {
    /// A trial begins to wait for healthy endpoints.
    Waiting(Trial),
    /// A trial's cut was applied.
    Cut(Trial, &'a str),
    /// A record was written.
    Record(Box<RecoveryRecord>),
    /// A trial was not made.
    NotMade(Trial, &'a str),
    /// A warning, which does not end the campaign.
    Warning(&'a str),
}

/// The rate so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrialCounts {
    /// Trials with a record.
    pub made: u64,
    /// Decided ones.
    pub decided: u64,
    /// Trials beyond the deadline.
    pub beyond: u64,
    /// The exact 95 % interval of their share.
    pub interval: Option<[f64; 2]>,
}

/// A campaign that is ready to run.
pub struct Measure {
    runner: Runner,
    dir: RunDir,
    settings: Settings,
    conduct: Conduct,
    progress: Progress,
    trials: BTreeMap<u64, stats::trial::Trial>,
    /// Begins the names of its partitions.
    prefix: String,
}

/// A trial whose cut was applied.
struct AppliedTrial {
    trial: Trial,
    cut: Cut,
}

/// How a trial began.
enum TrialStart {
    /// Its cut was applied.
    Cut(Box<AppliedTrial>),
    /// The trial has its final record: a role could not be resolved, and nothing was cut.
    Failed(Box<RecoveryRecord>),
    /// The trial was not made; the reason.
    NotMade(String),
}

/// A campaign, as opened by [`Measure::open`].
pub struct Options {
    /// The daemon.
    pub address: Address,
    /// The settings that the user asks for.
    pub spec: CampaignSpec,
    /// The run directory.
    pub out: PathBuf,
    /// Whether to continue with what is there.
    pub resume: bool,
    /// The command line, for the record.
    pub command: Vec<String>,
}

impl Measure {
    /// Asks the daemon for its rules and makes the run directory, or opens it to continue: then what this campaign
    /// left cut is healed.
    pub async fn open(options: Options) -> Result<Self, CampaignError> {
        // A resumed campaign is what its run directory says; what is given beside must agree.
        let is_begun = options.out.join(injector_core::run::dir::CAMPAIGN).exists();
        if options.resume && !is_begun {
            return Err(RunDirError::NothingToResume(options.out).into());
        }
        let begun = if options.resume { Some(read::campaign(&options.out)?) } else { None };
        let spec = match &begun {
            Some(begun) => options.spec.over(CampaignSpec::begun(begun)),
            None => options.spec,
        };
        let spec = spec.definite();
        spec.check()?;
        let (mut runner, status) = Runner::open(options.address).await?;
        let seed = injector_core::model::seed::drawn(rand::random());
        let systems = spec.systems.clone();
        let (settings, conduct) = spec.into_settings(&status, seed)?;
        // A request that the daemon would refuse is found before a folder is made.
        for cell in &settings.cells {
            let wanted = request(&settings, cell, Trial { index: 0, attempt: 1 });
            match runner.client().dry_run("campaign", &wanted).await {
                // The role may be resolvable at the time of a trial.
                Err(ClientError::Problem(problem)) if problem.code == Code::RoleUnresolved => {}
                tried => drop(tried.map_err(TrialError::from)?),
            }
        }
        let campaign = campaign(settings.clone(), &conduct, &status, systems, options.command);
        let (dir, progress) = if options.resume {
            RunDir::open(&options.out, &campaign)?
        } else {
            (RunDir::create(&options.out, &campaign)?, Progress::default())
        };
        let (trials, _) = read::trials(&options.out, |index, record, _| Ok(settings.trial(index, &record)))?;
        let mut measure =
            Self { runner, prefix: prefix(&options.out), dir, settings, conduct, progress, trials };
        measure.runner.heal_all_of(&measure.prefix).await?;
        if options.resume {
            // The stored summary may say that the campaign was given up, which no longer holds.
            measure.summarize(None)?;
        }
        Ok(measure)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The trials that an earlier run has made.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The rate so far.
    pub fn counts(&self) -> TrialCounts {
        let beyond: Vec<bool> = self.beyond().flatten().collect();
        let (decided, beyond) = (beyond.len() as u64, beyond.iter().filter(|beyond| **beyond).count() as u64);
        TrialCounts {
            made: self.trials.len() as u64,
            decided,
            beyond,
            interval: clopper_pearson(beyond, decided, CONFIDENCE),
        }
    }

    /// Whether each trial, in order, was beyond the deadline; `None` for one that was not decided.
    fn beyond(&self) -> impl Iterator<Item = Option<bool>> {
        let settled = stats::trial::Instant::Settled;
        self.trials.values().map(move |trial| trial.beyond(&trial.cluster, settled, trial.deadline_ns))
    }

    fn is_decided(&self) -> bool {
        let test = self.settings.gates.stop_when.and_then(|rates| Sprt::new(rates.p0, rates.p1).ok());
        test.is_some_and(|mut test| {
            // All of them: a trial that was not decided can take an earlier acceptance back.
            self.beyond().fold(test.decision(), |_, beyond| test.count(beyond)) != Decision::Undecided
        })
    }

    /// Makes the trials that have no record yet, in blocks. However it ends, nothing of it stays cut and the summary is
    /// written. `signal` has a signal's number when one came.
    pub async fn run(
        &mut self,
        signal: watch::Receiver<Option<i32>>,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) -> Result<(CampaignEnd, Summary), CampaignError> {
        let Settings { seed, cycle, trials, .. } = self.settings;
        let mut blocks = Blocks::new(self.progress.missing(trials), seed, self.settings.cells.len(), cycle);
        self.run_with(&mut blocks, signal, report).await
    }

    /// [`Self::run`] with the trials that a strategy names.
    pub async fn run_with(
        &mut self,
        strategy: &mut impl Strategy,
        mut signal: watch::Receiver<Option<i32>>,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) -> Result<(CampaignEnd, Summary), CampaignError> {
        let end = tokio::select! {
            biased;
            caught = interrupted(&mut signal) => Ok(CampaignEnd::Interrupted(caught)),
            end = self.trials(strategy, report) => end,
        };
        // The connection may be in the middle of an answer. Without a daemon nothing is cut.
        match self.runner.reopen().await {
            Ok(()) => {
                if let Err(error) = self.runner.heal_all_of(&self.prefix).await {
                    report(
                        self.counts(),
                        CampaignEvent::Warning(&format!("the last heal was not confirmed: {error}")),
                    );
                }
            }
            Err(error) => report(self.counts(), CampaignEvent::Warning(&error.to_string())),
        }
        let given_up = match &end {
            Ok(CampaignEnd::GivenUp(why)) => Some(why.clone()),
            _ => None,
        };
        let summary = self.summarize(given_up)?;
        if matches!(end, Ok(CampaignEnd::Complete | CampaignEnd::Decided)) {
            self.dir.close()?;
        }
        Ok((end?, summary))
    }

    async fn trials(
        &mut self,
        strategy: &mut impl Strategy,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) -> Result<CampaignEnd, CampaignError> {
        if self.is_decided() {
            return Ok(CampaignEnd::Decided);
        }
        let mut failures = 0;
        let mut upcoming = strategy.next();
        // The upcoming trial of a cycle, begun before the record of the one before it.
        let mut begun: Option<TrialStart> = None;
        while let Some(step) = upcoming.take() {
            let beginning = match begun.take() {
                Some(beginning) => beginning,
                None => self.begin(step, None, report).await?,
            };
            let failure = match beginning {
                TrialStart::Cut(trial) => {
                    if let Some(pause) = strategy.cycle() {
                        upcoming = strategy.next();
                        if let Some(next) = upcoming {
                            let after = (trial.cut.ends_at, pause);
                            begun = Some(self.begin(next, Some(after), report).await?);
                        }
                    }
                    let record = self.finish(&trial, report).await?;
                    strategy.learn(step, &record);
                    failure(&record)
                }
                TrialStart::Failed(record) => {
                    strategy.learn(step, &record);
                    failure(&record)
                }
                TrialStart::NotMade(reason) => Some(format!("trial {} was not made: {reason}", step.index)),
            };
            match failure {
                None => failures = 0,
                Some(reason) => {
                    failures += 1;
                    if failures >= self.conduct.abort_after {
                        return Ok(CampaignEnd::GivenUp(format!(
                            "{failures} failures in a row; the last: {reason}"
                        )));
                    }
                }
            }
            if self.is_decided() {
                return Ok(CampaignEnd::Decided);
            }
            upcoming = upcoming.or_else(|| strategy.next());
            if begun.is_none() && upcoming.is_some() {
                tokio::time::sleep(self.settings.cool_down.0).await;
            }
        }
        Ok(CampaignEnd::Complete)
    }

    /// Cuts: when the endpoints are healthy, or so long after a heal, whose instant is on the daemon's clock.
    async fn begin(
        &mut self,
        step: Step,
        after: Option<(MonoNs, Span)>,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) -> Result<TrialStart, CampaignError> {
        let index = step.index;
        let trial = Trial { index, attempt: self.progress.next_attempt(index) };
        let name = name(&self.prefix, trial);
        report(self.counts(), CampaignEvent::Waiting(trial));
        let (start, hindered) = match after {
            None => {
                let start = Start::Healthy { timeout: self.conduct.healthy_timeout };
                match self.runner.wait(start, &self.settings.gates.advisory).await? {
                    None => (start, self.before_trial(trial, &name).await),
                    hindered => (start, hindered),
                }
            }
            Some((heal, pause)) => {
                // The hook has all of the pause: run before the heal, it would meet the cut before this one, and run at the end of
                // the pause, it would put the next cut off.
                self.runner.sleep_until(heal).await?;
                let start = Start::At(heal + pause.0);
                match self.before_trial(trial, &name).await {
                    None => (start, self.runner.wait(start, &self.settings.gates.advisory).await?),
                    hindered => (start, hindered),
                }
            }
        };
        if let Some(reason) = hindered {
            self.dir.not_made(&NotMade {
                trial: index,
                attempt: trial.attempt,
                wall: now(),
                reason: reason.clone(),
            })?;
            report(self.counts(), CampaignEvent::NotMade(trial, &reason));
            return Ok(TrialStart::NotMade(reason));
        }
        self.dir.begin(trial)?;
        let request = request(&self.settings, &self.settings.cells[step.cell], trial);
        let cut =
            self.runner.cut(name.clone(), request.clone(), start, self.settings.ready.observe_max).await;
        let cut = match cut {
            Err(TrialError::Client(ClientError::Problem(problem)))
                if problem.code == Code::RoleUnresolved =>
            {
                let record = self.runner.unresolved(name.clone(), &request, problem.detail.clone()).await?;
                self.keep(trial, &name, &record, Vec::new(), report).await?;
                return Ok(TrialStart::Failed(Box::new(record)));
            }
            cut => cut?,
        };
        report(self.counts(), CampaignEvent::Cut(trial, &cut.name));
        if let Some((_, pause)) = after.filter(|_| !cut.late.is_zero()) {
            let late = late(trial, cut.late, pause, self.conduct.hooks.before_trial.is_some());
            report(self.counts(), CampaignEvent::Warning(&late));
        }
        for warning in &cut.view.warnings {
            report(self.counts(), CampaignEvent::Warning(&warning.text));
        }
        Ok(TrialStart::Cut(Box::new(AppliedTrial { trial, cut })))
    }

    /// Runs the hook before a trial; `Some` says why it failed.
    async fn before_trial(&self, trial: Trial, name: &str) -> Option<String> {
        let command = self.conduct.hooks.before_trial.as_ref()?;
        let variables = HookVariables { trial, name, out: self.dir.path(), record: None };
        hook::run("--before-trial", command, &variables).await.err()
    }

    /// Waits for the final record of a trial, and keeps it.
    async fn finish(
        &mut self,
        begun: &AppliedTrial,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) -> Result<Box<RecoveryRecord>, CampaignError> {
        let mut pending = self.runner.record(&begun.cut, self.conduct.hooks.on_slow.is_none()).await?;
        if let (Pending::Slow(record), Some(command)) = (&pending, self.conduct.hooks.on_slow.clone()) {
            self.hook("--on-slow", &command, begun.trial, &begun.cut.name, record, report).await;
            pending = self.runner.record(&begun.cut, true).await?;
        }
        let (Pending::Final(record) | Pending::Slow(record)) = pending;
        // The cut may have come after a reload, but none can come between a cut and its record. A daemon that is gone since
        // does not take the verdict along.
        if let Err(reloaded @ TrialError::Reloaded { .. }) = self.runner.status().await {
            return Err(reloaded.into());
        }
        let probes = self.runner.probes(&begun.cut).await?;
        self.keep(begun.trial, &begun.cut.name, &record, probes, report).await?;
        Ok(record)
    }

    async fn hook(
        &self,
        what: &str,
        command: &str,
        trial: Trial,
        name: &str,
        record: &RecoveryRecord,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) {
        let variables = HookVariables { trial, name, out: self.dir.path(), record: Some(record) };
        if let Err(error) = hook::run(what, command, &variables).await {
            report(self.counts(), CampaignEvent::Warning(&error));
        }
    }

    async fn keep(
        &mut self,
        trial: Trial,
        name: &str,
        record: &RecoveryRecord,
        probes: Vec<ProbeView>,
        report: &mut impl FnMut(TrialCounts, CampaignEvent<'_>),
    ) -> Result<(), CampaignError> {
        // Probes first: a record never lacks them. Both without a pause in which a signal could part them.
        self.dir.append_probes(trial.index, trial.attempt, probes)?;
        self.dir.append(record)?;
        self.progress.complete.insert(trial.index, trial.attempt);
        self.trials.insert(trial.index, self.settings.trial(trial.index, record));
        report(self.counts(), CampaignEvent::Record(Box::new(record.clone())));
        if self.trials.len().is_multiple_of(SUMMARY_EVERY) {
            self.summarize(None)?;
        }
        if let Some(command) = self.conduct.hooks.after_trial.clone() {
            self.hook("--after-trial", &command, trial, name, record, report).await;
        }
        Ok(())
    }

    fn summarize(&self, given_up: Option<String>) -> Result<Summary, CampaignError> {
        let trials: Vec<stats::trial::Trial> = self.trials.values().cloned().collect();
        let summary = summarize(&trials, &Plan { given_up, ..self.settings.plan() });
        self.dir.finish(&summary)?;
        Ok(summary)
    }
}

/// Why a trial counts among the failures after which a campaign is given up.
fn failure(record: &RecoveryRecord) -> Option<String> {
    (record.outcome == Some(Outcome::HarnessFailed)).then(|| {
        let reason = record.outcome_reason.as_deref().unwrap_or("for no known reason");
        format!("trial {} failed: {reason}", record.trial.unwrap_or_default())
    })
}

/// The warning of a cut that came later than its cycle says.
fn late(trial: Trial, late: Duration, pause: Span, has_hook: bool) -> String {
    let by = injector_core::figures::time(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
    let why =
        if has_hook { "--before-trial, or the busy host, takes too long" } else { "the host is too busy" };
    format!(
        "trial {} is cut {by} later than {pause} after the heal before it: {why} for this cycle",
        trial.index
    )
}

fn request(settings: &Settings, cell: &Cell, trial: Trial) -> PartitionRequest {
    PartitionRequest {
        for_: Some(cell.hold),
        deadline: Some(settings.deadline),
        traffic: cell.traffic.clone(),
        seed: Some(order::partition_seed(settings.seed, trial.index)),
        owner: Owner::Connection,
        verdict: settings.verdict(),
        trial: Some(trial),
        ..PartitionRequest::new(cell.shape.clone())
    }
}

async fn interrupted(signal: &mut watch::Receiver<Option<i32>>) -> i32 {
    match signal.wait_for(Option::is_some).await {
        Ok(caught) => caught.unwrap_or_default(),
        // There is no sender any more.
        Err(_) => std::future::pending().await,
    }
}

fn campaign(
    settings: Settings,
    conduct: &Conduct,
    status: &Status,
    systems: BTreeMap<String, String>,
    command: Vec<String>,
) -> Campaign {
    let wall = now();
    Campaign {
        schema: CAMPAIGN_SCHEMA,
        settings,
        conduct: Some(conduct.clone()),
        versions: Versions { injector: status.version.clone(), systems },
        kernel: status.kernel.clone(),
        command,
        clock: Clock { mono_ns: status.now_ns, wall },
        started: wall,
    }
}

fn now() -> WallNs {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallNs(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// The prefix of the names of a run's partitions: the directory's name, and a digest of where it is.
fn prefix(out: &Path) -> String {
    let path = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '_' };
    let name: String = name.chars().take(24).map(legal).collect();
    // FNV-1a: the standard hasher's values may change between releases, and a resumed run must find its own.
    let digest = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{name}-{:06x}-", digest >> 40)
}

fn name(prefix: &str, trial: Trial) -> String {
    match trial.attempt {
        1 => format!("{prefix}{}", trial.index),
        attempt => format!("{prefix}{}.{attempt}", trial.index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_and_tell_runs_apart() {
        let (a, b) = (prefix(Path::new("runs/a b/ü-1")), prefix(Path::new("runs/c/ü-1")));
        assert_ne!(a, b);
        let name = name(&a, Trial { index: u64::MAX, attempt: u32::MAX });
        assert!(name.len() <= 64, "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{name}");
    }
}
