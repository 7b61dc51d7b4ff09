//! Learns from frames that come out of a peer's bound port: its MAC addresses, and the addresses that it
//! claims by ARP and neighbour discovery. Claims are contested by anyone else who makes them, at any hook.

use injector_common::key::{
    Address, CLAIM_LIFE, CONTEST, Claim, Learned, MOST_CLAIMS, NOBODY, PASSAGE, Port, VIP, is_nameless, port,
    traits,
};
use injector_common::packet::{Bytes, NEIGHBOURS, Packet, discovery, is_group};
use injector_common::record::{Wakeup, counter};

use crate::clock::eight_ticks;
use crate::emit;
use crate::identity::{
    FROM, Side, WORLD, claim_of, has_nic, interface, lister, make_vip, sender_by_mac, traits_of,
};
use crate::maps::{CLAIMS, CONTEXT, LEARNED, PORTS};
use crate::verdict_context::VerdictContext;

/// The MAC of a frame's sender as [`Port::last`] has it.
#[inline(always)]
fn packed(packet: &Packet) -> u64 {
    let [_, both, low] = packet.macs;
    u64::from(both >> 16) << 32 | u64::from(low)
}

/// Whether the MAC of a frame's sender is not the one that was learned at this port last, or was not recently.
#[inline(always)]
pub fn is_new(context: &VerdictContext, port: Option<*const Port>) -> bool {
    let Some(port) = port else { return false };
    // SAFETY: two aligned words; a race costs a lookup.
    let (last, at) = unsafe {
        (
            core::ptr::addr_of!((*port).last).read_volatile(),
            core::ptr::addr_of!((*port).learned_at).read_volatile(),
        )
    };
    packed(&context.packet) != last || eight_ticks() != at
}

/// The MAC of the current packet's sender belongs to the port's peer; the hook of its receiver asks for it later. A global
/// function, as [`claim`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn learn_mac(peer: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let Some(port) = PORTS.get_ptr_mut(interface(context)) else { return 0 };
    let packed = packed(&context.packet);
    let mac = context.packet.src_mac();
    if packed == 0 || mac[0] & 1 != 0 {
        return 0;
    }
    let now = context.now();
    if let Some(known) = LEARNED.get_ptr_mut(&mac) {
        // SAFETY: a value of the map, whose words are read and written as wholes: a race of two ports leaves either.
        let known = unsafe { &mut *known };
        if known.peer == peer {
            known.seen = now;
        } else {
            known.peer = NOBODY;
        }
    } else {
        let _ = LEARNED.insert(&mac, &Learned { peer, pad: 0, seen: now }, 0);
    }
    // SAFETY: two aligned words; a race costs a lookup.
    unsafe {
        core::ptr::addr_of_mut!((*port).last).write_volatile(packed);
        core::ptr::addr_of_mut!((*port).learned_at).write_volatile(eight_ticks());
    }
    1
}

/// Whether the frame is to be read for claims, also while nothing is armed: ARP and neighbour discovery
/// alone, and only if addresses are learned from any peer's frames.
#[inline(always)]
pub fn is_due<B: Bytes>(bytes: &B) -> bool {
    is_learning() && may_claim(bytes)
}

/// Whether addresses are learned from any peer's frames.
#[inline(always)]
pub fn is_learning() -> bool {
    traits_of(WORLD) & traits::LEARNS != 0
}

/// Whether an untagged frame is ARP, or neighbour discovery without extension headers, before it is parsed: see [`NEIGHBOURS`].
#[inline(always)]
fn may_claim<B: Bytes>(bytes: &B) -> bool {
    let Some([kind, _, limits]) = bytes.words::<3>(12) else { return false };
    let kind = u32::from_be(kind) >> 16;
    let is_of_neighbours =
        kind == 0x0806 || kind == 0x86dd && u32::from_be(limits) >> 16 == u32::from(NEIGHBOURS);
    // Another VLAN may be a network of its own.
    is_of_neighbours && !bytes.is_tagged()
}

