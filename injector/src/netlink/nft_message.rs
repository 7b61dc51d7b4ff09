//! What messages of nftables about chains have in common.

use std::io;

pub const SUBSYSTEM: u16 = 10 << 8;
pub const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub const GET_CHAIN: u16 = SUBSYSTEM | 4;
pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;
pub const CHAIN_HOOK: u16 = 4;
pub const HOOK_NUMBER: u16 = 1;

/// Whether an error says that the kernel has no nftables.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | libc::EAFNOSUPPORT)
    )
}
