//! Where the commands of a page are run: a machine as its reader has one, in network namespaces, with `injector` in PATH.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use injector_core::measure::STARVED_REMEDY;
use injector_lab::{CLIENT, CLIENT_HOST, Lab, PATIENCE, Quorum, SWITCH, until};

use rustix::process::{Pid, Signal, kill_process};

use crate::hosts::{self, Hosts};
use crate::machine::{self, Machine};
use crate::node;
use crate::sshd::Sshd;
use crate::terminal::Terminal;
use crate::{page, podman, release};

/// The socket that pages name.
const USUAL_SOCKET: &str = "/run/injector/injector.sock";
/// The longest that a block may take.
const LIMIT: &str = "240";
/// How often a script is run if the machine is too busy for what it measures.
const ATTEMPTS: u32 = 3;
/// What commands exit with and write where a machine was too busy: for its probes, for the daemon's lease, for the frames of the active check, for a
/// first answer of an endpoint, for hosts that confirm, or for a leader to stay one.
const BUSY: [(&[i32], &str); 8] = [
    (&[2, 125], STARVED_REMEDY),
    (&[2, 125], "its prober was gone, or this host held it up"),
    (&[2, 125], "the daemon was held up, and the lease ended it"),
    (&[2, 125], "in time during the cut"),
    (&[2, 125], "in time before the cut"),
    (&[1], "PREVENTS  endpoint "),
    (&[69], "the cut had to be confirmed before it begins"),
    (&[2, 125], "role @leader can't be resolved: "),
];
/// The namespace of a machine that is all there is.
const MACHINE: &str = "machine";
/// Where `ip netns` keeps names: the lab's own folder, which nobody else sees.
const NAMES: &str = "/run/netns";

/// A machine. What runs on it ends with this value.
pub struct PageLab {
    backing: Backing,
    /// The namespace that is the machine's own.
    own: &'static str,
    /// What is appended to a file of this name.
    more: Option<(&'static str, &'static str)>,
    /// On each node, if scripts of the page reach it by ssh; the page's addresses are then the lab's.
    sshd: Option<Sshd>,
}

/// What the machine is in.
pub enum Backing {
    /// Namespaces.
    Lab(Lab),
    /// The host of a Podman of the test's.
    Podman(Machine),
    /// A client of hosts.
    Hosts(Hosts),
}

impl PageLab {
    /// A host with a bridge, and on it three network namespaces, `n1` to `n3`, with the nodes of a small cluster.
    pub fn cluster() -> Self {
        let mut lab = Lab::builder("docs").peers(3).up().unwrap();
        lab.give(SWITCH, "br0", CLIENT_HOST);
        let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples").join("quorum");
        let quorum = Quorum { program: &program, seed: 1, faults: &[], join: 0, listen: 2 };
        quorum.start(&mut lab).unwrap();
        lab.wait_until("the nodes agree who leads", PATIENCE, |lab| Quorum::agree(lab, SWITCH)).unwrap();
        // The names that pages use, without a prefix.
        for peer in lab.peer_names() {
            lab.hide(&peer);
            let name = format!("{NAMES}/{peer}");
            fs::write(&name, "").unwrap();
            lab.run(&peer, "mount", &["--bind", "/proc/self/ns/net", &name]);
        }
        lab.hide(SWITCH);
        Self::of(Backing::Lab(lab), SWITCH)
    }

    /// A machine with nothing but a loopback device.
    pub fn one_machine() -> Self {
        let mut lab = Lab::builder("docs").up().unwrap();
        lab.add(MACHINE);
        Self::of(Backing::Lab(lab), MACHINE)
    }

    /// A machine with Podman; `None` if it can't run a container here, which is logged as a skip of the test.
    pub fn with_podman(test: &str) -> Option<Self> {
        let machine = Machine::with_etcd(test)?;
        let program = machine.program();
        let page_lab = Self::of(Backing::Podman(machine), podman::HOST);
        page_lab.program("bin/podman", &program);
        Some(page_lab)
    }

