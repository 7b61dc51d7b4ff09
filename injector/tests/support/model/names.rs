//! Who sent a frame and who receives it, by the contract.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use injector_common::key::GROUP;
use injector_core::identity::{self, Identity, Mac};
use injector_core::model::PeerId;

use super::name_counts::NameCounts;
use super::reading::{Reading, plain};
use super::verdict_config::VerdictConfig;

/// Everyone who is no peer.
pub const WORLD: u16 = 0;

/// How long two claims of one address contest each other.
const CONTEST: u64 = 60 * SECOND;
/// How long a claim lasts that is not renewed.
const CLAIM_LIFE: u64 = 600 * SECOND;
/// How long a frame may take from its sender's port to another hook.
const PASSAGE: u64 = SECOND / 4;
/// How long a MAC address that was learned is taken for the receiver's.
const MAC_LIFE: u64 = 30 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// Sender and receiver.
pub type Ends = (u16, u16);

/// Where a frame is seen.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    pub interface: u32,
    pub direction: Direction,
}

/// Which direction a frame passes an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// What is known of names, and what was learned from frames.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub config: VerdictConfig,
    pub identity: Identity,
    claims: HashMap<IpAddr, Claims>,
    /// What frames said of addresses that are seen on NICs.
    doubts: HashMap<IpAddr, Doubt>,
    learned: HashMap<Mac, Learned>,
    /// Listed addresses that another peer claimed by its frames.
    taken_over: HashSet<IpAddr>,
    pub counts: NameCounts,
}

/// The claims of one address by frames.
#[derive(Clone, Copy, Debug)]
struct Claims {
    /// Who claimed it last, a peer or the world, and when. What a peer sends from it renews its claim, unless it may send
    /// for others.
    latest: (u16, u64),
    /// From which MAC address.
    mac: Mac,
    contested_until: u64,
}

/// The one peer whose NIC is seen to hold an address; `None` if several peers' do.
struct Holder(Option<u16>);

/// What frames said of an address that is seen on a peer's NIC.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// When and from which MAC address the peer claimed it last.
    own: Option<(u64, Mac)>,
    /// Until when it may have moved, since someone else claimed it.
    until: u64,
}

/// Who sent from a MAC address.
#[derive(Clone, Debug, Default)]
struct Learned {
    peers: BTreeSet<u16>,
    /// When last, unless someone elsewhere sent from it since.
    at: Option<u64>,
}

/// The sending or the receiving end of a frame, with the MAC address that it has there.
#[derive(Clone, Copy)]
enum End {
    From(Mac),
    To(Mac),
}

/// What an address says.
enum Address {
    /// It is this peer's.
    Of(u16),
    /// It could be anyone's.
    Nameless,
    /// It moves between peers.
    Vip,
    /// It may have moved, and the port of the peer that has it judges what is for that peer.
    AtHolder,
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

impl Names {
    /// Before the first frame.
    pub fn new(config: VerdictConfig, identity: Identity) -> Self {
        Self { config, identity, ..Self::default() }
    }

    /// Both ends of a frame at a hook; `None` if it is not judged there.
    pub fn ends(&mut self, reading: &Reading<'_>, hook: Hook, now: u64) -> Option<Ends> {
        let port = self.port(hook);
        let (from, to) = (reading.addresses.map(|ends| ends.0), reading.addresses.map(|ends| ends.1));
        let at_sender = port.filter(|port| port.sends && !port.is_shared);
        let at_receiver = port.filter(|port| !port.sends);
        // What goes to a group is judged at each receiver's port, also when a moving address sends it.
        let is_group = reading.is_for_a_group();
        let src = self.end(from, End::From(reading.from_mac), at_sender, now, !is_group)?;
        if !is_group {
            let at_receiver = at_receiver.filter(|port| !port.is_shared);
            return Some((src, self.end(to, End::To(reading.to_mac), at_receiver, now, true)?));
        }
        if let Some(port) = at_receiver {
            // Behind a shared port, it may be meant for another peer as well.
            return (!port.is_shared).then_some((src, port.peer));
        }
        if reading.asks
            && let Address::Of(asked) = self.address(to, End::To(reading.to_mac), None, now)
            && asked != src
        {
            return Some((src, asked));
        }
        // At the sender's port, its copies are for all. Elsewhere nobody knows for whom this one is.
        at_sender.map(|_| (src, GROUP))
    }

