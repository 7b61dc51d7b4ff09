//! The facts that one verdict has about its packet, its clocks and its slots.

use injector_common::Word;
use injector_common::packet::Packet;
use injector_common::wire::http2::Cursor;

use injector_common::record::{DROPS_AT, JUDGED_AT, VERDICT_CONTEXT_WORDS};

/// The facts that one verdict has about its packet.
#[repr(C)]
pub struct VerdictContext {
    /// How many packets this CPU judged while a slot was live or watched. This counter is kept here because every
    /// verdict adds to it, and the context is at hand: a lookup in the counters' map would cost 2 ns per packet.
    pub judged: u64,
    /// The clocks.
    pub clock: Clock,
    /// The sending peer.
    pub src: u32,
    /// The receiving peer.
    pub dst: u32,
    /// The packet.
    pub packet: Packet,
    /// The slots that drop it.
    pub dropped: Mask,
    /// The slots of its link that are live and over.
    pub over: Mask,
    /// The slots of its link that drop ARP and neighbour discovery too.
    pub neighbours: Mask,
    /// The peer whose port the hook is, where it sent the packet; else 0.
    pub sender: u32,
    /// The peer whose port the hook is, where it receives the packet; else 0.
    pub receiver: u32,
    /// The hook's interface, if this instance is on many.
    pub interface: u32,
    /// The slots that a loop has yet to visit.
    pub rest: Mask,
    /// Where the search for HTTP/2 frames is.
    pub cursor: Cursor,
    /// The slots of `dropped` that drop all that is on their links, all the time.
    pub steady: Mask,
    /// The kinds of first packets that the packet is of.
    pub kinds: Mask,
    /// Not empty if the packet, dropped at its receiver's port, should have been dropped at its sender's.
    pub has_passed: Mask,
    /// The peer that the config lists the destination address of a unicast packet for, as `identity::lister` says it.
    pub listed: u32,
    /// How many packets this CPU dropped; kept here for the same reason as `judged`.
    pub drops: u64,
    /// The commit word, as it was read for the packet.
    word: u64,
}

const _: () = assert!(size_of::<VerdictContext>() == VERDICT_CONTEXT_WORDS * size_of::<u64>());
const _: () = assert!(core::mem::offset_of!(VerdictContext, judged) == JUDGED_AT * size_of::<u64>());
const _: () = assert!(core::mem::offset_of!(VerdictContext, drops) == DROPS_AT * size_of::<u64>());

/// A set of slots or kinds, in memory: the verifier tracks each known bit of a mask in a register, and a loop over such
/// a mask is then another program for every subset.
#[repr(transparent)]
pub struct Mask(u32);

impl Mask {
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
    /// Keeps the commit word in memory while the packet is parsed: of a register, the verifier knows on which side of the
    /// branch at the gate it is, and would follow the parser once for each.
    #[inline(always)]
    pub fn keep_word(&mut self, word: Word) {
        // SAFETY: a valid reference; volatile so that it goes through memory.
        unsafe { core::ptr::addr_of_mut!(self.word).write_volatile(word.0) }
    }

    /// The commit word that was kept.
    #[inline(always)]
    pub fn word(&self) -> Word {
        // SAFETY: as above.
        Word(unsafe { core::ptr::addr_of!(self.word).read_volatile() })
    }

    /// A recent instant, without a call of the exact clock.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        self.clock.recent()
    }
}

/// The clocks of one verdict: each is 0 until it is read, and is read once where it is kept.
#[repr(C)]
pub struct Clock {
    pub(crate) coarse: u64,
    pub(crate) exact: u64,
}
