//! A frame on its way past several hooks, and what they make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use injector::datapath::Clocks;
use injector_common::record::counter;
use injector_core::config::Config;
use injector_core::identity::{End, Identity, Mac, Port, Traits};
use injector_core::model::{Link, PeerId, Traffic};
use injector_core::plan::{CellContext, cells};

use crate::support::programs::{Hook, Programs, steady};

/// The test clock when a frame is sent.
pub const NOON: u64 = 10_000_000_000_000;
/// The interface of the uplink, behind which everyone else is.
pub const UPLINK: u32 = 4;

/// Which way a frame passes an interface, seen from who is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It comes from there.
    From(u32),
    /// It goes there.
    To(u32),
}

/// Which end of the peers' links is hooked, and by which programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    pub name: &'static str,
    pub end: End,
    pub is_xdp: bool,
}

/// All the sides.
pub const SIDES: [Side; 4] = [
    Side { name: "host end, TC", end: End::Host, is_xdp: false },
    Side { name: "host end, XDP in", end: End::Host, is_xdp: true },
    Side { name: "own NIC, TC", end: End::Own, is_xdp: false },
    Side { name: "own NIC, XDP in", end: End::Own, is_xdp: true },
];

impl Side {
    /// The program that a frame meets.
    fn hook(self, step: Step) -> Hook {
        let (Step::From(interface) | Step::To(interface)) = step;
        // At a host end, and at the host's own uplink, what comes from there comes in.
        let comes_in = self.end == End::Host || interface == UPLINK;
        let is_in = matches!(step, Step::From(_)) == comes_in;
        match (is_in, self.is_xdp) {
            (true, true) => Hook::Xdp,
            (true, false) => Hook::In,
            (false, _) => Hook::Out,
        }
    }
}

/// A directed link between two peers by number; 0 is the world.
pub type CutLink = (u16, u16);

/// One peer's links with the others of three, both ways.
pub fn isolate(peer: u16) -> Vec<CutLink> {
    (1..=3).filter(|other| *other != peer).flat_map(|other| [(peer, other), (other, peer)]).collect()
}

/// The same, and its links with the world.
pub fn isolate_from_all(peer: u16) -> Vec<CutLink> {
    [isolate(peer), vec![(peer, 0), (0, peer)]].concat()
}

/// Both directions between two peers.
pub fn between(one: u16, other: u16) -> Vec<CutLink> {
    vec![(one, other), (other, one)]
}

/// What is known around a frame.
#[derive(Clone, Debug)]
pub struct Setup {
    /// By interface: the peer behind it, and whether another one is too.
    pub ports: BTreeMap<u32, (u16, bool)>,
    pub macs: BTreeMap<Mac, u16>,
    /// Those that someone else's device has too.
    pub doubled: BTreeSet<Mac>,
    pub held: BTreeMap<IpAddr, u16>,
    pub private: BTreeMap<IpAddr, u16>,
    pub shared: BTreeMap<IpAddr, Option<u16>>,
    pub moved: BTreeMap<IpAddr, u16>,
    pub traits: BTreeMap<u16, Traits>,
    pub cut: Vec<CutLink>,
    /// Frames that passed before, while the partition was prepared but nothing was cut, each with how long ago that was.
    pub before: Vec<(Duration, Vec<u8>, Step)>,
    /// Frames that passed since the cut.
    pub since: Vec<(Duration, Vec<u8>, Step)>,
}

/// A peer whose namespace is seen, and which forwards for nobody.
pub const PLAIN: Traits =
    Traits { is_plain: true, may_forward: false, forwards: false, is_seen: true, has_known_macs: false };
/// A peer whose inside is not seen.
pub const OPAQUE: Traits =
    Traits { is_plain: false, may_forward: false, forwards: false, is_seen: false, has_known_macs: false };
/// A router.
pub const ROUTER: Traits =
    Traits { is_plain: false, may_forward: false, forwards: true, is_seen: false, has_known_macs: false };

