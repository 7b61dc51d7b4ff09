//! The verdict: pass or drop. Gate first, parse and look up only then, read the exact clock only near a
//! boundary or for a stamp.

use injector_common::key::{DeviceKey, ROLL_SEVERAL, RollKey};
use injector_common::packet::{NEIGHBOURS, Packet, flag, parse};
use injector_common::record::counter;
use injector_common::slot::{LOSS_ALL, MAX_SCOPES, Slot};
use injector_common::{SLOTS as SLOT_COUNT, Word, feature};

use crate::clock::random;
use crate::context::Hooked;
use crate::identity::{Direction, Side};
use crate::lease::lapsed;
use crate::maps::{COMMIT, FEATURES, INTERFACE, INTERFACES, PORTS, ROLL, ROLLS, SCENE, SLOTS, SPACE, cell};
use crate::protect::protected;
use crate::verdict_context::VerdictContext;
use crate::{emit, identity, leak, learn, observe};

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next program decides.
    Pass,
    /// It is lost in silence.
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
    let Some(scene) = SCENE.get_ptr_mut(0) else { return Verdict::Pass };
    // SAFETY: this CPU's own value, and programs of one CPU do not interrupt each other on these hooks.
    let scene = unsafe { &mut *scene };
    if INTERFACE.load() == 0 {
        scene.interface = shared_interface(bytes.device());
    }
    scene.clock.reset();
    scene.keep_word(word);
    let is_parsed = parse(bytes, &mut scene.packet).is_ok();
    // While something is cut, someone else may take over an address of a cut peer.
    if scene.packet.limits == NEIGHBOURS && (scene.word().0 != 0 || learn::is_learning()) {
        learn::claim(Side::of(identity::interface(scene), direction).packed());
    }
    let word = scene.word();
    if word.0 == 0 {
        return Verdict::Pass;
    }
    scene.judged += 1;
    if !is_parsed {
        emit::count(counter::UNPARSED, 1);
    }
    let answer = judge_parsed(
        identity::interface(scene),
        u32::from(direction == Direction::Egress),
        word.live(),
        word.watched(),
    );
    if answer == DROPPED {
        // Only now, since the length is a call.
        observe::drops(bytes.segments(&scene.packet), u64::from(bytes.len()));
        return Verdict::Drop;
    }
    if answer != IGNORED && FEATURES.load() & feature::WIRE != 0 {
        observe::response(bytes, &scene.packet, word);
    }
    // Last, or the verifier would check the above once more for these packets.
    if answer == PASSED_ODD {
        leak::look(bytes.segments(&scene.packet), word.live());
    }
    Verdict::Pass
}

/// An answer of [`judge_parsed`]: the packet passes, and is no evidence of anything.
pub const IGNORED: u32 = 0;
/// The packet is dropped.
pub const DROPPED: u32 = 1;
/// The packet passes.
const PASSED: u32 = 2;
/// The packet passes, and its names do not agree: it needs the second look.
const PASSED_ODD: u32 = 3;

/// Judges the scene's packet. A global function of plain numbers: the verifier checks it once, and not again for every way
/// through the parser.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_parsed(interface: u32, is_out: u32, live: u32, watched: u32) -> u32 {
    let Some(scene) = SCENE.get_ptr_mut(0) else { return IGNORED };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let scene = unsafe { &mut *scene };
    let port = PORTS.get_ptr(interface);
    let side = Side::at(port, if is_out == 0 { Direction::Ingress } else { Direction::Egress });
    let is_group = scene.packet.flags & flag::GROUP != 0;
    if is_group && is_for_the_switch(&scene.packet) {
        return IGNORED;
    }
    if side.named_sender() != identity::WORLD && learn::is_new(scene, port) {
        learn::learn_mac(side.sender);
    }
    (scene.sender, scene.receiver) = (side.named_sender(), side.named_receiver());
    scene.src = identity::source(scene, side);
    scene.dst = if is_group { identity::group(scene, side) } else { identity::destination(scene, side) };
    if scene.src == identity::UNJUDGED || scene.dst == identity::UNJUDGED {
        return IGNORED;
    }
    judge_named(scene, side, live, watched)
}

/// Judges the scene's packet, whose two ends are named.
#[inline(always)]
pub fn judge_named(scene: &mut VerdictContext, side: Side, live: u32, watched: u32) -> u32 {
    let cell = cell(scene.src, scene.dst);
    if cell as u32 & (live | watched) == 0 {
        // Most packets while other links are cut: nothing is to be decided on this one.
        return passed(scene, live);
    }
    scene.neighbours.set((cell >> 32) as u32);
    scene.dropped.clear();
    scene.over.clear();
    let live_here = live & cell as u32;
    if live_here != 0 {
        decide_all(scene, side, live_here);
    }
    if scene.dropped.get() != 0 && !protected() {
        scene.drops += 1;
        return DROPPED;
    }
    let watched = watched & cell as u32 | scene.over.get();
    if watched != 0 {
        observe::firsts(watched);
    }
    // What only `protect:` let through is no leak.
    if scene.dropped.get() != 0 { PASSED } else { passed(scene, live) }
}

