//! Names from facts written by hand.

use super::super::homes::{Before, homes};
use super::super::survey::survey;
use super::super::test_topologies::{config, device, facts, space, switched, veth, via};
use super::*;
use crate::netlink::LinkFacts;

fn named(config: &Config, namespaces: &[Namespace], ours: &[Ours<'_>]) -> Identity {
    let homes = homes(config, namespaces, &Before::new());
    let found = survey(config, namespaces, &homes);
    identity(&Sources { config, namespaces, homes: &homes, found: &found }, ours)
}

fn netns(name: &str) -> Netns {
    Netns::Name(name.to_owned())
}

fn ours<'a>(id: u32, name: &'a str, netns: Option<&'a Netns>) -> Ours<'a> {
    Ours { id, name, netns, peer: None }
}

/// The ports, as `id: peer end`, with `shared` where another peer is behind it.
fn ports(identity: &Identity) -> Vec<String> {
    let ports = identity.ports.iter();
    let shown = |(id, port): (&u32, &Port)| {
        let shared = if port.is_shared { " shared" } else { "" };
        format!("{id}: {} {:?}{shared}", port.peer.0, port.end)
    };
    ports.map(shown).collect()
}

#[test]
fn a_port_is_the_own_nic_or_the_other_end_of_that() {
    let (a, spaces) = (netns("a"), switched());
    let all = [ours(1, "eth0", Some(&a)), ours(2, "h1", None), ours(3, "h2", None), ours(4, "br0", None)];
    assert_eq!(ports(&named(&config(""), &spaces, &all)), ["1: 1 Own", "2: 1 Host", "3: 2 Host"]);
}

#[test]
fn knowing_one_peer_behind_an_uplink_binds_nothing() {
    let mut host = facts(vec![device(0, 2, "eth0", Kind::Other), device(0, 9, "br0", Kind::Bridge)], &[]);
    host.links[0].master = Some(9);
    host.ports = vec![([2, 9, 9, 9, 9, 9], 2)];
    host.neighbours = vec![(9, "10.0.0.3".parse().unwrap(), [2, 9, 9, 9, 9, 9])];
    host.routes = vec![via("10.0.0.3/32", 9, "10.9.9.9")];
    let spaces = [space("", host)];
    assert_eq!(ports(&named(&config(""), &spaces, &[ours(1, "eth0", None)])), Vec::<String>::new());
    let word = Ours { peer: Some(PeerId(3)), ..ours(1, "eth0", None) };
    assert_eq!(ports(&named(&config(""), &spaces, &[word])), ["1: 3 Host"], "the config's word");
}

#[test]
fn the_configs_word_for_a_peers_own_device() {
    let (a, spaces) = (netns("a"), switched());
    let word = |peer| Ours { peer: Some(PeerId(peer)), ..ours(1, "eth0", Some(&a)) };
    assert_eq!(ports(&named(&config(""), &spaces, &[word(1)])), ["1: 1 Own"]);
    // The facts there contradict the config: the port names no frame.
    assert_eq!(ports(&named(&config(""), &spaces, &[word(3)])), ["1: 3 Host shared"]);
}

#[test]
fn two_peers_in_one_namespace_have_no_port() {
    let mut spaces = switched();
    spaces[1].facts.addresses.push((2, "10.0.0.3".parse().unwrap()));
    let found = named(&config(""), &spaces, &[ours(1, "h1", None), ours(2, "h2", None)]);
    assert_eq!(ports(&found), ["2: 2 Host"]);
    assert!(found.peers[&PeerId(1)].is_seen && !found.peers[&PeerId(1)].is_plain);
    assert!(!found.macs.values().any(|peer| *peer != PeerId(2)), "{:?}", found.macs);
}

#[test]
fn a_port_behind_which_another_peer_is_learned_is_shared() {
    let mut spaces = switched();
    spaces[0].facts.ports = vec![(spaces[2].facts.links[0].mac.unwrap(), 11)];
    let found = named(&config(""), &spaces, &[ours(1, "h1", None), ours(2, "h2", None)]);
    assert_eq!(ports(&found), ["1: 1 Host shared", "2: 2 Host"]);
}

#[test]
fn the_one_port_of_a_peers_own_bridge_is_its_nic() {
    let mut spaces = switched();
    let bridge = device(1, 5, "br9", Kind::Bridge);
    spaces[1].facts.links[0].master = Some(5);
    spaces[1].facts.links.push(bridge);
    // The bridge has learned the others.
    let far = spaces[2].facts.links[0].mac.unwrap();
    spaces[1].facts.ports.push((far, 2));
    let a = netns("a");
    let named = |spaces: &[Namespace]| ports(&named(&config(""), spaces, &[ours(1, "eth0", Some(&a))]));
    assert_eq!(named(&spaces), ["1: 1 Own"]);
    spaces[1].facts.links.push(LinkFacts { master: Some(5), ..device(1, 6, "tap0", Kind::Tap) });
    assert!(named(&spaces).is_empty(), "frames of others pass it too");
}

#[test]
fn a_nested_peer_shares_the_ports_of_its_host() {
    let mut spaces = switched();
    // n3 is plugged into n1's namespace alone.
    spaces[1].facts.links.push(veth(1, 21, "v3", 5));
    spaces.push(space("c", facts(vec![veth(3, 5, "eth0", 21)], &[(5, "10.0.0.3")])));
    let (a, c) = (netns("a"), netns("c"));
    let all = [ours(1, "h1", None), ours(2, "h2", None), ours(3, "v3", Some(&a)), ours(4, "eth0", Some(&c))];
    let found = named(&config(""), &spaces, &all);
    assert_eq!(ports(&found), ["1: 1 Host shared", "2: 2 Host", "3: 3 Host", "4: 3 Own"]);
    assert!(!found.peers[&PeerId(1)].is_plain && found.peers[&PeerId(3)].is_plain);
}

#[test]
fn a_nic_on_a_cable_to_another_peer_is_its_own_peers() {
    let cable = |space, index, name: &str, far| veth(space, index, name, far);
    let spaces = [
        space("", facts(vec![device(0, 2, "eth0", Kind::Other)], &[])),
        space("a", facts(vec![cable(1, 2, "e0", 3)], &[(2, "10.0.0.1")])),
        space("b", facts(vec![cable(2, 3, "e0", 2)], &[(3, "10.0.0.2")])),
    ];
    let (a, b, c) = (netns("a"), netns("b"), netns("c"));
    let ends = [ours(1, "e0", Some(&a)), ours(2, "e0", Some(&b))];
    assert_eq!(ports(&named(&config(""), &spaces, &ends)), ["1: 1 Own", "2: 2 Own"]);
    // Each of three has a cable to each of the others.
    let spaces = [
        space("a", facts(vec![cable(1, 2, "e2", 3), cable(1, 4, "e3", 5)], &[(2, "10.0.0.1")])),
        space("b", facts(vec![cable(2, 3, "e1", 2), cable(2, 6, "e3", 7)], &[(3, "10.0.0.2")])),
        space("c", facts(vec![cable(3, 5, "e1", 4), cable(3, 7, "e2", 6)], &[(5, "10.0.0.3")])),
    ];
    let all: Vec<Ours<'_>> = [("e2", &a), ("e3", &a), ("e1", &b), ("e3", &b), ("e1", &c), ("e2", &c)]
        .into_iter()
        .zip(1..)
        .map(|((name, netns), id)| ours(id, name, Some(netns)))
        .collect();
    let wanted = ["1: 1 Own", "2: 1 Own", "3: 2 Own", "4: 2 Own", "5: 3 Own", "6: 3 Own"];
    assert_eq!(ports(&named(&config(""), &spaces, &all)), wanted);
}

#[test]
fn macs_of_one_peer_alone() {
    let mut spaces = switched();
    let mac = |namespaces: &[Namespace], at: usize| namespaces[at].facts.links[0].mac.unwrap();
    let found = named(&config(""), &spaces, &[]);
    assert_eq!(found.macs, BTreeMap::from([(mac(&spaces, 1), PeerId(1)), (mac(&spaces, 2), PeerId(2))]));
    for wrong in [[0; 6], [1, 0, 0x5e, 0, 0, 1], mac(&spaces, 1)] {
        spaces[2].facts.links[0].mac = Some(wrong);
        let found = named(&config(""), &spaces, &[]);
        assert!(!found.macs.contains_key(&wrong), "{wrong:?}");
        // Nor are frames to be taken for a peer's that come with it out of one's port.
        let is_doubled = wrong == mac(&spaces, 1);
        assert_eq!(found.doubled.contains(&wrong), is_doubled, "{wrong:?}");
    }
    // Another device has the same MAC address, and is no peer's.
    spaces[2].facts.links[0].mac = spaces[0].facts.links[2].mac;
    let found = named(&config(""), &spaces, &[]);
    assert!(!found.macs.contains_key(&mac(&spaces, 2)));
    assert_eq!(found.doubled, [mac(&spaces, 2)].into());
}

#[test]
fn all_macs_of_a_peer_are_known_where_no_one_else_has_one() {
    let known = |spaces: &[Namespace]| named(&config(""), spaces, &[]).peers[&PeerId(2)].has_known_macs;
    let spaces = switched();
    assert!(known(&spaces));
    let changed = |change: &dyn Fn(&mut Vec<Namespace>)| {
        let mut spaces = switched();
        change(&mut spaces);
        known(&spaces)
    };
    let more =
        |kind| move |spaces: &mut Vec<Namespace>| spaces[2].facts.links.push(device(2, 7, "more", kind));
    assert!(changed(&more(Kind::Macvlan)), "its own macvlan");
    assert!(!changed(&more(Kind::Tap)), "a guest's device");
    assert!(
        !changed(&|spaces| spaces[2].facts.links[0].mac = spaces[1].facts.links[0].mac),
        "two peers have it"
    );
    assert!(!changed(&|spaces| spaces[2].facts.links[0].mac = Some([0, 0, 0x5e, 0, 1, 1])), "it moves");
    let bridged = |spaces: &mut Vec<Namespace>| {
        spaces[2].facts.links[0].master = Some(5);
        let guest = LinkFacts { master: Some(5), ..device(2, 6, "guest", Kind::Other) };
        spaces[2].facts.links.extend([device(2, 5, "br9", Kind::Bridge), guest]);
    };
    assert!(!changed(&bridged), "a guest on its bridge");
    let unseen = [&spaces[..2], &[]].concat();
    assert!(!known(&unseen), "its namespace is not seen");
}

#[test]
fn held_addresses_of_one_peer_alone_and_shared_ones() {
    let mut spaces = switched();
    let held = |at: usize, address: &str, spaces: &mut Vec<Namespace>| {
        let index = spaces[at].facts.links[0].index;
        spaces[at].facts.addresses.push((index, address.parse().unwrap()));
    };
    for address in ["192.0.2.1", "fd00::1", "fe80::1", "169.254.7.7", "192.0.2.9", "127.0.0.1", "10.0.0.100"]
    {
        held(1, address, &mut spaces);
    }
    for address in ["192.0.2.2", "192.0.2.9", "10.0.0.1"] {
        held(2, address, &mut spaces);
    }
    // The host is no peer.
    for at in [0, 1] {
        held(at, "192.0.2.10", &mut spaces);
    }
    let text = "peers: { n1: { addresses: [10.0.0.1, 10.5.0.1], vip: [10.0.0.100] }, n2: { addresses: [10.0.0.2], vip: [10.0.0.100] } }\ninterfaces: auto\n";
    let config = Config::parse(text, "test").unwrap();
    spaces[1].facts.addresses.push((2, "10.5.0.1".parse().unwrap()));
    let before = Before::from([(PeerId(1), Some(netns("a")))]);
    let homes = homes(&config, &spaces, &before);
    let found = survey(&config, &spaces, &homes);
    let found =
        identity(&Sources { config: &config, namespaces: &spaces, homes: &homes, found: &found }, &[]);
    let wanted = [("192.0.2.1", 1), ("192.0.2.2", 2), ("fd00::1", 1)];
    assert_eq!(found.held, wanted.map(|(address, peer)| (address.parse().unwrap(), PeerId(peer))).into());
    let shared = [("192.0.2.9", None), ("192.0.2.10", Some(PeerId(1)))];
    assert_eq!(found.shared, shared.map(|(address, peer)| (address.parse().unwrap(), peer)).into());
    assert_eq!(found.moved, BTreeMap::from([("10.0.0.1".parse().unwrap(), PeerId(2))]), "both hold it");
}

#[test]
fn addresses_of_devices_that_nothing_leaves_by() {
    let mut spaces = switched();
    let mut add = |kind: Kind, index: u32, address: &str| {
        let facts = &mut spaces[1].facts;
        facts.links.push(LinkFacts { index, kind, name: format!("d{index}"), ..facts.links[0].clone() });
        facts.addresses.push((index, address.parse().unwrap()));
    };
    add(Kind::Bridge, 20, "172.17.0.1");
    add(Kind::Loopback, 21, "192.0.2.21");
    add(Kind::Bond, 22, "192.0.2.22");
    // A bridge with the address of the config is the peer's way out, and what else it has is the peer's.
    add(Kind::Bridge, 23, "10.0.0.1");
    spaces[1].facts.addresses.push((23, "192.0.2.23".parse().unwrap()));
    // On a NIC too.
    spaces[1].facts.addresses.push((20, "192.0.2.24".parse().unwrap()));
    spaces[1].facts.addresses.push((2, "192.0.2.24".parse().unwrap()));
    let found = named(&config(""), &spaces, &[]);
    let of = |addresses: &[&str]| -> BTreeMap<IpAddr, PeerId> {
        addresses.iter().map(|address| (address.parse().unwrap(), PeerId(1))).collect()
    };
    assert_eq!(found.private, of(&["172.17.0.1", "192.0.2.21"]));
    assert_eq!(found.held, of(&["192.0.2.22", "192.0.2.23", "192.0.2.24"]));
}

#[test]
fn a_next_hop_that_holds_a_shared_address() {
    let mut spaces = switched();
    let shared = "192.0.2.9".parse().unwrap();
    for (at, index) in [(1, 2), (2, 3)] {
        spaces[at].facts.addresses.push((index, shared));
    }
    assert!(named(&config(""), &spaces, &[]).forwarders.is_empty(), "nobody forwards");
    spaces[2].facts.routes.push(via("192.0.2.9/32", 3, "10.0.0.1"));
    let found = named(&config(""), &spaces, &[]);
    assert_eq!(found.forwarders, [(shared, [PeerId(1)].into())].into());
    // Shared with someone who is no peer.
    spaces[2].facts.addresses.pop();
    spaces[0].facts.addresses.push((9, shared));
    assert!(named(&config(""), &spaces, &[]).forwarders.is_empty());
}

#[test]
fn an_address_follows_its_holder_also_one_of_a_prefix() {
    let text = "peers: { n1: { addresses: [10.0.0.1, 10.0.0.9, 10.5.0.0/16, \"fe00::/8\"] }, n2: { addresses: [10.0.0.2, 10.5.1.0/24] } }\ninterfaces: auto\n";
    let config = Config::parse(text, "test").unwrap();
    let all = [ours(1, "h1", None), ours(2, "h2", None)];
    for (address, is_moved) in [
        ("10.0.0.9", true),
        ("10.5.0.1", true),
        ("10.5.1.1", false),
        ("fe80::2", false),
        ("192.0.2.1", false),
    ] {
        let mut spaces = switched();
        spaces[2].facts.addresses.push((3, address.parse().unwrap()));
        // The bridge has learned its MAC address there.
        let mac = spaces[2].facts.links[0].mac.unwrap();
        spaces[0].facts.neighbours.push((9, address.parse().unwrap(), mac));
        spaces[0].facts.ports.push((mac, 12));
        let found = named(&config, &spaces, &all);
        let moved = is_moved.then(|| (address.parse().unwrap(), PeerId(2)));
        assert_eq!(found.moved, moved.into_iter().collect(), "{address}");
        assert_eq!(ports(&found), ["1: 1 Host", "2: 2 Host"], "{address}: the holder's port is its own");
    }
}

#[test]
fn the_mac_address_of_a_virtual_router_is_nobodys() {
    for mac in [[0, 0, 0x5e, 0, 1, 51], [0, 0, 0x5e, 0, 2, 51]] {
        let mut spaces = switched();
        for at in [1, 2] {
            let vrrp = device(at as u8, 7, "vrrp", Kind::Macvlan);
            spaces[at].facts.links.push(LinkFacts { mac: Some(mac), ..vrrp });
        }
        let found = named(&config(""), &spaces, &[]);
        assert!(!found.macs.contains_key(&mac) && found.doubled.is_empty(), "{mac:?}");
    }
}

#[test]
fn a_plain_peer_has_nothing_to_forward_to() {
    let is_plain = |change: &dyn Fn(&mut Vec<LinkFacts>)| {
        let mut spaces = switched();
        change(&mut spaces[1].facts.links);
        named(&config(""), &spaces, &[]).peers[&PeerId(1)].is_plain
    };
    assert!(is_plain(&|_| ()));
    assert!(is_plain(&|links| links.push(device(1, 1, "lo", Kind::Loopback))));
    assert!(is_plain(&|links| links.push(LinkFacts { up: false, ..device(1, 7, "eth1", Kind::Other) })));
    assert!(is_plain(&|links| links.push(device(1, 7, "docker0", Kind::Bridge))), "a bridge without ports");
    assert!(is_plain(&|links| {
        links[0].master = Some(7);
        links.push(device(1, 7, "bond0", Kind::Bond));
    }));
    for kind in [Kind::Other, Kind::Vlan, Kind::Tunnel, Kind::Tap, Kind::Veth, Kind::Macvlan] {
        assert!(!is_plain(&|links| links.push(device(1, 7, "x", kind))), "{kind:?}");
    }
    assert!(!is_plain(&|links| {
        links[0].master = Some(7);
        links.push(device(1, 7, "br0", Kind::Bridge));
    }));
}

#[test]
fn a_next_hop_forwards() {
    let forwards = |change: &dyn Fn(&mut Vec<Namespace>), peer: u16| {
        let mut spaces = switched();
        change(&mut spaces);
        let traits = named(&config(""), &spaces, &[]).peers[&PeerId(peer)];
        assert!(!(traits.forwards && traits.is_plain));
        traits.forwards
    };
    assert!(!forwards(&|_| (), 1));
    assert!(forwards(&|spaces| spaces[2].facts.routes.push(via("10.9.0.0/16", 3, "10.0.0.1")), 1));
    assert!(forwards(&|spaces| spaces[0].facts.defaults.push(via("0.0.0.0/0", 9, "10.0.0.1")), 1));
    assert!(
        forwards(&|spaces| spaces[2].facts.defaults.push(via("0.0.0.0/0", 3, "10.0.0.3")), 3),
        "an unseen peer"
    );
    // The peer is the next hop by the MAC address of a link-local address.
    assert!(forwards(
        &|spaces| {
            let mac = spaces[1].facts.links[0].mac.unwrap();
            spaces[2].facts.defaults.push(via("::/0", 3, "fe80::1"));
            spaces[2].facts.neighbours.push((3, "fe80::1".parse().unwrap(), mac));
        },
        1
    ));
    let text = "peers: { n1: { addresses: [10.0.0.1], forwards: true } }\ninterfaces: auto\n";
    let config = Config::parse(text, "test").unwrap();
    assert!(named(&config, &switched(), &[]).peers[&PeerId(1)].forwards);
}
