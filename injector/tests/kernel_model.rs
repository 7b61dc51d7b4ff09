//! The reference model and the three programs of the kernel say the same of any packet.
//!
//! `INJECTOR_MODEL_CASES` is how many packets are judged (by each program), `INJECTOR_MODEL_SEED` repeats a run.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(kernels);

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use injector::datapath::Clocks;
use injector_common::key::GROUP;
use injector_common::record::{LinkStamps, counter};
use injector_common::slot::{LOSS_ALL, MAX_SCOPES, Slot, SlotScope};
use injector_core::identity::{End, Identity, Port, Traits};
use injector_core::model::PeerId;
use injector_core::plan::{Cell, Column, slot_scope};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{
    Config as Settings, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner,
};

use injector_lab::needs;
use support::frame::{Frame, hex};
use support::model::names::{Direction, Hook as At, Names};
use support::model::{Model, Moment, Partition, read};
use support::pool::Pool;
use support::programs::{Hook, Programs};
use support::setup::{Setup, drafts, scopes};

/// Frames of one case: one set of partitions.
const FRAMES: usize = 16;
/// Packets of one case: a frame at a moment.
const PACKETS: usize = 64;
/// Interfaces with programs.
const INTERFACES: [u32; 2] = [1, 2];
/// Configs of a run, one of each kind of draft; each loads the programs again.
const SETUPS: u32 = 12;
/// The test clock's middle.
const NOON: u64 = 1_000_000_000_000;

/// Partitions, and packets that meet them.
#[derive(Clone, Debug)]
struct Case {
    partitions: BTreeMap<u8, (Partition, Stage)>,
    identity: Identity,
    rolls: BTreeMap<u16, BTreeSet<u32>>,
    lease: u64,
    /// How many packets come before anything is armed.
    early: usize,
    frames: Vec<Frame>,
    packets: Vec<Packet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Live,
    Watched,
    /// Written, but not committed.
    Prepared,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    /// Which frame, modulo how many there are.
    frame: usize,
    interface: u32,
    now: u64,
    /// How far the coarse clock is behind.
    lag: u64,
    random: u32,
}

/// Instants around boundaries that lie at the same places.
fn instants() -> impl Strategy<Value = u64> {
    const MS: i64 = 1_000_000;
    let places = vec![
        // Claims of that time have aged.
        -700_000 * MS,
        -700_000 * MS,
        -700_000 * MS,
        -60_000 * MS,
        -2000 * MS,
        -51 * MS,
        -20 * MS,
        0,
        10 * MS,
        29 * MS,
        49 * MS,
        50 * MS,
        70 * MS,
        2000 * MS,
        60_000 * MS,
    ];
    (select(places), prop_oneof![-1..=1_i64, -9 * MS..9 * MS])
        .prop_map(|(place, off)| NOON.checked_add_signed(place + off).unwrap())
}

/// Random numbers, and thresholds for them.
fn randoms() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), select(vec![0, 1 << 30, 1 << 31, u32::MAX])]
}

fn partitions(peers: u16) -> impl Strategy<Value = (Partition, Stage)> {
    let column = prop_oneof![4 => 0..=peers, 1 => Just(GROUP)];
    let some = btree_map((0..=peers, column), any::<bool>(), 1..8);
    let columns = move || (0..=peers).chain([GROUP]);
    let all = (0..=peers).flat_map(move |src| columns().map(move |dst| (src, dst))).collect::<BTreeSet<_>>();
    let all = any::<u64>().prop_map(move |kept| {
        all.iter().enumerate().map(|(index, link)| (*link, kept >> (index % 64) & 1 == 0)).collect()
    });
    let links = prop_oneof![2 => some.boxed(), 1 => all.boxed()];
    let starts = prop_oneof![3 => Just(0), 2 => instants()];
    let ends = prop_oneof![3 => Just(u64::MAX), 2 => instants()];
    let loss = prop_oneof![5 => Just(None), 2 => randoms().prop_map(Some)];
    // Round ones too, whose edges the instants meet.
    let round = (select(vec![2_u64, 10, 20, 40, 100]), select(vec![0_u64, 50, 100]));
    let odd = (1..60_000_000_u64, 0..=100_u64);
    let flap = prop_oneof![round.prop_map(|(period, on)| (period * 1_000_000, on)), odd];
    let flap = weighted(0.25, flap.prop_map(|(period, percent)| (period, period * percent / 100)));
    let scopes = prop_oneof![4 => Just(Vec::new()).boxed(), 3 => vec(scopes(), 1..4).boxed(), 1 => vec(scopes(), MAX_SCOPES).boxed()];
    let stage = prop_oneof![5 => Just(Stage::Live), 2 => Just(Stage::Watched), 1 => Just(Stage::Prepared)];
    (1..1000_u32, links, starts, ends, loss, flap, scopes, stage).prop_map(
        |(generation, links, starts, ends, loss, flap, scopes, stage)| {
            (Partition { generation, links, starts, ends, loss, flap, scopes }, stage)
        },
    )
}

