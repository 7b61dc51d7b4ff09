//! Surveys of facts written by hand.

use netlink_packet_route::link::LinkLayerType;

use super::super::homes::{Before, homes};
use super::*;
use crate::netlink::LinkFacts;
use crate::netlink::facts::Facts;
use injector_core::config::Netns;

fn link(index: u32, name: &str, kind: Kind, below: Option<u32>) -> LinkFacts {
    LinkFacts {
        index,
        name: name.to_owned(),
        layer: LinkLayerType::Ether,
        mac: Some([2, 0, 0, 0, name.len() as u8, index as u8]),
        up: true,
        master: None,
        below,
        is_below_away: below.is_some(),
        away: None,
        kind,
        xdp: None,
    }
}

fn config() -> Config {
    let text = "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] }, n3: { addresses: [10.3.0.0/16] } }\ninterfaces: auto\n";
    Config::parse(text, "test").unwrap()
}

fn space(netns: Option<&str>, facts: Facts) -> Namespace {
    let netns = netns.map(|name| Netns::Name(name.to_owned()));
    Namespace { netns, facts, away: BTreeMap::new(), aliases: BTreeSet::new() }
}

fn survey(config: &Config, namespaces: &[Namespace]) -> BTreeMap<PeerId, Found> {
    super::survey(config, namespaces, &homes(config, namespaces, &Before::new()))
}

/// The paths, their places joined by spaces; what not every packet passes after a bar.
fn names(found: &Found) -> Vec<String> {
    let shown = |place: &Place| match &place.netns {
        Some(netns) => format!("{netns}/{}", place.name),
        None => place.name.clone(),
    };
    let join = |places: &[Place]| places.iter().map(shown).collect::<Vec<_>>().join(" ");
    let path = |path: &DevicePath| match &path.places[path.sure..] {
        [] => join(&path.places),
        rest => format!("{} | {}", join(&path.places[..path.sure]), join(rest)),
    };
    found.paths.iter().map(path).collect()
}

fn on_link(net: &str, index: u32) -> Route {
    Route { net: net.parse().unwrap(), index, gateway: None }
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
    let found = survey(&config(), &[space(None, host), space(Some("a"), node(2, 7, "10.0.0.1"))]);
    assert_eq!(names(&found[&PeerId(1)]), ["a/eth0 v1"]);
    assert!(found[&PeerId(2)].paths.is_empty());
}

#[test]
fn equal_indices_in_two_namespaces_are_told_apart_by_the_learned_mac_or_not_at_all() {
    let end = || Facts { links: vec![link(7, "v1", Kind::Veth, Some(2))], ..Facts::default() };
    let nic = node(2, 7, "10.0.0.1");
    let spaces =
        |right: Facts| vec![space(None, end()), space(Some("s"), right), space(Some("a"), nic.clone())];
    let found = survey(&config(), &spaces(end()));
    assert_eq!(names(&found[&PeerId(1)]), ["a/eth0"]);
    let learned = Facts { ports: vec![(nic.links[0].mac.unwrap(), 7)], ..end() };
    let found = survey(&config(), &spaces(learned));
    assert_eq!(names(&found[&PeerId(1)]), ["a/eth0 s/v1"]);
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
    let found = survey(&config(), &[space(None, host)]);
    assert_eq!(names(&found[&PeerId(1)]), ["tap2"]);
}

#[test]
fn a_nodes_own_neighbours_and_routes_say_nothing_of_other_peers() {
    let mut nic = node(2, 7, "10.0.0.1");
    nic.neighbours = vec![(2, "10.0.0.2".parse().unwrap(), [2, 9, 9, 9, 9, 9])];
    nic.routes = vec![on_link("10.0.0.0/24", 2)];
    let found = survey(&config(), &[space(Some("a"), nic)]);
    assert!(found[&PeerId(2)].paths.is_empty(), "{found:?}");
}

#[test]
fn routes_are_the_last_resort_and_a_bridge_is_no_place() {
    let host = Facts {
        links: vec![link(3, "br0", Kind::Bridge, None), link(4, "eth1", Kind::Other, None)],
        routes: vec![on_link("10.3.0.0/16", 4), on_link("10.0.0.0/24", 3)],
        ..Facts::default()
    };
    let found = survey(&config(), &[space(None, host)]);
    assert_eq!(names(&found[&PeerId(3)]), ["eth1"]);
    assert!(found[&PeerId(2)].paths.is_empty());
}

#[test]
fn a_mac_learned_behind_several_ports_is_nearest_where_fewest_are() {
    let mac = [2, 9, 9, 9, 9, 9];
    let uplink = Facts {
        links: vec![link(3, "br1", Kind::Bridge, None), link(4, "up", Kind::Other, None)],
        ports: vec![(mac, 4), ([2, 9, 9, 9, 9, 8], 4)],
        ..Facts::default()
    };
    let edge = Facts {
        links: vec![link(3, "br0", Kind::Bridge, None), link(6, "tap1", Kind::Other, None)],
        neighbours: vec![(3, "10.0.0.1".parse().unwrap(), mac)],
        ports: vec![(mac, 6)],
        ..Facts::default()
    };
    let found = survey(&config(), &[space(Some("a"), uplink), space(None, edge)]);
    assert_eq!(names(&found[&PeerId(1)]), ["tap1 | a/up"]);
}

