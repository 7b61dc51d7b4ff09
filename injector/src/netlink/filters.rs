//! Filters of the clsact qdisc, as the kernel lists them: raw netlink, because each filter must be counted, also one
//! of a kind that no parser knows. All calls speak to the calling thread's namespace.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::raw::{RawSocket, attribute, attributes, text, u32_at};

const TCMSG_LEN: usize = 20;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TCA_BPF_ID: u16 = 11;

/// The side that a filter is on: ingress or egress of the clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Packets that the interface receives.
    Ingress,
    /// Packets that the interface sends.
    Egress,
}

impl Side {
    /// Both sides.
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

/// A filter to be made: a program that answers what happens to the packet.
pub struct NewFilter<'a> {
    /// The side.
    pub side: Side,
    /// Its priority, and
    pub priority: u16,
    /// its handle within that.
    pub handle: u32,
    /// The program,
    pub program: BorrowedFd<'a>,
    /// the program's id,
    pub id: u32,
    /// and the name that it is listed by.
    pub name: &'a str,
}

impl NewFilter<'_> {
    /// Priority in the high half, and every protocol in the low half.
    fn info(&self) -> u32 {
        u32::from(self.priority) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be())
    }

    fn message(&self, index: u32) -> (u16, Vec<u8>) {
        let mut body = tc_message(index, self.handle, self.side.parent(), self.info());
        body.extend(attribute(TCA_KIND, b"bpf\0"));
        let program = self.program.as_raw_fd().to_ne_bytes();
        let name = [self.name.as_bytes(), b"\0"].concat();
        let options = [
            attribute(TCA_BPF_FD, &program),
            attribute(TCA_BPF_NAME, &name),
            attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
        ];
        body.extend(attribute(TCA_OPTIONS, &options.concat()));
        (libc::RTM_NEWTFILTER, body)
    }

    /// The filter that names it to [`Tc::remove_all`].
    pub fn made(&self) -> Filter {
        Filter {
            side: self.side,
            info: self.info(),
            handle: self.handle,
            kind: "bpf".to_owned(),
            name: Some(self.name.to_owned()),
            program: Some(self.id),
        }
    }
}

/// Whether the qdisc that filters hang in is made with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qdisc {
    /// The qdisc is there already.
    Found,
    /// The qdisc is made.
    Made,
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
        let question = tc_message(index, 0, side.parent(), 0);
        let found = self.0.dump(libc::RTM_GETTFILTER, &question, |found: &mut Vec<Filter>, kind, body| {
            if kind == libc::RTM_NEWTFILTER {
                found.extend(filter(side, body));
            }
        });
        found.or_else(|error| match error.raw_os_error() {
            // The interface is gone, or has no such qdisc.
            Some(libc::ENODEV | libc::EINVAL | libc::ENOENT) => Ok(Vec::new()),
            _ => Err(error),
        })
    }

    /// The kind of the qdisc from which an interface's ingress filters hang: `clsact`, or `ingress`, which has that place
    /// too and takes no filters of egress. `None` if there is none.
    pub fn ingress_qdisc(&self, index: u32) -> io::Result<Option<String>> {
        // Without an echo the answer goes to those who have asked for news of qdiscs, and not to us.
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_ECHO;
        self.send(libc::RTM_GETQDISC, flags, index, CLSACT_HANDLE, CLSACT, 0)?;
        let mut found = None;
        let asked = self.receive(|_, body| {
            let mut attributes = attributes(body.get(TCMSG_LEN..).unwrap_or_default());
            found = attributes.find(|(kind, _)| *kind == TCA_KIND).map(|(_, payload)| text(payload));
        });
        match asked {
            Ok(()) => Ok(found),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds filters, and with them the qdisc that they hang in, if it is to be made: all of it by one system call. If one
    /// can't be made, those that were are taken off again.
    ///
    /// # Errors
    /// The kernel's first refusal; `EEXIST` if a filter has that place already, or if a qdisc that was to be made is there.
    pub fn add(&self, index: u32, qdisc: Qdisc, filters: &[NewFilter<'_>]) -> io::Result<()> {
        let mut messages: Vec<(u16, Vec<u8>)> = Vec::new();
        if qdisc == Qdisc::Made {
            let mut body = tc_message(index, CLSACT_HANDLE, CLSACT, 0);
            body.extend(attribute(TCA_KIND, b"clsact\0"));
            messages.push((libc::RTM_NEWQDISC, body));
        }
        messages.extend(filters.iter().map(|filter| filter.message(index)));
        let mut answers = self.0.send_all(&messages, libc::NLM_F_CREATE | libc::NLM_F_EXCL)?;
        if answers.iter().all(Result::is_ok) {
            return Ok(());
        }
        let of_filters = answers.split_off(answers.len() - filters.len());
        let made = filters.iter().zip(&of_filters).filter(|(_, answer)| answer.is_ok());
        let made: Vec<Filter> = made.map(|(filter, _)| filter.made()).collect();
        let is_ours = answers.iter().any(Result::is_ok);
        self.remove_all(index, &made, if is_ours { Qdisc::Made } else { Qdisc::Found })?;
        answers.into_iter().chain(of_filters).collect()
    }

    /// Removes exactly these filters, as far as they are still there with their programs; and the qdisc, if it was made
    /// with them and nobody else's filter is in it: by one system call, so that a death in between leaves no qdisc that
    /// nobody is known to have made. Whether the qdisc went.
    pub fn remove_all(&self, index: u32, ours: &[Filter], qdisc: Qdisc) -> io::Result<bool> {
        let mut found = self.filters(index, Side::Ingress)?;
        found.extend(self.filters(index, Side::Egress)?);
        // The kernel lists each priority too, with the handle 0.
        found.retain(|filter| filter.handle != 0);
        let key = |filter: &Filter| (filter.side, filter.info, filter.handle, filter.program);
        let is_ours = |filter: &Filter| ours.iter().any(|ours| key(ours) == key(filter));
        let (ours, others): (Vec<Filter>, Vec<Filter>) = found.into_iter().partition(is_ours);
        if ours.is_empty() {
            return Ok(false);
        }
        if qdisc == Qdisc::Made && others.is_empty() {
            return self.remove_clsact(index).map(|()| true);
        }
        let remove = |filter: &Filter| {
            let parent = filter.side.parent();
            (libc::RTM_DELTFILTER, tc_message(index, filter.handle, parent, filter.info))
        };
        let messages: Vec<(u16, Vec<u8>)> = ours.iter().map(remove).collect();
        let answers = self.0.send_all(&messages, 0)?;
        answers.into_iter().collect::<io::Result<()>>().map(|()| false)
    }

    /// Removes an interface's clsact qdisc, with whatever filters it still has.
    fn remove_clsact(&self, index: u32) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.send(libc::RTM_DELQDISC, flags, index, CLSACT_HANDLE, CLSACT, 0)?;
        self.receive(|_, _| {})
    }

    fn send(&self, kind: u16, flags: i32, index: u32, handle: u32, parent: u32, info: u32) -> io::Result<()> {
        self.0.send(kind, flags, &tc_message(index, handle, parent, info))
    }

    fn receive(&self, each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.0.receive(each)
    }
}

fn tc_message(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index, handle, parent, info].map(u32::to_ne_bytes).concat()
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
