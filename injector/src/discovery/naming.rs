//! Computes what names the ends of frames besides the config's addresses, from the facts of namespaces. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::devices::{Spot, bridge_of, has_members, other_end, usable};
use super::homes::{Exit, Home, exits, resident};
use super::hops::{configured, next_hops};
use super::places::{Found, Namespace};
use crate::address::is_link_local;
use crate::netlink::Kind;
use injector_core::config::{Config, Netns};
use injector_core::identity::{End, Identity, Mac, Port, Traits};
use injector_core::model::PeerId;

/// An interface of ours.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// The id that it has in the programs.
    pub id: u32,
    /// Its name now.
    pub name: &'a str,
    /// Its namespace.
    pub netns: Option<&'a Netns>,
    /// The peer that the config says is behind it.
    pub peer: Option<PeerId>,
}

/// The facts that names are taken from.
pub struct Sources<'a> {
    /// The config in force.
    pub config: &'a Config,
    /// The namespaces and their facts.
    pub namespaces: &'a [Namespace],
    /// The peers' homes.
    pub homes: &'a BTreeMap<PeerId, Home>,
    /// The peers' paths.
    pub found: &'a BTreeMap<PeerId, Found>,
}

/// The addresses that the config does not list and that homes hold, as [`Identity`] has them.
#[derive(Default)]
struct Unlisted {
    held: BTreeMap<IpAddr, PeerId>,
    private: BTreeMap<IpAddr, PeerId>,
    shared: BTreeMap<IpAddr, Option<PeerId>>,
}

/// Names the ends.
pub fn identity(sources: &Sources<'_>, ours: &[Ours<'_>]) -> Identity {
    let (macs, doubled) = sources.macs();
    let Unlisted { held, private, shared } = sources.unlisted();
    let peers = sources.traits(&macs);
    let mut identity = Identity {
        ports: BTreeMap::new(),
        moved: sources.moved(),
        forwarders: sources.forwarders(&shared, &peers),
        peers,
        macs,
        doubled,
        held,
        private,
        shared,
    };
    let nested = sources.nested();
    for interface in ours {
        if let Some((peer, end)) = sources.bound(interface) {
            let is_shared = sources.is_shared(interface, (peer, end), &identity.macs, &nested);
            identity.ports.insert(interface.id, Port { peer, end, is_shared });
        }
    }
    identity
}

impl<'a> Sources<'a> {
    fn resident(&self, at: usize) -> Option<PeerId> {
        resident(self.homes, at)
    }

