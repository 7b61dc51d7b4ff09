//! What messages of nftables about chains have in common.

use std::io;

use super::raw::{attributes, u32_at};

pub const SUBSYSTEM: u16 = 10 << 8;
pub const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub const GET_CHAIN: u16 = SUBSYSTEM | 4;
pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;
pub const CHAIN_HOOK: u16 = 4;
pub const HOOK_NUMBER: u16 = 1;

/// Whether an error of a socket's opening, or of the first question about nftables, says that the kernel has none. A later
/// error says nothing of the kind.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
    )
}

/// The payload of the first attribute of a type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

/// A number in the network's byte order, as nftables has them.
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(|payload| u32_at(payload, 0)).map(u32::from_be)
}
