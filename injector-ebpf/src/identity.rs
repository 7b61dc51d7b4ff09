//! The sender and the receiver of a frame: the two ends are named apart.
//!
//! An address names an end if the config lists it or a peer claims it. What no address can name (no IP, unspecified,
//! link-local, `vip:`) is named by a MAC of the config, the bound port, or another MAC, in this order. These name a
//! routable address too, but only for a peer that forwards for nobody.

use aya_ebpf::maps::lpm_trie::Key;
use injector_common::key::{
    Address, CLAIM_LIFE, Claim, MAC_LIFE, NOBODY, PASSAGE, Port, VIP, holders, is_mapped, is_nameless, port,
    prefix, traits,
};
use injector_common::packet::flag;
use injector_common::{exact, feature};

use crate::maps::{
    CLAIMS, CONTEXT, EXACT_MASK, EXACT_SEED, FEATURES, HELD, INTERFACE, LEARNED, MACS, PEERS, PORTS,
    PREFIXES, SIDE, TRAITS, TRANSIT,
};
use crate::verdict_context::VerdictContext;

/// The id of all hosts that are no peers.
pub const WORLD: u32 = 0;
/// An answer of [`by_address`]: addresses of this kind name nobody.
const NAMELESS: u32 = 0x1_0000;
/// A `vip:` away from its holder's port: such a frame is not judged.
pub const UNJUDGED: u32 = 0x1_0001;

/// The direction in which a frame passes the hook.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ingress.
    Ingress,
    /// Egress.
    Egress,
}

/// The proved facts about this hook's interface, seen from one frame.
#[derive(Clone, Copy)]
pub struct Side {
    /// The peer that sent the frame, if this is its port; else 0.
    pub sender: u32,
    /// The peer that receives it, if this is its port; else 0.
    pub receiver: u32,
    /// Bits of [`port`].
    pub flags: u32,
}

impl Side {
    /// This hook's port for frames of one way.
    #[inline(always)]
    pub fn of(interface: u32, direction: Direction) -> Self {
        Self::at(PORTS.get_ptr(interface), direction)
    }

    /// [`Self::of`] where the entry of [`PORTS`] is at hand.
    #[inline(always)]
    pub fn at(entry: Option<*const Port>, direction: Direction) -> Self {
        let Some(entry) = entry else { return Self { sender: 0, receiver: 0, flags: 0 } };
        // User space writes an entry in place while packets are judged: the peer and its flags are read at once.
        // SAFETY: the first eight bytes of a map's value, which is aligned to them.
        let both = unsafe { entry.cast::<u64>().read_volatile() };
        let (first, second) = (both as u32, (both >> 32) as u32);
        let (peer, flags) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
        if (flags & port::OWN != 0) == (direction == Direction::Egress) {
            Self { sender: peer, receiver: 0, flags }
        } else {
            Self { sender: 0, receiver: peer, flags }
        }
    }

    /// The side as one number, to hand on without another lookup: peers have 16 bits, and flags fewer.
    #[inline(always)]
    pub fn packed(self) -> u64 {
        u64::from(self.sender) << 48 | u64::from(self.receiver) << 32 | u64::from(self.flags)
    }

    /// Unpacks a side from one number.
    #[inline(always)]
    pub fn unpacked(packed: u64) -> Self {
        let sixteen = |shift: u32| (packed >> shift) as u32 & 0xffff;
        Self { sender: sixteen(48), receiver: sixteen(32), flags: packed as u32 }
    }

    /// The peer, if its port names the frames of this side.
    #[inline(always)]
    fn names(self, peer: u32) -> u32 {
        if self.flags & port::NAMES != 0 { peer } else { WORLD }
    }

    /// The sending peer, if this port names it.
    #[inline(always)]
    pub fn named_sender(self) -> u32 {
        self.names(self.sender)
    }

    /// The receiving peer, if this port names it.
    #[inline(always)]
    pub fn named_receiver(self) -> u32 {
        self.names(self.receiver)
    }
}

/// The id of the hook's interface.
#[inline(always)]
pub fn interface(context: &VerdictContext) -> u32 {
    // A value that is fixed when an instance is loaded costs nothing when the instance runs.
    match INTERFACE.load() {
        0 => context.interface,
        interface => interface,
    }
}

/// The facts about a peer: bits of [`traits`].
#[inline(always)]
pub fn traits_of(peer: u32) -> u32 {
    TRAITS.get(peer).copied().unwrap_or(0)
}

