//! The three programs of one interface, loaded and run by `BPF_PROG_TEST_RUN`: no interface is touched.
//!
//! Time, randomness, the commit word and the lease are written straight into the shared maps, since a test's
//! clock ([`Clocks::Test`]) is none that the daemon's gate would store by. Needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuHashMap};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use injector::datapath::{Clocks, Kernel, chain, wire_address};
use injector_common::Word;
use injector_common::exact::Entry;
use injector_common::key::{
    Address, Claim, Learned, LinkKey, OverlapKey, ResponseKey, StreamKey, VIP, prefix,
};
use injector_common::record::{Lease, LinkStamps, OverlapStamps, TestInput, earliest};
use injector_common::slot::Slot;
use injector_core::config::Config;
use injector_core::identity::{Identity, Mac};
use injector_core::ledger::DataPlane as _;
use injector_core::model::{Link, PeerId};
use injector_core::plan::Cell;
use injector_core::plan::{Presence, SlotIndex};

/// The programs by hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    In,
    Out,
    Xdp,
}

impl Hook {
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Xdp];

    pub fn name(self) -> &'static str {
        match self {
            Self::In => "injector_in",
            Self::Out => "injector_out",
            Self::Xdp => "injector_xdp",
        }
    }

    /// Whether the kernel's test run takes a frame: as an skb, one that ends within its IP header is refused.
    pub fn takes(self, frame: &[u8]) -> bool {
        let whole = match frame.get(12..14) {
            Some([0x08, 0x00]) => 34,
            Some([0x86, 0xdd]) => 54,
            _ => 14,
        };
        frame.len() >= if self == Self::Xdp { 14 } else { whole }
    }

    /// Whether an answer of the program drops the packet.
    ///
    /// # Panics
    /// If it is none of the program's two answers.
    fn drops(self, answer: u32) -> bool {
        const NEXT: u32 = u32::MAX;
        const SHOT: u32 = 2;
        const REDIRECT: u32 = 7;
        const XDP_DROP: u32 = 1;
        const XDP_PASS: u32 = 2;
        match (self, answer) {
            (Self::In, SHOT) | (Self::Out, REDIRECT) | (Self::Xdp, XDP_DROP) => true,
            (Self::In | Self::Out, NEXT) | (Self::Xdp, XDP_PASS) => false,
            _ => panic!("{} answered {answer}", self.name()),
        }
    }
}

/// Loaded instances, one an interface, and their maps.
pub struct Programs {
    pub kernel: Kernel,
    instances: BTreeMap<u32, Ebpf>,
    learned: HashMap<MapData, Mac, Learned>,
    addresses: Array<MapData, Entry>,
    /// What is in there at first.
    listed: Vec<Entry>,
    prefixes: LpmTrie<MapData, Address, u32>,
    /// Addresses that the daemon knows to move: it never takes that back.
    moving: BTreeSet<IpAddr>,
    claims: HashMap<MapData, Address, Claim>,
    odd: Array<MapData, u32>,
    transit: Array<MapData, u32>,
    commit: Array<MapData, u64>,
    lease: Array<MapData, Lease>,
    test: Array<MapData, TestInput>,
    slots: Array<MapData, Slot>,
    links: PerCpuHashMap<MapData, LinkKey, LinkStamps>,
    overlaps: PerCpuHashMap<MapData, OverlapKey, OverlapStamps>,
    responses: PerCpuHashMap<MapData, ResponseKey, u64>,
    streams: HashMap<MapData, StreamKey, u32>,
    conversations: HashMap<MapData, StreamKey, u32>,
}

/// The interface id of an instance that is loaded alone.
pub const INTERFACE: u32 = 1;

impl Programs {
    /// Loads the programs of one interface for a config.
    pub fn load(config: &Config, clocks: Clocks) -> Self {
        Self::load_for(config, clocks, &[INTERFACE])
    }

    /// Loads the programs of several interfaces for a config, by their ids.
    pub fn load_for(config: &Config, clocks: Clocks, interfaces: &[u32]) -> Self {
        let kernel = Kernel::load(config, clocks).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let mut instances = BTreeMap::new();
        for interface in interfaces {
            let mut ebpf = kernel.object().instance(*interface).unwrap();
            for hook in Hook::ALL {
                let program = ebpf.program_mut(hook.name()).unwrap();
                let loaded = match hook {
                    Hook::In | Hook::Out => <&mut SchedClassifier>::try_from(program).unwrap().load(),
                    Hook::Xdp => <&mut Xdp>::try_from(program).unwrap().load(),
                };
                loaded.unwrap_or_else(|error| panic!("{}: {}", hook.name(), chain(&error)));
            }
            instances.insert(*interface, ebpf);
        }
        let first = instances.values_mut().next().unwrap();
        let mut take = |name| first.take_map(name).unwrap();
        let mut programs = Self {
            commit: take("COMMIT").try_into().unwrap(),
            lease: take("LEASE").try_into().unwrap(),
            test: take("TEST").try_into().unwrap(),
            slots: take("SLOTS").try_into().unwrap(),
            links: take("LINKS").try_into().unwrap(),
            overlaps: take("OVERLAPS").try_into().unwrap(),
            responses: take("RESPONSES").try_into().unwrap(),
            streams: take("STREAMS").try_into().unwrap(),
            conversations: take("CONVERSATIONS").try_into().unwrap(),
            learned: take("LEARNED").try_into().unwrap(),
            claims: take("CLAIMS").try_into().unwrap(),
            odd: take("ODD").try_into().unwrap(),
            transit: take("TRANSIT").try_into().unwrap(),
            addresses: take("PEERS").try_into().unwrap(),
            listed: Vec::new(),
            prefixes: take("PREFIXES").try_into().unwrap(),
            moving: BTreeSet::new(),
            kernel,
            instances,
        };
        programs.listed = programs.addresses.iter().map(Result::unwrap).collect();
        programs.lease(u64::MAX);
        programs
    }

