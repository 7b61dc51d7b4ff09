//! Datagrams between peers, from sockets that get the kernel's errors about them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use injector_lab::PATIENCE;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::wired::Wired;

/// How long datagrams that should not come are waited for. Those of a slow machine are missing in the count of drops.
const DOUBT: Duration = Duration::from_millis(250);
/// How long one try waits for datagrams that should come.
const TRY: Duration = Duration::from_secs(1);

/// What became of some datagrams.
#[derive(Debug)]
pub struct Sent {
    /// How many came.
    pub delivered: usize,
    /// What the sender got as an error.
    pub error: Option<io::Error>,
}

impl Wired {
    /// Whether traffic flows from one peer to another, over IPv4 and IPv6. What was just plugged or healed may lose the
    /// first packets.
    pub fn flows(&self, from: &str, to: &str) -> bool {
        const COUNT: usize = 3;
        let end = Instant::now() + PATIENCE;
        [0, 1].into_iter().all(|family| {
            loop {
                if self.sent(from, to, family, COUNT, TRY).delivered == COUNT {
                    return true;
                }
                if Instant::now() > end {
                    return false;
                }
            }
        })
    }

    /// Sends datagrams that should not come, over IPv4 and IPv6.
    pub fn swallowed(&self, from: &str, to: &str, count: usize) -> [Sent; 2] {
        [0, 1].map(|family| self.sent(from, to, family, count, DOUBT))
    }

    fn sent(&self, from: &str, to: &str, family: usize, count: usize, patience: Duration) -> Sent {
        let [source, at] = [from, to].map(|of| self.lab.addresses(of)[family]);
        let (receiver, sender) = (self.socket(to, at), self.socket(from, source));
        ask_for_errors(&sender, source);
        let at = receiver.local_addr().unwrap();
        let mut error = None;
        for _ in 0..count {
            if let Err(why) = sender.send_to(b"cell", at) {
                error.get_or_insert(why);
            }
        }
        receiver.set_read_timeout(Some(patience)).unwrap();
        let (mut buffer, mut delivered) = ([0; 16], 0);
        while delivered < count && receiver.recv(&mut buffer).is_ok() {
            delivered += 1;
        }
        Sent { delivered, error }
    }

    fn socket(&self, of: &str, at: IpAddr) -> UdpSocket {
        let device = self.bound_to();
        let made = self.lab.within(of, || bound(at, device));
        made.unwrap_or_else(|error| panic!("a socket of {at} in {of}: {error}"))
    }
}

fn bound(at: IpAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if let Some(device) = device {
        set(&socket, (libc::SOL_SOCKET, libc::SO_BINDTODEVICE), device.as_bytes())?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(at, 0))?;
    Ok(UdpSocket::from(socket))
}

/// Without this a datagram that the sender's own device drops is no error to its sender.
fn ask_for_errors(socket: &UdpSocket, source: IpAddr) {
    let option = match source {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    set(socket, option, &1_i32.to_ne_bytes()).unwrap();
}

fn set(socket: &impl AsRawFd, (level, name): (i32, i32), value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the value is as long as given, and outlives the call.
    let answer = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