/// What names frames: ports of the interfaces with programs, and sometimes of every peer elsewhere.
fn identities(setup: &Setup) -> impl Strategy<Value = Identity> + use<> {
    let peers = setup.config.names.len() as u16 - 1;
    let peer = move || (1..=peers).prop_map(PeerId);
    let port = (peer(), any::<bool>(), weighted(0.15, Just(()))).prop_map(|(peer, is_own, shared)| Port {
        peer,
        end: if is_own { End::Own } else { End::Host },
        is_shared: shared.is_some(),
    });
    let ports = vec(weighted(0.75, port), INTERFACES.len());
    let traits = (any::<bool>(), weighted(0.2, Just(())), any::<bool>(), any::<bool>()).prop_map(
        |(is_plain, forwards, is_seen, has_known_macs)| Traits {
            is_plain,
            // It changes with what passes: `kernel_identity` has it.
            may_forward: false,
            forwards: forwards.is_some(),
            is_seen,
            has_known_macs,
        },
    );
    let known = btree_map(peer(), traits, 0..=usize::from(peers));
    // Whether someone else has it too, in which case it is on the list of doubled ones alone.
    let macs = btree_map(select(setup.macs.clone()), (peer(), weighted(0.2, Just(()))), 0..=2);
    let held = if setup.unlisted.is_empty() {
        Just(BTreeMap::new()).boxed()
    } else {
        btree_map(select(setup.unlisted.clone()), peer(), 0..=2).boxed()
    };
    let moved = setup.moved.clone();
    // Whether someone else is seen to hold it too, and if so whether that is another peer.
    let sharing = vec(prop_oneof![3 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))], 2);
    let held = (held, sharing);
    (ports, any::<bool>(), macs, held, known).prop_map(move |(ports, are_all_bound, macs, held, known)| {
        let (doubled, macs): (Vec<_>, Vec<_>) =
            macs.into_iter().partition(|(_, (_, is_doubled))| is_doubled.is_some());
        let doubled = doubled.into_iter().map(|(mac, _)| mac).collect();
        let macs = macs.into_iter().map(|(mac, (peer, _))| (mac, peer)).collect();
        let (mut held, sharing): (BTreeMap<_, PeerId>, _) = held;
        let all: Vec<_> = held.iter().map(|(address, peer)| (*address, *peer)).zip(sharing).collect();
        let shared = all.into_iter().filter_map(|((address, peer), by_peer)| {
            let by_peer = by_peer?;
            held.remove(&address);
            Some((address, (!by_peer).then_some(peer)))
        });
        let shared: BTreeMap<_, _> = shared.collect();
        let forwarding: BTreeSet<PeerId> =
            known.iter().filter(|(_, it)| it.forwards).map(|(id, _)| *id).take(4).collect();
        let forwarders = shared.iter().filter(|(_, peer)| peer.is_none() && !forwarding.is_empty());
        let forwarders = forwarders.map(|(address, _)| (*address, forwarding.clone())).collect();
        let here = INTERFACES.into_iter().zip(ports).filter_map(|(at, port)| Some((at, port?)));
        let elsewhere = (1..=if are_all_bound { peers } else { 0 }).map(|peer| {
            (100 + u32::from(peer), Port { peer: PeerId(peer), end: End::Host, is_shared: false })
        });
        Identity {
            ports: here.chain(elsewhere).collect(),
            macs,
            doubled,
            held,
            private: BTreeMap::new(),
            shared,
            forwarders,
            moved: moved.clone(),
            peers: known,
        }
    })
}

