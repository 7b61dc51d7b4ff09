//! The SSH connections by which somebody works on this host: no cut takes them away unless that is asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use injector_core::api::{Code, PartitionRequest, Problem};
use injector_core::clock::MonoNs;
use injector_core::config::Protect;
use injector_core::model::{Link, Neighbour, PeerId, Protocol, Scope};

use super::attachment::Ends;
use super::partition::Partition;
use super::request::Answer;
use super::ssh_sessions::{PATIENCE, PendingSessions, Sessions, Unlisted};
use super::state::State;
use crate::netlink::sockets::TcpSocket;

impl State {
    /// Refuses a partition that would cut an SSH connection to this host, or may cut one whose other end can't be told apart from a
    /// peer that is cut off, unless the request allows it. The connections are those of when the command came: since a partition was
    /// prepared, someone may have connected.
    pub(super) fn spare_ssh(&self, partition: &Partition, start: Option<MonoNs>) -> Answer<()> {
        if !may_cut_ssh(&partition.experiment.request) {
            return Ok(());
        }
        let unasked = || Err(Unlisted::Failed("they were not asked for".to_owned()));
        let found = self.sessions.as_ref().map_or_else(unasked, PendingSessions::found);
        let Sessions { sockets, stations } = found.map_err(|unlisted| {
            let unknown = |why: &str| {
                format!(
                    "nothing was cut: whether it would cut an SSH connection to this host is not known, since its connections \
                     could not be listed{why}"
                )
            };
            match unlisted {
                Unlisted::Late(_) if start.is_some_and(|start| start < MonoNs::now() + PATIENCE) => {
                    Problem::new(Code::BadTime, unknown(" before the start")).field("at").remedy("set the start further ahead")
                }
                Unlisted::Late(waited) => not_listed(unknown(&format!(": no answer within {} ms", waited.as_millis()))),
                Unlisted::Failed(error) => not_listed(unknown(&format!(": {error}"))),
            }
        })?;
        let found = sockets.iter().find_map(|socket| {
            let addresses = (socket.local.0, socket.remote.0);
            let ends = self.interfaces.ends_of(&self.config, addresses, &stations);
            let link = self.would_cut(partition, socket, &ends)?;
            Some((addresses, ends, link))
        });
        let Some(((local, remote), ends, link)) = found else { return Ok(()) };
        let is_sure = ends.local.len() == 1 && ends.remote.len() == 1;
        let name = |peer, address: IpAddr, of: &BTreeSet<PeerId>| {
            let name = self.config.names.name(peer);
            if of.len() == 1 {
                format!("{name} ({address})")
            } else {
                format!("{address}, which may be {name},")
            }
        };
        let (from, to) = (name(link.src, remote, &ends.remote), name(link.dst, local, &ends.local));
        let may = if is_sure { "would" } else { "may" };
        let detail =
            format!("nothing was cut: it {may} cut an SSH connection to this host, from {from} to {to}");
        Err(Problem::new(Code::OwnSsh, detail.trim_end_matches(',')).field("shape").remedy(
            "spare it by `protect: [tcp/22]` in the config; `partition` and `with` cut it too by --allow-ssh (allow_ssh: true)",
        ))
    }

    /// The link, from the far end to this host, by whose cut a partition would or may cut a connection.
    fn would_cut(&self, partition: &Partition, socket: &TcpSocket, ends: &Ends) -> Option<Link> {
        let ports = [socket.remote.1, socket.local.1];
        let traffic = &partition.experiment.request.traffic;
        // Without ARP and neighbour discovery the connection ends too, whatever the scopes.
        let is_in_scope = traffic.scopes.is_empty()
            || traffic.neighbour == Neighbour::Drop
            || traffic.scopes.iter().any(|scope| covers(scope, ports));
        let is_protected = self.config.protect.iter().any(|protect| match protect {
            Protect::Address(address) => [socket.remote.0, socket.local.0].contains(address),
            Protect::Scope(scope) => covers(scope, ports),
        });
        if !is_in_scope || is_protected {
            return None;
        }
        let links =
            ends.remote.iter().flat_map(|src| ends.local.iter().map(|dst| Link { src: *src, dst: *dst }));
        let life = &partition.life;
        links.into_iter().find(|link| life.cuts(link) || life.cuts(&link.reversed()))
    }
}

/// Whether a scope has a packet of a connection, either way.
fn covers(scope: &Scope, ports: [u16; 2]) -> bool {
    let is_within = |(first, last): (u16, u16)| ports.iter().any(|port| (first..=last).contains(port));
    scope.protocol == Protocol::Tcp && scope.ports.is_none_or(is_within)
}

/// Whether a partition may cut an SSH connection: the kernel need not list the sockets for what cuts none of them.
pub(super) fn may_cut_ssh(request: &PartitionRequest) -> bool {
    let PartitionRequest { allow_ssh, traffic, .. } = request;
    let spares_tcp = !traffic.scopes.is_empty()
        && traffic.neighbour != Neighbour::Drop
        && traffic.scopes.iter().all(|scope| scope.protocol != Protocol::Tcp);
    !*allow_ssh && !spares_tcp
}

fn not_listed(detail: String) -> Problem {
    Problem::new(Code::OwnSsh, detail)
        .field("shape")
        .remedy("try it again; `partition` and `with` cut all the same by --allow-ssh (allow_ssh: true)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_a_connection_by_either_port() {
        let has = |scope: &str| covers(&scope.parse().unwrap(), [40_000, 22]);
        assert!(has("tcp") && has("tcp/22") && has("tcp/22:src") && has("tcp/30000-50000"));
        assert!(!has("udp") && !has("tcp/23") && !has("icmp"));
    }
}
