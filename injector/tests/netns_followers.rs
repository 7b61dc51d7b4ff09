//! What the daemon follows for as long as it runs: if a part of that panics, or can't begin, no fact that is out of date is believed.
//! Needs root.
//!
//! What panics is the example `fault_injected` (see `injector/src/fault.rs`).
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::path::Path;

use injector_lab::http::{Request, over_unix};
use injector_lab::{AttachPoint, Launch, needs};
use serde_json::Value;
use support::{Daemon, Lab, until};

/// A daemon with a fault at a point, as in `follow/news#2=panic`.
fn injected_at(point: &str, lab: &Lab, config: &str) -> Daemon {
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/fault_injected");
    let mut launch = Launch::in_folder(program, lab.folder(), "d", config).unwrap();
    launch.command().env("INJECTOR_FAULT", point);
    launch.command().env("INJECTOR_FAULT_LOG", lab.folder().join("faults"));
    Daemon::launched(launch)
}

/// How often a daemon has passed a step.
fn passed(lab: &Lab, step: &str) -> u32 {
    let passed = std::fs::read_to_string(lab.folder().join("faults")).unwrap_or_default();
    let count = |line: &str| line.strip_prefix(step)?.split_whitespace().next()?.parse().ok();
    passed.lines().filter_map(count).max().unwrap_or_default()
}

/// A request of a client that does not mind that the daemon has ended.
fn send(daemon: &Daemon, method: &str, path: &str) {
    let json = br#"{"shape": {"isolate": ["n2"]}, "for": "60s"}"#;
    let _ = over_unix(daemon.socket(), &Request { method, path, json });
}

/// Cuts, has a step panic by what `provoke` does, and sees the daemon heal and end.
fn assert_ends(step: &str, pass: u32, provoke: impl Fn(&Lab, &Daemon)) {
    let lab = Lab::switched(2);
    let endpoint = format!(
        "endpoints: [{{ name: e, peers: [n1], role: advisory, netns: {}, probe: {{ tcp: {{ target: \"{{address}}:9\" }}, interval: 50ms }} }}]\n",
        lab.netns("n2")
    );
    let config = lab.config(AttachPoint::OwnNic, "auto") + &endpoint;
    let mut daemon = injected_at(&format!("{step}#{pass}=panic"), &lab, &config);
    assert!(passed(&lab, step) < pass, "{step}: the fault came before it served");
    let (status, answer) =
        daemon.raw("PUT", "/v1/partitions/p", br#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#);
    assert_eq!(status, 200, "{step}: {answer}");
    assert!(!lab.reaches(1, 2), "{step}");
    let status = until(&format!("{step}: the daemon ends"), || {
        provoke(&lab, &daemon);
        daemon.ended()
    });
    let log = daemon.log();
    assert_eq!(status.code(), Some(2), "{step}: {log}");
    assert!(log.contains(&format!("fault injected at {step}")), "{step}: {log}");
    assert!(log.contains("panicked, which is a bug"), "{step}: {log}");
    assert!(lab.reaches_soon(1, 2), "{step}: it has healed");
}

#[test]
#[needs(root, example = "fault_injected", minutes = 1)]
fn a_daemon_that_follows_something_no_more_heals_and_ends() {
    let changes_link = |lab: &Lab, _: &Daemon| {
        for mtu in [3000, 4000] {
            lab.ip("n1", &format!("link set lo up mtu {mtu}"));
        }
    };
    // A cut that ends frees a slot.
    let frees_slot = |_: &Lab, daemon: &Daemon| {
        send(daemon, "PUT", "/v1/partitions/q");
        send(daemon, "DELETE", "/v1/partitions/q");
    };
    let connects = |_: &Lab, daemon: &Daemon| send(daemon, "GET", "/v1/status");
    let mounts = |lab: &Lab, _: &Daemon| {
        let at = lab.folder().join("mount");
        std::fs::create_dir_all(&at).unwrap();
        support::ok("mount", &format!("-t tmpfs none {}", at.display()));
        support::ok("umount", &at.display().to_string());
    };
    let adds_address = |lab: &Lab, _: &Daemon| {
        lab.ip("n1", "address replace 10.99.99.1/32 dev eth0");
        lab.ip("n1", "address delete 10.99.99.1/32 dev eth0");
    };
    let nothing = |_: &Lab, _: &Daemon| {};
    // Enough passes that even a daemon that takes seconds to start and to cut reaches them only after the cut was tested.
    assert_ends("lease/look", 25, nothing);
    assert_ends("probe/turn", 150, nothing);
    assert_ends("slot-aging/wait", 1, frees_slot);
    assert_ends("api/accept", 20, connects);
    assert_ends("follow/news", 300, changes_link);
    assert_ends("mounts/news", 5, mounts);
    assert_ends("survey/compute", 8, adds_address);
}

#[test]
#[needs(root, example = "fault_injected")]
fn a_namespace_that_can_not_be_followed_yet_is_followed_later() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = format!("{}interfaces: [{{ name: eth0, netns: {n1} }}]\n", lab.peers());
    // Which subscription is the one to the interfaces depends on what else is followed.
    let injected = |pass: u32| {
        let daemon = injected_at(&format!("follow/subscribe#{pass}=ENOMEM"), &lab, &config);
        until("the log says what is not followed", || {
            daemon.log().contains("changes are not noticed").then_some(())
        });
        daemon
    };
    let daemon = (1..10).map(injected).find(|daemon| daemon.log().contains("topic=Links")).unwrap();
    let before = daemon.attachment(&n1, "eth0")["hook"].clone();
    assert!(before.is_string(), "{before}");
    // At once: what happens while nothing is noticed is found afterwards.
    lab.ip("n1", "link delete eth0");
    daemon.wait_hook(&n1, "eth0", None);
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", before.as_str());
    let told =
        |event: &Value| event["what"].as_str().is_some_and(|what| what.contains("changes are not noticed"));
    assert!(daemon.timeline().iter().any(told), "{:?}", daemon.timeline());
}

/// Each socket of a subscription counts toward the daemon's descriptors.
#[test]
#[needs(root)]
fn addresses_are_subscribed_to_once_in_a_namespace_that_becomes_a_home() {
    const ROUTE: &str = "0";
    // The group of IPv4 addresses.
    const ADDRESSES: u32 = 1 << 4;
    let lab = Lab::switched(3);
    let n3 = lab.netns("n3");
    lab.ip("n3", "link delete eth0");
    let daemon = Daemon::start(&lab, "d", &format!("{}interfaces: auto\n", lab.peers()));
    let subscribed = || {
        let sockets = lab.within("n3", || std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap());
        let groups = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[1] == ROUTE).then(|| u32::from_str_radix(words[3], 16).unwrap())
        };
        sockets.lines().skip(1).filter_map(groups).filter(|groups| groups & ADDRESSES != 0).count()
    };
    until("an address that comes there would be noticed", || (subscribed() == 1).then_some(()));
    lab.join("n3");
    until("n3 is attached to", || {
        let status = daemon.cli("status");
        let mut found = status["attachments"].as_array().unwrap().iter();
        found.any(|found| found["netns"] == n3.as_str() && found["hook"].is_string()).then_some(())
    });
    assert_eq!(subscribed(), 1);
}
