//! The records of the programs: stamps and counters in maps, read by the daemon. 0 is "not stamped".

use crate::key::Address;

/// The stamps and counters of one CPU for one link of one partition. Instants are nanoseconds of
/// `CLOCK_MONOTONIC`.
///
/// The map is per CPU, so that no update races with another; the reader takes sums, the earliest firsts and
/// the latest last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStamps {
    /// Packets dropped that were addressed to the receiver, GSO segments counted each: no group frames, no ARP or
    /// neighbour discovery, no frames of the active check.
    pub dropped_packets: u64,
    /// The bytes of the dropped packets, as the hook saw them.
    pub dropped_bytes: u64,
    /// The first drop.
    pub first_drop: u64,
    /// The last drop.
    pub last_drop: u64,
    /// The first packet after the heal that the partition would have dropped before: it is in a scope of the
    /// partition, and not protected. So are all first packets below.
    pub first_packet: u64,
    /// The first SYN after the heal.
    pub first_syn: u64,
    /// The first SYN-ACK after the heal. One that answers a SYN in scope counts too, whatever its own port.
    pub first_synack: u64,
    /// The first payload after the heal.
    pub first_data: u64,
    /// Group frames, ARP, neighbour discovery and frames of the active check dropped.
    pub group_packets: u64,
    /// Packets that passed the last hook in their way during a full cut, although another of their names than the one
    /// that was judged puts them on this link.
    pub leaked_packets: u64,
    /// The first of them.
    pub first_leak: u64,
    /// The first packet after the heal by which a conversation had carried payload both ways: a TCP connection, or all
    /// datagrams between two addresses. A retransmission that nobody answers, or that is answered by a reset, is none.
    /// It is enough that one direction of the conversation is in a scope of the partition.
    pub first_exchange: u64,
    /// Packets dropped at the receiver's port a second or more after the cut, although the sender's should have dropped
    /// them.
    pub late_packets: u64,
}

impl LinkStamps {
    /// Takes in what another CPU saw.
    pub fn merge(&mut self, other: &Self) {
        self.dropped_packets += other.dropped_packets;
        self.dropped_bytes += other.dropped_bytes;
        earliest(&mut self.first_drop, other.first_drop);
        self.last_drop = self.last_drop.max(other.last_drop);
        earliest(&mut self.first_packet, other.first_packet);
        earliest(&mut self.first_syn, other.first_syn);
        earliest(&mut self.first_synack, other.first_synack);
        earliest(&mut self.first_data, other.first_data);
        self.group_packets += other.group_packets;
        self.leaked_packets += other.leaked_packets;
        earliest(&mut self.first_leak, other.first_leak);
        earliest(&mut self.first_exchange, other.first_exchange);
        self.late_packets += other.late_packets;
    }
}

/// Keeps the earlier of two stamps; 0 is none.
pub fn earliest(stamp: &mut u64, other: u64) {
    if other != 0 && (*stamp == 0 || other < *stamp) {
        *stamp = other;
    }
}

/// The unicast frames that passed between a peer and someone whom no address names. No ARP or neighbour discovery.
///
/// All CPUs share it, so a count may be lost where two add at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    /// How many packets, GSO segments counted each.
    pub packets: u64,
    /// The first of them, by the coarse clock.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The stranger's address in the first of them.
    pub address: Address,
}

/// The stamps and counters of one CPU for one link while several partitions that drop all of it were in
/// force. They are counted once for all of these, so that a packet does not cost more with each. A part of
/// [`LinkStamps`] of every one of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlapStamps {
    /// As in [`LinkStamps`].
    pub dropped_packets: u64,
    /// As in [`LinkStamps`].
    pub dropped_bytes: u64,
    /// As in [`LinkStamps`].
    pub first_drop: u64,
    /// As in [`LinkStamps`].
    pub last_drop: u64,
    /// As in [`LinkStamps`].
    pub group_packets: u64,
    /// The kinds of first packets after the heal that all of these partitions have stamped: bits of
    /// [`first`]. Each partition has stamps of its own; with these bits, the next packet of such a kind need
    /// not read them.
    pub stamped: u32,
    /// Zero.
    pub pad: u32,
}

/// The kinds of first packets after a heal.
pub mod first {
    /// Any packet.
    pub const PACKET: u32 = 1;
    /// A SYN.
    pub const SYN: u32 = 1 << 1;
    /// A SYN-ACK.
    pub const SYN_ACK: u32 = 1 << 2;
    /// Payload.
    pub const DATA: u32 = 1 << 3;
    /// Payload of a conversation that has carried some both ways.
    pub const EXCHANGE: u32 = 1 << 4;
    /// All of them.
    pub const ALL: u32 = PACKET | SYN | SYN_ACK | DATA | EXCHANGE;
    /// Those that show that a conversation goes on in both directions, whichever direction was cut.
    pub const BOTH_WAYS: u32 = SYN_ACK | EXCHANGE;
}

