//! The clocks and the randomness of a verdict; a test sets both.

use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns,
};
use injector_common::feature;

use crate::maps::{FEATURES, TEST};
use crate::verdict_context::Clock;

/// The most that the coarse clock may lag, in nanoseconds, with room: one tick is 10 ms at HZ=100.
const COARSE_LAG: u64 = 50_000_000;

impl Clock {
    /// Begins another packet: neither clock is read for it yet, and most packets pass without either.
    #[inline(always)]
    pub fn reset(&mut self) {
        // Two stores of their own: a struct of zeros would be a call of `memset`, which costs a fifth of a verdict.
        // SAFETY: valid references.
        unsafe {
            core::ptr::addr_of_mut!(self.coarse).write_volatile(0);
            core::ptr::addr_of_mut!(self.exact).write_volatile(0);
        }
    }

    /// Reads the coarse clock, unless it was read for this packet.
    #[inline(always)]
    pub fn coarse(&mut self) -> u64 {
        self.coarse = self.recent();
        self.coarse
    }

    /// A recent instant, by the coarse clock.
    #[inline(always)]
    pub fn recent(&self) -> u64 {
        if self.coarse != 0 {
            return self.coarse;
        }
        if FEATURES.load() & feature::TEST != 0 {
            return TEST.get(0).map_or(0, |test| test.coarse);
        }
        // SAFETY: a plain helper call.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    /// The exact clock.
    #[inline(always)]
    pub fn exact(&mut self) -> u64 {
        if self.exact == 0 {
            self.exact = if FEATURES.load() & feature::TEST != 0 {
                TEST.get(0).map_or(0, |test| test.now)
            } else {
                // SAFETY: a plain helper call.
                unsafe { bpf_ktime_get_ns() }
            };
        }
        self.exact
    }

    /// Whether an instant has come, where [`Self::coarse`] was called before: once, and not here, or the verifier would
    /// follow two ways from each of these. The coarse clock is never ahead: what it has passed is past.
    #[inline(always)]
    pub fn reached(&mut self, instant: u64) -> bool {
        if self.coarse >= instant {
            return true;
        }
        instant - self.coarse <= COARSE_LAG && self.exact() >= instant
    }
}

/// A count that goes on every eight ticks of the kernel: 8 to 80 ms. The verifier puts one load in place of this call; a
/// clock is a call.
#[inline(always)]
pub fn eight_ticks() -> u64 {
    if FEATURES.load() & feature::TEST != 0 {
        // At 250 ticks a second, eight ticks take about 2^25 ns.
        return TEST.get(0).map_or(0, |test| test.coarse >> 25);
    }
    // SAFETY: a plain helper call.
    unsafe { bpf_jiffies64() >> 3 }
}

/// A random number.
#[inline(always)]
pub fn random() -> u32 {
    if FEATURES.load() & feature::TEST != 0 {
        return TEST.get(0).map_or(0, |test| test.random);
    }
    // SAFETY: a plain helper call.
    unsafe { bpf_get_prandom_u32() }
}