fn cases(setup: &Setup) -> impl Strategy<Value = Case> + use<> {
    let peers = setup.config.names.len() as u16 - 1;
    let count = prop_oneof![6 => 1..4_usize, 2 => 4..32_usize, 1 => Just(32)];
    let partitions = count.prop_flat_map(move |count| {
        (subsequence((0..32_u8).collect::<Vec<_>>(), count), vec(partitions(peers), count))
            .prop_map(|(slots, partitions)| slots.into_iter().zip(partitions).collect())
    });
    let rolls = btree_map(1..=peers, btree_set(1..=4_u32, 1..=2), 0..=usize::from(peers) / 2);
    let lease = prop_oneof![5 => Just(u64::MAX), 1 => instants()];
    let lag = prop_oneof![Just(0), 0..20_000_000_u64];
    let packet = (0..FRAMES, select(&INTERFACES[..]), instants(), lag, randoms())
        .prop_map(|(frame, interface, now, lag, random)| Packet { frame, interface, now, lag, random });
    let frames = vec(setup.pool.frames(), 1..=FRAMES);
    let early = prop_oneof![2 => Just(0), 1 => 1..PACKETS / 4];
    (partitions, (identities(setup), rolls), lease, early, frames, vec(packet, 1..=PACKETS)).prop_map(
        |(partitions, (identity, rolls), lease, early, frames, mut packets)| {
            // A clock does not go back.
            packets.sort_by_key(|packet| packet.now);
            Case { partitions, identity, rolls, lease, early, frames, packets }
        },
    )
}

fn slot(partition: &Partition) -> Slot {
    let mut scopes = [SlotScope::default(); MAX_SCOPES];
    for (to, from) in scopes.iter_mut().zip(&partition.scopes) {
        *to = slot_scope(*from);
    }
    let (flap_period, flap_on) = partition.flap.unwrap_or((0, 0));
    Slot {
        starts_at: partition.starts,
        ends_at: partition.ends,
        loss: partition.loss.map_or(LOSS_ALL, u64::from),
        flap_period,
        flap_on,
        scope_count: partition.scopes.len() as u32,
        full: u32::from(partition.scopes.is_empty() && partition.loss.is_none()),
        scopes,
        ..Slot::whole(partition.generation)
    }
}

/// What a total takes from one link's stamps.
type Sum = fn(&LinkStamps) -> u64;

/// One setup under test, and what its last case left in the maps.
struct Bench {
    setup: Setup,
    programs: Programs,
    placed: Vec<(u8, Vec<Cell>)>,
    counters: Vec<u64>,
    judged: u64,
    totals: BTreeMap<&'static str, u64>,
}

impl Bench {
    fn new(setup: Setup) -> Self {
        let programs = Programs::load_for(&setup.config, Clocks::Test, &INTERFACES);
        let counters = programs.counters();
        Self { setup, programs, placed: Vec::new(), counters, judged: 0, totals: BTreeMap::new() }
    }

    fn reset(&mut self) {
        self.programs.word(0, 0);
        for (slot, cells) in self.placed.drain(..) {
            self.programs.clear_cells(slot, &cells);
        }
        self.programs.forget_names(&self.setup.moved);
        self.programs.forget();
        self.counters = self.programs.counters();
    }

    fn check(&mut self, case: &Case) -> Result<(), TestCaseError> {
        self.reset();
        let mut config = self.setup.verdict.clone();
        config.rolls = case.rolls.clone().into_iter().collect();
        let names = Names::new(config, case.identity.clone());
        let mut model = Model { names, lease: case.lease, ..Model::default() };
        self.programs.kernel.identify(&case.identity).unwrap();
        for peer in 0..self.setup.config.names.len() as u16 {
            let at = case.rolls.get(&peer).cloned().unwrap_or_default();
            self.programs.kernel.bind_roll(PeerId(peer), &at).unwrap();
        }
        for (index, (partition, _)) in &case.partitions {
            let cells: Vec<_> = partition.links.iter().map(cell).collect();
            self.programs.place_cells(*index, &slot(partition), &cells);
            self.placed.push((*index, cells));
        }
        self.programs.lease(case.lease);
        let frames: Vec<_> = case.frames.iter().map(Frame::bytes).collect();
        for (number, packet) in case.packets.iter().enumerate() {
            if number == case.early {
                self.arm(case, &mut model);
            }
            let drawn = packet.frame % case.frames.len();
            let frame = &frames[drawn];
            self.programs.set(packet.now, packet.lag, packet.random);
            let at = Moment { now: packet.now, coarse: packet.now - packet.lag, random: packet.random };
            for hook in Hook::ALL.into_iter().filter(|hook| hook.takes(frame)) {
                let direction = if hook == Hook::Out { Direction::Out } else { Direction::In };
                let reported = model.drops(frame, At { interface: packet.interface, direction }, at);
                let done = self.programs.drops_at(packet.interface, hook, frame);
                prop_assert!(
                    reported == done,
                    "{} {}, the model {} at {packet:?}:{}",
                    hook.name(),
                    if done { "drops" } else { "passes" },
                    if reported { "drops" } else { "passes" },
                    shown(&case.frames[drawn]),
                );
            }
        }
        self.judged += case.packets.len() as u64;
        *self.totals.entry("frames").or_default() += case.frames.len() as u64;
        self.compare(&model)
    }

