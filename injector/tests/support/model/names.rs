//! Who sent a frame and who receives it, by the contract.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use injector::identity::{End, Identity, Mac};
use injector::model::{PeerId, Scope};
use injector_common::key::GROUP;
use ipnet::IpNet;

use super::Response;
use super::reading::{Reading, plain};

/// Everyone who is no peer.
pub const WORLD: u16 = 0;

/// How long two claims of one address contest each other.
const CONTEST: u64 = 60_000_000_000;

/// Sender and receiver.
pub type Ends = (u16, u16);

/// What a config says that bears on the verdict.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// How many peers there are.
    pub peers: usize,
    pub exact: HashMap<IpAddr, u16>,
    pub nets: Vec<(IpNet, u16)>,
    pub macs: HashMap<Mac, u16>,
    pub protected_addresses: HashSet<IpAddr>,
    pub protected_scopes: Vec<Scope>,
    /// By address and port, the id and what a response looks like.
    pub endpoints: HashMap<(IpAddr, u16), (u32, Response)>,
    /// By peer: the interfaces where its loss is rolled.
    pub rolls: HashMap<u16, BTreeSet<u32>>,
}

/// Where a frame is seen.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    pub interface: u32,
    pub way: Way,
}

/// Which way a frame passes an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// What is known of names, and what was learned from frames.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub world: World,
    pub identity: Identity,
    claims: HashMap<IpAddr, Claims>,
    learned: HashMap<Mac, BTreeSet<u16>>,
}

/// The claims of one address by frames.
#[derive(Clone, Copy, Debug)]
struct Claims {
    /// The peer that claimed it last, and when.
    latest: (u16, u64),
    contested_until: u64,
}

/// What an address says.
enum Address {
    /// It is this peer's.
    Of(u16),
    /// It could be anyone's.
    Nameless,
    /// It moves between peers.
    Vip,
    /// It names nobody whom the config knows.
    Unknown,
}

/// What one port is to a frame.
#[derive(Clone, Copy)]
struct Port {
    peer: u16,
    /// The peer sends the frame; else it receives it.
    sends: bool,
    is_shared: bool,
}

/// What other names than the judged ones say.
#[derive(Default)]
pub struct Other {
    pub links: Vec<Ends>,
    /// The port's peer is not the sender.
    pub is_odd: bool,
    /// The port's peer sends for someone who is not known.
    pub is_foreign: bool,
}

impl World {
    pub fn protects(&self, reading: &Reading<'_>) -> bool {
        let by_address = reading.addresses.is_some_and(|(from, to)| {
            [from, to].iter().any(|address| self.protected_addresses.contains(&plain(*address)))
        });
        by_address
            || self.protected_scopes.iter().any(|scope| reading.is_in(*scope) || reading.may_be_in(*scope))
    }
}

impl Names {
    /// Before the first frame.
    pub fn new(world: World, identity: Identity) -> Self {
        Self { world, identity, ..Self::default() }
    }

    /// Both ends of a frame at a hook; `None` if it is not judged there.
    pub fn ends(&self, reading: &Reading<'_>, hook: Hook, now: u64) -> Option<Ends> {
        let port = self.port(hook);
        let (from, to) = (reading.addresses.map(|ends| ends.0), reading.addresses.map(|ends| ends.1));
        let at_sender = port.filter(|port| port.sends && !port.is_shared);
        let at_receiver = port.filter(|port| !port.sends);
        // What goes to a group is judged at each receiver's port, also when a moving address sends it.
        let is_group = reading.is_for_a_group();
        let src = self.end(from, reading.from_mac, at_sender, now, !is_group)?;
        if !is_group {
            let at_receiver = at_receiver.filter(|port| !port.is_shared);
            return Some((src, self.end(to, reading.to_mac, at_receiver, now, true)?));
        }
        if let Some(port) = at_receiver {
            // Behind a shared port, it may be meant for another peer as well.
            return (!port.is_shared).then_some((src, port.peer));
        }
        if reading.asks
            && let Address::Of(asked) = self.address(to, now)
            && asked != src
        {
            return Some((src, asked));
        }
        // At the sender's port, its copies are for all. Elsewhere nobody knows for whom this one is.
        at_sender.map(|_| (src, GROUP))
    }

