//! The SSH connections by which somebody works on this host: no cut takes them away unless that is asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use injector_core::api::{Code, PartitionRequest, Problem};
use injector_core::config::Protect;
use injector_core::model::{Link, Neighbour, PeerId, Protocol, Scope};

use super::attachment::Ends;
use super::partition::Partition;
use super::request::Answer;
use super::state::State;
use crate::netlink::facts::Stations;
use crate::netlink::sockets::{self, TcpSocket};

/// How long the kernel may take to list the sockets: without an answer the cut is refused.
const PATIENCE: Duration = Duration::from_millis(500);

impl State {
    /// Refuses a partition that would cut an SSH connection to this host, or may cut one whose other end can't be told apart from a
    /// peer that is cut off, unless the request allows it.
    pub(super) async fn spare_ssh(&self, partition: &Partition) -> Answer<()> {
        let PartitionRequest { allow_ssh, traffic, .. } = &partition.experiment.request;
        let spares_tcp = !traffic.scopes.is_empty()
            && traffic.neighbour != Neighbour::Drop
            && traffic.scopes.iter().all(|scope| scope.protocol != Protocol::Tcp);
        // The kernel need not list the sockets for what cuts none of them.
        if *allow_ssh || spares_tcp {
            return Ok(());
        }
        let found = Sessions::find(self.ssh_ports.clone()).await;
        let Sessions { sockets, stations } = found.map_err(|error| {
            let detail = format!(
                "nothing was cut: whether it would cut an SSH connection to this host is not known, since its connections could \
                 not be listed: {error}"
            );
            Problem::new(Code::OwnSsh, detail).field("shape").remedy(
                "try it again, or cut all the same by --allow-ssh (allow_ssh: true)",
            )
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
            "spare it by `protect: [tcp/22]` in the config, or cut it too by --allow-ssh (allow_ssh: true)",
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

/// The SSH connections to this host from elsewhere, as the daemon's own namespace has them.
#[derive(Default)]
struct Sessions {
    sockets: Vec<TcpSocket>,
    /// The MAC addresses that the namespace has learned; nothing if there is no connection, or they could not be read.
    stations: Stations,
}

impl Sessions {
    /// Those to servers with these ports.
    async fn find(ports: BTreeSet<u16>) -> std::io::Result<Self> {
        let (reply, found) = tokio::sync::oneshot::channel();
        // Beside the daemon's task: a host may have very many sockets and neighbours.
        let thread = std::thread::Builder::new().name("sockets".into());
        thread.spawn(move || drop(reply.send(Self::read(&ports))))?;
        let late = |_| std::io::Error::other(format!("no answer within {} ms", PATIENCE.as_millis()));
        tokio::time::timeout(PATIENCE, found).await.map_err(late)?.map_err(std::io::Error::other)?
    }

    /// Reads them on the calling thread, which waits.
    fn read(ports: &BTreeSet<u16>) -> std::io::Result<Self> {
        let mut sockets = sockets::tcp()?;
        sockets.retain(|socket| {
            ports.contains(&socket.local.1) && !socket.remote.0.is_loopback() && socket.state == "established"
        });
        if sockets.is_empty() {
            return Ok(Self::default());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stations = runtime.block_on(Stations::ask()).unwrap_or_else(|error| {
            tracing::warn!(%error, "neighbours could not be read: SSH connections are known by their addresses alone");
            Stations::default()
        });
        Ok(Self { sockets, stations })
    }
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
