//! `injector with`: a command under a partition that ends with it, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Common, With};
use super::failure::{Exit, Failure};
use super::partition::{Asked, describe};
use super::{heal, to_json};
use crate::api::client::Client;
use crate::api::types::Owner;

/// Tells the command the name of the partition that it runs under.
const NAME_VARIABLE: &str = "INJECTOR_PARTITION";

pub(super) async fn run(common: &Common, args: With) -> Result<Exit, Failure> {
    // Standard output and the exit code belong to the command; ours are standard error and 125.
    run_command(common, args).await.map_err(|failure| Failure { exit: Exit::WITH_FAILED, ..failure })
}

async fn run_command(common: &Common, args: With) -> Result<Exit, Failure> {
    if args.cut.at.is_some() {
        return Err(Failure::usage(
            "--at: the command of `with` runs under its partition from the begin; leave --at out, or use `injector partition --at`",
        ));
    }
    let asked = Asked::of(args.cut, Owner::Connection)?;
    // Before the cut: a signal in between must not end us without a heal.
    let mut signals = Signals::catch()
        .map_err(|error| Failure::new(Exit::WITH_FAILED, format!("signals can't be caught: {error}")))?;
    let mut client = Client::open(&common.address()).await?;
    let (name, request) = asked.settle(&mut client).await?;
    let view = client.apply(&name, &request).await?;
    eprint!("{}", if common.json { to_json(&view)? } else { describe(&view) });

    let (program, arguments) = args.command.split_first().expect("the syntax requires a command");
    let spawned = Command::new(program).args(arguments).env(NAME_VARIABLE, &name).spawn();
    let exit = match spawned {
        Ok(mut child) => signals.until_end(&mut child).await.map(code),
        Err(error) => {
            eprintln!("injector: {}: {error}", program.display());
            Ok(Exit(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }))
        }
    };

    match client.heal(&name).await {
        Ok(healed) => eprint!("{}", if common.json { to_json(&healed)? } else { heal::line(&healed) }),
        // Our connection's end heals it too, if there is a daemon left; but what the command saw is in doubt.
        Err(error) => {
            eprintln!("injector: the heal was not confirmed: {error}");
            if matches!(exit, Ok(Exit::OK)) {
                return Ok(Exit::WITH_FAILED);
            }
        }
    }
    exit.map_err(|error| Failure::new(Exit::WITH_FAILED, format!("waiting for the command: {error}")))
}

fn code(status: ExitStatus) -> Exit {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Exit(u8::try_from(code).unwrap_or(Exit::WITH_FAILED.0))
}

/// The signals that ask us to end; the command gets them instead.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn until_end(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            let caught = tokio::select! {
                status = child.wait() => return status,
                _ = self.interrupt.recv() => Signal::INT,
                _ = self.terminate.recv() => Signal::TERM,
                _ = self.hang_up.recv() => Signal::HUP,
            };
            // A terminal's Ctrl-C goes to the whole foreground group: the command has it already.
            if caught == Signal::INT && in_foreground() {
                continue;
            }
            let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, caught);
            }
        }
    }
}

fn in_foreground() -> bool {
    File::open("/dev/tty")
        .ok()
        .and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok())
        .is_some_and(|group| group == rustix::process::getpgrp())
}
