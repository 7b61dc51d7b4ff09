//! Map keys. Addresses and MACs are in wire order, everything else in host order.

/// An IP address as 16 bytes in wire order; IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`).
pub type Address = [u8; 16];

/// The IPv4-mapped form of an IPv4 address.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// One link of one partition, in the map of [`crate::record::LinkStamps`].
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

/// One endpoint as seen by one partition, in the map of first responses.
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

/// Where an endpoint answers from.
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

/// One direction of a TCP connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The sender.
    pub src: Address,
    /// The receiver.
    pub dst: Address,
    /// The sender's port.
    pub sport: u16,
    /// The receiver's port.
    pub dport: u16,
}

const _: () = assert!(size_of::<LinkKey>() == 12);
const _: () = assert!(size_of::<ResponseKey>() == 12);
const _: () = assert!(size_of::<EndpointKey>() == 20);
const _: () = assert!(size_of::<FlowKey>() == 36);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (sizes asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::LinkKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ResponseKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::EndpointKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey {}
}
