//! Where each peer's own stack is: the namespace that holds its addresses, and the devices by which its frames leave
//! that namespace. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::devices::{other_end, usable};
use super::places::{DevicePath, Namespace, Place};
use crate::netlink::{Kind, LinkFacts};
use injector_core::config::{Config, Netns, Peer};
use injector_core::model::PeerId;

/// The names of the homes that were found before.
pub type Before = BTreeMap<PeerId, Option<Netns>>;

/// Why an exit is one.
pub const LEAVES: &str = "the peer's frames can leave by it";

/// The namespace of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The number of the namespace.
    pub at: usize,
    /// Whether no other peer lives there.
    pub is_alone: bool,
    /// Whether all of the peer's addresses that are seen are there, or at another peer.
    pub is_whole: bool,
}

/// A device by which frames leave a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its index.
    pub index: u32,
    /// The device.
    pub place: Place,
    /// The interfaces whose hooks see all of its frames, the best first; none where no hook can.
    pub by: Vec<Place>,
    /// The one of these that is the other end of the device's veth.
    pub end: Option<Place>,
}

impl Exit {
    /// The exit as a path of packets.
    pub fn path(&self) -> DevicePath {
        DevicePath { places: self.by.clone(), sure: self.by.len(), is_own: true }
    }
}

/// The homes of all peers that have one.
pub fn homes(config: &Config, namespaces: &[Namespace], before: &Before) -> BTreeMap<PeerId, Home> {
    let mut found: BTreeMap<PeerId, (usize, BTreeSet<usize>)> = BTreeMap::new();
    for peer in &config.peers {
        let known = before.get(&peer.id).and_then(|netns| number(namespaces, netns.as_ref()));
        let candidates = candidates(peer, namespaces, known);
        let Some(first) = candidates.first() else { continue };
        let all: BTreeSet<usize> = candidates.iter().copied().collect();
        let at = known.filter(|known| all.contains(known)).unwrap_or(*first);
        found.insert(peer.id, (at, all));
    }
    // An address that moves to another peer's home does not take its peer along.
    let moved: Vec<(PeerId, usize)> = found
        .iter()
        .filter_map(|(peer, (at, _))| {
            let known = number(namespaces, before.get(peer)?.as_ref()).filter(|known| known != at)?;
            let is_anothers = found.iter().any(|(other, (home, _))| {
                other != peer
                    && home == at
                    && before.get(other).is_some_and(|netns| number(namespaces, netns.as_ref()) == Some(*at))
            });
            is_anothers.then_some((*peer, known))
        })
        .collect();
    for (peer, known) in moved {
        found.insert(peer, (known, BTreeSet::from([known])));
    }
    let at: Vec<(PeerId, usize)> = found.iter().map(|(peer, (at, _))| (*peer, *at)).collect();
    let is_anothers =
        |peer: PeerId, space: usize| at.iter().any(|(other, at)| *other != peer && *at == space);
    found
        .iter()
        .map(|(peer, (at, all))| {
            let is_whole = all.iter().all(|space| space == at || is_anothers(*peer, *space));
            (*peer, Home { at: *at, is_alone: !is_anothers(*peer, *at), is_whole })
        })
        .collect()
}

/// The one peer whose home a namespace is.
pub fn resident(homes: &BTreeMap<PeerId, Home>, at: usize) -> Option<PeerId> {
    let mut all = homes.iter().filter(|(_, home)| home.at == at);
    all.next().filter(|(_, home)| home.is_alone).map(|(peer, _)| *peer)
}

fn number(namespaces: &[Namespace], netns: Option<&Netns>) -> Option<usize> {
    namespaces.iter().position(|space| space.netns.as_ref() == netns)
}