    fn spot(&self, interface: &Ours<'_>) -> Option<Spot<'a>> {
        let at = self.namespaces.iter().position(|space| space.netns.as_ref() == interface.netns)?;
        let link = self.namespaces[at].facts.links.iter().find(|link| link.name == interface.name)?;
        Some((at, link))
    }

    /// Whether what a device of a home sends, the home's own stack sends: frames pass a bridge's ports for others too,
    /// and a device below a macvlan of another namespace carries that one's frames.
    fn is_own_nic(&self, (at, link): Spot<'_>) -> bool {
        let space = &self.namespaces[at];
        let carries_others = self.namespaces.iter().enumerate().any(|(other, far)| {
            let is_above = |above: &&crate::netlink::LinkFacts| {
                above.is_below_away
                    && above.below == Some(link.index)
                    && matches!(above.kind, Kind::Vlan | Kind::Macvlan | Kind::Tap)
                    && above.away.is_none_or(|id| {
                        far.away.is_empty() || far.away.get(&id).is_some_and(|netns| *netns == space.netns)
                    })
            };
            other != at && far.facts.links.iter().any(|above| is_above(&above))
        });
        // A bridge with one port passes frames on for nobody.
        let is_bridged = bridge_of(space, link).is_some_and(|bridge| {
            space.facts.links.iter().filter(|member| member.master == Some(bridge.index)).count() > 1
        });
        usable(link) && !is_bridged && !carries_others
    }

    /// The peer that is proved to be behind an interface, and which end of the peer's link that is.
    fn bound(&self, interface: &Ours<'_>) -> Option<(PeerId, End)> {
        let spot = self.spot(interface);
        if let Some(peer) = interface.peer {
            let is_own = spot.is_some_and(|(at, _)| self.homes.get(&peer).is_some_and(|home| home.at == at));
            return Some((peer, if is_own { End::Own } else { End::Host }));
        }
        let spot = spot?;
        let resident = self.resident(spot.0);
        let behind = other_end(self.namespaces, spot).filter(|end| self.is_own_nic(*end));
        let behind = behind.and_then(|(at, _)| Some((at, self.resident(at)?)));
        // Between two homes, the port is of the one that is reached through the other.
        let is_behind = |(at, peer): &(usize, PeerId)| {
            Some(*peer) != resident
                && (resident.is_none() || !self.leads_out(*at, spot.0) && self.leads_out(spot.0, *at))
        };
        if let Some((_, peer)) = behind.filter(is_behind) {
            return Some((peer, End::Host));
        }
        let peer = resident.filter(|_| self.is_own_nic(spot))?;
        Some((peer, End::Own))
    }

    /// Whether another peer is behind an interface too, as far as anything shows.
    fn is_shared(
        &self,
        interface: &Ours<'_>,
        (peer, end): (PeerId, End),
        macs: &BTreeMap<Mac, PeerId>,
        nested: &[(PeerId, usize)],
    ) -> bool {
        let is_there = |found: &Found| {
            let places = found.paths.iter().flat_map(|path| &path.places);
            places
                .clone()
                .any(|place| place.name == interface.name && place.netns.as_ref() == interface.netns)
        };
        let spot = self.spot(interface);
        // Whoever is at the far end of the peer's own NIC is not behind the peer: what leaves by the NIC, the peer sends.
        let far = spot.filter(|_| end == End::Own).and_then(|spot| other_end(self.namespaces, spot));
        let is_beyond = |other: PeerId| {
            self.homes.get(&other).is_some_and(|home| far.is_some_and(|(at, _)| home.at == at))
        };
        let is_on_a_way =
            self.found.iter().any(|(other, found)| *other != peer && !is_beyond(*other) && is_there(found));
        let Some((at, link)) = spot else { return is_on_a_way };
        let home = self.homes.get(&peer).map(|home| home.at);
        let is_nested = nested.iter().any(|(other, outer)| *other != peer && Some(*outer) == home);
        if end == End::Own && bridge_of(&self.namespaces[at], link).is_some() {
            // The peer's own bridge learns everyone else behind it.
            return is_nested;
        }
        let learned = self.namespaces[at].facts.ports.iter().filter(|(_, port)| *port == link.index);
        let is_learned = learned
            .filter_map(|(mac, _)| macs.get(mac).copied().or_else(|| configured(self.config, *mac)))
            .any(|other| other != peer);
        is_on_a_way || is_learned || is_nested
    }

    /// The peers that are plugged into another one's home alone, each with the number of that: they are behind each of
    /// its other devices. Of two that have a cable between them and nothing else, neither is behind the other.
    fn nested(&self) -> Vec<(PeerId, usize)> {
        let mut nested = Vec::new();
        for (peer, home) in self.homes {
            let links = self.namespaces[home.at].facts.links.iter();
            let ends = links.filter_map(|link| other_end(self.namespaces, (home.at, link)));
            let outer: BTreeSet<usize> = ends
                .map(|(at, _)| at)
                .filter(|at| *at != home.at && self.homes.values().any(|other| other.at == *at))
                .collect();
            let is_behind = |at: &usize| !self.leads_out(home.at, *at) && self.leads_out(*at, home.at);
            nested.extend(outer.into_iter().filter(is_behind).map(|at| (*peer, at)));
        }
        nested
    }

    /// Whether a namespace has an exit that does not end in a certain other one.
    fn leads_out(&self, at: usize, other: usize) -> bool {
        let exits = exits(self.config, self.namespaces, at);
        exits.iter().any(|exit| {
            self.namespaces[at]
                .facts
                .link(exit.index)
                .is_none_or(|link| other_end(self.namespaces, (at, link)).is_none_or(|(end, _)| end != other))
        })
    }

    /// The MAC addresses of the homes' devices: those of one peer alone, each with the peer; and those that someone else's
    /// device has too.
    fn macs(&self) -> (BTreeMap<Mac, PeerId>, BTreeSet<Mac>) {
        let mut holders: BTreeMap<Mac, BTreeSet<Option<PeerId>>> = BTreeMap::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            for link in space.facts.links.iter().filter(|link| usable(link)) {
                if let Some(mac) = link.mac {
                    holders.entry(mac).or_default().insert(self.resident(at));
                }
            }
        }
        // The MAC address of a virtual router is learned from frames, which show who the master is.
        holders.retain(|mac, _| *mac != [0; 6] && mac[0] & 1 == 0 && !is_virtual(*mac));
        let doubled = holders.iter().filter(|(_, holders)| holders.len() > 1).map(|(mac, _)| *mac).collect();
        let one = |(mac, holders): (Mac, BTreeSet<Option<PeerId>>)| {
            let [Some(peer)] = holders.into_iter().collect::<Vec<_>>()[..] else { return None };
            let is_anothers = configured(self.config, mac).is_some_and(|other| other != peer);
            (!is_anothers).then_some((mac, peer))
        };
        (holders.into_iter().filter_map(one).collect(), doubled)
    }

