//! The daemon as a process, with a fault planned or none, and its API over raw HTTP: it may end at any byte.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::hooks::Hook;

/// Where a fault is injected into the daemon, and which.
#[derive(Clone, Debug)]
pub struct Plan {
    pub hook: Hook,
    pub step: String,
    /// The how-manieth pass of the step.
    pub pass: u32,
    pub kind: String,
}

impl Plan {
    /// From the form that a row shows: `HOOK:STEP#N=KIND`.
    pub fn parse(text: &str) -> Self {
        let (hook, point) = text.split_once(':').unwrap();
        let (point, kind) = point.split_once('=').unwrap();
        let (step, pass) = point.split_once('#').unwrap();
        let hook = *Hook::all().iter().find(|known| known.to_string() == hook).unwrap();
        Self { hook, step: step.to_owned(), pass: pass.parse().unwrap(), kind: kind.to_owned() }
    }

    pub fn is_lethal(&self) -> bool {
        self.kind == "kill" || self.kind == "panic"
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}#{}={}", self.hook, self.step, self.pass, self.kind)
    }
}

/// The process; killed when dropped.
pub struct Process {
    child: Child,
    folder: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it in its folder, which has the config and gets the logs.
    pub fn spawn(binary: &Path, folder: &Path, fault: Option<&str>) -> Self {
        let log = File::create(folder.join("log")).unwrap();
        let faults = folder.join("faults");
        let _ = std::fs::remove_file(&faults);
        let mut command = Command::new(binary);
        command.args(["start", "--config"]).arg(folder.join("lab.yaml"));
        command.arg("--socket").arg(folder.join("run/api.sock"));
        command.env_remove("INJECTOR_FAULT").env_remove("INJECTOR_HOST").env_remove("INJECTOR_SOCKET");
        if let Some(fault) = fault {
            command.env("INJECTOR_FAULT", fault).env("INJECTOR_FAULT_LOG", faults);
        }
        injector_lab::end_with_thread(&mut command);
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { child, folder: folder.to_owned(), ended: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end.
    pub fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended()
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The lines of the log of faults: step, pass, form, and whether a fault was injected.
    pub fn passed(&self) -> Vec<(String, u32, bool, bool)> {
        let text = std::fs::read_to_string(self.folder.join("faults")).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let (step, pass, form) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
            Some((step.to_owned(), pass, form == "at", words.next() == Some("injected")))
        };
        text.lines().filter_map(line).collect()
    }

    pub fn is_injected(&self) -> bool {
        std::fs::read_to_string(self.folder.join("faults")).is_ok_and(|text| text.contains(" injected\n"))
    }

    /// One request; `None` if there is no whole answer in time.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
        let mut stream = UnixStream::connect(self.folder.join("run/api.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(8))).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