impl From<OverlapStamps> for LinkStamps {
    fn from(overlap: OverlapStamps) -> Self {
        let OverlapStamps { dropped_packets, dropped_bytes, first_drop, last_drop, group_packets, .. } =
            overlap;
        Self { dropped_packets, dropped_bytes, first_drop, last_drop, group_packets, ..Self::default() }
    }
}

/// The lease, memory-mapped by the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Past this instant the programs pass everything.
    pub expires: u64,
    /// The latch: 0, or what `expires` was for the first program that found it past while something was live. Only
    /// the daemon clears it, after it has disabled every slot: so a late renewal revives nothing.
    pub lapsed: u64,
    /// The process that holds it, so that what a dead daemon left can be distinguished from what a living one
    /// needs: its process id,
    pub pid: u64,
    /// the start of that process in clock ticks since the boot (pids are used again),
    pub started: u64,
    /// a hash of the boot id,
    pub boot: u64,
    /// and the inode of its pid namespace: the pid has no meaning outside it.
    pub pid_namespace: u64,
}

/// The size of what a verdict knows of its packet (the map `CONTEXT`), in 8-byte words. User space reads one of them.
pub const VERDICT_CONTEXT_WORDS: usize = 22;
/// The index of the word that counts the packets judged.
pub const JUDGED_AT: usize = 0;
/// The index of the word that counts the packets dropped.
pub const DROPS_AT: usize = 20;

/// Indices of the per-CPU counters.
pub mod counter {
    /// Packets judged while a slot was live or watched. The programs keep it in `CONTEXT`: see
    /// [`JUDGED_AT`](super::JUDGED_AT).
    pub const JUDGED: u32 = 0;
    /// Packets dropped. The programs keep it in `CONTEXT`: see [`DROPS_AT`](super::DROPS_AT).
    pub const DROPPED: u32 = 1;
    /// Frames that could not be parsed: only MACs and ports name their ends.
    pub const UNPARSED: u32 = 2;
    /// Packets that a `protect` entry let through a cut.
    pub const PROTECTED: u32 = 3;
    /// Stamps lost because a map was full.
    pub const STAMPS_LOST: u32 = 4;
    /// Wakeups lost because the ring was full (nothing else is lost with them).
    pub const WAKEUPS_LOST: u32 = 5;
    /// Frames of a peer's port from an address that is neither listed nor claimed, of a peer that may forward: they are
    /// the world's.
    pub const FOREIGN_SOURCE: u32 = 6;
    /// Unicast frames that pass a peer's port to or from a host that nothing identifies, neither an address nor a MAC. No ARP
    /// or neighbour discovery.
    pub const UNNAMED: u32 = 7;
    /// Addresses that a peer's port claimed beyond [`MOST_CLAIMS`](crate::key::MOST_CLAIMS): nobody has them.
    pub const UNCLAIMED: u32 = 8;
    /// How many counters there are.
    pub const COUNT: u32 = 9;
    /// The names of the counters, by index.
    pub const NAMES: [&str; COUNT as usize] = [
        "judged",
        "dropped",
        "unparsed",
        "protected",
        "stamps_lost",
        "wakeups_lost",
        "foreign_source",
        "unnamed",
        "unclaimed",
    ];
}

/// A wake-up: something was stamped for this slot. The daemon reads the maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakeup {
    /// The slot, [`Wakeup::LEASE`], [`Wakeup::TAKEN_OVER`], [`Wakeup::BOUND`] or [`Wakeup::MULTIPATH`].
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
}

impl Wakeup {
    /// The slot number of the wake-up that announces a lapsed lease.
    pub const LEASE: u32 = u32::MAX;
    /// The slot number of the wake-up that comes when a peer is seen to hold an address that the config lists for another.
    pub const TAKEN_OVER: u32 = u32::MAX - 1;
    /// The slot number of the wake-up that comes when a process has bound a port of a peer on this machine; the generation
    /// is the process.
    pub const BOUND: u32 = u32::MAX - 2;
    /// The slot number of the wake-up that comes when a process of a peer on this machine makes a socket of multipath TCP;
    /// the generation is the peer.
    pub const MULTIPATH: u32 = u32::MAX - 3;
}

/// Clock and random number of a test run (see [`crate::feature::TEST`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestInput {
    /// The instant of the exact clock.
    pub now: u64,
    /// The instant of the coarse clock.
    pub coarse: u64,
    /// The next random number.
    pub random: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<LinkStamps>() == 104);
const _: () = assert!(size_of::<OverlapStamps>() == 48);
const _: () = assert!(size_of::<Stranger>() == 40);
const _: () = assert!(size_of::<Lease>() == 48);
const _: () = assert!(size_of::<Wakeup>() == 8);
const _: () = assert!(size_of::<TestInput>() == 24);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (sizes asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::LinkStamps {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::OverlapStamps {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Stranger {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Lease {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Wakeup {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::TestInput {}
}
