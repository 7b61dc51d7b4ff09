//! Namespaces with names of this process, daemons as processes, and the command line as their only reader.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "kernel.rs"]
pub mod kernel;
#[path = "privilege.rs"]
mod privilege;

/// How long anything may take on a loaded machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Whether this process may make namespaces; says so if not.
pub fn is_root() -> bool {
    privilege::can_run(std::thread::current().name().unwrap_or("a test of interfaces"))
}

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

/// Waits until something holds.
pub fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Some namespaces, gone with this value.
pub struct Lab {
    prefix: String,
    /// Of this lab alone: others may be open at the same time.
    net: String,
    made: Vec<String>,
    pub directory: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("inj{}-{count}", std::process::id());
        let net = format!("10.{}.{}", 64 + std::process::id() % 128, count);
        Self { prefix, net, made: Vec::new(), directory: tempfile::tempdir().unwrap() }
    }

    /// The full name of a namespace.
    pub fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    pub fn add(&mut self, of: &str) -> String {
        let name = self.name(of);
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        self.made.push(name.clone());
        name
    }

    pub fn delete(&mut self, of: &str) {
        let name = self.name(of);
        ip(&format!("netns delete {name}"));
        self.made.retain(|made| *made != name);
    }

    /// A switch `s` and the nodes, each with `eth0` at the lab's .i and a port `v<i>` at the switch.
    pub fn switched(nodes: usize) -> Self {
        let mut lab = Self::new();
        let switch = lab.add("s");
        ip(&format!("-n {switch} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {switch} link set br0 up"));
        for node in 1..=nodes {
            lab.add(&format!("n{node}"));
            lab.plug(node);
        }
        lab
    }

    /// Joins a node to the switch.
    pub fn plug(&self, node: usize) {
        let (switch, name) = (self.name("s"), self.name(&format!("n{node}")));
        // The other end of a pair goes with its namespace, which lives until its last process has left.
        until("the port is free", || {
            (!run("ip", &format!("-n {switch} link show v{node}")).status.success()).then_some(())
        });
        ip(&format!("-n {switch} link add v{node} type veth peer name eth0 netns {name}"));
        ip(&format!("-n {switch} link set v{node} master br0 up"));
        ip(&format!("-n {name} address add {}/24 dev eth0", self.address(node)));
        ip(&format!("-n {name} link set eth0 up"));
    }

    /// A node's address.
    pub fn address(&self, node: usize) -> String {
        format!("{}.{node}", self.net)
    }

    /// The peers' part of a config.
    pub fn peers(&self, nodes: usize) -> String {
        let peers: Vec<String> =
            (1..=nodes).map(|node| format!("n{node}: {{ addresses: [{}] }}", self.address(node))).collect();
        format!("peers: {{ {} }}\n", peers.join(", "))
    }

    /// Runs a job on a thread of its own inside a namespace; what it starts is inside too.
    pub fn within<T: Send>(&self, of: &str, job: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name(of))).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))
                    .unwrap();
                job()
            });
            inside.join().unwrap()
        })
    }

    /// Whether a datagram from one node reaches another, within a second.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.delivered(from, to, 1) == 1
    }

    /// Whether datagrams reach another node within 10 s. An address that was asked for during a cut is asked for
    /// again once a second only, so the first datagrams after a heal may wait in vain.
    pub fn reaches_soon(&self, from: usize, to: usize) -> bool {
        (0..10).any(|_| self.reaches(from, to))
    }

    /// How many of some datagrams from one node reach another.
    pub fn delivered(&self, from: usize, to: usize, count: usize) -> usize {
        let socket = |node: usize| {
            let path = format!("/run/netns/{}", self.name(&format!("n{node}")));
            let address = self.address(node);
            std::thread::spawn(move || {
                let file = std::fs::File::open(path).unwrap();
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))
                    .unwrap();
                // A process that another test is just starting may hold the last one's descriptors for a moment.
                until("the port is free", || UdpSocket::bind((&*address, 7000)).ok())
            })
            .join()
            .unwrap()
        };
        let (sender, receiver) = (socket(from), socket(to));
        receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut got = 0;
        let mut buffer = [0; 16];
        for sent in 0..count {
            sender.send_to(b"x", (self.address(to), 7000)).unwrap();
            // Before the receiver's buffer is full.
            if sent % 64 == 63 {
                receiver.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                while receiver.recv(&mut buffer).is_ok() {
                    got += 1;
                }
            }
        }
        receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        while got < count && receiver.recv(&mut buffer).is_ok() {
            got += 1;
        }
        got
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.made {
            let _ = run("ip", &format!("netns delete {name}"));
        }
    }
}

/// A daemon; stopped with this value.
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn spawn(directory: &Path, name: &str, config: &str) -> Self {
        let config_path = directory.join(format!("{name}.yaml"));
        let socket = directory.join(format!("{name}.sock"));
        let log = directory.join(format!("{name}.log"));
        std::fs::write(&config_path, config).unwrap();
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_injector"))
            .args(["start", "--config"])
            .arg(&config_path)
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, socket, log }
    }

    /// Starts one and waits until it serves.
    pub fn start(lab: &Lab, name: &str, config: &str) -> Self {
        let mut daemon = Self::spawn(lab.directory.path(), name, config);
        until("the daemon serves", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended ({status}): {}", daemon.log());
            }
            std::fs::read_to_string(&daemon.log).unwrap().contains(" ready ").then_some(())
        });
        daemon
    }

    /// What one says that does not start.
    pub fn refusal(lab: &Lab, name: &str, config: &str) -> (i32, String) {
        let mut daemon = Self::spawn(lab.directory.path(), name, config);
        let status = until("the daemon ends", || daemon.child.try_wait().unwrap());
        (status.code().unwrap(), daemon.log())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Ends it in the normal way.
    pub fn stop(mut self) -> String {
        self.terminate();
        self.log()
    }

    fn terminate(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            self.child.wait().unwrap();
        }
    }

    /// The command line against this daemon, as JSON.
    pub fn cli(&self, words: &str) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_injector"))
            .arg("--socket")
            .arg(&self.socket)
            .arg("--json")
            .args(words.split_whitespace())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{words}: {error}: {output:?}\n{}", self.log());
        })
    }

    /// When an interface was last attached, by the timeline.
    pub fn attached_at(&self) -> injector_core::clock::MonoNs {
        let output = Command::new(env!("CARGO_BIN_EXE_injector"))
            .arg("--socket")
            .arg(&self.socket)
            .args(["--json", "timeline"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let attached = events
            .filter(|event| event["kind"] == "interface")
            .rfind(|event| event["what"].as_str().unwrap().starts_with("attached"))
            .unwrap_or_else(|| panic!("never attached: {text}"));
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

impl Drop for Daemon {
    fn drop(&mut self) {
        self.terminate();
        if std::thread::panicking() {
            eprintln!("The daemon's log:\n{}", self.log());
        }
    }
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
