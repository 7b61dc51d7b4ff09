//! What clients get of the real daemon: the exit code of `with`, answers or no cut, and how long applying takes.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use injector_client::Client;
use injector_core::api::PartitionState;
use injector_lab::{Launch, needs, skip, until};
use live::daemon::{Daemon, isolate, runtime};
use live::lab::{AttachPoint, Lab};
use live::traffic::PATIENCE;
use rustix::process::Signal;
use rustix::thread::{MembarrierCommand, membarrier};

const LONG: Duration = Duration::from_mins(2);

fn daemon_with(more: &str) -> (Lab, Daemon) {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&format!("{}{more}", lab.config(AttachPoint::OwnNic, "auto")));
    (lab, daemon)
}

/// `injector with isolate n1 --name w OPTIONS -- sh -c SCRIPT`; the script runs until the test ends its input.
fn with(daemon: &Daemon, options: &[&str], script: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(["with", "isolate", "n1", "--name", "w"]).args(options).args(["--", "sh", "-c", script]);
    command.env_remove("INJECTOR_HOST").env("INJECTOR_SOCKET", daemon.socket());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the script has said that it runs: the partition is in force then.
fn running(child: &mut Child) {
    let mut said = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"up\n");
}

fn end(mut child: Child) -> (Option<i32>, String) {
    drop(child.stdin.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

const UNTIL_TOLD: &str = "echo up; cat >/dev/null; exit 3";

fn until_healed(daemon: &Daemon) {
    let end = Instant::now() + PATIENCE;
    while daemon.partition("w").healed.is_none() {
        assert!(Instant::now() < end, "it is not healed");
        std::thread::yield_now();
    }
}

#[test]
#[needs(root, quiet)]
fn with_gives_the_commands_exit_code_only_if_the_partition_lasted() {
    let (_lab, mut daemon) = daemon_with("max_for: 5s\n");
    let mut child = with(&daemon, &[], UNTIL_TOLD);
    running(&mut child);
    let (code, said) = end(child);
    assert_eq!(code, Some(3), "it lasted: {said}");

    for (what, options) in [("the config's max_for", &[][..]), ("--for", &["--for", "300ms"])] {
        let mut child = with(&daemon, options, UNTIL_TOLD);
        running(&mut child);
        until_healed(&daemon);
        let (code, said) = end(child);
        assert_eq!(code, Some(125), "{what}: {said}");
        assert!(said.contains("was not in force until the command ended: its deadline came first"), "{said}");
        assert!(said.contains("longer --for") && said.contains("own exit code was 3"), "{said}");
    }

    let mut child = with(&daemon, &[], "echo up; cat >/dev/null");
    running(&mut child);
    daemon.heal("w");
    let (code, said) = end(child);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("another client healed it"), "{said}");

    // Healed, and its name reused: the other partition is not ours to heal.
    let mut child = with(&daemon, &[], UNTIL_TOLD);
    running(&mut child);
    daemon.heal("w");
    daemon.apply("w", &isolate("n2", Duration::from_secs(5)));
    let (code, said) = end(child);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("another client has applied a partition of that name"), "{said}");
    assert_eq!(daemon.partition("w").state, PartitionState::Active);
    daemon.heal("w");

    // An equal request is another one: the second command does not end the first one's partition.
    let mut child = with(&daemon, &[], UNTIL_TOLD);
    running(&mut child);
    let (code, said) = end(with(&daemon, &[], UNTIL_TOLD));
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("\"w\" is live, with another request"), "{said}");
    let (code, said) = end(child);
    assert_eq!(code, Some(3), "it lasted: {said}");

    let mut child = with(&daemon, &[], UNTIL_TOLD);
    running(&mut child);
    daemon.terminate();
    let (code, said) = end(child);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("the daemon can't be asked"), "{said}");
}

#[test]
#[needs(root, quiet)]
fn with_says_that_the_lease_ended_its_partition() {
    let (_lab, daemon) = daemon_with("");
    let mut child = with(&daemon, &[], UNTIL_TOLD);
    running(&mut child);
    let stopped = Instant::now();
    daemon.signal(Signal::STOP);
    // The lease is two seconds: only time ends it.
    std::thread::sleep(Duration::from_millis(2_500).saturating_sub(stopped.elapsed()));
    daemon.signal(Signal::CONT);
    let (code, said) = end(child);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("the lease ended it"), "{said}");
}

