//! A process that is stopped.

use rustix::process::{Pid, Signal, kill_process};

/// A stopped process. It continues when this is dropped, also if the test fails.
pub struct StoppedProcess(Pid);

impl StoppedProcess {
    pub fn stop(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}