    fn arm(&mut self, case: &Case, model: &mut Model) {
        let (mut live, mut watched) = (0, 0);
        for (index, (partition, stage)) in &case.partitions {
            match stage {
                Stage::Live => {
                    live |= 1 << index;
                    model.live.insert(*index, partition.clone());
                }
                Stage::Watched => {
                    watched |= 1 << index;
                    model.watched.insert(*index, partition.clone());
                }
                Stage::Prepared => {}
            }
        }
        self.programs.word(live, watched);
    }

    fn compare(&mut self, model: &Model) -> Result<(), TestCaseError> {
        let counters = self.programs.counters();
        let since: Vec<_> = counters.iter().zip(&self.counters).map(|(now, before)| now - before).collect();
        let reported = [model.judged, model.dropped, model.unparsed, model.protected, 0];
        prop_assert_eq!(
            &since[..5],
            &reported,
            "counters: judged, dropped, unparsed, protected, stamps lost"
        );
        let strangers = [counter::FOREIGN_SOURCE, counter::UNNAMED].map(|index| since[index as usize]);
        prop_assert_eq!(
            strangers,
            [model.foreign, model.unnamed],
            "foreign sources, unnamed: programs, model"
        );
        prop_assert_eq!(self.programs.stamps(), model.stamps.clone(), "stamps of links: programs, model");
        // What HTTP/2 is has tests of its own.
        let mut responses = self.programs.responses();
        let known: HashSet<_> = self.setup.verdict.endpoints.values().map(|(id, _)| *id).collect();
        responses.retain(|key, _| known.contains(&key.endpoint));
        prop_assert_eq!(&responses, &model.responses, "first responses: programs, model");
        for (what, count) in [
            ("judged", model.judged),
            ("dropped", model.dropped),
            ("unparsed", model.unparsed),
            ("protected", model.protected),
            ("responses", model.responses.len() as u64),
            ("foreign", model.foreign),
            ("unnamed", model.unnamed),
            ("claims contested", model.names.counts.contested),
            ("claims aged", model.names.counts.aged),
            ("claims without proof", model.names.counts.unproved),
            ("claims with proof", model.names.counts.claimed),
            ("addresses taken over", model.names.counts.taken_over),
            ("MACs moved", model.names.counts.moved),
            ("held addresses in doubt", model.names.counts.doubted),
            ("held addresses that stayed", model.names.counts.stayed),
            ("held addresses left to ports", model.names.counts.left_to_holder),
            ("flooded", model.names.counts.flooded),
        ] {
            *self.totals.entry(what).or_default() += count;
        }
        let sums: [(_, Sum); 5] = [
            ("links with first traffic", |stamps| u64::from(stamps.first_packet != 0)),
            ("links with handshakes", |stamps| u64::from(stamps.first_syn != 0)),
            ("group packets", |stamps| stamps.group_packets),
            ("leaked", |stamps| stamps.leaked_packets),
            ("late", |stamps| stamps.late_packets),
        ];
        for (what, sum) in sums {
            *self.totals.entry(what).or_default() += model.stamps.values().map(sum).sum::<u64>();
        }
        for (key, stamps) in &model.stamps {
            if key.dst == GROUP {
                *self.totals.entry("at the sender's port").or_default() += stamps.group_packets;
            }
        }
        Ok(())
    }
}

fn cell(((src, dst), neighbours): (&(u16, u16), &bool)) -> Cell {
    let column = if *dst == GROUP { Column::Group } else { Column::Peer(PeerId(*dst)) };
    Cell { src: PeerId(*src), dst: column, neighbours: *neighbours }
}

