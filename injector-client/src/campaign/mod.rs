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
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::{Address, Client, ClientError};
use injector_core::api::{
    Outcome, Owner, PartitionRequest, PartitionState, RecoveryRecord, StartAt, Status, Trial,
};
use injector_core::campaign::{CampaignSpec, Conduct, SpecError, is_named, order};
use injector_core::clock::{MonoNs, Span, WallNs};
use injector_core::run::dir::{NotMade, Progress, RunDir, RunDirError};
use injector_core::run::read::{self, ReadError};
use injector_core::run::settings::{CAMPAIGN_SCHEMA, Campaign, Cell, Clock, Settings, Versions};
use injector_core::stats::binomial::clopper_pearson;
use injector_core::stats::sequential::{Decision, Sprt};
use injector_core::stats::summary::{Summary, summarize};
use injector_core::stats::{self, CONFIDENCE};

mod hook;

use hook::Told;

/// One long poll for a record: an outcome that is decided before the record is final is seen at its end.
const SLICE: Duration = Duration::from_secs(2);
/// How often the endpoints' health is asked for.
const POLL: Duration = Duration::from_millis(100);
/// How long before its start the next cut of a cycle is handed in.
const AHEAD: Duration = Duration::from_millis(300);
/// How long a record may take beyond every time that the settings allow.
const GRACE: Duration = Duration::from_mins(1);
/// After how many trials the summary is written anew.
const SUMMARY_EVERY: usize = 10;

/// Why a campaign can't be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// What is asked for can't be meant.
    #[error(transparent)]
    Usage(#[from] SpecError),
    /// The daemon.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The run directory of a campaign that is resumed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that never became final.
    #[error(
        "the record of {name} is not final {after} after its heal was due; is the daemon well? See `injector status`"
    )]
    NeverFinal {
        /// The partition.
        name: String,
        /// How long it was waited for.
        after: Span,
    },
    /// The daemon has read another config.
    #[error(
        "the daemon's config was replaced during the campaign (config {was} at its begin, {is} now): trials under two configs are not one campaign; make a new one, or go on with --resume if nothing that matters has changed"
    )]
    Reloaded {
        /// The number of the config at the begin.
        was: u32,
        /// And now.
        is: u32,
    },
}

/// How a campaign ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every trial was made.
    Complete,
    /// The sequential test decided.
    Decided,
    /// Too many failures in a row; the last one.
    GivenUp(String),
    /// A signal came.
    Interrupted(i32),
}

