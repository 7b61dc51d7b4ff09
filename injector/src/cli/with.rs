//! `injector with`: a command under a partition that ends with it, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Common, With};
use super::failure::{Exit, Failure};
use super::heal;
use super::hosts::limit::connected;
use super::output::{tell, to_json};
use super::partition::{Asked, describe};
use super::{render_record, wait};
use injector_client::{Client, ClientError, own_request_id};
use injector_core::api::{
    Code, HealedBy, InForce, LinkRecord, Owner, PartitionState, PartitionView, VerdictOptions,
};

/// Gives the command the name of the partition that it runs under.
const NAME_VARIABLE: &str = "INJECTOR_PARTITION";

pub(super) async fn run(common: &Common, args: With) -> Result<Exit, Failure> {
    // Standard output and the exit code belong to the command; ours are standard error and 125.
    run_command(common, args).await.map_err(|failure| Failure { exit: Exit::WITH_FAILED, ..failure })
}

async fn run_command(common: &Common, args: With) -> Result<Exit, Failure> {
    let asked = Asked::of(args.cut, None, Owner::Connection)?;
    // Before the cut: a signal in between must not end us without a heal.
    let mut signals = Signals::catch()
        .map_err(|error| Failure::new(Exit::WITH_FAILED, format!("signals can't be caught: {error}")))?;
    let mut client = connected(common).await?;
    let (name, mut request) = asked.into_request(&mut client).await?;
    // The same request under a live name is answered as that partition, and another client's is not ours to end.
    request.request_id = Some(own_request_id());
    let view = client.apply(&name, &request).await?;
    tell(&if common.json { to_json(&view)? } else { describe(&view) });

    let (program, arguments) = args.command.split_first().expect("the syntax requires a command");
    let spawned = Command::new(program).args(arguments).env(NAME_VARIABLE, &name).spawn();
    let ended = match spawned {
        Ok(mut child) => signals.until_end(&mut child).await.map(code),
        Err(error) => {
            tell(&format!("injector: {}: {error}\n", program.display()));
            Ok(Exit(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }))
        }
    };

    // Asked before anything of the command is believed: what it saw under another network is no result.
    let lasted = end(common, &mut client, &view, &request.verdict).await;
    let ended =
        ended.map_err(|error| Failure::new(Exit::WITH_FAILED, format!("waiting for the command: {error}")));
    match (lasted, ended) {
        (Ok(()), Ok(Exit::OK)) if args.wait => {
            tokio::select! {
                recovered = recovery(common, &mut client, &view) => recovered,
                caught = signals.next() => Ok(Exit::ended_by(caught)),
            }
        }
        (Ok(()), ended) => ended,
        (Err(failure), Ok(code)) => {
            let Failure { message, details, .. } = failure;
            let message = format!("{message} (the command's own exit code was {})", code.0);
            Err(Failure { exit: Exit::WITH_FAILED, message, details })
        }
        (Err(failure), Err(_)) => Err(failure),
    }
}

/// Waits until the outcome is decided, and prints the record. An outcome that shows nothing is 125: 2 may be the command's own.
async fn recovery(common: &Common, client: &mut Client, applied: &PartitionView) -> Result<Exit, Failure> {
    let record = wait::decided(common, client, &applied.name, Some(applied.generation), None).await?;
    tell(&if common.json { to_json(&record)? } else { render_record::text(&record) });
    Ok(match record.outcome.map(Exit::of) {
        Some(exit @ (Exit::OK | Exit::NOT_RECOVERED)) => exit,
        _ => Exit::WITH_FAILED,
    })
}

/// Heals the partition; fails unless it was in force until now. Where that is not known, `verdict` decides.
async fn end(
    common: &Common,
    client: &mut Client,
    applied: &PartitionView,
    verdict: &VerdictOptions,
) -> Result<(), Failure> {
    let name = &applied.name;
    let broken = |why: String| {
        Failure::new(Exit::WITH_FAILED, format!("\"{name}\" was not in force until the command ended: {why}"))
    };
    let unknown = |error: ClientError| match error {
        ClientError::Problem(problem) if problem.code == Code::UnknownPartition => {
            broken("the daemon does not know it any more; it was restarted meanwhile".to_owned())
        }
        error => broken(format!("the daemon can't be asked ({error})")),
    };
    // A name that was healed may be in use again, by somebody else.
    let found = client.partition(name).await.map_err(unknown)?;
    if !found.is_same_partition(applied) {
        return Err(broken(
            "it was healed, and another client has applied a partition of that name".to_owned(),
        ));
    }
    let was_active = found.state == PartitionState::Active;
    let healed = client.heal(name).await.map_err(unknown)?;
    tell(&if common.json { to_json(&healed)? } else { heal::line(&healed) });
    let why = match healed.healed_by {
        HealedBy::Request if was_active => {
            let record =
                client.recovery(name, Some(applied.generation), Duration::ZERO).await.map_err(unknown)?;
            let Some((LinkRecord { src, dst, .. }, in_force)) = record.link_not_in_force(verdict) else {
                return Ok(());
            };
            return Err(broken(if in_force == InForce::No {
                format!(
                    "packets of {src}→{dst} passed the cut, or could pass; `injector wait {name}` says how"
                )
            } else {
                format!(
                    "it is not known whether packets of {src}→{dst} passed the cut, and --strict counts that as no; \
                     `injector wait {name}` says why"
                )
            }));
        }
        HealedBy::Request => "another client healed it",
        HealedBy::Deadline => {
            "its deadline came first; give it a longer --for, or raise max_for in the config"
        }
        HealedBy::Lease => "the daemon was held up, and the lease ended it; see the daemon's log",
        HealedBy::Shutdown => "the daemon was stopped",
        HealedBy::Disconnect => "the connection that owned it broke",
    };
    let mut failure = broken(why.to_owned());
    failure.details = Some(serde_json::json!({ "healed": healed }));
    Err(failure)
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

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }

    async fn until_end(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            let caught = tokio::select! {
                status = child.wait() => return status,
                caught = self.next() => caught,
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