/// Whether a peer's port and MAC addresses name routable addresses too.
#[inline(always)]
fn is_plain(peer: u32) -> bool {
    let known = traits_of(peer);
    known & traits::PLAIN != 0
        && (known & traits::MAY_FORWARD == 0 || TRANSIT.get(peer).copied().unwrap_or(0) == 0)
}

/// Takes note that a peer forwards, if the current packet, at its port, is for its MAC address and on its way to the peer `listed`:
/// from now on, packets that leave by the port may be of someone behind it. A global function of plain numbers, as
/// [`by_address`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pass_on(peer: u32, listed: u32) -> u32 {
    if listed == VIP || traits_of(peer) & traits::MAY_FORWARD == 0 || !has_nic(peer, TO) {
        return 0;
    }
    if let Some(seen) = TRANSIT.get_ptr_mut(peer) {
        // SAFETY: one aligned word.
        unsafe { seen.write_volatile(1) };
    }
    0
}

/// The sending peer.
#[inline(always)]
pub fn source(context: &VerdictContext, side: Side) -> u32 {
    // A group frame was not judged at its sender's port, so its sender is named at each receiver's, also by a `vip:`.
    let is_judged_elsewhere = context.packet.flags & flag::GROUP == 0;
    end(lister(&context.packet.src), FROM, side.named_sender(), is_judged_elsewhere)
}

/// The receiving peer of a frame to one, where `listed` is what [`lister`] says of its destination address.
#[inline(always)]
pub fn destination(listed: u32, side: Side) -> u32 {
    end(listed, TO, side.named_receiver(), true)
}

/// Whether the current packet's receiver is named also where this hook's port does not say it: the hooks that the frame passed
/// before could name it. A global function of plain numbers, as [`by_address`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_named_elsewhere(receiver: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let nowhere = Side { sender: WORLD, receiver: WORLD, flags: 0 };
    u32::from(destination(lister(&context.packet.dst), nowhere) == receiver)
}

/// Whether the current packet is at a peer's port by mistake: a switch that does not know where a MAC address is sends a
/// unicast frame to each of its ports, and the peer's NIC discards it. Most packets have an address that the config lists for
/// the peer, and cost a comparison here.
#[inline(always)]
pub fn is_flooded(context: &VerdictContext) -> bool {
    let VerdictContext { receiver, dst, listed, .. } = *context;
    receiver != WORLD
        && listed != receiver
        && (dst == receiver || dst == WORLD)
        && context.packet.flags & flag::GROUP == 0
        && is_for_another(receiver) != 0
}

/// Whether the packet's destination MAC address is known to be someone else's than the peer's. An unknown one may be another
/// of the peer's own, unless all of these are known. A global function of plain numbers, as [`by_address`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_for_another(peer: u32) -> u32 {
    let owner = by_frame(TO, WORLD);
    if owner != WORLD {
        return u32::from(owner != peer);
    }
    u32::from(traits_of(peer) & traits::MACS_KNOWN != 0 && !has_nic(peer, TO))
}

/// The peer at one end. Most frames have listed addresses, which are looked up in place; all else is a call.
#[inline(always)]
fn end(listed: u32, end: u32, port: u32, is_judged_elsewhere: bool) -> u32 {
    if listed != WORLD && listed != VIP {
        return listed;
    }
    let by_address = by_address(end, listed, port);
    if by_address != WORLD && by_address < NAMELESS {
        return by_address;
    }
    named(by_address, end, port, is_judged_elsewhere)
}

/// The receiver of a group frame: at the receiver's port that peer; at the sender's port the peer that the
/// frame asks for, else all who would get a copy (the column behind the peers'). Elsewhere the receivers are
/// not known.
#[inline(always)]
pub fn group(context: &VerdictContext, side: Side) -> u32 {
    if side.receiver != WORLD {
        // Another peer behind the same port may be meant as well: such a port names nobody.
        return if side.flags & port::NAMES != 0 { side.receiver } else { UNJUDGED };
    }
    if context.packet.flags & flag::ASKS != 0 {
        let asked = by_address(TO, lister(&context.packet.dst), WORLD);
        // A peer that asks for its own address announces itself to all.
        if asked != WORLD && asked < NAMELESS && asked != context.src {
            return asked;
        }
    }
    if side.named_sender() == WORLD { UNJUDGED } else { SIDE.load() }
}