/// The namespaces that hold a peer's addresses, in their order; then those with its MAC address. An address that
/// several hold counts only where one of them is the daemon's own, or was its home before.
fn candidates(peer: &Peer, namespaces: &[Namespace], known: Option<usize>) -> Vec<usize> {
    if let Some(container) = &peer.container {
        // The engine has said where it lives.
        let home = Netns::Container(container.clone());
        return number(namespaces, Some(&home)).into_iter().collect();
    }
    let mut candidates = Vec::new();
    let mut add = |holding: &mut dyn Iterator<Item = usize>| {
        let holding: Vec<usize> = holding.collect();
        let chosen = match holding[..] {
            [] => return,
            [only] => Some(only),
            _ => holding
                .iter()
                .copied()
                .find(|at| namespaces[*at].netns.is_none())
                .or(known.filter(|known| holding.contains(known))),
        };
        candidates.extend(chosen);
    };
    let spaces = || namespaces.iter().enumerate();
    for address in &peer.addresses {
        let holds = |space: &Namespace| {
            let mut held = space.facts.addresses.iter().filter(|(_, held)| held == address);
            held.any(|(index, _)| space.facts.link(*index).is_some())
        };
        add(&mut spaces().filter(|(_, space)| holds(space)).map(|(at, _)| at));
    }
    if let Some(mac) = peer.mac {
        let has = |space: &Namespace| {
            space.facts.links.iter().any(|link| usable(link) && link.mac == Some(mac) && link.up)
        };
        add(&mut spaces().filter(|(_, space)| has(space)).map(|(at, _)| at));
    }
    candidates
}

/// The devices by which frames leave a namespace, without those that the config leaves out.
pub fn exits(config: &Config, namespaces: &[Namespace], at: usize) -> Vec<Exit> {
    split_exits(config, namespaces, at).0
}

/// The exits of a namespace that the config leaves out.
pub fn left_out(config: &Config, namespaces: &[Namespace], at: usize) -> Vec<Place> {
    split_exits(config, namespaces, at).1.into_iter().map(|exit| exit.place).collect()
}

fn split_exits(config: &Config, namespaces: &[Namespace], at: usize) -> (Vec<Exit>, Vec<Exit>) {
    let space = &namespaces[at];
    let links = space.facts.links.iter().filter(|link| is_exit(space, link));
    links.map(|link| exit(namespaces, at, link)).partition(|exit| {
        let is_left_out = |place: &Place| is_place_elsewhere(config, namespaces, place);
        !is_left_out(&exit.place) && !exit.by.iter().any(is_left_out)
    })
}

/// Whether a device of a namespace is in the config's `elsewhere:`.
pub fn is_elsewhere(config: &Config, space: &Namespace, name: &str) -> bool {
    config.elsewhere.iter().any(|device| space.has(device, name))
}

/// Whether a place in one of these namespaces is in the config's `elsewhere:`.
pub fn is_place_elsewhere(config: &Config, namespaces: &[Namespace], place: &Place) -> bool {
    let space = namespaces.iter().find(|space| space.netns == place.netns);
    space.is_some_and(|space| is_elsewhere(config, space, &place.name))
}

fn is_exit(space: &Namespace, link: &LinkFacts) -> bool {
    let is_carried = link.kind == Kind::Vlan
        && !link.is_below_away
        && link.below.is_some_and(|below| space.facts.link(below).is_some());
    // Frames of a bridge or a bond leave by its ports.
    link.up && !matches!(link.kind, Kind::Loopback | Kind::Bridge | Kind::Bond) && !is_carried
}

fn exit(namespaces: &[Namespace], at: usize, link: &LinkFacts) -> Exit {
    let space = &namespaces[at];
    let place = |at: usize, link: &LinkFacts, why: String| Place {
        netns: namespaces[at].netns.clone(),
        name: link.name.clone(),
        why,
    };
    let own = place(at, link, LEAVES.to_owned());
    let mut by = Vec::new();
    let mut end = None;
    if usable(link) {
        // A device on top of a port sends past the port's bridge.
        let has_above = space.facts.links.iter().any(|above| {
            above.below == Some(link.index)
                && !above.is_below_away
                && matches!(above.kind, Kind::Vlan | Kind::Macvlan)
        });
        let mut bonds = Vec::new();
        let mut bridges = Vec::new();
        let mut member = link;
        while let Some(master) = member.master.and_then(|master| space.facts.link(master)) {
            let why = format!("the peer's frames by {} pass it", link.name);
            match master.kind {
                Kind::Bond => bonds.push(place(at, master, why)),
                Kind::Bridge if !has_above => bridges.push(place(at, master, why)),
                _ => break,
            }
            if bonds.len() + bridges.len() > 4 {
                break;
            }
            member = master;
        }
        by.extend(bonds);
        by.push(own.clone());
        if let Some((other, far)) = other_end(namespaces, (at, link)) {
            let far = place(other, far, format!("it is the other end of {}", link.name));
            end = Some(far.clone());
            by.push(far);
        }
        by.extend(bridges);
    }
    Exit { index: link.index, place: own, by, end }
}

#[cfg(test)]
mod tests;
