//! Whether datagrams get from one namespace of a lab to another.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use crate::PATIENCE;
use crate::lab::Lab;

/// A namespace, and an address in it.
pub type End<'a> = (&'a str, IpAddr);

impl Lab {
    /// How many of some datagrams get from one address to another. `hoped` is how many are waited for: anyone who knows from
    /// the kernel's counters that the others were dropped need not wait for them.
    ///
    /// # Panics
    /// A socket can't be made or used.
    pub fn delivered(&self, from: End<'_>, to: End<'_>, count: usize, hoped: usize) -> usize {
        self.delivered_within(from, to, count, hoped, PATIENCE)
    }

    /// [`Self::delivered`] with a patience: each of the `hoped` datagrams is waited for no longer than
    /// `patience`.
    ///
    /// # Panics
    /// A socket can't be made or used.
    pub fn delivered_within(
        &self,
        from: End<'_>,
        to: End<'_>,
        count: usize,
        hoped: usize,
        patience: Duration,
    ) -> usize {
        let bound = |(of, at): End<'_>| {
            let socket = self.within(of, || UdpSocket::bind((at, 0)));
            socket.unwrap_or_else(|error| panic!("{at} in {of}: {error}"))
        };
        let (receiver, sender) = (bound(to), bound(from));
        let at = receiver.local_addr().unwrap_or_else(|error| panic!("{to:?}: {error}"));
        let mut buffer = [0; 16];
        let mut got = 0;
        let mut take = |patience: Duration, enough: usize| {
            receiver.set_read_timeout(Some(patience)).unwrap_or_else(|error| panic!("{patience:?}: {error}"));
            while got < enough && receiver.recv(&mut buffer).is_ok() {
                got += 1;
            }
            got
        };
        for sent in 0..count {
            // Not connected: nobody reports to such a socket that a neighbour did not answer.
            sender.send_to(b"lab", at).unwrap_or_else(|error| panic!("{from:?} → {to:?}: {error}"));
            // A pause before the receiver's buffer is full, or that of an address that is being resolved.
            if sent % 32 == 31 {
                take(Duration::from_millis(5), count);
            }
        }
        take(patience, hoped);
        take(Duration::from_millis(50), count)
    }

    /// Whether a datagram from one peer reaches another by IPv4 within a second.
    pub fn reaches(&self, from: u8, to: u8) -> bool {
        self.delivered_between(from, to, 1) == 1
    }

    /// Whether datagrams reach another peer within 10 s. An address that was asked for during a cut is asked for again
    /// once a second only, so the first datagrams after a heal may wait without an answer.
    pub fn reaches_soon(&self, from: u8, to: u8) -> bool {
        (0..10).any(|_| self.reaches(from, to))
    }

    /// How many of some datagrams from one peer reach another by IPv4.
    pub fn delivered_between(&self, from: u8, to: u8, count: usize) -> usize {
        let [one, two] = [from, to].map(|peer| format!("n{peer}"));
        let (from, to) = ((&*one, self.ipv4(from)), (&*two, self.ipv4(to)));
        self.delivered_within(from, to, count, count, Duration::from_secs(1))
    }
}

/// Has a socket keep all that comes while nobody reads it, as on a busy machine.
///
/// # Panics
/// Without root.
pub fn keep_all(receiver: &UdpSocket) {
    rustix::net::sockopt::set_socket_recv_buffer_size_force(receiver, 64 << 20)
        .expect("root may have a large buffer");
}
