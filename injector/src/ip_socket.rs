//! Raw sockets of one IP protocol: the packets that arrive for their namespace.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest packet that is read.
const LONGEST: usize = 256;

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

/// A socket of the calling thread's namespace. While it is there, the kernel answers packets of its protocol by no ICMP
/// error.
pub struct IpSocket {
    socket: AsyncFd<OwnedFd>,
    version: Version,
}

impl IpSocket {
    /// Opens one, which receives from every interface of the namespace.
    ///
    /// # Errors
    /// The kernel's error: the socket takes `CAP_NET_RAW`. Must be called inside a runtime.
    pub fn open(version: Version, protocol: u8) -> io::Result<Self> {
        let family = match version {
            Version::Four => libc::AF_INET,
            Version::Six => libc::AF_INET6,
        };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers, answers a new descriptor or -1.
        let fd = unsafe { libc::socket(family, kind, i32::from(protocol)) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self { socket: socket.map_err(io::Error::from)?, version })
    }

    /// The bytes after the IP header of the next packet.
    ///
    /// # Errors
    /// The kernel's error: more packets may come all the same.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(read) = ready.try_io(read) {
                let mut packet = read?;
                if self.version == Version::Four {
                    // The kernel hands over IPv4 headers, and none of IPv6.
                    let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
                    packet.drain(..header.min(packet.len()));
                }
                return Ok(packet);
            }
        }
    }
}

fn read(socket: &AsyncFd<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; LONGEST];
    // SAFETY: the pointer and the length are those of `buffer`, which outlives the call.
    let read = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    let Ok(read) = usize::try_from(read) else { return Err(io::Error::last_os_error()) };
    buffer.truncate(read);
    Ok(buffer)
}