    /// One end; `None` if it is not judged here.
    fn end(
        &mut self,
        address: Option<IpAddr>,
        end: End,
        port: Option<Port>,
        now: u64,
        is_judged_by_holder: bool,
    ) -> Option<u16> {
        let address = self.address(address, end, port, now);
        if let Address::Of(peer) = address {
            return Some(peer);
        }
        if is_judged_by_holder && matches!(address, Address::Vip) && port.is_none() && self.are_all_bound() {
            return None;
        }
        if is_judged_by_holder && matches!(address, Address::AtHolder) {
            self.counts.left_to_holder += 1;
            return None;
        }
        let sure = self.sure(end);
        let peer = sure.or(port.map(|port| port.peer)).or_else(|| self.by_mac(end, now)).unwrap_or(WORLD);
        let traits = self.identity.peers.get(&PeerId(peer)).copied().unwrap_or_default();
        let may_forward = !traits.is_plain || traits.forwards;
        Some(if matches!(address, Address::Unknown) && may_forward { WORLD } else { peer })
    }

    fn address(&mut self, address: Option<IpAddr>, end: End, port: Option<Port>, now: u64) -> Address {
        let Some(address) = address.map(plain) else { return Address::Nameless };
        if self.moves(address) {
            return Address::Vip;
        }
        if let Some(peer) = self.config.exact.get(&address) {
            return Address::Of(*peer);
        }
        if is_nameless(address) {
            return Address::Nameless;
        }
        if let Some(peer) = self.lister(address) {
            return Address::Of(peer);
        }
        if let Some(Holder(holder)) = self.holder(address) {
            let is_in_doubt = self.identity.shared.contains_key(&address)
                || self.doubts.get(&address).is_some_and(|doubt| now < doubt.until);
            return match holder {
                Some(peer) if !is_in_doubt => Address::Of(peer),
                _ => self.moving(address, holder, end, port),
            };
        }
        self.claimant(address, end, port, now).map_or(Address::Unknown, Address::Of)
    }

    /// Whose NICs are seen to hold an address, if a peer's are.
    fn holder(&self, address: IpAddr) -> Option<Holder> {
        let held = self.identity.held.get(&address).map(|peer| Holder(Some(peer.0)));
        held.or_else(|| self.identity.shared.get(&address).map(|peer| Holder(peer.map(|peer| peer.0))))
    }

    /// Whose an address is that a NIC holds and that may have moved: a port says it. Where there is none, the holder has it if
    /// the frame has the MAC address of a NIC of the holder too; else its port decides, if it has one.
    fn moving(&mut self, address: IpAddr, holder: Option<u16>, end: End, port: Option<Port>) -> Address {
        let Some(port) = port else {
            return match holder {
                Some(peer) if self.nic(end) == Some(peer) => {
                    self.counts.stayed += 1;
                    Address::Of(peer)
                }
                Some(peer) if self.is_bound(peer) => Address::AtHolder,
                _ => Address::Vip,
            };
        };
        if holder == Some(port.peer) {
            self.counts.stayed += 1;
            return Address::Of(port.peer);
        }
        // Of several holders, it may be one of the others; a router passes on what others send, and what is for others unless
        // it has the address.
        let is_for_it = matches!(end, End::To(_)) && self.shares(address, port.peer);
        let passes_on = self.forwards(port.peer) && !is_for_it;
        if holder.is_some() || passes_on { Address::Unknown } else { Address::Vip }
    }

    /// Whether a peer that forwards holds an address that other peers hold too.
    fn shares(&self, address: IpAddr, peer: u16) -> bool {
        self.identity.forwarders.get(&address).is_some_and(|peers| peers.contains(&PeerId(peer)))
    }

    /// The peer that has a MAC address by the config or on a NIC that is seen.
    fn nic(&self, end: End) -> Option<u16> {
        let (End::From(mac) | End::To(mac)) = end;
        self.sure(end).or_else(|| self.identity.macs.get(&mac).map(|peer| peer.0))
    }

    fn moves(&self, address: IpAddr) -> bool {
        self.identity.moved.contains_key(&address) || self.taken_over.contains(&address)
    }

    /// For whom the config lists an address: itself, else in the longest prefix.
    fn lister(&self, address: IpAddr) -> Option<u16> {
        let nets = self.config.nets.iter().filter(|(net, _)| net.contains(&address));
        let longest = nets.max_by_key(|(net, _)| net.prefix_len()).map(|(_, peer)| *peer);
        self.config.exact.get(&address).copied().or(longest)
    }

