//! Where the peers live: from what every namespace knows to the interfaces that a peer's packets pass, the nearest
//! to the peer first. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::link::LinkLayerType;

use crate::config::{Config, Netns, Peer};
use crate::model::PeerId;
use crate::netlink::facts::Facts;
use crate::netlink::{Kind, LinkFacts};

/// A namespace and what it knows.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name; `None` is the daemon's own.
    pub netns: Option<Netns>,
    /// What it knows.
    pub facts: Facts,
}

/// An interface that a peer's packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface's namespace.
    pub netns: Option<Netns>,
    /// The interface's name.
    pub name: String,
    /// How that is known.
    pub why: String,
}

/// A device whose frames can be judged, and that leads somewhere.
fn usable(link: &LinkFacts) -> bool {
    link.layer == LinkLayerType::Ether && link.kind != Kind::Loopback
}

/// Whose address it is: exact first, then the longest prefix, as the programs look it up.
fn owner(config: &Config, address: IpAddr) -> Option<PeerId> {
    let exact = config.peers.iter().find(|peer| peer.addresses.contains(&address));
    let prefix = || {
        let all = config.peers.iter().flat_map(|peer| peer.prefixes.iter().map(move |prefix| (peer, prefix)));
        let holding = all.filter(|(_, prefix)| prefix.contains(&address));
        holding.max_by_key(|(_, prefix)| prefix.prefix_len()).map(|(peer, _)| peer)
    };
    exact.or_else(prefix).map(|peer| peer.id)
}

/// Where each peer lives, nearest first; a peer of which nothing is known has no places.
///
/// First its own NIC (the device that holds its address, be it a VLAN, a bond or a bridge: not what is below), then
/// the other end of that veth, then bridge ports behind which its MAC was learned, then the devices at which
/// namespaces without any peer's address have it as a neighbour, and last those that their routes lead to. A node's
/// own neighbours and routes say nothing: all others are behind its one NIC.
pub fn places(config: &Config, namespaces: &[Namespace]) -> BTreeMap<PeerId, Vec<Place>> {
    let is_node = |space: &Namespace| {
        space.facts.addresses.iter().any(|(index, address)| {
            owner(config, *address).is_some() && space.facts.link(*index).is_some_and(usable)
        })
    };
    let fabric: Vec<&Namespace> = namespaces.iter().filter(|space| !is_node(space)).collect();
    config
        .peers
        .iter()
        .map(|peer| (peer.id, Search { config, namespaces, peer, found: Vec::new() }.run(&fabric)))
        .collect()
}

struct Search<'a> {
    config: &'a Config,
    namespaces: &'a [Namespace],
    peer: &'a Peer,
    found: Vec<Place>,
}

