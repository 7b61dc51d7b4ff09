//! What the daemon's threads may do after the start, and that everything still works with that. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use injector_lab::{PATIENCE, needs};
use serde_json::Value;
use support::{Daemon, Lab, until};

const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
/// For the programs, their maps and their hooks; and for packet sockets.
const BASE: u64 = BPF | PERFMON | NET_ADMIN | NET_RAW;

/// An account that every host has, and that owns nothing.
const NOBODY: u32 = 65534;

/// The threads of a daemon: their names, and one of their sets of capabilities.
fn threads(daemon: &Daemon, set: &str) -> Vec<(String, u64)> {
    let pid = daemon.cli("status")["pid"].as_u64().unwrap();
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread that ends meanwhile has no rights.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let fields: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, of)| (name, of.trim()))
            .collect();
        found.push((fields["Name"].to_owned(), u64::from_str_radix(fields[set], 16).unwrap()));
    }
    found.sort();
    found
}

/// Asserts what each thread of a daemon has, in those sets that it could use or regain something from.
fn assert_rights(daemon: &Daemon, expected: &[(&str, u64)]) {
    let expected: Vec<(String, u64)> =
        expected.iter().map(|(name, set)| (name.chars().take(15).collect(), *set)).collect();
    // One that is just being started has the supervisor's name or rights for a moment: nobody keeps them.
    let end = Instant::now() + PATIENCE;
    for set in ["CapEff", "CapPrm"] {
        loop {
            let mut found = threads(daemon, set);
            // Further threads for each peer's home that is seen, and for probes and commands in a namespace, with no more rights
            // than the daemon's task.
            found.dedup();
            let task = expected.iter().find(|(name, _)| name == "injector").unwrap().1;
            found.retain(|thread| {
                let (name, rights) = thread;
                let is_further =
                    ["netns ", "probes "].iter().any(|of| name.starts_with(of)) || name == "commands";
                expected.contains(thread) || !is_further || *rights != task
            });
            if found == expected {
                break;
            }
            assert!(Instant::now() < end, "{set}: {found:x?}, not {expected:x?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for set in ["CapInh", "CapAmb"] {
        assert!(threads(daemon, set).iter().all(|(_, set)| *set == 0), "{set}: {:x?}", threads(daemon, set));
    }
}

/// Waits until a status shows the others on an interface, and why its hook is as it is, as wanted. On a busy machine
/// it shows hooks as they were a moment before.
fn wait_others(attachment: impl Fn() -> Value, holds: impl Fn(&str, &str) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = attachment();
        if holds(&shown["others"].to_string(), shown["why"].as_str().unwrap()) {
            return;
        }
        assert!(Instant::now() < end, "{shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[needs(root)]
fn with_namespaces_one_thread_keeps_the_right_to_enter_and_everything_still_works() {
    let mut lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    // On its way to the socket the daemon passes a directory that is closed to root without all of its rights.
    let private = lab.folder().join("private");
    std::fs::create_dir_all(private.join("inner")).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Healthy only if it runs as that user, and with none of the daemon's rights.
    let check = "test $(id -u) = 65534 && grep -q 'CapPrm:.0000000000000000$' /proc/self/status";
    let config = format!(
        "{}interfaces: [{{ name: eth0, netns: {n1} }}]\nendpoints: [{{ name: as-user, netns: {n1}, probe: \
         {{ exec: {{ command: [sh, -c, \"{check}\"], user: nobody }}, interval: 100ms }} }}]\n",
        lab.peers()
    );
    let daemon = Daemon::start(&lab, "private/inner/d", &config);
    let mine = BASE | SETUID | SETGID | KILL;
    let expected = [
        ("injector", mine),
        ("lease", 0),
        ("log", 0),
        ("netns", mine | SYS_ADMIN),
        (&*format!("netns {n1}"), mine),
        ("slot-aging", 0),
    ];
    assert_rights(&daemon, &expected);

    until("the command runs as its user", || {
        (daemon.cli("status")["endpoints"][0]["healthy"] == true).then_some(())
    });
    assert!(lab.reaches_soon(1, 2));
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
    daemon.cli("partition isolate n1 --name q --for 60s");

    support::ip(&format!("-n {n1} link delete eth0"));
    daemon.wait_hook(&n1, "eth0", None);
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", Some("tcx"));
    assert!(!lab.reaches(1, 2), "the cut holds on the new interface");

    lab.delete("n1");
    daemon.wait_hook(&n1, "eth0", None);
    lab.add("n1");
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", Some("tcx"));
    assert!(!lab.reaches(1, 2), "the cut holds in the new namespace");
    assert_rights(&daemon, &expected);

    // Another daemon's programs are others', and are put before ours.
    let second = Daemon::start(&lab, "second", &config.replace("as-user", "other"));
    wait_others(
        || daemon.attachment(&n1, "eth0"),
        |others, why| {
            others.contains("ingress injector_in of the injector with pid ") && why.contains("runs before us")
        },
    );
    let socket = daemon.socket().to_owned();
    assert!(socket.exists());
    let log = daemon.stop();
    assert!(!socket.exists(), "{log}");
    // The first one left nothing.
    wait_others(|| second.attachment(&n1, "eth0"), |others, _| others == "[]");
    assert!(lab.reaches_soon(1, 2));
}

#[test]
#[needs(root)]
fn without_namespaces_no_thread_keeps_the_right_to_enter_one() {
    let lab = Lab::switched(2);
    let config = format!("{}interfaces: [{{ name: eth0 }}]\n", lab.peers());
    let [daemon, second] =
        ["d", "second"].map(|name| lab.within("n1", || Daemon::start(&lab, name, &config)));
    let expected = [
        ("injector", BASE),
        ("lease", 0),
        ("log", 0),
        ("netns", BASE),
        ("netns the daemon's own", BASE),
        ("slot-aging", 0),
    ];
    assert_rights(&daemon, &expected);
    for (thread, bound) in threads(&daemon, "CapBnd") {
        let expected = if thread == "log" { 0 } else { BASE };
        assert_eq!(bound, expected, "{thread} could regain {bound:x}");
    }

    wait_others(
        || daemon.attachment_here("eth0"),
        |others, why| others.contains("ingress program (id ") && why.contains("runs before us"),
    );
    // It was there first.
    wait_others(
        || second.attachment_here("eth0"),
        |others, _| others.contains("ingress injector_in of the injector with pid "),
    );
    second.stop();
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    support::ip(&format!("-n {} link delete eth0", lab.netns("n1")));
    until("it is gone", || daemon.attachment_here("eth0")["hook"].is_null().then_some(()));
    lab.join("n1");
    until("it is back", || (daemon.attachment_here("eth0")["hook"] == "tcx").then_some(()));
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

/// A process of another user; gone when dropped.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[needs(root)]
fn the_namespace_of_another_users_process_is_still_found() {
    let mut lab = Lab::switched(2);
    let child = lab.within("n1", || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &NOBODY.to_string(), "--clear-groups", "--pdeathsig", "TERM"]);
        command.args(["sleep", "600"]);
        command.spawn().unwrap()
    });
    let stranger = Stranger(child);
    let pid = stranger.0.id();
    until("it has become another user's", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        (status.contains(&format!("Uid:\t{NOBODY}")) && status.contains("Name:\tsleep")).then_some(())
    });
    let config = format!("{}interfaces: [{{ name: eth0, netns: {{ pid: {pid} }} }}]\n", lab.peers());
    let daemon = Daemon::start(&lab, "d", &config);
    let name = format!("netns pid {pid}");
    let supervisor = BASE | SYS_ADMIN | SYS_PTRACE;
    assert_rights(
        &daemon,
        &[
            ("injector", BASE),
            ("lease", 0),
            ("log", 0),
            ("netns", supervisor),
            (&name, BASE),
            ("slot-aging", 0),
        ],
    );

    // Mounts change: the daemon looks which namespace the process is in.
    lab.add("x");
    let mark = daemon.cli("mark after");
    assert!(mark["id"].is_number(), "{mark}");
    assert_eq!(daemon.attachment(&format!("pid {pid}"), "eth0")["hook"], "tcx", "{}", daemon.log());
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    drop(stranger);
    lab.add("y");
    let gone = daemon.wait_hook(&format!("pid {pid}"), "eth0", None);
    assert!(gone["why"].as_str().unwrap().contains("namespace is gone"), "{gone}");
}
