//! The failures of a lab that comes up or runs.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Why a lab could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command failed, or could not be started.
    #[error("`{command}` failed: {why}")]
    Command {
        /// Its words.
        command: String,
        /// The command's standard error, or why it did not start.
        why: String,
    },
    /// A file, a namespace or a socket could not be used.
    #[error("{what}: {source}")]
    Io {
        /// The operation that failed.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A peer gave another answer than was expected.
    #[error("{0}")]
    Answer(String),
    /// A program of the lab has ended by itself.
    #[error("{name} has ended ({status})\n{log}")]
    Ended {
        /// The program.
        name: String,
        /// The exit status.
        status: std::process::ExitStatus,
        /// The end of its output.
        log: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {} s: {why}\n{logs}", limit.as_secs())]
    Late {
        /// The event that was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The reason why the event was not seen yet.
        why: String,
        /// The ends of the programs' outputs.
        logs: String,
    },
    /// The user has asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Makes an error of an I/O error, with the operation that failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A command's words as a user would type them.
pub fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end.
///
/// # Errors
/// The command could not be started, or failed; the error has its standard error.
pub fn run(command: &mut Command) -> Result<Output, Error> {
    let failed = |why: String, command: &Command| Error::Command { command: words(command), why };
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(output),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(failed(format!("{}: {said}", output.status), command))
        }
        Err(error) => Err(failed(error.to_string(), command)),
    }
}

/// The value, or a panic with the error's text.
#[track_caller]
pub fn expect<T>(result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
