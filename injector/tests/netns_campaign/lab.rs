//! Three quorum nodes and a client in namespaces of their own, with a daemon; gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use injector_core::api::{ProbeView, RecoveryRecord};
use injector_core::run::dir::TrialProbes;
use rustix::process::{Pid, Signal, kill_process};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

pub struct Lab {
    prefix: String,
    nodes: Vec<Child>,
    daemon: Option<Child>,
    folder: tempfile::TempDir,
}

/// What differs between labs.
pub struct Setup<'a> {
    /// Flags of every node.
    pub faults: &'a [&'a str],
    pub interval: &'a str,
    pub observe: &'a str,
    /// Whether the nodes join by IPv6, of which the config says nothing.
    pub joined_by_v6: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { faults: &[], interval: "10ms", observe: "2s", joined_by_v6: false }
    }
}

impl Lab {
    pub fn up(setup: &Setup<'_>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self {
            prefix: format!("inj{}-{number}", std::process::id()),
            nodes: Vec::new(),
            daemon: None,
            folder: tempfile::tempdir().unwrap(),
        };
        lab.network();
        for (at, node) in NODES.iter().enumerate() {
            let address = |host: usize| {
                if setup.joined_by_v6 { format!("fd99::{host}") } else { format!("10.99.0.{host}") }
            };
            let others = (1..=3).filter(|peer| *peer != at + 1);
            let peers: Vec<String> = others.map(|peer| format!("n{peer}={}", address(peer))).collect();
            let quorum = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/quorum");
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &lab.netns(node)]).arg(quorum);
            command.args(["--node", node, "--seed", "11", "--peers", &peers.join(",")]);
            let v4 = format!("10.99.0.{}", at + 1);
            let listen = if setup.joined_by_v6 { format!("{v4},{}", address(at + 1)) } else { v4 };
            command.args(["--listen", &listen]).args(setup.faults);
            lab.nodes.push(quiet(&mut command).spawn().expect("the quorum example is built with the tests"));
        }
        std::fs::write(lab.path("lab.yaml"), lab.config(setup)).unwrap();
        let mut start = lab.injector(&["start", "--config"]);
        let log = std::fs::File::create(lab.path("daemon.log")).unwrap();
        start.arg(lab.path("lab.yaml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        lab.daemon = Some(start.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(30);
        while !lab.run(&["status"]).status.success() {
            assert!(Instant::now() < end, "no daemon: {}", lab.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        lab
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    fn netns(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    fn network(&self) {
        let switch = self.netns("sw");
        let inside = |netns: &str, words: &str| {
            ip(&["-netns", netns].into_iter().chain(words.split(' ')).collect::<Vec<_>>());
        };
        for of in ["sw", "client"].iter().chain(&NODES) {
            ip(&["netns", "add", &self.netns(of)]);
        }
        inside(&switch, "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        inside(&switch, "link set br0 up");
        for (at, of) in NODES.iter().chain(&["client"]).enumerate() {
            let netns = self.netns(of);
            inside(&switch, &format!("link add v-{of} type veth peer name eth0 netns {netns}"));
            inside(&switch, &format!("link set v-{of} master br0 up"));
            inside(&netns, "link set lo up");
            inside(&netns, &format!("address add 10.99.0.{}/24 dev eth0", at + 1));
            inside(&netns, &format!("address add fd99::{}/64 dev eth0 nodad", at + 1));
            inside(&netns, "link set eth0 up");
        }
    }

    fn config(&self, setup: &Setup<'_>) -> String {
        let interfaces =
            NODES.map(|node| format!("  - {{ name: eth0, netns: {} }}\n", self.netns(node))).concat();
        format!(
            r#"socket: {{ path: {socket}, group: root, mode: "0600" }}
peers:
  n1: {{ addresses: [10.99.0.1] }}
  n2: {{ addresses: [10.99.0.2] }}
  n3: {{ addresses: [10.99.0.3] }}
interfaces:
{interfaces}endpoints:
  - name: ingress
    peers: [n1, n2, n3]
    probe: {{ http: {{ url: "http://{{address}}:8080/" }}, interval: {interval}, timeout: 2s }}
    wire: {{ port: 8080, success: http }}
    netns: {client}
ready: {{ consecutive: 5, observe: {observe}, observe_max: 30s, tolerate: 0s }}
deadline: 20s
"#,
            socket = self.path("injector.sock").display(),
            interval = setup.interval,
            observe = setup.observe,
            client = self.netns("client"),
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn injector(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command.args(words).env_remove("INJECTOR_HOST").env("INJECTOR_SOCKET", self.path("injector.sock"));
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.injector(words).output().unwrap()
    }

    /// The command of a campaign in the folder `run`.
    pub fn measuring(&self, words: &[&str]) -> Command {
        let mut command = self.injector(&["measure"]);
        command.args(words).args(["--quiet", "--out"]).arg(self.path("run"));
        command
    }

    /// Runs a campaign and answers its exit code and what it said.
    pub fn measure(&self, words: &[&str]) -> (i32, String) {
        let output = self.measuring(words).output().unwrap();
        let said = format!(
            "{}{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        (output.status.code().unwrap_or(-1), said)
    }

    /// Runs a campaign on a terminal, and answers its exit code and all that was drawn.
    pub fn measure_on_a_terminal(&self, words: &[&str]) -> (i32, String) {
        let mut command = self.injector(&["measure"]);
        command.args(words).arg("--out").arg(self.path("run"));
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        let words = words.join(std::ffi::OsStr::new("' '")).into_string().unwrap();
        let script = format!("stty columns 160; exec '{words}'");
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &script, "/dev/null"]).stdin(Stdio::null());
        terminal.env("TERM", "xterm").env("INJECTOR_SOCKET", self.path("injector.sock"));
        let output = terminal.output().expect("script comes with bsdutils");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The processor time that the nodes have used.
    pub fn cpu_of_nodes(&self) -> Duration {
        let ticks = |node: &Child| -> u64 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.id())).unwrap();
            // Fields are counted from behind the name, which may hold blanks.
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let total: u64 = self.nodes.iter().map(ticks).sum();
        Duration::from_millis(total * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// Every record of the campaign.
    pub fn records(&self) -> Vec<RecoveryRecord> {
        let text = std::fs::read_to_string(self.path("run/trials.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The probes of one endpoint in one trial.
    pub fn probes(&self, trial: u64, endpoint: &str) -> Vec<ProbeView> {
        let text = std::fs::read_to_string(self.path("run/probes.jsonl")).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<TrialProbes>(line).unwrap());
        let mut probes = lines.find(|line| line.trial == trial).unwrap().probes;
        probes.retain(|probe| probe.endpoint == endpoint);
        probes
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = kill_process(Pid::from_child(daemon), Signal::TERM);
            let _ = daemon.wait();
        }
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
        for of in ["sw", "client"].iter().chain(&NODES) {
            let _ = Command::new("ip").args(["netns", "delete", &self.netns(of)]).output();
        }
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