    /// Runs one program of the first interface on a frame; whether it drops it.
    pub fn drops(&mut self, hook: Hook, frame: &[u8]) -> bool {
        self.run(hook, frame, 1).0
    }

    /// Runs one program of an interface on a frame; whether it drops it.
    pub fn drops_at(&mut self, interface: u32, hook: Hook, frame: &[u8]) -> bool {
        run(self.instances.get_mut(&interface).unwrap(), hook, frame, 1).0
    }

    /// Runs one program of the first interface on a frame many times; whether the last run drops it, and how long one
    /// takes.
    pub fn run(&mut self, hook: Hook, frame: &[u8], repeat: u32) -> (bool, Duration) {
        run(self.instances.values_mut().next().unwrap(), hook, frame, repeat)
    }

    /// What all three programs say of an interface that is no peer's port: there, both ways are the same.
    ///
    /// # Panics
    /// If they do not agree.
    pub fn all_drop(&mut self, frame: &[u8]) -> bool {
        let [first, second, third] = Hook::ALL.map(|hook| self.drops(hook, frame));
        assert!(first == second && second == third, "the hooks disagree: {first} {second} {third}");
        first
    }

    /// Sets the test clock, with a coarse clock that lags, and the random number.
    pub fn set(&mut self, now: u64, lag: u64, random: u32) {
        self.test.set(0, TestInput { now, coarse: now - lag, random, pad: 0 }, 0).unwrap();
    }

    /// Sets the test clock.
    pub fn at(&mut self, now: u64) {
        self.set(now, 0, 0);
    }

    /// Stores the commit word.
    pub fn word(&mut self, live: u32, watched: u32) {
        self.commit.set(0, Word::new(live, watched).0, 0).unwrap();
    }

    /// Renews the lease, and takes back its latch.
    pub fn lease(&mut self, expires: u64) {
        self.lease.set(0, Lease { expires, ..Lease::default() }, 0).unwrap();
    }

    /// The latch of the lease.
    pub fn latch(&self) -> u64 {
        self.lease.get(&0, 0).unwrap().lapsed
    }

    /// Renews the lease as a daemon does that comes too late: the latch stays.
    pub fn renew_late(&mut self, expires: u64) {
        let lapsed = self.latch();
        self.lease.set(0, Lease { expires, lapsed, ..Lease::default() }, 0).unwrap();
    }

    /// Puts a partition into a slot, without making it live; ARP and neighbour discovery pass on its links.
    pub fn place(&mut self, slot: u8, content: &Slot, links: &[Link]) {
        self.place_cells(slot, content, &cells(links));
    }

    /// The same for cells.
    pub fn place_cells(&mut self, slot: u8, content: &Slot, cells: &[Cell]) {
        self.kernel.write_slot(SlotIndex(slot), content).unwrap();
        self.kernel.write_cells(SlotIndex(slot), cells, Presence::In);
    }

    /// Takes a partition out of a slot.
    pub fn clear(&mut self, slot: u8, links: &[Link]) {
        self.clear_cells(slot, &cells(links));
    }

    /// The same for cells.
    pub fn clear_cells(&mut self, slot: u8, cells: &[Cell]) {
        self.kernel.write_cells(SlotIndex(slot), cells, Presence::Out);
    }

    /// Everything that was stamped, over all CPUs, by partition.
    pub fn stamps(&self) -> BTreeMap<LinkKey, LinkStamps> {
        let mut found: BTreeMap<LinkKey, LinkStamps> = BTreeMap::new();
        for key in self.links.keys().map(Result::unwrap) {
            let mut sum = LinkStamps::default();
            self.links.get(&key, 0).unwrap().iter().for_each(|stamps| sum.merge(stamps));
            found.insert(key, sum);
        }
        for OverlapKey { slots, src, dst } in self.overlaps.keys().map(Result::unwrap) {
            let mut sum = LinkStamps::default();
            let of_cpus = self.overlaps.get(&OverlapKey { slots, src, dst }, 0).unwrap();
            of_cpus.iter().for_each(|stamps| sum.merge(&LinkStamps::from(*stamps)));
            for slot in (0..injector_common::SLOTS).filter(|slot| slots & 1 << slot != 0) {
                let generation = self.slots.get(&slot, 0).unwrap().generation;
                found.entry(LinkKey { generation, slot, src, dst }).or_default().merge(&sum);
            }
        }
        found
    }

