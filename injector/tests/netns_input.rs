//! Bad input to the real daemon: one clear error with place and remedy, and nothing changes.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use injector_core::api::{PartitionState, Status};
use injector_lab::{attempt, needs, skip};
use live::daemon::{Daemon, attached, isolate};
use live::kernel::has_tcx;
use live::lab::{AttachPoint, Lab};
use live::traffic::{Kind, assert_cut, assert_flows};

const LONG: Duration = Duration::from_mins(2);

/// What bad input must leave alone.
fn unchanged(status: &Status) -> impl PartialEq + std::fmt::Debug + use<> {
    let partitions: Vec<(String, u32, PartitionState)> = status
        .partitions
        .iter()
        .map(|partition| (partition.name.clone(), partition.generation, partition.state))
        .collect();
    (attached(status), status.peers.clone(), partitions, status.pid)
}

#[test]
#[needs(root)]
fn bad_requests_change_nothing() {
    let lab = Lab::new(3);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    daemon.apply("held", &isolate("n1", LONG));
    let (status, prepared) =
        daemon.raw("POST", "/v1/partitions/ready/prepare", br#"{"shape":{"isolate":["n2"]},"for":"5s"}"#);
    assert_eq!(status, 200, "{prepared}");
    let before = daemon.status();
    let large = format!(r#"{{"shape":{{"isolate":["{}"]}}}}"#, "n".repeat(4 << 20));
    for (method, path, body, status, code) in [
        ("PUT", "/v1/partitions/p", "no JSON", 400, "bad-body"),
        ("PUT", "/v1/partitions/p", "", 400, "bad-body"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"fro":"5s"}"#, 400, "bad-body"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"sideways":["n1"]}}"#, 400, "bad-body"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"loss":"300%"}"#, 400, "bad-body"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"scopes":["icmp/8"]}"#, 400, "bad-body"),
        ("PUT", "/v1/partitions/p", large.as_str(), 413, "body-too-large"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n9"]}}"#, 400, "unknown-peer"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"preset":"none"}}"#, 400, "unknown-preset"),
        // What a program builds when it has nothing to cut has a code of its own.
        ("PUT", "/v1/partitions/p", r#"{"shape":{"grudge":{}}}"#, 400, "empty-partition"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"grudge":{"n1":[],"n2":[]}}}"#, 400, "empty-partition"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"links":[]}}"#, 400, "empty-partition"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":[]}}"#, 400, "empty-partition"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1","n2","n3"]}}"#, 400, "empty-partition"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"grudge":{"n9":[]}}}"#, 400, "unknown-peer"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"for":"0s"}"#, 400, "bad-time"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"for":"900m"}"#, 400, "bad-time"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"at":{"mono_ns":5}}"#, 400, "bad-time"),
        ("PUT", "/v1/partitions/held", r#"{"shape":{"isolate":["n2"]}}"#, 409, "name-taken"),
        ("PUT", "/v1/partitions/a%20b", r#"{"shape":{"isolate":["n1"]}}"#, 400, "bad-parameter"),
        ("DELETE", "/v1/partitions/never", "", 404, "unknown-partition"),
        ("POST", "/v1/partitions/held/enable", "{}", 409, "wrong-state"),
        ("POST", "/v1/partitions/ready/enable", r#"{"at":{"mono_ns":5}}"#, 400, "bad-time"),
        ("POST", "/v1/partitions/ready/enable", r#"{"at":{"wall_ns":4000000000000000000}}"#, 400, "bad-time"),
        ("GET", "/v1/nothing", "", 404, "no-such-call"),
        ("POST", "/v1/status", "", 405, "wrong-method"),
    ] {
        let shown = &body[..body.len().min(80)];
        let (answered, problem) = daemon.raw(method, path, body.as_bytes());
        assert_eq!(
            (answered, problem["code"].as_str()),
            (status, Some(code)),
            "{method} {path} {shown}: {problem}"
        );
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        let now = daemon.status();
        assert_eq!(unchanged(&now), unchanged(&before), "{method} {path} {shown}");
    }
    for (arguments, says) in [
        (&["partition", "isolate", "n9"][..], "n9"),
        (&["partition", "isolate", "n1", "--name", "held", "--for", "9s"], "held"),
        (&["wait", "never"], "never"),
    ] {
        let output = daemon.cli(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{arguments:?}");
    }
    assert_eq!(unchanged(&daemon.status()), unchanged(&before));
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    assert_flows(&lab, &[Kind::Udp], "n2", "n3");
    attempt(
        "root",
        "sends bad bodies, times, names, methods and paths while something is cut",
        "each is refused with its code; the cut and all else stay as they were",
    );
}

#[test]
#[needs(root)]
fn a_bad_config_stops_the_start_with_its_place() {
    let lab = Lab::new(2);
    let good = lab.config(AttachPoint::OwnNic, "auto");
    for (config, says) in [
        (format!("{good}nonsense: 1\n"), "nonsense"),
        (good.replace("  n2:", "  n1:"), "n1"),
        (good.replace("10.99.0.2", "10.99.0.1"), "10.99.0.1"),
        (good.replace("10.99.0.2", "10.99.0.999"), "10.99.0.999"),
        (good.replace("10.99.0.2", "10.99.0.2/16"), "10.99.0.2/16"),
    ] {
        let Err((status, log)) = Daemon::try_start(&config) else { panic!("it started with {config}") };
        assert_eq!(status.code(), Some(64), "{log}");
        assert!(log.contains("lab.yaml:") && log.contains(says), "{log}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lab.yaml");
        std::fs::write(&file, config).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_injector"));
        assert_eq!(check.args(["check", "--config"]).arg(&file).output().unwrap().status.code(), Some(64));
    }
    let _works = Daemon::start(&good);
}

/// What the config says is right, but this host is not so.
#[test]
#[needs(root)]
fn what_is_not_there_stops_the_start_and_undoes_it() {
    const TEST: &str = "what_is_not_there_stops_the_start_and_undoes_it";
    let lab = Lab::new(2);
    let good = lab.config(AttachPoint::OwnNic, "auto");
    let netns = lab.netns("n2");
    let mut bad = vec![
        (
            good.replace(&format!("name: eth0, netns: {netns}"), &format!("name: eth7, netns: {netns}")),
            "eth7",
        ),
        (good.replace(&netns, &format!("{netns}x")), "ip netns list"),
    ];
    if std::path::Path::new("/dev/net/tun").exists() {
        lab.ip("n2", "tuntap add mode tun name tun0");
        let with_tun =
            good.replace(&format!("name: eth0, netns: {netns}"), &format!("name: tun0, netns: {netns}"));
        bad.push((with_tun, "tun0"));
    } else {
        skip(TEST, "no tun devices (only that part)");
    }
    for (config, says) in bad {
        let Err((status, log)) = Daemon::try_start(&config) else { panic!("it started with {config}") };
        assert!(!status.success());
        assert!(log.contains(says), "{says} is not in {log}");
        // n1 was attached by then: it must not stay so.
        if has_tcx() {
            let programs = lab.within("n1", || {
                use aya::programs::tc::TcAttachType;
                let query = aya::programs::SchedClassifier::query_tcx("eth0", TcAttachType::Egress);
                query.unwrap().1.len()
            });
            assert_eq!(programs, 0, "{log}");
        }
        let qdiscs =
            Command::new("tc").args(["-n", &lab.netns("n1"), "qdisc", "show", "dev", "eth0"]).output();
        let qdiscs = String::from_utf8(qdiscs.unwrap().stdout).unwrap();
        assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    }
}

#[test]
#[needs(root)]
fn a_second_daemon_on_the_socket_leaves_the_first_alone() {
    let lab = Lab::new(2);
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let daemon = Daemon::start(&config);
    daemon.apply("held", &isolate("n1", LONG));
    let before = daemon.status();
    let (status, log) = daemon.rival(&config);
    assert!(!status.success());
    assert!(log.contains("api.sock"), "{log}");
    assert_eq!(unchanged(&daemon.status()), unchanged(&before));
    assert!(before.attachments.iter().all(|attachment| attachment.others.is_empty()), "{before:?}");
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    attempt(
        "root",
        "starts a second daemon on the socket of the first",
        "it is refused; the first one and its cut stay",
    );
}

#[test]
#[needs(root)]
fn others_may_not() {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    let before = daemon.status();
    // Where it was built need not be for everyone.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("injector");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    injector_lab::copy_program(std::path::Path::new(env!("CARGO_BIN_EXE_injector")), &program);
    let config = daemon.folder().join("lab.yaml");
    for arguments in
        [&["status"][..], &["partition", "isolate", "n1"], &["start", "--config", config.to_str().unwrap()]]
    {
        let mut command = Command::new(&program);
        command.args(arguments).env("INJECTOR_SOCKET", daemon.socket()).uid(65_534).gid(65_534);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{arguments:?}: {said}");
        assert!(said.contains("sudo"), "{said}");
    }
    assert_eq!(unchanged(&daemon.status()), unchanged(&before));
    attempt(
        "`nobody`, with a copy of the program",
        "asks for status, cuts, starts a daemon of its own",
        "exit 77, and nothing changes",
    );
}