    /// Who alone claims by frames an address that is seen on no NIC, if this one has more of the claimant than the address.
    fn claimant(&mut self, address: IpAddr, end: End, port: Option<Port>, now: u64) -> Option<u16> {
        let claims = self.claims.get(&address).copied();
        if claims.is_some_and(|claims| now < claims.contested_until) {
            return None;
        }
        let (peer, at) = claims.map(|claims| claims.latest).filter(|(peer, _)| *peer != WORLD)?;
        if now >= at + CLAIM_LIFE {
            self.counts.aged += 1;
            return None;
        }
        if port.is_some_and(|port| port.peer == peer) {
            if matches!(end, End::From(_)) && !self.forwards(peer) {
                let claims = self.claims.get_mut(&address).unwrap();
                claims.latest.1 = at.max(now);
            }
        } else if self.sure(end).or_else(|| self.by_mac(end, now)) != Some(peer) {
            self.counts.unproved += 1;
            return None;
        }
        self.counts.claimed += 1;
        Some(peer)
    }

    /// Takes note of what a frame claims: for the peer whose port it comes out of, if that one is not seen inside, and else
    /// for the world. While nothing is cut, that is done only where some peer's addresses are learned.
    pub fn take_claim(&mut self, reading: &Reading<'_>, hook: Hook, now: u64, is_idle: bool) {
        let mut ports = self.identity.ports.values();
        if is_idle && !ports.any(|port| !port.is_shared && !self.is_seen(port.peer.0)) {
            return;
        }
        let Some(address) = reading.claims.map(plain).filter(|address| can_be_claimed(*address)) else {
            return;
        };
        let sender = self.port(hook).filter(|port| port.sends);
        let claimant = sender.filter(|port| !port.is_shared && !self.is_seen(port.peer));
        match claimant {
            Some(port) => self.claim(address, port.peer, reading.from_mac, now),
            None => self.contest(address, sender.map(|port| port.peer), reading.from_mac, now),
        }
    }

    fn claim(&mut self, address: IpAddr, peer: u16, mac: Mac, now: u64) {
        if self.moves(address) {
            return;
        }
        if let Some(lister) = self.lister(address) {
            let end = End::From(mac);
            let is_nested =
                lister != peer && self.sure(end).or_else(|| self.by_mac(end, now)) == Some(lister);
            if lister != peer && !is_nested {
                self.taken_over.insert(address);
                self.counts.taken_over += 1;
            }
            return;
        }
        if let Some(Holder(holder)) = self.holder(address) {
            if holder == Some(peer) {
                self.doubts.entry(address).or_default().own = Some((now, mac));
            } else {
                self.doubt(address, now);
            }
            return;
        }
        let first = Claims { latest: (peer, now), mac, contested_until: 0 };
        let claims = self.claims.entry(address).or_insert(first);
        let (before, at) = claims.latest;
        if before != peer && now < at + CONTEST {
            claims.contested_until = now + CONTEST;
        }
        (claims.latest, claims.mac) = ((peer, now), mac);
    }

    /// Someone claims an address, out of `sender`'s port if it is one, who is no peer as far as addresses are learned.
    fn contest(&mut self, address: IpAddr, sender: Option<u16>, mac: Mac, now: u64) {
        if let Some(Holder(holder)) = self.holder(address) {
            let Some(holder) = holder else { return };
            if sender == Some(holder) {
                self.doubts.entry(address).or_default().own = Some((now, mac));
                return;
            }
            let own = self.doubts.get(&address).and_then(|doubt| doubt.own);
            let is_passing = own.is_some_and(|(at, from)| from == mac && now < at + PASSAGE);
            // Without a port of its own, nothing would say where it is.
            if !is_passing && self.is_bound(holder) && self.nic(End::From(mac)) != Some(holder) {
                self.doubt(address, now);
            }
            return;
        }
        let Some(claims) = self.claims.get_mut(&address) else { return };
        let (peer, at) = claims.latest;
        // The peer's own frame, which its port saw just now.
        let is_passing = mac == claims.mac && now < at + PASSAGE;
        if peer == WORLD || sender != Some(peer) && !is_passing {
            self.counts.contested += u64::from(peer != WORLD);
            claims.latest = (WORLD, now);
        }
    }

