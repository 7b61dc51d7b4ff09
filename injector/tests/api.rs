//! The API over its socket, spoken to as curl does: what is answered, and what the daemon gets. No privileges.

#[path = "../../injector-core/tests/support/golden.rs"]
mod golden;
#[path = "support/served.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use injector::server::{ApiSocket, SocketError};
use serde_json::json;
use support::{Asked, HttpResponse, Served, socket_in};

const PARTITION: &str = r#"{"shape": {"isolate": ["n1"]}, "for": "5s"}"#;

fn assert_problem(answer: &HttpResponse, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code);
    assert_eq!(problem["type"], format!("urn:injector:problem:{code}"));
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
}

#[test]
fn a_partition_is_applied_and_healed() {
    let served = Served::start();
    let answer = served.call("PUT", "/v1/partitions/p", PARTITION);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["effective"]["end_ns"], 1_000_000_000);
    let Asked::Apply { name, request, step, .. } =
        served.wait_for(|asked| matches!(asked, Asked::Apply { .. }))
    else {
        unreachable!("that is what was waited for")
    };
    assert_eq!((name.as_str(), step), ("p", "apply"));
    assert_eq!(serde_json::to_value(&request.shape).unwrap(), json!({ "isolate": ["n1"] }));

    served.call("PUT", "/v1/partitions/p?dry_run=true", PARTITION);
    served.wait_for(|asked| matches!(asked, Asked::Apply { step: "dry-run", .. }));
    served.call("POST", "/v1/partitions/p/prepare", PARTITION);
    served.wait_for(|asked| matches!(asked, Asked::Apply { step: "prepare", .. }));
    assert_eq!(served.call("POST", "/v1/partitions/p/enable", "").status, 200);

    let answer = served.call("DELETE", "/v1/partitions/p", "");
    assert_eq!(answer.json()["healed"]["healed_by"], "request", "{answer:?}");
    assert_eq!(served.call("DELETE", "/v1/partitions", "").json()["healed"].as_array().unwrap().len(), 2);
}

