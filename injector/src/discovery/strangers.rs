//! Identifies strangers: someone who exchanged frames with a peer during a cut, and whom no address names. A
//! frame of a peer that could not be distinguished from the rest of the world passed the cut. Pure.

mod tenure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::devices::shown_device;
use super::homes::Home;
use super::places::Namespace;
use crate::address::is_link_local;
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Netns};
use injector_core::identity::{Contact, Identity, Mac, Stranger};
use injector_core::model::{Link, PeerId};
use tenure::Tenures;

pub use tenure::Reading;

/// How many MAC addresses are remembered,
const MOST: usize = 8192;
/// and of how many it is remembered who has been seen with them.
const MOST_HOLDERS: usize = 65_536;

/// The MAC addresses that frames and neighbour tables have shown since the start. They name no frame: they
/// say which links a frame leaves in doubt.
#[derive(Debug, Default)]
pub struct Sightings {
    /// MAC addresses of devices in peers' homes: the peers, each with its device.
    nics: BTreeMap<Mac, BTreeMap<PeerId, Nic>>,
    /// MAC addresses at which a neighbour table has a listed address of a peer.
    neighbours: BTreeMap<Mac, BTreeSet<PeerId>>,
    /// MAC addresses of devices in peers' homes that someone else had too.
    doubled: BTreeSet<Mac>,
    /// MAC addresses of next hops: the frames that they send are others'.
    hops: BTreeSet<Mac>,
    /// What each peer's home had when it was last read.
    homes_read: BTreeMap<PeerId, HomeReading>,
    /// The namespaces that devices with a MAC address have been seen in.
    holders: BTreeMap<Mac, Holder>,
    /// The networks on the links of each peer's home, by device; empty for a peer whose home is not seen.
    networks: BTreeMap<PeerId, Vec<Vec<IpNet>>>,
    /// The networks of all devices that are seen.
    all_networks: Vec<Vec<IpNet>>,
}

/// A device of a peer's home.
#[derive(Debug, Default)]
struct Nic {
    /// The namespace that it was last seen in,
    netns: Option<Netns>,
    /// and its name there.
    name: String,
    tenures: Tenures,
}

/// A reading of a peer's home.
#[derive(Debug)]
struct HomeReading {
    since: MonoNs,
    netns: Option<Netns>,
    macs: BTreeSet<Mac>,
}

/// Where devices with a MAC address have been seen.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// In one namespace.
    One(Option<Netns>),
    /// In several.
    Several,
}

/// When namespaces were read.
#[derive(Clone, Debug, Default)]
pub struct ReadTime {
    /// Not before this instant.
    pub since: MonoNs,
    /// Those that did not answer: of these, facts are older.
    pub unanswered: BTreeSet<Option<Netns>>,
}

/// The peer that a stranger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMatch {
    /// This one: the MAC address is that of a device in its home.
    Is(PeerId, String),
    /// Maybe this one.
    MayBe(PeerId),
}

/// A stranger on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The link that its frames may be on.
    pub link: Link,
    /// The peer's device, if the MAC address is that of one.
    pub device: Option<String>,
    /// The frames that were seen of it.
    pub stranger: Stranger,
}