/// The answer for a packet that no slot drops.
#[inline(always)]
fn passed(scene: &VerdictContext, live: u32) -> u32 {
    if live != 0 && leak::is_due(scene) { PASSED_ODD } else { PASSED }
}

/// LACP, spanning tree, 802.1X and their like are between a port and its switch: 01:80:c2:00:00:00 to :0f.
#[inline(always)]
fn is_for_the_switch(packet: &Packet) -> bool {
    packet.macs[0] == u32::from_ne_bytes([0x01, 0x80, 0xc2, 0x00])
        && u32::from_be(packet.macs[1]) >> 16 <= 0x000f
}

/// Puts the live slots of this link that drop the packet, and those that are over, into the scene; none of them does if
/// the lease ran out.
#[inline(always)]
fn decide_all(scene: &mut VerdictContext, side: Side, live: u32) {
    scene.clock.coarse();
    if lapsed(scene) {
        return;
    }
    let side = side.packed();
    scene.steady.clear();
    scene.rest.set(live);
    for _ in 0..SLOT_COUNT {
        let Some(index) = scene.rest.take() else { break };
        match decide(index, side) {
            DROP_STEADY => {
                scene.dropped.add(index);
                scene.steady.add(index);
            }
            DROP => scene.dropped.add(index),
            OVER => scene.over.add(index),
            _ => {}
        }
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
    let Some(scene) = SCENE.get(0) else { return 0 };
    let side = Side::unpacked(side);
    if scene.packet.flags & flag::GROUP != 0 {
        return u32::from(side.receiver != identity::WORLD);
    }
    let (src, dst) = (scene.src, scene.dst);
    let bound = |peer| ROLL.get(peer).map_or(0, |interface| *interface);
    let (at, peer) = match bound(src) {
        0 => (bound(dst), dst),
        interface => (interface, src),
    };
    let is_rolling = match at {
        0 => true,
        // SAFETY: the value is not read.
        ROLL_SEVERAL => unsafe {
            ROLLS.get(&RollKey { peer, interface: identity::interface(scene) }).is_some()
        },
        interface => interface == identity::interface(scene),
    };
    let rolls =
        is_rolling || side.named_receiver() != identity::WORLD && identity::is_named_elsewhere(dst) == 0;
    u32::from(rolls)
}

/// A slot does nothing to a packet.
const LEAVE: u32 = 0;
/// A slot drops it.
const DROP: u32 = 1;
/// A slot has ended by its deadline: its link is watched.
const OVER: u32 = 2;
/// A slot drops it, and all else on this link, until it ends.
const DROP_STEADY: u32 = 3;

/// What one slot does to the scene's packet, at the hook with this [`Side`].
///
/// A global BPF function of numbers alone: the verifier checks it once, not again in each turn of each loop
/// around it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn decide(index: u32, side: u64) -> u32 {
    let (Some(slot), Some(scene)) = (SLOTS.get(index), SCENE.get_ptr_mut(0)) else { return LEAVE };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let VerdictContext { clock, packet, neighbours, .. } = unsafe { &mut *scene };
    if clock.reached(slot.ends_at) {
        return OVER;
    }
    if !clock.reached(slot.starts_at) {
        return LEAVE;
    }
    if packet.flags & flag::NEIGHBOUR != 0 {
        if neighbours.get() & 1 << (index & 31) == 0 {
            return LEAVE;
        }
    } else if slot.scope_count != 0 && !in_scope(slot, packet) {
        return LEAVE;
    }
    if slot.flap_period != 0 && clock.exact().wrapping_sub(slot.starts_at) % slot.flap_period >= slot.flap_on
    {
        return LEAVE;
    }
    if slot.loss < LOSS_ALL && (rolls_here(side) == 0 || u64::from(random()) >= slot.loss) {
        return LEAVE;
    }
    if slot.full != 0 && slot.flap_period == 0 { DROP_STEADY } else { DROP }
}

#[inline(always)]
fn in_scope(slot: &Slot, packet: &Packet) -> bool {
    for index in 0..MAX_SCOPES {
        if index as u32 >= slot.scope_count {
            break;
        }
        if slot.scopes[index].holds(packet) {
            return true;
        }
    }
    false
}