    /// An address that a NIC is seen to hold may have moved, for as long as the other claim would last.
    fn doubt(&mut self, address: IpAddr, now: u64) {
        self.counts.doubted += 1;
        let doubt = self.doubts.entry(address).or_default();
        doubt.until = doubt.until.max(now + CLAIM_LIFE);
    }

    /// Takes note of the MAC address that a frame comes from, if it comes out of a port that names.
    pub fn learn(&mut self, reading: &Reading<'_>, hook: Hook, now: u64) {
        let mac = reading.from_mac;
        if let Some(Port { peer, sends: true, is_shared: false }) = self.port(hook)
            && mac != [0; 6]
            && mac[0] & 1 == 0
        {
            let learned = self.learned.entry(mac).or_default();
            learned.peers.insert(peer);
            learned.at = Some(now);
        }
    }

    /// The peer that the config has a MAC for, unless someone else has it too.
    fn sure(&self, end: End) -> Option<u16> {
        let (End::From(mac) | End::To(mac)) = end;
        if self.identity.doubled.contains(&mac) {
            return None;
        }
        self.config.macs.get(&mac).copied()
    }

    /// The one peer that a MAC is seen on or was learned of. A frame of a peer passes its port first: a sender whose MAC did
    /// not come out of there just now is someone else, who has it from then on.
    fn by_mac(&mut self, end: End, now: u64) -> Option<u16> {
        let (End::From(mac) | End::To(mac)) = end;
        if self.identity.doubled.contains(&mac) {
            return None;
        }
        let seen_on = self.identity.macs.get(&mac).map(|peer| peer.0);
        let Some(learned) = self.learned.get_mut(&mac) else { return seen_on };
        let peer = learned.peers.first().copied().filter(|_| learned.peers.len() == 1)?;
        if let Some(holder) = seen_on {
            return Some(holder).filter(|holder| *holder == peer);
        }
        let life = if matches!(end, End::From(_)) { PASSAGE } else { MAC_LIFE };
        if learned.at.is_some_and(|at| now < at + life) {
            return Some(peer);
        }
        if matches!(end, End::From(_)) {
            self.counts.moved += u64::from(learned.at.is_some());
            learned.at = None;
        }
        None
    }

    fn is_seen(&self, peer: u16) -> bool {
        self.identity.peers.get(&PeerId(peer)).is_some_and(|traits| traits.is_seen)
    }

    fn port(&self, hook: Hook) -> Option<Port> {
        let port = self.identity.ports.get(&hook.interface)?;
        let sends = match port.end {
            identity::End::Own => hook.direction == Direction::Out,
            identity::End::Host => hook.direction == Direction::In,
        };
        Some(Port { peer: port.peer.0, sends, is_shared: port.is_shared })
    }

    /// Whether this hook rolls the loss of a frame: of copies of a group frame, each receiver's.
    pub fn rolls(&mut self, reading: &Reading<'_>, (from, to): Ends, hook: Hook, now: u64) -> bool {
        if reading.is_for_a_group() {
            return self.port(hook).is_some_and(|port| !port.sends);
        }
        let rolls = |peer| Some((peer, self.config.rolls.get(&peer)?));
        let is_chosen = rolls(from).or_else(|| rolls(to)).is_none_or(|(peer, interfaces)| {
            // Of several, a packet passes one that leads to somebody behind the peer without being lost there.
            let port = self.port(hook).filter(|port| port.peer == peer && interfaces.len() > 1);
            interfaces.contains(&hook.interface) && port.is_none_or(|port| port.sends == (peer == from))
        });
        // Nobody else can have rolled it if nobody else knows its receiver.
        is_chosen || self.is_at_receiver(hook) && !self.is_named_elsewhere(reading, to, now)
    }

    /// Whether a frame at its receiver's port came by its sender's too, where it was visible for whom it is.
    pub fn passed_its_senders_port(
        &mut self,
        reading: &Reading<'_>,
        (from, to): Ends,
        hook: Hook,
        now: u64,
    ) -> bool {
        let is_at_its_receiver = self.port(hook).is_some_and(|port| port.peer == to);
        self.is_at_receiver(hook)
            && is_at_its_receiver
            && self.is_bound(from)
            && self.is_named_elsewhere(reading, to, now)
    }

