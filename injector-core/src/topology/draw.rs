//! Makes peers of selectors and draws them from the seed.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::error::TopologyError;
use super::known::{Definitions, id};
use super::ring;
use super::syntax::Arguments;
use crate::model::{Bridge, NamedLink, PeerId, PeerName, PeerNames, Selector, Shape, WORLD};

/// The making of one shape.
pub(super) struct Drawing<'a> {
    known: Definitions<'a>,
    /// The shape that is drawn, in words, for errors.
    shape: String,
    rng: ChaCha8Rng,
    /// Whether the seed had a say.
    pub drawn: bool,
}

/// The peers that a shape is made of, in an order that decides who is where.
pub(super) struct Pool<'a> {
    peers: Vec<PeerId>,
    names: &'a PeerNames,
    /// Whether these are all configured peers: none is left untouched then.
    is_everyone: bool,
}

impl<'a> Drawing<'a> {
    pub fn new(known: Definitions<'a>, shape: &Shape, seed: u64) -> Self {
        let shape = match shape.written() {
            (word, Arguments::Draw { count: Some(count), .. }) => format!("{word} {count}"),
            (word, _) => word.to_owned(),
        };
        Self { known, shape, rng: ChaCha8Rng::seed_from_u64(seed), drawn: false }
    }

    /// The peers of a position that may have several, in one order, each once.
    fn peers_of(&self, selector: &Selector) -> Result<Vec<PeerName>, TopologyError> {
        match selector {
            Selector::Name(name) => Ok(vec![PeerName(name.clone())]),
            Selector::Role(role) => match self.known.roles.get(role) {
                Some(peers) => {
                    let peers: BTreeSet<PeerName> = peers.iter().cloned().collect();
                    Ok(peers.into_iter().collect())
                }
                None => Err(TopologyError::UnknownRole {
                    name: role.clone(),
                    known: self.known.roles.keys().cloned().collect(),
                }),
            },
        }
    }

    /// The peers of a group, sorted: their order means nothing. A role adds those that are not named beside it.
    pub fn group(&self, members: &[Selector]) -> Result<Vec<PeerName>, TopologyError> {
        let mut peers = Vec::with_capacity(members.len());
        let mut by_role = BTreeSet::new();
        for member in members {
            match member {
                Selector::Name(name) => peers.push(PeerName(name.clone())),
                Selector::Role(_) => by_role.extend(self.peers_of(member)?),
            }
        }
        by_role.retain(|peer| !peers.contains(peer));
        peers.extend(by_role);
        peers.sort();
        Ok(peers)
    }

    /// Groups. Directions are relative to the first; the order of the others means nothing.
    pub fn groups(&self, groups: &[Vec<Selector>]) -> Result<Vec<Vec<PeerName>>, TopologyError> {
        let groups: Result<Vec<_>, _> = groups.iter().map(|members| self.group(members)).collect();
        groups.map(in_order)
    }

    /// The single links between the peers at two positions.
    pub fn links(&self, src: &Selector, dst: &Selector) -> Result<Vec<NamedLink<PeerName>>, TopologyError> {
        let dsts = self.peers_of(dst)?;
        let srcs = self.peers_of(src)?;
        let link = |src: &PeerName, dst: &PeerName| NamedLink { src: src.clone(), dst: dst.clone() };
        Ok(srcs.iter().flat_map(|src| dsts.iter().map(move |dst| link(src, dst))).collect())
    }

    pub fn grudge(
        &self,
        grudge: &BTreeMap<Selector, Vec<Selector>>,
    ) -> Result<BTreeMap<PeerName, Vec<PeerName>>, TopologyError> {
        let mut made: BTreeMap<PeerName, Vec<PeerName>> = BTreeMap::new();
        for (dst, srcs) in grudge {
            let srcs = self.group(srcs)?;
            for dst in self.peers_of(dst)? {
                let drops = made.entry(dst).or_default();
                drops.extend(srcs.iter().cloned());
                drops.sort();
                drops.dedup();
            }
        }
        Ok(made)
    }

    pub fn bridge(&self, via: &Selector) -> Result<Shape<PeerName>, TopologyError> {
        let mut peers = self.peers_of(via)?;
        let (Some(via), true) = (peers.pop(), peers.is_empty()) else {
            return Err(TopologyError::NotOne { selector: via.to_string(), shape: self.shape.clone() });
        };
        if via.0 == WORLD {
            return Err(TopologyError::WorldBridge);
        }
        id(&via, self.known.names)?;
        self.at_least(3)?;
        Ok(Shape::Bridge(Bridge { via }))
    }