    /// One end; `None` if it is not judged here.
    fn end(
        &self,
        address: Option<IpAddr>,
        mac: Mac,
        port: Option<Port>,
        now: u64,
        is_judged_by_holder: bool,
    ) -> Option<u16> {
        let address = self.address(address, now);
        if let Address::Of(peer) = address {
            return Some(peer);
        }
        if is_judged_by_holder && matches!(address, Address::Vip) && port.is_none() && self.are_all_bound() {
            return None;
        }
        let sure = self.world.macs.get(&mac).copied();
        let peer = sure.or(port.map(|port| port.peer)).or_else(|| self.by_mac(mac)).unwrap_or(WORLD);
        let traits = self.identity.peers.get(&PeerId(peer)).copied().unwrap_or_default();
        let may_forward = !traits.is_plain || traits.forwards;
        Some(if matches!(address, Address::Unknown) && may_forward { WORLD } else { peer })
    }

    fn address(&self, address: Option<IpAddr>, now: u64) -> Address {
        let Some(address) = address.map(plain) else { return Address::Nameless };
        if self.identity.moved.contains_key(&address) {
            return Address::Vip;
        }
        if let Some(peer) = self.world.exact.get(&address) {
            return Address::Of(*peer);
        }
        // A prefix may span these, but does not list them.
        let is_nameless = match address {
            IpAddr::V4(address) => address.is_unspecified() || address.is_link_local(),
            IpAddr::V6(address) => address.is_unspecified() || address.is_unicast_link_local(),
        };
        if is_nameless {
            return Address::Nameless;
        }
        let nets = self.world.nets.iter().filter(|(net, _)| net.contains(&address));
        if let Some((_, peer)) = nets.max_by_key(|(net, _)| net.prefix_len()) {
            return Address::Of(*peer);
        }
        self.claimant(address, now).map_or(Address::Unknown, Address::Of)
    }

    /// Who alone claims an address.
    fn claimant(&self, address: IpAddr, now: u64) -> Option<u16> {
        let held = self.identity.held.get(&address).map(|peer| peer.0);
        match self.claims.get(&address) {
            Some(claims) if now < claims.contested_until => None,
            Some(claims) => held.or(Some(claims.latest.0)),
            None => held,
        }
    }

    /// Takes note of what a frame claims for the peer whose port it comes out of.
    pub fn take_claim(&mut self, reading: &Reading<'_>, hook: Hook, now: u64) {
        let Some(Port { peer, sends: true, is_shared: false }) = self.port(hook) else { return };
        let is_seen = self.identity.peers.get(&PeerId(peer)).is_some_and(|traits| traits.is_seen);
        let Some(address) = reading.claims.map(plain).filter(|_| !is_seen) else { return };
        let is_listed = self.world.exact.contains_key(&address)
            || self.world.nets.iter().any(|(net, _)| net.contains(&address));
        if is_listed || !matches!(self.address(Some(address), now), Address::Of(_) | Address::Unknown) {
            return;
        }
        let holder = self.identity.held.get(&address).map(|peer| peer.0);
        let claims = self.claims.entry(address).or_insert(Claims { latest: (peer, now), contested_until: 0 });
        let (before, at) = claims.latest;
        let is_contested = match holder {
            Some(holder) => holder != peer,
            None => before != peer && now < at + CONTEST,
        };
        if is_contested {
            claims.contested_until = now + CONTEST;
        }
        claims.latest = (peer, now);
    }

    /// Takes note of the MAC address that a frame comes from, if it comes out of a port that names.
    pub fn learn(&mut self, reading: &Reading<'_>, hook: Hook) {
        let mac = reading.from_mac;
        if let Some(Port { peer, sends: true, is_shared: false }) = self.port(hook)
            && mac != [0; 6]
            && mac[0] & 1 == 0
        {
            self.learned.entry(mac).or_default().insert(peer);
        }
    }