    /// Whether a unicast frame is at a receiver's port that is not for that peer: its MAC address is another peer's, or none of
    /// the peer's, if all of these are known. An address that the config lists for the peer says that it is meant.
    pub fn is_flooded(&mut self, reading: &Reading<'_>, (_, to): Ends, hook: Hook, now: u64) -> bool {
        let Some(Port { peer, sends: false, is_shared: false }) = self.port(hook) else { return false };
        if reading.is_for_a_group() || to != peer && to != WORLD {
            return false;
        }
        let address = reading.addresses.map(|ends| plain(ends.1));
        let is_listed = address.is_some_and(|address| {
            let lister = if is_nameless(address) {
                self.config.exact.get(&address).copied()
            } else {
                self.lister(address)
            };
            !self.moves(address) && lister == Some(peer)
        });
        if is_listed {
            return false;
        }
        let end = End::To(reading.to_mac);
        let is_flooded = match self.sure(end).or_else(|| self.by_mac(end, now)) {
            Some(owner) => owner != peer,
            None => self.has_known_macs(peer) && self.nic(end) != Some(peer),
        };
        self.counts.flooded += u64::from(is_flooded);
        is_flooded
    }

    fn has_known_macs(&self, peer: u16) -> bool {
        self.identity.peers.get(&PeerId(peer)).is_some_and(|traits| traits.has_known_macs)
    }

    fn is_at_receiver(&self, hook: Hook) -> bool {
        self.port(hook).is_some_and(|port| !port.sends && !port.is_shared)
    }

    /// Whether a frame's receiver has its name also without its port.
    fn is_named_elsewhere(&mut self, reading: &Reading<'_>, receiver: u16, now: u64) -> bool {
        let to = reading.addresses.map(|ends| ends.1);
        self.end(to, End::To(reading.to_mac), None, now, true) == Some(receiver)
    }

    /// The links that other names than the judged ones put a frame on that passes here as the last hook of ours.
    ///
    /// At the sender's port that is its port. At the receiver's it is the port for an address that names nobody, since what
    /// is addressed to another peer is that peer's; and for the sender, which has no port here, its MAC.
    pub fn other_links(
        &mut self,
        reading: &Reading<'_>,
        (from, to): Ends,
        hook: Hook,
        (looks_at_macs, now): (bool, u64),
    ) -> Other {
        let mut other = Other::default();
        let Some(Port { peer, sends, is_shared: false }) = self.port(hook) else { return other };
        if self.forwards(peer) {
            // It may have sent that itself, and where all have ports nobody else judges it.
            let source = reading.addresses.map(|(source, _)| plain(source));
            let is_last = self.are_all_bound() || !self.is_bound(to);
            if sends && from == WORLD && is_last && source.is_some_and(|source| self.shares(source, peer)) {
                other.links.push((peer, to));
            }
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
        if !looks_at_macs && self.config.macs.is_empty() {
            return other;
        }
        let end = End::From(reading.from_mac);
        let by_mac = self.sure(end).or_else(|| self.by_mac(end, now));
        if let Some(sender) = by_mac.filter(|sender| *sender != from && !self.forwards(*sender)) {
            other.links.push((sender, peer));
        }
        other
    }

    /// Whether a frame at a peer's port is to or from a host that nothing identifies.
    pub fn is_with_a_stranger(
        &mut self,
        reading: &Reading<'_>,
        (from, to): Ends,
        hook: Hook,
        now: u64,
    ) -> bool {
        let Some(Port { sends, is_shared: false, .. }) = self.port(hook) else { return false };
        let (other, end) =
            if sends { (to, End::To(reading.to_mac)) } else { (from, End::From(reading.from_mac)) };
        if other != WORLD || reading.is_for_a_group() {
            return false;
        }
        self.sure(end).or_else(|| self.by_mac(end, now)).is_none()
    }

    fn are_all_bound(&self) -> bool {
        self.identity.bound().len() == self.config.peers
    }

    fn forwards(&self, peer: u16) -> bool {
        self.identity.peers.get(&PeerId(peer)).is_some_and(|traits| traits.forwards)
    }

    fn is_bound(&self, peer: u16) -> bool {
        self.identity.bound().contains(&PeerId(peer))
    }
}

/// Whether an address could be anyone's. A prefix may span these, but does not list them.
fn is_nameless(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_unspecified() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unspecified() || address.is_unicast_link_local(),
    }
}

fn can_be_claimed(address: IpAddr) -> bool {
    let is_for_all = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !is_nameless(address) && !address.is_multicast() && !is_for_all
}
