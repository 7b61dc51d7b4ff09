//! Counters and the bell.

use injector_common::record::{Bell, counter};

use crate::maps::{BELLS, COUNTERS};

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(index: u32, by: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: a per-CPU value, and programs of one CPU do not interrupt each other on these hooks.
        unsafe { *value += by }
    }
}

/// Rings: something was stamped. A full ring loses the bell alone, and that is counted.
#[inline(always)]
pub fn ring(slot: u32, generation: u32) {
    match BELLS.reserve::<Bell>(0) {
        Some(mut bell) => {
            bell.write(Bell { slot, generation });
            bell.submit(0);
        }
        None => count(counter::BELLS_LOST, 1),
    }
}
