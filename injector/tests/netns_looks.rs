//! Looks into namespaces that panic: whatever waits for one gets an answer, and everything is looked at again. Needs root.
//!
//! What panics is the example `struck`: the injector with a striker (see `injector/src/fault.rs`).
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::path::Path;

use injector_lab::{Launch, Place, needs};
use support::{Daemon, Lab, until};

/// A daemon that panics once, the first time that it passes a step.
fn struck_at(step: &str, lab: &Lab, config: &str) -> Daemon {
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/struck");
    let mut launch = Launch::in_folder(program, lab.folder(), "d", config).unwrap();
    launch.command().env("INJECTOR_FAULT", format!("{step}#1=panic"));
    launch.command().env("INJECTOR_FAULT_LOG", lab.folder().join("faults"));
    Daemon::launched(launch)
}

fn wait_until_struck(lab: &Lab) {
    until("it is struck", || {
        let passed = std::fs::read_to_string(lab.folder().join("faults")).unwrap_or_default();
        passed.contains(" struck\n").then_some(())
    });
}

#[test]
#[needs(root, example = "struck")]
fn interfaces_are_listed_again_after_a_panic() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = format!("{}interfaces: [{{ name: eth0, netns: {n1} }}]\n", lab.peers());
    let daemon = struck_at("links/read", &lab, &config);
    wait_until_struck(&lab);
    let before = daemon.attachment(&n1, "eth0")["hook"].clone();
    assert!(before.is_string(), "{before}");
    support::ip(&format!("-n {n1} link delete eth0"));
    daemon.wait_hook(&n1, "eth0", None);
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", before.as_str());
}

#[test]
#[needs(root, example = "struck")]
fn hooks_are_read_again_after_a_panic() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let peers = lab.peers();
    let config = format!("{peers}interfaces:\n{}", lab.interface("n1", Place::OwnNic, "clsact"));
    let daemon = struck_at("hooks/ask", &lab, &config);
    wait_until_struck(&lab);
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    // From here on only the watch can notice.
    support::ok("tc", &format!("-n {n1} qdisc delete dev eth0 clsact"));
    until("the loss is noticed", || {
        daemon.log().contains("another process detached our program").then_some(())
    });
    daemon.wait_hook(&n1, "eth0", Some("clsact"));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

#[test]
#[needs(root, example = "struck")]
fn a_namespace_is_attached_to_whose_cleaning_panicked() {
    let mut lab = Lab::switched(2);
    let (n2, config) = (lab.netns("n2"), format!("{}interfaces: auto\n", lab.peers()));
    lab.delete("n2");
    let daemon = struck_at("clean/begin", &lab, &config);
    lab.add("n2");
    lab.join("n2");
    wait_until_struck(&lab);
    until("n2 is attached to", || {
        let status = daemon.cli("status");
        let mut found = status["attachments"].as_array().unwrap().iter();
        found.any(|found| found["netns"] == n2.as_str() && found["hook"].is_string()).then_some(())
    });
    daemon.cli("partition isolate n2 --name p --for 60s --allow-uncovered");
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}
