//! Whether a packet is in the scopes of a slot.

use injector_common::packet::Packet;
use injector_common::record::first;
use injector_common::slot::{MAX_SCOPES, Slot};

use crate::maps::{CONTEXT, SLOTS};

/// The kinds of first packets after the heal that the current packet may be of for a slot with scopes: all if the slot
/// would have dropped it; if it would have dropped only the other direction of the conversation, those that show that both
/// directions work. A global function of plain numbers: it is verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn kinds_in_scope(index: u32) -> u32 {
    let (Some(slot), Some(context)) = (SLOTS.get(index), CONTEXT.get(0)) else { return 0 };
    let mut kinds = 0;
    for index in 0..MAX_SCOPES {
        if index as u32 >= scope_count(slot) {
            break;
        }
        let scope = &slot.scopes[index];
        if scope.holds_conversation(&context.packet) {
            if scope.holds(&context.packet) {
                return first::ALL;
            }
            kinds = first::BOTH_WAYS;
        }
    }
    kinds
}

#[inline(always)]
pub fn in_scope(slot: &Slot, packet: &Packet) -> bool {
    for index in 0..MAX_SCOPES {
        if index as u32 >= scope_count(slot) {
            break;
        }
        if slot.scopes[index].holds(packet) {
            return true;
        }
    }
    false
}

/// How many scopes a slot has: read from memory each time, as the packet's fields are.
#[inline(always)]
fn scope_count(slot: &Slot) -> u32 {
    // SAFETY: a valid reference.
    unsafe { core::ptr::addr_of!(slot.scope_count).read_volatile() }
}
