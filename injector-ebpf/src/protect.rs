//! `protect:` what no cut drops.

use injector_common::feature;
use injector_common::record::counter;
use injector_common::slot::MAX_SCOPES;

use crate::emit;
use crate::maps::{CONTEXT, FEATURES, PROTECT_ADDRESSES, PROTECT_SCOPES, PROTECTED_SCOPES};

/// Whether a packet that would be dropped must not be.
#[inline(always)]
pub fn protected() -> bool {
    if !is_spared() {
        return false;
    }
    emit::count(counter::PROTECTED, 1);
    true
}

/// Whether no cut drops the current packet. Without protected addresses or ports, the verifier removes all of it.
#[inline(always)]
pub fn is_spared() -> bool {
    FEATURES.load() & feature::PROTECT != 0 && is_protected() != 0
}

/// Whether the current packet is to or from a protected address, or may be of a datagram in a protected scope: of the
/// datagrams that are not, the first fragment is dropped, so that no whole one passes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_protected() -> u32 {
    let Some(context) = CONTEXT.get(0) else { return 0 };
    let packet = &context.packet;
    // SAFETY: filled before the first slot is live, and never changed after.
    let mut found = unsafe {
        PROTECT_ADDRESSES.get(&packet.src).is_some() || PROTECT_ADDRESSES.get(&packet.dst).is_some()
    };
    for index in 0..MAX_SCOPES as u32 {
        if found || index >= PROTECTED_SCOPES.load() {
            break;
        }
        found = PROTECT_SCOPES.get(index).is_some_and(|scope| scope.may_hold(packet));
    }
    u32::from(found)
}
