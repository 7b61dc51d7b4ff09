//! Netlink messages as bytes: for what no parser of a library knows whole.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// How long a message's header is.
pub const HEADER_LEN: usize = 16;
/// How often a list is read at most that changes meanwhile.
pub const DUMPS: usize = 8;

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
        // A socket that is only a member, and not bound, gets nothing.
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
    /// `ENOBUFS` if some messages were lost.
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
    /// The messages can't be sent, or get no answer. The inner results are the kernel's answers, in the
    /// messages' order.
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

    /// Reads messages until the answer is complete; `each` gets the type and the body of every one. For a list, see
    /// [`Self::dump`].
    pub fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let all = |kind, body: &[u8]| {
            each(kind, body);
            true
        };
        self.answer(all).map(drop)
    }

    /// Asks for a list: `each` gets the type and the body of every entry, and adds to what is found. A list that changed while
    /// it was read may lack entries that were there all the time: it is read again.
    ///
    /// # Errors
    /// The kernel's refusal, also one in the middle of the list; `Interrupted` if the list changed each time.
    pub fn dump<T: Default>(
        &self,
        kind: u16,
        question: &[u8],
        mut each: impl FnMut(&mut T, u16, &[u8]),
    ) -> io::Result<T> {
        let all = |found: &mut T, kind, body: &[u8]| {
            each(found, kind, body);
            true
        };
        self.dump_while(kind, question, all)
    }

    /// [`Self::dump`] until `each` answers `false`: the rest of the list is left unread, and the socket is of
    /// no more use.
    pub fn dump_while<T: Default>(
        &self,
        kind: u16,
        question: &[u8],
        mut each: impl FnMut(&mut T, u16, &[u8]) -> bool,
    ) -> io::Result<T> {
        for _ in 0..DUMPS {
            self.send(kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, question)?;
            let mut found = T::default();
            if self.answer(|kind, body| each(&mut found, kind, body))? != End::Interrupted {
                return Ok(found);
            }
        }
        Err(interrupted())
    }

    /// The same as [`Self::dump`]. Other tasks of the thread get their turns between the parts of the answer: a list may be
    /// very long.
    pub async fn dump_in_turns<T: Default>(
        &self,
        kind: u16,
        question: &[u8],
        mut each: impl FnMut(&mut T, u16, &[u8]),
    ) -> io::Result<T> {
        for _ in 0..DUMPS {
            self.send(kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, question)?;
            let mut found = T::default();
            let mut answer = Answer::of(self);
            let end = loop {
                let part = answer.part(&mut |kind, body| {
                    each(&mut found, kind, body);
                    true
                })?;
                match part {
                    Some(end) => break end,
                    None => tokio::task::yield_now().await,
                }
            };
            if end != End::Interrupted {
                return Ok(found);
            }
        }
        Err(interrupted())
    }

    /// Reads an answer, until it is complete or `each` answers `false`.
    fn answer(&self, mut each: impl FnMut(u16, &[u8]) -> bool) -> io::Result<End> {
        let mut answer = Answer::of(self);
        loop {
            if let Some(end) = answer.part(&mut each)? {
                return Ok(end);
            }
        }
    }
}

/// An answer that is read part by part.
struct Answer<'a> {
    socket: &'a RawSocket,
    buffer: Vec<u8>,
    end: End,
}

impl<'a> Answer<'a> {
    fn of(socket: &'a RawSocket) -> Self {
        Self { socket, buffer: vec![0; 1 << 16], end: End::Whole }
    }

    /// Reads one datagram; how the answer ended, if it ends there or `each` answers `false`.
    fn part(&mut self, each: &mut impl FnMut(u16, &[u8]) -> bool) -> io::Result<Option<End>> {
        let buffer = &mut self.buffer;
        // SAFETY: the pointer and the length are those of `buffer`, which outlives the call.
        let read =
            unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
        let mut rest = &buffer[..read];
        while let (Some(len), Some(kind), Some(flags)) = (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6)) {
            let Some(body) = rest.get(HEADER_LEN..len as usize) else { break };
            if i32::from(flags) & libc::NLM_F_DUMP_INTR != 0 {
                self.end = End::Interrupted;
            }
            match i32::from(kind) {
                // The end of a list has the error that ended it, too.
                libc::NLMSG_DONE => return code(body, 0).map(|()| Some(self.end)),
                libc::NLMSG_ERROR => return code(body, -libc::EIO).map(|()| Some(self.end)),
                _ if !each(kind, body) => return Ok(Some(End::Left)),
                _ => {}
            }
            rest = rest.get(align(len as usize)..).unwrap_or_default();
        }
        Ok(None)
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The answer was read to its end.
    Whole,
    /// The answer was read to its end, and the list changed meanwhile.
    Interrupted,
    /// The rest was left unread.
    Left,
}