    /// Every first response, over all CPUs.
    pub fn responses(&self) -> BTreeMap<ResponseKey, u64> {
        let mut found = BTreeMap::new();
        for key in self.responses.keys().map(Result::unwrap) {
            let mut first = 0;
            self.responses.get(&key, 0).unwrap().iter().for_each(|stamp| earliest(&mut first, *stamp));
            found.insert(key, first);
        }
        found
    }

    /// Forgets who is bound where, and all that was learned from frames. `moved` are the addresses that are known to
    /// move: the daemon never takes that back.
    pub fn forget_names(&mut self, moved: &BTreeMap<IpAddr, PeerId>) {
        self.moving.extend(moved.keys());
        let moving: Vec<Address> = self.moving.iter().map(|address| wire_address(*address)).collect();
        for (place, entry) in (0..).zip(&self.listed) {
            let is_taken_over = self.addresses.get(&place, 0).unwrap() != *entry;
            if is_taken_over && !moving.contains(&entry.address) {
                self.addresses.set(place, entry, 0).unwrap();
            }
        }
        for (key, value) in self.prefixes.iter().map(Result::unwrap).collect::<Vec<_>>() {
            if prefix::peer(value) == VIP && !moving.contains(&key.data()) {
                self.prefixes.remove(&Key::new(128, key.data())).unwrap();
            }
        }
        let identity = Identity { moved: moved.clone(), ..Identity::default() };
        self.kernel.identify(&identity).unwrap();
        for key in self.learned.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.learned.remove(&key).unwrap();
        }
        for key in self.claims.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.claims.remove(&key).unwrap();
        }
        self.odd.set(0, 0, 0).unwrap();
        for peer in 0..self.transit.len() {
            self.transit.set(peer, 0, 0).unwrap();
        }
    }

    /// Forgets all stamps, responses and streams.
    pub fn forget(&mut self) {
        for key in self.links.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.links.remove(&key).unwrap();
        }
        for key in self.overlaps.keys().map(Result::unwrap).collect::<BTreeSet<_>>() {
            self.overlaps.remove(&key).unwrap();
        }
        for key in self.responses.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.responses.remove(&key).unwrap();
        }
        for key in self.conversations.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.conversations.remove(&key).unwrap();
        }
        for key in self.streams.keys().map(Result::unwrap).collect::<Vec<_>>() {
            self.streams.remove(&key).unwrap();
        }
    }

    /// The counters, over all CPUs.
    pub fn counters(&self) -> Vec<u64> {
        self.kernel.counters().unwrap()
    }

    /// The kernel's account of a program.
    pub fn info(&mut self, hook: Hook) -> aya::programs::ProgramInfo {
        match self.instances.values_mut().next().unwrap().program_mut(hook.name()).unwrap() {
            aya::programs::Program::Xdp(program) => program.info().unwrap(),
            aya::programs::Program::SchedClassifier(program) => program.info().unwrap(),
            other => panic!("{} is a {:?}", hook.name(), other.prog_type()),
        }
    }
}

/// Runs one program on a frame many times.
fn run(instance: &mut Ebpf, hook: Hook, frame: &[u8], repeat: u32) -> (bool, Duration) {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
    let program = instance.program_mut(hook.name()).unwrap();
    let result = match hook {
        Hook::In | Hook::Out => <&mut SchedClassifier>::try_from(program).unwrap().test_run(options),
        Hook::Xdp => <&mut Xdp>::try_from(program).unwrap().test_run(options),
    };
    let result = result.unwrap_or_else(|error| panic!("{}: {}", hook.name(), chain(&error)));
    (hook.drops(result.return_value), result.duration)
}

/// The cells of links.
pub fn cells(links: &[Link]) -> Vec<Cell> {
    links.iter().copied().map(Cell::from).collect()
}

/// A slot that drops everything on its links, without an end.
pub fn steady(generation: u32) -> Slot {
    Slot::whole(generation)
}

/// A slot that acts on some traffic only.
pub fn scoped(generation: u32, scopes: &[&str]) -> Slot {
    let mut slot = steady(generation);
    slot.scope_count = scopes.len() as u32;
    slot.full = u32::from(scopes.is_empty());
    for (to, from) in slot.scopes.iter_mut().zip(scopes) {
        *to = injector_core::plan::slot_scope(from.parse().unwrap());
    }
    slot
}

/// The config of a text, with interfaces and whatever else the verdict does not ask for filled in.
pub fn config(text: &str) -> Config {
    let text = format!("{text}\ninterfaces: auto\n");
    Config::parse(&text, "test.yaml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// A link of a config.
pub fn link(config: &Config, src: &str, dst: &str) -> Link {
    Link { src: config.names.id(src).unwrap(), dst: config.names.id(dst).unwrap() }
}
