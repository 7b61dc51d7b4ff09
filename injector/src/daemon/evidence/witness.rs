//! Bytes that TCP connections between two peers received while their link was fully cut, as the receiver's namespace counts
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::netlink::sockets::TcpSocket;
use crate::netns::Identity;
use injector_core::clock::MonoNs;
use injector_core::model::Link;

/// How many connections a partition keeps at most; the rest is not watched.
const MOST: usize = 10_000;

/// One end of a TCP connection: its namespace, its own address and its peer's.
type Socket = (Identity, (IpAddr, u16), (IpAddr, u16));

/// What a partition knows of the connections between its peers.
#[derive(Debug, Default)]
pub struct Witness {
    /// When they were last asked for.
    pub(in crate::daemon) asked: Option<MonoNs>,
    /// The namespaces that have answered once: what is new there later was made during the cut.
    namespaces: BTreeSet<Identity>,
    /// By connection: its link, the bytes it had received when it was first seen, and the last time.
    connections: BTreeMap<Socket, (Link, u64, u64)>,
}

impl Witness {
    /// Bytes that crossed links during the cut, where there was a connection; `None` if no namespace was looked into.
    pub fn crossed(&self) -> Option<BTreeMap<Link, u64>> {
        if self.namespaces.is_empty() {
            return None;
        }
        let mut crossed = BTreeMap::new();
        for (link, first, last) in self.connections.values() {
            *crossed.entry(*link).or_default() += last.saturating_sub(*first);
        }
        Some(crossed)
    }

    /// Takes in the sockets of a namespace that are ends of the partition's links.
    pub(in crate::daemon) fn add(&mut self, namespace: Identity, sockets: Vec<(Link, TcpSocket)>) {
        let is_first = self.namespaces.insert(namespace);
        for (link, socket) in sockets {
            let key = (namespace, socket.local, socket.remote);
            if self.connections.len() >= MOST && !self.connections.contains_key(&key) {
                continue;
            }
            let before = if is_first { socket.received } else { 0 };
            self.connections.entry(key).or_insert((link, before, before)).2 = socket.received;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use injector_core::model::PeerId;

    #[test]
    fn growth_counts_and_what_was_there_before_does_not() {
        let link = Link { src: PeerId(1), dst: PeerId(2) };
        let socket = |port: u16, received: u64| {
            let end = |last: u8| (IpAddr::from([10, 0, 0, last]), port);
            let rto = Duration::from_millis(200);
            let state = "established";
            TcpSocket { local: end(2), remote: end(1), state, rto, backoff: 0, retransmits: 0, received }
        };
        let mut witness = Witness::default();
        assert_eq!(witness.crossed(), None, "nobody looked");
        let crossed = |witness: &Witness, link: Link| witness.crossed().unwrap().get(&link).copied();
        let space = Identity::now(None).unwrap();
        witness.add(space, vec![(link, socket(1, 500))]);
        assert_eq!(crossed(&witness, link), Some(0));
        witness.add(space, vec![(link, socket(1, 500)), (link, socket(2, 30))]);
        assert_eq!(crossed(&witness, link), Some(30), "a connection that was made during the cut");
        witness.add(space, vec![(link, socket(1, 507))]);
        assert_eq!(crossed(&witness, link), Some(37));
        assert_eq!(crossed(&witness, link.reversed()), None, "no connection");
    }
}
