//! Bytes that TCP connections between two peers received while their link was fully cut, as the receiver's namespace counts
//! them; and flows that NAT translates and no hook can name, as the namespace tracks them that does so.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use injector_common::packet::protocol::TCP;

use crate::netlink::conntrack::{End, Flow, Tracked};
use crate::netlink::sockets::TcpSocket;
use crate::netns::Identity;
use injector_core::clock::MonoNs;
use injector_core::model::Link;

/// How many connections a partition keeps at most; the rest is not watched.
const MOST: usize = 10_000;

/// The identity of a TCP socket: its namespace, its own address and its peer's.
type Socket = (Identity, End, End);

/// By how much the instant at which the kernel forgets a flow has moved if there was a packet: it is read in whole seconds, some
/// time after the kernel has written it.
const MOVED: Duration = Duration::from_secs(2);

/// A link whose packets a flow carries unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct CarriedLink {
    /// The link.
    pub link: Link,
    /// Whether these packets are the answers.
    pub is_answer: bool,
}

/// A flow that carries packets of links unseen.
#[derive(Debug)]
struct CarryingFlow {
    links: Vec<CarriedLink>,
    made: Made,
    /// When the kernel would have forgotten it when it was first seen.
    ends_at: MonoNs,
    /// Whether there was a packet since.
    is_used: bool,
    /// Whether there were answers.
    is_answered: bool,
}

/// A partition's evidence about the connections between its peers.
#[derive(Debug, Default)]
pub struct Witness {
    /// When they were last asked for.
    pub(in crate::daemon) asked: Option<MonoNs>,
    /// The namespaces that have answered once: what is new there later was made during the cut.
    namespaces: BTreeSet<Identity>,
    /// For each connection its link, the bytes it had received when it was first seen, and those when it was
    /// last seen.
    connections: BTreeMap<Socket, (Link, u64, u64)>,
    /// The namespaces that have said once which connections they translate.
    translators: BTreeSet<Identity>,
    /// For each pair of a socket's ends the other end of its connection, where that is translated, and when
    /// the connection was made.
    translated: BTreeMap<(End, End), (End, Made)>,
    /// How often namespaces have said which flows they carry unseen,
    trackers: BTreeMap<Identity, u32>,
    /// and these flows.
    carrying: BTreeMap<(Identity, Flow), CarryingFlow>,
}

/// When a connection was made, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Before connections were first read,
    Before,
    /// or later,
    During,
    /// or whenever its namespace's sockets say.
    Unsaid,
}

impl Witness {
    /// Bytes that crossed links during the cut, where there was a connection; `None` if no namespace was
    /// read.
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

    /// How many flows carried packets of links unseen during the cut; `None` if no namespace that translates was read twice: a
    /// flow that was read once may be from before the cut.
    pub fn carried(&self) -> Option<BTreeMap<Link, u64>> {
        if !self.trackers.values().any(|readings| *readings > 1) {
            return None;
        }
        let mut carried = BTreeMap::new();
        for flow in self.carrying.values() {
            for CarriedLink { link, is_answer } in &flow.links {
                // Of a flow from before the cut, it is not known which end has sent since: the one that opened it is named.
                let has = match (flow.made, is_answer) {
                    (Made::During, true) => flow.is_answered,
                    (Made::During, false) => true,
                    (_, is_answer) => flow.is_used && !is_answer,
                };
                *carried.entry(*link).or_default() += u64::from(has);
            }
        }
        Some(carried)
    }

    /// Takes in the flows of a namespace that carry packets of the partition's links unseen, as they were read.
    pub(in crate::daemon) fn track(
        &mut self,
        namespace: Identity,
        seen: MonoNs,
        flows: Vec<(Flow, Tracked, Vec<CarriedLink>)>,
    ) {
        let readings = self.trackers.entry(namespace).or_default();
        *readings = readings.saturating_add(1);
        let made = if *readings == 1 { Made::Before } else { Made::During };
        for (flow, tracked, links) in flows {
            let ends_at = seen + tracked.left;
            let is_full = self.carrying.len() >= MOST;
            let known = match self.carrying.entry((namespace, flow)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if is_full => continue,
                Entry::Vacant(new) => {
                    new.insert(CarryingFlow { links, made, ends_at, is_used: false, is_answered: false })
                }
            };
            // A flow that is answered from both ends says nothing of one direction.
            let is_both_ways = known.links.len() == 2;
            known.is_used |= is_both_ways && known.ends_at + MOVED <= ends_at;
            known.is_answered |= tracked.is_answered;
        }
    }

    /// Takes in the flows that a namespace translates.
    pub(in crate::daemon) fn translate(&mut self, namespace: Identity, flows: impl Iterator<Item = Flow>) {
        let is_first = self.translators.insert(namespace);
        let made = if is_first { Made::Before } else { Made::During };
        for flow in flows.filter(|flow| flow.protocol == TCP) {
            if self.translated.len() >= MOST {
                return;
            }
            for (ends, other) in flow.sockets() {
                self.translated.entry(ends).or_insert((other, made));
            }
        }
    }

    /// The other end of a socket's connection.
    pub(in crate::daemon) fn remote(&self, socket: &TcpSocket) -> (End, Made) {
        let known = self.translated.get(&(socket.local, socket.remote)).copied();
        known.unwrap_or((socket.remote, Made::Unsaid))
    }

