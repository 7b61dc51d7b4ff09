//! Map keys. Addresses and MACs are in wire order, everything else in host order.

/// An IP address as 16 bytes in wire order; IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`).
///
/// In words, as they lie in memory: bytes are copied and compared one at a time in BPF, which took a third of a
/// verdict's time.
pub type Address = [u32; 4];

/// The halves of an address as they lie in the memory of a little-endian machine. Where the address is aligned to eight
/// bytes, each is one load.
#[inline(always)]
pub const fn halves(address: &Address) -> [u64; 2] {
    [(address[1] as u64) << 32 | address[0] as u64, (address[3] as u64) << 32 | address[2] as u64]
}

/// The bytes before an IPv4 address in its mapped form.
const MAPPED: [u32; 3] = [0, 0, 0xffff_u32.to_be()];

/// The IPv4-mapped form of an IPv4 address, which is a word as it lies in memory.
#[inline(always)]
pub const fn mapped(v4: u32) -> Address {
    [MAPPED[0], MAPPED[1], MAPPED[2], v4]
}

/// An address from its 16 bytes in wire order.
pub fn whole(bytes: [u8; 16]) -> Address {
    let words = bytes.as_chunks().0;
    [0, 1, 2, 3].map(|index| u32::from_ne_bytes(words[index]))
}

/// Whether an address is one of IPv4.
#[inline(always)]
pub const fn is_mapped(address: &Address) -> bool {
    address[0] == MAPPED[0] && address[1] == MAPPED[1] && address[2] == MAPPED[2]
}

/// Whether an address can't name anyone: unspecified, or link-local, which is another's on another link.
#[inline(always)]
pub const fn is_nameless(address: &Address) -> bool {
    let high = u32::from_be(address[0]);
    if is_mapped(address) {
        let v4 = u32::from_be(address[3]);
        return v4 == 0 || v4 >> 16 == 0xa9fe;
    }
    let is_zero = address[0] | address[1] | address[2] | address[3] == 0;
    is_zero || high & 0xffc0_0000 == 0xfe80_0000
}

/// The values of the map of prefixes: the peer in the low half, and the length of the prefix, in bits of an
/// [`Address`].
pub mod prefix {
    /// Makes a value of a peer and a length.
    pub const fn value(peer: u16, length: u8) -> u32 {
        (length as u32) << 16 | peer as u32
    }

    /// The length.
    #[inline(always)]
    pub const fn length(value: u32) -> u32 {
        value >> 16
    }

    /// The peer.
    #[inline(always)]
    pub const fn peer(value: u32) -> u32 {
        value & 0xffff
    }
}

/// The value that replaces a peer in the table of exact addresses and in the map of prefixes: the address
/// moves between peers (`vip:`), and only ports and MACs name its holder.
pub const VIP: u32 = 0xffff;

/// The value that replaces a peer in the map of learned MACs: several peers' ports sent frames from the MAC,
/// so it names nobody. In the map of MACs that are known: someone else has the MAC too, whatever is learned
/// of it.
pub const NOBODY: u32 = 0xfffe;
/// A flag beside the peer of a process: the process became the peer's by a port of its own, and not by its
/// parent or because the daemon said so. The process is the peer's no longer once it has no socket at such a
/// port.
pub const BY_PORT: u32 = 1 << 16;

/// The value that replaces the receiver of a [`LinkKey`]: all who receive a group frame that was dropped at
/// its sender's port.
pub const GROUP: u16 = 0xfffd;

/// The proved facts about an interface: which one peer is behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The peer, 0 for none.
    pub peer: u32,
    /// Bits of [`port`].
    pub flags: u32,
    /// The last MAC that was learned here, in the low 48 bits as it lies in memory; 0 for none. Written by the programs.
    pub last: u64,
    /// When it was learned, in eights of the kernel's ticks. Written by the programs.
    pub learned_at: u64,
    /// How many addresses that nobody had claimed before were claimed here since `claims_since`: see [`MOST_CLAIMS`]. Written by
    /// the programs.
    pub claims: u64,
    /// Since when they are counted; nanoseconds of `CLOCK_MONOTONIC`. Written by the programs.
    pub claims_since: u64,
}

