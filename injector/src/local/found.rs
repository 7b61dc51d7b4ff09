//! The result of a scan of this machine's processes, or why there can be none.

use std::collections::BTreeMap;

use crate::datapath::{LocalError, Reattached};
use crate::discovery::local::LocalProcesses;
use crate::netns::NetnsError;
use injector_core::clock::MonoNs;
use injector_core::model::PeerId;

/// Why peers on this machine can't be distinguished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A hook or a map.
    #[error(transparent)]
    Hooks(#[from] LocalError),
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A namespace can't be identified.
    #[error("network namespace {name} has no cookie: {source}; peers on this machine need Linux 5.14")]
    Cookie {
        /// The namespace.
        name: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Two names of one namespace.
    #[error("{one} and {other} are one network namespace: write the same netns for all peers in it")]
    Same {
        /// A name,
        one: String,
        /// and another one.
        other: String,
    },
    /// The config that the daemon was started with had no peers on this machine.
    #[error(
        "the daemon was started without peers on this machine, and has given up the right to follow them: restart it"
    )]
    Started,
    /// A process of the config is not there.
    #[error(
        "peer {peer}: there is no process {process}; name the peer by its ports, cgroup or unit, or start it first"
    )]
    NoProcess {
        /// The peer.
        peer: String,
        /// The id of the process.
        process: u32,
    },
    /// The cgroups can't be read.
    #[error("the cgroups of peers can't be followed: {0}")]
    Cgroups(std::io::Error),
    /// `/proc` can't be read.
    #[error("the processes of this machine can't be read: {0}; /proc must be mounted")]
    Processes(std::io::Error),
}

/// The result of a scan of this machine's processes.
#[derive(Clone, Debug)]
pub struct Found {
    /// When the scan before began: what is found for the first time may be so since then.
    pub before: MonoNs,
    /// When the scan was over.
    pub at: MonoNs,
    /// The state of the programs that give sockets their owners; `None` where nothing is attached.
    pub programs: Option<Reattached>,
    /// The processes of peers.
    pub observed: LocalProcesses,
    /// The sockets that had no owner until now, by peer.
    pub late: BTreeMap<PeerId, Late>,
}

/// Sockets that had no owner until a scan found them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// How many.
    pub count: usize,
    /// Since when that may be so.
    pub from: MonoNs,
}
