//! From a shape as asked to one that says which peers: presets looked up, selectors and draws made peers. Pure, and the
//! same for the same seed.

use std::collections::BTreeMap;

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{TopologyError, id, ring};
use crate::model::{Bridge, Direction, NamedLink, PeerId, PeerName, PeerNames, Selector, Shape, WORLD};

/// A shape whose peers are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The shape after drawing and presets, in its one spelling.
    pub shape: Shape<PeerName>,
    /// Whether the seed had a say.
    pub drawn: bool,
}

/// Makes peers of everything in a shape that stands for peers, and writes computed shapes as the groups or grudges that
/// they are. Whether the peers exist, and which links they have, is for [`links`](super::links).
pub fn select(
    shape: &Shape,
    direction: Direction,
    names: &PeerNames,
    presets: &BTreeMap<String, Shape>,
    seed: u64,
) -> Result<Selected, TopologyError> {
    let shape = match shape {
        Shape::Preset(name) => match presets.get(name) {
            Some(Shape::Preset(_)) => return Err(TopologyError::NestedPreset { name: name.clone() }),
            Some(shape) => shape,
            None => {
                let known = presets.keys().cloned().collect();
                return Err(TopologyError::UnknownPreset { name: name.clone(), known });
            }
        },
        shape => shape,
    };
    if direction != Direction::Both && !has_first_group(shape) {
        return Err(TopologyError::NoFirstGroup { shape: shape.word() });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut peers: Vec<PeerId> = names.peers().collect();
    let at_least = |needed: usize| {
        let have = names.peers().count();
        if have < needed {
            Err(TopologyError::TooFewPeers { shape: shape.word(), needed, have })
        } else {
            Ok(())
        }
    };
    let (shape, drawn) = match shape {
        Shape::Halves(_) => {
            at_least(2)?;
            (Shape::Split(named_halves(&peers, names)), false)
        }
        Shape::RandomHalves(_) => {
            at_least(2)?;
            peers.shuffle(&mut rng);
            (Shape::Split(named_halves(&peers, names)), true)
        }
        Shape::RandomNode(_) => {
            at_least(2)?;
            let peer = peers[rng.random_range(0..peers.len())];
            (Shape::Isolate(vec![names.name(peer).into()]), true)
        }
        Shape::MajoritiesRing(_) => {
            at_least(3)?;
            peers.shuffle(&mut rng);
            (Shape::Grudge(majorities_ring(&peers, names)), true)
        }
        Shape::Bridge(Bridge { via }) => {
            let via = peer(via);
            if via.0 == WORLD {
                return Err(TopologyError::WorldBridge);
            }
            id(&via, names)?;
            at_least(3)?;
            (Shape::Bridge(Bridge { via }), false)
        }
        Shape::Isolate(members) => (Shape::Isolate(group(members)), false),
        Shape::Split(groups) => (Shape::Split(groups.iter().map(|members| group(members)).collect()), false),
        Shape::Between(groups) => (Shape::Between(groups.each_ref().map(|members| group(members))), false),
        Shape::Grudge(grudge) => {
            let sets = grudge.iter().map(|(dst, srcs)| (peer(dst), group(srcs)));
            (Shape::Grudge(sets.collect()), false)
        }
        Shape::Links(links) => {
            let links =
                links.iter().map(|NamedLink { src, dst }| NamedLink { src: peer(src), dst: peer(dst) });
            (Shape::Links(links.collect()), false)
        }
        Shape::Preset(_) => unreachable!("looked up above"),
    };
    Ok(Selected { shape, drawn })
}

/// The peer of a position that is for one peer.
fn peer(selector: &Selector) -> PeerName {
    match selector {
        Selector::Name(name) => PeerName(name.clone()),
    }
}

/// The peers of a group, sorted: their order means nothing.
fn group(members: &[Selector]) -> Vec<PeerName> {
    let mut peers: Vec<PeerName> = members.iter().map(peer).collect();
    peers.sort();
    peers
}

/// Whether a direction can be relative to its first group.
fn has_first_group(shape: &Shape) -> bool {
    match shape {
        Shape::MajoritiesRing(_) | Shape::Bridge(_) | Shape::Links(_) | Shape::Grudge(_) => false,
        Shape::Isolate(_)
        | Shape::Split(_)
        | Shape::Between(_)
        | Shape::Halves(_)
        | Shape::RandomHalves(_)
        | Shape::RandomNode(_)
        | Shape::Preset(_) => true,
    }
}

/// The smaller half first.
fn halves(peers: &[PeerId]) -> (&[PeerId], &[PeerId]) {
    peers.split_at(peers.len() / 2)
}

fn named_halves(peers: &[PeerId], names: &PeerNames) -> Vec<Vec<PeerName>> {
    let (first, second) = halves(peers);
    [first, second]
        .into_iter()
        .map(|half| {
            let mut half = half.to_vec();
            half.sort_unstable();
            half.into_iter().map(|peer| names.name(peer).into()).collect()
        })
        .collect()
}

/// Who drops whom, so that each peer keeps the connections of the ring.
fn majorities_ring(ring: &[PeerId], names: &PeerNames) -> BTreeMap<PeerName, Vec<PeerName>> {
    let kept = ring::connections(ring.len());
    let drops = |at: usize| {
        let mut srcs: Vec<PeerId> = (0..ring.len())
            .filter(|src| *src != at && !kept[at].contains(src))
            .map(|src| ring[src])
            .collect();
        srcs.sort_unstable();
        srcs.into_iter().map(|src| names.name(src).into()).collect()
    };
    (0..ring.len()).map(|at| (PeerName::from(names.name(ring[at])), drops(at))).collect()
}
