//! The reference model and the three programs of the kernel say the same of any packet.
//!
//! `INJECTOR_MODEL_CASES` is how many packets are judged (by each program), `INJECTOR_MODEL_SEED` repeats a run.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector::config::Config;
use injector::datapath::Clocks;
use injector::model::{Link, PeerId, Scope};
use injector::plan::{Cell, slot_scope};
use injector_common::slot::{LOSS_ALL, MAX_SCOPES, Slot, SlotScope};
use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{
    Config as Settings, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner,
};

use support::frame::{Frame, Pool, hex};
use support::model::{Model, Moment, Partition, Response, World, read};
use support::privilege::can_run;
use support::programs::{Hook, INTERFACE, Programs};

/// Frames of one case: one set of partitions.
const FRAMES: usize = 16;
/// Packets of one case: a frame at a moment.
const PACKETS: usize = 64;
/// Configs of a run; each loads the programs anew.
const SETUPS: u32 = 16;
/// The test clock's middle.
const NOON: u64 = 1_000_000_000_000;

/// A config, as text and as the model has it.
struct Setup {
    text: String,
    config: Config,
    world: World,
    pool: Pool,
}

/// A peer's addresses, prefixes and MAC.
type Member = (Vec<IpAddr>, Vec<IpNet>, Option<[u8; 6]>);

/// What a config is made of.
#[derive(Clone, Debug)]
struct Draft {
    peers: Vec<Member>,
    protected_addresses: Vec<IpAddr>,
    protected_scopes: Vec<Scope>,
    endpoints: Vec<(usize, u16, u8)>,
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..4_u8, 1..12_u8).prop_map(|(c, d)| Ipv4Addr::new(10, 0, c, d).into());
    let near = (0..3_u16, 1..6_u16).prop_map(|(c, d)| Ipv6Addr::new(0xfd00, 0, 0, c, 0, 0, 0, d).into());
    let low = (1..4_u16, 1..6_u16).prop_map(|(c, d)| Ipv6Addr::new(0, 0, 0, 0, 0, c, 0x0a00, d).into());
    prop_oneof![5 => v4, 4 => near, 1 => low]
}

fn nets() -> impl Strategy<Value = IpNet> {
    let v4 = select(vec![8_u8, 15, 22, 23, 24, 28, 30, 31]);
    let v6 = select(vec![1_u8, 8, 16, 32, 63, 64, 80, 96, 120, 126, 127]);
    (addresses(), v4, v6).prop_map(|(address, v4, v6)| {
        IpNet::new(address, if address.is_ipv4() { v4 } else { v6 }).unwrap().trunc()
    })
}

fn macs() -> impl Strategy<Value = [u8; 6]> {
    (1..6_u8).prop_map(|last| [2, 0, 0, 0, 0, last])
}

fn scopes() -> impl Strategy<Value = Scope> {
    let texts = [
        "tcp",
        "udp",
        "icmp",
        "tcp/5122",
        "tcp/5122:src",
        "tcp/5122:dst",
        "udp/7000-7010",
        "udp/7005:src",
        "tcp/1-79",
        "tcp/8080",
        "udp/1-65535:dst",
        "tcp/80-5121:src",
        "sctp",
        "sctp/5122",
        "sctp/80-7000:src",
        "proto/112",
        "proto/2",
        "proto/47",
    ];
    select(texts.to_vec()).prop_map(|text| text.parse().unwrap())
}

/// Drafts of which each leaves out what its number says, so that every lookup is also tried alone.
fn drafts(number: u32) -> impl Strategy<Value = Draft> {
    let without = |bit: u32| (number % 12) & bit != 0;
    let peer = (
        vec(addresses(), if without(1) { 0..=0 } else { 0..=4 }),
        vec(nets(), if without(2) { 0..=0 } else { 0..=2 }),
        if without(4) { Just(None).boxed() } else { weighted(0.6, macs()).boxed() },
    );
    let protected = if without(8) { 0..=0 } else { 0..=3 };
    (
        vec(peer, 2..=9),
        vec(addresses(), protected.clone()),
        vec(scopes(), protected),
        vec((0..9_usize, select(vec![80_u16, 8080]), 0..4_u8), if number % 3 == 2 { 0..=0 } else { 1..=6 }),
    )
        .prop_map(|(peers, protected_addresses, protected_scopes, endpoints)| Draft {
            peers,
            protected_addresses,
            protected_scopes,
            endpoints,
        })
}

