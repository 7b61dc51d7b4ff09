//! The observed processes of peers on this machine. Pure.

use std::collections::BTreeMap;

use super::space::Space;
use injector_core::model::PeerId;

/// A process, for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.name)
    }
}

/// Why not all frames of a peer can be identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The reason, in words.
    pub why: String,
    /// The remedy; `None` where the doubt passes by itself.
    pub remedy: Option<&'static str>,
}

impl Doubt {
    /// A doubt that passes by itself.
    pub fn passing(why: String) -> Self {
        Self { why, remedy: None }
    }
}

/// The processes of one peer on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalPeerProcesses {
    /// Its processes.
    pub processes: Vec<Process>,
    /// Why not all of its frames can be identified.
    pub doubt: Option<Doubt>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalProcesses {
    /// The processes by peer; a peer that was not seen has no entry.
    pub peers: BTreeMap<PeerId, LocalPeerProcesses>,
}

impl LocalProcesses {
    /// Doubts every peer, unless it is in doubt.
    pub fn doubt_all(&mut self, doubt: &Doubt) {
        for seen in self.peers.values_mut() {
            seen.doubt.get_or_insert_with(|| doubt.clone());
        }
    }
}

/// The place of a peer on this machine, in a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEnd {
    /// The namespace of its sockets.
    pub space: Space,
    /// The interface of ours that is its loopback device, by its id.
    pub loopback: Option<u32>,
    /// Why not all of its frames can be identified.
    pub doubt: Option<Doubt>,
}
