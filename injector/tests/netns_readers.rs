//! What readers may do, and what one user leaves to others: places, slots and the daemon's time. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "support/users.rs"]
mod users;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use injector_lab::{attempt, needs};
use support::{Daemon, Lab};
use users::{A_THIRD, ANOTHER, MEMBER, ROOT, User, call, call_with, hold_streams, try_connect};

/// Debian's group `games`, whose members may read.
const READERS: u32 = 60;
const READER: User = User { uid: 65500, gid: READERS };
const STRANGER: User = User { uid: 65499, gid: 65499 };

const CUT: &str = r#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;

fn lab_for_readers(socket: &str) -> (Lab, String) {
    let lab = Lab::switched(3);
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = format!("socket: {{ {socket} }}\n{}interfaces:\n", lab.peers());
    for node in ["n1", "n2", "n3"] {
        writeln!(config, "  - {{ name: eth0, netns: {} }}", lab.netns(node)).unwrap();
    }
    (lab, config)
}

#[test]
#[needs(root)]
fn readers_read_and_change_nothing() {
    let (lab, config) = lab_for_readers("group: nogroup, readers: games");
    let daemon = Daemon::start(&lab, "d", &config);
    let socket = daemon.socket();
    let (answer, _) = call_with(socket, MEMBER, "PUT", "/v1/partitions/p", CUT);
    assert!(answer.starts_with("HTTP/1.1 200"), "a member cuts: {answer}");
    let (prepared, _) = call_with(socket, MEMBER, "POST", "/v1/partitions/later/prepare", CUT);
    assert!(prepared.starts_with("HTTP/1.1 200"), "{prepared}");
    assert!(!lab.reaches(1, 2) && lab.reaches(2, 3));
    let events = || {
        let (answer, _) = call(socket, ROOT, "GET", "/v1/events?follow=false");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let before = events();

    for path in [
        "/v1/status",
        "/v1/partitions",
        "/v1/partitions/p",
        "/v1/partitions/p/recovery",
        "/v1/partitions/p/probes",
        "/v1/events?follow=false",
        "/metrics",
        "/v1/openapi.json",
    ] {
        let (answer, _) = call(socket, READER, "GET", path);
        assert!(answer.starts_with("HTTP/1.1 200"), "GET {path}: {answer}");
    }
    for (method, path, body) in [
        ("DELETE", "/v1/partitions/p", ""),
        ("DELETE", "/v1/partitions", ""),
        ("PUT", "/v1/partitions/q", CUT),
        ("PUT", "/v1/partitions/p", CUT),
        ("PUT", "/v1/partitions/q?dry_run=true", CUT),
        ("POST", "/v1/partitions/q/prepare", CUT),
        ("POST", "/v1/partitions/later/enable", ""),
        ("POST", "/v1/probes", ""),
        ("POST", "/v1/marks", r#"{"text": "here"}"#),
        ("PATCH", "/v1/status", ""),
        ("get", "/v1/status", ""),
    ] {
        let (answer, _) = call_with(socket, READER, method, path, body);
        assert!(answer.starts_with("HTTP/1.1 403"), "{method} {path}: {answer}");
        assert!(answer.contains("\"not-permitted\"") && answer.contains("socket.readers"), "{answer}");
    }
    assert!(!lab.reaches(1, 2) && lab.reaches(2, 3), "the cut is as it was");
    assert_eq!(events(), before, "nothing has happened");

    let refused = try_connect(socket, STRANGER).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");

    let cli = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command.args(words).arg("--socket").arg(socket);
        // Only its real group counts, not root's.
        command.uid(READER.uid).gid(READER.gid).output()
    };
    // The program itself may lie where only root enters.
    if let Ok(output) = cli(&["status"]) {
        assert!(output.status.success(), "{output:?}");
        let output = cli(&["heal", "--all"]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{said}");
        assert!(said.contains("socket.readers"), "{said}");
    }
    let (answer, _) = call(socket, ANOTHER, "DELETE", "/v1/partitions");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(lab.reaches_soon(1, 2));
    attempt("a reader", "reads status, partitions, records, probes, events, metrics and the contract", "200");
    attempt(
        "a reader",
        "heals, cuts, asks for a dry run, prepares, enables, probes, marks",
        "403 `not-permitted`; the cut stays as it was, and no event comes of it",
    );
    attempt("a user in neither group", "connects to the socket", "permission denied by the kernel");
}

#[test]
#[needs(root)]
fn a_group_of_readers_that_is_not_one_stops_the_start() {
    let (lab, config) = lab_for_readers("group: nogroup, readers: no-such-group-here");
    let (status, said) = Daemon::refusal(&lab, "d", &config);
    assert_ne!(status, 0);
    assert!(
        said.contains("socket.readers") && said.contains("groupadd --system no-such-group-here"),
        "{said}"
    );
    let same = config.replace("no-such-group-here", "nogroup");
    let (status, said) = Daemon::refusal(&lab, "d", &same);
    assert_eq!(status, 64, "{said}");
    assert!(said.contains("owns the socket"), "{said}");
}

#[test]
#[needs(root)]
fn readers_that_hold_all_they_can_keep_nobody_out() {
    let (lab, config) = lab_for_readers("group: nogroup, readers: games");
    let daemon = Daemon::start(&lab, "d", &config);
    let socket = daemon.socket();
    let held: Vec<_> =
        (0..7).map(|reader| hold_streams(socket, User { uid: 65400 + reader, gid: READERS })).collect();
    let counts: Vec<usize> = held.iter().map(Vec::len).collect();
    println!("held by seven readers: {counts:?}");
    assert_eq!(counts, [8, 8, 8, 4, 2, 1, 1], "each leaves places to the next, up to the last one");
    let (answer, _) = call(socket, READER, "GET", "/v1/status");
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    for user in [ROOT, MEMBER] {
        daemon.cli("partition isolate n1 --name p --for 60s");
        assert!(!lab.reaches(1, 2));
        assert!(call(socket, user, "GET", "/v1/status").0.starts_with("HTTP/1.1 200"), "{user:?}");
        let (answer, took) = call(socket, user, "DELETE", "/v1/partitions/p");
        assert!(answer.starts_with("HTTP/1.1 200"), "{user:?}: {answer}");
        println!("{user:?}: healed after {took:?}");
        assert!(lab.reaches_soon(1, 2));
    }
    drop(held);
    support::until("the places are free again", || {
        call(socket, READER, "GET", "/v1/status").0.starts_with("HTTP/1.1 200").then_some(())
    });
    attempt(
        "seven readers",
        "hold all streams that they may",
        "429 for the next reader; root and a member cut and heal",
    );
}

/// Cuts until it is refused; how many there are, and the refusal.
fn cut_all(socket: &Path, user: User) -> (usize, String) {
    for count in 0.. {
        let path = format!("/v1/partitions/u{}-{count}", user.uid);
        let (answer, _) = call_with(socket, user, "PUT", &path, CUT);
        if !answer.starts_with("HTTP/1.1 200") {
            return (count, answer);
        }
        assert!(count < 40, "there is no limit");
    }
    unreachable!("the loop ends by itself")
}

#[test]
#[needs(root)]
fn one_member_leaves_slots_to_others_and_all_leave_some_to_root() {
    let (lab, config) = lab_for_readers("group: nogroup");
    let daemon = Daemon::start(&lab, "d", &config);
    let socket = daemon.socket();
    let (first, refusal) = cut_all(socket, MEMBER);
    // Each has half of the 28 that the others leave.
    assert_eq!(first, 14);
    assert!(refusal.contains("uid 65534 holds 14 partitions"), "{refusal}");
    let (second, refusal) = cut_all(socket, ANOTHER);
    assert_eq!(second, 7);
    assert!(
        refusal.contains("uid 65533 holds 7 partitions") && refusal.contains("while others hold 14"),
        "{refusal}"
    );
    let rest = (65529..A_THIRD.uid).rev().map(|uid| User { uid, ..MEMBER });
    let rest: Vec<(usize, String)> =
        std::iter::once(A_THIRD).chain(rest).map(|user| cut_all(socket, user)).collect();
    assert_eq!(rest.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [4, 2, 1, 0]);
    assert!(rest[3].1.contains("the last 4 are kept for root"), "{}", rest[3].1);
    let (of_root, refusal) = cut_all(socket, ROOT);
    assert_eq!(of_root, 4);
    assert!(refusal.contains("no-free-slot"), "{refusal}");
    assert!(!lab.reaches(1, 2) && lab.reaches(2, 3));
    // A heal gives the slot back to anyone who may have it.
    assert!(call(socket, A_THIRD, "DELETE", "/v1/partitions/u65534-3").0.starts_with("HTTP/1.1 200"));
    let without = User { uid: 65529, ..MEMBER };
    let (answer, _) = call_with(socket, without, "PUT", "/v1/partitions/mine", CUT);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(call(socket, A_THIRD, "DELETE", "/v1/partitions").0.starts_with("HTTP/1.1 200"));
    assert!(lab.reaches_soon(1, 2));
    attempt(
        "six members, one after the other",
        "cut until they are refused",
        "14, 7, 4, 2, 1 and 0 partitions; the last 4 of 32 are root's",
    );
    attempt("a member", "heals another member's partition", "200: members are operators");
}

#[test]
#[needs(root, alone)]
fn one_members_flood_of_commands_leaves_others_their_turns() {
    let (lab, config) = lab_for_readers("group: nogroup, readers: games");
    let daemon = Daemon::start(&lab, "d", &config);
    let socket = daemon.socket();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let undisturbed = p99(polite(socket, Duration::from_secs(1)));
    let mut rounds = Vec::new();
    std::thread::scope(|scope| {
        for client in 0..30 {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                let path = format!("/v1/partitions/flood{}?dry_run=true", client % 8);
                while !stop.load(Ordering::Relaxed) {
                    call_with(socket, MEMBER, "PUT", &path, CUT);
                    call(socket, MEMBER, "GET", "/v1/partitions");
                    done.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        // The 99th percentile of so few is the slowest of them, and a busy machine may hold up any single one.
        rounds.extend((0..3).map(|_| polite(socket, Duration::from_secs(2))));
        stop.store(true, Ordering::Relaxed);
    });
    let counts: Vec<usize> = rounds.iter().map(Vec::len).collect();
    let times: Vec<Duration> = rounds.into_iter().map(p99).collect();
    let done = done.into_inner();
    println!("{done} commands of one member; {counts:?} polite ones, p99 {times:?}, before {undisturbed:?}");
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    let mut sorted = times.clone();
    sorted.sort_unstable();
    let disturbed = sorted[1];
    // A machine that is busy with other work is slow without the flood, too.
    let most = Duration::from_millis(100).max(undisturbed * 8);
    assert!(disturbed < most, "{disturbed:?}, before {undisturbed:?}");
    attempt(
        "a member",
        "sends commands without a pause over 30 connections",
        "the 99th percentile of others stays under 100 ms, or under eight times what it was before",
    );
}

/// How long commands of others take, one after another.
fn polite(socket: &Path, during: Duration) -> Vec<Duration> {
    let (mut times, end) = (Vec::new(), Instant::now() + during);
    while Instant::now() < end {
        for user in [ROOT, ANOTHER, READER] {
            let (answer, took) = call(socket, user, "GET", "/v1/status");
            assert!(answer.starts_with("HTTP/1.1 200"), "{user:?}: {answer}");
            times.push(took);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    times
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}
