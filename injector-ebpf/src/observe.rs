//! Stamps: drops, the first traffic after a heal, the first successful responses.

use aya_ebpf::bindings::BPF_NOEXIST;
use injector_common::key::{EndpointKey, GROUP, LinkKey, OverlapKey, ResponseKey, StreamKey, traits};
use injector_common::packet::{Packet, flag, protocol, tcp};
use injector_common::record::{LinkStamps, OverlapStamps, counter, first};
use injector_common::wire::Wire;
use injector_common::wire::http2;
use injector_common::{SLOTS as SLOT_COUNT, Word, wire};

use crate::context::Hooked;
use crate::emit;
use crate::identity::{is_flooded, is_named_elsewhere, traits_of};
use crate::maps::{CONTEXT, CONVERSATIONS, ENDPOINTS, LINKS, OVERLAPS, RESPONSES, SIDE, SLOTS, STREAMS};
use crate::protect::is_spared;
use crate::scope::kinds_in_scope;
use crate::verdict_context::VerdictContext;

/// A value in read-only data, not on the stack.
static UNSTAMPED: LinkStamps = LinkStamps {
    dropped_packets: 0,
    dropped_bytes: 0,
    first_drop: 0,
    last_drop: 0,
    first_packet: 0,
    first_syn: 0,
    first_synack: 0,
    first_data: 0,
    group_packets: 0,
    leaked_packets: 0,
    first_leak: 0,
    first_exchange: 0,
    late_packets: 0,
};

/// The time after the cut, in nanoseconds, from which on a drop at the receiver's port is late.
const LATE: u64 = 1_000_000_000;

/// The stamps' key of the current link for one slot.
#[inline(always)]
fn link_key(context: &VerdictContext, slot: u32, generation: u32) -> LinkKey {
    LinkKey { generation, slot, src: context.src as u16, dst: receiver(context) }
}

/// The receiver of the current packet in a key.
#[inline(always)]
fn receiver(context: &VerdictContext) -> u16 {
    if context.dst == SIDE.load() { GROUP } else { context.dst as u16 }
}

/// This CPU's stamps of a link, made on first use.
#[inline(always)]
pub fn stamps(key: &LinkKey) -> Option<*mut LinkStamps> {
    if let Some(stamps) = LINKS.get_ptr_mut(key) {
        return Some(stamps);
    }
    // Another CPU may be first: then its insert made the (zeroed) value of this CPU too.
    let _ = LINKS.insert(key, &UNSTAMPED, u64::from(BPF_NOEXIST));
    let stamps = LINKS.get_ptr_mut(key);
    if stamps.is_none() {
        emit::count(counter::STAMPS_LOST, 1);
    }
    stamps
}

/// Counts the current packet, dropped, for every slot that decided it. A global function, as `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn drops(packets: u64, bytes: u64) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let context = unsafe { &mut *context };
    if is_flooded(context) {
        // The link of the packet's receiver lost nothing.
        return 0;
    }
    // The sender's hook should have dropped it. In memory, as the loop's mask is.
    context.has_passed.clear();
    if is_addressed(&context.packet)
        && context.receiver != 0
        && context.receiver == context.dst
        && traits_of(context.src) & traits::BOUND != 0
        && is_named_elsewhere(context.dst) != 0
    {
        context.has_passed.set(1);
    }
    let mut slots = context.dropped.get();
    let steady = context.steady.get();
    // For which of the cuts the packet is late depends on when each began.
    if context.has_passed.get() == 0 && is_several(steady) && drops_at_once(steady, packets, bytes) != 0 {
        slots &= !steady;
    }
    context.rest.set(slots);
    // Most packets are dropped for one slot, in place.
    if let Some(index) = context.rest.take() {
        drop_for(context, index, packets, bytes);
    }
    for _ in 1..SLOT_COUNT {
        let Some(index) = context.rest.take() else { break };
        drops_of(index, packets, bytes);
    }
    1
}

/// Counts the current packet, dropped, for one slot.
#[inline(always)]
fn drop_for(context: &mut VerdictContext, index: u32, packets: u64, bytes: u64) {
    let Some(slot) = SLOTS.get(index) else { return };
    let key = link_key(context, index, slot.generation);
    let Some(stamps) = stamps(&key) else { return };
    // SAFETY: this CPU's own value, and programs of one CPU do not interrupt each other on these hooks.
    let stamps = unsafe { &mut *stamps };
    if !is_addressed(&context.packet) {
        stamps.group_packets += packets;
        return;
    }
    let now = context.clock.exact();
    if context.has_passed.get() != 0
        && slot.full != 0
        && slot.flap_period == 0
        && now >= slot.starts_at + LATE
    {
        stamps.late_packets += packets;
    }
    stamps.dropped_packets += packets;
    stamps.dropped_bytes += bytes;
    stamps.last_drop = now;
    if stamps.first_drop == 0 {
        stamps.first_drop = now;
        emit::ring(index, slot.generation);
    }
}

