//! A program of the lab, which ends with it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::words;

/// How long a program may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A running program; dropped, it is asked to end, and then made to.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its output in `folder/name.log`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let copy = file.try_clone().with_context(|| format!("opening {} twice", log.display()))?;
        // A group of its own: Ctrl-C is for xtask alone, which then ends everything in order.
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                // If xtask is killed, its programs are too.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("starting `{}`", words(command)))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))? {
            bail!("{} has ended ({status})\n{}", self.name, self.log_end());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text =
            fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n  ");
        format!("{} says last:\n  {end}", self.name)
    }

    /// Sends SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&self, signal: libc::c_int) {
        if let Ok(pid) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: kill has no memory effects; the child has not been waited for, so the pid is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(libc::SIGTERM);
        let end = Instant::now() + GRACE;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal(libc::SIGKILL);
        // Killed, it can only be waited for.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone_and_one_that_ended_is_told() {
        let folder = std::env::temp_dir().join(format!("xtask-process-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut sleeper = Process::start("sleeper", Command::new("sleep").arg("600"), &folder).unwrap();
        sleeper.check().unwrap();
        let pid = sleeper.child.id();
        drop(sleeper);
        assert!(!Path::new("/proc").join(pid.to_string()).exists());

        let mut failing =
            Process::start("failing", Command::new("sh").args(["-c", "echo why; exit 3"]), &folder);
        let failing = failing.as_mut().unwrap();
        failing.child.wait().unwrap();
        let error = failing.check().unwrap_err().to_string();
        assert!(error.contains("failing has ended") && error.contains("why"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
