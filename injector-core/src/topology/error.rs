//! Why a shape can't be built.

use crate::model::WORLD;
use crate::nearest::known_names;

/// Why a shape can't be built from these peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.what(), self.remedy())]
pub enum TopologyError {
    /// A name that is no peer.
    UnknownPeer {
        /// The name.
        name: String,
        /// The known ones, [`WORLD`] included.
        known: Vec<String>,
    },
    /// A name that is no preset.
    UnknownPreset {
        /// The name.
        name: String,
        /// The known ones.
        known: Vec<String>,
    },
    /// A name that is no role.
    UnknownRole {
        /// The name, without its sign.
        name: String,
        /// The known ones.
        known: Vec<String>,
    },
    /// A role with several peers, or none, where one is needed.
    NotOne {
        /// The role, as written.
        selector: String,
        /// The shape, in words.
        shape: String,
    },
    /// A preset that refers to a preset.
    NestedPreset {
        /// The outer preset.
        name: String,
    },
    /// A peer named twice in groups.
    Twice {
        /// The peer.
        name: String,
    },
    /// A link from a peer to itself.
    SelfLink {
        /// The peer.
        name: String,
    },
    /// A group or list without a peer.
    EmptyGroup {
        /// The empty part, in words.
        what: String,
    },
    /// Nothing would be cut: no peer is outside the group.
    CutsNothing,
    /// A grudge without a link, or a list without any entry: what a program builds when it has nothing to cut.
    Empty {
        /// The empty part, in words.
        what: &'static str,
    },
    /// The shape needs more peers than the config has.
    TooFewPeers {
        /// The shape, in words.
        shape: String,
        /// How many it needs.
        needed: usize,
        /// How many there are.
        have: usize,
    },
    /// The shape draws from fewer peers than it needs.
    TooFewAmong {
        /// The shape, in words.
        shape: String,
        /// How many it needs.
        needed: usize,
        /// How many there are.
        have: usize,
    },
    /// A shape that draws fewer peers or groups than make a cut.
    TooSmall {
        /// The shape, in words.
        shape: String,
        /// How many make a cut.
        least: usize,
    },
    /// [`WORLD`] among the peers to draw from.
    WorldDrawn,
    /// `bridge world`: [`WORLD`] is on no side, so that it can't be between them.
    WorldBridge,
    /// A direction for a shape without a first group.
    NoFirstGroup {
        /// The shape, in words.
        shape: &'static str,
    },
}

impl TopologyError {
    /// Whether the same shape may be built when its roles have other peers.
    pub fn depends_on_peers(&self) -> bool {
        match self {
            Self::Twice { .. }
            | Self::SelfLink { .. }
            | Self::EmptyGroup { .. }
            | Self::CutsNothing
            | Self::Empty { .. }
            | Self::NotOne { .. }
            | Self::TooFewAmong { .. } => true,
            Self::UnknownPeer { .. }
            | Self::UnknownPreset { .. }
            | Self::UnknownRole { .. }
            | Self::NestedPreset { .. }
            | Self::TooFewPeers { .. }
            | Self::TooSmall { .. }
            | Self::WorldDrawn
            | Self::WorldBridge
            | Self::NoFirstGroup { .. } => false,
        }
    }

    /// The fault, in words.
    pub fn what(&self) -> String {
        match self {
            Self::UnknownPeer { name, .. } => format!("unknown peer \"{name}\""),
            Self::UnknownPreset { name, .. } => format!("unknown preset \"{name}\""),
            Self::UnknownRole { name, .. } => format!("unknown role \"@{name}\""),
            Self::NotOne { selector, shape } => {
                format!("{shape} takes one peer, and {selector} are others than one")
            }
            Self::NestedPreset { name } => format!("preset \"{name}\" refers to a preset"),
            Self::Twice { name } => format!("peer \"{name}\" is named twice in the groups"),
            Self::SelfLink { name } => format!("\"{name}\" has a link to itself"),
            Self::EmptyGroup { what } => format!("{what} is empty"),
            Self::Empty { what } => format!("the shape cuts nothing: {what}"),
            Self::CutsNothing => "the shape cuts nothing: no peer is outside the named group".to_owned(),
            Self::TooFewPeers { shape, needed, have } => {
                format!("{shape} needs at least {needed} peers, and {have} are configured")
            }
            Self::TooFewAmong { shape, needed, have } => {
                format!("{shape} draws from at least {needed} peers, and it may draw from {have}")
            }
            Self::TooSmall { shape, least } => format!("{shape} cuts nothing: it takes at least {least}"),
            Self::WorldDrawn => format!("{WORLD} can't be drawn: it is everyone who is no peer"),
            Self::WorldBridge => format!("bridge goes over a configured peer, not over {WORLD}"),
            Self::NoFirstGroup { shape } => {
                format!("{shape} has no first group that a direction could be relative to")
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::UnknownPeer { name, known } => known_names(name, "peers", known),
            Self::UnknownPreset { known, .. } if known.is_empty() => {
                "the config has no presets; add it under presets, or name a shape".to_owned()
            }
            Self::UnknownPreset { name, known } => known_names(name, "presets", known),
            Self::UnknownRole { known, .. } if known.is_empty() => {
                "the config has no roles; add it under roles, or name a peer".to_owned()
            }
            Self::UnknownRole { name, known } => known_names(name, "roles", known),
            Self::NotOne { .. } => "name a peer, or another role".to_owned(),
            Self::NestedPreset { .. } => "write the shape itself in the preset".to_owned(),
            Self::Twice { .. } => "name each peer in one group, once".to_owned(),
            Self::SelfLink { .. } => "name two different peers".to_owned(),
            Self::EmptyGroup { .. } => "name at least one peer".to_owned(),
            Self::Empty { .. } => "name at least one link, or leave the partition out".to_owned(),
            Self::CutsNothing => format!("leave a peer out of the group, or make {WORLD} a group of a split"),
            Self::TooFewPeers { .. } => "add peers to the config, or choose another shape".to_owned(),
            Self::TooFewAmong { .. } => "name more peers after --among (among), or leave it out".to_owned(),
            Self::TooSmall { least, .. } => format!("write {least} or more"),
            Self::WorldDrawn => "name peers alone after --among (among)".to_owned(),
            Self::WorldBridge => "name a peer, or use halves".to_owned(),
            Self::NoFirstGroup { .. } => "leave the direction out; links names single directions".to_owned(),
        }
    }
}