    /// A number of peers or groups that makes sense.
    pub fn count(&self, count: u16, least: usize) -> Result<usize, TopologyError> {
        let count = usize::from(count);
        if count < least {
            return Err(TopologyError::TooSmall { shape: self.shape.clone(), least });
        }
        Ok(count)
    }

    /// Requires this many configured peers.
    pub fn at_least(&self, needed: usize) -> Result<(), TopologyError> {
        let have = self.known.names.peers().count();
        if have < needed {
            return Err(TopologyError::TooFewPeers { shape: self.shape.clone(), needed, have });
        }
        Ok(())
    }

    /// The peers to draw from, in the order of their ids; at least `count` of them.
    pub fn pool(&self, among: Option<&[Selector]>, needed: usize) -> Result<Pool<'a>, TopologyError> {
        let names = self.known.names;
        let Some(among) = among else {
            self.at_least(needed)?;
            return Ok(Pool { peers: names.peers().collect(), names, is_everyone: true });
        };
        let mut peers = Vec::new();
        for name in self.group(among)? {
            let peer = id(&name, names)?;
            if peer == PeerId::WORLD {
                return Err(TopologyError::WorldDrawn);
            }
            if peers.contains(&peer) {
                return Err(TopologyError::Twice { name: name.0 });
            }
            peers.push(peer);
        }
        if peers.len() < needed {
            let (shape, have) = (self.shape.clone(), peers.len());
            return Err(TopologyError::TooFewAmong { shape, needed, have });
        }
        peers.sort_unstable();
        let is_everyone = peers.len() == names.peers().count();
        Ok(Pool { peers, names, is_everyone })
    }

    /// The peers of [`Self::pool`] in an order that the seed decides.
    pub fn shuffled(&mut self, among: Option<&[Selector]>, needed: usize) -> Result<Pool<'a>, TopologyError> {
        let mut pool = self.pool(among, needed)?;
        pool.peers.shuffle(&mut self.rng);
        self.drawn = true;
        Ok(pool)
    }

    /// A shape that cuts one drawn peer off from all others.
    pub fn one(&mut self, among: Option<&[Selector]>) -> Result<Shape<PeerName>, TopologyError> {
        self.at_least(2)?;
        let pool = self.pool(among, 1)?;
        let peer = pool.peers[self.rng.random_range(0..pool.peers.len())];
        self.drawn = true;
        Ok(Shape::Isolate(vec![pool.names.name(peer).into()]))
    }
}

impl Pool<'_> {
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    fn named(&self, peers: &[PeerId]) -> Vec<PeerName> {
        let mut peers = peers.to_vec();
        peers.sort_unstable();
        peers.into_iter().map(|peer| self.names.name(peer).into()).collect()
    }

    /// The first `count` as one group, cut off from all other configured peers.
    pub fn isolated(&self, count: usize) -> Shape<PeerName> {
        Shape::Isolate(self.named(&self.peers[..count]))
    }

    /// Cut into groups one after the other, the smaller ones first, which differ by one peer at most.
    pub fn apart(&self, groups: usize) -> Shape<PeerName> {
        let (size, larger) = (self.peers.len() / groups, self.peers.len() % groups);
        let mut rest = self.peers.as_slice();
        let groups = (0..groups).map(|at| {
            let size = if at < groups - larger { size } else { size + 1 };
            let (group, others) = rest.split_at(size);
            rest = others;
            self.named(group)
        });
        let groups = in_order(groups.collect());
        if self.is_everyone { Shape::Split(groups) } else { Shape::Between(groups) }
    }

    /// The grudge by which each peer keeps the connections of a ring of majorities.
    pub fn ring(&self) -> Shape<PeerName> {
        let ring = &self.peers;
        let kept = ring::connections(ring.len());
        let drops = |at: usize| {
            let srcs = (0..ring.len()).filter(|src| *src != at && !kept[at].contains(src));
            self.named(&srcs.map(|src| ring[src]).collect::<Vec<_>>())
        };
        let grudge = (0..ring.len()).map(|at| (self.names.name(ring[at]).into(), drops(at)));
        Shape::Grudge(grudge.collect())
    }
}

/// Groups in their one order: the first stays first, since a direction is relative to it.
fn in_order(mut groups: Vec<Vec<PeerName>>) -> Vec<Vec<PeerName>> {
    if let Some((_, others)) = groups.split_first_mut() {
        others.sort();
    }
    groups
}
