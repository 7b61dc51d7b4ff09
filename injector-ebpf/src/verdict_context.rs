//! What one verdict knows of its packet, its clocks and its slots.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use injector_common::feature;
use injector_common::key::{GROUP, LinkKey};
use injector_common::packet::Packet;
use injector_common::wire::http2::Cursor;

use crate::maps::{FEATURES, SIDE, TEST};

/// How far the coarse clock may lag, with room: one tick is 10 ms at HZ=100.
const COARSE_LAG: u64 = 50_000_000;

/// What one verdict knows of its packet.
#[repr(C)]
pub struct VerdictContext {
    /// The clocks.
    pub clock: Clock,
    /// The sending peer.
    pub src: u32,
    /// The receiving peer.
    pub dst: u32,
    /// The packet.
    pub packet: Packet,
    /// The slots that drop it.
    pub dropped: Slots,
    /// The slots of its link that are live and over.
    pub over: Slots,
    /// The slots of its link that drop ARP and neighbour discovery too.
    pub neighbours: Slots,
    /// The peer whose port the hook is, where it sent the packet; else 0.
    pub sender: u32,
    /// The same where it receives the packet.
    pub receiver: u32,
    /// The slots that a loop has yet to visit.
    pub rest: Slots,
    /// Where the search for HTTP/2 frames is.
    pub cursor: Cursor,
}

/// A set of slots, in memory: the verifier tracks each known bit of a mask in a register, and a loop over such
/// a mask is then another program for every subset.
#[repr(transparent)]
pub struct Slots(u32);

impl Slots {
    /// The mask.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        // SAFETY: a valid reference; volatile so that it stays in memory.
        unsafe { core::ptr::addr_of!(self.0).read_volatile() }
    }

    /// Replaces the mask.
    #[inline(always)]
    pub fn set(&mut self, mask: u32) {
        // SAFETY: as above.
        unsafe { core::ptr::addr_of_mut!(self.0).write_volatile(mask) }
    }

    /// Empties the set.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.set(0);
    }

    /// Adds a slot.
    #[inline(always)]
    pub fn add(&mut self, index: u32) {
        self.set(self.get() | 1 << index);
    }

    /// Takes the lowest slot out. It is found by one multiplication and a table, not bit by bit.
    #[inline(always)]
    pub fn take(&mut self) -> Option<u32> {
        let mask = self.get();
        if mask == 0 {
            return None;
        }
        self.set(mask & (mask - 1));
        Some(mask.trailing_zeros())
    }
}

impl VerdictContext {
    /// A recent instant, without a call of the exact clock.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        self.clock.coarse
    }

    /// The stamps' key of this link for one slot.
    #[inline(always)]
    pub fn link_key(&self, slot: u32, generation: u32) -> LinkKey {
        let dst = if self.dst == SIDE.load() { GROUP } else { self.dst as u16 };
        LinkKey { generation, slot, src: self.src as u16, dst }
    }
}

/// The clocks of one verdict: the exact one is read at most once.
#[repr(C)]
pub struct Clock {
    coarse: u64,
    exact: u64,
}

impl Clock {
    /// Reads the coarse clock.
    #[inline(always)]
    pub fn new() -> Self {
        if FEATURES.load() & feature::TEST != 0 {
            let coarse = TEST.get(0).map_or(0, |test| test.coarse);
            return Self { coarse, exact: 0 };
        }
        // SAFETY: a plain helper call.
        Self { coarse: unsafe { bpf_ktime_get_coarse_ns() }, exact: 0 }
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

    /// Whether an instant has come. The coarse clock is never ahead: what it has passed is past.
    #[inline(always)]
    pub fn reached(&mut self, instant: u64) -> bool {
        if self.coarse >= instant {
            return true;
        }
        instant - self.coarse <= COARSE_LAG && self.exact() >= instant
    }
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
