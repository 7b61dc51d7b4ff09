//! Namespaces written by hand, for tests.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::link::LinkLayerType;

use super::places::Namespace;
use crate::netlink::facts::{Facts, Route};
use crate::netlink::{Kind, LinkFacts};
use injector_core::config::{Config, Netns};

/// A device that is up; its MAC address ends with its index and a number of its namespace.
pub fn device(space: u8, index: u32, name: &str, kind: Kind) -> LinkFacts {
    LinkFacts {
        index,
        name: name.to_owned(),
        layer: LinkLayerType::Ether,
        mac: Some([2, 0, 0, 0, space, index as u8]),
        up: true,
        master: None,
        below: None,
        is_below_away: false,
        away: None,
        kind,
        xdp: None,
    }
}

/// An end of a veth whose other end has an index in another namespace.
pub fn veth(space: u8, index: u32, name: &str, other: u32) -> LinkFacts {
    LinkFacts { below: Some(other), is_below_away: true, ..device(space, index, name, Kind::Veth) }
}

/// Addresses of devices.
pub fn facts(links: Vec<LinkFacts>, addresses: &[(u32, &str)]) -> Facts {
    let addresses = addresses.iter().map(|(index, address)| (*index, address.parse().unwrap())).collect();
    Facts { links, addresses, ..Facts::default() }
}

/// A namespace; an empty name is the daemon's own.
pub fn space(name: &str, facts: Facts) -> Namespace {
    let netns = (!name.is_empty()).then(|| Netns::Name(name.to_owned()));
    Namespace { netns, facts, away: BTreeMap::new(), aliases: BTreeSet::new() }
}

/// A route over a next hop.
pub fn via(net: &str, index: u32, gateway: &str) -> Route {
    Route { net: net.parse().unwrap(), index, gateway: Some(gateway.parse().unwrap()) }
}

/// A config of `n1` to `n3` at 10.0.0.1 to 10.0.0.3, with something more.
pub fn config(more: &str) -> Config {
    let peers = "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] }, n3: { addresses: [10.0.0.3] } }";
    Config::parse(&format!("{peers}\ninterfaces: auto\n{more}"), "test").unwrap()
}

/// Two nodes `a` (10.0.0.1) and `b` (10.0.0.2) with `eth0` each, on `h1` and `h2` of the daemon's own bridge.
pub fn switched() -> Vec<Namespace> {
    let port = |link: LinkFacts| LinkFacts { master: Some(9), ..link };
    let host = facts(
        vec![port(veth(0, 11, "h1", 2)), port(veth(0, 12, "h2", 3)), device(0, 9, "br0", Kind::Bridge)],
        &[(9, "10.0.0.14")],
    );
    vec![
        space("", host),
        space("a", facts(vec![veth(1, 2, "eth0", 11)], &[(2, "10.0.0.1")])),
        space("b", facts(vec![veth(2, 3, "eth0", 12)], &[(3, "10.0.0.2")])),
    ]
}
