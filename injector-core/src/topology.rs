//! Shapes to directed links: pure, and the same for the same seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::{Direction, Link, NamedLink, PeerId, PeerName, PeerNames, Shape, WORLD};

mod ring;
mod select;
pub mod words;

pub use select::{Selected, select};

/// A shape made definite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The shape after drawing and presets: one that resolves to the same links with any seed.
    pub shape: Shape<PeerName>,
    /// Whether the seed had a say.
    pub drawn: bool,
    /// The links to cut, sorted, each once, none from a peer to itself.
    pub links: Vec<Link>,
}

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
    /// A preset that stands for a preset.
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
        /// What is empty, in words.
        what: String,
    },
    /// Nothing would be cut: no peer is outside the group.
    CutsNothing,
    /// A grudge without a link, or a list without any entry: what a program builds when it has nothing to cut.
    Empty {
        /// What is empty, in words.
        what: &'static str,
    },
    /// The shape needs more peers than the config has.
    TooFewPeers {
        /// The shape, in words.
        shape: &'static str,
        /// How many it needs.
        needed: usize,
        /// How many there are.
        have: usize,
    },
    /// `bridge world`: [`WORLD`] is on no side, so that it can't be between them.
    WorldBridge,
    /// A direction for a shape without a first group.
    NoFirstGroup {
        /// The shape, in words.
        shape: &'static str,
    },
}

impl TopologyError {
    /// What is wrong.
    pub fn what(&self) -> String {
        match self {
            Self::UnknownPeer { name, .. } => format!("unknown peer \"{name}\""),
            Self::UnknownPreset { name, .. } => format!("unknown preset \"{name}\""),
            Self::NestedPreset { name } => format!("preset \"{name}\" refers to a preset"),
            Self::Twice { name } => format!("peer \"{name}\" is named twice in the groups"),
            Self::SelfLink { name } => format!("\"{name}\" has a link to itself"),
            Self::EmptyGroup { what } => format!("{what} is empty"),
            Self::Empty { what } => format!("the shape cuts nothing: {what}"),
            Self::CutsNothing => "the shape cuts nothing: no peer is outside the named group".to_owned(),
            Self::TooFewPeers { shape, needed, have } => {
                format!("{shape} needs at least {needed} peers, and {have} are configured")
            }
            Self::WorldBridge => format!("bridge goes over a configured peer, not over {WORLD}"),
            Self::NoFirstGroup { shape } => {
                format!("{shape} has no first group that a direction could be relative to")
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::UnknownPeer { known, .. } => format!("known peers: {}", listed(known)),
            Self::UnknownPreset { known, .. } if known.is_empty() => {
                "the config has no presets; add it under presets, or name a shape".to_owned()
            }
            Self::UnknownPreset { known, .. } => format!("known presets: {}", listed(known)),
            Self::NestedPreset { .. } => "write the shape itself in the preset".to_owned(),
            Self::Twice { .. } => "name each peer in one group, once".to_owned(),
            Self::SelfLink { .. } => "name two different peers".to_owned(),
            Self::EmptyGroup { .. } => "name at least one peer".to_owned(),
            Self::Empty { .. } => "name at least one link, or leave the partition out".to_owned(),
            Self::CutsNothing => format!("leave a peer out of the group, or make {WORLD} a group of a split"),
            Self::TooFewPeers { .. } => "add peers to the config, or choose another shape".to_owned(),
            Self::WorldBridge => "name a peer, or use halves".to_owned(),
            Self::NoFirstGroup { .. } => "leave the direction out; links names single directions".to_owned(),
        }
    }
}

/// At most a dozen names: a config may have a thousand.
fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 12 {
        let _ = write!(text, " and {} more", names.len() - 12);
    }
    text
}

/// Builds the links of a shape. Equal arguments give equal results.
///
/// - `isolate`: the group from all other configured peers; [`WORLD`] takes part only where named.
/// - `split`: every two groups from each other; configured peers not named form one further group.
/// - `between`: two groups from each other, and no one else.
/// - `direction` keeps, of the links with an end in the first group, those that it sends on (`out`) or hears on
///   (`in`); links between other groups have no end in it and are cut with `both` only.
/// - `bridge`: the first half of all peers is the smaller one, as in `halves`, and `via` is one of the second half.
/// - `majorities_ring`: the shuffled peers form a ring, and each keeps as many two-way connections as a majority takes
///   ([`ring::connections`]). Where both the peers and these are odd in number, one peer keeps one more. Of three
///   peers each hears only the one before it, which is the only way in which three different majorities exist.
/// - The members of a group and of a grudge's sets are sorted in the resolved shape: their order means nothing.
pub fn resolve(
    shape: &Shape,
    direction: Direction,
    names: &PeerNames,
    presets: &BTreeMap<String, Shape>,
    seed: u64,
) -> Result<Resolved, TopologyError> {
    let Selected { shape, drawn } = select(shape, direction, names, presets, seed)?;
    let links = links(&shape, direction, names)?;
    Ok(Resolved { shape, drawn, links })
}

