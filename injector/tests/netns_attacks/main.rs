//! Under each attack of clients, servers and surroundings, a polite client is answered soon, and the daemon's memory stays
//! bounded. Needs root. The long form is `cargo xtask soak attacks`.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/accepting.rs"]
mod accepting;
#[path = "../support/crowd.rs"]
mod crowd;
#[path = "../netns_soak/line.rs"]
mod line;
#[path = "../support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "../netns_soak/usage.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod usage;
#[path = "../support/users.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod users;

mod clients;
mod host;
mod polite;
mod scene;
mod servers;
mod web;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use injector_lab::needs;
use polite::{Measured, cut, heal, measure};
use scene::{Attack, Attackers, Scene, Setting};
use support::{Lab, until};
use usage::Usage;
use web::Reply;

/// The memory that the daemon may take beside the pages of its file, which are 40 MiB in a debug build and 20 MiB in a release build.
const MEMORY_KIB: u64 = 40 * 1024;
/// The 99th percentile of a polite client's calls: the promise, which the long form judges,
const PROMISED_MS: f64 = 100.0;
/// and what a machine keeps that is busy with other things.
const PATIENT_MS: f64 = 1000.0;

/// How long a datagram is waited for that must not arrive. Between namespaces of one machine it takes less than a millisecond.
const CUT_OFF: Duration = Duration::from_millis(300);

const NONE: Attack = Attack { name: "none", unit: "", least: 0, prepare: |_, _| Setting::default() };

const HEAD: &str = "| attack | how much of it | calls | median | p99 | worst | heal, p99 | most memory | without files |\n\
                    |---|---|---|---|---|---|---|---|---|\n";

fn row(attack: &Attack, done: u64, measured: &Measured) -> String {
    let Measured { calls, heals, count, peak_kib, own_kib } = measured;
    format!(
        "| {} | {} | {count} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} MiB | {:.1} MiB |",
        attack.name,
        if attack.unit.is_empty() { "–".to_owned() } else { format!("{done} {}", attack.unit) },
        calls.quantile(0.5),
        calls.quantile(0.99),
        calls.quantile(1.0),
        heals.quantile(0.99),
        *peak_kib as f64 / 1024.0,
        *own_kib as f64 / 1024.0,
    )
}

/// Three peers; other users reach the socket in its folder.
fn lab() -> Arc<Lab> {
    let lab = Lab::switched(3);
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Arc::new(lab)
}

