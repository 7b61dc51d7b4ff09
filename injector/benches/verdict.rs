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

use injector::datapath::{Clocks, Datapath as _, SlotIndex, execute};
use injector::model::{Link, PeerId};
use injector::plan::{Cell, Presence, Step};
use injector_common::{SLOTS, Word};
use programs::{Hook, Programs, config, link, steady};
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
    frame: Vec<u8>,
    drops: bool,
}

fn main() {
    let mut run = Run::begin("verdict");
    let mut exact = Programs::load(&config(&exact_peers()), Clocks::Real);
    let mut prefix = Programs::load(&config(&prefix_peers()), Clocks::Real);
    place(&mut exact, &exact_peers());
    place(&mut prefix, &prefix_peers());
    let udp = |src, dst| packet::udp(src, dst, 1, 2, b"payload");
    let (one, last) = (Word::new(1, 0), Word::new(1 << (SLOTS - 1), 0));
    let case = |name, word, frame, drops| Case { name, word, frame, drops };
    let exact_cases = [
        case("nothing armed", Word::default(), udp("10.0.0.2", "10.0.0.3"), false),
        case("armed, link not cut, IPv4", one, udp("10.0.0.3", "10.0.0.4"), false),
        case("armed, link not cut, IPv6", one, udp("fd00::3", "fd00::4"), false),
        case("cut by one slot, IPv4", one, udp("10.0.0.1", "10.0.0.2"), true),
        case("cut by one slot, IPv6", one, udp("fd00::1", "fd00::2"), true),
        case("32 slots on the link, only the last live", last, udp("10.0.0.1", "10.0.0.2"), true),
        case("watched after the heal", Word::new(0, 1), udp("10.0.0.1", "10.0.0.2"), false),
    ];
    let prefix_cases = [
        case("armed, link not cut, IPv4 by 100 prefixes", one, udp("10.3.0.9", "10.4.0.9"), false),
        case("armed, link not cut, IPv6 by 100 prefixes", one, udp("fd00:3::9", "fd00:4::9"), false),
    ];
    let mut samples = vec![Vec::new(); 2 * (exact_cases.len() + prefix_cases.len())];
    let mut names = Vec::new();
    for round in 0..ROUNDS {
        let mut to = samples.iter_mut();
        for (programs, cases) in [(&mut exact, &exact_cases[..]), (&mut prefix, &prefix_cases[..])] {
            for case in cases {
                programs.word(case.word.live(), case.word.watched());
                for hook in [Hook::Xdp, Hook::In] {
                    let (drops, time) = programs.run(hook, &case.frame, REPEAT);
                    assert_eq!(drops, case.drops, "{} at {hook:?}", case.name);
                    to.next().unwrap().push(time.as_nanos() as f64);
                    if round == 0 {
                        let hook = if hook == Hook::Xdp { "XDP" } else { "TC" };
                        names.push(format!("verdict, {hook}: {}", case.name));
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

/// Puts all slots on the link from the first peer to the second.
fn place(programs: &mut Programs, text: &str) {
    let there = [link(&config(text), "n1", "n2")];
    for slot in 0..SLOTS {
        programs.place(slot as u8, &steady(slot + 1), &there);
    }
}

/// The store itself, and what is written before it.
fn commits(run: &mut Run, programs: &mut Programs) {
    programs.word(0, 0);
    let slot = SlotIndex(0);
    // The gate looks at the lease before each store.
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
    let settle = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        kernel.settle();
        nanoseconds(begin.elapsed())
    });
    run.add("commit: waiting out programs that read the old word", "ns", settle.collect());
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
