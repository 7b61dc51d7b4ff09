//! The peers that may be at the two ends of a connection to the daemon's own host, as the hooks may name them. Pure.
//!
//! The hooks see MAC addresses, ports and claims of frames, and here are only the facts of the kernel's tables. Where these do
//! not say which peer it is, all that it may be are candidates.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::homes::Home;
use super::places::Namespace;
use crate::address::is_link_local;
use crate::netlink::Kind;
use crate::netlink::facts::{Facts, Stations};
use injector_core::config::{Config, Peer};
use injector_core::identity::{End, Identity, Mac, Port};
use injector_core::model::PeerId;

/// The facts about the daemon's own host.
pub struct OwnHost<'a> {
    /// The config in force.
    pub config: &'a Config,
    /// The namespaces of the last survey.
    pub namespaces: &'a [Namespace],
    /// The peers' homes.
    pub homes: &'a BTreeMap<PeerId, Home>,
    /// The facts that name the ends of frames.
    pub identity: &'a Identity,
    /// The ports among the devices of the daemon's own namespace, by the device's index.
    pub ports: &'a BTreeMap<u32, Port>,
    /// The peers with a port in another namespace.
    pub ported_elsewhere: &'a BTreeSet<PeerId>,
    /// The MAC addresses that the daemon's own namespace has learned, as of now.
    pub stations: &'a Stations,
}

