//! A command of the user's, with all that it starts.

use std::io;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdout, Command};

/// A running command and everything it started in its process group; killed together if this is dropped before the
/// command has ended.
pub struct Group {
    child: Child,
    /// `None` once the child was reaped, when its number may belong to others.
    leader: Option<Pid>,
}

impl Group {
    /// Starts a command as the leader of a group.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, leader })
    }

    /// The command's standard output, if it was piped.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for the command's end. What it leaves running is its own affair.
    pub async fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.leader = None;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // The leader may have exited meanwhile: nothing is left to kill then.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}