    /// The addresses of devices that the config does not list.
    fn unlisted(&self) -> Unlisted {
        let mut holders: BTreeMap<IpAddr, Vec<(Option<PeerId>, Spot<'a>)>> = BTreeMap::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            for (index, address) in &space.facts.addresses {
                if let Some(link) = space.facts.link(*index).filter(|_| is_routable(*address)) {
                    holders.entry(*address).or_default().push((self.resident(at), (at, link)));
                }
            }
        }
        holders.retain(|address, _| self.config.owner(*address).is_none() && !self.is_vip(*address));
        let mut found = Unlisted::default();
        for (address, holders) in holders {
            let all: BTreeSet<Option<PeerId>> = holders.iter().map(|(peer, _)| *peer).collect();
            let peers: Vec<PeerId> = all.iter().copied().flatten().collect();
            match peers[..] {
                [] => {}
                [peer] if all.len() > 1 => drop(found.shared.insert(address, Some(peer))),
                [peer] if holders.iter().all(|(_, spot)| self.is_private(*spot, peer)) => {
                    found.private.insert(address, peer);
                }
                [peer] => drop(found.held.insert(address, peer)),
                _ => drop(found.shared.insert(address, None)),
            }
        }
        found
    }

    /// Whether nothing leaves by a device of a peer's home, as far as its kind shows. One that has an address of the config is on
    /// the peer's way to others.
    fn is_private(&self, (at, link): Spot<'_>, peer: PeerId) -> bool {
        let mut own = self.namespaces[at].facts.addresses.iter().filter(|(index, _)| *index == link.index);
        let is_listed = own.any(|(_, address)| self.config.owner(*address) == Some(peer));
        matches!(link.kind, Kind::Loopback | Kind::Bridge) && !is_listed
    }

    /// The peers that forward and hold one of the addresses that several peers hold.
    fn forwarders(
        &self,
        shared: &BTreeMap<IpAddr, Option<PeerId>>,
        peers: &BTreeMap<PeerId, Traits>,
    ) -> BTreeMap<IpAddr, BTreeSet<PeerId>> {
        let mut forwarders: BTreeMap<IpAddr, BTreeSet<PeerId>> = BTreeMap::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            let forwards = |peer: &PeerId| peers.get(peer).is_some_and(|traits| traits.forwards);
            let Some(peer) = self.resident(at).filter(forwards) else { continue };
            for (_, address) in &space.facts.addresses {
                if shared.get(address) == Some(&None) {
                    forwarders.entry(*address).or_default().insert(peer);
                }
            }
        }
        forwarders
    }

    /// Addresses that the config lists for one peer, themselves or in a prefix, and that another one holds.
    fn moved(&self) -> BTreeMap<IpAddr, PeerId> {
        let mut moved = BTreeMap::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            let Some(resident) = self.resident(at) else { continue };
            for (_, address) in &space.facts.addresses {
                // A prefix may span link-local addresses, but lists none.
                let lister = self.config.owner(*address).filter(|_| is_routable(*address));
                if lister.is_some_and(|lister| lister != resident) && !self.is_vip(*address) {
                    moved.entry(*address).or_insert(resident);
                }
            }
        }
        moved
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.config.peers.iter().any(|peer| peer.vip.contains(&address))
    }

    fn traits(&self, macs: &BTreeMap<Mac, PeerId>) -> BTreeMap<PeerId, Traits> {
        let hops = next_hops(self.config, self.namespaces, self.homes);
        let of = |peer: &injector_core::config::Peer| {
            let home = self.homes.get(&peer.id);
            let forwards = peer.forwards || hops.contains(&peer.id);
            // A peer that the config names by its MAC address alone needs nothing else.
            let is_mac_alone = peer.mac.is_some() && peer.addresses.is_empty() && peer.prefixes.is_empty();
            let has_one_way = home.is_some_and(|home| home.is_alone && self.is_single(home.at));
            let is_plain = (has_one_way || is_mac_alone) && !forwards;
            let has_known_macs = home.is_some_and(|home| self.has_known_macs(home.at, peer.id, macs));
            // Namespaces inherit this, so that it alone is no reason to take a peer for a router.
            let may_forward = is_plain && home.is_none_or(|home| self.namespaces[home.at].facts.forwards);
            (peer.id, Traits { is_plain, may_forward, forwards, is_seen: home.is_some(), has_known_macs })
        };
        self.config.peers.iter().map(of).collect()
    }

    /// Whether all MAC addresses by which frames get into a peer's home are known to be the peer's. Behind a bridge or below
    /// another namespace's macvlan there are more, and those that move between hosts are not known to be at one.
    fn has_known_macs(&self, at: usize, peer: PeerId, macs: &BTreeMap<Mac, PeerId>) -> bool {
        let space = &self.namespaces[at];
        let devices = || space.facts.links.iter().filter(|link| usable(link));
        let is_known = |link: &crate::netlink::LinkFacts| {
            link.kind != Kind::Tap && link.mac.is_none_or(|mac| macs.get(&mac) == Some(&peer))
        };
        let ends_here =
            |exit: &Exit| space.facts.link(exit.index).is_some_and(|link| self.is_own_nic((at, link)));
        devices().any(|link| link.mac.is_some())
            && devices().all(is_known)
            && exits(self.config, self.namespaces, at).iter().all(ends_here)
    }

    /// Whether a namespace has one device and nothing to forward to.
    fn is_single(&self, at: usize) -> bool {
        let space = &self.namespaces[at];
        let leads = space.facts.links.iter().filter(|link| {
            let is_empty = matches!(link.kind, Kind::Bridge | Kind::Bond) && !has_members(space, link.index);
            let is_slave = link
                .master
                .and_then(|master| space.facts.link(master))
                .is_some_and(|master| master.kind == Kind::Bond);
            link.up && link.kind != Kind::Loopback && !is_empty && !is_slave
        });
        let kinds: Vec<Kind> = leads.map(|link| link.kind).collect();
        matches!(kinds[..], [kind] if !matches!(kind, Kind::Bridge | Kind::Tunnel | Kind::Tap))
    }
}

/// Whether a MAC address is that of a virtual router (VRRP and CARP of either IP version): the current master sends from it,
/// and each of the others may have a device with it.
pub fn is_virtual(mac: Mac) -> bool {
    matches!(mac, [0, 0, 0x5e, 0, 1 | 2, _])
}

/// Whether an address may name a peer beyond its link.
pub fn is_routable(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let names_no_host = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !is_link_local(address) && !is_broadcast && !names_no_host
}

#[cfg(test)]
mod tests;