impl Sightings {
    /// Takes in the facts of the namespaces: when they were read, an instant by which all had been, and the facts themselves.
    pub fn update(
        &mut self,
        config: &Config,
        (read, read_by, namespaces): (&ReadTime, MonoNs, &[Namespace]),
        homes: &BTreeMap<PeerId, Home>,
        identity: &Identity,
    ) {
        let found = Reading { since: read.since, by: read_by };
        let was_read = |home: &&Home| !read.unanswered.contains(&namespaces[home.at].netns);
        let has = |space: &Namespace, mac| space.facts.links.iter().any(|link| link.mac == Some(mac));
        for (mac, peers) in &mut self.nics {
            for (peer, Nic { netns, tenures, .. }) in peers {
                // Its home may be another namespace now, while the device is where it was.
                let is_there = namespaces.iter().any(|space| space.netns == *netns && has(space, *mac));
                match homes.get(peer).filter(was_read).map(|home| &namespaces[home.at]) {
                    Some(home) if has(home, *mac) => {}
                    Some(_) if !is_there => tenures.has_not(found),
                    _ => tenures.lose_sight(),
                }
            }
        }
        for space in namespaces {
            for mac in space.facts.links.iter().filter_map(|link| link.mac) {
                self.record_holder(mac, space.netns.as_ref());
            }
        }
        for (mac, peer) in &identity.macs {
            let Some(home) = homes.get(peer).filter(was_read).map(|home| &namespaces[home.at]) else {
                continue;
            };
            if let Some(link) = home.facts.links.iter().find(|link| link.mac == Some(*mac)) {
                self.record_device(*mac, *peer, (home.netns.as_ref(), &link.name), found);
            }
        }
        for (peer, home) in homes.iter().filter(|(_, home)| was_read(home)) {
            let Namespace { netns, facts, .. } = &namespaces[home.at];
            let macs = facts.links.iter().filter_map(|link| link.mac).collect();
            let reading = HomeReading { since: read.since, netns: netns.clone(), macs };
            self.homes_read.insert(*peer, reading);
        }
        // Frames of someone who had it for a moment are still counted.
        self.doubled.extend(&identity.doubled);
        for space in namespaces {
            for (index, address, mac) in &space.facts.neighbours {
                if let Some(peer) = config.owner(*address)
                    && (self.neighbours.len() < MOST || self.neighbours.contains_key(mac))
                {
                    self.neighbours.entry(*mac).or_default().insert(peer);
                }
                let routes = space.facts.routes.iter().chain(&space.facts.defaults);
                let is_hop = |route: &crate::netlink::facts::Route| {
                    route.index == *index && route.gateway == Some(*address)
                };
                if self.hops.len() < MOST && routes.into_iter().any(is_hop) {
                    self.hops.insert(*mac);
                }
            }
        }
        self.networks = homes.iter().map(|(peer, home)| (*peer, by_device(&namespaces[home.at]))).collect();
        self.all_networks = namespaces.iter().flat_map(by_device).collect();
    }

    fn record_holder(&mut self, mac: Mac, netns: Option<&Netns>) {
        let is_full = self.holders.len() >= MOST_HOLDERS;
        match self.holders.get_mut(&mac) {
            Some(Holder::One(only)) if only.as_ref() == netns => {}
            Some(holder) => *holder = Holder::Several,
            None if is_full => {}
            None => {
                self.holders.insert(mac, Holder::One(netns.cloned()));
            }
        }
    }

    /// Takes in a device that was found in a peer's home: its namespace, and its name there.
    pub fn record_device(
        &mut self,
        mac: Mac,
        peer: PeerId,
        (netns, name): (Option<&Netns>, &str),
        found: Reading,
    ) {
        if self.nics.len() >= MOST && !self.nics.contains_key(&mac) {
            return;
        }
        let read = self.homes_read.get(&peer).filter(|read| !read.macs.contains(&mac));
        // The device may have been there while the peer lived elsewhere.
        let has_moved = read.is_some_and(|read| read.netns.as_ref() != netns);
        let absent = read.filter(|_| !has_moved).map_or(MonoNs(0), |read| read.since);
        let is_others = has_moved
            || match self.holders.get(&mac) {
                Some(Holder::One(only)) => only.as_ref() != netns,
                Some(Holder::Several) => true,
                None => self.holders.len() >= MOST_HOLDERS,
            };
        let nic = self.nics.entry(mac).or_default().entry(peer).or_default();
        (nic.netns, nic.name) = (netns.cloned(), name.to_owned());
        nic.tenures.has(found, absent, is_others);
    }

    /// Takes in that someone else has the MAC address of a peer's device too.
    pub fn record_doubled(&mut self, mac: Mac) {
        self.doubled.insert(mac);
    }

    /// Forgets the devices that were gone before an instant, but for those that a neighbour table may still have.
    pub fn forget(&mut self, before: MonoNs) {
        let Self { nics, neighbours, .. } = self;
        nics.retain(|mac, peers| {
            let is_listed = |peer: &PeerId| neighbours.get(mac).is_some_and(|peers| peers.contains(peer));
            peers.retain(|peer, nic| nic.tenures.forget(before) || is_listed(peer));
            !peers.is_empty()
        });
    }

    /// Takes in news that a peer's home has a MAC address no longer, which came at an instant.
    pub fn record_given_up(&mut self, mac: Mac, peer: PeerId, by: MonoNs) {
        if let Some(nic) = self.nics.get_mut(&mac).and_then(|peers| peers.get_mut(&peer)) {
            nic.tenures.gave_up(by);
        }
    }

