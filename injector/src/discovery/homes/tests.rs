//! Homes and exits of facts written by hand.

use super::super::test_topologies::{config, device, facts, space, switched, veth};
use super::*;
use crate::netlink::facts::Facts;
use netlink_packet_route::link::LinkLayerType;

/// The exits of the first of some namespaces: each with the interfaces that see its frames.
fn shown(more: &str, namespaces: &[Namespace]) -> Vec<String> {
    let name = |place: &Place| match &place.netns {
        Some(netns) => format!("{netns}/{}", place.name),
        None => place.name.clone(),
    };
    let exits = exits(&config(more), namespaces, 0).into_iter();
    exits
        .map(|exit| {
            let by: Vec<String> = exit.by.iter().map(name).collect();
            format!("{}: {}", exit.place.name, by.join(" "))
        })
        .collect()
}

fn alone(facts: Facts) -> Vec<Namespace> {
    vec![space("", facts)]
}

#[test]
fn the_devices_that_frames_leave_by() {
    let with = |links: Vec<LinkFacts>| shown("", &alone(facts(links, &[])));
    let member = |link: LinkFacts, master: u32| LinkFacts { master: Some(master), ..link };
    let on = |link: LinkFacts, below: u32| LinkFacts { below: Some(below), ..link };
    let eth = |index, name: &str| device(1, index, name, Kind::Other);
    assert_eq!(
        with(vec![device(1, 1, "lo", Kind::Loopback), eth(2, "eth0"), eth(3, "eth1")]),
        ["eth0: eth0", "eth1: eth1"]
    );
    assert_eq!(with(vec![LinkFacts { up: false, ..eth(2, "eth0") }]), Vec::<String>::new());
    let vlan = on(device(1, 5, "eth0.5", Kind::Vlan), 2);
    assert_eq!(with(vec![eth(2, "eth0"), vlan.clone()]), ["eth0: eth0"], "the parent carries it");
    assert_eq!(
        with(vec![LinkFacts { is_below_away: true, ..vlan }]),
        ["eth0.5: eth0.5"],
        "its parent is elsewhere"
    );
    let bond = device(1, 4, "bond0", Kind::Bond);
    assert_eq!(
        with(vec![member(eth(2, "eth0"), 4), member(eth(3, "eth1"), 4), bond]),
        ["eth0: bond0 eth0", "eth1: bond0 eth1"]
    );
    let bridge = device(1, 4, "br0", Kind::Bridge);
    assert_eq!(with(vec![member(eth(2, "eth0"), 4), bridge.clone()]), ["eth0: eth0 br0"]);
    let above = on(device(1, 5, "m0", Kind::Macvlan), 2);
    assert_eq!(
        with(vec![member(eth(2, "eth0"), 4), bridge, above]),
        ["eth0: eth0", "m0: m0"],
        "what is on the port does not pass its bridge"
    );
    let tunnel = LinkFacts { layer: LinkLayerType::None, ..device(1, 6, "wg0", Kind::Tunnel) };
    assert_eq!(with(vec![eth(2, "eth0"), tunnel]), ["eth0: eth0", "wg0: "], "no hook can see its packets");
    assert_eq!(with(vec![eth(2, "eth0"), device(1, 6, "vx0", Kind::Tunnel)]), ["eth0: eth0", "vx0: vx0"]);
}

#[test]
fn the_other_end_of_a_veth_sees_the_same_frames() {
    let mut spaces = switched();
    spaces.rotate_left(1);
    assert_eq!(shown("", &spaces), ["eth0: a/eth0 h1"]);
    assert_eq!(shown("elsewhere: [h1]", &spaces), Vec::<String>::new());
    assert_eq!(shown("elsewhere: [{ name: eth0, netns: a }]", &spaces), Vec::<String>::new());
}

#[test]
fn the_kernels_id_of_a_namespace_tells_equal_indices_apart() {
    let mut spaces = switched();
    // The namespace is of another lab, with the same indices.
    spaces.push(space("x", facts(vec![veth(7, 2, "eth0", 11)], &[])));
    let host = &mut spaces[0];
    host.facts.links[0].away = Some(0);
    assert!(other_end(&spaces, (0, &spaces[0].facts.links[0])).is_none(), "it may be either");
    spaces[0].away = BTreeMap::from([(0, Some(Netns::Name("a".to_owned())))]);
    let (at, _) = other_end(&spaces, (0, &spaces[0].facts.links[0])).unwrap();
    assert_eq!(at, 1);
    spaces[0].away = BTreeMap::from([(5, Some(Netns::Name("a".to_owned())))]);
    assert!(other_end(&spaces, (0, &spaces[0].facts.links[0])).is_none(), "it is in a hidden one");
}

#[test]
fn a_home_is_where_the_addresses_are() {
    let spaces = switched();
    let found = homes(&config(""), &spaces, &Before::new());
    let home = |at| Home { at, is_alone: true, is_whole: true };
    assert_eq!(found, BTreeMap::from([(PeerId(1), home(1)), (PeerId(2), home(2))]));
    let mut two = switched();
    two[1].facts.addresses.push((2, "10.0.0.2".parse().unwrap()));
    two.pop();
    let found = homes(&config(""), &two, &Before::new());
    assert!(found.values().all(|home| home.at == 1 && !home.is_alone), "{found:?}");
}

#[test]
fn an_address_that_two_namespaces_hold_is_where_it_was() {
    let mut spaces = switched();
    spaces.push(space("x", facts(vec![device(7, 2, "eth0", Kind::Other)], &[(2, "10.0.0.1")])));
    assert!(!homes(&config(""), &spaces, &Before::new()).contains_key(&PeerId(1)));
    let before = Before::from([(PeerId(1), Some(Netns::Name("a".to_owned())))]);
    assert_eq!(homes(&config(""), &spaces, &before)[&PeerId(1)].at, 1);
    spaces[3].netns = None;
    spaces[0].netns = Some(Netns::Name("h".to_owned()));
    assert_eq!(homes(&config(""), &spaces, &Before::new())[&PeerId(1)].at, 3, "the daemon's own is meant");
}

#[test]
fn an_address_that_moves_does_not_take_its_peer_along() {
    let mut spaces = switched();
    let before: Before =
        [(1, "a"), (2, "b")].map(|(peer, name)| (PeerId(peer), Some(Netns::Name(name.to_owned())))).into();
    spaces[1].facts.addresses.clear();
    spaces[2].facts.addresses.push((3, "10.0.0.1".parse().unwrap()));
    let found = homes(&config(""), &spaces, &before);
    assert_eq!((found[&PeerId(1)].at, found[&PeerId(2)].at), (1, 2));
    // The address has moved to a namespace of no peer: the peer itself has moved.
    spaces[2].facts.addresses.pop();
    spaces.push(space("c", facts(vec![device(4, 2, "eth0", Kind::Other)], &[(2, "10.0.0.1")])));
    assert_eq!(homes(&config(""), &spaces, &before)[&PeerId(1)].at, 3);
}
