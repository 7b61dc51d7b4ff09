//! Filters of the clsact qdisc, as the kernel lists them: raw netlink, because each filter must be counted, also one
//! of a kind that no parser knows. All calls speak to the calling thread's namespace.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const TCMSG_LEN: usize = 20;
const HEADER_LEN: usize = 16;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

/// Where a filter hangs: ingress or egress of the clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its side.
    pub side: Side,
    /// Priority in the high half, protocol in the low half.
    pub info: u32,
    /// Its handle within the priority; 0 is the entry of the priority itself.
    pub handle: u32,
    /// `bpf`, `u32`, `flower`, …
    pub kind: String,
    /// The name of its program.
    pub name: Option<String>,
    /// The id of its program.
    pub program: Option<u32>,
}

/// A request socket.
pub struct Tc(OwnedFd);

impl Tc {
    /// Opens one in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        // SAFETY: takes numbers, answers a new descriptor or -1.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Every filter on one side of an interface's clsact qdisc; none if it has no such qdisc.
    pub fn filters(&self, index: u32, side: Side) -> io::Result<Vec<Filter>> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        self.send(libc::RTM_GETTFILTER, flags, index, 0, side.parent(), 0)?;
        let mut found = Vec::new();
        let end = self.receive(|kind, body| {
            if kind == libc::RTM_NEWTFILTER
                && let Some(filter) = filter(side, body)
            {
                found.push(filter);
            }
        });
        match end {
            Ok(()) => Ok(found),
            // The interface is gone, or has no such qdisc.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENOENT)) =>
            {
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an interface has filters on either side.
    pub fn has_filters(&self, index: u32) -> io::Result<bool> {
        for side in Side::ALL {
            // The kernel lists each priority too (handle 0), and drops one with its last filter.
            if !self.filters(index, side)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes exactly one filter.
    pub fn remove(&self, index: u32, filter: &Filter) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.send(libc::RTM_DELTFILTER, flags, index, filter.handle, filter.side.parent(), filter.info)?;
        self.receive(|_, _| {})
    }

    /// Removes an interface's clsact qdisc, with whatever filters it still has.
    pub fn remove_clsact(&self, index: u32) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.send(libc::RTM_DELQDISC, flags, index, CLSACT_HANDLE, CLSACT, 0)?;
        self.receive(|_, _| {})
    }

    fn send(&self, kind: u16, flags: i32, index: u32, handle: u32, parent: u32, info: u32) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER_LEN + TCMSG_LEN);
        message.extend(((HEADER_LEN + TCMSG_LEN) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        for word in [1, 0, 0, index, handle, parent, info] {
            message.extend(word.to_ne_bytes());
        }
        // SAFETY: the pointer and the length are those of `message`, which outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads messages until the answer is complete.
    fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
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
                    _ => each(kind, body),
                }
                rest = rest.get(align(len as usize)..).unwrap_or_default();
            }
        }
    }
}

fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The attributes of a message: type and payload.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        // The two high bits are flags of the attribute, not part of its type.
        let kind = u16_at(rest, 2)? & 0x3fff;
        let payload = rest.get(4..len)?;
        rest = rest.get(align(len)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn filter(side: Side, body: &[u8]) -> Option<Filter> {
    let mut filter = Filter {
        side,
        handle: u32_at(body, 8)?,
        info: u32_at(body, 16)?,
        kind: String::new(),
        name: None,
        program: None,
    };
    for (kind, payload) in attributes(body.get(TCMSG_LEN..)?) {
        match kind {
            TCA_KIND => filter.kind = text(payload),
            TCA_OPTIONS => {
                for (kind, payload) in attributes(payload) {
                    match kind {
                        TCA_BPF_NAME => filter.name = Some(text(payload)),
                        TCA_BPF_ID => filter.program = u32_at(payload, 0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(filter)
}
