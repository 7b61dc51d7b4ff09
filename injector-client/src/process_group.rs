//! A command of the user's, with all that it starts.

use std::io;
use std::process::ExitStatus;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdout, Command};

/// Starts take turns. Until it executes its program, a child has a copy of each descriptor of this process: of the pipes of another
/// command that is being started at that moment, too. Where the program takes long to be executed, as from a file system that does
/// not answer, that other start would not see its pipe end.
static STARTS: Turns = Turns { begun: Mutex::new(None), over: Condvar::new() };

/// How long the next start waits for one that hangs: far longer than a start takes.
const PATIENCE: Duration = Duration::from_millis(50);

struct Turns {
    /// When the start that has the turn began.
    begun: Mutex<Option<Instant>>,
    over: Condvar,
}

/// The turn of one start, until this is dropped.
struct Turn<'a>(&'a Turns);

impl<'a> Turn<'a> {
    /// Waits for the turn; `None`, which is to start all the same, once another start has had it for so long.
    fn take(turns: &'a Turns, patience: Duration) -> Option<Self> {
        let mut begun = turns.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = *begun {
            let rest = patience.checked_sub(at.elapsed()).filter(|rest| !rest.is_zero())?;
            begun = turns.over.wait_timeout(begun, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        *begun = Some(Instant::now());
        Some(Self(turns))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.begun.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.over.notify_one();
    }
}

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
        let turn = Turn::take(&STARTS, PATIENCE);
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        drop(turn);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_take_turns_and_wait_for_one_that_hangs_only_so_long() {
        let turns = Turns { begun: Mutex::new(None), over: Condvar::new() };
        let long = Duration::from_mins(1);
        let first = Turn::take(&turns, long);
        assert!(first.is_some());
        assert!(Turn::take(&turns, Duration::from_millis(20)).is_none(), "the first one hangs");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| Turn::take(&turns, long).is_some());
            drop(first);
            assert!(next.join().unwrap());
        });
        assert!(Turn::take(&turns, Duration::ZERO).is_some(), "nobody has it any more");
    }
}
