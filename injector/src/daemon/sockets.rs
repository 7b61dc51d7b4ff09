//! The TCP sockets of a partition's peers, read once, shortly before a deadline that is about to be missed.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::state::State;
use crate::netlink::sockets::{self, TcpSocket};
use crate::netns::Identity;
use injector_core::api::{PartitionState, TcpState};
use injector_core::clock::MonoNs;
use injector_core::ledger::Life;
use injector_core::model::{Link, PeerId};

/// How long before the deadline.
const AHEAD: Duration = Duration::from_millis(300);

/// The sockets of one namespace, for one partition.
pub struct Found {
    generation: u32,
    namespace: Identity,
    seen: MonoNs,
    sockets: Vec<TcpSocket>,
}

/// The channel by which found sockets come back to the daemon's task.
pub type Sink = mpsc::UnboundedSender<Found>;

impl State {
    /// Asks every namespace for its sockets, for partitions whose record is still open near their deadline.
    pub fn ask_for_sockets(&mut self, sink: &Sink) {
        let now = MonoNs::now();
        for (life, experiment) in self.ledger.iter_mut() {
            let is_near = life.state == PartitionState::Watched
                && life.heal.is_some_and(|heal| heal.end_ns + experiment.deadline.0 <= now + AHEAD);
            if !is_near || std::mem::replace(&mut experiment.sockets_asked, true) {
                continue;
            }
            let generation = life.generation;
            for worker in self.interfaces.parties(&self.config) {
                let (sink, namespace) = (sink.clone(), worker.identity());
                // A namespace that is gone has no sockets to report.
                let _ = worker.spawn(move || async move {
                    match sockets::tcp() {
                        Ok(sockets) => {
                            let seen = MonoNs::now();
                            drop(sink.send(Found { generation, namespace, seen, sockets }));
                        }
                        Err(error) => tracing::warn!(%error, "TCP sockets could not be read"),
                    }
                });
            }
        }
    }

    /// Notes the sockets whose two ends are a link of the partition.
    pub fn sockets(&mut self, found: &Found) {
        let links: Vec<(Link, TcpState)> = found
            .sockets
            .iter()
            .filter_map(|socket| {
                let peer = |at| self.peer_of_socket(found.namespace, at);
                let link = Link { src: peer(socket.local)?, dst: peer(socket.remote)? };
                let state = TcpState {
                    seen_ns: found.seen,
                    local_port: socket.local.1,
                    remote_port: socket.remote.1,
                    state: socket.state.to_owned(),
                    rto_ns: u64::try_from(socket.rto.as_nanos()).unwrap_or(u64::MAX),
                    backoff: socket.backoff,
                    retransmits: socket.retransmits,
                };
                Some((link, state))
            })
            .collect();
        // Once its record is closed, the peers may be those of another config.
        let is_wanted = |(life, _): &(&Life, _)| life.generation == found.generation && life.is_open();
        let Some((life, experiment)) = self.ledger.iter_mut().find(is_wanted) else { return };
        for (link, state) in links {
            if life.cuts(&link) {
                experiment.sockets.entry(link).or_default().push(state);
            }
        }
    }

    /// The peer of one end of a TCP socket that was found in a namespace.
    pub(super) fn peer_of_socket(&self, namespace: Identity, at: (IpAddr, u16)) -> Option<PeerId> {
        let local = self.local.as_ref().and_then(|local| local.peer_at(namespace, at));
        local.or_else(|| self.peer_at(at.0))
    }

    /// The peer of an address: the exact one of the config, else the longest prefix, else the one that holds it.
    pub(super) fn peer_at(&self, address: IpAddr) -> Option<PeerId> {
        self.config.owner(address).or_else(|| self.interfaces.identity().held.get(&address).copied())
    }
}
