//! Why the daemon could not start, or could not go on.

use crate::datapath::DatapathError;
use crate::descriptors::TooFew;
use crate::netns::NetnsError;
use crate::rights::RightsError;
use crate::server::{RefusedListen, SocketError};

/// Why the daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data plane refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// A namespace is not there.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// It may not open enough files.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// Peers on this machine can't be told apart.
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
    /// A thread, a signal handler or the API failed.
    #[error("{what}: {source}")]
    Io {
        /// What it was for.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `interfaces: auto` found nothing.
    #[error(
        "interfaces: auto found none of the peers' addresses, neither in this network namespace nor in those under /run/netns, nor a neighbour, bridge port or route that leads to one; check the peers' addresses, have the peers send something (one that runs and is silent is not found), or name the interfaces in the config"
    )]
    NothingFound,
    /// `interfaces: auto` found an address more than once.
    #[error(
        "interfaces: auto can't tell where a peer lives: {what}; remove the namespace that does not belong here, or name the interfaces in the config"
    )]
    Ambiguous {
        /// The address, its peer, and where it is.
        what: String,
    },
    /// A loopback device is named.
    #[error(
        "interface {interface}: a loopback device is not named; peers on this machine are told apart by their listening ports, as in: peers: {{ n1: {{ listens: [2379] }} }}, and their loopback device is attached to without being named"
    )]
    Loopback {
        /// The interface, with its namespace.
        interface: String,
    },
}

/// From an error of the system, with what was being done.
pub(super) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}
