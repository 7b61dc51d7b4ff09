//! The config's file, read again on a thread of its own: a file system that does not answer, or a large config, holds up
//! no command.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::{engine, fault, probe};
use injector_core::config::text::{self, TextError};
use injector_core::config::{Config, ConfigErrors};

/// A config with what it needs from outside: secrets, certificates, addresses of host names, and containers.
pub struct Prepared {
    /// The config.
    pub config: Config,
    /// The engine's answer about its containers.
    pub containers: engine::Found,
}

impl Prepared {
    /// Fetches what a config needs; `file` is what errors call it. May take some seconds.
    ///
    /// # Errors
    /// Everything that can't be obtained.
    pub fn fetch(mut config: Config, file: &str) -> Result<Self, ConfigErrors> {
        probe::prepare(&mut config, file)?;
        let containers = engine::look_up_blocking(&config, file)?;
        Ok(Self { config, containers })
    }
}

/// Where the config is.
#[derive(Clone, Debug)]
pub struct Source {
    /// Absolute: where the process is later does not matter.
    path: PathBuf,
    /// The socket of the command line, which takes precedence over the config's.
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

    /// Starts a thread that reads the config and ends.
    pub(super) fn read_aside(&self) -> std::io::Result<oneshot::Receiver<ReadResult>> {
        let (sender, receiver) = oneshot::channel();
        let source = self.clone();
        fault::at("reload/thread")?;
        std::thread::Builder::new().name("config".into()).spawn(move || {
            // Nobody waits any more: the daemon is stopping.
            drop(sender.send(source.read().map(Box::new)));
        })?;
        Ok(receiver)
    }

    fn read(&self) -> Result<Prepared, ConfigErrors> {
        let config = Config::load_with(&self.path, &engine::select).map_err(|mut errors| {
            let denied = text::open(&self.path).is_err_and(
                |error| matches!(error, TextError::Io(error) if error.kind() == ErrorKind::PermissionDenied),
            );
            if let (true, [error]) = (denied, errors.0.as_mut_slice()) {
                REMEDY.clone_into(&mut error.remedy);
            }
            errors
        })?;
        let mut prepared = Prepared::fetch(config, &self.path.display().to_string())?;
        if let Some(socket) = &self.socket {
            prepared.config.socket.path.clone_from(socket);
        }
        Ok(prepared)
    }
}

/// Where the file can't be read.
const REMEDY: &str = "the daemon has given up the right to read what is closed to root: open the file and its \
                      directories to root, or restart the daemon";

pub(super) type ReadResult = Result<Box<Prepared>, ConfigErrors>;

/// A config that is being read.
pub(super) struct Reading {
    pub(super) result: oneshot::Receiver<ReadResult>,
    pub(super) begun: Instant,
    pub(super) then: AfterRead,
}

/// The use of a config that a thread reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRead {
    /// Put it in force.
    Apply,
    /// Read the file again: there was another SIGHUP, so it may have changed.
    ReadAgain,
    /// Nothing: it took too long, and that was reported.
    Nothing,
}

/// The result of reading a config.
pub(super) enum Read {
    /// `None` if the thread panicked, which is logged.
    Done(AfterRead, Option<ReadResult>),
    /// No config was read in time.
    Late,
}

/// Waits for a config that is being read; forever if none is.
pub(super) async fn read(reading: &mut Option<Reading>) -> Read {
    let Some(Reading { result, begun, then }) = reading else { return std::future::pending().await };
    let (begun, then) = (*begun, *then);
    let done = async { Read::Done(then, result.await.ok()) };
    if then == AfterRead::Nothing {
        return done.await;
    }
    tokio::time::timeout_at(begun + READ_TIMEOUT, done).await.unwrap_or(Read::Late)
}

/// How long the file may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);
