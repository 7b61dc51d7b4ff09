//! The peers that a cut separates from the rest, from its links alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::RecoveryRecord;
use crate::model::Shape;

/// The peers that the cut separates from the rest; `None` for shapes without sides (rings, one-way cuts, halves of one
/// size that are not named).
///
/// Of the same links, another shape's words may cut the other side off; figures of several trials take the words of one
/// ([`super::cuts`]).
///
/// Two peers are on one side if they reach each other over peers with no cut link between them. The largest side is
/// the rest.
pub fn cut_off(record: &RecoveryRecord) -> Option<BTreeSet<String>> {
    let cut: BTreeSet<(&str, &str)> =
        record.links.iter().map(|link| (link.src.as_str(), link.dst.as_str())).collect();
    let mut peers: BTreeSet<&str> = cut.iter().flat_map(|&(src, dst)| [src, dst]).collect();
    peers.extend(record.endpoints.iter().filter_map(|endpoint| endpoint.peer.as_deref()));
    peers.remove("world");
    let joined = |a: &str, b: &str| !cut.contains(&(a, b)) && !cut.contains(&(b, a));
    let mut side_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sides: Vec<BTreeSet<&str>> = Vec::new();
    for &first in &peers {
        if side_of.contains_key(first) {
            continue;
        }
        let mut side = BTreeSet::from([first]);
        let mut open = vec![first];
        while let Some(peer) = open.pop() {
            for &other in &peers {
                if !side.contains(other) && joined(peer, other) {
                    side.insert(other);
                    open.push(other);
                }
            }
        }
        side_of.extend(side.iter().map(|peer| (*peer, sides.len())));
        sides.push(side);
    }
    let is_full = |a: &str, b: &str| cut.contains(&(a, b)) && cut.contains(&(b, a));
    let crossing = peers.iter().flat_map(|a| peers.iter().map(move |b| (*a, *b)));
    if sides.len() < 2 || crossing.into_iter().any(|(a, b)| side_of[a] != side_of[b] && !is_full(a, b)) {
        return None;
    }
    if let Some(Shape::Isolate(isolated)) = &record.shape.resolved {
        return Some(isolated.iter().map(ToString::to_string).collect());
    }
    let largest = sides.iter().map(BTreeSet::len).max()?;
    let mut rest = (0..sides.len()).filter(|&at| sides[at].len() == largest);
    let rest = rest.next().filter(|_| rest.next().is_none())?;
    let others = sides.iter().enumerate().filter(|&(at, _)| at != rest);
    Some(others.flat_map(|(_, side)| side.iter().map(|peer| (*peer).to_owned())).collect())
}
