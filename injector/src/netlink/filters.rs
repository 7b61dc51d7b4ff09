//! Filters of the clsact qdisc, as the kernel lists them: raw netlink, because each filter must be counted, also one
//! of a kind that no parser knows. All calls speak to the calling thread's namespace.

use std::io;

use super::raw::{RawSocket, attributes, text, u32_at};

const TCMSG_LEN: usize = 20;
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
pub struct Tc(RawSocket);

impl Tc {
    /// Opens one in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        RawSocket::open(libc::NETLINK_ROUTE).map(Self)
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
        let words = [0, index, handle, parent, info];
        self.0.send(kind, flags, &words.map(u32::to_ne_bytes).concat())
    }

    fn receive(&self, each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.0.receive(each)
    }
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