/// [`drop_for`] as the body of a loop of `drops`. A global function: the verifier follows it once, and not in every turn of that
/// loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn drops_of(index: u32, packets: u64, bytes: u64) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `drops`.
    drop_for(unsafe { &mut *context }, index, packets, bytes);
    1
}

/// Whether a packet is traffic from one peer to another: no group frame, ARP, neighbour discovery or frame of the check.
#[inline(always)]
fn is_addressed(packet: &Packet) -> bool {
    packet.flags & (flag::GROUP | flag::NEIGHBOUR | flag::CHECK) == 0
}

/// Whether a mask has more than one slot.
#[inline(always)]
fn is_several(slots: u32) -> bool {
    slots & slots.wrapping_sub(1) != 0
}

/// A value in read-only data, not on the stack.
static NO_OVERLAP: OverlapStamps = OverlapStamps {
    dropped_packets: 0,
    dropped_bytes: 0,
    first_drop: 0,
    last_drop: 0,
    group_packets: 0,
    stamped: 0,
    pad: 0,
};

/// The common stamps' key of the current link for several slots.
#[inline(always)]
fn overlap_key(context: &VerdictContext, slots: u32) -> OverlapKey {
    OverlapKey { slots, src: context.src as u16, dst: receiver(context) }
}

/// This CPU's common stamps of the current link for several slots, made on first use; `None` if there is no room.
#[inline(always)]
fn overlap(context: &VerdictContext, slots: u32) -> Option<*mut OverlapStamps> {
    let key = overlap_key(context, slots);
    if let Some(stamps) = OVERLAPS.get_ptr_mut(&key) {
        return Some(stamps);
    }
    let _ = OVERLAPS.insert(&key, &NO_OVERLAP, u64::from(BPF_NOEXIST));
    OVERLAPS.get_ptr_mut(&key)
}

/// Counts the current packet, dropped, once for several slots; 0 if there is no room for that. A global function, as
/// `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn drops_at_once(slots: u32, packets: u64, bytes: u64) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `drops`.
    let context = unsafe { &mut *context };
    let Some(stamps) = overlap(context, slots) else { return 0 };
    // SAFETY: as in `drops`.
    let stamps = unsafe { &mut *stamps };
    if !is_addressed(&context.packet) {
        stamps.group_packets += packets;
        return 1;
    }
    stamps.dropped_packets += packets;
    stamps.dropped_bytes += bytes;
    stamps.last_drop = context.clock.exact();
    if stamps.first_drop == 0 {
        stamps.first_drop = stamps.last_drop;
        context.rest.set(slots);
        for _ in 0..SLOT_COUNT {
            let Some(index) = context.rest.take() else { break };
            ring_for(index);
        }
    }
    1
}

/// Wakes the daemon for one slot. A global function, as `drops_of`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ring_for(index: u32) -> u32 {
    if let Some(slot) = SLOTS.get(index) {
        emit::ring(index, slot.generation);
    }
    0
}

/// Stamps the current packet, passed on a watched link, where it is the first of its kind. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn firsts(watched: u32) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `drops`.
    let context = unsafe { &mut *context };
    if !is_addressed(&context.packet) {
        // None of them says anything about the traffic between the two peers.
        return 0;
    }
    context.kinds.set(kinds(&context.packet));
    let mut stamped = context.kinds.get();
    let several = is_several(watched);
    if several && have_all(context, watched, stamped) {
        return 1;
    }
    context.rest.set(watched);
    for _ in 0..SLOT_COUNT {
        let Some(index) = context.rest.take() else { break };
        stamped &= firsts_of(index);
    }
    if several && let Some(stamps) = overlap(context, watched) {
        // SAFETY: as in `drops`.
        unsafe { (*stamps).stamped |= stamped };
    }
    1
}

/// The kinds of first packets that a packet is of.
#[inline(always)]
fn kinds(packet: &Packet) -> u32 {
    let mut kinds = first::PACKET;
    if packet.protocol == protocol::TCP && packet.flags & flag::ICMP == 0 {
        let flags = packet.tcp_flags & (tcp::SYN | tcp::ACK);
        if flags == tcp::SYN {
            kinds |= first::SYN;
        } else if flags == tcp::SYN | tcp::ACK {
            kinds |= first::SYN_ACK;
        }
    }
    if packet.payload_len != 0 {
        kinds |= first::DATA | first::EXCHANGE;
    }
    kinds
}

