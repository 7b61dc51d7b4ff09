//! Kernels with `PREEMPT_RT`: the daemon and `doctor` say that verdicts and stamps are not reliable there. Needs root;
//! `cargo xtask vm --kernel rt netns_realtime` runs it on such a kernel.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::process::Command;

use injector_lab::needs;
use serde_json::Value;
use support::{Daemon, Lab};

/// What the kernel says of itself, of which there is nothing to read on others.
fn is_realtime() -> bool {
    std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1")
}

#[test]
#[needs(root, every_kernel)]
fn a_kernel_that_preempts_programs_is_named_by_the_start_and_by_doctor() {
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &format!("{}interfaces: auto\n", lab.peers()));
    let is_realtime = is_realtime();
    println!("PREEMPT_RT: {is_realtime}");
    let is_named = || daemon.log().contains("this kernel has PREEMPT_RT");
    if is_realtime {
        injector_lab::until("the log names it", || is_named().then_some(()));
    }
    assert_eq!(is_named(), is_realtime, "{}", daemon.log());

    let doctor = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["doctor", "--json", "--socket"])
        .arg(daemon.socket())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let preemption = checks.iter().find(|check| check["what"] == "preemption").unwrap();
    assert_eq!(preemption["verdict"] != "fine", is_realtime, "{preemption}");
    if is_realtime {
        assert_eq!(doctor.status.code(), Some(1), "{report}");
        assert!(preemption["remedy"].as_str().unwrap().contains("without PREEMPT_RT"), "{preemption}");
    }
}
