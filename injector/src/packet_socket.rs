//! Packet sockets of one ethertype: frames sent out of a chosen interface, and those that arrive for its namespace.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest frame that is read.
const LONGEST: usize = 256;

/// A socket of the calling thread's namespace. It sends through the queueing discipline, so that the egress hooks see
/// its frames; and it receives behind the ingress hooks, as a socket of one protocol does and one of all does not.
pub struct PacketSocket(AsyncFd<OwnedFd>);

impl PacketSocket {
    /// Opens one, which receives from every interface of the namespace.
    ///
    /// # Errors
    /// The kernel's error: the socket takes `CAP_NET_RAW`. Must be called inside a runtime.
    pub fn open(ethertype: u16) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers, answers a new descriptor or -1.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(ethertype.to_be())) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(socket.map_err(io::Error::from)?))
    }

    /// Sends a frame out of an interface, from the Ethernet header on. It may be of another ethertype than the socket receives.
    ///
    /// # Errors
    /// The kernel's error; `WouldBlock` where the queue is full.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let ethertype = frame.get(12..14).and_then(<[u8]>::first_chunk).map(|kind| u16::from_be_bytes(*kind));
        let to = address(ethertype.unwrap_or_default(), interface, frame.first_chunk());
        // SAFETY: pointers and lengths are those of `frame` and `to`, which outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame that is addressed to the interface that it arrived at, from the Ethernet header on.
    ///
    /// # Errors
    /// The kernel's error, as when the interface that was last received from went down: more frames may come
    /// all the same.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(Self::read) {
                Ok(Ok(Some(frame))) => return Ok(frame),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    fn read(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0_u8; LONGEST];
        let mut from = address(0, 0, None);
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: pointers and lengths are those of `buffer` and `from`, which outlive the call; any bytes are a
        // `sockaddr_ll`.
        let read = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
        // Frames for others are received too where an interface is promiscuous, or its switch floods: no
        // stack takes them.
        let is_addressed = from.sll_pkttype == libc::PACKET_HOST;
        Ok(is_addressed.then(|| buffer[..read.min(LONGEST)].to_vec()))
    }
}

fn address(ethertype: u16, interface: u32, mac: Option<&[u8; 6]>) -> libc::sockaddr_ll {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(mac.unwrap_or(&[0; 6]));
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: bytes,
    }
}