/// Flags of a [`Port`].
pub mod port {
    /// The interface is the peer's own NIC: the peer sends at egress. Otherwise it is the other end of the peer's link.
    pub const OWN: u32 = 1;
    /// No other peer is behind it: it names frames.
    pub const NAMES: u32 = 1 << 1;
    /// Addresses are learned from the peer's ARP and neighbour discovery: its namespace is not seen.
    pub const LEARNS: u32 = 1 << 2;
}

/// Flags of a peer, by its id; those of the world are about all peers.
pub mod traits {
    /// Its port and its MACs name routable addresses too: it forwards for nobody.
    pub const PLAIN: u32 = 1;
    /// The peer is known to forward.
    pub const FORWARDS: u32 = 1 << 1;
    /// A hooked port is bound to it.
    pub const BOUND: u32 = 1 << 2;
    /// Of the world: every peer has [`BOUND`].
    pub const ALL_BOUND: u32 = 1 << 3;
    /// The peer forwards, and holds an address that other peers hold too: see [`super::holders`].
    pub const SHARES: u32 = 1 << 5;
    /// Of the world: addresses are learned from the frames of some peer, so that every hook reads who claims
    /// them.
    pub const LEARNS: u32 = 1 << 4;
    /// All its MAC addresses are known, and are nobody else's: a unicast frame to another one is not for it.
    pub const MACS_KNOWN: u32 = 1 << 6;
    /// [`PLAIN`] by all that is seen, but its host may forward: a packet at its port on its way to another peer shows that.
    pub const MAY_FORWARD: u32 = 1 << 7;
}

/// The owner of a MAC address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacOwner {
    /// The peer, or [`NOBODY`].
    pub peer: u32,
    /// 1 if the config says so; 0 if it is that of a NIC that is seen.
    pub sure: u32,
}

/// A MAC address that was learned from frames that came out of a peer's port.
///
/// The MAC address names the sender of a frame for [`PASSAGE`] after the last such frame, since a frame of
/// the peer passes that port first, and the receiver for [`MAC_LIFE`], or until a sender elsewhere is seen
/// with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The peer, or [`NOBODY`].
    pub peer: u32,
    /// Zero.
    pub pad: u32,
    /// When a frame with it came out of the peer's port last, nanoseconds of `CLOCK_MONOTONIC`, and to within eight ticks of
    /// the kernel (80 ms at most); 0 once a sender elsewhere was seen with it.
    pub seen: u64,
}

/// How long a frame may take from its sender's port to another hook, in nanoseconds.
pub const PASSAGE: u64 = 250_000_000;
/// How long a learned MAC names the receiver of a frame, in nanoseconds.
pub const MAC_LIFE: u64 = 30_000_000_000;

/// Who claims an address that the config does not list.
///
/// A claim that was learned from frames names an end only if the frame passes the peer's port or has a MAC address of the
/// peer, and only for [`CLAIM_LIFE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The peer that claimed it last; 0 if someone claimed it last who is no peer; with `held`, [`VIP`] if several peers hold it.
    pub peer: u32,
    /// 1 if the address is seen on a NIC of the peer: such a claim does not age.
    pub held: u32,
    /// When it was last claimed, or used by a peer that forwards for nobody; nanoseconds of `CLOCK_MONOTONIC`. With `held`, when
    /// the peer claimed it last by a frame, if it did.
    pub at: u64,
    /// Until when it is nobody's, since two peers claimed it; nanoseconds of `CLOCK_MONOTONIC`. With `held`, until when it is
    /// the peer's only at the peer's port, since someone else claimed it; `u64::MAX` if someone else is seen to hold it.
    pub contested_until: u64,
    /// The MAC address that it was last claimed from, as in [`Port::last`]. If several peers hold it, those of them that forward,
    /// as [`holders`] has them.
    pub mac: u64,
}

