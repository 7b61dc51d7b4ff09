//! The daemon's command line, for chores that run it.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::command::{check_interrupt, words};

/// Where a daemon is.
pub enum At {
    /// A daemon on this host, with its socket.
    Socket(PathBuf),
    /// A daemon in a guest.
    Guest {
        /// The guest, as `--host` takes it.
        host: String,
        /// The folder with the `ssh` that reaches it.
        ssh: PathBuf,
    },
}

impl At {
    /// The option, and its value, by which a command of the client reaches the daemon.
    pub fn option(&self) -> [OsString; 2] {
        match self {
            Self::Socket(socket) => ["--socket".into(), socket.into()],
            Self::Guest { host, .. } => ["--host".into(), host.into()],
        }
    }
}

/// The command line of the daemon's client.
pub struct Injector<'a> {
    /// The program.
    pub program: &'a Path,
    /// The daemon.
    pub at: At,
}

/// The exit code and the output of a command.
pub struct CommandOutput {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub error: String,
}

impl CommandOutput {
    /// Fails unless it exited with 0.
    pub fn succeeded(self) -> Result<Self> {
        ensure!(self.code == 0, "injector failed with {}: {}", self.code, self.error.trim());
        Ok(self)
    }

    /// Its output, parsed.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.output).with_context(|| format!("not JSON: {}", self.output.trim()))
    }
}

impl Injector<'_> {
    /// Makes a command, and the programs that it starts, reach the daemon: by the command's option, by the
    /// variable with the same meaning, and by the folders on PATH.
    pub fn reach(&self, command: &mut Command) -> Result<()> {
        let [option, value] = self.at.option();
        let (variable, ssh) = match &self.at {
            At::Socket(_) => ("INJECTOR_SOCKET", None),
            At::Guest { ssh, .. } => ("INJECTOR_HOST", Some(ssh.clone())),
        };
        command.env_remove("INJECTOR_SOCKET").env_remove("INJECTOR_HOST").env(variable, &value);
        command.arg(option).arg(value);
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let own = self.program.parent().map(Path::to_path_buf);
        let folders = own.into_iter().chain(ssh).chain(std::env::split_paths(&folders));
        command.env("PATH", std::env::join_paths(folders).context("the folders of programs")?);
        Ok(())
    }

    /// Runs a command with `--json`, until it ends or the user asks to stop.
    pub fn ask(&self, words_: &[&str]) -> Result<CommandOutput> {
        let mut command = Command::new(self.program);
        command.args(words_).arg("--json");
        self.reach(&mut command)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting `{}`", words(&command)))?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let (Some(mut output), Some(mut error)) = pipes else { bail!("the client's output is not piped") };
        std::thread::scope(|scope| {
            // Read while it runs: a full pipe would stop it.
            let output = scope.spawn(move || {
                let mut text = String::new();
                output.read_to_string(&mut text).map(|_| text)
            });
            let error = scope.spawn(move || {
                let mut text = String::new();
                error.read_to_string(&mut text).map(|_| text)
            });
            let status = loop {
                if let Some(status) = child.try_wait().context("waiting for the client")? {
                    break status;
                }
                if let Err(interrupted) = check_interrupt() {
                    // The command may have ended in this moment; either way it is gone after `wait`.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(interrupted);
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            Ok(CommandOutput {
                code: status.code().unwrap_or(-1),
                output: output
                    .join()
                    .expect("reading does not panic")
                    .context("reading the client's output")?,
                error: error
                    .join()
                    .expect("reading does not panic")
                    .context("reading the client's errors")?,
            })
        })
    }

    /// Fails with what is not healthy yet.
    pub fn is_healthy(&self) -> Result<()> {
        let status = self.ask(&["status"])?.succeeded()?.json().context("the daemon's status")?;
        let endpoints = status["endpoints"].as_array().context("the status names no endpoints")?;
        for endpoint in endpoints {
            ensure!(endpoint["healthy"] == true, "{endpoint}");
        }
        ensure!(!endpoints.is_empty(), "the status names no endpoints");
        Ok(())
    }
}
