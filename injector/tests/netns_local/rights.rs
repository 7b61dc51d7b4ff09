//! What the daemon lacks on a host is said, and nothing is cut that it could not name.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use injector_lab::needs;

use super::support::{self, Daemon};
use super::{config, machine, refusal, talkers};

const SYS_PTRACE: libc::c_ulong = 19;
const SYS_ADMIN: libc::c_ulong = 21;

/// A daemon on the machine itself that never has a right.
fn launch(lab: &injector_lab::Lab, name: &str, right: libc::c_ulong) -> injector_lab::Launch {
    let peers = "peers:\n  a: { listens: [7001] }\n  b: { listens: [7002] }\n  c: { listens: [7003] }\ninterfaces: auto\n";
    let mut launch = support::launch(lab, name, peers);
    // SAFETY: a system call alone between fork and exec.
    unsafe {
        launch.command().pre_exec(move || {
            if libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    launch
}

#[test]
#[needs(root, example = "talker")]
fn without_the_right_to_look_at_processes_nothing_is_cut() {
    let lab = machine();
    let _talkers = talkers(&lab);
    let daemon = lab.within("m", || Daemon::launched(launch(&lab, "blind", SYS_PTRACE)));
    let said = refusal(&daemon, "isolate a", "p").unwrap_err();
    for words in ["can't be looked at, so that those of a peer may be among them", "CAP_SYS_PTRACE"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
#[needs(root, example = "talker")]
fn without_the_right_to_attach_or_in_a_pid_namespace_it_does_not_start() {
    let lab = machine();
    let started = lab.within("m", || launch(&lab, "bare", SYS_ADMIN).start());
    let Err(injector_lab::NotStarted::Ended { log, .. }) = started else { panic!("{started:?}") };
    assert!(log.contains("CAP_SYS_ADMIN"), "{log}");
    let path = lab.folder().join("inner.yaml");
    std::fs::write(&path, config(&lab)).unwrap();
    let mut inner = Command::new("unshare");
    inner.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_injector"), "start", "--config"]);
    inner.arg(&path).arg("--socket").arg(lab.folder().join("inner.sock"));
    let output = inner.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    for words in ["the daemon is in a pid namespace of its own", "--pid=host"] {
        assert!(said.contains(words), "{said}");
    }
}
