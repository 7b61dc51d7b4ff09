//! The SSH connections by which somebody works on this host: no cut takes them away unless that is asked for.

use std::net::IpAddr;
use std::time::Duration;

use injector_core::api::{Code, PartitionRequest, Problem};
use injector_core::config::Protect;
use injector_core::model::{Link, PeerId, Protocol, Scope};

use super::partition::Partition;
use super::request::Answer;
use super::state::State;
use crate::netlink::sockets::{self, TcpSocket};

/// The port on which sshd listens.
const SSH: u16 = 22;
/// How long the kernel may take to list the sockets: without an answer nothing is refused.
const PATIENCE: Duration = Duration::from_millis(500);

impl State {
    /// Refuses a partition that would cut an SSH connection to this host, unless the request allows it.
    pub(super) async fn spare_ssh(&self, partition: &Partition) -> Answer<()> {
        let PartitionRequest { allow_ssh, traffic, .. } = &partition.experiment.request;
        let scopes = &traffic.scopes;
        let spares_tcp = !scopes.is_empty() && scopes.iter().all(|scope| scope.protocol != Protocol::Tcp);
        // The kernel need not list the sockets for what cuts none of them.
        if *allow_ssh || spares_tcp {
            return Ok(());
        }
        let Some(socket) = sessions().await.into_iter().find(|socket| self.would_cut(partition, socket))
        else {
            return Ok(());
        };
        let (remote, local) = (socket.remote.0, socket.local.0);
        let name = |address: IpAddr| match self.peer_at(address) {
            Some(peer) => format!("{} ({address})", self.config.names.name(peer)),
            None => format!("world ({address})"),
        };
        Err(Problem::new(
            Code::OwnSsh,
            format!(
                "nothing was cut: it would cut an SSH connection to this host, from {} to {}",
                name(remote),
                name(local)
            ),
        )
        .field("shape")
        .remedy(
            "spare it by `protect: [tcp/22]` in the config, or cut it too by --allow-ssh (allow_ssh: true)",
        ))
    }

    fn would_cut(&self, partition: &Partition, socket: &TcpSocket) -> bool {
        let peer = |address| self.peer_at(address).unwrap_or(PeerId::WORLD);
        let link = Link { src: peer(socket.remote.0), dst: peer(socket.local.0) };
        let ports = [socket.remote.1, socket.local.1];
        let scopes = &partition.experiment.request.traffic.scopes;
        let is_protected = self.config.protect.iter().any(|protect| match protect {
            Protect::Address(address) => [socket.remote.0, socket.local.0].contains(address),
            Protect::Scope(scope) => covers(scope, ports),
        });
        (partition.life.cuts(&link) || partition.life.cuts(&link.reversed()))
            && (scopes.is_empty() || scopes.iter().any(|scope| covers(scope, ports)))
            && !is_protected
    }
}

/// Whether a scope has a packet of a connection, either way.
fn covers(scope: &Scope, ports: [u16; 2]) -> bool {
    let is_within = |(first, last): (u16, u16)| ports.iter().any(|port| (first..=last).contains(port));
    scope.protocol == Protocol::Tcp && scope.ports.is_none_or(is_within)
}

/// The SSH connections to this host from elsewhere, as the daemon's own namespace has them.
async fn sessions() -> Vec<TcpSocket> {
    let (reply, found) = tokio::sync::oneshot::channel();
    // Beside the daemon's task: a host may have very many sockets.
    let thread = std::thread::Builder::new().name("sockets".into());
    let started = thread.spawn(move || drop(reply.send(sockets::tcp())));
    let found = match started {
        Ok(_) => tokio::time::timeout(PATIENCE, found).await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    match found {
        Some(Ok(found)) => found
            .into_iter()
            .filter(|socket| socket.local.1 == SSH && !socket.remote.0.is_loopback())
            .filter(|socket| socket.state == "established")
            .collect(),
        other => {
            tracing::warn!(?other, "SSH connections could not be looked for");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_a_connection_by_either_port() {
        let has = |scope: &str| covers(&scope.parse().unwrap(), [40_000, SSH]);
        assert!(has("tcp") && has("tcp/22") && has("tcp/22:src") && has("tcp/30000-50000"));
        assert!(!has("udp") && !has("tcp/23") && !has("icmp"));
    }
}
