//! SIGHUP: the config is read again, and takes effect as a whole or not at all.
//!
//! Only while nothing is cut and no record is open: then neither a cut nor its evidence can depend on two configs. The
//! programs of the old config are taken off, those of the new one are attached, and only when all of that has worked does the
//! new config take the place of the old one, which is put on again otherwise. Meanwhile traffic flows, and the old
//! config's probes continue. An interface whose thread does not answer in time stays off until it does: `status` says so, and no
//! cut counts on it.

use std::time::Duration;

use tokio::time::Instant;

use super::active_config::ActiveConfig;
use super::config_file::{AfterRead, READ_TIMEOUT, Read, ReadResult, Reading};
use super::event_loop::{EventLoop, drain};
use super::partition::Partition;
use super::ready::{self, ServiceState as Reported};
use super::start_error::StartError;
use super::state::State;
use crate::datapath::chain;
use crate::descriptors;
use crate::fault;
use crate::rights::Rights;
use crate::turn;
use injector_core::api::{ConfigOutcome, EventKind, RefusedConfig};
use injector_core::clock::MonoNs;
use injector_core::config::Config;

/// Where it takes too long.
const SLOW_REMEDY: &str =
    "its file system may not answer: check it, then send SIGHUP again or restart the daemon";

/// How long each step may wait for threads inside namespaces: no command is answered meanwhile, but nothing is cut.
const STEP: Duration = Duration::from_secs(10);

/// Why the old config stays in force.
enum Kept {
    /// The reload was refused before anything was changed.
    Refused(String),
    /// The config could not be put in force.
    Failed(String),
}