impl Setup {
    /// Three plain peers, each behind the interface of its number.
    pub fn of(cut: Vec<CutLink>) -> Self {
        Self {
            ports: (1..=3).map(|peer| (u32::from(peer), (peer, false))).collect(),
            macs: BTreeMap::new(),
            doubled: BTreeSet::new(),
            held: BTreeMap::new(),
            private: BTreeMap::new(),
            shared: BTreeMap::new(),
            moved: BTreeMap::new(),
            traits: (1..=3).map(|peer| (peer, PLAIN)).collect(),
            cut,
            before: Vec::new(),
            since: Vec::new(),
        }
    }

    /// Only these of the peers' interfaces are hooked.
    pub fn hooked(mut self, interfaces: &[u32]) -> Self {
        self.ports.retain(|interface, _| interfaces.contains(interface));
        self
    }

    pub fn knows(mut self, peer: u16, traits: Traits) -> Self {
        self.traits.insert(peer, traits);
        self
    }

    pub fn port(mut self, interface: u32, peer: u16) -> Self {
        self.ports.insert(interface, (peer, false));
        self
    }

    pub fn shared(mut self, interface: u32, peer: u16) -> Self {
        self.ports.insert(interface, (peer, true));
        self
    }

    pub fn sees(mut self, mac: Mac, peer: u16) -> Self {
        self.macs.insert(mac, peer);
        self
    }

    /// A device of someone else has the MAC address too.
    pub fn sees_twice(mut self, mac: Mac) -> Self {
        self.doubled.insert(mac);
        self
    }

    pub fn holds(mut self, peer: u16, address: &str) -> Self {
        self.held.insert(address.parse().unwrap(), peer);
        self
    }

    /// It holds the address on a device that nothing leaves by.
    pub fn keeps(mut self, peer: u16, address: &str) -> Self {
        self.private.insert(address.parse().unwrap(), peer);
        self
    }

    /// Someone else, or another peer where that is `None`, is seen to hold the address too.
    pub fn shares(mut self, peer: Option<u16>, address: &str) -> Self {
        self.shared.insert(address.parse().unwrap(), peer);
        self
    }

    pub fn moves(mut self, address: &str, peer: u16) -> Self {
        self.moved.insert(address.parse().unwrap(), peer);
        self
    }

    pub fn before(mut self, frame: Vec<u8>, step: Step) -> Self {
        self.before.push((Duration::ZERO, frame, step));
        self
    }

    pub fn since(mut self, frame: Vec<u8>, step: Step) -> Self {
        self.since.push((Duration::ZERO, frame, step));
        self
    }

    /// Time passes after what passed until now.
    pub fn wait(mut self, time: Duration) -> Self {
        for (ago, ..) in self.before.iter_mut().chain(&mut self.since) {
            *ago += time;
        }
        self
    }

    /// Of the addresses that several peers hold, n1 and n2 do.
    fn forwarders(&self) -> BTreeMap<IpAddr, BTreeSet<PeerId>> {
        let forwards = |peer: &u16| self.traits.get(peer).is_some_and(|traits| traits.forwards);
        let peers: BTreeSet<PeerId> = [1, 2].into_iter().filter(forwards).map(PeerId).collect();
        let shared = self.shared.iter().filter(|(_, peer)| peer.is_none() && !peers.is_empty());
        shared.map(|(address, _)| (*address, peers.clone())).collect()
    }