impl Search<'_> {
    fn add(&mut self, space: &Namespace, link: &LinkFacts, why: String) {
        let place = Place { netns: space.netns.clone(), name: link.name.clone(), why };
        let is_known = |known: &Place| known.netns == place.netns && known.name == place.name;
        if usable(link) && !self.found.iter().any(is_known) {
            self.found.push(place);
        }
    }

    fn is_mine(&self, address: IpAddr) -> bool {
        owner(self.config, address) == Some(self.peer.id)
    }

    fn run(mut self, fabric: &[&Namespace]) -> Vec<Place> {
        let namespaces = self.namespaces;
        let mut macs: Vec<[u8; 6]> = self.peer.mac.into_iter().collect();
        let mut own: Vec<(&Namespace, &LinkFacts)> = Vec::new();
        for space in namespaces {
            for (index, address) in &space.facts.addresses {
                if let Some(link) = space.facts.link(*index).filter(|_| self.is_mine(*address)) {
                    self.add(space, link, format!("{address} is its own address"));
                    own.push((space, link));
                }
            }
            for link in
                space.facts.links.iter().filter(|link| link.mac.is_some() && link.mac == self.peer.mac)
            {
                self.add(space, link, "it has the peer's MAC address".to_owned());
                own.push((space, link));
            }
        }
        macs.extend(own.iter().filter_map(|(_, link)| link.mac));
        for (space, link) in own {
            self.other_end(space, link);
        }
        for space in fabric {
            for (index, address, mac) in &space.facts.neighbours {
                if !self.is_mine(*address) {
                    continue;
                }
                macs.push(*mac);
                if let Some(link) = space.facts.link(*index).filter(|link| link.kind != Kind::Bridge) {
                    self.add(space, link, format!("{address} is its neighbour"));
                }
            }
        }
        for space in namespaces {
            for (mac, port) in &space.facts.ports {
                if let Some(link) = space.facts.link(*port).filter(|_| macs.contains(mac)) {
                    self.add(
                        space,
                        link,
                        "the peer's MAC address was learned behind this bridge port".to_owned(),
                    );
                }
            }
        }
        if self.found.is_empty() {
            self.routes(fabric);
        }
        self.found
    }

    /// The host end of a veth, if it is in a namespace that we know.
    fn other_end(&mut self, space: &Namespace, link: &LinkFacts) {
        let Some(below) = link.below.filter(|_| link.kind == Kind::Veth) else { return };
        let is_end = |other: &&Namespace| {
            !std::ptr::eq(*other, space)
                && other
                    .facts
                    .link(below)
                    .is_some_and(|end| end.kind == Kind::Veth && end.below == Some(link.index))
        };
        let mut ends: Vec<&Namespace> = self.namespaces.iter().filter(is_end).collect();
        if ends.len() > 1 {
            // Indices are equal in several namespaces: the bridge must have learned the MAC there.
            ends.retain(|other| {
                other.facts.ports.iter().any(|(mac, port)| *port == below && link.mac == Some(*mac))
            });
        }
        if let [end] = ends[..]
            && let Some(other) = end.facts.link(below)
        {
            self.add(end, other, format!("it is the other end of {}", link.name));
        }
    }

    fn routes(&mut self, fabric: &[&Namespace]) {
        let peer = self.peer;
        let prefixes = peer.prefixes.iter().map(ipnet::IpNet::network);
        for address in peer.addresses.iter().copied().chain(prefixes) {
            for space in fabric {
                let holding = space.facts.routes.iter().filter(|(net, _)| net.contains(&address));
                let Some((net, index)) = holding.max_by_key(|(net, _)| net.prefix_len()) else { continue };
                // A bridge's own hooks do not see what it forwards.
                if let Some(link) = space.facts.link(*index).filter(|link| link.kind != Kind::Bridge) {
                    self.add(space, link, format!("the route {net} leads to it"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Kind, below: Option<u32>) -> LinkFacts {
        LinkFacts {
            index,
            name: name.to_owned(),
            layer: LinkLayerType::Ether,
            mac: Some([2, 0, 0, 0, name.len() as u8, index as u8]),
            up: true,
            master: None,
            below,
            kind,
            xdp: None,
        }
    }

    fn config() -> Config {
        let text = "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] }, n3: { addresses: [10.3.0.0/16] } }\ninterfaces: auto\n";
        Config::parse(text, "test").unwrap()
    }

    fn space(netns: Option<&str>, facts: Facts) -> Namespace {
        Namespace { netns: netns.map(|name| Netns::Name(name.to_owned())), facts }
    }

    fn names(places: &[Place]) -> Vec<String> {
        let shown = |place: &Place| match &place.netns {
            Some(netns) => format!("{netns}/{}", place.name),
            None => place.name.clone(),
        };
        places.iter().map(shown).collect()
    }

    fn node(index: u32, below: u32, address: &str) -> Facts {
        Facts {
            links: vec![link(index, "eth0", Kind::Veth, Some(below))],
            addresses: vec![(index, address.parse().unwrap())],
            ..Facts::default()
        }
    }

    #[test]
    fn the_own_nic_comes_before_the_host_end() {
        let host = Facts {
            links: vec![link(7, "v1", Kind::Veth, Some(2)), link(9, "br0", Kind::Bridge, None)],
            ..Facts::default()
        };
        let found = places(&config(), &[space(None, host), space(Some("a"), node(2, 7, "10.0.0.1"))]);
        assert_eq!(names(&found[&PeerId(1)]), ["a/eth0", "v1"]);
        assert!(found[&PeerId(2)].is_empty());
    }

    #[test]
    fn equal_indices_in_two_namespaces_are_told_apart_by_the_learned_mac_or_not_at_all() {
        let end = || Facts { links: vec![link(7, "v1", Kind::Veth, Some(2))], ..Facts::default() };
        let nic = node(2, 7, "10.0.0.1");
        let spaces =
            |right: Facts| vec![space(None, end()), space(Some("s"), right), space(Some("a"), nic.clone())];
        let found = places(&config(), &spaces(end()));
        assert_eq!(names(&found[&PeerId(1)]), ["a/eth0"]);
        let learned = Facts { ports: vec![(nic.links[0].mac.unwrap(), 7)], ..end() };
        let found = places(&config(), &spaces(learned));
        assert_eq!(names(&found[&PeerId(1)]), ["a/eth0", "s/v1"]);
    }

    #[test]
    fn a_neighbour_behind_a_bridge_is_behind_its_port() {
        let mac = [2, 9, 9, 9, 9, 9];
        let host = Facts {
            links: vec![
                link(3, "br0", Kind::Bridge, None),
                link(4, "tap1", Kind::Other, None),
                link(5, "tap2", Kind::Other, None),
            ],
            neighbours: vec![(3, "10.0.0.1".parse().unwrap(), mac)],
            ports: vec![(mac, 5)],
            ..Facts::default()
        };
        let found = places(&config(), &[space(None, host)]);
        assert_eq!(names(&found[&PeerId(1)]), ["tap2"]);
    }

    #[test]
    fn a_nodes_own_neighbours_and_routes_say_nothing_of_other_peers() {
        let mut nic = node(2, 7, "10.0.0.1");
        nic.neighbours = vec![(2, "10.0.0.2".parse().unwrap(), [2, 9, 9, 9, 9, 9])];
        nic.routes = vec![("10.0.0.0/24".parse().unwrap(), 2)];
        let found = places(&config(), &[space(Some("a"), nic)]);
        assert!(found[&PeerId(2)].is_empty(), "{found:?}");
    }

    #[test]
    fn routes_are_the_last_resort_and_a_bridge_is_no_place() {
        let host = Facts {
            links: vec![link(3, "br0", Kind::Bridge, None), link(4, "eth1", Kind::Other, None)],
            routes: vec![("10.3.0.0/16".parse().unwrap(), 4), ("10.0.0.0/24".parse().unwrap(), 3)],
            ..Facts::default()
        };
        let found = places(&config(), &[space(None, host)]);
        assert_eq!(names(&found[&PeerId(3)]), ["eth1"]);
        assert!(found[&PeerId(2)].is_empty());
    }
}
