//! Identifies strangers: someone who exchanged frames with a peer during a cut, and whom no address names. A
//! frame of a peer that could not be distinguished from the rest of the world passed the cut. Pure.

mod tenure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::homes::Home;
use super::places::Namespace;
use crate::address::is_link_local;
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Netns};
use injector_core::identity::{Contact, Identity, Mac, Stranger};
use injector_core::model::{Link, PeerId};
use tenure::Tenures;

/// How many MAC addresses are remembered.
const MOST: usize = 8192;

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
    /// The instant since which each peer's home was last read,
    homes_read: BTreeMap<PeerId, MonoNs>,
    /// and the MAC addresses of all devices that were seen at that time.
    seen: BTreeSet<Mac>,
    /// The networks on the links of each peer's home, by device; empty for a peer whose home is not seen.
    networks: BTreeMap<PeerId, Vec<Vec<IpNet>>>,
    /// The networks of all devices that are seen.
    all_networks: Vec<Vec<IpNet>>,
}

/// A device of a peer's home.
#[derive(Debug)]
struct Nic {
    device: String,
    tenures: Tenures,
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
    /// Takes in the facts of the namespaces, all of which had been read by an instant.
    pub fn update(
        &mut self,
        config: &Config,
        (read, read_by, namespaces): (&ReadTime, MonoNs, &[Namespace]),
        homes: &BTreeMap<PeerId, Home>,
        identity: &Identity,
    ) {
        let was_read = |home: &&Home| !read.unanswered.contains(&namespaces[home.at].netns);
        for (mac, peers) in &mut self.nics {
            for (peer, nic) in peers {
                let Some(home) = homes.get(peer).filter(was_read) else {
                    nic.tenures.lose_sight();
                    continue;
                };
                if !namespaces[home.at].facts.links.iter().any(|link| link.mac == Some(*mac)) {
                    nic.tenures.has_not((read.since, read_by));
                }
            }
        }
        for (mac, peer) in &identity.macs {
            let device = namespaces.iter().find_map(|space| {
                let link = space.facts.links.iter().find(|link| link.mac == Some(*mac))?;
                Some((&link.name, space.netns.as_ref()))
            });
            if let Some((name, netns)) = device {
                self.record_device(
                    *mac,
                    *peer,
                    super::devices::shown_device(name, netns),
                    (read.since, read_by),
                );
            }
        }
        self.homes_read
            .extend(homes.iter().filter(|(_, home)| was_read(home)).map(|(peer, _)| (*peer, read.since)));
        let links = namespaces.iter().flat_map(|space| &space.facts.links);
        self.seen = links.filter_map(|link| link.mac).collect();
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

    /// Takes in a device in a peer's home, as was read since an instant and by another.
    pub fn record_device(&mut self, mac: Mac, peer: PeerId, device: String, read: (MonoNs, MonoNs)) {
        if self.nics.len() < MOST || self.nics.contains_key(&mac) {
            let absent = self.homes_read.get(&peer).copied().unwrap_or(MonoNs(0));
            let new = Nic { device: String::new(), tenures: Tenures::default() };
            let nic = self.nics.entry(mac).or_default().entry(peer).or_insert(new);
            nic.device = device;
            nic.tenures.has(read, absent, self.seen.contains(&mac));
        }
    }

    /// Takes in that a peer's home has a MAC address no longer, by an instant.
    pub fn record_given_up(&mut self, mac: Mac, peer: PeerId, by: MonoNs) {
        if let Some(nic) = self.nics.get_mut(&mac).and_then(|peers| peers.get_mut(&peer)) {
            nic.tenures.gave_up(by);
        }
    }

    /// The peers that a stranger is, or may be.
    ///
    /// A device of a peer's home is that peer, for as long as it has the MAC address. Otherwise a next hop is nobody, since what it
    /// sends is routed, and addresses alone say whose that is. Of the others, a peer may be the stranger if a neighbour table has one of its addresses at
    /// this MAC address; or if none has it at any, it has neither a port nor a `mac:`, and both its listed addresses and
    /// the stranger's are on the link.
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
                1 if *has_all && !self.doubled.contains(mac) => PeerMatch::Is(**peer, nic.device.clone()),
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
