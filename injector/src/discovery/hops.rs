//! The peers that are a next hop of a route that is seen: what their ports and MAC addresses send may be others'. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::devices::usable;
use super::homes::Home;
use super::places::Namespace;
use crate::address::is_link_local;
use injector_core::config::Config;
use injector_core::identity::Mac;
use injector_core::model::PeerId;

/// The peer that the config gives a MAC address.
pub fn configured(config: &Config, mac: Mac) -> Option<PeerId> {
    config.peers.iter().find(|peer| peer.mac == Some(mac)).map(|peer| peer.id)
}

/// The peers that are a next hop of a route in any namespace, by whatever names the gateway. Where several peers may be it, each
/// of them is: of a peer that is taken for a plain one by mistake, a cut drops frames of others.
pub fn next_hops(
    config: &Config,
    namespaces: &[Namespace],
    homes: &BTreeMap<PeerId, Home>,
) -> BTreeSet<PeerId> {
    let names = Names::of(config, namespaces, homes);
    let mut hops = BTreeSet::new();
    for space in namespaces {
        let routes = space.facts.routes.iter().chain(&space.facts.defaults);
        let gateways: BTreeSet<(u32, IpAddr)> =
            routes.filter_map(|route| Some((route.index, route.gateway?))).collect();
        for gateway in gateways {
            hops.extend(names.peers(space, gateway));
        }
    }
    hops
}

/// The names that may say whose a gateway is.
struct Names<'a> {
    config: &'a Config,
    /// The peers in whose homes a device has an address: listed or not, one that moves, link-local.
    holders: BTreeMap<IpAddr, BTreeSet<PeerId>>,
    /// The peers in whose homes a device has a MAC address, also one that others have too.
    macs: BTreeMap<Mac, BTreeSet<PeerId>>,
}

impl<'a> Names<'a> {
    fn of(config: &'a Config, namespaces: &[Namespace], homes: &BTreeMap<PeerId, Home>) -> Self {
        let mut names = Self { config, holders: BTreeMap::new(), macs: BTreeMap::new() };
        for (peer, home) in homes {
            let facts = &namespaces[home.at].facts;
            for (_, address) in &facts.addresses {
                names.holders.entry(*address).or_default().insert(*peer);
            }
            for mac in facts.links.iter().filter(|link| usable(link)).filter_map(|link| link.mac) {
                names.macs.entry(mac).or_default().insert(*peer);
            }
        }
        for peer in &config.peers {
            if let Some(mac) = peer.mac {
                names.macs.entry(mac).or_default().insert(peer.id);
                // Its namespace may not be seen, and nobody has asked for the gateway yet.
                names.holders.entry(link_local(mac)).or_default().insert(peer.id);
            }
        }
        names
    }

    /// The peers that a gateway behind a device may be.
    fn peers(&self, space: &Namespace, (index, gateway): (u32, IpAddr)) -> BTreeSet<PeerId> {
        let mut peers: BTreeSet<PeerId> = self.config.owner(gateway).into_iter().collect();
        // The next holder of an address that moves forwards as soon as it has it.
        peers.extend(self.config.peers.iter().filter(|peer| peer.vip.contains(&gateway)).map(|peer| peer.id));
        let neighbours = space.facts.neighbours.iter();
        let neighbours = neighbours.filter(|(at, address, _)| (*at, *address) == (index, gateway));
        let at: BTreeSet<PeerId> =
            neighbours.clone().filter_map(|(_, _, mac)| self.macs.get(mac)).flatten().copied().collect();
        // A link-local address is another's on another link: there, a neighbour entry says whose it is.
        let is_known = is_link_local(gateway) && neighbours.count() > 0;
        if let Some(holders) = self.holders.get(&gateway).filter(|_| !is_known) {
            peers.extend(holders);
        }
        peers.extend(at);
        peers
    }
}

