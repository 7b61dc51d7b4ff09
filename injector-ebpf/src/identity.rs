//! From a packet's addresses to peers: exact address, longest prefix, MAC, world.

use aya_ebpf::maps::lpm_trie::Key;
use injector_common::key::{Address, is_mapped, prefix};
use injector_common::packet::{Packet, flag};
use injector_common::{exact, feature};

use crate::maps::{EXACT_MASK, EXACT_SEED, FEATURES, MACS, PEERS, PREFIXES};

const WORLD: u32 = 0;

/// The sending peer.
#[inline(always)]
pub fn source(packet: &Packet) -> u32 {
    identify(&packet.src, || packet.src_mac())
}

/// The receiving peer; a multicast or broadcast destination is the world.
#[inline(always)]
pub fn destination(packet: &Packet) -> u32 {
    if packet.flags & flag::GROUP != 0 {
        return WORLD;
    }
    identify(&packet.dst, || packet.dst_mac())
}

#[inline(always)]
fn identify(address: &Address, mac: impl Fn() -> [u8; 6]) -> u32 {
    let features = FEATURES.load();
    if features & feature::EXACT != 0 {
        let peer = exact::find(address, EXACT_SEED.load(), |place| PEERS.get(place & EXACT_MASK.load()));
        if peer != WORLD {
            return peer;
        }
    }
    if features & feature::PREFIX != 0
        && let Some(found) = PREFIXES.get(Key::new(128, *address))
        // A short IPv6 prefix, such as ::/8, spans the mapped addresses, but none of IPv4.
        && (prefix::length(*found) >= 96 || !is_mapped(address))
    {
        return prefix::peer(*found);
    }
    if features & feature::MAC != 0
        // SAFETY: filled before the first slot is live, and never changed after.
        && let Some(peer) = unsafe { MACS.get(mac()) }
    {
        return *peer;
    }
    WORLD
}