#[test]
#[needs(root, quiet)]
fn a_request_is_answered_or_cuts_nothing() {
    let (_lab, daemon) = daemon_with("");
    let body = r#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;
    let request = |name: &str| {
        let length = body.len();
        format!("PUT /v1/partitions/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    for attempt in 0..40 {
        let name = format!("half-{attempt}");
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request(&name).as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(daemon.partition(&name).state, PartitionState::Active, "{name}");
        daemon.heal(&name);
    }
    for attempt in 0..40 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(request(&format!("gone-{attempt}")).as_bytes()).unwrap();
    }
    // A later connection's request is served after them, but they need not be read in order: each either is
    // never applied, or is healed as soon as its answer finds nobody.
    let end = Instant::now() + PATIENCE;
    let live = || {
        let status = daemon.status();
        status.partitions.iter().filter(|view| view.state == PartitionState::Active).count()
    };
    let quiet = Instant::now() + Duration::from_secs(1);
    while Instant::now() < quiet || live() > 0 {
        assert!(Instant::now() < end, "a cut that nobody was notified of stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The client leaves between the store that cuts and its answer: only its socket shows that, since the runtime has not noticed yet.
#[test]
#[needs(root, example = "fault_injected")]
fn an_enable_whose_client_leaves_before_its_answer_cuts_nothing() {
    let lab = Lab::new(2);
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/fault_injected");
    for leaves in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let faults = folder.path().join("faults");
        let mut launch = Launch::in_folder(&program, folder.path(), "d", &config).unwrap();
        launch.command().env("INJECTOR_FAULT", "apply/committed#1=wait").env("INJECTOR_FAULT_LOG", &faults);
        let daemon = launch.start().unwrap_or_else(|error| panic!("{error}"));
        let body = br#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;
        let (status, answer) = daemon.raw("POST", "/v1/partitions/p/prepare", body);
        assert_eq!(status, 200, "{answer}");
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        let request = "POST /v1/partitions/p/enable HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        until("the daemon has cut", || {
            std::fs::read_to_string(&faults).is_ok_and(|log| log.contains("apply/committed")).then_some(())
        });
        let stream = (!leaves).then_some(stream);
        std::fs::write(folder.path().join("faults.go"), "").unwrap();
        let (status, view) = daemon.raw("GET", "/v1/partitions/p", b"");
        assert_eq!(status, 200, "{view}");
        if leaves {
            assert_ne!(view["state"], "active", "{view}");
            assert_eq!(view["healed"]["healed_by"], "disconnect", "{view}");
        } else {
            assert_eq!(view["state"], "active", "the positive control: {view}");
        }
        drop(stream);
    }
}

/// A slot that was freed is not written before running programs have ended, and nobody waits for that: a slot that is used
/// again costs no barrier more than one that is new, while about as many partitions are open.
#[test]
#[needs(root, alone)]
fn applying_does_not_wait_for_running_programs() {
    let (_lab, daemon) = daemon_with("");
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let barrier = median(
        (0..9)
            .map(|_| {
                let begun = Instant::now();
                membarrier(MembarrierCommand::Global).unwrap();
                begun.elapsed()
            })
            .collect(),
    );
    let times = runtime().block_on(async {
        let mut client = Client::connect(daemon.socket()).await.unwrap();
        let mut times = Vec::new();
        for attempt in 0..100 {
            let name = format!("p{attempt}");
            let begun = Instant::now();
            client.apply(&name, &isolate("n1", LONG)).await.unwrap();
            times.push(begun.elapsed());
            client.heal(&name).await.unwrap();
        }
        times
    });
    let slots = injector_common::SLOTS as usize;
    let (new, again) = (median(times[slots / 2..slots].to_vec()), median(times[slots..].to_vec()));
    eprintln!("a barrier takes {barrier:?}, applying {new:?} with a new slot and {again:?} with a used one");
    if barrier < Duration::from_millis(6) {
        const NAME: &str = "applying_does_not_wait_for_running_programs";
        return skip(NAME, "this kernel's barrier is too quick to measure");
    }
    assert!(
        again < new + barrier / 2,
        "applying takes {again:?}, with a new slot {new:?}, and a barrier {barrier:?}"
    );
}
