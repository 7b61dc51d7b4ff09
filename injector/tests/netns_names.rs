//! What may be in the place of a namespace's name: a FIFO, a link to a file system that does not answer, or such a file system
//! in front of all names. The daemon's task waits at none of them. Needs root.

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "support/unanswering.rs"]
mod unanswering;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use injector_lab::{SWITCH, needs};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::{Daemon, Lab, until};
use unanswering::{HUNG, NamespaceFile, Unanswering};

const NAMES: &str = "/run/netns";
/// A turn of the daemon's task waits for others for 750 ms at most.
const BOUND: Duration = Duration::from_millis(1200);

/// A name beside the lab's, until this is dropped. Only this test and what it has started see it.
struct Named(PathBuf);

impl Named {
    fn link(name: &str, to: &Path) -> Self {
        let at = Path::new(NAMES).join(name);
        std::os::unix::fs::symlink(to, &at).unwrap();
        Self(at)
    }

    fn fifo(name: &str) -> Self {
        let at = Path::new(NAMES).join(name);
        mknodat(CWD, &at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Self(at)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Asserts that no heal of some seconds is held up while something else happens.
fn assert_heals_in_time(daemon: &Daemon, name: &str, time: Duration, mut meanwhile: impl FnMut()) {
    let end = Instant::now() + time;
    let heals = std::thread::scope(|scope| {
        let healer = scope.spawn(|| daemon.heal_over_and_over(name, |_| Instant::now() < end));
        while Instant::now() < end {
            meanwhile();
        }
        healer.join().unwrap()
    });
    heals.assert_within(BOUND);
}

/// A namespace that is made anew is found, and attached to.
fn assert_recreated_is_cut(lab: &mut Lab, daemon: &Daemon) {
    lab.delete("n3");
    lab.add("n3");
    lab.join("n3");
    // It has another MAC address, which n2 learns from it.
    assert!(lab.reaches_soon(3, 2));
    until("it can be cut", || {
        let (status, _) =
            daemon.raw("PUT", "/v1/partitions/again", br#"{"shape": {"isolate": ["n3"]}, "for": "60s"}"#);
        let is_cut = status == 200 && !lab.reaches(2, 3);
        daemon.raw("DELETE", "/v1/partitions", b"");
        is_cut.then_some(())
    });
    assert!(lab.reaches_soon(2, 3));
}

/// What `ip netns` users link into place, as for containers, may lead anywhere.
#[test]
#[needs(root)]
fn a_name_that_leads_to_a_file_system_that_does_not_answer_holds_up_nothing() {
    let mut lab = Lab::switched(3);
    let (n2, n3) = (lab.netns("n2"), lab.netns("n3"));
    let file = NamespaceFile::to(&lab, &lab.netns("n1"));
    let through = format!("through-{}", std::process::id());
    let _link = Named::link(&through, &file.path());
    let names =
        [through.as_str(), n2.as_str(), n3.as_str()].map(|netns| format!("{{ name: eth0, netns: {netns} }}"));
    let config = format!("{}interfaces: [{}]\n", lab.peers(), names.join(", "));
    let daemon = Daemon::start(&lab, "d", &config);
    daemon.cli("partition isolate n1 --name kept --for 60s");
    daemon.cli("partition links n2:n3 --name before --for 60s");
    daemon.cli("heal before");
    assert!(!lab.reaches(1, 2));

    // Once the port of the old one is gone: `ip link show` of what is there would itself wait at the name that hangs.
    lab.delete("n3");
    daemon.wait_hook(&n3, "eth0", None);
    until("the port is free", || (!lab.can(SWITCH, "link show p-n3")).then_some(()));
    let hung = Unanswering::before(&file.0);
    // The mounts have changed: the daemon looks at all names.
    lab.add("other");
    until("it is reported", || {
        let told = |event: &serde_json::Value| event["what"].as_str().is_some_and(|what| what.contains(HUNG));
        daemon.timeline().iter().any(told).then_some(())
    });
    lab.add("n3");
    lab.join("n3");
    daemon.wait_hook(&n3, "eth0", Some("tcx"));
    assert_heals_in_time(&daemon, "before", Duration::from_secs(4), || {
        lab.delete("other");
        lab.add("other");
    });
    assert!(!lab.reaches(1, 2), "the lease was kept");
    // What is attached there is attached, whatever its name leads to.
    assert_eq!(daemon.attachment(&through, "eth0")["hook"], "tcx");
    let log = daemon.log();
    assert!(!log.contains("the lease lapsed"), "{log}");
    assert_eq!(log.matches(HUNG).count(), 1, "once: {log}");
    let pid = daemon.cli("status")["pid"].as_u64().unwrap();
    // Another look is over at once.
    until("one thread waits, however often it was asked", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        (names.filter(|name| name.trim() == "netns name").count() == 1).then_some(())
    });

    drop(hung);
    until("it answers again", || {
        let told = |event: &serde_json::Value| event["what"] == "its file answers again";
        daemon.timeline().iter().any(told).then_some(())
    });
    daemon.cli("heal kept");
    assert!(lab.reaches_soon(1, 2));
}

/// `interfaces: auto` looks at all names, and opens what it finds.
#[test]
#[needs(root)]
fn a_fifo_among_the_names_holds_up_neither_the_start_nor_a_heal() {
    let mut lab = Lab::switched(3);
    let early = Named::fifo("early");
    let config = lab.peers() + "interfaces: auto\n";
    let daemon = Daemon::start(&lab, "d", &config);
    daemon.cli("partition links n2:n3 --name before --for 60s");
    assert!(!lab.reaches(2, 3));
    daemon.cli("heal before");
    daemon.cli("partition isolate n1 --name kept --for 60s");
    let late = Named::fifo("late");
    assert_heals_in_time(&daemon, "before", Duration::from_secs(4), || {
        // Each new name calls for a survey.
        lab.add("other");
        lab.delete("other");
    });
    assert!(!lab.reaches(1, 2), "the lease was kept");
    daemon.cli("heal kept");
    let log = daemon.log();
    assert!(!log.contains("does not answer"), "{log}");
    // `ip link show` itself would wait at them.
    drop((early, late));
    assert_recreated_is_cut(&mut lab, &daemon);
    drop(daemon);

    // As the name of the config, it is refused with what it is.
    let named = Named::fifo("pipe");
    let config = lab.peers() + "interfaces: [{ name: eth0, netns: pipe }]\n";
    let asked = Instant::now();
    let (status, said) = Daemon::refusal(&lab, "e", &config);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("network namespace pipe") && said.contains("it is no network namespace"), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(named);
}

#[test]
#[needs(root)]
fn names_on_a_file_system_that_does_not_answer_hold_up_nothing() {
    let mut lab = Lab::switched(3);
    let daemon = Daemon::start(&lab, "d", &(lab.peers() + "interfaces: auto\n"));
    daemon.cli("partition links n2:n3 --name before --for 60s");
    daemon.cli("heal before");
    daemon.cli("partition isolate n1 --name kept --for 60s");
    assert!(!lab.reaches(1, 2));

    let hung = Unanswering::before(Path::new(NAMES));
    let folder = lab.folder().join("mounted");
    std::fs::create_dir(&folder).unwrap();
    assert_heals_in_time(&daemon, "before", Duration::from_secs(6), || {
        // Each change of the mounts has all names looked at.
        support::ok("mount", &format!("-t tmpfs injector-test {}", folder.display()));
        support::ok("umount", &folder.display().to_string());
    });
    until("it is noticed", || daemon.log().contains("does not answer").then_some(()));
    let log = daemon.log();
    assert!(!log.contains("the lease lapsed"), "{log}");
    daemon.cli("partition links n2:n3 --name during --for 60s");
    assert_eq!(daemon.cli("heal during")[0]["healed_by"], "request");

    drop(hung);
    assert!(!lab.reaches(1, 2), "what was cut before stays cut");
    daemon.cli("heal kept");
    assert!(lab.reaches_soon(1, 2));
    assert_recreated_is_cut(&mut lab, &daemon);
}
