//! A witness beside the hooks: bytes that TCP connections between two peers receive while the link is fully cut, as the
//! receiver's namespace counts them. Dropped packets are never counted there; what is, came past our programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::partition::Partition;
use super::state::State;
use crate::netlink::sockets::{self, TcpSocket};
use crate::netns::Identity;
use injector_core::api::PartitionState;
use injector_core::clock::MonoNs;
use injector_core::model::Link;

/// How long after the cut connections are first looked at: what was on its way has arrived by then.
const SETTLED: Duration = Duration::from_secs(1);
/// How often they are looked at while the cut lasts.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many connections a partition keeps at most; the rest is not watched.
const MOST: usize = 10_000;

/// The connections of one namespace, for one partition.
pub struct Connections {
    generation: u32,
    namespace: Identity,
    /// After they were read.
    seen: MonoNs,
    sockets: Vec<TcpSocket>,
}

/// How they come back to the daemon's task.
pub type Sink = mpsc::UnboundedSender<Connections>;

/// One end of a TCP connection: its namespace, its own address and its peer's.
type Socket = (Identity, (IpAddr, u16), (IpAddr, u16));

/// What a partition knows of the connections between its peers.
#[derive(Debug, Default)]
pub struct Witness {
    /// When they were last asked for.
    asked: Option<MonoNs>,
    /// The namespaces that have answered once: what is new there later was made during the cut.
    namespaces: BTreeSet<Identity>,
    /// By connection: its link, the bytes it had received when it was first seen, and the last time.
    connections: BTreeMap<Socket, (Link, u64, u64)>,
}

impl Witness {
    /// Bytes that crossed a link during the cut; `None` if no namespace was looked into.
    pub fn crossed(&self, link: Link) -> Option<u64> {
        let on_link = self.connections.values().filter(|(of, ..)| *of == link);
        (!self.namespaces.is_empty())
            .then(|| on_link.map(|(_, first, last)| last.saturating_sub(*first)).sum())
    }

    /// Takes in the sockets of a namespace that are ends of the partition's links.
    fn add(&mut self, namespace: Identity, sockets: Vec<(Link, TcpSocket)>) {
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

impl State {
    /// Asks every namespace for its connections, for partitions that drop everything on their links now.
    pub fn ask_for_connections(&mut self, sink: &Sink) {
        let now = MonoNs::now();
        for (life, experiment) in self.ledger.iter_mut() {
            let is_full = experiment.request.traffic.is_full();
            let is_settled = life.cut.is_some_and(|cut| cut.end_ns + SETTLED <= now);
            let is_asked = experiment.witness.asked.is_some_and(|asked| asked + INTERVAL > now);
            if life.state != PartitionState::Active || !is_full || !is_settled || is_asked {
                continue;
            }
            experiment.witness.asked = Some(now);
            let generation = life.generation;
            for worker in self.interfaces.parties(&self.config) {
                let (sink, namespace) = (sink.clone(), worker.identity());
                // A namespace that is gone has no connections.
                let _ = worker.spawn(move || async move {
                    match sockets::tcp() {
                        Ok(sockets) => {
                            let seen = MonoNs::now();
                            drop(sink.send(Connections { generation, namespace, seen, sockets }));
                        }
                        Err(error) => tracing::warn!(%error, "TCP connections could not be read"),
                    }
                });
            }
        }
    }

    /// Takes in the connections of a namespace, unless the cut was over before they were read.
    pub fn connections(&mut self, found: Connections) {
        let Connections { generation, namespace, seen, sockets } = found;
        let Some(Partition { life, .. }) = self.ledger.get(generation) else { return };
        let is_wanted =
            life.is_open() && life.ends_at > seen && life.heal.is_none_or(|heal| heal.begin_ns > seen);
        if !is_wanted {
            return;
        }
        let on_links = sockets.into_iter().filter_map(|socket| {
            // It counts what it receives.
            let link = Link { src: self.peer_at(socket.remote.0)?, dst: self.peer_at(socket.local.0)? };
            life.cuts(&link).then_some((link, socket))
        });
        let on_links: Vec<_> = on_links.collect();
        self.experiment(generation).witness.add(namespace, on_links);
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(witness.crossed(link), None, "nobody looked");
        let space = Identity::now(None).unwrap();
        witness.add(space, vec![(link, socket(1, 500))]);
        assert_eq!(witness.crossed(link), Some(0));
        witness.add(space, vec![(link, socket(1, 500)), (link, socket(2, 30))]);
        assert_eq!(witness.crossed(link), Some(30), "a connection that was made during the cut");
        witness.add(space, vec![(link, socket(1, 507))]);
        assert_eq!(witness.crossed(link), Some(37));
        assert_eq!(witness.crossed(link.reversed()), Some(0));
    }
}
