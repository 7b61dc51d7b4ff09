//! Whether news may change where a peer lives: most neighbours are refreshed all the time. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::naming::is_routable;
use super::places::Namespace;
use crate::netlink::facts::{Facts, Route};
use crate::netlink::news::News;
use injector_core::config::{Config, Netns};

/// The parts of the last survey with which news is compared.
pub struct Last<'a> {
    /// The namespaces that it was made from.
    pub known: &'a [Namespace],
    /// Whether it found nothing of some peer.
    pub is_one_missing: bool,
    /// The namespaces that are peers' homes.
    pub homes: &'a BTreeSet<Option<Netns>>,
}

impl Last<'_> {
    /// Whether a peer's home has an address: it may move to someone else.
    fn is_held(&self, address: IpAddr) -> bool {
        let mut homes = self.known.iter().filter(|space| self.homes.contains(&space.netns));
        is_routable(address)
            && homes.any(|home| home.facts.addresses.iter().any(|(_, held)| *held == address))
    }

    /// Whether the next hop of a route may be a peer: with the route, it begins or ceases to forward for others.
    fn may_be_over_peer(&self, config: &Config, facts: &Facts, route: &Route) -> bool {
        let Some(gateway) = route.gateway else { return false };
        let mut neighbours = facts.neighbours.iter();
        is_peers(config, gateway)
            || config.peers.iter().any(|peer| peer.vip.contains(&gateway))
            // A link-local address of a peer that is not seen is not known.
            || !is_routable(gateway)
            || self.is_held(gateway)
            || neighbours.any(|(index, address, _)| (*index, *address) == (route.index, gateway))
    }
}

/// Whether a survey could find something else than the last one, for this news from one of its namespaces. `None` is a
/// namespace that it did not see.
pub fn concerns(config: &Config, last: &Last<'_>, space: Option<&Namespace>, news: &News) -> bool {
    let Some(facts) = space.map(|space| &space.facts) else { return !is_of_hooks(news) };
    match news {
        News::Overrun | News::Nat => true,
        News::Hooks(_) | News::EgressChain(_) | News::Chains | News::Ended(_) => false,
        News::Gone(index) => facts.link(*index).is_some(),
        News::Link(link) => facts.link(link.index).is_none_or(|known| {
            // The kind is not compared: a bridge reports its ports without it.
            (&known.name, known.up, known.mac) != (&link.name, link.up, link.mac)
                || link.master.is_some() && known.master != link.master
        }),
        News::Neighbour(index, address, mac) => {
            let is_mine = is_peers(config, *address)
                || config.peers.iter().any(|peer| peer.mac == Some(*mac))
                || facts.routes.iter().chain(&facts.defaults).any(|route| route.gateway == Some(*address));
            is_mine && !facts.neighbours.contains(&(*index, *address, *mac))
        }
        News::Port(mac, port) => {
            // A peer that is missing may have spoken for the first time, in a namespace that nobody follows.
            let is_mine = last.is_one_missing
                || config.peers.iter().any(|peer| peer.mac == Some(*mac))
                || last
                    .known
                    .iter()
                    .flat_map(|space| &space.facts.neighbours)
                    .any(|(_, _, known)| known == mac);
            is_mine && !facts.ports.contains(&(*mac, *port))
        }
        News::Routes(routes) => {
            let mut routes = routes.iter();
            routes.any(|route| leads_to_peer(config, route) || last.may_be_over_peer(config, facts, route))
        }
        News::Address(index, address, is_there) => {
            let is_mine = is_peers(config, *address)
                || space.is_some_and(|space| last.homes.contains(&space.netns))
                || last.is_held(*address);
            // Lifetimes are renewed all the time.
            is_mine && facts.addresses.contains(&(*index, *address)) != *is_there
        }
    }
}

/// Whether news is of programs and chains alone.
fn is_of_hooks(news: &News) -> bool {
    matches!(news, News::Hooks(_) | News::EgressChain(_) | News::Chains | News::Ended(_))
}

fn is_peers(config: &Config, address: IpAddr) -> bool {
    config.peers.iter().any(|peer| {
        peer.addresses.contains(&address) || peer.prefixes.iter().any(|prefix| prefix.contains(&address))
    })
}