#[test]
fn bad_requests_are_problems_and_change_nothing() {
    let served = Served::start();
    let long = format!("/v1/partitions/{}", "n".repeat(65));
    let large = format!(r#"{{"shape": {{"isolate": ["{}"]}}}}"#, "n".repeat(1_100_000));
    for (method, path, body, status, code, says) in [
        ("PUT", "/v1/partitions/p", "{\"shape\":", 400, "bad-body", "line 1 column 9"),
        ("PUT", "/v1/partitions/p", "", 400, "bad-body", "empty"),
        ("PUT", "/v1/partitions/p", "no JSON", 400, "bad-body", "line 1"),
        ("PUT", "/v1/partitions/p", &format!("{PARTITION} x"), 400, "bad-body", "after the JSON"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"four":"5s"}"#, 400, "bad-body", "four"),
        ("PUT", "/v1/partitions/p", r#"{"shape":{"isolate":["n1"]},"loss":"x"}"#, 400, "bad-body", "30%"),
        ("PUT", "/v1/partitions/p?dryrun=true", PARTITION, 400, "bad-parameter", "dryrun"),
        ("PUT", "/v1/partitions/a%20b", PARTITION, 400, "bad-parameter", "a b"),
        ("PUT", "/v1/partitions/.", PARTITION, 400, "bad-parameter", "not . or .. alone"),
        ("PUT", "/v1/partitions/%2e%2e", PARTITION, 400, "bad-parameter", "not . or .. alone"),
        ("PUT", &long, PARTITION, 400, "bad-parameter", "1 to 64"),
        ("PUT", "/v1/partitions/p", &large, 413, "body-too-large", "1048576 bytes (1 MiB)"),
        ("POST", "/v1/status", "", 405, "wrong-method", "POST"),
        ("GET", "/v1/nothing", "", 404, "no-such-call", "/v1/nothing"),
        ("GET", "/v1/partitions/p/recovery?wait=soon", "", 400, "bad-parameter", "wait"),
        ("GET", "/v1/partitions/p/recovery?wait=11m", "", 400, "bad-parameter", "10m"),
        ("GET", "/v1/events?since=x", "", 400, "bad-parameter", "since"),
        ("POST", "/v1/marks", r#"{"text":""}"#, 400, "bad-parameter", "1024"),
    ] {
        let answer = served.call(method, path, body);
        assert_problem(&answer, status, code);
        assert!(answer.body.contains(says), "{method} {path}: {}", answer.body);
        if code == "bad-body" {
            assert!(answer.json()["remedy"].is_string(), "{body}: {}", answer.body);
        }
    }
    let heard: Vec<Asked> = served.asked.try_iter().collect();
    assert!(heard.iter().all(|asked| matches!(asked, Asked::Disconnected(_))), "{heard:?}");
}

#[test]
fn the_daemons_own_problems_pass_through() {
    let served = Served::start();
    let answer = served.call("PUT", "/v1/partitions/taken", PARTITION);
    assert_problem(&answer, 409, "name-taken");
    assert_eq!(answer.json()["field"], "name");
    assert_problem(&served.call("DELETE", "/v1/partitions/ghost", ""), 404, "unknown-partition");
    let wrong = served.call("PATCH", "/v1/partitions/p", "");
    assert!(wrong.head.contains("allow:"), "RFC 9110 wants Allow on a 405: {wrong:?}");
}

#[test]
fn a_client_that_goes_away_during_a_long_poll_is_noticed() {
    let served = Served::start();
    let mut stream = served.connect();
    let body = r#"{"shape": {"isolate": ["n1"]}, "owner": "connection"}"#;
    write!(
        stream,
        "PUT /v1/partitions/p HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let Asked::Apply { connection, .. } = served.wait_for(|asked| matches!(asked, Asked::Apply { .. }))
    else {
        unreachable!("that is what was waited for")
    };
    stream.read_exact(&mut [0; 16]).unwrap();
    write!(stream, "GET /v1/partitions/pending/recovery?wait=5m HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    served.wait_for(|asked| matches!(asked, Asked::Recovery { .. }));
    assert!(served.asked.try_recv().is_err(), "nothing is said while the client lives");
    drop(stream);
    served.wait_for(|asked| *asked == Asked::Disconnected(connection));
}

#[test]
fn bytes_sent_ahead_do_not_hide_the_end_of_a_client() {
    let served = Served::start();
    let mut stream = served.connect();
    let poll = "GET /v1/partitions/pending/recovery?wait=5m HTTP/1.1\r\nHost: x\r\n\r\n";
    write!(stream, "{poll}{poll}").unwrap();
    served.wait_for(|asked| matches!(asked, Asked::Recovery { .. }));
    drop(stream);
    served.wait_for(|asked| matches!(asked, Asked::Disconnected(_)));
}

#[test]
fn events_come_as_lines_backlog_first() {
    let served = Served::start();
    let history = served.call("GET", "/v1/events?follow=false", "");
    assert!(history.head.contains("application/x-ndjson"), "{history:?}");
    assert_eq!(history.body.matches("\"kind\":\"mark\"").count(), 3, "{history:?}");

    let mut stream = served.connect();
    write!(stream, "GET /v1/events?since=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let ids: Vec<u64> = BufReader::new(stream)
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["id"].as_u64().unwrap())
        .take(3)
        .collect();
    assert_eq!(ids, [2, 3, 4]);
}

#[test]
fn the_65th_connection_is_told_so_and_a_closed_one_makes_room() {
    let served = Served::start();
    let mut open: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = served.connect();
            write!(stream, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            stream
        })
        .collect();
    assert_problem(&served.call("GET", "/v1/status", ""), 429, "too-busy");
    assert_eq!(served.call("DELETE", "/v1/partitions", "").status, 200, "there is always a place for a heal");
    drop(open.pop());
    let freed = std::time::Instant::now();
    while served.call("GET", "/v1/status", "").status != 200 {
        assert!(freed.elapsed() < std::time::Duration::from_secs(20), "a closed one makes no room");
    }
}

#[test]
fn metrics_and_the_contract_are_served() {
    let served = Served::start();
    let metrics = served.call("GET", "/metrics", "");
    assert!(metrics.body.contains("injector_build_info{version=\"9.9.9\""), "{metrics:?}");
    let contract = served.call("GET", "/v1/openapi.json", "").json();
    assert_eq!(contract["openapi"], "3.1.0");
    for path in [
        "/v1/status",
        "/v1/partitions",
        "/v1/partitions/{name}",
        "/v1/partitions/{name}/prepare",
        "/v1/partitions/{name}/enable",
        "/v1/partitions/{name}/recovery",
        "/v1/partitions/{name}/probes",
        "/v1/probes",
        "/v1/marks",
        "/v1/events",
        "/metrics",
        "/v1/openapi.json",
    ] {
        assert!(contract["paths"][path].is_object(), "{path}");
    }
}

#[test]
fn the_socket_is_private_from_the_start_and_gone_at_the_end() {
    let mut served = Served::start();
    let directory = served.path.parent().unwrap().to_owned();
    let found = std::fs::symlink_metadata(&served.path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o7777, 0o600, "without the group, root alone");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "the private directory is gone");
    served.stop();
    assert!(!served.path.exists());
}

#[test]
fn the_configured_group_and_mode_are_set() {
    let directory = tempfile::tempdir().unwrap();
    let gid = nix::unistd::Gid::effective();
    let group = nix::unistd::Group::from_gid(gid).unwrap().expect("our group has a name").name;
    let socket = ApiSocket::bind(&injector_core::config::Socket { group, ..socket_in(&directory) }).unwrap();
    let found = std::fs::symlink_metadata(socket.path()).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, gid.as_raw()));
    assert_eq!(socket.access().gid, Some(gid.as_raw()));
}

#[test]
fn a_socket_in_use_is_refused_and_a_stale_one_replaced() {
    let served = Served::start();
    let in_use = injector_core::config::Socket {
        path: served.path.clone(),
        group: "no-such-group-here".to_owned(),
        mode: 0o660,
        readers: None,
    };
    let error = ApiSocket::bind(&in_use).unwrap_err();
    assert!(matches!(error, SocketError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("injector status --socket"), "{error}");
    assert_eq!(served.call("GET", "/v1/status", "").status, 200, "the living one is untouched");

    let directory = tempfile::tempdir().unwrap();
    let config = socket_in(&directory);
    drop(UnixListener::bind(&config.path).unwrap());
    let before = std::fs::symlink_metadata(&config.path).unwrap().ino();
    let socket = ApiSocket::bind(&config).unwrap();
    assert_ne!(std::fs::symlink_metadata(socket.path()).unwrap().ino(), before);
}

#[test]
fn what_is_not_ours_stays() {
    let directory = tempfile::tempdir().unwrap();
    let config = socket_in(&directory);
    std::fs::write(&config.path, "a file").unwrap();
    let error = ApiSocket::bind(&config).unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&config.path).unwrap(), "a file");
    std::fs::remove_file(&config.path).unwrap();

    let socket = ApiSocket::bind(&config).unwrap();
    std::fs::remove_file(&config.path).unwrap();
    let other = UnixListener::bind(&config.path).unwrap();
    drop(socket);
    assert!(config.path.exists(), "somebody else's socket under our name is not removed");
    drop(other);
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = ApiSocket::bind(&socket_in(&directory)).unwrap_err();
    assert!(matches!(error, SocketError::UnsafeDirectory { .. }), "{error}");
}

#[test]
fn the_contract_is_the_golden_one() {
    let mut document = Served::start().call("GET", "/v1/openapi.json", "").json();
    document["info"]["version"] = json!("(the version)");
    golden::check(env!("CARGO_MANIFEST_DIR"), "openapi.json", &golden::without_prose(document));
}