    /// The one peer that a MAC is seen on or was learned of.
    fn by_mac(&self, mac: Mac) -> Option<u16> {
        let mut peers = self.learned.get(&mac).cloned().unwrap_or_default();
        peers.extend(self.identity.macs.get(&mac).map(|peer| peer.0));
        peers.first().copied().filter(|_| peers.len() == 1)
    }

    fn port(&self, hook: Hook) -> Option<Port> {
        let port = self.identity.ports.get(&hook.interface)?;
        let sends = match port.end {
            End::Own => hook.way == Way::Out,
            End::Host => hook.way == Way::In,
        };
        Some(Port { peer: port.peer.0, sends, is_shared: port.is_shared })
    }

    /// Whether this hook rolls the loss of a frame: of copies of a group frame, each receiver's.
    pub fn rolls(&self, reading: &Reading<'_>, (from, to): Ends, hook: Hook) -> bool {
        if reading.is_for_a_group() {
            return self.port(hook).is_some_and(|port| !port.sends);
        }
        match (self.world.rolls.get(&from), self.world.rolls.get(&to)) {
            (Some(interfaces), _) | (None, Some(interfaces)) => interfaces.contains(&hook.interface),
            (None, None) => true,
        }
    }

    /// Whether a frame at its receiver's port came by its sender's too.
    pub fn passed_its_senders_port(&self, (from, _): Ends, hook: Hook) -> bool {
        let is_at_receiver = self.port(hook).is_some_and(|port| !port.sends && !port.is_shared);
        is_at_receiver && self.is_bound(from)
    }

    /// The links that other names than the judged ones put a frame on that passes here as the last hook of ours.
    ///
    /// At the sender's port that is its port. At the receiver's it is the port for an address that names nobody, since what
    /// is addressed to another peer is that peer's; and for the sender, which has no port here, its MAC.
    pub fn other_links(
        &self,
        reading: &Reading<'_>,
        (from, to): Ends,
        hook: Hook,
        looks_at_macs: bool,
    ) -> Other {
        let mut other = Other::default();
        let Some(Port { peer, sends, is_shared: false }) = self.port(hook) else { return other };
        if self.forwards(peer) {
            return other;
        }
        if sends {
            other.is_odd = from != peer;
            other.is_foreign = other.is_odd && from == WORLD;
            if other.is_odd && !self.is_bound(to) {
                other.links.push((peer, to));
            }
            return other;
        }
        if to != peer && to != WORLD {
            return other;
        }
        if to == WORLD {
            other.links.push((from, peer));
        }
        let mac = reading.from_mac;
        let by_mac = self.world.macs.get(&mac).copied().or_else(|| self.by_mac(mac));
        if let Some(sender) = by_mac.filter(|sender| *sender != from && !self.forwards(*sender))
            && (looks_at_macs || !self.world.macs.is_empty())
        {
            other.links.push((sender, peer));
        }
        other
    }

    /// Whether a frame at a peer's port is to or from someone whom nothing names.
    pub fn is_with_a_stranger(&self, reading: &Reading<'_>, (from, to): Ends, hook: Hook) -> bool {
        let Some(Port { sends, is_shared: false, .. }) = self.port(hook) else { return false };
        let (other, mac) = if sends { (to, reading.to_mac) } else { (from, reading.from_mac) };
        let is_owned = self.world.macs.contains_key(&mac) || self.by_mac(mac).is_some();
        other == WORLD && !is_owned && !reading.is_for_a_group()
    }

    fn are_all_bound(&self) -> bool {
        self.identity.bound().len() == self.world.peers
    }

    fn forwards(&self, peer: u16) -> bool {
        self.identity.peers.get(&PeerId(peer)).is_some_and(|traits| traits.forwards)
    }

    fn is_bound(&self, peer: u16) -> bool {
        self.identity.bound().contains(&PeerId(peer))
    }
}
