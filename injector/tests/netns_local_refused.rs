//! Peers on this machine that can't be distinguished. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "netns_local/talker.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod talker;

use injector_lab::{Lab, needs};
use support::Daemon;
use talker::Talker;

/// What a refused partition says.
fn refusal(daemon: &Daemon, shape: &str) -> String {
    let words = format!("partition {shape} --name p --for 1s");
    let output = injector_lab::Daemon::cli(daemon).run(words.split(' '));
    assert!(!output.status.success(), "{shape} must be refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// No thread keeps more rights than peers on this machine take, and only the two that look at processes keep those that
/// this takes.
fn assert_rights(process: u32) {
    const BASE: u64 = 1 << 39 | 1 << 38 | 1 << 12 | 1 << 13;
    const SYS_ADMIN: u64 = 1 << 21;
    const LOOK: u64 = 1 << 19 | 1 << 2;
    let mut looking = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        // A thread that ends meanwhile has no rights.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let held = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        let held = u64::from_str_radix(held, 16).unwrap();
        assert_eq!(held & !(BASE | SYS_ADMIN | LOOK), 0, "{held:x}: {status}");
        looking += usize::from(held & LOOK != 0);
    }
    assert_eq!(looking, 2, "the supervisor, and the thread that looks");
}

#[test]
#[needs(root, example = "talker")]
fn what_can_not_be_told_apart_is_refused_with_the_reason() {
    let mut lab = Lab::builder("r").up().unwrap();
    lab.add("m");
    lab.add("other");
    let _both = Talker::start(&lab, "m", &["127.0.0.1:7001", "127.0.0.1:7002"]);
    let _alone = Talker::start(&lab, "m", &["127.0.0.1:7003"]);
    lab.ip("m", "link add wire type veth peer name far");
    let (m, other) = (lab.netns("m"), lab.netns("other"));
    let peers = [("a", 7001, &m), ("b", 7002, &m), ("c", 7003, &m), ("d", 7004, &m), ("e", 7001, &other)]
        .map(|(name, port, netns)| format!("  {name}: {{ listens: [{port}], netns: {netns} }}\n"))
        .concat();
    let config = format!(
        "peers:\n{peers}  f: {{ addresses: [192.0.2.7] }}\ninterfaces: [{{ name: wire, netns: {m} }}]\n"
    );
    let daemon = Daemon::start(&lab, "lab", &config);
    for (shape, why) in [
        ("links a:c", "(talker) belongs to a and b: what it sends can't be attributed to one peer"),
        ("links c:e", "both peers are on this machine, in different network namespaces"),
        ("links c:f", "c is known by its sockets on lo alone"),
        ("links c:world", "only what goes over lo is cut between c and everyone who is no peer"),
    ] {
        let said = refusal(&daemon, shape);
        assert!(said.contains(why), "{shape}: {said}");
    }
    assert_rights(daemon.id());
    let words = "partition links c:d --name q --for 1s --loss 30%";
    let cut = daemon.cli(words);
    assert!(support::warnings(&cut).is_empty(), "loss is rolled once on lo: {cut}");
    let (status, log) = Daemon::refusal(
        &lab,
        "gone",
        &format!(
            "peers:\n  a: {{ pid: 4194303, netns: {m} }}\n  b: {{ listens: [7003], netns: {m} }}\ninterfaces: auto\n"
        ),
    );
    assert!(status != 0 && log.contains("peer a: there is no process 4194303"), "{status}: {log}");
}