/// The peer that lists or claims the address of one end of the current packet, where `listed` is what [`lister`] says,
/// and `port` the peer whose port this hook is on that side, or `WORLD`. The answer is `WORLD` for none, [`NAMELESS`] where
/// addresses of its kind name nobody, `NAMELESS + VIP` for one that moves, and [`UNJUDGED`] for one that moves and whose
/// holder's port judges the frame. A global function of plain numbers: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn by_address(end: u32, listed: u32, port: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return WORLD };
    let packet = &context.packet;
    let address = if end == FROM { &packet.src } else { &packet.dst };
    if packet.flags & flag::NO_ADDRESS != 0 {
        return NAMELESS;
    }
    match listed {
        VIP => NAMELESS + VIP,
        WORLD if is_nameless(address) => NAMELESS,
        WORLD => claimed(address, context.now(), end, port),
        peer => peer,
    }
}

/// The peer that the config lists an address for, itself or in a prefix; [`VIP`] for one that moves, or `WORLD`.
#[inline(always)]
pub fn lister(address: &Address) -> u32 {
    match listed(address) {
        // A prefix may span addresses that name nobody, and is about none of them.
        WORLD if FEATURES.load() & feature::PREFIX != 0 && !is_nameless(address) => within(address),
        listed => listed,
    }
}

/// Marks a listed address as one that moves between peers, from now on.
#[inline(always)]
pub fn make_vip(address: &Address) {
    if FEATURES.load() & feature::EXACT != 0
        && let Some(place) =
            exact::place(address, EXACT_SEED.load(), |place| PEERS.get(place & EXACT_MASK.load()))
    {
        if let Some(entry) = PEERS.get_ptr_mut(place & EXACT_MASK.load()) {
            // SAFETY: one aligned word; the address stays, so that no program reads a mixture.
            unsafe { core::ptr::addr_of_mut!((*entry).peer).write_volatile(VIP) };
        }
    } else if FEATURES.load() & feature::PREFIX != 0 {
        let _ = PREFIXES.insert(&Key::new(128, *address), &prefix::value(VIP as u16, 128), 0);
    }
}

/// The peer that the config lists an address for, [`VIP`], or `WORLD`.
#[inline(always)]
fn listed(address: &Address) -> u32 {
    if FEATURES.load() & feature::EXACT == 0 {
        return WORLD;
    }
    exact::find(address, EXACT_SEED.load(), |place| PEERS.get(place & EXACT_MASK.load()))
}

/// The peer of the longest prefix that an address is in, or `WORLD`.
#[inline(always)]
fn within(address: &Address) -> u32 {
    if let Some(found) = PREFIXES.get(Key::new(128, *address))
        // A short IPv6 prefix, such as ::/8, spans the mapped addresses, but none of IPv4.
        && (prefix::length(*found) >= 96 || !is_mapped(address))
    {
        return prefix::peer(*found);
    }
    WORLD
}

/// The claim to an address: that of the peer whose NIC is seen to hold it, or else one that was learned from
/// a frame.
#[inline(always)]
pub fn claim_of(address: &Address) -> Option<*mut Claim> {
    HELD.get_ptr_mut(address).or_else(|| CLAIMS.get_ptr_mut(address))
}

/// The peer that claims an address, if one alone does.
///
/// Someone else may have taken over an address that no NIC is seen to hold. So such a claim ages, and the frame must have
/// more of that peer than the address: its port, or a MAC.
#[inline(always)]
fn claimed(address: &Address, now: u64, end: u32, port: u32) -> u32 {
    let Some(claim) = claim_of(address) else { return WORLD };
    // SAFETY: a value of the map; its words are read and written as wholes, and one that is replaced meanwhile names the
    // peer of one moment or the other.
    let claim = unsafe { &mut *claim };
    let peer = claim.peer;
    if claim.held != 0 {
        return if claim.contested_until > now { moving(claim, end, port) } else { peer };
    }
    if claim.contested_until > now || peer == WORLD {
        return WORLD;
    }
    if now >= claim.at + CLAIM_LIFE {
        return WORLD;
    }
    if port == peer {
        // A router may send from another's address.
        if end == FROM && claim.at < now && traits_of(peer) & traits::FORWARDS == 0 {
            claim.at = now;
        }
        return peer;
    }
    if by_frame(end, WORLD) == peer { peer } else { WORLD }
}