    fn identity(&self, side: Side) -> Identity {
        let port = |(interface, (peer, is_shared)): (&u32, &(u16, bool))| {
            let end = if *interface == UPLINK { End::Host } else { side.end };
            (*interface, Port { peer: PeerId(*peer), end, is_shared: *is_shared })
        };
        Identity {
            ports: self.ports.iter().map(port).collect(),
            macs: self.macs.iter().map(|(mac, peer)| (*mac, PeerId(*peer))).collect(),
            doubled: self.doubled.clone(),
            held: self.held.iter().map(|(address, peer)| (*address, PeerId(*peer))).collect(),
            private: self.private.iter().map(|(address, peer)| (*address, PeerId(*peer))).collect(),
            shared: self.shared.iter().map(|(address, peer)| (*address, peer.map(PeerId))).collect(),
            forwarders: self.forwarders(),
            moved: self.moved.iter().map(|(address, peer)| (*address, PeerId(*peer))).collect(),
            peers: self.traits.iter().map(|(peer, traits)| (PeerId(*peer), *traits)).collect(),
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether a hook on its way dropped it.
    pub is_dropped: bool,
    /// How many packets were counted as leaked.
    pub leaked: u64,
    /// How many had a sender that a peer speaks for.
    pub foreign: u64,
    /// How many were to or from someone who may be a peer.
    pub unnamed: u64,
    /// How many drops were counted for some link.
    pub counted: u64,
}

/// The programs of a config, and the partition that is in them.
pub struct HookPath {
    config: Config,
    programs: Programs,
}

impl HookPath {
    pub fn of(config: Config, interfaces: &[u32]) -> Self {
        let programs = Programs::load_for(&config, Clocks::Test, interfaces);
        Self { config, programs }
    }

    /// Sends frames one after the other past hooks until one drops it: each has its way. What became of the last.
    pub fn send(&mut self, side: Side, setup: &Setup, legs: &[(Vec<u8>, Vec<Step>)]) -> Outcome {
        let identity = setup.identity(side);
        let cells = self.cells(setup, &identity);
        let programs = &mut self.programs;
        programs.word(0, 0);
        programs.forget();
        programs.forget_names(&identity.moved);
        programs.kernel.identify(&identity).unwrap();
        programs.place_cells(0, &steady(1), &cells);
        for (ago, frame, step) in &setup.before {
            programs.at(NOON - ago.as_nanos() as u64);
            meet(programs, side, *step, frame);
        }
        programs.word(1, 0);
        for (ago, frame, step) in &setup.since {
            programs.at(NOON - ago.as_nanos() as u64);
            meet(programs, side, *step, frame);
        }
        programs.at(NOON);
        programs.forget();
        let before = programs.counters();
        let is_dropped =
            legs.iter().any(|(frame, path)| path.iter().any(|step| meet(programs, side, *step, frame)));
        let after = programs.counters();
        let since = |index: u32| after[index as usize] - before[index as usize];
        let stamps = programs.stamps();
        let leaked = stamps.values().map(|stamps| stamps.leaked_packets).sum();
        let counted = stamps.values().map(|stamps| stamps.dropped_packets + stamps.group_packets).sum();
        programs.word(0, 0);
        programs.clear_cells(0, &cells);
        Outcome {
            is_dropped,
            leaked,
            foreign: since(counter::FOREIGN_SOURCE),
            unnamed: since(counter::UNNAMED),
            counted,
        }
    }

    /// Shows a frame to the hooks on its way after the heal, and says how many links got a stamp of their first traffic.
    pub fn firsts(&mut self, side: Side, setup: &Setup, frame: &[u8], path: &[Step]) -> usize {
        // As when it is cut, so that the same is known.
        self.send(side, setup, &[(frame.to_vec(), path.to_vec())]);
        let identity = setup.identity(side);
        let cells = self.cells(setup, &identity);
        let programs = &mut self.programs;
        programs.forget();
        programs.place_cells(0, &steady(1), &cells);
        programs.word(0, 1);
        for step in path {
            assert!(!meet(programs, side, *step, frame), "dropped after the heal");
        }
        let stamped = programs.stamps().values().filter(|stamps| stamps.first_packet != 0).count();
        programs.word(0, 0);
        programs.clear_cells(0, &cells);
        stamped
    }

    /// The cells that the daemon would write for the setup's partition.
    fn cells(&self, setup: &Setup, identity: &Identity) -> Vec<injector_core::plan::Cell> {
        let peers: Vec<PeerId> = self.config.names.peers().collect();
        let bound = identity.bound();
        let context = CellContext {
            peers: &peers,
            forwards: &|peer| identity.peers.get(&peer).is_some_and(|traits| traits.forwards),
            is_bound: &|peer| bound.contains(&peer),
        };
        let links: Vec<Link> =
            setup.cut.iter().map(|(src, dst)| Link { src: PeerId(*src), dst: PeerId(*dst) }).collect();
        cells(&Traffic::default(), &links, &context)
    }
}

/// Shows a frame to one hook; whether it drops it.
fn meet(programs: &mut Programs, side: Side, step: Step, frame: &[u8]) -> bool {
    let (Step::From(interface) | Step::To(interface)) = step;
    programs.drops_at(interface, side.hook(step), frame)
}
