//! The parts that messages of nftables about chains share.

use std::io;

use super::raw::{DUMPS, RawSocket, attributes, interrupted, u32_at};

pub const SUBSYSTEM: u16 = 10 << 8;
pub const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
const GENERATION: u16 = 1;
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

/// Reads lists of nftables of the calling thread's namespace, again if anything changed there meanwhile: the kernel marks a list
/// that changed between two parts of it, and not one that changed while its last part was written. `None` where the kernel
/// has no nftables.
///
/// # Errors
/// The error of `read`; `Interrupted` if something changed each time.
pub fn unchanged<T>(mut read: impl FnMut(&RawSocket) -> io::Result<T>) -> io::Result<Option<T>> {
    for _ in 0..DUMPS {
        let asked = RawSocket::open(libc::NETLINK_NETFILTER)
            .and_then(|socket| generation(&socket).map(|before| (socket, before)));
        let (socket, before) = match asked {
            Err(error) if is_absent(&error) => return Ok(None),
            asked => asked?,
        };
        let found = read(&socket)?;
        // Asked over another socket: this one may be in the middle of a list that was left.
        if generation(&RawSocket::open(libc::NETLINK_NETFILTER)?)? == before {
            return Ok(Some(found));
        }
    }
    Err(interrupted())
}

/// How often the nftables of a namespace have changed.
fn generation(socket: &RawSocket) -> io::Result<Option<u32>> {
    let mut found = None;
    // All families, version 0, no resource.
    socket.send(GET_GENERATION, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &[0; 4])?;
    socket.receive(|kind, body| {
        if kind == NEW_GENERATION {
            found = body.get(4..).and_then(|body| number(body, GENERATION));
        }
    })?;
    Ok(found)
}

/// The payload of the first attribute of a type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

/// A number in the network's byte order, as nftables has them.
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(|payload| u32_at(payload, 0)).map(u32::from_be)
}
