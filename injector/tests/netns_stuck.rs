//! A namespace's thread that is held up: the daemon answers all the same. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(waits);

#[path = "netns_stuck/filters.rs"]
mod filters;
#[path = "support/stopped_thread.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod stopped_thread;
#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "support/unanswering.rs"]
mod unanswering;

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use injector_lab::{AttachPoint, SWITCH, needs};
use rustix::process::Signal;
use stopped_thread::StoppedThread;
use support::{Daemon, Lab, until};
use unanswering::{HUNG, NamespaceFile, Unanswering};

/// A turn of the daemon's task waits for others for 750 ms at most.
const BOUND: Duration = Duration::from_millis(1200);
/// What a heal takes that waits for nobody.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Whoever looks at such a path waits in the kernel. That is not the thread that everybody else needs.
#[test]
#[needs(root)]
fn a_path_on_a_file_system_that_does_not_answer_holds_up_no_other_namespace() {
    let mut lab = Lab::switched(3);
    let (n2, n3) = (lab.netns("n2"), lab.netns("n3"));
    let file = NamespaceFile::to(&lab, &lab.netns("n1"));
    let path = file.path().display().to_string();
    let names =
        [path.as_str(), n2.as_str(), n3.as_str()].map(|netns| format!("{{ name: eth0, netns: {netns} }}"));
    let config = format!("{}interfaces: [{}]\n", lab.peers(), names.join(", "));
    let daemon = Daemon::start(&lab, "d", &config);
    daemon.cli("partition isolate n1 --name kept --for 60s");
    assert!(!lab.reaches(1, 2));

    let hung = Unanswering::before(&file.0);
    until("it is reported", || {
        let told = |event: &serde_json::Value| event["what"].as_str().is_some_and(|what| what.contains(HUNG));
        daemon.timeline().iter().any(told).then_some(())
    });
    // Another namespace that is recreated needs a thread of its own, which the supervisor starts.
    lab.delete("n3");
    daemon.wait_hook(&n3, "eth0", None);
    lab.add("n3");
    lab.join("n3");
    daemon.wait_hook(&n3, "eth0", Some("tcx"));
    daemon.heal_over_and_over("kept", |heals| heals.count < 300).assert_within(BOUND);
    // What is attached there is attached, whatever its name leads to.
    assert_eq!(daemon.attachment(&path, "eth0")["hook"], "tcx");
    daemon.cli("partition isolate n1 --name p --for 60s --allow-uncovered");
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    let log = daemon.log();
    assert!(!log.contains("the lease lapsed"), "{log}");
    assert_eq!(log.matches(HUNG).count(), 1, "once: {log}");

    drop(hung);
    until("it answers again", || {
        let told = |event: &serde_json::Value| event["what"] == "its file answers again";
        daemon.timeline().iter().any(told).then_some(())
    });
    assert!(lab.reaches_soon(1, 2));
}