/// Takes note of the address that the current frame claims: for the port's peer if it comes out of the port of a peer
/// whose namespace is not seen, else for someone who is no peer, who may have taken over what is seen on a peer's NIC. Behind a shared port, another peer may be the one that
/// claims. A global function of plain numbers: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn claim(side: u64) -> u32 {
    const LEARNS: u32 = port::LEARNS | port::NAMES;
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let packet = &context.packet;
    let claimed: Address = match packet.discovery {
        // A solicitation from the unspecified address is about the target: the sender is about to take it.
        discovery::SOLICITATION if packet.src == [0; 4] => packet.dst,
        discovery::REQUEST | discovery::SOLICITATION => packet.src,
        discovery::OVERRIDE => packet.announced,
        _ => return 0,
    };
    if is_nameless(&claimed) || is_group(&claimed) {
        return 0;
    }
    let side = Side::unpacked(side);
    let peer = if side.flags & LEARNS == LEARNS { side.sender } else { WORLD };
    let listed = lister(&claimed);
    if listed != WORLD && (peer == WORLD || peer == listed) {
        return 0;
    }
    // A peer behind the port, as a nested guest is, says what is its own.
    if listed != WORLD && listed != VIP && sender_by_mac() == listed {
        return 0;
    }
    let (now, mac) = (context.now(), packed(packet));
    if let Some(known) = claim_of(&claimed) {
        // SAFETY: a value of the map; its words are read and written as wholes, and a race of two claims leaves either.
        let known = unsafe { &mut *known };
        if peer == WORLD {
            contest(known, side.sender, mac, now);
        } else {
            renew(known, peer, mac, now);
        }
    } else if peer != WORLD && may_claim_another(interface(context), now) {
        let _ = CLAIMS.insert(&claimed, &Claim { peer, held: 0, at: now, contested_until: 0, mac }, 0);
    }
    if listed != WORLD && listed != VIP {
        make_vip(&claimed);
        emit::ring(Wakeup::TAKEN_OVER, 0);
    }
    1
}

/// Whether one more address may be claimed at a port that nobody has claimed, which is counted.
#[inline(always)]
fn may_claim_another(interface: u32, now: u64) -> bool {
    let Some(port) = PORTS.get_ptr_mut(interface) else { return false };
    // SAFETY: two aligned words; a race of two CPUs lets one more through.
    let (claims, since) = unsafe {
        (
            core::ptr::addr_of!((*port).claims).read_volatile(),
            core::ptr::addr_of!((*port).claims_since).read_volatile(),
        )
    };
    let (claims, since) = if now >= since + CLAIM_LIFE { (0, now) } else { (claims, since) };
    if claims >= MOST_CLAIMS {
        emit::count(counter::UNCLAIMED, 1);
        return false;
    }
    // SAFETY: as above.
    unsafe {
        core::ptr::addr_of_mut!((*port).claims).write_volatile(claims + 1);
        core::ptr::addr_of_mut!((*port).claims_since).write_volatile(since);
    }
    true
}

/// A peer claims an address that was claimed before.
#[inline(always)]
fn renew(known: &mut Claim, peer: u32, mac: u64, now: u64) {
    if known.peer != peer && known.held != 0 {
        doubt(known, now);
    } else if known.peer != peer && now < known.at + CONTEST {
        known.contested_until = now + CONTEST;
    }
    // A NIC that is seen to hold the address keeps holding it.
    if known.peer == peer || known.held == 0 {
        (known.peer, known.at, known.mac) = (peer, now, mac);
    }
}

/// Takes note that someone claims an address at a hook that is not the port of a peer whose addresses are
/// learned. `sender` is the peer whose port the frame comes out of nevertheless, or `WORLD`.
#[inline(always)]
fn contest(known: &mut Claim, sender: u32, mac: u64, now: u64) {
    // The peer's own frame, on its way past one more hook: its port saw it just now.
    let is_passing = mac == known.mac && now < known.at + PASSAGE;
    let is_its_own = known.peer != WORLD && (sender == known.peer || is_passing);
    if known.held == 0 {
        if !is_its_own {
            (known.peer, known.at) = (WORLD, now);
        }
    } else if sender == known.peer {
        (known.at, known.mac) = (now, mac);
    } else if !is_passing && traits_of(known.peer) & traits::BOUND != 0 && !has_nic(known.peer, FROM) {
        doubt(known, now);
    }
}

/// Takes note that someone else claims an address that is seen on a peer's NIC: it may have moved. For as
/// long as such a claim would last by itself, the peer's port says whether the peer has it.
#[inline(always)]
fn doubt(known: &mut Claim, now: u64) {
    // The daemon may know of another holder, for good.
    known.contested_until = known.contested_until.max(now + CLAIM_LIFE);
}
