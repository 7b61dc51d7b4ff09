//! The verdict: pass or drop. The gate comes first; only behind it are packets parsed and names looked up.
//! The exact clock is read only near a boundary or for a stamp.

use injector_common::key::{DeviceKey, ROLL_SEVERAL, RollKey};
use injector_common::packet::{NEIGHBOURS, Packet, flag, parse};
use injector_common::record::counter;
use injector_common::slot::LOSS_ALL;
use injector_common::{SLOTS as SLOT_COUNT, Word, feature};

use crate::clock::random;
use crate::context::Hooked;
use crate::identity::{Direction, Side};
use crate::lease::lapsed;
use crate::maps::{COMMIT, CONTEXT, FEATURES, INTERFACE, INTERFACES, PORTS, ROLL, ROLLS, SLOTS, SPACE, cell};
use crate::protect::protected;
use crate::scope::in_scope;
use crate::verdict_context::VerdictContext;
use crate::{emit, identity, leak, learn, observe};

/// The fate of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next program decides.
    Pass,
    /// The packet is dropped silently.
    Drop,
}

/// Judges one packet, and records what it saw.
#[inline(always)]
pub fn judge<P: Hooked>(bytes: &P, direction: Direction) -> Verdict {
    let Some(commit) = COMMIT.get_ptr(0) else { return Verdict::Pass };
    // SAFETY: one aligned word that userspace stores atomically; the volatile read takes it once.
    let word = Word(unsafe { commit.read_volatile() });
    if word.0 == 0 && !learn::is_due(bytes) {
        return Verdict::Pass;
    }
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return Verdict::Pass };
    // SAFETY: this CPU's own value, and programs of one CPU do not interrupt each other on these hooks.
    let context = unsafe { &mut *context };
    if INTERFACE.load() == 0 {
        context.interface = shared_interface(bytes.device());
    }
    context.clock.reset();
    context.keep_word(word);
    let is_parsed = parse(bytes, &mut context.packet).is_ok();
    // While something is cut, someone else may take over an address of a cut peer.
    if context.packet.limits == NEIGHBOURS && (context.word().0 != 0 || learn::is_learning()) {
        learn::claim(Side::of(identity::interface(context), direction).packed());
    }
    let word = context.word();
    if word.0 == 0 {
        return Verdict::Pass;
    }
    context.judged += 1;
    if !is_parsed {
        emit::count(counter::UNPARSED, 1);
    }
    let answer = judge_parsed(
        identity::interface(context),
        u32::from(direction == Direction::Egress),
        word.live(),
        word.watched(),
    );
    if answer == DROPPED {
        // The length is read only now, since that is a call.
        observe::drops(bytes.segments(&context.packet), u64::from(bytes.len()));
        return Verdict::Drop;
    }
    if answer != IGNORED && FEATURES.load() & feature::WIRE != 0 {
        observe::response(bytes, &context.packet, word);
    }
    // Last, or the verifier would check the above once more for these packets.
    if answer == PASSED_ODD {
        leak::look(bytes.segments(&context.packet), word.live());
    }
    Verdict::Pass
}

/// An answer of [`judge_parsed`]: the packet passes, and is no evidence of anything.
pub const IGNORED: u32 = 0;
/// The packet is dropped.
pub const DROPPED: u32 = 1;
/// The packet passes.
const PASSED: u32 = 2;
/// The packet passes, and its names do not agree: it must be checked for a leak.
const PASSED_ODD: u32 = 3;

/// Judges the current packet. A global function of plain numbers: the verifier checks it once, and not again for every way
/// through the parser.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_parsed(interface: u32, is_out: u32, live: u32, watched: u32) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return IGNORED };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let context = unsafe { &mut *context };
    let port = PORTS.get_ptr(interface);
    let side = Side::at(port, if is_out == 0 { Direction::Ingress } else { Direction::Egress });
    let is_group = context.packet.flags & flag::GROUP != 0;
    if is_group && is_for_the_switch(&context.packet) {
        return IGNORED;
    }
    if side.named_sender() != identity::WORLD && learn::is_new(context, port) {
        learn::learn_mac(side.sender);
    }
    (context.sender, context.receiver) = (side.named_sender(), side.named_receiver());
    context.src = identity::source(context, side);
    context.dst = if is_group {
        identity::group(context, side)
    } else {
        let listed = identity::lister(&context.packet.dst);
        context.listed = listed;
        if side.receiver != identity::WORLD && listed != side.receiver && listed != identity::WORLD {
            identity::pass_on(side.receiver, listed);
        }
        identity::destination(listed, side)
    };
    if context.src == identity::UNJUDGED || context.dst == identity::UNJUDGED {
        return IGNORED;
    }
    judge_named(context, side, live, watched)
}