/// The peer that has an address which a NIC of `peer` holds, and which someone else holds or announces too;
/// `peer` is [`VIP`] if NICs of several peers hold it. The address moves, as a `vip:` does: a port says which
/// peer has it. Elsewhere, the address names the peer only together with the MAC address of a NIC of the
/// peer, and nobody if the peer's port judges the frame.
#[inline(always)]
fn moving(claim: &Claim, end: u32, port: u32) -> u32 {
    let peer = claim.peer;
    if port == peer {
        return peer;
    }
    if port != WORLD {
        // A router may pass on what others send from it, and what is for others unless it is seen to hold the address.
        let is_its_own =
            traits_of(port) & traits::FORWARDS == 0 || end == TO && holders::has(claim.mac, port);
        return if peer == VIP && is_its_own { NAMELESS + VIP } else { WORLD };
    }
    if has_nic(peer, end) {
        return peer;
    }
    if traits_of(peer) & traits::BOUND != 0 { UNJUDGED } else { NAMELESS + VIP }
}

/// Whether the current packet, which its address at one end puts on no link of `peer`, may be on one nevertheless: the peer
/// forwards, and holds an address that other peers hold too. A global function of plain numbers, as [`by_address`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn may_be_its_own(end: u32, peer: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let address = if end == FROM { &context.packet.src } else { &context.packet.dst };
    let Some(claim) = HELD.get_ptr(address) else { return 0 };
    // SAFETY: aligned words of a map's value.
    let (holder, peers) = unsafe { ((*claim).peer, (*claim).mac) };
    u32::from(holder == VIP && (peers == holders::ANY || holders::has(peers, peer)))
}

/// Whether the MAC address of the current packet at one end is that of a NIC of a peer.
#[inline(always)]
pub fn has_nic(peer: u32, end: u32) -> bool {
    let Some(context) = CONTEXT.get(0) else { return false };
    let mac = if end == FROM { context.packet.src_mac() } else { context.packet.dst_mac() };
    // SAFETY: one word, and entries are replaced as wholes.
    unsafe { MACS.get(&mac) }.is_some_and(|owner| owner.peer == peer)
}

/// The sending side, for [`by_frame`].
pub const FROM: u32 = 0;
/// The receiving side.
pub const TO: u32 = 1;

/// Names an end that no listed or claimed address names. `by_address` is what [`by_address`] says, `port` the peer whose
/// port this hook is on that side, or `WORLD`; `is_judged_elsewhere` whether the port of a `vip:`'s holder judges the frame.
#[inline(always)]
fn named(by_address: u32, end: u32, port: u32, is_judged_elsewhere: bool) -> u32 {
    let is_with_holder = by_address == UNJUDGED
        || by_address == NAMELESS + VIP && port == WORLD && traits_of(WORLD) & traits::ALL_BOUND != 0;
    if is_judged_elsewhere && is_with_holder {
        // The holder's port judges it; the facts of a table about its place may be old.
        return UNJUDGED;
    }
    let peer = by_frame(end, port);
    if by_address >= NAMELESS || is_plain(peer) { peer } else { WORLD }
}

/// The peer that a MAC of the config, the port or another MAC names, in this order. A global function, as
/// [`by_address`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn by_frame(end: u32, port: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return WORLD };
    let is_sure = FEATURES.load() & feature::MAC != 0;
    if port != WORLD && !is_sure {
        return port;
    }
    let mac = if end == FROM { context.packet.src_mac() } else { context.packet.dst_mac() };
    // SAFETY: one word each, and entries are replaced as wholes.
    let owner = unsafe { MACS.get(&mac) };
    if let Some(owner) = owner
        && owner.sure != 0
    {
        return owner.peer;
    }
    if port != WORLD {
        return port;
    }
    let seen_on = owner.map_or(WORLD, |owner| owner.peer);
    if seen_on == NOBODY {
        return WORLD;
    }
    let Some(learned) = LEARNED.get_ptr_mut(&mac) else { return seen_on };
    // SAFETY: as above.
    let learned = unsafe { &mut *learned };
    // Sent from by two peers' ports, or seen on one's NIC and sent from by another's port: it names nobody.
    if learned.peer == NOBODY || seen_on != WORLD && seen_on != learned.peer {
        return WORLD;
    }
    if seen_on != WORLD {
        return seen_on;
    }
    let life = if end == FROM { PASSAGE } else { MAC_LIFE };
    if context.now() < learned.seen + life {
        return learned.peer;
    }
    if end == FROM {
        // The frame did not come out of the peer's port: the MAC address has moved, as that of a virtual
        // router does.
        learned.seen = 0;
    }
    WORLD
}

/// The peer whose MAC address a frame's sender has, whatever the port says.
#[inline(always)]
pub fn sender_by_mac() -> u32 {
    by_frame(FROM, WORLD)
}

/// The peer whose MAC address a frame's receiver has, whatever the port says.
#[inline(always)]
pub fn receiver_by_mac() -> u32 {
    by_frame(TO, WORLD)
}