#[test]
#[needs(root)]
fn a_daemon_with_a_path_that_does_not_answer_ends_and_the_next_start_says_why_it_can_not() {
    let lab = Lab::switched(2);
    let file = NamespaceFile::to(&lab, &lab.netns("n1"));
    let path = file.path().display().to_string();
    let interfaces = format!("interfaces: [{{ name: eth0, netns: {path} }}]\n");
    let config = lab.peers() + &interfaces;
    let daemon = Daemon::start(&lab, "d", &config);
    let _hung = Unanswering::before(&file.0);
    until("it is noticed", || daemon.log().contains(HUNG).then_some(()));
    daemon.cli("partition isolate n1 --name p --for 60s --allow-uncovered");
    assert!(!lab.reaches(1, 2));
    let asked = Instant::now();
    daemon.stop();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(lab.reaches_soon(1, 2));

    let asked = Instant::now();
    let (status, said) = Daemon::refusal(&lab, "e", &config);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains(&path) && said.contains(HUNG), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[test]
#[needs(root)]
fn a_namespace_that_does_not_answer_holds_up_no_other_and_no_command_for_long() {
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let mut daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    let stopped = StoppedThread::of(daemon.id(), &n1);
    // A younger reading of its hooks would be no reason for a warning.
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    let view = daemon.cli("partition isolate n1 --name p --for 60s");
    let first = asked.elapsed();
    let warning = view["warnings"][0]["text"].as_str().unwrap_or_else(|| panic!("no warning: {view}"));
    // How long the cut has waited for it depends on the age of the last reading.
    let is_told = ["does not answer", "has not answered in time"].iter().any(|why| warning.contains(why));
    assert!(is_told && warning.contains("would bypass it"), "{view}");
    assert!(!lab.reaches(1, 2), "the programs need no thread");

    // Once it has let down a cut, nobody waits for it.
    let second = until("the hooks are too old to be shown", || {
        let asked = Instant::now();
        let shown = daemon.attachment(&n1, "eth0");
        shown["why"].as_str().unwrap().contains("does not answer").then(|| asked.elapsed())
    });
    println!("the cut was answered after {first:?}, the status after {second:?}");

    support::ip(&format!("-n {n2} link delete eth0"));
    daemon.wait_hook(&n2, "eth0", None);
    lab.join("n2");
    daemon.wait_hook(&n2, "eth0", Some("tcx"));
    // Something that the held up thread will have to report.
    support::ip(&format!("-n {n1} link delete eth0"));
    lab.join("n1");
    daemon.cli("heal p");

    drop(stopped);
    until("it answers again", || {
        let shown = daemon.attachment(&n1, "eth0");
        let is_back = shown["hook"] == "tcx" && !shown["why"].as_str().unwrap().contains("does not answer");
        (is_back && daemon.log().matches("lost").count() >= 2).then_some(())
    });
    // The peers' ports are bound again a moment after their interfaces are attached.
    until("a partition has no warnings", || {
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

    let stopped = StoppedThread::of(daemon.id(), &n1);
    let asked = Instant::now();
    let (code, log) = terminate_beside(&mut daemon, &stopped);
    assert_eq!(code, Some(0), "the end of the process takes off everything: {log}");
    assert!(log.contains("not known to be detached"), "{log}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    drop(stopped);
    assert!(lab.reaches_soon(1, 2), "its programs ended with it");
}

/// Ends a daemon while a thread of it is stopped: the exit code, and the log.
fn terminate_beside(daemon: &mut Daemon, stopped: &StoppedThread) -> (Option<i32>, String) {
    let thread = stopped.id();
    // A traced thread is gone only when its tracer was notified.
    // SAFETY: no status is asked for.
    let reported =
        std::thread::spawn(move || unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) });
    let status = daemon.terminate();
    assert_eq!(reported.join().unwrap(), thread);
    (status.code(), daemon.log())
}

/// Where interfaces come and go by the dozen, the kernel holds up whoever reads hooks for hundreds of milliseconds.
#[test]
#[needs(root)]
fn a_cut_waits_for_its_hooks_beside_heals_and_not_for_ever() {
    let lab = Lab::switched(3);
    let n1 = lab.netns("n1");
    let daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    // While something is cut, hooks are read ten times a second.
    daemon.cli("partition isolate n3 --name held --for 60s");
    daemon.cli("partition links n2:n3 --name other --for 60s");
    daemon.cli("heal other");
    // Its hooks are in order; only nobody reads them.
    let (stopped, view) = until("a cut is answered soon, and says how old the last reading is", || {
        let stopped = StoppedThread::of(daemon.id(), &n1);
        // A younger reading would be no reason for a warning.
        std::thread::sleep(Duration::from_millis(300));
        let mut slowest_heal = Duration::ZERO;
        let (took, view) = std::thread::scope(|scope| {
            let cut = scope.spawn(|| {
                let asked = Instant::now();
                let view = daemon.cli("partition isolate n1 --name p --for 60s");
                (asked.elapsed(), view)
            });
            while !cut.is_finished() {
                slowest_heal = slowest_heal.max(daemon.heal_by_hand("other"));
            }
            cut.join().unwrap()
        });
        println!("the cut was answered after {took:?}, the slowest heal meanwhile after {slowest_heal:?}");
        let is_old = view["warnings"][0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("has not answered in time; they were last read"));
        // Without a recent reading it would wait for 700 ms.
        let is_as_promised = is_old && took < Duration::from_millis(600) && slowest_heal < took;
        if !is_as_promised {
            daemon.cli("heal p");
        }
        is_as_promised.then_some((stopped, view))
    });
    assert!(!lab.reaches(1, 2), "{view}");
    let shown = daemon.attachment(&n1, "eth0");
    assert!(shown["why"].as_str().unwrap().contains("read"), "{shown}");
    drop(stopped);
    daemon.cli("heal --all");
    until("the hooks are read again", || {
        let shown = daemon.attachment(&n1, "eth0");
        let why = shown["why"].as_str().unwrap();
        (!why.contains("were last read") && !why.contains("does not answer")).then_some(())
    });
}

/// That a namespace does not answer says nothing of what is in it: where interfaces come and go by the dozen, the kernel holds
/// up anyone who asks for them, in all namespaces at once.
#[test]
#[needs(root)]
fn peers_whose_namespaces_do_not_answer_are_taken_to_be_where_they_were() {
    let lab = Lab::switched(3);
    let (n1, n2, switch) = (lab.netns("n1"), lab.netns("n2"), lab.netns(SWITCH));
    let config = format!(
        "{}interfaces: [{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}, {{ name: p-n3, netns: {switch} }}]\n",
        lab.peers()
    );
    let daemon = Daemon::start(&lab, "d", &config);
    let stopped = [StoppedThread::of(daemon.id(), &n1), StoppedThread::of(daemon.id(), &n2)];
    // The answer is also used to find where peers live.
    support::ip(&format!("-n {switch} link add other type veth peer name another"));
    // A survey that took a second is not repeated for four, and the second asks the other one.
    let unanswered = |netns: &str| daemon.log().contains(&format!("taken to be as it was netns=\"{netns}\""));
    until("both were asked without an answer", || {
        daemon.cli("partition isolate n1 --name p --for 60s");
        daemon.cli("heal p");
        (unanswered(&n1) && unanswered(&n2)).then_some(())
    });
    let view = daemon.cli("partition isolate n1 --name p --for 60s");
    let warnings = view["warnings"].to_string();
    assert!(warnings.contains("does not answer"), "it is reported all the same: {warnings}");
    assert!(!lab.reaches(1, 2) && !lab.reaches(1, 3) && lab.reaches(2, 3));
    daemon.cli("heal p");
    drop(stopped);
    until("both answer, and nothing is in doubt", || {
        let view = daemon.cli("partition isolate n1 --name q --for 60s");
        daemon.cli("heal q");
        (view["warnings"] == serde_json::json!([])).then_some(())
    });
    assert!(lab.reaches_soon(1, 2));
}

/// The active check asks the namespaces' threads: one that is held up makes it say nothing, and delays no heal.
#[test]
#[needs(root)]
fn a_heal_does_not_wait_for_the_active_check() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    daemon.cli("partition isolate n1 --name p --for 60s --verify active");
    let stopped = StoppedThread::of(daemon.id(), &n1);
    // Once it has let down a question, nobody but the check asks it; whose try does not come back.
    daemon.attachment(&n1, "eth0");
    std::thread::sleep(Duration::from_millis(1500));
    daemon.heals_within(AT_ONCE, "p");
    assert!(lab.reaches_soon(1, 2), "the heal is in force");

    // A cut whose control can't be sent is made all the same.
    daemon.cli("partition isolate n1 --name q --for 60s --verify active");
    assert!(!lab.reaches(1, 2));
    daemon.heals_within(AT_ONCE, "q");
    let record = daemon.cli("wait q --timeout 1ms");
    for link in record["links"].as_array().unwrap() {
        assert!(link["check"]["control"].is_null(), "{link}");
        let why = link["check"]["why_not"].as_str().unwrap();
        // A survey meanwhile has lost sight of it.
        assert!(why.contains("did not answer") || why.contains("is not seen"), "{why}");
    }

    drop(stopped);
    support::ip(&format!("-n {n1} link delete eth0"));
    // The check asks it again as soon as its namespace is seen again.
    lab.join("n1");
    until("it is checked again", || {
        daemon.cli("partition isolate n1 --name r --for 60s --verify active");
        std::thread::sleep(Duration::from_millis(500));
        let record = daemon.cli("wait r --timeout 1ms");
        daemon.cli("heal r");
        (record["links"][0]["check"]["arrived_after_cut"] == 0).then_some(())
    });
    assert!(lab.reaches_soon(1, 2));
}

/// Threads of many namespaces and the supervisor at once: no turn of the daemon's task waits for all of them one after another.
#[test]
#[needs(root)]
fn whatever_threads_are_held_up_heals_are_answered_and_the_lease_is_kept() {
    let mut lab = Lab::switched(5);
    let gone = lab.netns("n5");
    let daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    daemon.cli("partition isolate n1 --name kept --for 60s");
    assert!(!lab.reaches(1, 2));
    daemon.cli("partition links n2:n3 --name before --for 60s");
    daemon.cli("heal before");
    let mut stopped: Vec<StoppedThread> =
        ["n2", "n3", "n4"].iter().map(|node| StoppedThread::of(daemon.id(), &lab.netns(node))).collect();
    stopped.push(StoppedThread::supervisor(daemon.id()));

    // A namespace whose thread is to be started anew, and others to be looked into: all of it asks who is held up.
    lab.delete("n5");
    lab.add("n5");
    let end = Instant::now() + Duration::from_secs(8);
    let heals = std::thread::scope(|scope| {
        let healer = scope.spawn(|| daemon.heal_over_and_over("before", |_| Instant::now() < end));
        while Instant::now() < end {
            lab.add("other");
            support::ip(&format!("-n {} link add other type veth peer name another", lab.netns("n1")));
            daemon.cli("partition links n2:n3 --name p --for 60s");
            daemon.cli("heal p");
            support::ip(&format!("-n {} link delete other", lab.netns("n1")));
            lab.delete("other");
            assert!(!lab.reaches(1, 2), "the lease was kept: what was cut before stays cut");
        }
        healer.join().unwrap()
    });
    heals.assert_within(BOUND);
    let healed = daemon.cli("heal kept");
    assert_eq!(healed[0]["healed_by"], "request", "{healed}");
    assert!(!daemon.log().contains("the lease lapsed"), "{}", daemon.log());

    drop(stopped);
    lab.join("n5");
    until("the namespace that was made anew is followed", || {
        (daemon.attachment(&gone, "eth0")["hook"] == "tcx").then_some(())
    });
    // Its names are known a moment after it is attached.
    until("it can be cut", || {
        let view = daemon.cli("partition isolate n5 --name q --for 60s --allow-uncovered");
        let is_clean = view["warnings"] == serde_json::json!([]);
        if !is_clean {
            daemon.cli("heal q");
        }
        is_clean.then_some(())
    });
    assert!(!lab.reaches(5, 2));
    daemon.cli("heal q");
    assert!(lab.reaches_soon(5, 2));
}

/// What was off before says nothing of the reload.
#[test]
#[needs(root)]
fn a_failed_reload_names_no_interface_that_was_off_before() {
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let config = |more: &str| {
        let interfaces = format!("{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}{more}");
        format!("{}interfaces: [{interfaces}]\n", lab.peers())
    };
    let daemon = Daemon::start(&lab, "d", &config(""));
    support::ip(&format!("-n {n2} link delete eth0"));
    daemon.wait_hook(&n2, "eth0", None);
    let missing = format!(", {{ name: eth7, netns: {n1} }}");
    std::fs::write(lab.folder().join("d.yaml"), config(&missing)).unwrap();
    daemon.signal(Signal::HUP);
    let outcome = until("the reload has failed", || {
        let log = daemon.log();
        log.lines().find(|line| line.contains("the one before is in force again")).map(str::to_owned)
    });
    assert!(!outcome.contains("not attached again yet"), "{outcome}");
    assert!(daemon.attachment(&n1, "eth0")["hook"].is_string());
}

/// A thread that does not answer while another config is tried keeps our programs off its interface. The old config, which is in
/// force again, says so, lets no cut count on it, and has it back as soon as the thread answers.
#[test]
#[needs(root)]
fn an_interface_that_a_failed_reload_leaves_off_is_shown_and_attached_again() {
    const CUT: &[u8] = br#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let config = |more: &str| format!("{}interfaces: [{{ name: eth0, netns: {n1} }}{more}]\n", lab.peers());
    let daemon = Daemon::start(&lab, "d", &config(""));
    let hook = daemon.attachment(&n1, "eth0")["hook"].clone();
    let stopped = StoppedThread::of(daemon.id(), &n1);
    let missing = format!(", {{ name: eth7, netns: {n2} }}");
    std::fs::write(lab.folder().join("d.yaml"), config(&missing)).unwrap();
    daemon.signal(Signal::HUP);
    let outcome = until("the reload has failed", || {
        let log = daemon.log();
        log.lines().find(|line| line.contains("the one before is in force again")).map(str::to_owned)
    });
    assert!(outcome.contains("eth7"), "{outcome}");
    assert!(outcome.contains(&format!("not attached again yet: eth0 in netns {n1}")), "{outcome}");
    let shown = daemon.attachment(&n1, "eth0");
    assert!(shown["hook"].is_null(), "{shown}");
    assert!(shown["why"].as_str().unwrap().contains("did not answer in time"), "{shown}");
    let (status, problem) = daemon.raw("PUT", "/v1/partitions/p", CUT);
    assert_eq!((status, problem["code"].as_str()), (409, Some("not-covered")), "{problem}");

    drop(stopped);
    daemon.wait_hook(&n1, "eth0", hook.as_str());
    // The peers' ports are bound again a moment after their interfaces are attached.
    until("it can be cut", || (daemon.raw("PUT", "/v1/partitions/p", CUT).0 == 200).then_some(()));
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

/// Whoever cuts by a role that is asked in such a namespace is refused in time, and leaves room for others.
#[test]
#[needs(root)]
fn a_role_that_can_not_be_asked_is_not_waited_for() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let roles = format!("roles: {{ leader: {{ exec: [echo, n1], netns: {n1}, timeout: 1s }} }}\n");
    let daemon = Daemon::start(&lab, "d", &(lab.config(AttachPoint::OwnNic, "auto") + &roles));
    let stopped = StoppedThread::of(daemon.id(), &n1);
    let asked = Instant::now();
    let words = "partition isolate @leader --name p --for 60s";
    let output = (*daemon).cli().run(words.split(' '));
    let (took, said) = (asked.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(said.contains("@leader") && said.contains("does not answer"), "{said}");
    assert!(took < Duration::from_secs(8), "{took:?}");

    drop(stopped);
    until("the role is resolved", || (*daemon).cli().run(words.split(' ')).status.success().then_some(()));
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

/// Nor is an endpoint: the others' answers come in time.
#[test]
#[needs(root)]
fn an_endpoint_whose_namespace_does_not_answer_is_not_waited_for() {
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let mut config = lab.config(AttachPoint::OwnNic, "auto") + "endpoints:\n";
    for (name, netns) in [("held", &n1), ("other", &n2)] {
        // Nobody listens there, which is an answer.
        let probe = "{ tcp: { target: \"127.0.0.1:9\" }, timeout: 1s }";
        writeln!(config, "  - {{ name: {name}, netns: {netns}, probe: {probe} }}").unwrap();
    }
    let daemon = Daemon::start(&lab, "d", &config);
    let errors = || {
        let asked = Instant::now();
        let (status, answers) = daemon.raw("POST", "/v1/probes", b"{}");
        assert_eq!(status, 200, "{answers}");
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        [0, 1].map(|at: usize| answers[at]["error"].as_str().unwrap().to_owned())
    };
    let stopped = StoppedThread::of(daemon.id(), &n1);
    for _ in 0..2 {
        let [held, other] = errors();
        assert!(held.contains("does not answer"), "{held}");
        assert!(other.starts_with("connect"), "{other}");
    }
    drop(stopped);
    until("it is asked again", || errors()[0].starts_with("connect").then_some(()));
}

/// Keeps a file from being executed: whoever tries waits until this is dropped.
struct ExecBlocked {
    /// Closed, it lets everyone pass.
    _events: OwnedFd,
}

impl ExecBlocked {
    fn at(path: &Path) -> Self {
        use std::os::fd::{AsRawFd as _, FromRawFd as _};
        use std::os::unix::ffi::OsStrExt as _;
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: plain numbers go in, and a new descriptor comes out, which nobody else has.
        let events = unsafe {
            let fd = libc::fanotify_init(
                libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC,
                libc::O_RDONLY as libc::c_uint,
            );
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: the path is a string that ends with a zero and outlives the call.
        let marked = unsafe {
            let (add, open_to_execute) = (libc::FAN_MARK_ADD, libc::FAN_OPEN_EXEC_PERM);
            libc::fanotify_mark(events.as_raw_fd(), add, open_to_execute, libc::AT_FDCWD, path.as_ptr())
        };
        assert_eq!(marked, 0, "{}", std::io::Error::last_os_error());
        Self { _events: events }
    }
}

/// A command whose start takes long, as on a starved host or a disk that hangs, holds up its probe and nothing else: no cut, no
/// other command of its namespace. It is not taken for a failure of its endpoint.
#[test]
#[needs(root)]
fn a_command_that_does_not_start_holds_up_its_probe_alone() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let [command, other] = ["probe", "other"].map(|name| lab.folder().join(name));
    let mut config = lab.config(AttachPoint::OwnNic, "auto") + "endpoints:\n";
    for (name, command) in [("alive", &command), ("other", &other)] {
        injector_lab::copy_program(Path::new("/bin/true"), command);
        writeln!(
            config,
            "  - {{ name: {name}, netns: {n1}, probe: {{ exec: {{ command: [{}] }}, interval: 100ms, timeout: 1s }} }}",
            command.display()
        )
        .unwrap();
    }
    let daemon = Daemon::start(&lab, "d", &config);
    let endpoint = |at: usize| daemon.cli("status")["endpoints"][at].clone();
    let is_healthy = || endpoint(0)["healthy"].clone();
    until("the commands run", || (is_healthy() == true && endpoint(1)["healthy"] == true).then_some(()));
    let held = ExecBlocked::at(&command);
    until("the command does not run", || is_healthy().is_null().then_some(()));
    let why = endpoint(0)["last_error"].as_str().unwrap().to_owned();
    assert!(why.contains("was not started within 1s"), "{why}");
    // By now each probe of the other one would have waited for longer than its timeout.
    std::thread::sleep(Duration::from_secs(2));
    assert!(is_healthy().is_null(), "not sent is not failed: {}", endpoint(0));
    until("the other endpoint is healthy", || (endpoint(1)["healthy"] == true).then_some(()));
    let answers = daemon.raw("POST", "/v1/probes", b"{}").1;
    let error = answers[0]["error"].as_str().unwrap();
    assert!(error.contains("an earlier start of it has not ended"), "{answers}");
    assert!(answers[1]["error"].is_null(), "{answers}");
    // A thread that is held up would not answer in time for any of them.
    until("its namespace's thread answers a cut in time", || {
        let view = daemon.cli("partition isolate n1 --name p --for 60s");
        assert!(!lab.reaches(1, 2));
        daemon.heals_within(AT_ONCE, "p");
        (view["warnings"] == serde_json::json!([])).then_some(())
    });
    drop(held);
    until("the command runs again", || (is_healthy() == true).then_some(()));
    assert!(lab.reaches_soon(1, 2));
}