impl Setup {
    fn of(draft: Draft) -> Self {
        use std::fmt::Write as _;

        let mut text = "peers:\n".to_owned();
        let mut seen = HashSet::new();
        let mut peers = Vec::new();
        for (index, (mut addresses, mut nets, mut mac)) in draft.peers.into_iter().enumerate() {
            addresses.retain(|address| seen.insert(address.to_string()));
            nets.retain(|net| seen.insert(net.to_string()));
            mac = mac.filter(|mac| seen.insert(format!("{mac:?}")));
            if addresses.is_empty() && nets.is_empty() && mac.is_none() {
                nets.push(IpNet::new(Ipv4Addr::new(172, 16, index as u8, 0).into(), 24).unwrap());
            }
            let all = addresses.iter().map(ToString::to_string).chain(nets.iter().map(ToString::to_string));
            let all: Vec<_> = all.map(|text| format!("\"{text}\"")).collect();
            let mut entries = Vec::new();
            if !all.is_empty() {
                entries.push(format!("addresses: [{}]", all.join(", ")));
            }
            if let Some(mac) = mac {
                let mac: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
                entries.push(format!("mac: \"{}\"", mac.join(":")));
            }
            let _ = writeln!(text, "  n{index}: {{ {} }}", entries.join(", "));
            peers.push((addresses, nets, mac));
        }
        let scopes = draft.protected_scopes.iter().map(ToString::to_string);
        let protected: BTreeSet<_> =
            draft.protected_addresses.iter().map(ToString::to_string).chain(scopes).collect();
        if !protected.is_empty() {
            let protected: Vec<_> = protected.iter().map(|text| format!("\"{text}\"")).collect();
            let _ = writeln!(text, "protect: [{}]", protected.join(", "));
        }
        let mut endpoints = Vec::new();
        let mut sockets = HashSet::new();
        for (peer, port, kind) in draft.endpoints {
            let peer = peer % peers.len();
            let Some(address) = peers[peer].0.first().copied() else { continue };
            if !sockets.insert((address, port)) {
                continue;
            }
            if endpoints.is_empty() {
                text.push_str("endpoints:\n");
            }
            let (success, response) = match kind {
                0 => ("http", Some(Response::Http)),
                1 => ("{ prefix: \"+PONG\" }", Some(Response::Prefix(b"+PONG".to_vec()))),
                2 => ("payload", Some(Response::Any)),
                _ => ("grpc", None),
            };
            let _ = writeln!(
                text,
                "  - {{ name: e{}, peers: [n{peer}], role: advisory, probe: {{ http: {{ url: \"http://{{address}}:{port}/\" }} }}, wire: {{ port: {port}, success: {success} }} }}",
                endpoints.len()
            );
            endpoints.push(((address, port), response));
        }
        let config = support::programs::config(&text);
        let mut world = World { here: INTERFACE, ..World::default() };
        for (index, (addresses, nets, mac)) in peers.iter().enumerate() {
            let id = config.names.id(&format!("n{index}")).unwrap().0;
            world.exact.extend(addresses.iter().map(|address| (*address, id)));
            world.nets.extend(nets.iter().map(|net| (*net, id)));
            world.macs.extend(mac.map(|mac| (mac, id)));
        }
        for (id, (socket, response)) in endpoints.into_iter().enumerate() {
            if let Some(response) = response {
                world.endpoints.insert(socket, (id as u32, response));
            }
        }
        world.protected_addresses.extend(draft.protected_addresses);
        world.protected_scopes = draft.protected_scopes;
        let inside = world.nets.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
        let pool = Pool::of(
            world.exact.keys().copied().chain(inside).chain(world.protected_addresses.iter().copied()),
            world.macs.keys().copied(),
            world.endpoints.keys().copied().collect(),
        );
        Self { text, config, world, pool }
    }
}

/// Partitions, and packets that meet them.
#[derive(Clone, Debug)]
struct Case {
    partitions: BTreeMap<u8, (Partition, Stage)>,
    bound: BTreeMap<u16, BTreeSet<u32>>,
    lease: u64,
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
    now: u64,
    /// How far the coarse clock is behind.
    lag: u64,
    random: u32,
}

/// Instants around boundaries that lie at the same places.
fn instants() -> impl Strategy<Value = u64> {
    const MS: i64 = 1_000_000;
    let places =
        vec![-2000 * MS, -51 * MS, -20 * MS, 0, 10 * MS, 29 * MS, 49 * MS, 50 * MS, 70 * MS, 2000 * MS];
    (select(places), prop_oneof![-1..=1_i64, -9 * MS..9 * MS])
        .prop_map(|(place, off)| NOON.checked_add_signed(place + off).unwrap())
}

