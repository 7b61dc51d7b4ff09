//! The TCP sockets of a partition's peers, looked at once, shortly before a deadline that is about to be missed.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::state::State;
use crate::netlink::sockets::{self, TcpSocket};
use injector_core::api::{PartitionState, TcpState};
use injector_core::clock::MonoNs;
use injector_core::ledger::Life;
use injector_core::model::{Link, PeerId};

/// How long before the deadline.
const AHEAD: Duration = Duration::from_millis(300);

/// What one namespace has, for one partition.
pub struct Found {
    generation: u32,
    seen: MonoNs,
    sockets: Vec<TcpSocket>,
}

/// How found sockets come back to the daemon's task.
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
                let sink = sink.clone();
                // A namespace that is gone has nothing to tell.
                let _ = worker.spawn(move || async move {
                    match sockets::tcp() {
                        Ok(sockets) => drop(sink.send(Found { generation, seen: MonoNs::now(), sockets })),
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
                let link = Link { src: self.peer_at(socket.local.0)?, dst: self.peer_at(socket.remote.0)? };
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

    /// The peer of an address: the exact one of the config, else the longest prefix, else the one that holds it.
    pub(super) fn peer_at(&self, address: IpAddr) -> Option<PeerId> {
        let exact = self.config.peers.iter().find(|peer| peer.addresses.contains(&address));
        let by_prefix = || {
            let matching = self.config.peers.iter().flat_map(|peer| {
                peer.prefixes
                    .iter()
                    .filter(|prefix| prefix.contains(&address))
                    .map(move |prefix| (prefix, peer))
            });
            matching.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, peer)| peer)
        };
        let listed = exact.or_else(by_prefix).map(|peer| peer.id);
        listed.or_else(|| self.interfaces.identity().held.get(&address).copied())
    }
}