impl OwnHost<'_> {
    /// The peers that this host's end of a connection may be, the world among them.
    pub fn local(&self, address: IpAddr) -> BTreeSet<PeerId> {
        // Who has an address that moves is said by the port, as of a link-local one.
        match self.lister(address) {
            Some(peer) if !self.identity.moved.contains_key(&address) => [peer].into(),
            _ => match self.residents() {
                none if none.is_empty() => [PeerId::WORLD].into(),
                residents => residents,
            },
        }
    }

    /// The peers that the far end of a connection may be, the world among them.
    pub fn remote(&self, address: IpAddr) -> BTreeSet<PeerId> {
        if self.own().is_some_and(|own| own.addresses.iter().any(|(_, held)| *held == address)) {
            return self.local(address);
        }
        let moved = self.identity.moved.get(&address).copied();
        if let Some(peer) = self.lister(address) {
            return [peer].into_iter().chain(moved).collect();
        }
        let mut peers: BTreeSet<PeerId> = self.with_vip(address).chain(self.holders(address)).collect();
        let names_nobody = is_link_local(address);
        if names_nobody && !peers.is_empty() {
            return peers;
        }
        if self.is_on_link(address) {
            let by_mac = self.by_mac(address);
            if names_nobody && !by_mac.is_empty() {
                return by_mac;
            }
            peers.extend(if by_mac.is_empty() { self.unknown(address) } else { by_mac });
        }
        // An address that nothing names is the world's, unless a peer has claimed it.
        peers.insert(PeerId::WORLD);
        peers
    }

    fn own(&self) -> Option<&Facts> {
        self.namespaces.iter().find(|space| space.netns.is_none()).map(|space| &space.facts)
    }

    /// The peer that lists an address, or that alone is seen to hold it.
    fn lister(&self, address: IpAddr) -> Option<PeerId> {
        let listed = || self.config.owner(address).or_else(|| self.identity.held.get(&address).copied());
        // A prefix may span link-local addresses, but lists none.
        if is_link_local(address) { None } else { listed() }
    }

    fn with_vip(&self, address: IpAddr) -> impl Iterator<Item = PeerId> {
        self.config.peers.iter().filter(move |peer| peer.vip.contains(&address)).map(|peer| peer.id)
    }

    /// The peers on this host: their addresses, their MAC addresses or their ports are on its devices.
    fn residents(&self) -> BTreeSet<PeerId> {
        let at_home = self.homes.iter().filter(|(_, home)| self.namespaces[home.at].netns.is_none());
        let by_port = self.ports.values().filter(|port| port.end == End::Own).map(|port| port.peer);
        let links = self.own().into_iter().flat_map(|own| &own.links);
        let by_mac = links.filter_map(|link| link.mac).flat_map(|mac| self.with_mac(mac));
        at_home.map(|(peer, _)| *peer).chain(by_port).chain(by_mac).collect()
    }

    /// The peers in whose homes a device is seen to have an address that does not name them.
    fn holders(&self, address: IpAddr) -> impl Iterator<Item = PeerId> {
        let holds = move |home: &Home| {
            let mut held = self.namespaces[home.at].facts.addresses.iter();
            self.namespaces[home.at].netns.is_some() && held.any(|(_, held)| *held == address)
        };
        self.homes.iter().filter(move |(_, home)| holds(home)).map(|(peer, _)| *peer)
    }

    fn with_mac(&self, mac: Mac) -> impl Iterator<Item = PeerId> {
        let configured = self.config.peers.iter().filter(move |peer| peer.mac == Some(mac));
        configured.map(|peer| peer.id).chain(self.identity.macs.get(&mac).copied())
    }

    /// Whether packets to an address go out without a next hop, as far as anything shows.
    fn is_on_link(&self, address: IpAddr) -> bool {
        let Some(own) = self.own() else { return true };
        let direct = own.networks.iter().map(|(_, net)| (net.trunc(), false));
        let routes = own.routes.iter().chain(&own.defaults).map(|route| (route.net, route.gateway.is_some()));
        let best = direct.chain(routes).filter(|(net, _)| net.contains(&address));
        best.max_by_key(|(net, is_by_hop)| (net.prefix_len(), !is_by_hop))
            .is_none_or(|(_, is_by_hop)| !is_by_hop)
    }

    /// The peers at the MAC address that an address was resolved to: it is theirs, or was learned at their port.
    fn by_mac(&self, address: IpAddr) -> BTreeSet<PeerId> {
        let mut peers = BTreeSet::new();
        for (index, mac) in self.resolved(address) {
            let ports = self.learned_at(mac).chain([index]).filter_map(|index| self.ports.get(&index));
            peers.extend(ports.filter(|port| port.end == End::Host).map(|port| port.peer));
            peers.extend(self.with_mac(mac));
        }
        peers
    }

    /// The peers that have an address though the tables of this host do not show it: hooks know more of them than these
    /// tables, by a MAC address or a port.
    fn unknown(&self, address: IpAddr) -> BTreeSet<PeerId> {
        let is_bridged = |index| {
            let device = self.own().and_then(|own| own.link(index));
            device.is_none_or(|device| matches!(device.kind, Kind::Bridge | Kind::Vlan))
        };
        let is_resolved = self.resolved(address).next().is_some();
        let is_placed = is_resolved
            && self
                .resolved(address)
                .all(|(index, mac)| !is_bridged(index) || self.learned_at(mac).next().is_some());
        let has_own_port = |peer| self.ports.values().any(|port| port.peer == peer);
        let is_possible = |peer: &&Peer| {
            let is_seen = self.identity.peers.get(&peer.id).is_some_and(|traits| traits.is_seen);
            let may_be_here = has_own_port(peer.id) && !is_placed;
            !is_seen
                && (may_be_here
                    || self.ported_elsewhere.contains(&peer.id)
                    || peer.mac.is_some() && !is_resolved)
        };
        self.config.peers.iter().filter(is_possible).map(|peer| peer.id).collect()
    }

    /// The devices on which an address is a neighbour, each with the MAC address.
    fn resolved(&self, address: IpAddr) -> impl Iterator<Item = (u32, Mac)> {
        let neighbours = self.stations.neighbours.iter();
        neighbours.filter(move |(_, known, _)| *known == address).map(|(index, _, mac)| (*index, *mac))
    }

    /// The bridge ports at which a MAC address was learned.
    fn learned_at(&self, mac: Mac) -> impl Iterator<Item = u32> {
        self.stations.ports.iter().filter(move |(known, _)| *known == mac).map(|(_, port)| *port)
    }
}

#[cfg(test)]
mod tests;