/// Random numbers, and thresholds for them.
fn randoms() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), select(vec![0, 1 << 30, 1 << 31, u32::MAX])]
}

fn partitions(peers: u16) -> impl Strategy<Value = (Partition, Stage)> {
    let link = (0..=peers, 0..=peers);
    let all =
        (0..=peers).flat_map(move |src| (0..=peers).map(move |dst| (src, dst))).collect::<BTreeSet<_>>();
    let links = prop_oneof![2 => btree_set(link, 1..8), 1 => Just(all)];
    let starts = prop_oneof![3 => Just(0), 2 => instants()];
    let ends = prop_oneof![3 => Just(u64::MAX), 2 => instants()];
    let loss = prop_oneof![3 => Just(None), 2 => randoms().prop_map(Some)];
    // Round ones too, whose edges the instants meet.
    let round = (select(vec![2_u64, 10, 20, 40, 100]), select(vec![0_u64, 50, 100]));
    let odd = (1..60_000_000_u64, 0..=100_u64);
    let flap = prop_oneof![round.prop_map(|(period, on)| (period * 1_000_000, on)), odd];
    let flap = weighted(0.25, flap.prop_map(|(period, percent)| (period, period * percent / 100)));
    let scopes = prop_oneof![2 => Just(Vec::new()).boxed(), 3 => vec(scopes(), 1..4).boxed(), 1 => vec(scopes(), MAX_SCOPES).boxed()];
    let stage = prop_oneof![5 => Just(Stage::Live), 2 => Just(Stage::Watched), 1 => Just(Stage::Prepared)];
    (1..1000_u32, links, starts, ends, loss, flap, scopes, (any::<bool>(), stage)).prop_map(
        |(generation, links, starts, ends, loss, flap, scopes, (neighbour, stage))| {
            (Partition { generation, links, starts, ends, loss, flap, scopes, neighbour }, stage)
        },
    )
}

