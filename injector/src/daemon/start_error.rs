//! Why the daemon could not start, could not continue, or did not stop cleanly.

use crate::datapath::DatapathError;
use crate::descriptors::TooFew;
use crate::netns::NetnsError;
use crate::rights::RightsError;
use crate::server::{RefusedListen, SocketError};
use injector_core::config::ContainerRef;

/// Why the daemon could not start, could not continue, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data plane refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// A namespace is not there.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The process may not open enough files.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// Peers on this machine can't be distinguished.
    #[error(transparent)]
    Local(#[from] crate::local::Error),
    /// The rights that are not needed can't be given up.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The socket can't be made, or not safely.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The metrics' address can't be listened at.
    #[error(transparent)]
    Metrics(#[from] RefusedListen),
    /// A task or thread that the daemon relies on has panicked.
    #[error(
        "{what} panicked, which is a bug (the log has it): the daemon ends, since it would go on with facts that are out of date; start it again"
    )]
    Panicked {
        /// The task or thread, in words.
        what: String,
    },
    /// Something ended before the daemon was to stop, or panicked while it stopped.
    #[error(
        "{what} failed before the daemon had stopped, which is a bug (the log has it); everything is healed"
    )]
    PanickedAtStop {
        /// The thread or task, in words.
        what: String,
    },
    /// Filters may have stayed.
    #[error(
        "the filters on the clsact qdiscs of {interfaces} are not known to be removed: they do nothing; `sudo injector doctor --clean` removes them, and so does a start \
         that attaches in their namespaces"
    )]
    FiltersLeft {
        /// The interfaces, with their namespaces.
        interfaces: String,
    },
    /// A thread, a signal handler or the API failed.
    #[error("{what}: {source}")]
    Io {
        /// The thing that failed, in words.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `interfaces: auto` found nothing.
    #[error(
        "interfaces: auto found none of the peers' addresses, neither in this network namespace nor in those under /run/netns, nor a neighbour, bridge port or route that leads to one; check the peers' addresses, have the peers send something (one that runs and is silent is not found), or name the interfaces in the config"
    )]
    NothingFound,
    /// `interfaces: auto` found nothing, and could not look everywhere.
    #[error(
        "interfaces: auto found none of the peers' addresses, but {place} did not answer in time; start the daemon again when this host is less busy, or name the interfaces in the config"
    )]
    NotAnswered {
        /// A network namespace, in words.
        place: String,
    },
    /// `interfaces: auto` found an address more than once.
    #[error(
        "interfaces: auto can't decide where a peer lives: {what}; remove the namespace that does not belong here, or name the interfaces in the config"
    )]
    Ambiguous {
        /// The address, its peer, and where it is.
        what: String,
    },
    /// A container ended while the daemon started.
    #[error(
        "peers.{peer}: container {container} has ended since the engine was asked; start it, then the daemon"
    )]
    ContainerEnded {
        /// The peer.
        peer: String,
        /// The container.
        container: ContainerRef,
    },
    /// A container has the network namespace of the daemon.
    #[error(
        "peers.{peer}: container {container} has no network of its own, but the daemon's; name the peer by its listening ports (listens: [2379]) or its process (pid:), which distinguish processes on one host: see docs/local.md"
    )]
    HostContainer {
        /// The peer.
        peer: String,
        /// The container.
        container: ContainerRef,
    },
    /// Two containers are in one network namespace.
    #[error(
        "peers.{peer}: container {container} shares the network namespace of {other} (a pod, or --network container:): addresses do not distinguish them; leave one out, or name both by their listening ports, as in: {peer}: {{ listens: [2379], netns: {{ container: {container} }} }}"
    )]
    OneNamespace {
        /// The peer.
        peer: String,
        /// The peer that was there first.
        other: String,
        /// The container.
        container: ContainerRef,
    },
    /// A container has no interface besides lo.
    #[error(
        "peers.{peer}: container {container} has no interface besides lo, and so no link to cut; run it on a network, or leave the peer out"
    )]
    NoNetwork {
        /// The peer.
        peer: String,
        /// The container.
        container: ContainerRef,
    },
    /// Two peers are behind one interface, under two names of its namespace.
    #[error(
        "interface {interface}: the config says that both {one} and {other} are behind it, under two names of its network namespace; one peer is behind it: keep one of the two"
    )]
    TwoPeers {
        /// The interface, with its namespace.
        interface: String,
        /// A peer.
        one: String,
        /// The other.
        other: String,
    },
    /// The config says that a peer is behind an interface that is a NIC in the peers' network.
    #[error(
        "interface {interface}: the config says that {peer} is behind it, but it has the address {address}, in the network of other peers: it is someone's own NIC, and not a tap or the other end of a veth; if it is {peer}'s, list {address} among the addresses of {peer} instead"
    )]
    OwnNic {
        /// The interface, with its namespace.
        interface: String,
        /// The peer.
        peer: String,
        /// The interface's address.
        address: std::net::IpAddr,
    },
    /// A loopback device is named.
    #[error(
        "interface {interface}: a loopback device can't be configured; peers on this machine are distinguished by their listening ports, as in: peers: {{ n1: {{ listens: [2379] }} }}, and their loopback device is attached to without being named"
    )]
    Loopback {
        /// The interface, with its namespace.
        interface: String,
    },
}

impl StartError {
    /// Whether nobody answered in time, so that it is to be tried again.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::NotAnswered { .. }) || matches!(self, Self::Netns(error) if error.is_late())
    }

    /// Whether a network namespace is no longer there.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Netns(error) if error.is_gone())
    }
}

/// Makes an error of the system's, with what was being done.
pub(super) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}