/// Cuts are cuts, and heals are heals, while the attack continues.
fn assert_cuts(scene: &Scene) {
    let socket = scene.daemon.socket();
    // Then each knows the other's hardware address; else it would ask for it again only a second after the heal.
    assert!(scene.lab.reaches_soon(1, 2));
    cut(socket, "checked", r#"{"isolate": ["n1"]}"#);
    let (from, to) = (("n1", scene.lab.ipv4(1)), ("n2", scene.lab.ipv4(2)));
    assert_eq!(scene.lab.delivered_within(from, to, 1, 1, CUT_OFF), 0);
    heal(socket, "checked");
    assert!(scene.lab.reaches_soon(1, 2));
}

/// One attack: how much of it there was, and what a polite client saw.
fn under(lab: &Arc<Lab>, attack: &Attack, time: Duration) -> (u64, Measured) {
    let mut attackers = Attackers::default();
    let setting = (attack.prepare)(lab, &mut attackers);
    let scene = Scene::begin(lab, setting, &mut attackers);
    let is_enough = || attackers.done() >= attack.least;
    let measured = measure(scene.daemon.socket(), scene.daemon.pid(), time, is_enough);
    let done = attackers.done();
    assert_cuts(&scene);
    attackers.stop();
    (done, measured)
}

#[test]
#[needs(root, alone, minutes = 2)]
fn under_every_attack_a_polite_client_is_answered_soon_and_memory_is_bounded() {
    let seconds = std::env::var("INJECTOR_ATTACK_SECONDS").ok();
    let time = seconds.as_ref().map_or(Duration::from_millis(700), |seconds| {
        Duration::from_secs_f64(
            seconds.parse().unwrap_or_else(|_| panic!("INJECTOR_ATTACK_SECONDS={seconds}")),
        )
    });
    let promised = if seconds.is_some() { PROMISED_MS * patience() } else { PATIENT_MS };
    let only = std::env::var("INJECTOR_ATTACK").ok();
    let (mut table, mut missed) = (HEAD.to_owned(), Vec::new());
    let attacks =
        std::iter::once(&NONE).chain(&clients::ATTACKS).chain(&servers::ATTACKS).chain(&host::ATTACKS);
    for attack in attacks.filter(|attack| only.as_ref().is_none_or(|only| attack.name.contains(only))) {
        let lab = lab();
        let (done, measured) = under(&lab, attack, time);
        let row = row(attack, done, &measured);
        println!("{row}");
        writeln!(table, "{row}").unwrap();
        if done < attack.least {
            missed.push(format!("{}: {done} {}, which is no attack", attack.name, attack.unit));
        }
        if measured.own_kib >= MEMORY_KIB {
            missed.push(format!("{}: {} KiB", attack.name, measured.own_kib));
        }
        let p99 = measured.calls.quantile(0.99);
        if p99 >= promised {
            missed.push(format!(
                "{}: the 99th percentile is {p99:.1} ms, where {promised} ms are promised",
                attack.name
            ));
        }
    }
    writeln!(
        table,
        "\nA call is a cut, a status or a heal of a polite client, on a connection that stays open and on one for each call. Each attack has \
         a daemon of its own. Without the pages of its file (the last column) it may take {} MiB.",
        MEMORY_KIB / 1024,
    )
    .unwrap();
    if let Some(path) = std::env::var_os("INJECTOR_SOAK_RESULTS") {
        std::fs::write(path, &table).unwrap();
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// How many times as long a busy machine may take in the long form.
fn patience() -> f64 {
    std::env::var("INJECTOR_SOAK_PATIENCE").map_or(1.0, |value| value.parse().unwrap())
}

/// How many calls are made before memory is looked at, of 13 KB each: by then as many connections as ever are open.
const WARM: u64 = 1000;
/// How many follow: kept, their messages would take 26 MB.
const GRPC_CALLS: u64 = 2000;

#[test]
#[needs(root)]
fn messages_of_a_grpc_server_are_not_kept() {
    let lab = lab();
    let mut attackers = Attackers::default();
    let setting = servers::grpc(&lab, &mut attackers, Reply::Message);
    let scene = Scene::begin(&lab, setting, &mut attackers);
    // Probes run at their full rate while something is open.
    cut(scene.daemon.socket(), "open", r#"{"isolate": ["n1"]}"#);
    let own_kib_after = |calls| {
        until("the server is called", || (attackers.done() >= calls).then_some(()));
        Usage::of(scene.daemon.pid()).own_kib
    };
    let before = own_kib_after(WARM);
    let begun = Instant::now();
    let end = own_kib_after(WARM + GRPC_CALLS);
    let rate = GRPC_CALLS as f64 / begun.elapsed().as_secs_f64();
    println!("{before} KiB, and {end} KiB after {GRPC_CALLS} more calls ({rate:.0} a second)");
    assert!(end < before + 8 * 1024, "{before} KiB, and {end} KiB after {GRPC_CALLS} more calls");
    // On a busy machine, a single answer may be late.
    until("every endpoint is healthy", || {
        let status = scene.daemon.cli("status");
        let mut endpoints = status["endpoints"].as_array().unwrap().iter();
        endpoints.all(|endpoint| endpoint["healthy"] == true).then_some(())
    });
    attackers.stop();
}

/// Memory is looked at when so many connections of probes are open: what the daemon takes once, and the larger buffers of the
/// first connections, are taken by then;
const BEGUN: usize = 200;
/// and again when so many are.
const OPEN: usize = 400;
/// The most memory that each of the others may take. It takes 24 KiB: two buffers of 8 KiB, its probe, and what allocating leaves
/// unused. Where hyper enlarges its buffers as it likes, it takes 66 KiB.
const EACH_KIB: u64 = 40;

#[test]
#[needs(root)]
fn a_body_without_end_takes_little_memory() {
    let lab = lab();
    let mut attackers = Attackers::default();
    let setting = servers::endless_bodies(&lab, &mut attackers);
    let scene = Scene::begin(&lab, setting, &mut attackers);
    let closed = Usage::of(scene.daemon.pid()).descriptors;
    // Probes run at their full rate while something is open.
    cut(scene.daemon.socket(), "open", r#"{"isolate": ["n1"]}"#);
    let with_open = |count| {
        until("connections are open", || {
            let usage = Usage::of(scene.daemon.pid());
            (usage.descriptors >= closed + count).then_some(usage)
        })
    };
    let begun = with_open(BEGUN);
    let full = with_open(OPEN);
    let count = full.descriptors - begun.descriptors;
    let each = full.own_kib.saturating_sub(begun.own_kib) / count as u64;
    println!("{count} connections take {each} KiB each");
    assert!(each < EACH_KIB, "{each} KiB for each of {count} connections");
    attackers.stop();
}