fn leads_to_peer(config: &Config, route: &Route) -> bool {
    let overlaps = |prefix: &IpNet| prefix.contains(&route.net) || route.net.contains(prefix);
    config.peers.iter().any(|peer| {
        peer.addresses.iter().any(|address| route.net.contains(address)) || peer.prefixes.iter().any(overlaps)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::netlink::facts::Facts;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn config() -> Config {
        let text = "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.2.0.0/16], mac: \"02:00:00:00:00:02\" } }\ninterfaces: auto\n";
        Config::parse(text, "test").unwrap()
    }

    fn concerned(facts: &Facts, is_one_missing: bool, news: &News) -> bool {
        in_home(facts, is_one_missing, news, &BTreeSet::new())
    }

    fn in_home(facts: &Facts, is_one_missing: bool, news: &News, homes: &BTreeSet<Option<Netns>>) -> bool {
        let known = [Namespace {
            netns: None,
            facts: facts.clone(),
            away: BTreeMap::new(),
            aliases: BTreeSet::new(),
        }];
        concerns(&config(), &Last { known: &known, is_one_missing, homes }, Some(&known[0]), news)
    }

    #[test]
    fn what_is_known_is_no_news() {
        let address = "10.0.0.1".parse().unwrap();
        let mut facts = Facts::default();
        assert!(concerned(&facts, false, &News::Neighbour(3, address, MAC)));
        facts.neighbours.push((3, address, MAC));
        assert!(!concerned(&facts, false, &News::Neighbour(3, address, MAC)), "refreshed");
        assert!(concerned(&facts, false, &News::Neighbour(4, address, MAC)), "moved");
        assert!(concerned(&facts, false, &News::Neighbour(3, address, OTHER)), "exchanged");
        assert!(concerned(&facts, false, &News::Port(MAC, 5)));
        facts.ports.push((MAC, 5));
        assert!(!concerned(&facts, false, &News::Port(MAC, 5)));
        assert!(concerned(&facts, false, &News::Port(OTHER, 5)), "a peer's own");
    }

    #[test]
    fn strangers_are_no_news_unless_one_is_missing() {
        let facts = Facts::default();
        let stranger = "192.0.2.1".parse().unwrap();
        assert!(!concerned(&facts, true, &News::Neighbour(3, stranger, MAC)));
        assert!(!concerned(&facts, false, &News::Port(MAC, 5)));
        assert!(concerned(&facts, true, &News::Port(MAC, 5)));
        assert!(concerned(&facts, false, &News::Nat), "whom its rules name is not known yet");
        assert!(!concerned(&facts, true, &News::Address(2, stranger, true)));
        let peers = "10.2.3.4".parse().unwrap();
        assert!(concerned(&facts, false, &News::Address(2, peers, true)));
        assert!(!concerned(&facts, false, &News::Address(2, peers, false)), "it is known to be gone");
    }

    #[test]
    fn every_address_of_a_home_is_news_once() {
        let stranger = "192.0.2.1".parse().unwrap();
        let homes = BTreeSet::from([None]);
        let mut facts = Facts::default();
        assert!(in_home(&facts, false, &News::Address(2, stranger, true), &homes));
        facts.addresses.push((2, stranger));
        assert!(!in_home(&facts, false, &News::Address(2, stranger, true), &homes), "renewed");
        assert!(in_home(&facts, false, &News::Address(2, stranger, false), &homes));
    }

    #[test]
    fn an_address_of_a_home_that_comes_elsewhere_is_news() {
        let space = |name: &str, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| (2, address.parse().unwrap())).collect();
            let facts = Facts { addresses, ..Facts::default() };
            Namespace {
                netns: Some(Netns::Name(name.into())),
                facts,
                away: BTreeMap::new(),
                aliases: BTreeSet::new(),
            }
        };
        let known = [space("home", &["192.0.2.1", "fe80::1"]), space("other", &[])];
        let homes = BTreeSet::from([known[0].netns.clone()]);
        let concerned = |address: &str, is_there| {
            let last = Last { known: &known, is_one_missing: false, homes: &homes };
            let news = News::Address(7, address.parse().unwrap(), is_there);
            concerns(&config(), &last, Some(&known[1]), &news)
        };
        assert!(concerned("192.0.2.1", true));
        assert!(!concerned("192.0.2.1", false), "it was not there");
        assert!(!concerned("192.0.2.2", true), "nobody else's");
        assert!(!concerned("fe80::1", true), "it is another one on another link");
    }

    #[test]
    fn routes_to_peers_are_news() {
        let concerned = |net: &str| {
            let route = Route { net: net.parse().unwrap(), index: 1, gateway: None };
            concerned(&Facts::default(), false, &News::Routes(vec![route]))
        };
        assert!(concerned("10.0.0.0/24") && concerned("10.2.7.0/24") && concerned("10.0.0.0/8"));
        assert!(!concerned("192.0.2.0/24"));
    }

    #[test]
    fn routes_over_a_peer_are_news() {
        let mut facts = Facts::default();
        facts.addresses.push((2, "192.0.2.1".parse().unwrap()));
        facts.neighbours.push((1, "192.0.2.2".parse().unwrap(), MAC));
        let homes = BTreeSet::from([None]);
        let concerned = |gateway: &str| {
            let net = "198.51.100.0/24".parse().unwrap();
            let route = Route { net, index: 1, gateway: Some(gateway.parse().unwrap()) };
            in_home(&facts, false, &News::Routes(vec![route]), &homes)
        };
        for gateway in ["10.0.0.1", "10.2.7.1", "192.0.2.1", "192.0.2.2", "fe80::1"] {
            assert!(concerned(gateway), "{gateway}");
        }
        assert!(!concerned("192.0.2.3"));
    }
}