/// Stamps the current packet where it is the first of its kind for one slot that would have dropped it; of its kinds, those
/// that the slot has stamped by now. A global function, as the body of a loop of `firsts`: the verifier follows it once, and not in every
/// turn of that loop, in every combination of kinds and stamps.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn firsts_of(index: u32) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `drops`.
    let context = unsafe { &mut *context };
    let mut kinds = context.kinds.get();
    let Some(slot) = SLOTS.get(index) else { return kinds };
    let Some(stamps) = stamps(&link_key(context, index, slot.generation)) else { return 0 };
    // SAFETY: as in `drops`.
    let stamps = unsafe { &mut *stamps };
    if has_all(stamps, kinds) {
        return kinds;
    }
    // Only now, since these are no numbers from memory. What was never cut says nothing about the heal.
    if is_spared() {
        context.kinds.clear();
        return 0;
    }
    if slot.scope_count != 0 {
        kinds &= kinds_in_scope(index);
        if kinds == 0 {
            return 0;
        }
    }
    if is_flooded(context) {
        return 0;
    }
    let mut rang = false;
    let mut stamp = |kind: u32, first: &mut u64| {
        if kinds & kind != 0 && *first == 0 {
            *first = context.clock.exact();
            rang = true;
        }
    };
    stamp(first::PACKET, &mut stamps.first_packet);
    stamp(first::SYN, &mut stamps.first_syn);
    stamp(first::SYN_ACK, &mut stamps.first_synack);
    stamp(first::DATA, &mut stamps.first_data);
    if kinds & first::EXCHANGE != 0 && stamps.first_exchange == 0 && has_exchanged(slot.generation) != 0 {
        stamp(first::EXCHANGE, &mut stamps.first_exchange);
    }
    if rang {
        emit::ring(index, slot.generation);
    }
    if stamps.first_exchange == 0 { kinds & !first::EXCHANGE } else { kinds }
}

/// Whether all of these kinds of first packets are stamped.
#[inline(always)]
fn has_all(stamps: &LinkStamps, kinds: u32) -> bool {
    let is_missing = |kind: u32, stamp: u64| kinds & kind != 0 && stamp == 0;
    !(is_missing(first::PACKET, stamps.first_packet)
        || is_missing(first::SYN, stamps.first_syn)
        || is_missing(first::SYN_ACK, stamps.first_synack)
        || is_missing(first::DATA, stamps.first_data)
        || is_missing(first::EXCHANGE, stamps.first_exchange))
}

/// Whether all of these slots have stamped all of these kinds of first packets on the current link.
#[inline(always)]
fn have_all(context: &VerdictContext, slots: u32, kinds: u32) -> bool {
    let key = overlap_key(context, slots);
    // SAFETY: as in `drops`.
    OVERLAPS.get_ptr_mut(&key).is_some_and(|stamps| unsafe { (*stamps).stamped } & kinds == kinds)
}

/// Notes that the conversation of the current packet carried payload this way; whether it has carried some both ways by
/// now. A global function of plain numbers, as `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn has_exchanged(generation: u32) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let packet = &context.packet;
    let Packet { src, dst, .. } = *packet;
    // No kernel sends a datagram again by itself: of these, payload both ways between the two peers is enough, whatever the
    // ports. The peers are in the key, since many of them may share one address.
    let (from, to, stream) = if packet.protocol == protocol::TCP {
        (packet.sport, packet.dport, generation)
    } else {
        (context.src as u16, context.dst as u16, generation | StreamKey::DATAGRAMS)
    };
    let (key, direction) = if is_lower(packet, from, to) {
        (StreamKey { src, dst, sport: from, dport: to, stream }, 1)
    } else {
        (StreamKey { src: dst, dst: src, sport: to, dport: from, stream }, 2)
    };
    let Some(directions) = CONVERSATIONS.get_ptr_mut(&key) else {
        // The oldest makes room: a conversation that pauses so long is noticed by its next exchange.
        let _ = CONVERSATIONS.insert(&key, &direction, 0);
        return 0;
    };
    // SAFETY: one aligned word; of two CPUs that race, the later one's packet completes the exchange.
    let seen = unsafe { directions.read_volatile() } | direction;
    // SAFETY: as above.
    unsafe { directions.write_volatile(seen) };
    u32::from(seen == 3)
}

