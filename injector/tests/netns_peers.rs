//! 1,024 peers and 32 overlapping cuts: how large answers get, how long they take, and what the daemon takes. Needs root.
//! The long form is `cargo xtask soak peers`.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "netns_soak/line.rs"]
mod line;
#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "netns_soak/usage.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod usage;
#[path = "support/users.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod users;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use injector_lab::http::{self, Request};
use injector_lab::{attempt, needs};
use line::Line;
use serde_json::Value;
use support::{Daemon, Lab};
use usage::{Usage, peak_kib};
use users::{MEMBER, ROOT, call_with};

/// As many as a host may have.
const PEERS: usize = 1024;
/// As many as there are slots.
const CUTS: usize = 32;
/// The most that the daemon may take, all pages of a debug build's file included.
const MEMORY_KIB: u64 = 128 * 1024;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

fn config(lab: &Lab) -> String {
    let mut config = "peers:\n".to_owned();
    for peer in 0..PEERS {
        writeln!(config, "  p{peer}: {{ addresses: [10.200.{}.{}] }}", peer / 250, peer % 250 + 1).unwrap();
    }
    writeln!(config, "interfaces: [{{ name: eth0, netns: {} }}]", lab.netns("n1")).unwrap();
    config
}

/// Isolates so many peers from all others; two cuts that follow each other share half of their peers.
fn cut(at: usize, isolated: usize) -> String {
    let peers: Vec<String> =
        (0..isolated).map(|peer| format!("\"p{}\"", (at * isolated / 2 + peer) % PEERS)).collect();
    format!(
        "{{\"shape\": {{\"isolate\": [{}]}}, \"for\": \"10m\", \"allow_uncovered\": true}}",
        peers.join(",")
    )
}

#[test]
#[needs(root, minutes = 1)]
fn very_many_peers_and_cuts_are_answered_soon_and_briefly() {
    let isolated = number("INJECTOR_PEERS_ISOLATED", 2);
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &config(&lab));
    let mut line = Line::open(daemon.socket());
    let begun = Usage::of(daemon.pid());
    let mut table = "| call | size | time |\n|---|---|---|\n".to_owned();
    let mut row = |what: &str, (answer, took): (Value, Duration)| {
        let size = answer.to_string().len();
        writeln!(table, "| {what} | {:.1} KiB | {:.1} ms |", size as f64 / 1024.0, took.as_secs_f64() * 1e3)
            .unwrap();
        println!("{}", table.lines().last().unwrap());
        size
    };
    for at in 0..CUTS {
        let applied = line.call("PUT", &format!("/v1/partitions/c{at}"), &cut(at, isolated));
        if at == 0 || at == CUTS - 1 {
            row(&format!("apply cut {}", at + 1), applied);
        }
    }
    let status = row("status", line.call("GET", "/v1/status", ""));
    let list = row("list of partitions", line.call("GET", "/v1/partitions", ""));
    let one = row("one partition", line.call("GET", "/v1/partitions/c7", ""));
    row("1,000 of its links", line.call("GET", "/v1/partitions/c7?links_from=0", ""));
    let (metrics, took) = text(&daemon, "/metrics");
    row("metrics", (Value::from(metrics), took));
    row("heal one", line.call("DELETE", "/v1/partitions/c7", ""));
    row("its record", line.call("GET", "/v1/partitions/c7/recovery?wait=30s", ""));
    row("heal the other 31", line.call("DELETE", "/v1/partitions", ""));
    let links = 2 * isolated * (PEERS - isolated);
    let (before, after) = (begun.own_kib / 1024, Usage::of(daemon.pid()).own_kib / 1024);
    let peak = peak_kib(daemon.pid());
    writeln!(
        table,
        "\n{PEERS} peers, {CUTS} cuts of {links} directed links each. Memory without pages of files: {before} MiB before the \
         cuts, {after} MiB after the heals. With them: {} MiB at most.",
        peak / 1024
    )
    .unwrap();
    println!("{table}");
    if let Some(path) = std::env::var_os("INJECTOR_SOAK_RESULTS") {
        std::fs::write(path, &table).unwrap();
    }
    assert!(peak < MEMORY_KIB, "{peak} KiB:\n{table}");
    // What grows with links is in the answers that are asked for it alone.
    assert!(one < 20 * 1024, "a view of {one} bytes");
    assert!(status < 400 * 1024, "a status of {status} bytes");
    assert!(list < 100 * 1024, "a list of {list} bytes");
}

/// Of cuts with 16,256 links each, as many as one user may have; root has room beside them.
#[test]
#[needs(root)]
fn links_of_a_users_open_partitions_have_a_limit_that_is_named() {
    const ISOLATED: usize = 8;
    let lab = Lab::switched(2);
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon =
        Daemon::start(&lab, "d", &format!("socket: {{ group: nogroup, mode: \"0660\" }}\n{}", config(&lab)));
    let put = |user, at: usize| {
        call_with(daemon.socket(), user, "PUT", &format!("/v1/partitions/c{at}"), &cut(at, ISOLATED)).0
    };
    for at in 0..6 {
        let answer = put(MEMBER, at);
        assert!(answer.starts_with("HTTP/1.1 200"), "{at}: {answer}");
    }
    let refusal = put(MEMBER, 6);
    assert!(refusal.starts_with("HTTP/1.1 429") && refusal.contains("\"too-busy\""), "{refusal}");
    assert!(
        refusal.contains(
            "16256 links, beside the 97536 of this user's open partitions: a user may have 100000 now"
        ),
        "{refusal}"
    );
    assert!(put(ROOT, 6).starts_with("HTTP/1.1 200"));
    attempt(
        "a member",
        "cuts as many links of 1,024 peers as it can",
        "429 beyond 100,000 links of open partitions; root cuts beside them",
    );
}

/// An answer that is no JSON, and how long it took.
fn text(daemon: &Daemon, path: &str) -> (String, Duration) {
    let asked = Instant::now();
    let request = Request::get(path);
    let (status, rest) = http::over_unix(daemon.socket(), &request).unwrap();
    assert_eq!(status, 200, "{rest}");
    (http::body(&rest).to_owned(), asked.elapsed())
}
