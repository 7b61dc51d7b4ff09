//! What comes from a peer, a client or a file has a bound, which is named when it is hit. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use injector_lab::needs;
use serde_json::Value;
use support::{Daemon, Lab, until};

/// What the daemon may take more of, whatever others do: it is some 30 MiB in a debug build.
const MEMORY_KIB: u64 = 64 * 1024;

fn pid(daemon: &Daemon) -> u64 {
    daemon.cli("status")["pid"].as_u64().unwrap()
}

fn rss_kib(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A server in a node that sends a body without end to anyone who asks; stopped with this value.
struct Endless(Arc<AtomicBool>);

impl Endless {
    fn start(lab: &Lab, node: u8, port: u16) -> Self {
        let listener = lab.within(&format!("n{node}"), || TcpListener::bind((lab.ipv4(node), port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let stopped = Arc::clone(&stopped);
                std::thread::spawn(move || {
                    stream.set_nonblocking(false).unwrap();
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                    let piece = vec![b'x'; 64 * 1024];
                    while !stopped.load(Ordering::Relaxed) && stream.write_all(&piece).is_ok() {}
                });
            }
        });
        Self(stop)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn config_of(lab: &Lab, endpoints: &str) -> String {
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    format!(
        "{}interfaces: [{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}]\nendpoints:\n{endpoints}",
        lab.peers()
    )
}

#[test]
#[needs(root)]
fn a_body_without_end_costs_no_memory_and_its_limit_is_named() {
    let lab = Lab::switched(2);
    let _server = Endless::start(&lab, 1, 8080);
    let probe = "{ http: { url: \"http://{address}:8080/\", expect: { body_contains: never } }, timeout: 10s, \
                 interval: 20ms }";
    let endpoint = format!("  - {{ name: e, peers: [n1], netns: {}, probe: {probe} }}\n", lab.netns("n2"));
    let daemon = Daemon::start(&lab, "d", &config_of(&lab, &endpoint));
    let pid = pid(&daemon);
    let begin = rss_kib(pid);
    until("the limit is named", || {
        let error = daemon.cli("status")["endpoints"][0]["last_error"].clone();
        (error == "answer over 16 MiB").then_some(())
    });
    // The probes run at their full rate while something is open.
    daemon.cli("partition isolate n2 --name p --for 1ms --allow-uncovered");
    let watched = Instant::now();
    let mut most = 0;
    while watched.elapsed() < Duration::from_secs(6) {
        most = most.max(rss_kib(pid));
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{begin} KiB before, {most} KiB at most");
    assert!(most < begin + MEMORY_KIB, "{begin} KiB before, {most} KiB at most");
}

#[test]
#[needs(root)]
fn times_and_ids_have_limits_that_are_named() {
    let lab = Lab::switched(2);
    let good = config_of(&lab, "  []\n");
    for (line, limit) in [
        ("deadline: 100000h", "1h"),
        ("max_for: 700h", "1day"),
        ("ready: { observe: 2h, observe_max: 3h }", "1h"),
        ("ready: { observe_max: 3h }", "1h"),
    ] {
        let (status, said) = Daemon::refusal(&lab, "bad", &format!("{good}{line}\n"));
        assert_eq!(status, 64, "{line}: {said}");
        assert!(said.contains("too long") && said.contains(&format!("at most {limit}")), "{line}: {said}");
    }
    let daemon = Daemon::start(&lab, "d", &good);
    let id = "i".repeat(60_000);
    for (body, field, limit) in [
        (r#"{"shape": {"isolate": ["n1"]}, "deadline": "2h"}"#.to_owned(), "deadline", "1h"),
        (format!(r#"{{"shape": {{"isolate": ["n1"]}}, "request_id": "{id}"}}"#), "request_id", "128 bytes"),
        (r#"{"shape": {"isolate": ["n1"]}, "request_id": ""}"#.to_owned(), "request_id", "128 bytes"),
    ] {
        let (status, problem) = daemon.raw("PUT", "/v1/partitions/p", body.as_bytes());
        assert_eq!((status, &problem["field"]), (400, &Value::from(field)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(limit), "{problem}");
    }
    assert_eq!(daemon.cli("status")["partitions"], serde_json::json!([]));
}

/// How many child processes a process has.
fn children(pid: u64) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

#[test]
#[needs(root)]
fn rounds_of_probes_start_one_command_at_a_time() {
    let lab = Lab::switched(2);
    let endpoint =
        "  - { name: e, probe: { exec: { command: [sleep, \"0.2\"] }, interval: 1h, timeout: 5s } }\n";
    let daemon =
        Daemon::start(&lab, "d", &format!("{}ready: {{ consecutive: 1 }}\n", config_of(&lab, endpoint)));
    let pid = pid(&daemon);
    until("the endpoint's own first probe is over", || {
        let has_result = !daemon.cli("status")["endpoints"][0]["healthy"].is_null();
        (has_result && children(pid) == 0).then_some(())
    });
    let request = "POST /v1/probes HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n";
    let mut readers = Vec::new();
    for turn in 0..60 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        // Every other client goes away at once.
        if turn % 2 == 0 {
            readers.push(stream);
        }
    }
    let watched = Instant::now();
    let mut most = 0;
    while watched.elapsed() < Duration::from_secs(3) {
        most = most.max(children(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(most, 1, "commands at once");
    let mut answered = 0;
    for mut reader in readers {
        let mut answer = String::new();
        reader.read_to_string(&mut answer).unwrap();
        if answer.starts_with("HTTP/1.1 200") {
            answered += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("one at a time"), "{answer}");
        }
    }
    assert!(answered >= 5, "{answered} of 30 were answered");
}

#[test]
#[needs(root)]
fn readers_that_do_not_read_cost_no_memory() {
    let lab = Lab::switched(2);
    let mut endpoints = String::new();
    for name in ["a", "b", "c", "d"] {
        writeln!(
            endpoints,
            "  - {{ name: {name}, role: advisory, peers: [n1], netns: {}, probe: {{ tcp: {{ target: \
             \"{{address}}:81\" }}, interval: 1ms, timeout: 100ms }} }}",
            lab.netns("n2")
        )
        .unwrap();
    }
    let daemon = Daemon::start(&lab, "d", &config_of(&lab, &endpoints));
    daemon.cli("partition isolate n1 --name p --for 10s");
    std::thread::sleep(Duration::from_secs(8));
    let pid = pid(&daemon);
    let begin = rss_kib(pid);
    let mut held = Vec::new();
    let mut most = 0;
    for _ in 0..40 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(b"GET /v1/partitions/p/probes HTTP/1.1\r\nHost: i\r\n\r\n").unwrap();
        held.push(stream);
        most = most.max(rss_kib(pid));
    }
    // A polite client is answered meanwhile.
    let heals = daemon.heal_over_and_over("p", |heals| {
        most = most.max(rss_kib(pid));
        heals.count < 50
    });
    println!("{begin} KiB before, {most} KiB at most");
    assert!(most < begin + MEMORY_KIB, "{begin} KiB before, {most} KiB at most");
    heals.assert_within(Duration::from_secs(1));
    let mut answers = Vec::new();
    for mut stream in held {
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        answers.push(String::from_utf8_lossy(&begin[9..]).into_owned());
    }
    assert!(answers.iter().all(|status| status == "200" || status == "429"), "{answers:?}");
    assert!(answers.iter().any(|status| status == "200"), "{answers:?}");
}

#[test]
#[needs(root)]
fn event_streams_that_nobody_reads_hold_no_copy_of_the_history() {
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &config_of(&lab, "  []\n"));
    let pid = pid(&daemon);
    // As many events as are kept, of a kilobyte each.
    let mut line = UnixStream::connect(daemon.socket()).unwrap();
    line.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(1000));
    let post = format!("POST /v1/marks HTTP/1.1\r\nHost: i\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut answer = [0; 4096];
    for mark in 0..10_000 {
        line.write_all(format!("{post}{body}").as_bytes()).unwrap();
        let count = line.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "mark {mark}");
    }
    let begin = rss_kib(pid);
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: i\r\n\r\n").unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin[9..], b"200");
        held.push(stream);
    }
    let held_by_all = rss_kib(pid);
    println!("{begin} KiB with 10,000 events, {held_by_all} KiB with 40 streams of them that nobody reads");
    assert!(held_by_all < begin + 24 * 1024, "{begin} KiB, then {held_by_all} KiB");
    // Anyone who reads has all of it, in order.
    let mut all = String::new();
    let mut reader = UnixStream::connect(daemon.socket()).unwrap();
    reader.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let request = "GET /v1/events?follow=false&since=5 HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n";
    reader.write_all(request.as_bytes()).unwrap();
    reader.read_to_string(&mut all).unwrap();
    let ids: Vec<u64> = all
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert!(ids.len() >= 9_995 && ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{} events", ids.len());
}

#[test]
#[needs(root, alone, minutes = 1)]
fn an_open_partition_keeps_so_many_probes_and_its_record_names_the_limit() {
    let lab = Lab::switched(2);
    let n2 = lab.netns("n2");
    let mut endpoints = String::new();
    for at in 0..40 {
        writeln!(
            endpoints,
            "  - {{ name: e{at}, role: advisory, peers: [n1], netns: {n2}, probe: {{ tcp: {{ target: \"{{address}}:81\" }}, \
             interval: 1ms, timeout: 50ms }} }}"
        )
        .unwrap();
    }
    let daemon = Daemon::start(&lab, "d", &config_of(&lab, &endpoints));
    let pid = pid(&daemon);
    daemon.cli("partition isolate n1 --name long --for 10m");
    // Each tick of a grid is a probe, also one that this machine can't send in time: 40,000 a second.
    let (mut most, end) = (0, Instant::now() + Duration::from_mins(5));
    while !daemon.log().contains("its evidence is given up") {
        assert!(Instant::now() < end, "nothing was given up; {} KiB", rss_kib(pid));
        most = most.max(rss_kib(pid));
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{most} KiB at most");
    assert!(most < 256 * 1024, "{most} KiB");
    assert!(!lab.reaches(1, 2), "the cut continues");
    daemon.cli("heal long");
    let record = daemon.cli("wait long --timeout 60s");
    assert_eq!(record["outcome"], "harness_failed", "{}", record["outcome_reason"]);
    assert!(
        record["outcome_reason"].as_str().unwrap().contains("500000 probes"),
        "{}",
        record["outcome_reason"]
    );
    assert!(lab.reaches_soon(1, 2));
}

#[test]
#[needs(root)]
fn views_do_not_grow_with_the_links_that_are_cut() {
    let lab = Lab::switched(2);
    let mut config = "peers:\n".to_owned();
    for peer in 0..1000 {
        writeln!(config, "  p{peer}: {{ addresses: [10.200.{}.{}] }}", peer / 250, peer % 250 + 1).unwrap();
    }
    writeln!(config, "interfaces: [{{ name: eth0, netns: {} }}]", lab.netns("n1")).unwrap();
    let daemon = Daemon::start(&lab, "d", &config);
    for cut in 0..20 {
        let view = daemon.cli(&format!("partition isolate p{cut} --name c{cut} --for 60s --allow-uncovered"));
        assert_eq!(view["totals"]["links"], 1998, "{}", view["totals"]);
        assert!(view["links"].is_null(), "too many to be listed unasked");
    }
    let asked = Instant::now();
    let status = daemon.cli("status");
    println!("20 cuts of 1,998 links: a status after {:?}", asked.elapsed());
    for cut in status["partitions"].as_array().unwrap() {
        assert_eq!(cut["totals"]["links"], 1998, "{}", cut["totals"]);
        assert!(cut["totals"]["dropped_packets"].is_u64(), "{}", cut["totals"]);
        assert!(cut["links"].is_null() && cut["coverage"].is_null() && cut["not_here"].is_null());
    }
    let size = status["partitions"].to_string().len();
    assert!(size < 40_000, "{size} bytes for 20 cuts");
    let output = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["status", "--socket"])
        .arg(daemon.socket())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1998"), "{output:?}");
    let (_, one) = daemon.raw("GET", "/v1/partitions/c7", b"");
    assert!(one["links"].is_null() && one["totals"]["dropped_packets"].is_u64(), "{}", one["totals"]);
    assert!(one.to_string().len() < 5_000, "{} bytes for one cut", one.to_string().len());
    // The list is there where it is asked for, part by part.
    let part = |from: usize| {
        let (status, view) = daemon.raw("GET", &format!("/v1/partitions/c7?links_from={from}"), b"");
        assert_eq!(status, 200, "{view}");
        let links = view["links"].as_array().unwrap().clone();
        links.into_iter().map(|link| (link["src"].to_string(), link["dst"].to_string())).collect::<Vec<_>>()
    };
    let (first, second) = (part(0), part(1000));
    assert_eq!((first.len(), second.len(), part(1998).len(), part(1_000_000).len()), (1000, 998, 0, 0));
    let all: BTreeSet<_> = first.into_iter().chain(second).collect();
    assert_eq!(all.len(), 1998, "no link twice");
    let shape = br#"{"shape": {"isolate": ["p30"]}, "allow_uncovered": true}"#;
    let (status, dry) = daemon.raw("PUT", "/v1/partitions/dry?dry_run=true&links_from=1990", shape);
    assert_eq!((status, dry["links"].as_array().unwrap().len()), (200, 8), "{dry}");
    assert_eq!(dry["coverage"].as_array().unwrap().len(), 8, "of each of them");
    let short = daemon.cli("partition links p40:p41 --name short --for 60s --allow-uncovered");
    assert_eq!(short["links"].as_array().unwrap().len(), 1, "few links are listed unasked");
}

/// The most probes under way of all endpoints (`probe::in_flight::MOST`).
const IN_FLIGHT: usize = 4096;

#[test]
#[needs(root, alone)]
fn endpoints_that_do_not_answer_have_a_limit_in_common_which_is_named() {
    const ENDPOINTS: usize = 1000;
    let lab = Lab::switched(2);
    let n2 = lab.netns("n2");
    let mut endpoints = String::new();
    for at in 0..ENDPOINTS {
        // Each alone would leave 50 open.
        writeln!(
            endpoints,
            "  - {{ name: e{at}, role: advisory, peers: [n1], netns: {n2}, probe: {{ tcp: {{ target: \"{{address}}:81\" }}, \
             interval: 100ms, timeout: 5s }} }}"
        )
        .unwrap();
    }
    let daemon = Daemon::start(&lab, "d", &config_of(&lab, &endpoints));
    let pid = pid(&daemon);
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let (before, begin) = (open(), rss_kib(pid));
    daemon.cli("partition isolate n1 --name p --for 10m");
    until("the limit is reached", || (open() >= before.min(200) + IN_FLIGHT / 2).then_some(()));
    let (mut most, mut memory) = (0, 0);
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(8) {
        most = most.max(open());
        memory = memory.max(rss_kib(pid));
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{before} descriptors before, {most} at most; {begin} KiB, and {memory}");
    // One probe of each endpoint is always sent.
    assert!(most < before + IN_FLIGHT + ENDPOINTS + 100, "{most} descriptors");
    assert!(memory < begin + MEMORY_KIB, "{begin} KiB before, {memory} KiB at most");
    let named = format!("{IN_FLIGHT} probes of all endpoints in flight: not sent");
    until("the limit is named", || {
        let status = daemon.cli("status");
        let of = |endpoint: &Value| endpoint["last_error"].as_str().is_some_and(|error| error == named);
        status["endpoints"].as_array().unwrap().iter().any(of).then_some(())
    });
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

/// The probes of a partition, from an answer whose end is that of its connection.
fn probes(daemon: &Daemon, name: &str) -> Vec<Value> {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    write!(stream, "GET /v1/partitions/{name}/probes HTTP/1.0\r\nHost: i\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[test]
#[needs(root)]
fn a_long_list_of_probes_is_whole_and_in_order_while_it_grows_and_after() {
    let lab = Lab::switched(2);
    let n2 = lab.netns("n2");
    let endpoint = |name| {
        format!(
            "  - {{ name: {name}, role: advisory, peers: [n1], netns: {n2}, probe: {{ tcp: {{ target: \"{{address}}:81\" }}, interval: \
             2ms, timeout: 50ms }} }}\n"
        )
    };
    let daemon = Daemon::start(&lab, "d", &config_of(&lab, &["a", "b", "c"].map(endpoint).concat()));
    daemon.cli("partition isolate n1 --name p --for 10m");
    let assert_ordered = |probes: &[Value]| {
        let due = |probe: &Value| probe["scheduled_ns"].as_u64().unwrap();
        assert!(probes.is_sorted_by_key(due));
        for name in ["a@n1", "b@n1", "c@n1"] {
            let of_it: Vec<u64> = probes.iter().filter(|probe| probe["endpoint"] == name).map(due).collect();
            assert!(of_it.len() > 100, "{} of {name}", of_it.len());
            assert!(of_it.windows(2).all(|pair| pair[0] < pair[1]), "a probe of {name} is there twice");
        }
    };
    let open = until("there are many", || Some(probes(&daemon, "p")).filter(|probes| probes.len() > 2000));
    assert_ordered(&open);
    daemon.cli("heal p");
    daemon.cli("wait p --timeout 60s");
    let closed = probes(&daemon, "p");
    assert_ordered(&closed);
    assert!(closed.len() > open.len(), "{} after {}", closed.len(), open.len());
    let key = |probe: &Value| (probe["endpoint"].to_string(), probe["scheduled_ns"].as_u64());
    let known: BTreeSet<_> = closed.iter().map(key).collect();
    assert!(open.iter().all(|probe| known.contains(&key(probe))), "one was lost");
}
