//! The daemon with as few rights as it needs: without root, by three capabilities; and as the systemd unit in `packaging`
//! runs it. Needs root, to give it up.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use injector_lab::{SWITCH, needs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::kernel::tc;
use support::{Lab, filters, qdiscs, run, until};

/// An unprivileged user's and group's id.
const NOBODY: u32 = 65534;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging/injector.service")
}

/// The value of a setting of the unit.
fn setting(name: &str) -> String {
    let text = std::fs::read_to_string(unit()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("the unit has no {name}=")).to_owned()
}

/// A daemon that another program starts, such as `setpriv`; ended when dropped.
struct Daemon {
    child: Child,
    folder: PathBuf,
}

impl Daemon {
    /// Starts it in a node's namespace, with a config for the interfaces there, through a program with arguments.
    fn start(lab: &Lab, node: &str, config: &str, through: &[String]) -> Self {
        let folder = lab.folder().join("d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(lab.folder(), Permissions::from_mode(0o755)).unwrap();
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        std::fs::write(folder.join("lab.yaml"), format!("socket: {{ group: nogroup }}\n{config}")).unwrap();
        // Where another user may run it.
        let binary = folder.join("injector");
        injector_lab::copy_program(Path::new(env!("CARGO_BIN_EXE_injector")), &binary);
        let log = File::create(folder.join("log")).unwrap();
        let mut command = Command::new(&through[0]);
        command.args(&through[1..]).arg(&binary).args(["start", "--config"]).arg(folder.join("lab.yaml"));
        command.arg("--socket").arg(folder.join("api.sock")).stdin(Stdio::null()).stdout(Stdio::null());
        let child = lab.within(node, || command.stderr(log).spawn().unwrap());
        let mut daemon = Self { child, folder };
        until("the daemon serves", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", daemon.log());
            daemon.log().contains(" ready ").then_some(())
        });
        daemon
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    fn cli(&self, words: &str) -> Value {
        let socket = self.folder.join("api.sock");
        let output =
            run(env!("CARGO_BIN_EXE_injector"), &format!("--json --socket {} {words}", socket.display()));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}\n{}", self.log()))
    }

    /// The daemon itself, also behind a tracer.
    fn pid(&self) -> Pid {
        let below = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap();
        let below = below.split_whitespace().next().and_then(|pid| pid.parse().ok());
        below.and_then(Pid::from_raw).unwrap_or_else(|| Pid::from_child(&self.child))
    }