fn cases(setup: &Setup) -> impl Strategy<Value = Case> + use<> {
    let peers = setup.config.names.len() as u16 - 1;
    let count = prop_oneof![6 => 1..4_usize, 2 => 4..32_usize, 1 => Just(32)];
    let partitions = count.prop_flat_map(move |count| {
        (subsequence((0..32_u8).collect::<Vec<_>>(), count), vec(partitions(peers), count))
            .prop_map(|(slots, partitions)| slots.into_iter().zip(partitions).collect())
    });
    let bound = btree_map(1..=peers, btree_set(1..=3_u32, 1..=2), 0..=usize::from(peers) / 2);
    let lease = prop_oneof![5 => Just(u64::MAX), 1 => instants()];
    let lag = prop_oneof![Just(0), 0..20_000_000_u64];
    let packet = (0..FRAMES, instants(), lag, randoms()).prop_map(|(frame, now, lag, random)| Packet {
        frame,
        now,
        lag,
        random,
    });
    let frames = vec(setup.pool.frames(), 1..=FRAMES);
    (partitions, bound, lease, frames, vec(packet, 1..=PACKETS)).prop_map(
        |(partitions, bound, lease, frames, mut packets)| {
            // A clock does not go back.
            packets.sort_by_key(|packet| packet.now);
            Case { partitions, bound, lease, frames, packets }
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
        generation: partition.generation,
        scope_count: partition.scopes.len() as u32,
        full: u32::from(partition.scopes.is_empty() && partition.loss.is_none()),
        pad: 0,
        scopes,
    }
}

/// One setup under test, and what its last case left in the maps.
struct Bench {
    setup: Setup,
    programs: Programs,
    placed: Vec<(u8, Vec<Link>)>,
    counters: Vec<u64>,
    judged: u64,
    totals: BTreeMap<&'static str, u64>,
}

impl Bench {
    fn new(setup: Setup) -> Self {
        let programs = Programs::load(&setup.config, Clocks::Test);
        let counters = programs.counters();
        Self { setup, programs, placed: Vec::new(), counters, judged: 0, totals: BTreeMap::new() }
    }

    fn reset(&mut self) {
        self.programs.word(0, 0);
        for (slot, links) in self.placed.drain(..) {
            self.programs.clear(slot, &links);
        }
        self.programs.forget();
        self.counters = self.programs.counters();
    }

    fn check(&mut self, case: &Case) -> Result<(), TestCaseError> {
        self.reset();
        let mut model = Model { world: self.setup.world.clone(), lease: case.lease, ..Model::default() };
        let (mut live, mut watched) = (0, 0);
        for (index, (partition, stage)) in &case.partitions {
            let links: Vec<_> = partition
                .links
                .iter()
                .map(|(src, dst)| Link { src: PeerId(*src), dst: PeerId(*dst) })
                .collect();
            let cells =
                links.iter().map(|link| Cell { neighbours: partition.neighbour, ..Cell::from(*link) });
            self.programs.place_cells(*index, &slot(partition), &cells.collect::<Vec<_>>());
            self.placed.push((*index, links));
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
        for peer in 0..self.setup.config.names.len() as u16 {
            let bound = case.bound.get(&peer).cloned().unwrap_or_default();
            self.programs.kernel.bind_roll(PeerId(peer), &bound).unwrap();
        }
        model.world.bound = case.bound.clone().into_iter().collect();
        self.programs.lease(case.lease);
        self.programs.word(live, watched);
        let frames: Vec<_> = case.frames.iter().map(Frame::bytes).collect();
        for packet in &case.packets {
            let drawn = packet.frame % case.frames.len();
            let frame = &frames[drawn];
            self.programs.set(packet.now, packet.lag, packet.random);
            for hook in Hook::ALL.into_iter().filter(|hook| hook.takes(frame)) {
                let told = model.drops(frame, Moment { now: packet.now, random: packet.random });
                let done = self.programs.drops(hook, frame);
                prop_assert!(
                    told == done,
                    "{} {}, the model {} at {packet:?}:{}",
                    hook.name(),
                    if done { "drops" } else { "passes" },
                    if told { "drops" } else { "passes" },
                    shown(&case.frames[drawn]),
                );
            }
        }
        self.judged += case.packets.len() as u64;
        *self.totals.entry("frames").or_default() += case.frames.len() as u64;
        self.compare(&model)
    }

    fn compare(&mut self, model: &Model) -> Result<(), TestCaseError> {
        let counters = self.programs.counters();
        let since: Vec<_> = counters.iter().zip(&self.counters).map(|(now, before)| now - before).collect();
        let told = [model.judged, model.dropped, model.unparsed, model.protected, 0];
        prop_assert_eq!(&since[..5], &told, "counters: judged, dropped, unparsed, protected, stamps lost");
        prop_assert_eq!(self.programs.stamps(), model.stamps.clone(), "stamps of links: programs, model");
        // What HTTP/2 is has tests of its own.
        let mut responses = self.programs.responses();
        let known: HashSet<_> = self.setup.world.endpoints.values().map(|(id, _)| *id).collect();
        responses.retain(|key, _| known.contains(&key.endpoint));
        prop_assert_eq!(&responses, &model.responses, "first responses: programs, model");
        for (what, count) in [
            ("judged", model.judged),
            ("dropped", model.dropped),
            ("unparsed", model.unparsed),
            ("protected", model.protected),
            ("responses", model.responses.len() as u64),
            (
                "links with first traffic",
                model.stamps.values().filter(|s| s.first_packet != 0).count() as u64,
            ),
            ("links with handshakes", model.stamps.values().filter(|s| s.first_syn != 0).count() as u64),
        ] {
            *self.totals.entry(what).or_default() += count;
        }
        Ok(())
    }
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
/// whose turns the test clock does not tell apart.
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
            "INJECTOR_MODEL_SEED={seed} repeats this.\n{reason}\nconfig:\n{}\npartitions: {:?}\nbound: {:?}, lease: {}\npackets: {:?}{}",
            bench.setup.text,
            case.partitions,
            case.bound,
            case.lease,
            case.packets,
            case.frames.iter().map(shown).collect::<String>(),
        );
    } else {
        result.unwrap();
    }
    bench
}

#[test]
fn the_programs_agree_with_the_model() {
    if !can_run("the_programs_agree_with_the_model") {
        return;
    }
    let packets = env("INJECTOR_MODEL_CASES").unwrap_or(20_000);
    let seed = env("INJECTOR_MODEL_SEED").unwrap_or_else(|| injector::clock::MonoNs::now().0);
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
    for (what, least) in [("dropped", 20), ("unparsed", 100), ("protected", 200), ("responses", 10_000)] {
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
        let reading =
            read(&frame.bytes()).map(|reading| format!("{:?} {}", reading.content, frame.tags.len()));
        if seen.insert(reading) {
            std::fs::write(format!("{folder}/drawn-{number:02}"), frame.bytes()).unwrap();
            number += 1;
        }
    }
}