/// Whether the sender is the lower end, by address and then by port or peer.
#[inline(always)]
fn is_lower(packet: &Packet, from: u16, to: u16) -> bool {
    for index in 0..4 {
        if packet.src[index] != packet.dst[index] {
            return packet.src[index] < packet.dst[index];
        }
    }
    from < to
}

/// Stamps a successful response of an endpoint for every partition that has healed and is still watched.
#[inline(always)]
pub fn response<P: Hooked>(bytes: &P, packet: &Packet, word: Word) {
    if packet.protocol != protocol::TCP || packet.payload_len == 0 || packet.flags & flag::ICMP != 0 {
        return;
    }
    let key = EndpointKey { address: packet.src, port: packet.sport, pad: 0 };
    // SAFETY: the memory stays an endpoint's of this map. An endpoint whose peer moves is written anew while a slot may be live,
    // and its old entry may become another endpoint's while it is read here: then its id changes before the pattern does.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(&key) }) else { return };
    let id = endpoint_id(endpoint);
    let at = packet.payload_at;
    let success = match endpoint.kind {
        // The bytes after a short payload in its frame are padding.
        wire::kind::HTTP1 => packet.payload_len >= wire::HTTP1_LEN && wire::http1_ok(bytes, at),
        wire::kind::PREFIX => {
            packet.payload_len >= u32::from(endpoint.prefix_len) && wire::prefix_ok(bytes, at, endpoint)
        }
        wire::kind::PAYLOAD => true,
        wire::kind::HTTP2 => http2_ok(bytes),
        _ => false,
    };
    if success && endpoint_id(endpoint) == id {
        responded(id, word.live(), word.watched());
    }
}

/// The id of an endpoint, which may change with each read.
#[inline(always)]
fn endpoint_id(endpoint: &Wire) -> u32 {
    // SAFETY: one aligned word of a valid reference.
    unsafe { core::ptr::addr_of!(endpoint.id).read_volatile() }
}

/// Whether the current packet completes a successful HTTP/2 response. A function of the program's own, so
/// that its stack is given back.
#[inline(never)]
fn http2_ok<P: Hooked>(bytes: &P) -> bool {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return false };
    // SAFETY: as in `drops`.
    let VerdictContext { packet, cursor, .. } = unsafe { &mut *context };
    cursor.set(packet.payload_at);
    let key =
        StreamKey { src: packet.src, dst: packet.dst, sport: packet.sport, dport: packet.dport, stream: 0 };
    http2::success(bytes, cursor, packet.payload_at + packet.payload_len, &mut Streams(key))
}

/// The streams of the current flow.
struct Streams(StreamKey);

impl http2::Streams for Streams {
    #[inline(always)]
    fn open(&mut self, stream: u32) {
        self.0.stream = stream;
        // The oldest makes room: a response whose DATA is so late loses its stamp, not its probe.
        let _ = STREAMS.insert(&self.0, 1, 0);
    }

    #[inline(always)]
    fn is_open(&mut self, stream: u32) -> bool {
        self.0.stream = stream;
        STREAMS.get_ptr(&self.0).is_some()
    }
}

/// Stamps an endpoint's response. A global function, as `decide`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn responded(endpoint: u32, live: u32, watched: u32) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `drops`.
    let context = unsafe { &mut *context };
    context.clock.coarse();
    context.rest.set(live | watched);
    for _ in 0..SLOT_COUNT {
        let Some(index) = context.rest.take() else { break };
        responded_for(index, endpoint, watched);
    }
    1
}

/// Stamps an endpoint's response for one slot, if that is over. A global function, as `drops_of`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn responded_for(index: u32, endpoint: u32, watched: u32) -> u32 {
    let (Some(slot), Some(context)) = (SLOTS.get(index), CONTEXT.get_ptr_mut(0)) else { return 0 };
    // SAFETY: as in `drops`.
    let context = unsafe { &mut *context };
    if watched & 1 << index == 0 && !context.clock.reached(slot.ends_at) {
        return 0;
    }
    let key = ResponseKey { generation: slot.generation, slot: index, endpoint };
    if let Some(stamp) = RESPONSES.get_ptr_mut(&key) {
        // SAFETY: as in `drops`.
        let stamp = unsafe { &mut *stamp };
        if *stamp == 0 {
            *stamp = context.clock.exact();
        }
    } else if RESPONSES.insert(&key, context.clock.exact(), u64::from(BPF_NOEXIST)).is_ok() {
        emit::ring(index, slot.generation);
    } else if RESPONSES.get_ptr_mut(&key).is_none() {
        // Not even another CPU made the entry in between: the map is full.
        emit::count(counter::STAMPS_LOST, 1);
    }
    1
}
