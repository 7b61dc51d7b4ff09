//! Three quorum nodes and a client in namespaces of their own, with a daemon; gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use injector_core::api::{ProbeView, RecoveryRecord};
use injector_core::run::dir::TrialProbes;
use injector_lab::{AttachPoint, CLIENT, Daemon, Launch, PATIENCE, Process, Quorum};

pub struct Lab {
    // The daemon ends before its peers.
    daemon: Daemon,
    lab: injector_lab::Lab,
}

/// What differs between labs.
pub struct Setup<'a> {
    /// Flags of every node.
    pub faults: &'a [&'a str],
    pub interval: &'a str,
    pub observe: &'a str,
    /// Whether the nodes join by IPv6, which is not in the config.
    pub joined_by_v6: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { faults: &[], interval: "10ms", observe: "1s", joined_by_v6: false }
    }
}

impl Lab {
    pub fn up(setup: &Setup<'_>) -> Self {
        let mut lab = injector_lab::Lab::builder("c").peers(3).client().up().unwrap();
        let injector = Path::new(env!("CARGO_BIN_EXE_injector"));
        let program = injector.with_file_name("examples/quorum");
        let join = usize::from(setup.joined_by_v6);
        let quorum = Quorum { program: &program, seed: 11, faults: setup.faults, join, listen: join + 1 };
        quorum.start(&mut lab).unwrap();
        lab.wait_until("the nodes agree who leads", PATIENCE, |lab| Quorum::agree(lab, CLIENT)).unwrap();
        let launch = Launch::in_folder(injector, lab.folder(), "injector", &config(&lab, setup)).unwrap();
        Self { daemon: launch.start().unwrap_or_else(|error| panic!("{error}")), lab }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.lab.folder().join(name)
    }

    pub fn injector(&self, words: &[&str]) -> Command {
        let mut command = self.daemon.cli().command();
        command.args(words);
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
            self.daemon.log()
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
        terminal.env("TERM", "xterm").env("INJECTOR_SOCKET", self.daemon.socket());
        let output = terminal.output().expect("script comes with bsdutils");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The processor time that the nodes have used.
    pub fn cpu_of_nodes(&self) -> Duration {
        self.lab.processes().iter().map(Process::processor_time).sum()
    }

    /// Has the daemon read its config again, changed.
    pub fn reload(&self, from: &str, to: &str) {
        let status = || -> serde_json::Value {
            serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
        };
        let file = self.path("injector.yaml");
        let config = std::fs::read_to_string(&file).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(&file, config.replace(from, to)).unwrap();
        let before = status();
        let pid =
            rustix::process::Pid::from_raw(before["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        while status()["config_number"] == before["config_number"] {
            assert!(std::time::Instant::now() < end, "SIGHUP came to nothing: {}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The namespace of a peer or of the client.
    pub fn netns(&self, of: &str) -> String {
        self.lab.netns(of)
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

/// The peers by their IPv4 addresses alone.
fn config(lab: &injector_lab::Lab, setup: &Setup<'_>) -> String {
    let interfaces =
        lab.peer_names().into_iter().map(|peer| lab.interface(&peer, AttachPoint::OwnNic, "auto"));
    format!(
        r#"peers:
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
        interfaces = interfaces.collect::<String>(),
        interval = setup.interval,
        observe = setup.observe,
        client = lab.netns(CLIENT),
    )
}