/// Judges the current packet, whose two ends are named.
#[inline(always)]
pub fn judge_named(context: &mut VerdictContext, side: Side, live: u32, watched: u32) -> u32 {
    let cell = cell(context.src, context.dst);
    if cell as u32 & (live | watched) == 0 {
        // Most packets while other links are cut: nothing is to be decided on this one.
        return passed(context, live);
    }
    context.neighbours.set((cell >> 32) as u32);
    context.dropped.clear();
    context.over.clear();
    let live_here = live & cell as u32;
    if live_here != 0 {
        decide_all(context, side, live_here);
    }
    if context.dropped.get() != 0 && !protected() {
        context.drops += 1;
        return DROPPED;
    }
    let watched = watched & cell as u32 | context.over.get();
    if watched != 0 {
        observe::firsts(watched);
    }
    // A packet that only `protect:` let through is no leak.
    if context.dropped.get() != 0 { PASSED } else { passed(context, live) }
}

/// The answer for a packet that no slot drops.
#[inline(always)]
fn passed(context: &VerdictContext, live: u32) -> u32 {
    if live != 0 && leak::is_due(context) { PASSED_ODD } else { PASSED }
}

/// LACP, spanning tree, 802.1X and their like are between a port and its switch: 01:80:c2:00:00:00 to :0f.
#[inline(always)]
fn is_for_the_switch(packet: &Packet) -> bool {
    packet.macs[0] == u32::from_ne_bytes([0x01, 0x80, 0xc2, 0x00])
        && u32::from_be(packet.macs[1]) >> 16 <= 0x000f
}

/// Puts the live slots of this link that drop the packet, and those that are over, into the context; none of them does if
/// the lease ran out.
#[inline(always)]
fn decide_all(context: &mut VerdictContext, side: Side, live: u32) {
    context.clock.coarse();
    if lapsed(context) {
        return;
    }
    let side = side.packed();
    context.steady.clear();
    context.rest.set(live);
    for _ in 0..SLOT_COUNT {
        let Some(index) = context.rest.take() else { break };
        decide(index, side);
    }
}

/// The id of one of the many interfaces that this instance is on; 0 for one that is not known.
#[inline(always)]
fn shared_interface(index: u32) -> u32 {
    // SAFETY: a plain number of a map's value.
    unsafe { INTERFACES.get(&DeviceKey { space: SPACE.load(), index }) }.copied().unwrap_or(0)
}

/// Loss is rolled once per packet and link: at the hook bound to the source, else at the destination's. A peer with
/// several ways has one on each. Copies of a group frame are lost one by one, at their receivers' ports, and so is a packet
/// whose receiver no other hook can name. A global function, as [`decide`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rolls_here(side: u64) -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let side = Side::unpacked(side);
    if context.packet.flags & flag::GROUP != 0 {
        return u32::from(side.receiver != identity::WORLD);
    }
    let (src, dst) = (context.src, context.dst);
    let bound = |peer| ROLL.get(peer).map_or(0, |interface| *interface);
    let (at, peer) = match bound(src) {
        0 => (bound(dst), dst),
        interface => (interface, src),
    };
    let is_rolling = match at {
        0 => true,
        ROLL_SEVERAL => {
            // A packet of someone behind the peer passes two of them: it is lost where it leaves the sender, or gets to the
            // receiver, and not at the peer's device that leads to that one.
            let is_inside = if peer == src { side.receiver } else { side.sender } == peer;
            let key = RollKey { peer, interface: identity::interface(context) };
            // SAFETY: the value is not read.
            !is_inside && unsafe { ROLLS.get(&key) }.is_some()
        }
        interface => interface == identity::interface(context),
    };
    let rolls =
        is_rolling || side.named_receiver() != identity::WORLD && identity::is_named_elsewhere(dst) == 0;
    u32::from(rolls)
}

/// Puts a slot into the context's sets by its effect on the current packet, at the hook with this [`Side`]: into none of them
/// if it does nothing to the packet.
///
/// A global BPF function of numbers alone: the verifier checks it once, not again in each turn of the loop around it. The sets
/// are written here: of an answer, the loop would have a branch for each value.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn decide(index: u32, side: u64) -> u32 {
    let (Some(slot), Some(context)) = (SLOTS.get(index), CONTEXT.get_ptr_mut(0)) else { return 0 };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let VerdictContext { clock, packet, neighbours, dropped, steady, over, .. } = unsafe { &mut *context };
    if clock.reached(slot.ends_at) {
        over.add(index);
        return 0;
    }
    if !clock.reached(slot.starts_at) {
        return 0;
    }
    if packet.flags & flag::NEIGHBOUR != 0 {
        if neighbours.get() & 1 << (index & 31) == 0 {
            return 0;
        }
    } else if slot.scope_count != 0 && !in_scope(slot, packet) {
        return 0;
    }
    if slot.flap_period != 0 && clock.exact().wrapping_sub(slot.starts_at) % slot.flap_period >= slot.flap_on
    {
        return 0;
    }
    if slot.loss < LOSS_ALL && (rolls_here(side) == 0 || u64::from(random()) >= slot.loss) {
        return 0;
    }
    dropped.add(index);
    // It drops all that is on this link, until it ends.
    if slot.full != 0 && slot.flap_period == 0 {
        steady.add(index);
    }
    1
}