/// The peers that forward and hold an address that other peers hold too, in a word.
pub mod holders {
    /// More peers than fit: it may be any peer.
    pub const ANY: u64 = u64::MAX;

    /// The peers' ids in one word; [`ANY`] if there are more than four.
    pub fn packed(peers: impl Iterator<Item = u16>) -> u64 {
        let packed = peers.fold((0_u64, 0), |(all, count), peer| (all << 16 | u64::from(peer), count + 1));
        if packed.1 > 4 { ANY } else { packed.0 }
    }

    /// Whether a peer is one of them for certain.
    #[inline(always)]
    pub const fn has(holders: u64, peer: u32) -> bool {
        let peer = peer as u64;
        holders != ANY
            && (holders & 0xffff == peer
                || holders >> 16 & 0xffff == peer
                || holders >> 32 & 0xffff == peer
                || holders >> 48 == peer)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn four_peers_at_most() {
            for count in 0..5 {
                let all = packed(1..=count);
                for peer in 1..9 {
                    assert_eq!(has(all, peer), peer <= u32::from(count), "{peer} of {count}");
                }
            }
            assert_eq!(packed(1..=5), ANY);
            assert!(!(1..9).any(|peer| has(ANY, peer)));
        }
    }
}

/// How long two claims of one address contest each other, in nanoseconds.
pub const CONTEST: u64 = 60_000_000_000;
/// How long a claim that was learned lasts, in nanoseconds.
pub const CLAIM_LIFE: u64 = 600_000_000_000;
/// How many new addresses may be claimed at one port within [`CLAIM_LIFE`]: a flood of claims by one peer must not evict those of
/// the others from a map of 16,384.
pub const MOST_CLAIMS: u64 = 512;

/// A link of a partition, in the map of [`crate::record::LinkStamps`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey {
    /// The partition's generation.
    pub generation: u32,
    /// Its slot.
    pub slot: u32,
    /// The sending peer.
    pub src: u16,
    /// The receiving peer.
    pub dst: u16,
}

/// A link that several partitions cut at once, in the map of [`crate::record::OverlapStamps`].
///
/// A slot is given to another partition only after the daemon has taken its bit out of this map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OverlapKey {
    /// Their slots, a bit each.
    pub slots: u32,
    /// The sending peer.
    pub src: u16,
    /// The receiving peer, as in [`LinkKey`].
    pub dst: u16,
}

/// The value, in the map of the interfaces that roll loss, of a peer whose loss several interfaces roll: see
/// [`RollKey`].
pub const ROLL_SEVERAL: u32 = u32::MAX;

/// Someone whom no address names, and the peer that exchanges unicast frames with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StrangerKey {
    /// The stranger's MAC address; zero with [`stranger::SPOKEN_FOR`].
    pub mac: [u8; 6],
    /// The peer in the low bits, and bits of [`stranger`].
    pub peer: u16,
}

/// Flags of a [`StrangerKey`].
pub mod stranger {
    /// The peer is the sender; otherwise it is the receiver.
    pub const TO: u16 = 1 << 15;
    /// The frames left the peer's port from an address that is neither listed nor claimed.
    pub const SPOKEN_FOR: u16 = 1 << 14;
    /// The bits of the peer.
    pub const PEER: u16 = SPOKEN_FOR - 1;
}

/// How many interface ids the programs know; 0 is no interface's.
pub const INTERFACE_IDS: u32 = 1 << 14;

/// An interface of a peer whose loss several interfaces roll.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RollKey {
    /// The peer.
    pub peer: u32,
    /// The interface's id.
    pub interface: u32,
}

/// An interface for programs that are on many: its index is its own within its namespace alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceKey {
    /// The namespace, by the number that its programs have for it.
    pub space: u32,
    /// The interface's index there.
    pub index: u32,
}

