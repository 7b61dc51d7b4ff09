//! Daemons with the command line as their only reader, in labs whose addresses are their own.

use std::io::{Read as _, Write as _};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub use injector_lab::{Lab, PATIENCE, until};
use injector_lab::{Launch, NotStarted};
use serde_json::Value;

#[path = "kernel.rs"]
pub mod kernel;

pub fn run(program: &str, words: &str) -> Output {
    Command::new(program).args(words.split_whitespace()).output().unwrap()
}

pub fn ok(program: &str, words: &str) -> String {
    let output = run(program, words);
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn ip(words: &str) -> String {
    ok("ip", words)
}

/// How a daemon starts with its files in the lab's folder.
pub fn launch(lab: &Lab, name: &str, config: &str) -> Launch {
    Launch::in_folder(env!("CARGO_BIN_EXE_injector"), lab.folder(), name, config).unwrap()
}

/// A daemon; stopped with this value.
pub struct Daemon(injector_lab::Daemon);

impl Deref for Daemon {
    type Target = injector_lab::Daemon;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Daemon {
    /// Starts one and waits until it serves.
    pub fn start(lab: &Lab, name: &str, config: &str) -> Self {
        Self::launched(launch(lab, name, config))
    }

    /// The same in other surroundings.
    pub fn launched(launch: Launch) -> Self {
        Self(launch.start().unwrap_or_else(|error| panic!("{error}")))
    }

    /// What one says that does not start.
    pub fn refusal(lab: &Lab, name: &str, config: &str) -> (i32, String) {
        match launch(lab, name, config).start() {
            Err(NotStarted::Ended { status, log }) => (status.code().unwrap(), log),
            other => panic!("it must not start: {other:?}"),
        }
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        self.0.kill();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Ends it in the normal way.
    pub fn stop(mut self) -> String {
        self.terminate();
        self.log()
    }

    /// The command line against this daemon, as JSON.
    pub fn cli(&self, words: &str) -> Value {
        self.0.cli().json(words)
    }

    /// Every event of its timeline.
    pub fn timeline(&self) -> Vec<Value> {
        self.0.cli().lines("timeline")
    }

    /// How long a heal takes on a connection that is there: the start of a process may take long on a busy machine.
    pub fn heal_by_hand(&self, name: &str) -> Duration {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("DELETE /v1/partitions/{name} HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n");
        let asked = Instant::now();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        asked.elapsed()
    }

    /// Heals within a bound, and no later than this machine itself was late.
    #[track_caller]
    pub fn heals_within(&self, bound: Duration, name: &str) {
        let (took, late) = injector_lab::late_during(|| self.heal_by_hand(name));
        assert!(took < bound + late, "{name} was healed after {took:?}, on a machine that was {late:?} late");
    }

    /// Heals a partition, and what has ended too, every 10 ms for as long as something holds.
    pub fn heal_over_and_over(&self, name: &str, mut goes_on: impl FnMut(&Heals) -> bool) -> Heals {
        const PAUSE: Duration = Duration::from_millis(10);
        let mut heals = Heals::default();
        while goes_on(&heals) {
            heals.slowest = heals.slowest.max(self.heal_by_hand(name));
            heals.count += 1;
            let begun = Instant::now();
            std::thread::sleep(PAUSE);
            heals.late = heals.late.max(begun.elapsed().saturating_sub(PAUSE));
        }
        heals
    }

    /// When an interface was last attached, by the timeline.
    pub fn attached_at(&self) -> injector_core::clock::MonoNs {
        let events = self.timeline();
        let attached = events
            .iter()
            .filter(|event| event["kind"] == "interface")
            .rfind(|event| event["what"].as_str().unwrap().starts_with("attached"))
            .unwrap_or_else(|| panic!("never attached: {events:?}"));
        injector_core::clock::MonoNs(attached["at_ns"].as_u64().unwrap())
    }

    /// What `status` says of one interface.
    pub fn attachment(&self, netns: &str, name: &str) -> Value {
        let status = self.cli("status");
        let all = status["attachments"].as_array().unwrap();
        let found = all.iter().find(|found| found["interface"] == name && found["netns"] == netns);
        found.unwrap_or_else(|| panic!("{name} in {netns} is not in {all:?}")).clone()
    }

    /// The same of one in the daemon's own namespace.
    pub fn attachment_here(&self, name: &str) -> Value {
        let status = self.cli("status");
        let all = status["attachments"].as_array().unwrap();
        let found = all.iter().find(|found| found["interface"] == name && found["netns"].is_null());
        found.unwrap_or_else(|| panic!("{name} is not in {all:?}")).clone()
    }

    /// Waits until an interface has a hook, or has none.
    pub fn wait_hook(&self, netns: &str, name: &str, hook: Option<&str>) -> Value {
        until(&format!("{name} in {netns} has the hook {hook:?}; {}", self.log()), || {
            let found = self.attachment(netns, name);
            (found["hook"].as_str() == hook).then_some(found)
        })
    }
}

/// Statistics of repeated heals.
#[derive(Debug, Default)]
pub struct Heals {
    pub count: usize,
    slowest: Duration,
    /// How late the pauses between them ended, at worst: a heal may be as late.
    late: Duration,
}

impl Heals {
    /// Asserts that no heal exceeded the bound by more than this machine was late.
    #[track_caller]
    pub fn assert_within(&self, bound: Duration) {
        println!("{self:?}");
        assert!(self.count > 0 && self.slowest < bound + self.late, "{self:?}");
    }
}

/// The warnings of a view, but not that hooks were not read in time.
pub fn warnings(view: &Value) -> Vec<&Value> {
    let all = view["warnings"].as_array().unwrap_or_else(|| panic!("no warnings: {view}"));
    let is_excused = |warning: &&Value| warning["text"].as_str().is_some_and(injector_lab::is_late_reading);
    all.iter().filter(|warning| !is_excused(warning)).collect()
}

/// The filters on one side of an interface's clsact qdisc, as `tc` shows them.
pub fn filters(netns: &str, name: &str) -> String {
    ok("tc", &format!("-n {netns} filter show dev {name} ingress"))
        + &ok("tc", &format!("-n {netns} filter show dev {name} egress"))
}

/// How many filters of ours are among them.
pub fn ours(filters: &str) -> usize {
    filters.lines().filter(|line| line.contains("injector_")).count()
}

pub fn qdiscs(netns: &str, name: &str) -> String {
    ok("tc", &format!("-n {netns} qdisc show dev {name}"))
}

/// Someone else's filter: a classic program that lets everything pass.
pub fn add_foreign_filter(netns: &str, name: &str, side: &str) {
    let output = Command::new("tc")
        .args(["-n", netns, "filter", "add", "dev", name, side, "pref", "7", "protocol", "all"])
        .args(["bpf", "bytecode", "1,6 0 0 4294967295,", "classid", "1:1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.id()
    }

    /// A `DELETE` by raw HTTP, which takes no process: its status.
    pub fn delete(&self, path: &str) -> u16 {
        use std::io::{Read as _, Write as _};
        use std::os::unix::net::UnixStream;
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        write!(stream, "DELETE {path} HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}
