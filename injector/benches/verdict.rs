//! What a verdict costs in the kernel (`BPF_PROG_TEST_RUN`, hot), and what it costs to cut many links at once.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/support/packet.rs"]
#[expect(dead_code, reason = "written for the tests")]
mod packet;
#[path = "../tests/support/programs.rs"]
#[expect(dead_code, reason = "written for the tests")]
mod programs;
#[path = "support/result.rs"]
mod result;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use injector::datapath::Clocks;
use injector_common::{SLOTS, Word};
use injector_core::identity::{End, Identity, Port, Traits};
use injector_core::ledger::{DataPlane as _, execute};
use injector_core::model::{Link, PeerId};
use injector_core::plan::SlotIndex;
use injector_core::plan::{Cell, Presence, Step};
use programs::{Hook, INTERFACE, Programs, config, link, steady};
use result::Run;

/// How often each case is measured, all cases taking turns.
const ROUNDS: usize = 15;
/// Verdicts per measurement.
const REPEAT: u32 = 100_000;
/// Peers of the config with exact addresses.
const PEERS: u16 = 1000;
/// Peers of the config with prefixes.
const PREFIXES: u16 = 100;

/// A packet at a state of the data plane.
struct Case {
    name: &'static str,
    word: Word,
    /// A packet that passes the hook first.
    before: Option<Vec<u8>>,
    frame: Vec<u8>,
    /// The packet that goes out, where that is another one.
    out: Option<Vec<u8>>,
    drops: bool,
}

fn main() {
    let mut run = Run::begin("verdict");
    let mut exact = Programs::load(&config(&exact_peers()), Clocks::Real);
    let mut prefix = Programs::load(&config(&prefix_peers()), Clocks::Real);
    let mut bound = Programs::load(&config(&exact_peers()), Clocks::Real);
    place(&mut exact, &exact_peers());
    place(&mut prefix, &prefix_peers());
    place(&mut bound, &exact_peers());
    bound.kernel.identify(&behind_the_interface(3)).unwrap();
    let udp = |src, dst| packet::udp(src, dst, 1, 2, b"payload");
    let (one, last) = (Word::new(1, 0), Word::new(1 << (SLOTS - 1), 0));
    let case = |name, word, frame, drops| Case { name, word, before: None, frame, out: None, drops };
    let both = |name, word, one: (_, _), drops| Case {
        name,
        word,
        before: None,
        frame: udp(one.0, one.1),
        out: Some(udp(one.1, one.0)),
        drops,
    };
    let exact_cases = [
        case("nothing armed", Word::default(), udp("10.0.0.2", "10.0.0.3"), false),
        case("armed, link not cut, IPv4", one, udp("10.0.0.3", "10.0.0.4"), false),
        case("armed, link not cut, IPv6", one, udp("fd00::3", "fd00::4"), false),
        case("cut by one slot, IPv4", one, udp("10.0.0.1", "10.0.0.2"), true),
        case("cut by one slot, IPv6", one, udp("fd00::1", "fd00::2"), true),
        case("32 slots on the link, only the last live", last, udp("10.0.0.1", "10.0.0.2"), true),
        case("cut by 32 slots", Word::new(u32::MAX, 0), udp("10.0.0.1", "10.0.0.2"), true),
        Case {
            before: Some(udp("10.0.0.2", "10.0.0.1")),
            ..case("watched by 32 slots", Word::new(0, u32::MAX), udp("10.0.0.1", "10.0.0.2"), false)
        },
        Case {
            before: Some(udp("10.0.0.2", "10.0.0.1")),
            ..case("watched after the heal", Word::new(0, 1), udp("10.0.0.1", "10.0.0.2"), false)
        },
        // Each packet may be the one that completes the first exchange.
        case("watched after the heal, not answered yet", Word::new(0, 1), udp("10.0.0.5", "10.0.0.6"), false),
    ];
    let prefix_cases = [
        case("armed, link not cut, IPv4 by 100 prefixes", one, udp("10.3.0.9", "10.4.0.9"), false),
        case("armed, link not cut, IPv6 by 100 prefixes", one, udp("fd00:3::9", "fd00:4::9"), false),
    ];
    // What comes in is from the port's peer, what goes out is to it.
    let bound_cases = [
        both("nothing armed, port bound", Word::default(), ("10.0.0.3", "10.0.0.4"), false),
        both("armed, link not cut, IPv4, port bound", one, ("10.0.0.3", "10.0.0.4"), false),
        both("armed, link not cut, IPv6, port bound", one, ("fd00::3", "fd00::4"), false),
        both("armed, to and from a stranger, IPv4, port bound", one, ("10.0.0.3", "192.0.2.1"), false),
        both("armed, link-local, IPv6, port bound", one, ("fe80::3", "fe80::4"), false),
    ];
    let mut groups =
        [(&mut exact, &exact_cases[..]), (&mut prefix, &prefix_cases[..]), (&mut bound, &bound_cases[..])];
    let mut samples =
        vec![Vec::new(); Hook::ALL.len() * groups.iter().map(|(_, cases)| cases.len()).sum::<usize>()];
    let mut names = Vec::new();
    for round in 0..ROUNDS {
        let mut to = samples.iter_mut();
        for (programs, cases) in &mut groups {
            for case in *cases {
                programs.word(case.word.live(), case.word.watched());
                for hook in [Hook::Xdp, Hook::In, Hook::Out] {
                    if let Some(frame) = &case.before {
                        programs.run(hook, frame, 1);
                    }
                    let out = case.out.as_ref().filter(|_| hook == Hook::Out);
                    let (drops, time) = programs.run(hook, out.unwrap_or(&case.frame), REPEAT);
                    assert_eq!(drops, case.drops, "{} at {hook:?}", case.name);
                    to.next().unwrap().push(time.as_nanos() as f64);
                    if round == 0 {
                        names.push(format!("verdict, {}: {}", shown(hook), case.name));
                    }
                }
            }
        }
    }
    for (name, samples) in names.into_iter().zip(samples) {
        run.add(name, "ns per packet", samples);
    }
    commits(&mut run, &mut exact);
    run.end();
}

