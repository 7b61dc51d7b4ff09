//! SIGHUP: the config is read again, and takes effect as a whole or not at all.
//!
//! Only while nothing is cut and no record is open: then neither a cut nor its evidence can depend on two configs. The
//! programs of the old load are taken off, those of the new one are attached, and only when all of it stands does the
//! new load take the place of the old one, which is put on again otherwise. Meanwhile traffic flows, and the old
//! load's probes go on.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::load::Load;
use super::partition::Partition;
use super::ready::{self, State as Told};
use super::state::State;
use super::{Inbox, StartError, drain};
use crate::datapath::chain;
use crate::rights::Rights;
use injector_core::api::{ConfigOutcome, EventKind};
use injector_core::clock::MonoNs;
use injector_core::config::text::{self, TextError};
use injector_core::config::{Config, ConfigErrors};

/// Where the config is.
#[derive(Debug)]
pub struct Source {
    /// Absolute: where the process is later does not matter.
    path: PathBuf,
    /// What the command line says of the socket goes before the config.
    socket: Option<PathBuf>,
}

impl Source {
    /// A config's file, and the socket if the command line names one.
    pub fn new(path: &Path, socket: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self { path: std::path::absolute(path)?, socket })
    }

    /// Warns if the file can't be read with the rights that the daemon has kept.
    pub(super) fn try_out(&self) {
        if let Err(error) = text::open(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "SIGHUP won't read the config: {REMEDY}");
        }
    }

    fn read(&self) -> Result<Config, ConfigErrors> {
        let mut config = Config::load(&self.path).map_err(|mut errors| {
            let denied = text::open(&self.path).is_err_and(
                |error| matches!(error, TextError::Io(error) if error.kind() == ErrorKind::PermissionDenied),
            );
            if let (true, [error]) = (denied, errors.0.as_mut_slice()) {
                REMEDY.clone_into(&mut error.remedy);
            }
            errors
        })?;
        if let Some(socket) = &self.socket {
            config.socket.path.clone_from(socket);
        }
        Ok(config)
    }
}

/// Where the file can't be read.
const REMEDY: &str = "the daemon has given up the right to read what is closed to root: open the file and its \
                      directories to root, or restart the daemon";

/// Why the old config stays in force.
enum Kept {
    /// Nothing was tried.
    Refused(String),
    /// It could not be put in force.
    Failed(StartError),
}

impl Inbox {
    /// Reads the config again and puts it in force, if nothing is in the way.
    pub(super) async fn reload(&mut self, state: &mut State) {
        tell(Told::Reloading);
        // What is final by now is not in the way.
        drain(state, &mut self.heard.samples);
        state.tick();
        let (outcome, what) = match self.try_reload(state).await {
            Ok(true) => {
                let (peers, endpoints) = (state.config.peers.len(), state.config.endpoints.len());
                let interfaces = state.interfaces.attached();
                let what =
                    format!("{peers} peers, {interfaces} interfaces attached, {endpoints} endpoints probed");
                (ConfigOutcome::InForce, what)
            }
            Ok(false) => (ConfigOutcome::Unchanged, "it says what is in force".to_owned()),
            Err(Kept::Refused(why)) => (ConfigOutcome::Refused, why),
            Err(Kept::Failed(error)) => (ConfigOutcome::Failed, chain(&error)),
        };
        let number = state.config_number;
        match outcome {
            ConfigOutcome::InForce | ConfigOutcome::Unchanged => {
                tracing::info!(number, "SIGHUP: config {}: {what}", outcome.words());
            }
            ConfigOutcome::Refused | ConfigOutcome::Failed => {
                tracing::error!(number, "SIGHUP: config {}: {what}", outcome.words());
            }
        }
        state.event(MonoNs::now(), EventKind::Config { outcome, number, what });
        tell(Told::Ready);
    }

    /// Whether another config is in force now.
    async fn try_reload(&mut self, state: &mut State) -> Result<bool, Kept> {
        let config = self.source.read().map_err(|errors| {
            let errors: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            Kept::Refused(errors.join("; "))
        })?;
        if config == state.config {
            return Ok(false);
        }
        if let Some(why) = self.hindrance(state, &config) {
            return Err(Kept::Refused(why));
        }
        state.interfaces.pause().await;
        match Load::start(config, &self.ground).await {
            Ok((load, heard)) => {
                // The old load ends here: its probes, its threads, its maps, and what it still had to tell.
                state.replace(load);
                self.heard = heard;
                Ok(true)
            }
            Err(error) => {
                let told = state.interfaces.resume(&mut state.kernel).await;
                for (interface, what) in told {
                    state.event(MonoNs::now(), EventKind::Interface { interface, what });
                }
                Err(Kept::Failed(error))
            }
        }
    }

    /// What is in the way of another config.
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
        let lacking = self.ground.rights.lack(&Rights::of(config));
        if !lacking.is_empty() {
            return Some(format!(
                "it takes rights that the daemon gave up at its start (for {}); restart the daemon",
                lacking.join(", ")
            ));
        }
        None
    }
}

fn tell(what: Told) {
    if let Err(error) = ready::systemd(what) {
        tracing::warn!(%error, ?what, "systemd could not be told");
    }
}
