//! Patterns of successful responses on the wire. Evidence, never the verdict: a match may be a
//! retransmission.

pub mod http2;

use crate::packet::Bytes;

/// The longest prefix that an endpoint can have.
pub const MAX_PREFIX: usize = 16;

/// An endpoint's pattern.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The endpoint's wire id, the key of its stamps.
    pub id: u32,
    /// A constant of [`kind`].
    pub kind: u8,
    /// How many bytes of `prefix` count.
    pub prefix_len: u8,
    /// Zero.
    pub pad: u16,
    /// The bytes that the payload begins with.
    pub prefix: [u8; MAX_PREFIX],
}

/// Kinds of patterns.
pub mod kind {
    /// Any payload.
    pub const PAYLOAD: u8 = 0;
    /// An HTTP/1 status line with 2xx.
    pub const HTTP1: u8 = 1;
    /// HTTP/2 HEADERS with `:status 200` followed by DATA.
    pub const HTTP2: u8 = 2;
    /// A byte prefix.
    pub const PREFIX: u8 = 3;
}

const _: () = assert!(size_of::<Wire>() == 24);

/// The number of bytes that [`http1_ok`] reads.
pub const HTTP1_LEN: u32 = 10;

/// Whether a payload begins with an HTTP/1 status line of the 2xx class.
#[inline(always)]
pub fn http1_ok<B: Bytes>(bytes: &B, at: u32) -> bool {
    matches!(bytes.read::<10>(at), Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', b'2']))
}

/// Whether a payload begins with a wire's prefix.
#[inline(always)]
pub fn prefix_ok<B: Bytes>(bytes: &B, at: u32, wire: &Wire) -> bool {
    for i in 0..MAX_PREFIX {
        if i >= wire.prefix_len as usize {
            break;
        }
        match bytes.read::<1>(at + i as u32) {
            Some([byte]) if byte == wire.prefix[i] => {}
            _ => return false,
        }
    }
    true
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (size asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::Wire {}
}