/// What is told while a campaign runs.
pub enum News<'a> {
    /// A trial begins to wait for healthy endpoints.
    Waiting(Trial),
    /// A trial's cut was applied.
    Cut(Trial, &'a str),
    /// A record was written.
    Record(Box<RecoveryRecord>),
    /// A trial was not made.
    NotMade(Trial, &'a str),
    /// Something that does not end the campaign.
    Warning(&'a str),
}

/// The rate so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Trials with a record.
    pub made: u64,
    /// Decided ones.
    pub decided: u64,
    /// Of these, beyond the deadline.
    pub beyond: u64,
    /// The exact 95 % interval of their share.
    pub interval: Option<[f64; 2]>,
}

/// A campaign that is ready to run.
pub struct Measure {
    client: Client,
    address: Address,
    dir: RunDir,
    settings: Settings,
    conduct: Conduct,
    progress: Progress,
    trials: BTreeMap<u64, stats::trial::Trial>,
    /// Begins the names of its partitions.
    prefix: String,
    /// The number of the daemon's config.
    config_number: u32,
}

/// A partition of this campaign.
struct Cut {
    trial: Trial,
    name: String,
    generation: u32,
    /// When the kernel heals it.
    ends_at: MonoNs,
    hold: Span,
}

/// A campaign, as opened by [`Measure::open`].
pub struct Options {
    /// The daemon.
    pub address: Address,
    /// What is asked for.
    pub spec: CampaignSpec,
    /// The run directory.
    pub out: PathBuf,
    /// Whether to go on with what is there.
    pub resume: bool,
    /// The command line, for the record.
    pub command: Vec<String>,
}

impl Measure {
    /// Asks the daemon for its rules and makes the run directory, or opens it to go on: then what this campaign
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
        spec.check()?;
        let mut client = Client::open(&options.address).await?;
        let status = client.status().await?;
        let seed = injector_core::model::seed::drawn(rand::random());
        let (settings, conduct) = spec.settle(&status, seed)?;
        // What the daemon would refuse is found before a folder is made.
        for cell in &settings.cells {
            let wanted = request(&settings, cell, Trial { index: 0, attempt: 1 });
            client.dry_run("campaign", &wanted).await?;
        }
        let campaign = campaign(settings.clone(), &conduct, &status, options.command);
        let (dir, progress) = if options.resume {
            RunDir::open(&options.out, &campaign)?
        } else {
            (RunDir::create(&options.out, &campaign)?, Progress::default())
        };
        let (trials, _) =
            read::trials(&options.out, |index, record| Ok(stats::trial::Trial::new(index, &record)))?;
        let mut measure = Self {
            client,
            address: options.address,
            prefix: prefix(&options.out),
            config_number: status.config_number,
            dir,
            settings,
            conduct,
            progress,
            trials,
        };
        measure.heal_leftovers().await?;
        Ok(measure)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was found of an earlier run.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The rate so far.
    pub fn tally(&self) -> Tally {
        let beyond: Vec<bool> = self.beyond().collect();
        let (decided, beyond) = (beyond.len() as u64, beyond.iter().filter(|beyond| **beyond).count() as u64);
        Tally {
            made: self.trials.len() as u64,
            decided,
            beyond,
            interval: clopper_pearson(beyond, decided, CONFIDENCE),
        }
    }

    /// Of each decided trial in order, whether it was beyond the deadline.
    fn beyond(&self) -> impl Iterator<Item = bool> {
        let settled = stats::trial::Instant::Settled;
        self.trials.values().filter_map(move |trial| trial.beyond(&trial.cluster, settled, trial.deadline_ns))
    }

    fn is_decided(&self) -> bool {
        let test = self.settings.gates.stop_when.and_then(|rates| Sprt::new(rates.p0, rates.p1).ok());
        test.is_some_and(|mut test| self.beyond().any(|beyond| test.count(beyond) != Decision::Undecided))
    }

    /// Makes the trials that have no record yet. However it ends, nothing of it stays cut and the summary is
    /// written. `signal` tells a signal's number when one came.
    pub async fn run(
        &mut self,
        mut signal: watch::Receiver<Option<i32>>,
        tell: &mut impl FnMut(Tally, News<'_>),
    ) -> Result<(End, Summary), CampaignError> {
        let end = tokio::select! {
            biased;
            caught = interrupted(&mut signal) => Ok(End::Interrupted(caught)),
            end = self.trials(tell) => end,
        };
        // The connection may be in the middle of an answer.
        match Client::open(&self.address).await {
            Ok(client) => {
                self.client = client;
                if let Err(error) = self.heal_leftovers().await {
                    tell(self.tally(), News::Warning(&format!("the last heal was not confirmed: {error}")));
                }
            }
            // Without a daemon nothing is cut.
            Err(error) => tell(self.tally(), News::Warning(&error.to_string())),
        }
        let summary = self.summarize()?;
        Ok((end?, summary))
    }

    async fn trials(&mut self, tell: &mut impl FnMut(Tally, News<'_>)) -> Result<End, CampaignError> {
        if self.is_decided() {
            return Ok(End::Decided);
        }
        let missing: Vec<u64> = self.progress.missing(self.settings.trials).collect();
        let mut failures = 0;
        let mut next: Option<Cut> = None;
        for (at, index) in missing.iter().enumerate() {
            let cut = match next.take() {
                Some(cut) => Ok(cut),
                None => self.begin(*index, None, tell).await?,
            };
            let failure = match cut {
                Ok(cut) => {
                    if let (Some(cycle), Some(index)) = (self.settings.cycle, missing.get(at + 1)) {
                        next = self.begin(*index, Some(cut.ends_at + cycle.0), tell).await?.ok();
                    }
                    let record = self.until_final(&cut, tell).await?;
                    // Its cut may have come after a reload. (None can come between a cut and its record.) A daemon that
                    // is gone since does not take the verdict along.
                    if let Err(reloaded @ CampaignError::Reloaded { .. }) = self.status().await {
                        return Err(reloaded);
                    }
                    self.keep(&cut, &record, tell).await?;
                    (record.outcome == Some(Outcome::HarnessFailed)).then(|| {
                        let reason = record.outcome_reason.as_deref().unwrap_or("for no known reason");
                        format!("trial {index} failed: {reason}")
                    })
                }
                Err(reason) => Some(format!("trial {index} was not made: {reason}")),
            };
            match failure {
                None => failures = 0,
                Some(reason) => {
                    failures += 1;
                    if failures >= self.conduct.abort_after {
                        return Ok(End::GivenUp(format!("{failures} failures in a row; the last: {reason}")));
                    }
                }
            }
            if self.is_decided() {
                return Ok(End::Decided);
            }
            if next.is_none() && at + 1 < missing.len() {
                tokio::time::sleep(self.settings.cool_down.0).await;
            }
        }
        Ok(End::Complete)
    }

    /// Cuts: when the endpoints are healthy, or of a cycle at `at`, whatever their state. `Ok(Err)`: the trial was
    /// not made, for this reason.
    async fn begin(
        &mut self,
        index: u64,
        at: Option<MonoNs>,
        tell: &mut impl FnMut(Tally, News<'_>),
    ) -> Result<Result<Cut, String>, CampaignError> {
        let trial = Trial { index, attempt: self.progress.next_attempt(index) };
        let name = name(&self.prefix, trial);
        tell(self.tally(), News::Waiting(trial));
        let hindered = match at {
            Some(at) => {
                self.sleep_until(at - AHEAD - POLL).await?;
                None
            }
            None => self.until_healthy().await?,
        };
        let hindered = match (hindered, self.conduct.hooks.before_trial.clone()) {
            (None, Some(command)) => {
                let told = Told { trial, name: &name, out: self.dir.path(), record: None };
                hook::run("--before-trial", &command, &told).await.err()
            }
            (hindered, _) => hindered,
        };
        if let Some(reason) = hindered {
            self.dir.not_made(&NotMade {
                trial: index,
                attempt: trial.attempt,
                wall: now(),
                reason: reason.clone(),
            })?;
            tell(self.tally(), News::NotMade(trial, &reason));
            return Ok(Err(reason));
        }
        self.dir.begin(trial)?;
        let cell = order::cell(self.settings.seed, index, self.settings.cells.len());
        let mut request = request(&self.settings, &self.settings.cells[cell], trial);
        if let Some(at) = at {
            // A hook may have taken longer than the cycle.
            let soonest = self.status().await?.now_ns + AHEAD / 2;
            request.at = Some(StartAt::MonoNs(at.max(soonest)));
        }
        let hold = request.for_.unwrap_or_default();
        let view = self.client.apply(&name, &request).await?;
        tell(self.tally(), News::Cut(trial, &name));
        for warning in &view.warnings {
            tell(self.tally(), News::Warning(&warning.text));
        }
        let cut_at = view.effective.map(|cut| cut.end_ns);
        let ends_at = view.ends_at_ns.or(cut_at.map(|at| at + hold.0)).unwrap_or_default();
        Ok(Ok(Cut { trial, name, generation: view.generation, ends_at, hold }))
    }

    /// The daemon's status, as long as it is under the same config.
    async fn status(&mut self) -> Result<Status, CampaignError> {
        let status = self.client.status().await?;
        if status.config_number != self.config_number {
            return Err(CampaignError::Reloaded { was: self.config_number, is: status.config_number });
        }
        Ok(status)
    }

    /// Waits until every endpoint that gates is healthy; what is not, when the time is over.
    async fn until_healthy(&mut self) -> Result<Option<String>, CampaignError> {
        let until = Instant::now() + self.conduct.healthy_timeout.0;
        loop {
            let sick = unhealthy(&self.status().await?, &self.settings.gates.advisory);
            if sick.is_empty() {
                return Ok(None);
            }
            if Instant::now() >= until {
                let timeout = self.conduct.healthy_timeout;
                return Ok(Some(format!("not healthy within {timeout}: {}", sick.join("; "))));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sleeps until an instant of the daemon's clock.
    async fn sleep_until(&mut self, at: MonoNs) -> Result<(), CampaignError> {
        let now = self.status().await?.now_ns;
        tokio::time::sleep(at.saturating_since(now)).await;
        Ok(())
    }

    async fn until_final(
        &mut self,
        cut: &Cut,
        tell: &mut impl FnMut(Tally, News<'_>),
    ) -> Result<RecoveryRecord, CampaignError> {
        let settings = &self.settings;
        let limit = cut.hold.0 + settings.deadline.0 + settings.ready.observe_max.0 + GRACE;
        let begun = Instant::now();
        let mut on_slow = self.conduct.hooks.on_slow.clone();
        loop {
            let record = self.client.recovery(&cut.name, Some(cut.generation), SLICE).await?;
            if record.outcome == Some(Outcome::NotRecovered)
                && let Some(command) = on_slow.take()
            {
                self.hook("--on-slow", &command, cut, &record, tell).await;
            }
            if record.is_final {
                return Ok(record);
            }
            if begun.elapsed() > limit {
                return Err(CampaignError::NeverFinal { name: cut.name.clone(), after: Span(limit) });
            }
        }
    }

    async fn hook(
        &self,
        what: &str,
        command: &str,
        cut: &Cut,
        record: &RecoveryRecord,
        tell: &mut impl FnMut(Tally, News<'_>),
    ) {
        let told = Told { trial: cut.trial, name: &cut.name, out: self.dir.path(), record: Some(record) };
        if let Err(error) = hook::run(what, command, &told).await {
            tell(self.tally(), News::Warning(&error));
        }
    }

    async fn keep(
        &mut self,
        cut: &Cut,
        record: &RecoveryRecord,
        tell: &mut impl FnMut(Tally, News<'_>),
    ) -> Result<(), CampaignError> {
        let probes = self.client.probes(&cut.name, Some(cut.generation)).await?;
        // Probes first: a record never lacks them. Both without a pause in which a signal could part them.
        self.dir.append_probes(cut.trial.index, cut.trial.attempt, probes)?;
        self.dir.append(record)?;
        self.progress.complete.insert(cut.trial.index, cut.trial.attempt);
        self.trials.insert(cut.trial.index, self.settings.trial(cut.trial.index, record));
        tell(self.tally(), News::Record(Box::new(record.clone())));
        if self.trials.len().is_multiple_of(SUMMARY_EVERY) {
            self.summarize()?;
        }
        if let Some(command) = self.conduct.hooks.after_trial.clone() {
            self.hook("--after-trial", &command, cut, record, tell).await;
        }
        Ok(())
    }

    fn summarize(&self) -> Result<Summary, CampaignError> {
        let trials: Vec<stats::trial::Trial> = self.trials.values().cloned().collect();
        let summary = summarize(&trials, &self.settings.plan());
        self.dir.finish(&summary)?;
        Ok(summary)
    }

    /// Heals what this campaign left cut: by an earlier process, or by an interrupted trial.
    async fn heal_leftovers(&mut self) -> Result<(), CampaignError> {
        for view in self.client.partitions().await? {
            let is_live = matches!(
                view.state,
                PartitionState::Prepared | PartitionState::Scheduled | PartitionState::Active
            );
            if is_live && view.name.starts_with(&self.prefix) {
                self.client.heal(&view.name).await?;
            }
        }
        Ok(())
    }
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
        // Nobody is left to send one.
        Err(_) => std::future::pending().await,
    }
}

/// The endpoints that gate and are not healthy, with their last failures.
fn unhealthy(status: &Status, advisory: &[String]) -> Vec<String> {
    let gates = |name: &str| !advisory.iter().any(|advisory| is_named(name, advisory));
    status
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.required && gates(&endpoint.name) && endpoint.healthy != Some(true))
        .map(|endpoint| match (&endpoint.last_error, endpoint.healthy) {
            (Some(error), Some(false)) => format!("{}: {error}", endpoint.name),
            _ => format!("{}: too few probes yet", endpoint.name),
        })
        .collect()
}

fn campaign(settings: Settings, conduct: &Conduct, status: &Status, command: Vec<String>) -> Campaign {
    let wall = now();
    Campaign {
        schema: CAMPAIGN_SCHEMA,
        settings,
        conduct: Some(conduct.clone()),
        versions: Versions { injector: status.version.clone(), systems: BTreeMap::new() },
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

/// What the names of a run's partitions begin with: the directory's name, and a digest of where it is.
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