/// An endpoint as seen by one partition, in the map of first responses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResponseKey {
    /// The partition's generation.
    pub generation: u32,
    /// Its slot.
    pub slot: u32,
    /// The endpoint's wire id.
    pub endpoint: u32,
}

/// The address and the port that an endpoint answers from.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// Its address.
    pub address: Address,
    /// Its TCP port.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// A stream in one direction of a TCP connection, or a conversation, whose key is the same for both directions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The sender.
    pub src: Address,
    /// The receiver.
    pub dst: Address,
    /// The sender's port; of a conversation by another protocol than TCP, the peer.
    pub sport: u16,
    /// The receiver's port, or the peer.
    pub dport: u16,
    /// The HTTP/2 stream; of a conversation, the generation of the partition that is watched, with [`Self::DATAGRAMS`].
    pub stream: u32,
}

impl StreamKey {
    /// Set in [`Self::stream`] for a conversation by another protocol than TCP, so that its peers are not read as ports.
    pub const DATAGRAMS: u32 = 1 << 31;
}

/// A port of a peer on this machine, as the config has it; zero for the address or the port is any.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenKey {
    /// The address.
    pub address: Address,
    /// The namespace, by the number that the programs have for it.
    pub space: u16,
    /// The port.
    pub port: u16,
}

/// A port that a socket on this machine has, or had; zero for the address is any.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey {
    /// The address.
    pub address: Address,
    /// The namespace, by the number that the programs have for it.
    pub space: u16,
    /// The port.
    pub port: u16,
    /// The IP protocol.
    pub protocol: u32,
}

/// The last time that a socket was seen to get a port, or to send by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortUse {
    /// The instant, nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// The peer whose socket it was; 0 if it was no peer's.
    pub peer: u32,
    /// Zero.
    pub pad: u32,
}

impl PortUse {
    /// The peer that has a port of an address, by the last socket with that address and by the last one with any address:
    /// the later of the two has it, since it could not have the port while the other one kept it to itself. 0 is nobody.
    #[inline(always)]
    pub fn latest(exact: Option<&Self>, any: Option<&Self>) -> u32 {
        match (exact, any) {
            (Some(exact), Some(any)) if any.at > exact.at => any.peer,
            (Some(exact), _) => exact.peer,
            (None, Some(any)) => any.peer,
            (None, None) => 0,
        }
    }
}

const _: () = assert!(size_of::<ListenKey>() == 20);
const _: () = assert!(size_of::<PortUse>() == 16);
const _: () = assert!(size_of::<PortKey>() == 24);
const _: () = assert!(size_of::<DeviceKey>() == 8);
const _: () = assert!(size_of::<Port>() == 40);
// The programs read the peer and its flags as one word of eight bytes.
const _: () = assert!(align_of::<Port>() == 8 && core::mem::offset_of!(Port, peer) == 0);
const _: () = assert!(core::mem::offset_of!(Port, flags) == 4);
const _: () = assert!(size_of::<Learned>() == 16);
const _: () = assert!(size_of::<MacOwner>() == 8);
const _: () = assert!(size_of::<Claim>() == 32);
const _: () = assert!(size_of::<LinkKey>() == 12);
const _: () = assert!(size_of::<OverlapKey>() == 8);
const _: () = assert!(size_of::<StrangerKey>() == 8);
const _: () = assert!(size_of::<RollKey>() == 8);
const _: () = assert!(size_of::<ResponseKey>() == 12);
const _: () = assert!(size_of::<EndpointKey>() == 20);
const _: () = assert!(size_of::<StreamKey>() == 40);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (sizes asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::LinkKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::OverlapKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Port {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::MacOwner {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Claim {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Learned {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::StrangerKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::RollKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::DeviceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ListenKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PortKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PortUse {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ResponseKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::EndpointKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::StreamKey {}
}
