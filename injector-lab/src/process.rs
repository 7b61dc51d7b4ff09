//! A program of a lab, which ends with it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};

use crate::error::{Error, words};

/// How long a program may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Has the kernel send SIGTERM to a command's process when the thread that starts it ends. A test program that is killed or
/// interrupted drops nothing, and its daemons would run on; they have process groups of their own, so that Ctrl-C does not
/// reach them either.
///
/// SIGTERM and not SIGKILL: a daemon heals and detaches, and an engine ends its containers. A program that becomes another
/// user's loses the setting (`setpriv --pdeathsig` sets it afterwards).
pub fn end_with_thread(command: &mut Command) {
    let starter = getpid();
    // SAFETY: between fork and exec two system calls alone are made, which touch no memory.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // The starter may have ended before that call.
            if getppid() == Some(starter) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
        });
    }
}

/// A running program; dropped, it is asked to end, and then made to. It ends with the thread that started it too.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// The exit status. Until it is read, the pid stays the program's own, also when the program is over.
    ended: Option<ExitStatus>,
    log: PathBuf,
    grace: Duration,
}

impl Process {
    /// Starts it with its output in a file.
    ///
    /// # Errors
    /// The file can't be made, or the program can't be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Error> {
        let creating = || format!("creating {}", log.display());
        let file = File::create(log).map_err(Error::io(creating()))?;
        let copy = file.try_clone().map_err(Error::io(creating()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        Self::start_with_own_output(name, command, log)
    }

    /// Starts the program with the outputs that the command already has; `log` is the file that they go to,
    /// if any.
    pub(crate) fn start_with_own_output(
        name: &str,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self, Error> {
        // A group of its own: Ctrl-C is for this process alone, which then ends everything in order.
        command.process_group(0);
        end_with_thread(command);
        let child = command.spawn().map_err(Error::io(format!("starting `{}`", words(command))))?;
        Ok(Self { name: name.to_owned(), child, ended: None, log: log.to_owned(), grace: GRACE })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // Nobody else waits for it, so the system call can't fail.
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        self.ended
    }

    /// Checks that the program still runs.
    ///
    /// # Errors
    /// The program has ended: how, and the end of its log.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.ended() {
            Some(status) => Err(Error::Ended { name: self.name.clone(), status, log: self.log_end() }),
            None => Ok(()),
        }
    }

    /// Waits until it ends, or the limit is reached.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            match self.ended() {
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                ended => return ended,
            }
        }
    }

    /// All of its output.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of its output.
    pub fn log_end(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        format!("{} says last:\n  {}", self.name, lines[lines.len().saturating_sub(15)..].join("\n  "))
    }

    /// Sends it a signal. One that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Sends SIGTERM, which one that is stopped gets too.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Gives it another time than 5 s to end by itself when it is dropped.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.ended = self.child.wait().ok().or(self.ended);
    }

    /// The processor time that it has used.
    ///
    /// # Panics
    /// The process has ended.
    pub fn processor_time(&self) -> Duration {
        let file = format!("/proc/{}/stat", self.id());
        let stat = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        // Fields are counted from behind the name, which may have blanks in it.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.ask_to_end();
        if self.wait(self.grace).is_none() {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone_and_one_that_ended_is_named() {
        let log = std::env::temp_dir().join(format!("lab-process-{}", std::process::id()));
        let mut sleeper = Process::start("sleeper", Command::new("sleep").arg("600"), &log).unwrap();
        sleeper.check().unwrap();
        let pid = sleeper.id();
        drop(sleeper);
        assert!(!Path::new("/proc").join(pid.to_string()).exists());

        let mut failing =
            Process::start("failing", Command::new("sh").args(["-c", "echo why; exit 3"]), &log).unwrap();
        failing.wait(crate::PATIENCE).unwrap();
        let error = failing.check().unwrap_err().to_string();
        assert!(error.contains("failing has ended") && error.contains("why"), "{error}");
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_stopped_process_ends_too() {
        let log = std::env::temp_dir().join(format!("lab-stopped-{}", std::process::id()));
        let sleeper = Process::start("sleeper", Command::new("sleep").arg("600"), &log).unwrap();
        let sleeper = sleeper.with_grace(Duration::from_mins(1));
        sleeper.signal(Signal::STOP);
        let begun = Instant::now();
        drop(sleeper);
        assert!(begun.elapsed() < Duration::from_mins(1));
        fs::remove_file(log).unwrap();
    }
}