impl EventLoop<'_> {
    /// Begins to read the config again.
    pub(super) fn hang_up(&mut self, state: &mut State) {
        match &mut self.reading {
            None => {
                report(Reported::Reloading);
                self.begin_reading(state);
            }
            Some(reading) if reading.then == AfterRead::Nothing => {
                let seconds = reading.begun.elapsed().as_secs();
                let why =
                    format!("an earlier SIGHUP has been waiting {seconds} s for the file; {SLOW_REMEDY}");
                reported(state, ConfigOutcome::Refused, why);
            }
            Some(reading) => reading.then = AfterRead::ReadAgain,
        }
    }

    fn begin_reading(&mut self, state: &mut State) {
        match self.source.read_aside() {
            Ok(result) => {
                self.reading = Some(Reading { result, begun: Instant::now(), then: AfterRead::Apply });
            }
            Err(error) => {
                reported(state, ConfigOutcome::Failed, format!("no thread reads it: {error}"));
                report(Reported::Ready);
            }
        }
    }

    /// Takes what a thread has read, or has not.
    pub(super) async fn take_config(&mut self, state: &mut State, read: Read) {
        match read {
            Read::Late => {
                if let Some(reading) = &mut self.reading {
                    reading.then = AfterRead::Nothing;
                }
                let why = format!("the file was not read within {} s; {SLOW_REMEDY}", READ_TIMEOUT.as_secs());
                reported(state, ConfigOutcome::Refused, why);
                report(Reported::Ready);
            }
            Read::Done(then, config) => {
                self.reading = None;
                let Some(config) = config else {
                    reported(state, ConfigOutcome::Failed, "the daemon has a bug, see its log".to_owned());
                    return report(Reported::Ready);
                };
                match then {
                    AfterRead::Apply => self.reload(state, config).await,
                    AfterRead::ReadAgain => self.begin_reading(state),
                    AfterRead::Nothing => tracing::warn!("the config was read too late; send SIGHUP again"),
                }
            }
        }
    }

    /// Puts a config in force, if nothing is in the way.
    async fn reload(&mut self, state: &mut State, config: ReadResult) {
        // A partition whose record is final by now does not hinder the reload.
        drain(state, &mut self.incoming.samples);
        state.tick();
        let (outcome, what) = match Box::pin(self.try_reload(state, config)).await {
            Ok(true) => {
                let (peers, endpoints) = (state.config.peers.len(), state.config.endpoints.len());
                let interfaces = state.interfaces.attached();
                let what =
                    format!("{peers} peers, {interfaces} interfaces attached, {endpoints} endpoints probed");
                (ConfigOutcome::InForce, what)
            }
            Ok(false) => (ConfigOutcome::Unchanged, "it says what is in force".to_owned()),
            Err(Kept::Refused(why)) => (ConfigOutcome::Refused, why),
            Err(Kept::Failed(why)) => (ConfigOutcome::Failed, why),
        };
        reported(state, outcome, what);
        report(Reported::Ready);
    }

    /// Whether another config is in force now.
    async fn try_reload(&mut self, state: &mut State, config: ReadResult) -> Result<bool, Kept> {
        let mut prepared = config.map_err(|errors| Kept::Refused(errors.to_string().replace('\n', "; ")))?;
        let config = &mut prepared.config;
        config.place(&state.interfaces.container_addresses(&state.config));
        if *config == state.config {
            return Ok(false);
        }
        if let Some(why) = self.hindrance(state, config) {
            return Err(Kept::Refused(why));
        }
        descriptors::raise(config)
            .map_err(|error| Kept::Refused(format!("{error}; then restart the daemon")))?;
        fault::here("reload/begin");
        let off_before = state.interfaces.off();
        turn::for_at_most(STEP, state.interfaces.pause()).await;
        fault::here("reload/paused");
        let started = Box::pin(ActiveConfig::start(*prepared, &self.bootstrap));
        match turn::for_at_most(STEP, started).await {
            Ok((active, incoming)) => {
                // The old config ends here: its probes, its threads, its maps, and reports that are still under way.
                fault::here("reload/loaded");
                state.replace(active);
                fault::here("reload/replaced");
                self.incoming = incoming;
                Ok(true)
            }
            Err(error) => {
                fault::here("reload/refused");
                let reported = turn::for_at_most(STEP, state.interfaces.resume(&mut state.kernel)).await;
                for (interface, what) in reported {
                    state.event(MonoNs::now(), EventKind::Interface { interface, what });
                }
                let mut off = state.interfaces.off();
                off.retain(|interface| !off_before.contains(interface));
                Err(Kept::Failed(failed(&error, &off)))
            }
        }
    }

    /// The hindrance to another config, in words; `None` if there is none.
    fn hindrance(&self, state: &State, config: &Config) -> Option<String> {
        let shown = |partition: &Partition| {
            format!("{} ({})", partition.life.name, format!("{:?}", partition.life.state).to_lowercase())
        };
        let open = state.ledger.iter().filter(|partition| partition.life.is_open());
        let open: Vec<String> = open.map(shown).collect();
        if !open.is_empty() {
            return Some(format!("still open: {}; heal them and wait for their records", open.join(", ")));
        }
        if config.socket != state.config.socket {
            return Some("socket: has changed; restart the daemon".to_owned());
        }
        if config.metrics != state.config.metrics {
            return Some("metrics.listen: has changed; restart the daemon".to_owned());
        }
        let lacking = self.bootstrap.rights.lack(&Rights::of(config));
        if !lacking.is_empty() {
            return Some(format!(
                "it takes rights that the daemon gave up at its start (for {}); restart the daemon",
                lacking.join(", ")
            ));
        }
        None
    }
}

/// Why another config could not be put in force, and what the old one lacks since.
fn failed(error: &StartError, off: &[String]) -> String {
    let error = chain(error);
    if off.is_empty() { error } else { format!("{error}; not attached again yet: {}", off.join(", ")) }
}

/// Writes to log, timeline and status what came of a SIGHUP.
fn reported(state: &mut State, outcome: ConfigOutcome, what: String) {
    let number = state.config_number;
    let is_refused = match outcome {
        ConfigOutcome::InForce | ConfigOutcome::Unchanged => {
            tracing::info!(number, "SIGHUP: config {}: {what}", outcome.words());
            false
        }
        ConfigOutcome::Refused | ConfigOutcome::Failed => {
            tracing::error!(number, "SIGHUP: config {}: {what}", outcome.words());
            true
        }
    };
    let event = state.event(MonoNs::now(), EventKind::Config { outcome, number, what: what.clone() });
    let refused = RefusedConfig { at_ns: event.at_ns, wall: event.wall, outcome, what };
    state.refused_config = is_refused.then_some(refused);
}

fn report(what: Reported) {
    if let Err(error) = ready::systemd(what) {
        tracing::warn!(%error, ?what, "systemd could not be notified");
    }
}