#[test]
fn a_stale_neighbour_comes_after_where_the_route_leads() {
    let host = Facts {
        links: vec![link(4, "old", Kind::Veth, Some(2)), link(5, "new", Kind::Veth, Some(2))],
        neighbours: vec![(4, "10.0.0.1".parse().unwrap(), [2, 9, 9, 9, 9, 9])],
        routes: vec![on_link("10.0.0.1/32", 5)],
        ..Facts::default()
    };
    let found = survey(&config(), &[space(None, host)]);
    assert_eq!(names(&found[&PeerId(1)]), ["new", "old"]);
}

#[test]
fn each_next_hop_of_a_route_is_a_way() {
    let host = Facts {
        links: vec![link(4, "eth1", Kind::Other, None), link(5, "eth2", Kind::Other, None)],
        routes: vec![on_link("10.3.0.0/16", 4), on_link("10.3.0.0/16", 5), on_link("10.0.0.0/8", 4)],
        ..Facts::default()
    };
    let found = survey(&config(), &[space(None, host)]);
    assert_eq!(names(&found[&PeerId(3)]), ["eth1", "eth2"]);
}

#[test]
fn a_namespace_that_passes_nothing_on_is_believed_last() {
    let client = || Facts {
        links: vec![link(4, "eth0", Kind::Other, None)],
        neighbours: vec![(4, "10.0.0.1".parse().unwrap(), [2, 9, 9, 9, 9, 9])],
        ..Facts::default()
    };
    let router = Facts { forwards: true, ..client() };
    let found = survey(&config(), &[space(Some("client"), client()), space(Some("router"), router)]);
    assert_eq!(names(&found[&PeerId(1)]), ["router/eth0"]);
    let found = survey(&config(), &[space(Some("client"), client())]);
    assert_eq!(names(&found[&PeerId(1)]), ["client/eth0"]);
}

#[test]
fn of_devices_that_share_a_mac_one_is_picked() {
    let mac = Some([2, 0, 0, 0, 0, 7]);
    let with = |link: LinkFacts, master: Option<u32>| LinkFacts { mac, master, ..link };
    let text = "peers: { n1: { mac: \"02:00:00:00:00:07\" } }\ninterfaces: auto\n";
    let config = Config::parse(text, "test").unwrap();
    let of = |links: Vec<LinkFacts>| {
        names(&survey(&config, &[space(None, Facts { links, ..Facts::default() })])[&PeerId(1)])
    };
    let eth0 = || link(2, "eth0", Kind::Other, None);
    let vlan = LinkFacts { is_below_away: false, ..link(5, "eth0.5", Kind::Vlan, Some(2)) };
    assert_eq!(of(vec![with(eth0(), None), with(vlan, None)]), ["eth0"]);
    let bond = link(4, "bond0", Kind::Other, None);
    assert_eq!(of(vec![with(eth0(), Some(4)), with(bond, None)]), ["bond0"]);
}

#[test]
fn an_address_in_two_namespaces_is_ambiguous_but_not_against_the_daemons_own() {
    let here = || node(2, 7, "10.0.0.1");
    let found = survey(&config(), &[space(Some("a"), here()), space(Some("b"), here())]);
    assert_eq!(found[&PeerId(1)].ambiguous.len(), 1);
    let found = survey(&config(), &[space(None, here()), space(Some("b"), here())]);
    assert_eq!(found[&PeerId(1)].ambiguous, []);
    assert_eq!(names(&found[&PeerId(1)]), ["eth0"]);
}

/// Why a peer was not found, in words that are true of each case.
#[test]
fn what_is_not_found_is_said_as_it_is() {
    let why = |facts: Facts| survey(&config(), &[space(None, facts)])[&PeerId(1)].missing.join("; ");
    let host = || Facts { links: vec![link(2, "eth0", Kind::Other, None)], ..Facts::default() };
    let route = |net: &str| Route { net: net.parse().unwrap(), index: 2, gateway: None };
    assert_eq!(why(host()), "10.0.0.1: no interface has it, it is no neighbour, and no route leads to it");
    let by_default = Facts { defaults: vec![route("0.0.0.0/0")], ..host() };
    assert!(why(by_default).ends_with("and no route leads to it but a default"));
    // Beside a connected route, the default says nothing: the peer is silent.
    let connected = Facts {
        networks: vec![(2, "10.0.0.14/24".parse().unwrap())],
        defaults: vec![route("0.0.0.0/0")],
        ..host()
    };
    assert_eq!(
        why(connected),
        "10.0.0.1: it belongs to the network 10.0.0.0/24 on eth0, but has not sent anything there yet"
    );
    let mut tun = link(5, "tun0", Kind::Other, None);
    (tun.layer, tun.mac) = (LinkLayerType::None, None);
    let tunnelled =
        Facts { links: vec![tun], addresses: vec![(5, "10.0.0.1".parse().unwrap())], ..Facts::default() };
    assert_eq!(
        why(tunnelled),
        "10.0.0.1: tun0 has it, whose packets begin with the IP header, so that no hook can judge them there"
    );
}
