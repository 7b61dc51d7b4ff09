//! The daemon: one task owns all state.

use std::path::PathBuf;

use crate::config::Config;

pub mod command;
pub mod ready;

/// What the command line adds to the config.
pub struct StartOptions {
    /// Where the config came from: SIGHUP reads it again.
    pub config_path: PathBuf,
    /// Whom to tell when the API answers.
    pub ready: ready::Ready,
}

/// Why the daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to run.
    #[error("this build has no data plane")]
    NoDataPlane,
}

/// Runs the daemon until SIGTERM or SIGINT; everything is healed and removed when it returns.
#[expect(clippy::unused_async, reason = "the signature that the command line is built against")]
pub async fn run(_config: Config, _options: StartOptions) -> Result<(), StartError> {
    Err(StartError::NoDataPlane)
}
