//! Shapes to directed links: pure, and the same for the same seed.

use crate::model::{Direction, Link, NamedLink, PeerId, PeerName, PeerNames, Shape};

mod draw;
mod error;
mod known;
mod ring;
mod select;
mod shapes;
mod syntax;
pub mod words;

pub use error::TopologyError;
use known::id;
pub use known::{Definitions, RolePeers};
pub use select::{Selected, check_direction, check_names, roles, select};
pub(crate) use syntax::Arguments;

/// A shape made definite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The shape after drawing, roles and presets: one that resolves to the same links with any seed.
    pub shape: Shape<PeerName>,
    /// Whether the seed had a say.
    pub drawn: bool,
    /// The links to cut, sorted, each once, none from a peer to itself.
    pub links: Vec<Link>,
}

/// Builds the links of a shape. Equal arguments give equal results.
///
/// - `isolate`: the group from all other configured peers; [`WORLD`] takes part only where named.
/// - `split`: every two groups from each other; configured peers not named form one further group.
/// - `between`: the groups from each other, and no one else.
/// - `direction` keeps, of the links with an end in the first group, those on which it sends (`out`) or
///   receives (`in`); links between other groups have no end in it and are cut with `both` only.
/// - `bridge`: the first half of all peers is the smaller one, as in `halves`, and `via` is one of the second half.
/// - `random`, `random_node`, `minority` and `minority_third` isolate whom they draw, from all configured peers. The two
///   minorities count the peers that they draw from, as Jepsen does.
/// - `random_halves`, `random_groups` and `majorities_ring` leave everyone untouched whom they may not draw.
/// - `majorities_ring`: the shuffled peers form a ring, and each keeps as many two-way connections as a majority takes
///   ([`ring::connections`]). Where both the peers and these are odd in number, one peer keeps one more. Of three
///   peers each receives only from the one before it: three different majorities exist in no other way.
/// - In the resolved shape, the members of a group and of a grudge's sets are sorted, links too, and so are the groups
///   after the first: their order means nothing.
pub fn resolve(
    shape: &Shape,
    direction: Direction,
    known: Definitions<'_>,
    seed: u64,
) -> Result<Resolved, TopologyError> {
    let Selected { shape, drawn } = select(shape, direction, known, seed)?;
    let links = links(&shape, direction, known.names)?;
    Ok(Resolved { shape, drawn, links })
}

/// The links of a shape that [`select`] made: sorted, each once.
fn links(
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
        Shape::Between(groups) if groups.len() < 2 => {
            Err(TopologyError::Empty { what: "between takes two groups or more" })
        }
        Shape::Between(groups) => between(&named_groups(groups, "between", names)?, direction),
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
        _ => unreachable!("select() has replaced these shapes"),
    }
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

#[cfg(test)]
mod draw_tests;