    fn end(mut self) -> String {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let _ = kill_process(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// `setpriv` for a user without root, with some capabilities and no others.
fn with(capabilities: &[&str]) -> Vec<String> {
    let list: Vec<String> = capabilities.iter().map(|name| format!("+{name}")).collect();
    let (list, user) = (list.join(","), NOBODY.to_string());
    let words = [
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        "--pdeathsig",
        "TERM",
        "--no-new-privs",
        "--inh-caps",
        &format!("-all,{list}"),
        "--ambient-caps",
        &format!("-all,{list}"),
        "--bounding-set",
        &format!("-all,{list}"),
    ];
    words.map(ToOwned::to_owned).to_vec()
}

#[test]
#[needs(root, program = "setpriv")]
fn without_root_three_capabilities_suffice_for_the_daemons_own_namespace() {
    for hook in ["tc", "clsact", "xdp"] {
        let lab = Lab::switched(2);
        let config = format!("{}interfaces: [{{ name: eth0, hook: {hook} }}]\n", lab.peers());
        let daemon = Daemon::start(&lab, "n1", &config, &with(&["bpf", "net_admin", "perfmon"]));
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
        // CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
        let held = format!("CapEff:\t{:016x}", 1_u64 << 12 | 1 << 38 | 1 << 39);
        assert!(status.contains(&held) && status.contains(&format!("Uid:\t{NOBODY}")), "{status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let expected = match hook {
            "tc" => tc().to_owned(),
            "xdp" => format!("xdp-native+{}", tc()),
            other => other.to_owned(),
        };
        assert_eq!(daemon.cli("status")["attachments"][0]["hook"], expected, "{hook}");
        assert!(lab.reaches_soon(1, 2), "{hook}");
        daemon.cli("partition isolate n1 --name p --for 60s");
        assert!(!lab.reaches(1, 2) && !lab.reaches(2, 1), "{hook}");
        // It comes back under what it was started with.
        support::ip(&format!("-n {} link delete eth0", lab.netns("n1")));
        until("it is lost", || daemon.cli("status")["attachments"][0]["hook"].is_null().then_some(()));
        lab.join("n1");
        until("it is attached again", || {
            (daemon.cli("status")["attachments"][0]["hook"] == expected).then_some(())
        });
        assert!(!lab.reaches(1, 2), "{hook}: the cut holds on the new interface");
        daemon.cli("heal p");
        assert!(lab.reaches_soon(1, 2) && lab.reaches_soon(2, 1), "{hook}");
        daemon.end();
        let n1 = lab.netns("n1");
        assert_eq!(filters(&n1, "eth0"), "", "{hook}");
        assert!(!qdiscs(&n1, "eth0").contains("clsact"), "{hook}");
    }
}

#[test]
#[needs(root, program = "setpriv")]
fn what_the_start_lacks_is_named() {
    let lab = Lab::switched(1);
    let path = lab.folder().join("lab.yaml");
    std::fs::write(&path, format!("{}interfaces: [{{ name: eth0 }}]\n", lab.peers())).unwrap();
    let through = with(&["net_admin"]);
    let output = Command::new(&through[0])
        .args(&through[1..])
        .arg(env!("CARGO_BIN_EXE_injector"))
        .args(["start", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Where the test's binary can't be run by others, setpriv says so.
    if !said.contains("Permission denied") {
        assert!(said.contains("CAP_BPF, CAP_PERFMON"), "{said}");
    }
}

#[test]
#[needs(program = "systemd-analyze")]
fn the_units_exposure_is_under_three() {
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=30"])
        .arg(unit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Overall exposure level"), "{said}");
}

/// The system calls of a set, by `systemd-analyze`.
fn calls_of(set: &str, into: &mut BTreeSet<String>) {
    let output =
        Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", set]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line {
            other if other == set => {}
            nested if nested.starts_with('@') => calls_of(nested, into),
            call => drop(into.insert(call.to_owned())),
        }
    }
}

#[test]
#[needs(root, tcx, program = "setpriv", program = "strace", program = "systemd-analyze")]
fn the_units_capabilities_and_system_calls_suffice() {
    let mut allowed = BTreeSet::new();
    for word in setting("SystemCallFilter").split(' ') {
        if word.starts_with('@') {
            calls_of(word, &mut allowed);
        } else {
            allowed.insert(word.to_owned());
        }
    }
    assert!(allowed.len() > 200, "{allowed:?}");
    let lab = Lab::switched(2);
    // In a namespace with a name, so that it is entered.
    let config = format!("{}interfaces: [{{ name: eth0, netns: {} }}]\n", lab.peers(), lab.netns("n1"));
    let trace = lab.folder().join("trace");
    let given = setting("CapabilityBoundingSet").to_lowercase().replace("cap_", "");
    let given: Vec<&str> = given.split(' ').collect();
    let mut through = ["strace", "-f", "-qq", "-e", "signal=none", "-o"].map(ToOwned::to_owned).to_vec();
    through.push(trace.display().to_string());
    through.extend(with(&given));
    let daemon = Daemon::start(&lab, SWITCH, &config, &through);
    assert!(lab.reaches_soon(1, 2));
    daemon.cli("partition isolate n1 --name p --for 60s --verify active");
    assert!(!lab.reaches(1, 2));
    support::ip(&format!("-n {} link delete eth0", lab.netns("n1")));
    until("it is lost", || daemon.cli("status")["attachments"][0]["hook"].is_null().then_some(()));
    lab.join("n1");
    until("it is attached again", || (daemon.cli("status")["attachments"][0]["hook"] == "tcx").then_some(()));
    daemon.cli("heal p");
    kill_process(daemon.pid(), Signal::HUP).unwrap();
    until("it has read its config", || daemon.log().contains("SIGHUP").then_some(()));
    daemon.end();
    let lines = std::fs::read_to_string(&trace).unwrap();
    let call = |line: &str| {
        let rest = line.split_once(' ')?.1.trim_start();
        let name = rest.strip_prefix("<... ").unwrap_or(rest);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        (name[end..].starts_with('(') || rest.starts_with("<... ")).then(|| name[..end].to_owned())
    };
    // What setpriv does before it becomes the daemon is the service manager's part.
    let begin = lines.find("injector\", [").map_or(0, |at| lines[..at].rfind('\n').unwrap_or(0));
    let called: BTreeSet<String> = lines[begin..].lines().filter_map(call).collect();
    assert!(called.contains("bpf") && called.contains("setns"), "{called:?}");
    let refused: Vec<&String> = called.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit's filter refuses {refused:?}");
}
