//! A low limit on open files is raised, or named with its remedy. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use support::{Lab, is_root, until};

const SYS_RESOURCE: libc::c_ulong = 24;
/// Enough to begin, too few for the interfaces.
const FEW: u64 = 200;

/// Many interfaces in one namespace, and a config that names them.
fn lab_with(interfaces: usize) -> (Lab, String) {
    let lab = Lab::switched(1);
    let n1 = lab.name("n1");
    let mut list = vec![format!("{{ name: eth0, netns: {n1} }}")];
    for at in 1..interfaces {
        support::ip(&format!("-n {n1} link add d{at} type veth peer name e{at}"));
        support::ip(&format!("-n {n1} link set d{at} up"));
        list.push(format!("{{ name: d{at}, netns: {n1} }}"));
    }
    let config = format!("{}interfaces: [{}]\n", lab.peers(1), list.join(", "));
    (lab, config)
}

/// Whether the daemon may raise its limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Raise {
    Possible,
    Barred,
}

fn command(lab: &Lab, config: &str, raise: Raise) -> Command {
    let base = lab.directory.path();
    std::fs::write(base.join("lab.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(["start", "--config"]).arg(base.join("lab.yaml")).arg("--socket").arg(base.join("d.sock"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: system calls alone between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let maximum =
                if raise == Raise::Barred { Some(FEW) } else { getrlimit(Resource::Nofile).maximum };
            setrlimit(Resource::Nofile, Rlimit { current: Some(FEW), maximum })?;
            if raise == Raise::Barred && libc::prctl(libc::PR_CAPBSET_DROP, SYS_RESOURCE, 0, 0, 0) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command
}

#[test]
fn a_low_limit_is_raised_for_the_daemon_and_not_for_its_commands() {
    if !is_root() {
        return;
    }
    let (lab, config) = lab_with(24);
    let said = lab.directory.path().join("said");
    std::fs::set_permissions(lab.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let endpoint = format!(
        "endpoints: [{{ name: e, role: advisory, probe: {{ exec: {{ command: [sh, -c, \"ulimit -n > {}\"] }}, \
         interval: 100ms }} }}]\n",
        said.display()
    );
    let log = lab.directory.path().join("log");
    let mut child = command(&lab, &format!("{config}{endpoint}"), Raise::Possible)
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    until("it serves", || {
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "{text}");
        text.contains(" ready ").then_some(())
    });
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count() as u64;
    println!("{open} descriptors for 24 interfaces");
    assert!(open > FEW, "{open} descriptors: the limit was never in the way");
    let limit = until("the command says its limit", || {
        std::fs::read_to_string(&said).ok().filter(|text| text.ends_with('\n'))
    });
    assert_eq!(limit.trim(), FEW.to_string());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_limit_that_can_not_be_raised_is_named_with_its_remedy() {
    if !is_root() {
        return;
    }
    let (lab, config) = lab_with(24);
    let output = command(&lab, &config, Raise::Barred).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    for part in ["open files", &format!("{FEW} are allowed"), "LimitNOFILE=", "ulimit -n"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
