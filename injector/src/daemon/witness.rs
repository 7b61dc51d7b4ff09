//! A witness beside the hooks: bytes that TCP connections between two peers receive while the link is fully cut, as the
//! receiver's namespace counts them. Dropped packets are never counted there; what is, came past our programs. Whom a
//! connection is with that NAT translates, only the namespace says that does so. Of other flows that NAT translates, and of
//! connections that are shorter than the time between two readings, it says that there were packets.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;

use super::evidence::witness::CarriedLink;
use super::partition::Partition;
use super::state::State;
use crate::netlink::conntrack::{self, End, Flow, Tracked};
use crate::netlink::sockets::{self, TcpSocket};
use crate::netns::{Identity, Worker};
use injector_common::packet::protocol::TCP;
use injector_core::api::PartitionState;
use injector_core::clock::MonoNs;
use injector_core::ledger::Life;
use injector_core::model::{Link, PeerId};
use injector_core::plan;

/// How long after the cut connections are first read: what was on its way has arrived by then.
const SETTLED: Duration = Duration::from_secs(1);
/// How often connections are read while the cut lasts.
const INTERVAL: Duration = Duration::from_secs(1);

/// The connections of one namespace, for one partition.
pub struct Connections {
    generation: u32,
    namespace: Identity,
    /// The instant after they were read.
    seen: MonoNs,
    found: Found,
}

enum Found {
    /// Ends of connections there.
    Sockets(Vec<TcpSocket>),
    /// Flows that the namespace translates.
    Translated(BTreeMap<Flow, Tracked>),
}

/// The channel by which connections come back to the daemon's task.
pub type Sink = mpsc::UnboundedSender<Connections>;

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
            for worker in self.interfaces.translating() {
                ask(&worker, generation, sink, || conntrack::translated().map(Found::Translated));
            }
            for worker in self.interfaces.parties(&self.config) {
                ask(worker, generation, sink, || sockets::tcp().map(Found::Sockets));
            }
        }
    }

    /// Takes in the connections of a namespace, unless the cut was over before they were read.
    pub fn connections(&mut self, found: Connections) {
        let Connections { generation, namespace, seen, found } = found;
        let Some(Partition { life, experiment }) = self.ledger.get(generation) else { return };
        let is_wanted =
            life.is_open() && life.ends_at > seen && life.heal.is_none_or(|heal| heal.begin_ns > seen);
        if !is_wanted {
            return;
        }
        let sockets = match found {
            Found::Sockets(sockets) => sockets,
            Found::Translated(flows) => {
                let passing = flows
                    .iter()
                    .map(|(flow, tracked)| (*flow, *tracked, self.unseen_links(life, namespace, flow)));
                let passing: Vec<_> = passing.filter(|(.., links)| !links.is_empty()).collect();
                let witness = &mut self.experiment(generation).witness;
                witness.track(namespace, seen, passing);
                return witness.translate(namespace, flows.into_keys());
            }
        };
        let on_links = sockets.into_iter().filter_map(|socket| {
            // A socket counts the bytes that it receives.
            let peer = |at| self.peer_of_socket(namespace, at);
            let (remote, age) = experiment.witness.remote(&socket);
            let link = Link { src: peer(remote)?, dst: peer(socket.local)? };
            // What `protect` lets through is no leak. A hook that sees both peers sees these two ends.
            let is_protected = plan::is_protected(&self.config.protect, TCP, remote, socket.local);
            (life.cuts(&link) && !is_protected).then_some((link, socket, age))
        });
        let on_links: Vec<_> = on_links.collect();
        self.experiment(generation).witness.add(namespace, on_links);
    }
}

impl State {
    /// The links of a partition whose packets a translated flow carries unseen: the hooks of neither end see both peers.
    fn unseen_links(&self, life: &Life, namespace: Identity, flow: &Flow) -> Vec<CarriedLink> {
        let Flow { protocol, opener, asked, server, answered } = *flow;
        let (Some(src), Some(dst)) = (self.peer_at(opener.0), self.peer_at(server.0)) else {
            return Vec::new();
        };
        // A peer's hooks see what its own namespace translates as the others do.
        if [src, dst].into_iter().any(|peer| self.interfaces.is_home(peer, namespace)) {
            return Vec::new();
        }
        let named = |end: End| self.peer_at(end.0).unwrap_or(PeerId::WORLD);
        let (at_src, at_dst) = (named(asked), named(answered));
        let is_cut = |link: Link| {
            let mut lives = self.ledger.iter().map(|partition| &partition.life);
            lives.any(|life| life.state == PartitionState::Active && life.cuts(&link))
        };
        let carried = |is_answer: bool| {
            let way = |src, dst| if is_answer { Link { src: dst, dst: src } } else { Link { src, dst } };
            let link = way(src, dst);
            let (from, to) = if is_answer { (server, opener) } else { (opener, server) };
            let is_protected = plan::is_protected(&self.config.protect, protocol, from, to);
            let is_unseen = !is_cut(way(src, at_src)) && !is_cut(way(at_dst, dst));
            (life.cuts(&link) && is_unseen && !is_protected).then_some(CarriedLink { link, is_answer })
        };
        [false, true].into_iter().filter_map(carried).collect()
    }
}

/// Has a namespace's thread read connections.
fn ask(
    worker: &Worker,
    generation: u32,
    sink: &Sink,
    find_connections: impl FnOnce() -> std::io::Result<Found> + Send + 'static,
) {
    let (sink, namespace) = (sink.clone(), worker.identity());
    // A namespace that is gone has no connections.
    let _ = worker.spawn(move || async move {
        match find_connections() {
            Ok(found) => {
                let seen = MonoNs::now();
                drop(sink.send(Connections { generation, namespace, seen, found }));
            }
            Err(error) => tracing::warn!(%error, "TCP connections could not be read"),
        }
    });
}
