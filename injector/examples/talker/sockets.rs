//! What the standard library has no calls for: options before a bind, multipath TCP, sockets that are handed over, and a
//! process id that is chosen.

use std::io::{self, Error, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, connect, ipproto, recvmsg, sendmsg,
    socket_with, sockopt,
};
use rustix::process::{Pid, WaitOptions, waitpid};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;

/// Kinds of TCP sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Others may have its port too.
    Shared,
    /// Multipath TCP.
    Multipath,
}

fn stream(at: SocketAddr, protocol: Protocol, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, Some(protocol))?)
}

/// A socket that listens.
pub fn listen(at: SocketAddr, kind: Kind) -> io::Result<TcpListener> {
    let protocol = if kind == Kind::Multipath { ipproto::MPTCP } else { ipproto::TCP };
    let socket = stream(at, protocol, SocketFlags::empty())?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if kind == Kind::Shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Binds a TCP port without listening, and closes it: so programs ask whether it is free.
pub fn try_port(at: SocketAddr) -> io::Result<()> {
    Ok(bind(&stream(at, ipproto::TCP, SocketFlags::empty())?, &at)?)
}

/// A connection of multipath TCP.
pub fn dial_multipath(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = stream(to, ipproto::MPTCP, SocketFlags::NONBLOCK)?;
    match connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let patience = patience.try_into().map_err(|_| Error::from(io::ErrorKind::InvalidInput))?;
    if poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&patience))? == 0 {
        return Err(Error::from(io::ErrorKind::TimedOut));
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A socket of UDP-Lite with an address of its own.
pub fn lite(at: SocketAddr) -> io::Result<UdpSocket> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDPLITE))?;
    bind(&socket, &at)?;
    Ok(UdpSocket::from(socket))
}

/// A socket of a group's port, which others may have too.
pub fn group(at: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    Ok(UdpSocket::from(socket))
}

/// Sends one datagram to a group, over `lo`.
pub fn cast(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sockopt::set_ip_multicast_if(&socket, &Ipv4Addr::LOCALHOST)?;
    socket.send_to(b"hello", to).map(drop)
}

/// Hands a socket over to who takes at a path.
pub fn hand(path: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
    let to = UnixStream::connect(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    assert!(message.push(SendAncillaryMessage::ScmRights(&sockets)), "there is space for one");
    sendmsg(&to, &[IoSlice::new(b"s")], &mut message, SendFlags::empty())?;
    Ok(())
}

/// A socket that was handed over.
pub fn take(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [IoSliceMut::new(&mut [0; 8])], &mut message, RecvFlags::CMSG_CLOEXEC)?;
    let mut taken = message.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    taken.next().ok_or_else(|| Error::from(io::ErrorKind::UnexpectedEof))
}

/// Whether a socket takes connections.
pub fn listens(socket: &impl AsFd) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// Starts a copy of this process under an id that is free, has it do something, and ends it.
pub fn fork_as(id: libc::pid_t, what: impl FnOnce()) -> io::Result<Pid> {
    let ids = [id];
    // SAFETY: numbers alone, for which zero means nothing asked for.
    let mut asked: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    asked.exit_signal = libc::SIGCHLD as u64;
    asked.set_tid = ids.as_ptr() as u64;
    asked.set_tid_size = 1;
    // SAFETY: the kernel reads the arguments, which outlive the call. Without another stack this is a fork, and this process
    // has no other thread whose locks could be held in the copy.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut asked, size_of_val(&asked)) };
    match child {
        0 => {
            what();
            // SAFETY: ends the copy, without what the original has registered for its end.
            unsafe { libc::_exit(0) }
        }
        child if child > 0 => {
            Pid::from_raw(child as libc::pid_t).ok_or_else(|| Error::from(io::ErrorKind::InvalidData))
        }
        _ => Err(Error::last_os_error()),
    }
}

/// Waits for the end of a copy.
pub fn wait(child: Pid) -> io::Result<()> {
    waitpid(Some(child), WaitOptions::empty())?;
    Ok(())
}
