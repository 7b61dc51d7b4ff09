//! Finds leaks: packets that pass the last hook of ours on their way, although another of their names puts
//! them on a link that is fully cut. The programs do not drop such a packet on a guess, but count it: that
//! link's cut is not in force.

use injector_common::SLOTS as SLOT_COUNT;
use injector_common::feature;
use injector_common::key::{LinkKey, StrangerKey, stranger, traits};
use injector_common::packet::flag;
use injector_common::record::{Stranger, counter};

use crate::identity::{
    FROM, TO, WORLD, is_flooded, may_be_its_own, receiver_by_mac, sender_by_mac, traits_of,
};
use crate::lease::lapsed;
use crate::maps::{CONTEXT, FEATURES, ODD, SIDE, SLOTS, STRANGERS, cell};
use crate::protect::is_protected;
use crate::verdict_context::VerdictContext;
use crate::{emit, observe};

/// Whether the current packet, which passes, must be checked for a leak: where its names agree, there is
/// nothing to count.
#[inline(always)]
pub fn is_due(context: &VerdictContext) -> bool {
    let VerdictContext { sender, receiver, src, dst, .. } = *context;
    if sender != WORLD {
        return src != sender || dst == WORLD;
    }
    receiver != WORLD && (dst != receiver || src == WORLD || looks_at_macs())
}

/// Whether the MAC of the sender may say something else than its address.
#[inline(always)]
fn looks_at_macs() -> bool {
    FEATURES.load() & feature::MAC != 0 || ODD.get(0).copied().unwrap_or(0) != 0
}

/// Compares the names of the current packet, which passes, with those that it was judged by; `packets` is how
/// many it represents. A global function of plain numbers, as `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look(packets: u64, live: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    if context.packet.flags & flag::NEIGHBOUR != 0 || context.dst == SIDE.load() {
        return 0;
    }
    if is_flooded(context) {
        return 0;
    }
    let VerdictContext { sender, receiver, src, dst, .. } = *context;
    // A stranger without an address that names it may be a peer: one without a port, or one that has just got
    // another device.
    if (sender != WORLD && dst == WORLD || receiver != WORLD && src == WORLD)
        && context.packet.flags & flag::GROUP == 0
    {
        let other = if sender == WORLD { sender_by_mac() } else { receiver_by_mac() };
        if other == WORLD {
            emit::count(counter::UNNAMED, 1);
        }
        if traits_of(other) & traits::FORWARDS == 0 {
            let how = if sender == WORLD { 0 } else { stranger::TO };
            note(sender | receiver, u32::from(how), packets);
        } else if sender != WORLD && src == WORLD && traits_of(sender) & traits::FORWARDS != 0 {
            // Of someone behind the one for someone behind the other.
            note(sender, u32::from(stranger::SPOKEN_FOR), packets);
        }
    }
    if sender != WORLD && src != sender {
        let known = traits_of(sender);
        // Where all ports are bound, no other hook judges the packet by that address.
        if known & traits::SHARES != 0
            && src == WORLD
            && (traits_of(WORLD) & traits::ALL_BOUND != 0 || traits_of(dst) & traits::BOUND == 0)
            && may_be_its_own(FROM, sender) != 0
        {
            count(packets, sender, dst, live);
            return 0;
        }
        if src == WORLD && dst != WORLD {
            note(sender, u32::from(stranger::SPOKEN_FOR), packets);
        }
        // Forwarded or forged: from now on the receiver's hook compares the MAC too.
        if known & traits::FORWARDS == 0 {
            if let Some(odd) = ODD.get_ptr_mut(0) {
                // SAFETY: one aligned word.
                unsafe { odd.write_volatile(1) };
            }
            if src == WORLD {
                emit::count(counter::FOREIGN_SOURCE, 1);
            }
            // The last hook of ours, if the receiver has none.
            if traits_of(dst) & traits::BOUND == 0 {
                count(packets, sender, dst, live);
            }
        }
        return 0;
    }
    if receiver == WORLD {
        return 0;
    }
    let known = traits_of(receiver);
    if known & traits::FORWARDS != 0 {
        if known & traits::SHARES != 0 && dst == WORLD && may_be_its_own(TO, receiver) != 0 {
            count(packets, src, receiver, live);
        }
        return 0;
    }
    if dst == WORLD {
        count(packets, src, receiver, live);
    } else if dst != receiver {
        // A link is end to end: what is addressed to another peer belongs to that one.
        return 0;
    }
    if !looks_at_macs() {
        return 0;
    }
    let other = sender_by_mac();
    if other != WORLD && other != src && traits_of(other) & traits::FORWARDS == 0 {
        count(packets, other, receiver, live);
    }
    1
}

/// Notes the current packet as one between a peer and someone whom no address names; `how` are bits of [`stranger`]. A global
/// function of plain numbers, as `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note(peer: u32, how: u32, packets: u64) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let is_to = how & u32::from(stranger::TO) != 0;
    let mac = if how & u32::from(stranger::SPOKEN_FOR) != 0 {
        [0; 6]
    } else if is_to {
        context.packet.dst_mac()
    } else {
        context.packet.src_mac()
    };
    let key = StrangerKey { mac, peer: (peer | how) as u16 };
    let now = context.now();
    if let Some(known) = STRANGERS.get_ptr_mut(&key) {
        // SAFETY: a value of the map; whole words, and a race of two packets loses a count.
        let known = unsafe { &mut *known };
        known.packets += packets;
        known.last = now;
        return 1;
    }
    let address = if is_to { context.packet.dst } else { context.packet.src };
    let _ = STRANGERS.insert(&key, &Stranger { packets, first: now, last: now, address }, 0);
    1
}

/// Counts `packets` as leaked on a link, for every full slot that cuts it now.
#[inline(always)]
fn count(packets: u64, src: u32, dst: u32, live: u32) {
    let slots = live & cell(src, dst) as u32;
    if slots != 0 && is_protected() == 0 {
        leaks(src << 16 | dst, slots, packets);
    }
}

/// [`count`] for a link as one number and the slots on it. A global function of plain numbers, as `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leaks(link: u32, slots: u32, packets: u64) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let context = unsafe { &mut *context };
    context.clock.coarse();
    if lapsed(context) {
        return 0;
    }
    context.rest.set(slots);
    for _ in 0..SLOT_COUNT {
        let Some(index) = context.rest.take() else { break };
        leaks_of(index, link, packets);
    }
    1
}

/// Counts packets as leaked for one slot, if it cuts now. A global function, as the body of a loop of `leaks`: the
/// verifier follows it once, and not in every turn of that loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leaks_of(index: u32, link: u32, packets: u64) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `leaks`.
    let context = unsafe { &mut *context };
    let Some(slot) = SLOTS.get(index) else { return 0 };
    if slot.full == 0 || context.clock.reached(slot.ends_at) || !context.clock.reached(slot.starts_at) {
        return 0;
    }
    let now = context.clock.exact();
    if slot.flap_period != 0 && now.wrapping_sub(slot.starts_at) % slot.flap_period >= slot.flap_on {
        return 0;
    }
    let key =
        LinkKey { generation: slot.generation, slot: index, src: (link >> 16) as u16, dst: link as u16 };
    let Some(stamps) = observe::stamps(&key) else { return 0 };
    // SAFETY: this CPU's own value, and programs of one CPU do not interrupt each other on these hooks.
    let stamps = unsafe { &mut *stamps };
    stamps.leaked_packets += packets;
    if stamps.first_leak == 0 {
        stamps.first_leak = now;
        emit::ring(index, slot.generation);
    }
    1
}