    /// The same with three containers, in the folder that a release's tarball unpacks to.
    pub fn with_release(test: &str) -> Option<Self> {
        let machine = Machine::with_containers(test)?;
        let program = format!("{}\n{}", machine::WITH_BASE, machine.program());
        let page_lab = Self::of(Backing::Podman(machine), podman::HOST);
        page_lab.program("bin/podman", &program);
        release::unpack(&page_lab.folder());
        Some(page_lab)
    }

    /// A node of Kubernetes, as far as it shows in its network.
    pub fn kubernetes_node() -> Self {
        Self::of(Backing::Lab(node::up()), node::OWN)
    }

    /// With an sshd on each peer, and a test that fails if n1 hears another node or the others do not hear each other.
    pub fn with_ssh(mut self) -> Self {
        let mut sshd = Sshd::new();
        for peer in self.lab().peer_names() {
            sshd.start(self.lab(), &peer, &self.socket());
        }
        self.program("bin/ssh", &hosts::ssh(self.lab(), &sshd));
        self.sshd = Some(sshd);
        let [second, third] = [2, 3].map(|host| self.lab().ipv4(host));
        // A node without a quorum answers too: by 503.
        let ask = "curl --silent --output /dev/null --max-time";
        self.program(
            "my-test",
            &format!(
                "set -e\nssh n2 {ask} 10 http://{third}:8080/\n! ssh n1 {ask} 1 http://{second}:8080/\necho n1 is cut off"
            ),
        );
        self
    }

    /// A machine that reaches hosts by ssh, each with a node and a daemon, whose config is that of a page.
    pub fn with_hosts(page: &str) -> Self {
        let hosts = Hosts::up(page);
        let program = hosts.ssh();
        let page_lab = Self::of(Backing::Hosts(hosts), CLIENT);
        page_lab.program("bin/ssh", &program);
        page_lab
    }

    fn of(backing: Backing, own: &'static str) -> Self {
        let page_lab = Self { backing, own, more: None, sshd: None };
        let programs = page_lab.folder().join("bin");
        fs::create_dir_all(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_injector"), programs.join("injector")).unwrap();
        // The test is root already.
        page_lab.program("bin/sudo", "exec \"$@\"");
        page_lab.program("my-test", "exec sleep 1");
        page_lab
    }

    fn lab(&self) -> &Lab {
        match &self.backing {
            Backing::Lab(lab) => lab,
            Backing::Podman(machine) => &machine.podman.lab,
            Backing::Hosts(hosts) => &hosts.lab,
        }
    }

    /// The folder in which commands are run.
    fn folder(&self) -> PathBuf {
        self.lab().folder().join("work")
    }

    fn socket(&self) -> PathBuf {
        self.lab().folder().join("run/injector.sock")
    }

    /// Copies a folder of the repository to where commands look for it.
    pub fn copy(&self, folder: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let to = self.folder().join(folder);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-r").args([from, to]).status();
        assert!(copied.unwrap().success());
    }

    /// Appends lines to a config of the page.
    pub fn with_more(mut self, file: &'static str, lines: &'static str) -> Self {
        self.more = Some((file, lines));
        self
    }

    /// Writes a file that commands take.
    pub fn write(&self, file: &str, text: &str) {
        let more = self.more.filter(|(name, _)| *name == file).map_or("", |(_, lines)| lines);
        fs::write(self.folder().join(file), format!("{text}{more}")).unwrap();
    }

    /// Appends those lines to a file that a command of the page has written.
    pub fn append_more(&self) {
        if let Some((file, lines)) = self.more {
            let mut written = fs::OpenOptions::new().append(true).open(self.folder().join(file)).unwrap();
            written.write_all(lines.as_bytes()).unwrap();
        }
    }

    fn program(&self, file: &str, script: &str) {
        injector_lab::write_program(&self.folder().join(file), &format!("#!/bin/sh\n{script}\n"));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.folder().join("bin").display()));
        command.env_remove("INJECTOR_SOCKET").env_remove("INJECTOR_HOST");
        // A host's daemon has the usual socket.
        if !matches!(self.backing, Backing::Hosts(_)) {
            command.env("INJECTOR_SOCKET", self.socket());
        }
        command.current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    /// Runs a script on the machine, up to its first failure.
    pub fn sh(&self, script: &str) -> Output {
        let mut script = script.replace(USUAL_SOCKET, self.socket().to_str().unwrap());
        if self.sshd.is_some() {
            let first = self.lab().ipv4(1).to_string();
            script = script.replace(hosts::NETWORK, first.strip_suffix('1').unwrap());
        }
        let mut command = self.command("timeout");
        command.args(["--kill-after=5", LIMIT, "sh", "-euc", &script]);
        self.lab().within(self.own, || command.output().unwrap())
    }