    /// Takes in the sockets of a namespace that are ends of the partition's links.
    pub(in crate::daemon) fn add(&mut self, namespace: Identity, sockets: Vec<(Link, TcpSocket, Made)>) {
        let is_first = self.namespaces.insert(namespace);
        for (link, socket, made) in sockets {
            let key = (namespace, socket.local, socket.remote);
            if self.connections.len() >= MOST && !self.connections.contains_key(&key) {
                continue;
            }
            let before = if is_first || made == Made::Before { socket.received } else { 0 };
            self.connections.entry(key).or_insert((link, before, before)).2 = socket.received;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
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
        let space = Identity::own().unwrap();
        witness.add(space, vec![(link, socket(1, 500), Made::Unsaid)]);
        assert_eq!(crossed(&witness, link), Some(0));
        witness.add(space, vec![(link, socket(1, 500), Made::Unsaid), (link, socket(2, 30), Made::Unsaid)]);
        assert_eq!(crossed(&witness, link), Some(30), "a connection that was made during the cut");
        witness.add(space, vec![(link, socket(1, 507), Made::Unsaid)]);
        assert_eq!(crossed(&witness, link), Some(37));
        assert_eq!(crossed(&witness, link.reversed()), None, "no connection");
    }

    #[test]
    fn a_translated_connection_is_with_whom_its_translator_says() {
        let end = |last: u8, port: u16| (IpAddr::from([10, 0, 0, last]), port);
        let flow = |port: u16| Flow {
            protocol: TCP,
            opener: end(1, port),
            asked: end(9, 80),
            server: end(2, 80),
            answered: end(14, port),
        };
        let socket = |port: u16, received: u64| {
            let (rto, state) = (Duration::from_millis(200), "established");
            let (local, remote) = (end(2, 80), end(14, port));
            TcpSocket { local, remote, state, rto, backoff: 0, retransmits: 0, received }
        };
        let (link, space) = (Link { src: PeerId(1), dst: PeerId(2) }, Identity::own().unwrap());
        let mut witness = Witness::default();
        witness.add(space, Vec::new());
        assert_eq!(witness.remote(&socket(5, 0)), (end(14, 5), Made::Unsaid), "nobody has said");
        witness.translate(space, [flow(5)].into_iter());
        assert_eq!(witness.remote(&socket(5, 0)), (end(1, 5), Made::Before));
        witness.translate(space, [flow(5), flow(6)].into_iter());
        assert_eq!(witness.remote(&socket(5, 0)).1, Made::Before, "as it was first said");
        assert_eq!(witness.remote(&socket(6, 0)), (end(1, 6), Made::During));
        let add = |witness: &mut Witness, port, received| {
            let made = witness.remote(&socket(port, received)).1;
            witness.add(space, vec![(link, socket(port, received), made)]);
            witness.crossed().unwrap()[&link]
        };
        assert_eq!(add(&mut witness, 5, 100), 0, "it may be from before the cut");
        assert_eq!(add(&mut witness, 5, 101), 1);
        assert_eq!(add(&mut witness, 6, 30), 31, "all of it came during the cut");
    }

    #[test]
    fn a_flow_carries_packets_if_it_is_new_or_the_kernel_keeps_it_longer() {
        let end = |last: u8, port: u16| (IpAddr::from([10, 0, 0, last]), port);
        let flow = |port: u16| Flow {
            protocol: 17,
            opener: end(1, port),
            asked: end(9, 80),
            server: end(2, 80),
            answered: end(14, port),
        };
        let (link, space) = (Link { src: PeerId(1), dst: PeerId(2) }, Identity::own().unwrap());
        let there = CarriedLink { link, is_answer: false };
        let back = CarriedLink { link: link.reversed(), is_answer: true };
        let mut witness = Witness::default();
        assert_eq!(witness.carried(), None, "nobody looked");
        let mut read = |second: u64, flows: &[(u16, u64, bool, &[CarriedLink])]| {
            let flows = flows.iter().map(|(port, left, is_answered, links)| {
                let tracked = Tracked { is_answered: *is_answered, left: Duration::from_secs(*left) };
                (flow(*port), tracked, links.to_vec())
            });
            witness.track(space, MonoNs(second * 1_000_000_000), flows.collect());
            let Some(carried) = witness.carried() else { return [u64::MAX; 2] };
            [link, link.reversed()].map(|link| carried.get(&link).copied().unwrap_or(0))
        };
        let both = &[there, back][..];
        let before = [(5, 30, true, both), (6, 30, true, &[there])];
        assert_eq!(read(1, &before), [u64::MAX; 2], "a single reading");
        assert_eq!(read(2, &[(5, 29, true, both), (6, 30, true, &[there])]), [0, 0], "no packet, or one");
        assert_eq!(read(4, &[(5, 28, true, both)]), [0, 0], "the seconds are whole");
        assert_eq!(
            read(5, &[(5, 30, true, both), (6, 30, true, &[there])]),
            [1, 0],
            "only 6's answers may pass"
        );
        assert_eq!(read(6, &[(7, 30, false, both)]), [2, 0], "a new one");
        assert_eq!(read(7, &[(7, 29, true, both)]), [2, 1], "and it is answered");
    }
}
