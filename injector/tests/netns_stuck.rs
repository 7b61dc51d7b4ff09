//! A namespace's thread that is held up: the daemon answers all the same. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::{Daemon, Lab, is_root, until};

/// One thread of a daemon, standing still until this is dropped. Must be dropped by the thread that made it.
struct Frozen(libc::pid_t);

fn trace(request: libc::c_uint, thread: libc::pid_t) -> std::io::Result<()> {
    // SAFETY: none of the requests used here reads or writes memory of this process.
    let answer = unsafe { libc::ptrace(request, thread, 0, 0) };
    if answer == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

impl Frozen {
    /// The thread that is in a namespace.
    fn of(daemon: &Daemon, netns: &str) -> Self {
        let inside = std::fs::metadata(format!("/run/netns/{netns}")).unwrap().ino();
        let pid = daemon.cli("status")["pid"].as_u64().unwrap();
        let thread = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .map(|task| task.unwrap())
            .find(|task| std::fs::metadata(task.path().join("ns/net")).unwrap().ino() == inside)
            .unwrap();
        let thread = thread.file_name().to_str().unwrap().parse().unwrap();
        trace(libc::PTRACE_SEIZE, thread).unwrap();
        trace(libc::PTRACE_INTERRUPT, thread).unwrap();
        // SAFETY: no status is asked for.
        let stopped = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(stopped, thread, "{}", std::io::Error::last_os_error());
        Self(thread)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have ended with its process.
        let _ = trace(libc::PTRACE_DETACH, self.0);
    }
}

#[test]
fn a_namespace_that_does_not_answer_holds_up_no_other_and_no_command_for_long() {
    if !is_root() {
        return;
    }
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.name("n1"), lab.name("n2"));
    let config = format!(
        "{}interfaces: [{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}]\n",
        lab.peers(2)
    );
    let daemon = Daemon::start(&lab, "d", &config);
    let frozen = Frozen::of(&daemon, &n1);

    let asked = Instant::now();
    let view = daemon.cli("partition isolate n1 --name p --for 60s");
    let first = asked.elapsed();
    let warning = view["warnings"][0]["text"].as_str().unwrap();
    assert!(warning.contains("does not answer") && warning.contains("would bypass it"), "{view}");
    assert!(!lab.reaches(1, 2), "the programs need no thread");

    // From then on nobody waits for it.
    let asked = Instant::now();
    let shown = daemon.attachment(&n1, "eth0");
    let second = asked.elapsed();
    assert!(shown["why"].as_str().unwrap().contains("does not answer"), "{shown}");
    println!("the cut was answered after {first:?}, the status after {second:?}");
    assert!(second < first, "{second:?}, after {first:?}");

    support::ip(&format!("-n {n2} link delete eth0"));
    daemon.wait_hook(&n2, "eth0", None);
    lab.plug(2);
    daemon.wait_hook(&n2, "eth0", Some("tcx"));
    // Something that the held up thread will have to tell about.
    support::ip(&format!("-n {n1} link delete eth0"));
    lab.plug(1);
    daemon.cli("heal p");

    drop(frozen);
    until("it answers again", || {
        let shown = daemon.attachment(&n1, "eth0");
        let is_back = shown["hook"] == "tcx" && !shown["why"].as_str().unwrap().contains("does not answer");
        (is_back && daemon.log().matches("lost").count() >= 2).then_some(())
    });
    // The survey that finds its hook again comes a moment later.
    until("nothing is in the way of a cut", || {
        let view = daemon.cli("partition isolate n1 --name q --for 60s");
        let is_clean = view["warnings"] == serde_json::json!([]);
        if !is_clean {
            daemon.cli("heal q");
        }
        is_clean.then_some(())
    });
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal q");
    assert!(lab.reaches_soon(1, 2));

    let frozen = Frozen::of(&daemon, &n1);
    let asked = Instant::now();
    let thread = frozen.0;
    // A traced thread is gone only when its tracer has been told.
    // SAFETY: no status is asked for.
    let told =
        std::thread::spawn(move || unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) });
    let log = daemon.stop();
    assert_eq!(told.join().unwrap(), thread);
    assert!(log.contains("not known to be detached"), "{log}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    drop(frozen);
    assert!(lab.reaches_soon(1, 2), "its programs ended with it");
}

/// The active check asks the namespaces' threads: one that is held up makes it say nothing, and delays no heal.
#[test]
fn a_heal_does_not_wait_for_the_active_check() {
    if !is_root() {
        return;
    }
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.name("n1"), lab.name("n2"));
    let config = format!(
        "{}interfaces: [{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}]\n",
        lab.peers(2)
    );
    let daemon = Daemon::start(&lab, "d", &config);
    // By a connection that is there: the start of a process may take long on a busy machine.
    let heal = |name: &str| {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        let request =
            format!("DELETE /v1/partitions/{name} HTTP/1.1\r\nHost: injector\r\nConnection: close\r\n\r\n");
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let took = asked.elapsed();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        took
    };
    daemon.cli("partition isolate n1 --name p --for 60s --verify active");
    let frozen = Frozen::of(&daemon, &n1);
    // Once it has let down a question, nobody but the check asks it; whose try does not come back.
    daemon.attachment(&n1, "eth0");
    std::thread::sleep(Duration::from_millis(1500));
    let took = heal("p");
    println!("healed {took:?} after it was asked for");
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert!(lab.reaches_soon(1, 2), "the heal is in force");

    // A cut whose control can't be sent is made all the same.
    daemon.cli("partition isolate n1 --name q --for 60s --verify active");
    assert!(!lab.reaches(1, 2));
    let took = heal("q");
    assert!(took < Duration::from_millis(200), "{took:?}");
    let record = daemon.cli("wait q --timeout 1ms");
    for link in record["links"].as_array().unwrap() {
        assert!(link["check"]["control"].is_null(), "{link}");
        let why = link["check"]["why_not"].as_str().unwrap();
        // A survey meanwhile has lost sight of it.
        assert!(why.contains("did not answer") || why.contains("is not seen"), "{why}");
    }

    drop(frozen);
    support::ip(&format!("-n {n1} link delete eth0"));
    // The check asks it again as soon as its namespace is seen again.
    lab.plug(1);
    until("it is checked again", || {
        daemon.cli("partition isolate n1 --name r --for 60s --verify active");
        std::thread::sleep(Duration::from_millis(500));
        let record = daemon.cli("wait r --timeout 1ms");
        daemon.cli("heal r");
        (record["links"][0]["check"]["arrived_after_cut"] == 0).then_some(())
    });
    assert!(lab.reaches_soon(1, 2));
}