    /// Runs a script that is to exit with this code. While other tests run, the machine may be too busy to send probes in time; the
    /// daemon then refuses to judge the recovery, say, and the script is run again, as a reader would do.
    pub fn attempt(&self, script: &str, exits: i32) -> Output {
        for attempt in 1.. {
            let output = self.sh(script);
            let written = [output.stdout.as_slice(), &output.stderr].concat();
            let written = String::from_utf8_lossy(&written);
            let code = output.status.code();
            let was_busy = code.is_some_and(|code| {
                BUSY.iter().any(|(codes, says)| codes.contains(&code) && written.contains(says))
            });
            if code == Some(exits) || !was_busy || attempt == ATTEMPTS {
                return output;
            }
            println!("in attempt {attempt} the machine was too busy: {script}\n{written}");
            self.undo(script);
        }
        unreachable!("the last attempt returns")
    }

    /// Takes away what would be in the way of a script that is run once more.
    fn undo(&self, script: &str) {
        // It may have failed before.
        if script.contains("injector start") && self.socket().exists() {
            self.expect("injector stop");
        }
        if script.contains("injector init") {
            let _ = fs::remove_file(self.folder().join("lab.yaml"));
        }
        let words: Vec<&str> = script.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "--out") {
            let made = self.folder().join(pair[1]);
            let _ = if made.is_dir() { fs::remove_dir_all(made) } else { fs::remove_file(made) };
        }
    }

    /// Makes a campaign that must succeed.
    fn campaign(&self, out: &str) {
        let script = format!(
            "injector measure random-node --hold 1s --trials 2 --seed 1 --cooldown 1s --quiet --out {out}"
        );
        let output = self.attempt(&script, 0);
        let written = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{script}:\n{}", String::from_utf8_lossy(&written));
    }

    /// Runs a script that must succeed, and returns what it prints.
    pub fn expect(&self, script: &str) -> String {
        let output = self.sh(script);
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}: {}\n{said}{errors}", output.status);
        said.into_owned()
    }

    /// A command of the injector on a terminal.
    pub fn terminal(&self, word: &str) -> Terminal {
        let mut command = self.command("injector");
        command.arg(word).env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        self.lab().within(self.own, || Terminal::start(&mut command))
    }

    /// A script on a terminal.
    pub fn script_on_terminal(&self, script: &str) -> Terminal {
        let mut command = self.command("timeout");
        command.args(["--foreground", "--kill-after=5", LIMIT, "sh", "-euc", script]).env("TERM", "xterm");
        self.lab().within(self.own, || Terminal::start(&mut command))
    }

    /// With a daemon whose config is `lab.yaml`, and whose endpoints are healthy.
    pub fn with_daemon(self) -> Self {
        self.write(
            "lab.yaml",
            &format!(
                "{}interfaces: auto\n\
                 endpoints:\n  \
                 - name: ingress\n    \
                   peers: [n1, n2, n3]\n    \
                   probe: {{ http: {{ url: \"http://{{address}}:8080/\" }} }}\n    \
                   wire: {{ port: 8080, success: http }}\n\
                 roles:\n  leader: {{ http: {{ url: \"http://{{address}}:8080/\", pointer: /leader }} }}\n\
                 ready: {{ consecutive: 3, observe: 1s }}\n",
                self.lab().peers()
            ),
        );
        self.expect("injector start --config lab.yaml --detach");
        until("every endpoint is healthy", || {
            let status: serde_json::Value =
                serde_json::from_str(&self.expect("injector status --json")).unwrap();
            let mut endpoints = status["endpoints"].as_array().unwrap().iter();
            endpoints.all(|endpoint| endpoint["healthy"] == true).then_some(())
        });
        self
    }

    /// Whether there is a daemon with the config `lab.yaml`: the page's, or one from the beginning.
    pub fn has_daemon(&self) -> bool {
        self.socket().exists() && self.folder().join("lab.yaml").exists()
    }

    /// Has recoveries watched for a second from now on. Before a block that leaves a record open: until that is closed, the
    /// daemon does not take another config.
    pub fn observe_briefly(&self) {
        let config = self.folder().join("lab.yaml");
        let text = fs::read_to_string(&config).unwrap();
        if !text.contains("\nready:") {
            fs::write(&config, format!("{text}\nready: {{ consecutive: 3, observe: 1s }}\n")).unwrap();
            self.reload();
        }
    }

    /// Makes ready for blocks in their short form: recoveries are watched for a second, the page's campaign files are
    /// short too, and there is a run to compare with.
    pub fn shorten(&self, page: &str) {
        for (file, text) in page::files(page) {
            self.write(&file, &page::shortened(&text));
        }
        self.observe_briefly();
        let compares = page::blocks(page).iter().any(|block| block.text.contains(" runs/b "));
        if compares && !self.folder().join("runs/b").exists() {
            self.campaign("runs/b");
        }
    }

    /// Has the daemon read its config again, until it takes it: it does not while a record is open.
    fn reload(&self) {
        let outcomes = || -> Vec<serde_json::Value> {
            let timeline = self.expect("injector timeline --json");
            let events =
                timeline.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            events
                .filter(|event| event["kind"] == "config")
                .map(|mut event| event["outcome"].take())
                .collect()
        };
        let status: serde_json::Value = serde_json::from_str(&self.expect("injector status --json")).unwrap();
        let pid = status["pid"].as_i64().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).unwrap();
        until("the config is in force", || {
            let before = outcomes().len();
            kill_process(pid, Signal::HUP).unwrap();
            let outcome = until("the config is read again", || outcomes().into_iter().nth(before));
            (outcome == "in_force").then_some(())
        });
    }

    /// With a small campaign in each of some run directories.
    pub fn with_campaigns(self, outs: &[&str]) -> Self {
        for out in outs {
            self.campaign(out);
        }
        self
    }
}

impl PageLab {
    /// Ends what a page has started in the background and, where a block failed, has not ended itself.
    fn end_started(&self) {
        let is_list = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "pids");
        let files = fs::read_dir(self.folder()).into_iter().flatten().flatten().map(|entry| entry.path());
        let ids = files.filter(is_list).filter_map(|list| fs::read_to_string(list).ok());
        for id in ids.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()) {
            // Its id may be another's by now: only what was started here is in this folder.
            let is_ours = fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == self.folder());
            if let Some(id) = id.parse().ok().and_then(Pid::from_raw).filter(|_| is_ours) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }
}

impl Drop for PageLab {
    fn drop(&mut self) {
        // A page may have started a daemon that nobody waits for.
        if self.socket().exists() {
            let output = self.sh("injector stop");
            if !output.status.success() {
                eprintln!("the daemon continues: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        self.end_started();
    }
}