/// The result that a message begins with: zero or a negative error.
fn code(body: &[u8], missing: i32) -> io::Result<()> {
    match u32_at(body, 0).map_or(missing, u32::cast_signed) {
        0.. => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
    }
}

/// The error for a list that never stayed the same while it was read.
pub fn interrupted() -> io::Error {
    let text = format!("the kernel's list changed during each of {DUMPS} readings");
    io::Error::new(io::ErrorKind::Interrupted, text)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixDatagram;
    use std::rc::Rc;

    use super::*;

    const ENTRY: u16 = 20;

    /// A socket that the other one's datagrams answer.
    fn pair() -> (RawSocket, UnixDatagram) {
        let (ours, kernels) = UnixDatagram::pair().unwrap();
        (RawSocket(ours.into()), kernels)
    }

    fn end(flags: i32, code: i32) -> Vec<u8> {
        message(libc::NLMSG_DONE as u16, flags, &code.to_ne_bytes())
    }

    fn list(socket: &RawSocket) -> io::Result<Vec<u8>> {
        socket.dump(ENTRY, &[0; 4], |found: &mut Vec<u8>, kind, body| {
            assert_eq!(kind, ENTRY);
            found.push(body[0]);
        })
    }

    #[test]
    fn a_list_that_changed_while_it_was_read_is_read_again() {
        let (socket, kernel) = pair();
        let entry = |number: u8, flags| message(ENTRY, flags, &[number; 4]);
        // The second part of the first answer says that it may lack entries.
        kernel.send(&entry(1, 0)).unwrap();
        kernel.send(&[entry(3, libc::NLM_F_DUMP_INTR), end(0, 0)].concat()).unwrap();
        kernel.send(&[entry(1, 0), entry(2, 0), entry(3, 0), end(0, 0)].concat()).unwrap();
        assert_eq!(list(&socket).unwrap(), [1, 2, 3]);
        for _ in 0..DUMPS {
            kernel.send(&[entry(1, 0), end(libc::NLM_F_DUMP_INTR, 0)].concat()).unwrap();
        }
        let error = list(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
    }

    #[test]
    fn an_error_in_the_middle_of_a_list_is_no_end_of_it() {
        let (socket, kernel) = pair();
        kernel.send(&[message(ENTRY, 0, &[1; 4]), end(0, -libc::ENOMEM)].concat()).unwrap();
        assert_eq!(list(&socket).unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        let refusal = message(libc::NLMSG_ERROR as u16, 0, &(-libc::EPERM).to_ne_bytes());
        kernel.send(&refusal).unwrap();
        assert_eq!(list(&socket).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn other_tasks_get_their_turns_while_a_list_is_read() {
        let (socket, kernel) = pair();
        for part in 1..=3 {
            kernel.send(&message(ENTRY, 0, &[part; 4])).unwrap();
        }
        kernel.send(&[message(ENTRY, 0, &[4; 4]), end(0, 0)].concat()).unwrap();
        let turns = Rc::new(Cell::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = tokio::task::LocalSet::new().block_on(&runtime, async {
            let other = Rc::clone(&turns);
            let other = tokio::task::spawn_local(async move {
                loop {
                    other.set(other.get() + 1);
                    tokio::task::yield_now().await;
                }
            });
            let each = |found: &mut Vec<u8>, _, body: &[u8]| found.push(body[0]);
            let found = socket.dump_in_turns(ENTRY, &[0; 4], each).await.unwrap();
            other.abort();
            found
        });
        assert_eq!(found, [1, 2, 3, 4]);
        assert!(turns.get() >= 3, "{} turns", turns.get());
    }

    #[test]
    fn the_rest_of_a_list_may_be_left() {
        let (socket, kernel) = pair();
        kernel.send(&[message(ENTRY, 0, &[1; 4]), message(ENTRY, 0, &[2; 4])].concat()).unwrap();
        let found = socket.dump_while(ENTRY, &[0; 4], |found: &mut Vec<u8>, _, body| {
            found.push(body[0]);
            false
        });
        assert_eq!(found.unwrap(), [1]);
    }
}