/// The links of a shape whose peers are known: sorted, each once.
pub fn links(
    shape: &Shape<PeerName>,
    direction: Direction,
    names: &PeerNames,
) -> Result<Vec<Link>, TopologyError> {
    let mut links = cut_links(shape, direction, names)?;
    links.sort_unstable();
    links.dedup();
    if links.is_empty() {
        return Err(TopologyError::CutsNothing);
    }
    Ok(links)
}

fn cut_links(
    shape: &Shape<PeerName>,
    direction: Direction,
    names: &PeerNames,
) -> Result<Vec<Link>, TopologyError> {
    match shape {
        Shape::Isolate(group) if group.is_empty() => Err(TopologyError::Empty { what: "the group is empty" }),
        Shape::Split(split) if split.is_empty() => {
            Err(TopologyError::Empty { what: "the list of groups is empty" })
        }
        Shape::Isolate(group) => between(&groups(std::slice::from_ref(group), "isolate", names)?, direction),
        Shape::Split(split) => between(&groups(split, "split", names)?, direction),
        Shape::Between(two) => between(&named_groups(two, "between", names)?, direction),
        Shape::Bridge(bridge) => {
            let via = id(&bridge.via, names)?;
            let others: Vec<PeerId> = names.peers().filter(|peer| *peer != via).collect();
            let (first, second) = others.split_at(names.peers().count() / 2);
            between(&[first.to_vec(), second.to_vec()], Direction::Both)
        }
        Shape::Links(links) => {
            if links.is_empty() {
                return Err(TopologyError::Empty { what: "the list of links is empty" });
            }
            links.iter().map(|NamedLink { src, dst }| link(src, dst, names)).collect()
        }
        Shape::Grudge(grudge) => {
            let mut links = Vec::new();
            for (dst, srcs) in grudge {
                id(dst, names)?;
                for src in srcs {
                    links.push(link(src, dst, names)?);
                }
            }
            if links.is_empty() {
                return Err(TopologyError::Empty { what: "the grudge has no link" });
            }
            Ok(links)
        }
        Shape::Halves(_)
        | Shape::RandomHalves(_)
        | Shape::RandomNode(_)
        | Shape::MajoritiesRing(_)
        | Shape::Preset(_) => unreachable!("select() has replaced these shapes"),
    }
}

fn id(PeerName(name): &PeerName, names: &PeerNames) -> Result<PeerId, TopologyError> {
    names.id(name).ok_or_else(|| TopologyError::UnknownPeer {
        name: name.clone(),
        known: names.peers().chain([PeerId::WORLD]).map(|id| names.name(id).to_owned()).collect(),
    })
}

fn link(src: &PeerName, dst: &PeerName, names: &PeerNames) -> Result<Link, TopologyError> {
    let link = Link { src: id(src, names)?, dst: id(dst, names)? };
    if link.src == link.dst {
        return Err(TopologyError::SelfLink { name: src.0.clone() });
    }
    Ok(link)
}

/// The groups by id; the configured peers that no group names are one more, at the end.
fn groups(
    lists: &[Vec<PeerName>],
    shape: &str,
    names: &PeerNames,
) -> Result<Vec<Vec<PeerId>>, TopologyError> {
    let mut groups = named_groups(lists, shape, names)?;
    let mut is_named = vec![false; names.len()];
    groups.iter().flatten().for_each(|peer| is_named[usize::from(peer.0)] = true);
    let rest: Vec<PeerId> = names.peers().filter(|peer| !is_named[usize::from(peer.0)]).collect();
    if !rest.is_empty() {
        groups.push(rest);
    }
    Ok(groups)
}

/// The groups by id: none is empty, and no peer is in two.
fn named_groups(
    lists: &[Vec<PeerName>],
    shape: &str,
    names: &PeerNames,
) -> Result<Vec<Vec<PeerId>>, TopologyError> {
    let mut seen = vec![false; names.len()];
    let mut groups = Vec::with_capacity(lists.len() + 1);
    for group in lists {
        if group.is_empty() {
            return Err(TopologyError::EmptyGroup { what: format!("a group of {shape}") });
        }
        let mut ids = Vec::with_capacity(group.len());
        for name in group {
            let id = id(name, names)?;
            if std::mem::replace(&mut seen[usize::from(id.0)], true) {
                return Err(TopologyError::Twice { name: name.0.clone() });
            }
            ids.push(id);
        }
        groups.push(ids);
    }
    Ok(groups)
}

/// The links between every two groups, by the direction relative to the first.
#[expect(clippy::unnecessary_wraps, reason = "an arm of a match whose other arms can fail")]
fn between(groups: &[Vec<PeerId>], direction: Direction) -> Result<Vec<Link>, TopologyError> {
    let mut links = Vec::new();
    for (from, srcs) in groups.iter().enumerate() {
        for (to, dsts) in groups.iter().enumerate() {
            let cut = match direction {
                Direction::Both => true,
                Direction::In => to == 0,
                Direction::Out => from == 0,
            };
            if from != to && cut {
                let pairs = srcs.iter().flat_map(|src| dsts.iter().map(|dst| Link { src: *src, dst: *dst }));
                links.extend(pairs);
            }
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests;
