//! `injector stop`: ends the daemon of this host, and waits for it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::args::{Common, Stop as Args};
use super::failure::{Exit, Failure};
use super::heal::{daemon_at, is_daemon, no_daemon};
use super::output::show;
use injector_client::Client;

/// How long a daemon may take to heal and to detach.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(common: &Common, args: &Args) -> Result<Exit, Failure> {
    if !common.host.is_empty() {
        return Err(Failure::usage(
            "stop ends the daemon of this host; run it there (`ssh HOST sudo injector stop`)",
        ));
    }
    let Some(pid) = daemon_at(common) else {
        // Says what is wrong with the socket, and what to do.
        Client::open(&common.address()).await?;
        return Err(Failure::new(
            Exit::UNDECIDED,
            "the daemon's process can't be seen from this pid namespace; stop it where it was started",
        ));
    };
    if !is_daemon(common, pid).await {
        return Err(no_daemon(common, pid));
    }
    let failed = |what: &str, error: rustix::io::Errno| {
        let exit = if error == rustix::io::Errno::PERM { Exit::NOT_PERMITTED } else { Exit::UNDECIDED };
        let remedy = if exit == Exit::NOT_PERMITTED { "; run it with sudo" } else { "" };
        Failure::new(exit, format!("the daemon with pid {pid} can't be {what}: {error}{remedy}"))
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| failed("named", rustix::io::Errno::INVAL))?;
    let handle = pidfd_open(process, PidfdFlags::empty()).map_err(|error| failed("found", error))?;
    // A process that took the pid since then does not listen on the socket.
    if daemon_at(common) != Some(pid) {
        return Err(Failure::new(
            Exit::UNDECIDED,
            format!("the daemon with pid {pid} has just ended by itself"),
        ));
    }
    pidfd_send_signal(&handle, Signal::TERM).map_err(|error| failed("stopped", error))?;
    let patience = args.timeout.map_or(PATIENCE, |timeout| timeout.0);
    if !ends_within(handle, patience).await {
        return Err(Failure::new(
            Exit::UNDECIDED,
            format!(
                "the daemon with pid {pid} was asked to end and still runs; `injector heal --all` says whether it cuts, and `kill -KILL {pid}` ends its cuts"
            ),
        ));
    }
    show(common, &serde_json::json!({ "pid": pid, "stopped": true }), || {
        format!("stopped: pid {pid}; what it cut is healed, and its programs are detached\n")
    })?;
    Ok(Exit::OK)
}

/// Whether a process ends by then.
async fn ends_within(process: OwnedFd, patience: Duration) -> bool {
    let limit = Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    let waited = tokio::task::spawn_blocking(move || {
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut ended, Some(&limit)))
    });
    matches!(waited.await, Ok(Ok(1..)))
}
