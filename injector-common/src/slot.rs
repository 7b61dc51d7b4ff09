//! A partition's slot: immutable while its bit is live.

use crate::packet::{Packet, flag, protocol};

/// How many scopes a partition can have.
pub const MAX_SCOPES: usize = 16;

/// The loss threshold that drops every packet, without a roll.
pub const LOSS_ALL: u64 = 1 << 32;

/// The effect of a partition on its links. Instants are nanoseconds of `CLOCK_MONOTONIC`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The instant from which on it cuts.
    pub starts_at: u64,
    /// The instant from which on it cuts no more; after that its links are watched.
    pub ends_at: u64,
    /// A packet is dropped if a random 32-bit number is below this.
    pub loss: u64,
    /// The length of one on-and-off cycle, 0 for a steady cut.
    pub flap_period: u64,
    /// How long, from the begin of each cycle, it cuts.
    pub flap_on: u64,
    /// The partition's generation.
    pub generation: u32,
    /// How many of `scopes` count; 0 is all traffic.
    pub scope_count: u32,
    /// 1 if it drops all that is on its links while it is on: no scopes, no loss below 100%.
    pub full: u32,
    /// Zero.
    pub pad: u32,
    /// The traffic that is cut.
    pub scopes: [SlotScope; MAX_SCOPES],
}

impl Slot {
    /// Drops all traffic of its links, from the beginning of the clock and without an end.
    pub const fn whole(generation: u32) -> Self {
        Self {
            starts_at: 0,
            ends_at: u64::MAX,
            loss: LOSS_ALL,
            flap_period: 0,
            flap_on: 0,
            generation,
            scope_count: 0,
            full: 1,
            pad: 0,
            scopes: [SlotScope { first: 0, last: 0, protocol: 0, side: 0, pad: 0 }; MAX_SCOPES],
        }
    }
}

/// A part of the traffic: a protocol and a port range.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotScope {
    /// The first port; 0 is any port.
    pub first: u16,
    /// The last port, included.
    pub last: u16,
    /// An IP protocol number after extension headers; [`protocol::ICMP`] represents both ICMPs.
    pub protocol: u8,
    /// A constant of [`side`].
    pub side: u8,
    /// Zero.
    pub pad: u16,
}

/// The end whose port a scope compares.
pub mod side {
    /// Source or destination.
    pub const EITHER: u8 = 0;
    /// The source.
    pub const SRC: u8 = 1;
    /// The destination.
    pub const DST: u8 = 2;
}

impl SlotScope {
    /// Whether a packet is in this scope, or is a later fragment of a datagram that may be: it has no ports, its
    /// protocol may be behind a header that only the first fragment has, and one of ICMP may be an error that quotes
    /// anything.
    #[inline(always)]
    pub fn may_hold(&self, packet: &Packet) -> bool {
        if packet.flags & flag::LATER_FRAGMENT == 0 {
            return self.holds(packet);
        }
        packet.protocol == self.protocol
            || packet.flags & flag::ICMP != 0
            || protocol::is_extension(packet.protocol)
    }

    /// Whether a packet is in this scope.
    #[inline(always)]
    pub fn holds(&self, packet: &Packet) -> bool {
        self.compare(packet, self.side)
    }

    /// Whether a packet, or its answer, is in this scope: one of the two directions of a conversation is.
    #[inline(always)]
    pub fn holds_conversation(&self, packet: &Packet) -> bool {
        self.compare(packet, side::EITHER)
    }

    /// Whether a packet is of the protocol and has one of the ports at the given end, a constant of [`side`].
    #[inline(always)]
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "a scope stays in the map: see `from_memory`")]
    fn compare(&self, packet: &Packet, end: u8) -> bool {
        let flags = from_memory(&packet.flags);
        if flags & flag::NO_ADDRESS != 0 {
            return false;
        }
        if self.protocol == protocol::ICMP {
            return flags & flag::ICMP != 0;
        }
        if from_memory(&packet.protocol) != self.protocol {
            return false;
        }
        if self.first == 0 {
            return true;
        }
        if flags & flag::PORTS == 0 {
            return false;
        }
        let (sport, dport) = (from_memory(&packet.sport), from_memory(&packet.dport));
        let src = self.first <= sport && sport <= self.last;
        let dst = self.first <= dport && dport <= self.last;
        match end {
            side::SRC => src,
            side::DST => dst,
            _ => src || dst,
        }
    }
}

/// A field, read from memory where this is called. Kept in a register over a loop of scopes, it would be a number that the
/// verifier knows more of after each comparison, and so follows the next turn once for each outcome.
#[inline(always)]
fn from_memory<T: Copy>(field: &T) -> T {
    // SAFETY: a valid reference.
    unsafe { core::ptr::from_ref(field).read_volatile() }
}

const _: () = assert!(size_of::<SlotScope>() == 8);
const _: () = assert!(size_of::<Slot>() == 56 + 8 * MAX_SCOPES);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (sizes asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::Slot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SlotScope {}
}
