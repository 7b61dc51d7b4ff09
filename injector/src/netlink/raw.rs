//! Netlink messages as bytes: for what no parser of a library knows whole.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// How long a message's header is.
pub const HEADER_LEN: usize = 16;

/// A socket of the calling thread's namespace.
pub struct RawSocket(OwnedFd);

impl AsRawFd for RawSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl RawSocket {
    /// Opens one of a protocol, such as `NETLINK_ROUTE`.
    pub fn open(protocol: libc::c_int) -> io::Result<Self> {
        // SAFETY: takes numbers, answers a new descriptor or -1.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Joins a multicast group from 1 to 32; from then on nothing waits for messages, and [`Self::notices`] takes those that are there.
    pub fn join(&self, group: u32) -> io::Result<()> {
        // SAFETY: numbers alone, and zero is one.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        // What is only a member, and not bound, gets nothing.
        address.nl_groups = 1 << (group - 1);
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer and the length are those of `address`, which outlives the call.
        let bound = unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        rustix::io::ioctl_fionbio(&self.0, true)?;
        Ok(())
    }

    /// The messages that are there: `each` gets the type and the body of every one.
    ///
    /// # Errors
    /// `ENOBUFS` if some were lost.
    pub fn notices(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            // SAFETY: the pointer and the length are those of `buffer`, which outlives the call.
            let read = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(read) = usize::try_from(read) else {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
            };
            let mut rest = &buffer[..read];
            while let (Some(len), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
                let Some(body) = rest.get(HEADER_LEN..len as usize) else { break };
                each(kind, body);
                rest = rest.get(align(len as usize)..).unwrap_or_default();
            }
        }
    }

    /// Sends one message.
    pub fn send(&self, kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
        self.send_bytes(&message(kind, flags, body))
    }

    /// Sends several messages by one system call and waits until the kernel has answered each of them. It works through
    /// all of them before the call returns, so that no death of this process falls between two.
    ///
    /// # Errors
    /// If they can't be sent, or not be answered. The inner results are the kernel's answers, in the messages' order.
    pub fn send_all(&self, messages: &[(u16, Vec<u8>)], flags: i32) -> io::Result<Vec<io::Result<()>>> {
        let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let bytes: Vec<u8> = messages.iter().flat_map(|(kind, body)| message(*kind, flags, body)).collect();
        self.send_bytes(&bytes)?;
        Ok(messages.iter().map(|_| self.receive(|_, _| {})).collect())
    }

    fn send_bytes(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of `message`, which outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads messages until the answer is complete; `each` gets the type and the body of every one.
    pub fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.receive_while(|kind, body| {
            each(kind, body);
            true
        })
    }

    /// The same, until `each` answers `false`: the rest of the answer is left unread, and the socket is of no more use.
    pub fn receive_while(&self, mut each: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            // SAFETY: the pointer and the length are those of `buffer`, which outlives the call.
            let read = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
            let mut rest = &buffer[..read];
            while let (Some(len), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
                let Some(body) = rest.get(HEADER_LEN..len as usize) else { break };
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match u32_at(body, 0).map_or(libc::EIO, |code| -(code.cast_signed())) {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code)),
                        };
                    }
                    _ if !each(kind, body) => return Ok(()),
                    _ => {}
                }
                rest = rest.get(align(len as usize)..).unwrap_or_default();
            }
        }
    }
}

/// A message with its header, padded for one behind it.
fn message(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend(((HEADER_LEN + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    // A sequence number, and the kernel's port.
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message.resize(align(message.len()), 0);
    message
}

/// An attribute, padded for one behind it.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::with_capacity(align(4 + payload.len()));
    attribute.extend(((4 + payload.len()) as u16).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(payload);
    attribute.resize(align(attribute.len()), 0);
    attribute
}

fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// A number in the host's byte order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The attributes of a message: type and payload.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        // The two high bits are flags of the attribute, not part of its type.
        let kind = u16_at(rest, 2)? & 0x3fff;
        let payload = rest.get(4..len)?;
        rest = rest.get(align(len)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// A text attribute without its final zero byte.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}
