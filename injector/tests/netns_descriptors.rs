//! A low limit on open files is raised, or named with its remedy; a low limit on the stack does not matter. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use injector_lab::Launch;
use injector_lab::needs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Daemon, Lab, until};

const SYS_RESOURCE: libc::c_ulong = 24;
/// Enough to begin, too few for the interfaces.
const FEW: u64 = 128;

/// Many interfaces in two namespaces, too few in each to share programs, and a config that names them.
fn lab_with(interfaces: usize) -> (Lab, String) {
    let lab = Lab::switched(2);
    let mut list = Vec::new();
    for netns in [lab.netns("n1"), lab.netns("n2")] {
        list.push(format!("{{ name: eth0, netns: {netns} }}"));
        for at in 1..interfaces / 2 {
            support::ip(&format!("-n {netns} link add d{at} type veth peer name e{at}"));
            support::ip(&format!("-n {netns} link set d{at} up"));
            list.push(format!("{{ name: d{at}, netns: {netns} }}"));
        }
    }
    let config = format!("{}interfaces: [{}]\n", lab.peers(), list.join(", "));
    (lab, config)
}

/// Whether the daemon may raise its limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Raise {
    Possible,
    Barred,
}

fn launch(lab: &Lab, config: &str, raise: Raise) -> Launch {
    let mut launch = support::launch(lab, "d", config);
    // SAFETY: system calls alone between fork and exec.
    unsafe {
        launch.command().pre_exec(move || {
            let maximum =
                if raise == Raise::Barred { Some(FEW) } else { getrlimit(Resource::Nofile).maximum };
            setrlimit(Resource::Nofile, Rlimit { current: Some(FEW), maximum })?;
            if raise == Raise::Barred && libc::prctl(libc::PR_CAPBSET_DROP, SYS_RESOURCE, 0, 0, 0) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    launch
}

#[test]
#[needs(root)]
fn a_low_limit_is_raised_for_the_daemon_and_not_for_its_commands() {
    let (lab, config) = lab_with(8);
    let said = lab.folder().join("said");
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let endpoint = format!(
        "endpoints: [{{ name: e, role: advisory, probe: {{ exec: {{ command: [sh, -c, \"ulimit -n > {}\"] }}, \
         interval: 100ms }} }}]\n",
        said.display()
    );
    let launch = launch(&lab, &format!("{config}{endpoint}"), Raise::Possible);
    let mut daemon = Daemon::launched(launch);
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count() as u64;
    println!("{open} descriptors for 8 interfaces");
    assert!(open > FEW, "{open} descriptors: the limit was never in the way");
    let limit = until("the command says its limit", || {
        std::fs::read_to_string(&said).ok().filter(|text| text.ends_with('\n'))
    });
    assert_eq!(limit.trim(), FEW.to_string());
    assert!(daemon.terminate().success());
}

#[test]
#[needs(root)]
fn a_limit_that_can_not_be_raised_is_named_with_its_remedy() {
    let (lab, config) = lab_with(8);
    let (status, said) = launch(&lab, &config, Raise::Barred).run_to_end();
    assert!(!status.success(), "{said}");
    for part in ["open files", &format!("{FEW} are allowed"), "LimitNOFILE=", "ulimit -n"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

/// A stack that is too small for any command, in bytes.
const SMALL_STACK: u64 = 128 * 1024;

#[test]
#[needs(root)]
fn a_small_limit_on_the_stack_keeps_no_daemon_from_starting() {
    let (lab, config) = lab_with(4);
    let mut launch = support::launch(&lab, "d", &config);
    // SAFETY: one system call between fork and exec.
    unsafe {
        launch.command().pre_exec(|| {
            // Not even the hard limit leaves more.
            let limit = Rlimit { current: Some(SMALL_STACK), maximum: Some(SMALL_STACK) };
            Ok(setrlimit(Resource::Stack, limit)?)
        });
    }
    let mut daemon = Daemon::launched(launch);
    daemon.cli("partition isolate n1 --name p --for 60s --allow-uncovered");
    assert!(!lab.reaches(1, 2));
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    // The daemon's task is on another thread, and this one only waits for it.
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    assert_eq!(rights, "0".repeat(16), "{status}");
    daemon.cli("heal p");
    assert!(daemon.terminate().success());
}
