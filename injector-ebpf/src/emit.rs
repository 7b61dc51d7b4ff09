//! Counters and wake-ups.

use injector_common::record::{Wakeup, counter};

use crate::maps::{COUNTERS, WAKEUPS};

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(index: u32, by: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: an aligned word of this CPU's value. A packet may interrupt a program at a process's fork or at a socket between
        // the read and the write: then one of the two counts is missing, and the sum is above 0 all the same. (The compiler
        // has no atomic addition for this target.)
        unsafe { *value += by }
    }
}

/// Wakes the daemon: something was stamped. A full ring loses the wake-up alone, and that is counted. A global function of
/// plain numbers, which few packets call: the verifier checks it once, and not in each turn of the loops that call it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ring(slot: u32, generation: u32) -> u32 {
    match WAKEUPS.reserve::<Wakeup>(0) {
        Some(mut wakeup) => {
            wakeup.write(Wakeup { slot, generation });
            wakeup.submit(0);
        }
        None => count(counter::WAKEUPS_LOST, 1),
    }
    0
}