/// The link-local address that a network interface makes of its MAC address.
fn link_local(mac: Mac) -> IpAddr {
    let mut bytes = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    bytes[8..11].copy_from_slice(&mac[..3]);
    bytes[13..].copy_from_slice(&mac[3..]);
    bytes[8] ^= 2;
    Ipv6Addr::from(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::super::homes::{Before, homes};
    use super::super::test_topologies::{config, switched, via};
    use super::*;

    const MAC: &str = "02:00:00:00:01:02";

    fn hops(config: &Config, change: &dyn Fn(&mut Vec<Namespace>)) -> Vec<u16> {
        let mut spaces = switched();
        change(&mut spaces);
        let homes = homes(config, &spaces, &Before::new());
        next_hops(config, &spaces, &homes).into_iter().map(|peer| peer.0).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_name_of_a_gateway() {
        let config = config("");
        let held_by_n1 = |gateway: &'static str| {
            hops(&config, &move |spaces| {
                spaces[1].facts.addresses.push((2, address(gateway)));
                spaces[2].facts.routes.push(via("10.9.0.0/16", 3, gateway));
            })
        };
        for gateway in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fe80::1", "169.254.1.1"] {
            assert_eq!(held_by_n1(gateway), [1], "{gateway}");
        }
        let on_link = |spaces: &mut Vec<Namespace>| {
            spaces[2]
                .facts
                .routes
                .push(crate::netlink::facts::Route { gateway: None, ..via("10.0.0.1/32", 3, "10.0.0.1") });
        };
        assert_eq!(hops(&config, &on_link), Vec::<u16>::new());
    }

    #[test]
    fn each_peer_that_may_have_an_address_that_moves() {
        let text = "peers: { n1: { addresses: [10.0.0.1], vip: [10.0.0.100] }, n2: { addresses: [10.0.0.2] }, n3: { addresses: [10.0.0.3], vip: [10.0.0.100] } }\ninterfaces: auto\n";
        let config = Config::parse(text, "test").unwrap();
        let route = |spaces: &mut Vec<Namespace>| {
            spaces[0].facts.defaults.push(via("0.0.0.0/0", 9, "10.0.0.100"));
        };
        assert_eq!(hops(&config, &route), [1, 3]);
        // Another peer that is seen to hold the address counts too.
        let held = |spaces: &mut Vec<Namespace>| {
            route(spaces);
            spaces[2].facts.addresses.push((3, address("10.0.0.100")));
        };
        assert_eq!(hops(&config, &held), [1, 2, 3]);
    }

    #[test]
    fn a_link_local_gateway_is_who_answers_for_it() {
        let config = config("");
        let both = |mac: Option<Mac>| {
            hops(&config, &move |spaces| {
                for (at, index) in [(1, 2), (2, 3)] {
                    spaces[at].facts.addresses.push((index, address("fe80::1")));
                }
                spaces[0].facts.defaults.push(via("::/0", 9, "fe80::1"));
                spaces[0].facts.neighbours.extend(mac.map(|mac| (9, address("fe80::1"), mac)));
            })
        };
        let macs: Vec<Mac> = switched()[1..].iter().map(|space| space.facts.links[0].mac.unwrap()).collect();
        assert_eq!(both(None), [1, 2]);
        assert_eq!(both(Some(macs[0])), [1]);
        assert_eq!(both(Some(macs[1])), [2]);
        assert_eq!(both(Some([2, 9, 9, 9, 9, 9])), Vec::<u16>::new());
    }

    #[test]
    fn a_doubled_mac_address_is_of_each_peer_that_has_it() {
        let found = hops(&config(""), &|spaces| {
            let mac = spaces[1].facts.links[0].mac;
            spaces[2].facts.links[0].mac = mac;
            spaces[0].facts.routes.push(via("10.9.0.0/16", 9, "192.0.2.1"));
            spaces[0].facts.neighbours.push((9, address("192.0.2.1"), mac.unwrap()));
        });
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn a_peer_of_the_configs_mac_address() {
        let text = format!("peers: {{ n1: {{ mac: \"{MAC}\" }} }}\ninterfaces: auto\n");
        let config = Config::parse(&text, "test").unwrap();
        let gateway = |spaces: &mut Vec<Namespace>, gateway: &str| {
            spaces.truncate(1);
            spaces[0].facts.defaults.push(via("::/0", 9, gateway));
        };
        assert_eq!(hops(&config, &|spaces| gateway(spaces, "fe80::ff:fe00:102")), [1]);
        assert_eq!(hops(&config, &|spaces| gateway(spaces, "fe80::ff:fe00:103")), Vec::<u16>::new());
    }
}