fn shown(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => "XDP",
        Hook::In => "TC in",
        Hook::Out => "TC out",
    }
}

/// The interface is the host end of one peer's veth, every peer has a port somewhere and forwards for nobody.
fn behind_the_interface(peer: u16) -> Identity {
    let port = |peer| Port { peer: PeerId(peer), end: End::Host, is_shared: false };
    let elsewhere = (1..=PEERS).filter(|other| *other != peer);
    let ports = elsewhere.map(|other| (INTERFACE + u32::from(other), port(other)));
    let plain = Traits { is_plain: true, is_seen: true, ..Traits::default() };
    Identity {
        ports: ports.chain([(INTERFACE, port(peer))]).collect(),
        peers: (1..=PEERS).map(|peer| (PeerId(peer), plain)).collect(),
        ..Identity::default()
    }
}

/// Puts all slots on the links between the first peer and the second, and one way between two others.
fn place(programs: &mut Programs, text: &str) {
    let config = config(text);
    let there = [("n1", "n2"), ("n2", "n1"), ("n5", "n6")].map(|(src, dst)| link(&config, src, dst));
    for slot in 0..SLOTS {
        programs.place(slot as u8, &steady(slot + 1), &there);
    }
}

/// The store itself, and what is written before it.
fn commits(run: &mut Run, programs: &mut Programs) {
    programs.word(0, 0);
    let slot = SlotIndex(0);
    // The gate checks the lease before each store.
    programs.lease(u64::MAX);
    let kernel = &mut programs.kernel;
    let nanoseconds = |time: Duration| time.as_nanos() as f64;
    let mut store = Vec::new();
    for turn in 0..500 {
        let word = if turn % 2 == 0 { Word::new(slot.bit(), 0) } else { Word::default() };
        let begin = Instant::now();
        kernel.store(word).unwrap();
        store.push(nanoseconds(begin.elapsed()));
    }
    run.add("commit: one store, with lease and stamps", "ns", store);
    let waits = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        kernel.wait_aged();
        nanoseconds(begin.elapsed())
    });
    run.add("commit: waiting out programs that read the old word", "ns", waits.collect());
    for count in [10, 100, 1_000, 10_000] {
        let cells: Vec<Cell> = (0..count)
            .map(|index| Cell::from(Link { src: PeerId(1 + index / 100), dst: PeerId(200 + index % 100) }))
            .collect();
        let cut = [
            Step::Slot(slot, Box::new(steady(9))),
            Step::Cells(slot, cells.clone(), Presence::In),
            Step::Word(Word::new(slot.bit(), 0)),
        ];
        let heal = [Step::Word(Word::default()), Step::Cells(slot, cells, Presence::Out)];
        let (mut cuts, mut heals) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (steps, samples) in [(&cut[..], &mut cuts), (&heal[..], &mut heals)] {
                let begin = Instant::now();
                execute(kernel, steps).unwrap();
                samples.push(nanoseconds(begin.elapsed()));
            }
        }
        run.add(format!("cut {count} links: slot, cells and one store"), "ns", cuts);
        run.add(format!("heal {count} links: one store, then the cells"), "ns", heals);
    }
}

fn exact_peers() -> String {
    let mut text = "peers:\n".to_owned();
    for peer in 1..=PEERS {
        let (high, low) = (peer >> 8, peer & 255);
        writeln!(text, "  n{peer}: {{ addresses: [10.0.{high}.{low}, \"fd00::{peer:x}\"] }}").unwrap();
    }
    text
}

fn prefix_peers() -> String {
    let mut text = "peers:\n".to_owned();
    for peer in 1..=PREFIXES {
        writeln!(text, "  n{peer}: {{ addresses: [10.{peer}.0.0/16, \"fd00:{peer:x}::/32\"] }}").unwrap();
    }
    text
}
