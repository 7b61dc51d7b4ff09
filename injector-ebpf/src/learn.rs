//! What the programs learn from frames that come out of a peer's bound port: its MAC addresses, and the addresses that it
//! claims by ARP and neighbour discovery.

use injector_common::key::{Address, CONTEST, Claim, NOBODY, is_nameless, port};
use injector_common::packet::{Bytes, Packet, discovery};

use crate::identity::{Side, WORLD, is_listed};
use crate::maps::{CLAIMS, INTERFACE, LEARNED, PORTS, SCENE};

/// The MAC of a frame's sender as [`Port::last`] has it.
#[inline(always)]
fn packed(packet: &Packet) -> u64 {
    let [_, both, low] = packet.macs;
    u64::from(both >> 16) << 32 | u64::from(low)
}

/// Whether the MAC of a frame's sender is not the one that was learned at this port last.
#[inline(always)]
pub fn is_new(packet: &Packet) -> bool {
    let Some(port) = PORTS.get_ptr(INTERFACE.load()) else { return false };
    // SAFETY: one aligned word; a race costs a look-up.
    packed(packet) != unsafe { core::ptr::addr_of!((*port).last).read_volatile() }
}

/// The MAC of the scene's sender belongs to the port's peer; the hook of its receiver asks for it later. A global
/// function, as [`claim`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn learn_mac(peer: u32) -> u32 {
    let Some(scene) = SCENE.get(0) else { return 0 };
    let Some(port) = PORTS.get_ptr_mut(INTERFACE.load()) else { return 0 };
    let packed = packed(&scene.packet);
    let mac = scene.packet.src_mac();
    if packed == 0 || mac[0] & 1 != 0 {
        return 0;
    }
    // SAFETY: one word, replaced as a whole.
    let known = unsafe { LEARNED.get(&mac) }.copied().unwrap_or(WORLD);
    if known == WORLD {
        let _ = LEARNED.insert(&mac, &peer, 0);
    } else if known != peer && known != NOBODY {
        let _ = LEARNED.insert(&mac, &NOBODY, 0);
    }
    // SAFETY: one aligned word; a race costs a look-up.
    unsafe { core::ptr::addr_of_mut!((*port).last).write_volatile(packed) };
    1
}

/// Whether the frame is to be looked at for claims, also while nothing is armed: ARP and neighbour discovery alone, from
/// the port of a peer whose namespace is not seen. Behind a shared port, another peer may be the one that claims.
#[inline(always)]
pub fn is_due<B: Bytes>(bytes: &B, side: Side) -> bool {
    const CLAIMS: u32 = port::LEARNS | port::NAMES;
    side.sender != WORLD && side.flags & CLAIMS == CLAIMS && may_claim(bytes)
}

/// Whether a frame is ARP, or neighbour discovery without extension headers: by ethertype, next header and hop limit. What
/// a router passed on has a lower one: it is no neighbour's.
#[inline(always)]
fn may_claim<B: Bytes>(bytes: &B) -> bool {
    let Some([kind, _, limits]) = bytes.words::<3>(12) else { return false };
    let kind = u32::from_be(kind) >> 16;
    kind == 0x0806 || kind == 0x86dd && u32::from_be(limits) >> 16 == 58 << 8 | 255
}

/// Takes note of the address that the scene's frame claims for the port's peer. A global function of plain numbers: the
/// verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn claim(peer: u32) -> u32 {
    let Some(scene) = SCENE.get(0) else { return 0 };
    let packet = &scene.packet;
    let claimed: Address = match packet.discovery {
        // From the unspecified address: the target is what it is about to take.
        discovery::SOLICITATION if packet.src == [0; 4] => packet.dst,
        discovery::REQUEST | discovery::SOLICITATION => packet.src,
        discovery::OVERRIDE => packet.announced,
        _ => return 0,
    };
    if is_nameless(&claimed) || is_listed(&claimed) {
        return 0;
    }
    let now = scene.now();
    let Some(known) = CLAIMS.get_ptr_mut(&claimed) else {
        let _ = CLAIMS.insert(&claimed, &Claim { peer, held: 0, at: now, contested_until: 0 }, 0);
        return 1;
    };
    // SAFETY: a value of the map; its words are read and written as wholes, and a race of two claims leaves either.
    let known = unsafe { &mut *known };
    if known.peer == peer {
        known.at = now;
        return 1;
    }
    if known.held != 0 || now < known.at + CONTEST {
        known.contested_until = now + CONTEST;
    }
    // A NIC that is seen to hold the address goes on holding it.
    if known.held == 0 {
        (known.peer, known.at) = (peer, now);
    }
    1
}