/// A frame as it was built, as the model reads it, and its bytes.
fn shown(frame: &Frame) -> String {
    let bytes = frame.bytes();
    format!("\n{frame:?}\nread by the model as {:?}\nbytes:{}", read(&bytes), hex(&bytes))
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Stamps are compared in the order of the packets: they must not be spread over CPUs, whose clocks agree, but
/// whose turns the test clock does not distinguish.
fn stay_on_one_cpu(number: usize) {
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let mut one = rustix::thread::CpuSet::new();
    one.set(cpus[number % cpus.len()]);
    rustix::thread::sched_setaffinity(None, &one).unwrap();
}

fn run(number: u32, packets: u64, seed: u64) -> Bench {
    let settings = Settings {
        // Cases have half of the most packets in the mean; a tenth more, so that chance does not keep the sum below.
        cases: u32::try_from(packets / (PACKETS as u64 / 2) * 11 / 10).unwrap() + 1,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::XorShift,
        max_shrink_iters: 20_000,
        max_shrink_time: 30_000,
        rng_seed: RngSeed::Fixed(seed.wrapping_add(number.into())),
        ..Settings::default()
    };
    let mut runner = TestRunner::new(settings);
    let draft = drafts(number).new_tree(&mut runner).unwrap().current();
    let bench = std::cell::RefCell::new(Bench::new(Setup::of(draft)));
    let strategy = cases(&bench.borrow().setup);
    let result = runner.run(&strategy, |case| bench.borrow_mut().check(&case));
    let bench = bench.into_inner();
    if let Err(TestError::Fail(reason, case)) = result {
        panic!(
            "INJECTOR_MODEL_SEED={seed} repeats this.\n{reason}\nconfig:\n{}\npartitions: {:?}\nidentity: {:?}\nrolls: {:?}, lease: {}, early: {}\npackets: {:?}{}",
            bench.setup.text,
            case.partitions,
            case.identity,
            case.rolls,
            case.lease,
            case.early,
            case.packets,
            case.frames.iter().map(shown).collect::<String>(),
        );
    } else {
        result.unwrap();
    }
    bench
}

#[test]
#[needs(root, alone)]
fn the_programs_agree_with_the_model() {
    let packets = env("INJECTOR_MODEL_CASES").unwrap_or(20_000);
    let seed = env("INJECTOR_MODEL_SEED").unwrap_or_else(|| injector_core::clock::MonoNs::now().0);
    println!("INJECTOR_MODEL_SEED={seed}");
    let workers: u32 = 2;
    let begin = std::time::Instant::now();
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            std::thread::spawn(move || {
                stay_on_one_cpu(worker as usize);
                let mut judged = 0;
                let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
                for number in (worker..SETUPS).step_by(workers as usize) {
                    let bench = run(number, packets / u64::from(SETUPS), seed);
                    judged += bench.judged;
                    bench.totals.iter().for_each(|(what, count)| *totals.entry(what).or_default() += count);
                }
                (judged, totals)
            })
        })
        .collect();
    let mut judged = 0;
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for thread in threads {
        let (more, counts) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        judged += more;
        for (what, count) in counts {
            *totals.entry(what).or_default() += count;
        }
    }
    println!("{judged} packets by three programs in {:.1?}: {totals:?}", begin.elapsed());
    assert!(judged >= packets, "{judged} of {packets} packets");
    // The draws reach what they are for.
    for (what, least) in [
        ("dropped", 20),
        ("unparsed", 100),
        ("protected", 200),
        ("responses", 10_000),
        ("group packets", 50),
        ("leaked", 5_000),
        ("late", 1_500),
        ("foreign", 200),
        ("unnamed", 200),
        ("at the sender's port", 1_000),
        ("claims with proof", 600),
        ("claims without proof", 1_000),
        ("claims contested", 5_000),
        ("claims aged", 60_000),
        ("addresses taken over", 2_000),
        ("MACs moved", 200),
        ("held addresses in doubt", 20_000),
        ("held addresses that stayed", 30_000),
        ("held addresses left to ports", 10_000),
        ("flooded", 200),
    ] {
        assert!(totals[what] * least > judged, "too few {what}: {totals:?}");
    }
}

/// Writes the fuzzer's corpus from frames that are drawn here.
#[test]
#[ignore = "writes fuzz/corpus/parse; run it after a change of what frames can be"]
fn write_the_corpus() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/parse");
    let settings = Settings {
        rng_algorithm: RngAlgorithm::XorShift,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Settings::default()
    };
    let mut runner = TestRunner::new(settings);
    let addresses = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"].map(|text| text.parse().unwrap());
    let pool = Pool::of(addresses, [[2, 0, 0, 0, 0, 1]], vec![(addresses[0], 80)]);
    let mut seen = HashSet::new();
    let mut number = 0;
    while number < 80 {
        let frame: Frame = pool.frames().new_tree(&mut runner).unwrap().current();
        let reading = format!("{:?} {}", read(&frame.bytes()).content, frame.tags.len());
        if seen.insert(reading) {
            std::fs::write(format!("{folder}/drawn-{number:02}"), frame.bytes()).unwrap();
            number += 1;
        }
    }
}
