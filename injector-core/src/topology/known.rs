//! The facts about peers that resolve a shape.

use std::collections::BTreeMap;

use super::error::TopologyError;
use crate::model::{PeerId, PeerName, PeerNames, Shape};

/// The peers of each role, as its source answered.
pub type RolePeers = BTreeMap<String, Vec<PeerName>>;

/// The meanings of the names in a shape.
#[derive(Clone, Copy, Debug)]
pub struct Definitions<'a> {
    /// The configured peers.
    pub names: &'a PeerNames,
    /// The shapes that the config names.
    pub presets: &'a BTreeMap<String, Shape>,
    /// The peers of each role.
    pub roles: &'a RolePeers,
}

/// The id of a configured peer, or of the world.
pub(super) fn id(PeerName(name): &PeerName, names: &PeerNames) -> Result<PeerId, TopologyError> {
    names.id(name).ok_or_else(|| TopologyError::UnknownPeer {
        name: name.clone(),
        known: names.peers().chain([PeerId::WORLD]).map(|id| names.name(id).to_owned()).collect(),
    })
}
