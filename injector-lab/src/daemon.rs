//! The daemon under test as a process, and its command line.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::error::Error;
use crate::http::{self, Request};
use crate::process::Process;
use crate::{PATIENCE, until};

/// How a daemon is started.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    command: Command,
    socket: PathBuf,
    log: PathBuf,
    own_output: bool,
}

/// Why a daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The daemon could not be started.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The daemon has ended.
    #[error("the daemon ended with {status}:\n{log}")]
    Ended {
        /// The exit status.
        status: ExitStatus,
        /// The daemon's log.
        log: String,
    },
    /// The daemon does not answer.
    #[error("the daemon does not answer: {why}\n{log}")]
    Late {
        /// The fault of the last answer.
        why: String,
        /// The daemon's log.
        log: String,
    },
}

impl Launch {
    /// `<program> start --config <config>`, where the config says that the socket is this one; what it logs goes to a file.
    pub fn new(program: impl Into<PathBuf>, config: &Path, socket: PathBuf, log: PathBuf) -> Self {
        let program = program.into();
        let mut command = Command::new(&program);
        command.args(["start", "--config"]).arg(config);
        // What the user has set for daemons of their own, or was set for this process by who started it.
        for name in ["INJECTOR_SOCKET", "INJECTOR_HOST", "INJECTOR_LOG", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        Self { program, command, socket, log, own_output: false }
    }

    /// Files `<name>.yaml`, `<name>.sock` and `<name>.log` in a folder, the socket by the option `--socket`.
    ///
    /// # Errors
    /// The config can't be written.
    pub fn in_folder(
        program: impl Into<PathBuf>,
        folder: &Path,
        name: &str,
        config: &str,
    ) -> Result<Self, Error> {
        let [file, socket, log] = ["yaml", "sock", "log"].map(|end| folder.join(format!("{name}.{end}")));
        std::fs::write(&file, config).map_err(Error::io(format!("writing {}", file.display())))?;
        let mut launch = Self::new(program, &file, socket.clone(), log);
        launch.command.arg("--socket").arg(socket);
        Ok(launch)
    }

    /// The command, for what else it needs: variables, limits, options.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Keeps the standard error that the command was given; nothing is read from it.
    #[must_use]
    pub fn with_own_output(mut self) -> Self {
        self.command.stdin(Stdio::null()).stdout(Stdio::null());
        Self { own_output: true, ..self }
    }

    fn spawn(&mut self) -> Result<Process, Error> {
        let process = if self.own_output {
            Process::start_with_own_output("the daemon", &mut self.command, &self.log)
        } else {
            Process::start("the daemon", &mut self.command, &self.log)
        };
        Ok(process?.with_grace(PATIENCE))
    }

    /// Starts the daemon in the namespace of the calling thread, and waits until it answers.
    ///
    /// # Errors
    /// The daemon can't be started, ends, or does not answer within [`PATIENCE`].
    pub fn start(mut self) -> Result<Daemon, NotStarted> {
        let mut process = self.spawn()?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.ended() {
                return Err(NotStarted::Ended { status, log: process.log() });
            }
            let why = match http::over_unix(&self.socket, &Request::get("/v1/status")) {
                Ok((200, _)) => break,
                Ok((status, rest)) => format!("{status} {rest}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() > end {
                process.kill();
                return Err(NotStarted::Late { why, log: process.log() });
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(Daemon { process, cli: Cli { program: self.program, socket: self.socket } })
    }

    /// Runs a daemon that is expected to end by itself. Returns its exit status and its log.
    ///
    /// # Panics
    /// The daemon can't be started, or still runs after [`PATIENCE`].
    pub fn run_to_end(mut self) -> (ExitStatus, String) {
        let mut process = self.spawn().unwrap_or_else(|error| panic!("{error}"));
        let status = process.wait(PATIENCE).unwrap_or_else(|| panic!("it continues: {}", process.log()));
        (status, process.log())
    }
}

/// A daemon that answers; terminated when dropped. If a test fails, its log is shown.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    cli: Cli,
}

impl Daemon {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.cli.socket
    }

    /// Its command line.
    pub fn cli(&self) -> &Cli {
        &self.cli
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// A request that no client would send: the status and the body, null if it is not JSON.
    ///
    /// # Panics
    /// No answer comes.
    pub fn raw(&self, method: &str, path: &str, json: &[u8]) -> (u16, Value) {
        let answer = http::over_unix(self.socket(), &Request { method, path, json });
        let (status, rest) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        (status, serde_json::from_str(http::body(&rest)).unwrap_or_default())
    }

    /// Sends it a signal; after SIGSTOP every thread of it is stopped.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
        if signal == Signal::STOP {
            // The call returns before every thread of it is stopped.
            let stat = format!("/proc/{}/stat", self.id());
            until("the daemon stops", || {
                std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")).then_some(())
            });
        }
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends the daemon by SIGTERM.
    ///
    /// # Panics
    /// The daemon does not end within [`PATIENCE`].
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE).unwrap_or_else(|| panic!("it does not end: {}", self.log()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The daemon's log:\n{}", self.log());
        }
    }
}

/// The command line against one daemon.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    socket: PathBuf,
}

impl Cli {
    /// The command line of a program against the daemon on a socket.
    pub fn new(program: impl Into<PathBuf>, socket: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), socket: socket.into() }
    }

    /// A command, to which words are added.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("INJECTOR_HOST").env("INJECTOR_SOCKET", &self.socket).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// The program can't be started.
    pub fn run<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Output {
        let output = self.command().args(words).output();
        output.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }

    /// The answer of a command with `--json`, each line a value; words are separated by blanks.
    ///
    /// # Panics
    /// The output is not JSON.
    #[track_caller]
    pub fn lines(&self, words: &str) -> Vec<Value> {
        let output = self.run(words.split_whitespace().chain(["--json"]));
        let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        let values: Result<Vec<Value>, _> = values.collect();
        values.unwrap_or_else(|error| panic!("{words}: {error}: {output:?}"))
    }

    /// The answer of a command with `--json` that is one value; words are separated by blanks.
    ///
    /// # Panics
    /// The output is not exactly one JSON value.
    #[track_caller]
    pub fn json(&self, words: &str) -> Value {
        let mut values = self.lines(words);
        assert_eq!(values.len(), 1, "{words}: {values:?}");
        values.remove(0)
    }
}
