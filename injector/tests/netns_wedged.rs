//! What an operator can still do when a daemon is stopped and its config is gone; and how two daemons on one hook name each
//! other. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/stopped_process.rs"]
mod stopped_process;
#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use injector_lab::needs;
use rustix::process::{Pid, Signal, kill_process};
use stopped_process::StoppedProcess;
use support::{Daemon, Lab, run, until};

const INJECTOR: &str = env!("CARGO_BIN_EXE_injector");

/// A process that is killed is not gone at once.
#[test]
#[needs(root)]
fn a_start_right_after_a_kill_waits_until_the_killed_daemon_is_gone() {
    let lab = Lab::switched(2);
    let config = lab.config(injector_lab::AttachPoint::OwnNic, "auto");
    for round in 0..10 {
        let daemon = Daemon::start(&lab, "d", &config);
        daemon.cli("partition isolate n1 --name p --for 60s");
        kill_process(Pid::from_raw(daemon.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
        let next = Daemon::start(&lab, "d", &config);
        assert!(lab.reaches_soon(1, 2), "round {round}");
        next.cli("partition isolate n1 --name q --for 60s");
        assert!(!lab.reaches(1, 2), "round {round}");
        next.stop();
        assert!(lab.reaches_soon(1, 2), "round {round}");
    }
}

#[test]
#[needs(root)]
fn a_heal_of_everything_is_answered_for_a_daemon_that_is_stopped_and_has_no_config() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config =
        |hook: &str| format!("{}interfaces: [{{ name: eth0, netns: {n1}, hook: {hook} }}]\n", lab.peers());
    let daemon = Daemon::start(&lab, "d", &config("tc"));
    let pid = daemon.pid();
    assert!(lab.reaches_soon(1, 2));
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2), "the positive control");
    std::fs::remove_file(lab.folder().join("d.yaml")).unwrap();

    let stopped = StoppedProcess::stop(Pid::from_raw(pid.cast_signed()).unwrap());
    let heal = format!("--socket {} heal --all", daemon.socket().display());
    let output = run(INJECTOR, &heal);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(&format!("pid {pid} does not answer; its lease ended")), "{said}");
    assert!(lab.reaches_soon(1, 2), "it is true");
    let output = run(INJECTOR, "doctor --clean");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("the daemon with pid {pid} is stopped; its lease ended")), "{said}");
    drop(stopped);
    // It comes back, and cuts nothing.
    assert!(lab.reaches_soon(1, 2));
    let record = daemon.cli("wait p --timeout 20s");
    assert_eq!(record["outcome"], "harness_failed", "{record}");

    // A second daemon on the same hook is named by its process, and names the first one.
    let second = Daemon::start(&lab, "second", &config("tc"));
    // On a busy machine a status shows hooks as they were a moment before.
    for (daemon, other) in [(&daemon, second.pid()), (&second, pid)] {
        let named = format!("injector_in of the injector with pid {other} ");
        until(&format!("it shows {named}"), || {
            daemon.attachment(&n1, "eth0")["others"].to_string().contains(&named).then_some(())
        });
    }
}