    /// The peers that a stranger is, or may be.
    ///
    /// A device of a peer's home is that peer, for as long as it has the MAC address. Otherwise a next hop is nobody, since what it
    /// sends is routed, and addresses alone say whose that is. Of the others, a peer may be the stranger if a neighbour table has one
    /// of its addresses at this MAC address; or if none has it at any, it has neither a port nor a `mac:`, and both its listed
    /// addresses and the stranger's are on the link.
    pub fn peer_matches(&self, config: &Config, identity: &Identity, stranger: &Stranger) -> Vec<PeerMatch> {
        let mac = &stranger.id.mac;
        let nics = self.nics.get(mac);
        let is_possible = |peer: &PeerId| {
            *peer != stranger.id.peer
                && !identity.peers.get(peer).is_some_and(|traits| traits.forwards)
                && nics
                    .and_then(|nics| nics.get(peer))
                    .is_none_or(|nic| nic.tenures.is_of(stranger).is_some())
        };
        let had = nics
            .into_iter()
            .flatten()
            .filter_map(|(peer, nic)| Some((peer, nic, nic.tenures.is_of(stranger)?)));
        let had: Vec<_> = had.collect();
        if !had.is_empty() {
            let peer_match = |(peer, nic, has_all): &(&PeerId, &Nic, bool)| match had.len() {
                1 if *has_all && !self.doubled.contains(mac) => {
                    PeerMatch::Is(**peer, shown_device(&nic.name, nic.netns.as_ref()))
                }
                _ => PeerMatch::MayBe(**peer),
            };
            return had.iter().filter(|(peer, ..)| is_possible(peer)).map(peer_match).collect();
        }
        if self.hops.contains(mac) {
            return Vec::new();
        }
        if let Some(peers) = self.neighbours.get(mac) {
            return peers
                .iter()
                .filter(|peer| is_possible(peer))
                .map(|peer| PeerMatch::MayBe(*peer))
                .collect();
        }
        let bound = identity.bound();
        let is_found = |peer: PeerId| self.neighbours.values().any(|peers| peers.contains(&peer));
        let unknown = config.peers.iter().filter(|peer| {
            is_possible(&peer.id)
                && peer.mac.is_none()
                && !bound.contains(&peer.id)
                && !is_found(peer.id)
                && self.is_on_link(peer, stranger)
        });
        unknown.map(|peer| PeerMatch::MayBe(peer.id)).collect()
    }

    /// Whether a peer's listed addresses and a stranger's may be on one link of the peer that met it.
    fn is_on_link(&self, peer: &injector_core::config::Peer, stranger: &Stranger) -> bool {
        let holds = |net: &IpNet| {
            peer.addresses.iter().any(|address| net.contains(address))
                || peer.prefixes.iter().any(|prefix| prefix.contains(net) || net.contains(prefix))
        };
        let is_near = |networks: &[IpNet]| {
            let is_listed_there = networks.iter().any(holds);
            let is_there = stranger.address.is_none_or(|address| {
                is_link_local(address) || networks.iter().any(|net| net.contains(&address))
            });
            is_listed_there && is_there
        };
        if let Some(devices) = self.networks.get(&stranger.id.peer) {
            return devices.iter().any(|networks| is_near(networks));
        }
        // Which networks are on the link of a guest shows only where this host is on it too.
        let mut devices = self.all_networks.iter().filter(|networks| networks.iter().any(holds)).peekable();
        devices.peek().is_none() || devices.any(|networks| is_near(networks))
    }

    /// The strangers that may be on some links, sorted.
    pub fn suspects(
        &self,
        config: &Config,
        identity: &Identity,
        links: &[Link],
        strangers: &[Stranger],
    ) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        for stranger in strangers.iter().filter(|stranger| stranger.id.contact != Contact::UnlistedSource) {
            for peer_match in self.peer_matches(config, identity, stranger) {
                let (peer, device) = match peer_match {
                    PeerMatch::Is(peer, device) => (peer, Some(device)),
                    PeerMatch::MayBe(peer) => (peer, None),
                };
                let link = match stranger.id.contact {
                    Contact::To => Link { src: stranger.id.peer, dst: peer },
                    _ => Link { src: peer, dst: stranger.id.peer },
                };
                if links.binary_search(&link).is_ok() {
                    suspects.push(Suspect { link, device, stranger: *stranger });
                }
            }
        }
        suspects
    }
}

/// The networks on the link, by device.
fn by_device(space: &Namespace) -> Vec<Vec<IpNet>> {
    let mut devices: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
    for (index, net) in &space.facts.networks {
        devices.entry(*index).or_default().push(*net);
    }
    devices.into_values().collect()
}
