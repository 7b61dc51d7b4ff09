//! Coverage by table, of namespaces written by hand.

mod nat;

use super::super::homes::{Before, exits, homes};
use super::super::naming::{Ours, Sources, identity};
use super::super::picture::Seen;
use super::super::places::Namespace;
use super::super::survey::survey;
use super::super::test_topologies::{config, device, facts, space, switched, veth, via};
use super::*;
use crate::netlink::facts::Route;
use crate::netlink::{Kind, LinkFacts};
use CoverageState::{Covered, Not, Partly, Unknown};
use injector_core::config::{Config, Netns};

/// Interfaces of ours, each written as `name` or `netns/name`, with `=n1` for the config's word; all hooked but those
/// that begin with `-`.
struct Fixture {
    picture: Picture,
    hooked: BTreeSet<u32>,
}

fn fixture(config: &Config, namespaces: &[Namespace], interfaces: &[&str]) -> Fixture {
    let homes = homes(config, namespaces, &Before::new());
    let mut found = survey(config, namespaces, &homes);
    for (peer, home) in &homes {
        let exits = exits(config, namespaces, home.at).iter().map(super::super::homes::Exit::path).collect();
        found.get_mut(peer).unwrap().exits = exits;
    }
    let parsed: Vec<(Option<Netns>, String, Option<PeerId>)> = interfaces
        .iter()
        .map(|text| {
            let text = text.trim_start_matches('-');
            let (place, peer) =
                text.split_once('=').map_or((text, None), |(place, peer)| (place, Some(peer)));
            let (netns, name) =
                place.split_once('/').map_or((None, place), |(netns, name)| (Some(netns), name));
            let netns = netns.map(|netns| Netns::Name(netns.to_owned()));
            (netns, name.to_owned(), peer.map(|peer| config.names.id(peer).unwrap()))
        })
        .collect();
    let ours: Vec<Ours<'_>> = parsed
        .iter()
        .zip(1..)
        .map(|((netns, name, peer), id)| Ours { id, name, netns: netns.as_ref(), peer: *peer })
        .collect();
    let identity = identity(&Sources { config, namespaces, homes: &homes, found: &found }, &ours);
    let seen = Seen { config, namespaces, homes: &homes, found: &found, identity: &identity, ours: &ours };
    let hooked = interfaces.iter().zip(1..).filter(|(text, _)| !text.starts_with('-')).map(|(_, id)| id);
    Fixture { picture: seen.picture(), hooked: hooked.collect() }
}

const fn link(src: u16, dst: u16) -> Link {
    Link { src: PeerId(src), dst: PeerId(dst) }
}

impl Fixture {
    fn assess(&self, src: u16, dst: u16) -> LinkAssessment {
        CoverageAssessor::new(&self.picture, &self.hooked, &BTreeSet::new()).assess(link(src, dst))
    }

    fn state(&self, src: u16, dst: u16) -> CoverageState {
        self.assess(src, dst).state
    }
}

#[test]
fn a_link_is_covered_by_one_closed_end() {
    let spaces = switched();
    for (interfaces, wanted) in [
        (&["a/eth0"][..], Covered),
        (&["h1"], Covered),
        (&["h2"], Covered),
        (&["-h1"], Not),
        (&[], Not),
        (&["br0"], Not),
    ] {
        let fixture = fixture(&config(""), &spaces, interfaces);
        assert_eq!((fixture.state(1, 2), fixture.state(2, 1)), (wanted, wanted), "{interfaces:?}");
    }
    let Reason::NoHook(places) = fixture(&config(""), &spaces, &["br0"]).assess(1, 2).reason else {
        panic!()
    };
    let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
    assert_eq!(names, ["eth0", "h1", "eth0", "h2"]);
}

#[test]
fn nothing_known_is_not_covered() {
    let fixture = fixture(&config(""), &[], &[]);
    assert_eq!(fixture.assess(1, 2), LinkAssessment { state: Not, reason: Reason::NoWay });
}

#[test]
fn peers_of_one_namespace_are_not_covered() {
    let mut spaces = switched();
    spaces[1].facts.addresses.push((2, "10.0.0.3".parse().unwrap()));
    let fixture = fixture(&config(""), &spaces, &["h1", "h2"]);
    assert!(matches!(fixture.assess(1, 3), LinkAssessment { state: Not, reason: Reason::HostMates(_) }));
    assert_eq!((fixture.state(1, 2), fixture.state(3, 2)), (Covered, Covered));
}

#[test]
fn a_second_nic_without_a_hook() {
    let mut spaces = switched();
    spaces[1].facts.links.push(device(1, 7, "eth1", Kind::Other));
    let both = fixture(&config(""), &spaces, &["a/eth0", "a/eth1"]);
    assert_eq!(both.state(1, 2), Covered);
    // Nothing leads to eth1, so n2 need not be behind it.
    let one = fixture(&config(""), &spaces, &["a/eth0"]);
    assert_eq!((one.state(1, 2), one.state(2, 1)), (Unknown, Unknown));
    spaces[1].facts.routes.push(via("10.0.0.2/32", 7, "10.7.7.7"));
    let one = fixture(&config(""), &spaces, &["a/eth0"]);
    assert!(matches!(one.assess(1, 2), LinkAssessment { state: Partly, reason: Reason::Path(Some(_), _) }));
    assert_eq!(one.state(2, 1), Unknown, "10.0.0.1 is on eth0");
    spaces[1].facts.addresses.push((7, "192.0.2.7".parse().unwrap()));
    let one = fixture(&config(""), &spaces, &["a/eth0"]);
    // n2 knows no route to 192.0.2.7.
    assert_eq!(one.state(2, 1), Unknown);
    spaces[2].facts.defaults.push(via("0.0.0.0/0", 3, "10.0.0.14"));
    let one = fixture(&config(""), &spaces, &["a/eth0"]);
    assert_eq!(one.state(2, 1), Partly);
    let left_out = config("elsewhere: [{ name: eth1, netns: a }]");
    assert_eq!(fixture(&left_out, &spaces, &["a/eth0"]).state(2, 1), Covered);
}

/// Adds another cable from the first node: to the second one, or to the bridge, where the second one has
/// another too.
fn with_another_cable(is_direct: bool) -> Vec<Namespace> {
    let mut spaces = switched();
    if is_direct {
        spaces[1].facts.links.push(veth(1, 7, "v0", 8));
        spaces[2].facts.links.push(veth(2, 8, "v0", 7));
    } else {
        let bridge = device(0, 19, "br1", Kind::Bridge);
        let port = |link: LinkFacts| LinkFacts { master: Some(19), ..link };
        spaces[0].facts.links.extend([bridge, port(veth(0, 21, "h3", 7)), port(veth(0, 22, "h4", 8))]);
        spaces[1].facts.links.push(veth(1, 7, "v0", 21));
        spaces[2].facts.links.push(veth(2, 8, "v0", 22));
    }
    spaces
}

#[test]
fn a_route_over_a_cable_to_an_address_of_another_device() {
    for (is_direct, other_end) in [(true, "b/v0"), (false, "h3")] {
        let mut spaces = with_another_cable(is_direct);
        let hooks = ["a/eth0", "b/eth0"];
        let before = fixture(&config(""), &spaces, &hooks);
        assert_eq!((before.state(1, 2), before.state(2, 1)), (Unknown, Unknown), "nothing leads there");
        spaces[1].facts.routes.push(Route { gateway: None, ..via("10.0.0.2/32", 7, "10.7.7.7") });
        let open = fixture(&config(""), &spaces, &hooks);
        let assessment = open.assess(1, 2);
        let Reason::Path(Some(address), places) = &assessment.reason else { panic!("{assessment:?}") };
        assert_eq!((assessment.state, address.to_string()), (Partly, "10.0.0.2".to_owned()));
        assert!(places.iter().any(|place| place.name == "v0"), "{places:?}");
        assert_eq!(open.state(2, 1), Unknown);
        for more in ["a/v0", other_end] {
            assert_ne!(
                fixture(&config(""), &spaces, &[hooks[0], hooks[1], more]).state(1, 2),
                Partly,
                "{more}"
            );
        }
    }
}

#[test]
fn macvlans_and_tunnels_are_exits_that_their_parents_do_not_stand_for() {
    for (kind, name) in [(Kind::Macvlan, "m0"), (Kind::Tunnel, "vx0")] {
        let node = |number: u8, address: &str| {
            let inner = LinkFacts { below: Some(2), ..device(number, 7, name, kind) };
            let mut facts = facts(vec![device(number, 2, "eth0", Kind::Other), inner], &[(7, address)]);
            facts.networks = vec![(7, format!("{address}/24").parse().unwrap())];
            facts
        };
        let spaces = [space("a", node(1, "10.0.0.1")), space("b", node(2, "10.0.0.2"))];
        let inner = format!("a/{name}");
        let outer = fixture(&config(""), &spaces, &["a/eth0", "b/eth0"]);
        assert_ne!(outer.state(1, 2), Covered, "{name}");
        assert_ne!(outer.state(1, 2), Unknown, "{name}");
        assert_eq!(fixture(&config(""), &spaces, &["a/eth0", &inner]).state(1, 2), Covered, "{name}");
    }
}

#[test]
fn packets_that_no_hook_can_judge() {
    let mut spaces = switched();
    let tunnel = LinkFacts {
        layer: netlink_packet_route::link::LinkLayerType::None,
        ..device(1, 7, "wg0", Kind::Tunnel)
    };
    spaces[1].facts.links.push(tunnel);
    spaces[1].facts.routes.push(via("10.0.0.2/32", 7, "10.7.7.7"));
    let one = fixture(&config(""), &spaces, &["a/eth0"]);
    assert_eq!(one.assess(1, 2), LinkAssessment { state: Partly, reason: Reason::Blind("wg0".to_owned()) });
    assert_eq!(
        fixture(&config(""), &spaces, &["a/eth0", "h2"]).state(1, 2),
        Covered,
        "the other end is closed"
    );
}

/// A host that sees n1 and n2 behind ports, and n3 nowhere.
fn neighbours_behind_ports() -> Vec<Namespace> {
    let mut host = facts(
        vec![
            LinkFacts { master: Some(9), ..device(0, 11, "t1", Kind::Tap) },
            LinkFacts { master: Some(9), ..device(0, 12, "t2", Kind::Tap) },
            device(0, 9, "br0", Kind::Bridge),
            device(0, 2, "eth0", Kind::Other),
        ],
        &[(9, "10.0.0.14")],
    );
    for (address, mac, port) in [("10.0.0.1", 1, 11), ("10.0.0.2", 2, 12)] {
        host.neighbours.push((9, address.parse().unwrap(), [2, 9, 9, 9, 9, mac]));
        host.ports.push(([2, 9, 9, 9, 9, mac], port));
    }
    host.defaults.push(via("0.0.0.0/0", 2, "192.0.2.1"));
    vec![space("", host)]
}

#[test]
fn peers_that_are_only_heard_are_unknown_at_best() {
    let spaces = neighbours_behind_ports();
    for (interfaces, one_two, one_three, two_three) in [
        // A packet passes where either end's known path is hooked.
        (&["t1", "t2"][..], Unknown, Unknown, Unknown),
        (&["t1"], Unknown, Unknown, Not),
        (&["t1", "t2", "eth0"], Unknown, Unknown, Unknown),
        (&["eth0"], Not, Unknown, Unknown),
        (&[], Not, Not, Not),
    ] {
        let fixture = fixture(&config(""), &spaces, interfaces);
        let found = (fixture.state(1, 2), fixture.state(1, 3), fixture.state(2, 3));
        assert_eq!(found, (one_two, one_three, two_three), "{interfaces:?}");
    }
    let word = fixture(&config(""), &spaces, &["t1=n1"]);
    assert_eq!((word.state(1, 2), word.state(1, 3), word.state(2, 3)), (Covered, Covered, Not));
}

#[test]
fn two_peers_behind_one_uplink_need_not_pass_it() {
    let mut spaces = neighbours_behind_ports();
    let host = &mut spaces[0].facts;
    host.ports = vec![([2, 9, 9, 9, 9, 1], 11), ([2, 9, 9, 9, 9, 2], 11)];
    let fixture = fixture(&config(""), &spaces, &["t1"]);
    assert_eq!(fixture.assess(1, 2), LinkAssessment { state: Not, reason: Reason::SameHook(1) });
}

#[test]
fn frames_to_groups_need_a_port_of_the_receivers() {
    let spaces = switched();
    let fixture = fixture(&config(""), &spaces, &["h1"]);
    let none = BTreeSet::new();
    let assessor = CoverageAssessor::new(&fixture.picture, &fixture.hooked, &none);
    let cut = [link(1, 2), link(2, 1)];
    // n3 is a peer too, and n1's link to it stays.
    let group = LinkAssessment { state: Partly, reason: Reason::Group(PeerId(2), Vec::new(), None) };
    assert_eq!(assessor.assess_in(link(1, 2), &cut, true), group);
    assert_eq!(assessor.assess_in(link(1, 2), &cut, false).state, Covered, "none are cut");
    assert_eq!(assessor.assess_in(link(2, 1), &cut, true).state, Covered, "n1's port is hooked");
    let all = [link(1, 2), link(1, 3), link(2, 1)];
    assert_eq!(assessor.assess_in(link(1, 2), &all, true).state, Covered, "dropped where n1 sends");
    // What comes out of n1's port may be of n3, which is behind n1.
    let mut spaces = switched();
    spaces[1].facts.links.push(veth(1, 21, "v3", 5));
    spaces.push(space("c", facts(vec![veth(3, 5, "eth0", 21)], &[(5, "10.0.0.3")])));
    let fixture = self::fixture(&config(""), &spaces, &["h1", "a/v3"]);
    let assessor = CoverageAssessor::new(&fixture.picture, &fixture.hooked, &none);
    assert_eq!(assessor.assess(link(1, 2)).state, Covered);
    assert_eq!(assessor.assess_in(link(1, 2), &all, true), group);
}

#[test]
fn a_cable_between_peers_needs_the_receivers_own_nic() {
    let spaces = [
        space("a", facts(vec![veth(1, 2, "e2", 3), veth(1, 4, "e3", 5)], &[(2, "10.0.0.1")])),
        space("b", facts(vec![veth(2, 3, "e1", 2), veth(2, 6, "e3", 7)], &[(3, "10.0.0.2")])),
        space("c", facts(vec![veth(3, 5, "e1", 4), veth(3, 7, "e2", 6)], &[(5, "10.0.0.3")])),
    ];
    let none = BTreeSet::new();
    let cut = [link(1, 2), link(2, 1)];
    let of = |interfaces: &[&str], at: Link| {
        let fixture = fixture(&config(""), &spaces, interfaces);
        CoverageAssessor::new(&fixture.picture, &fixture.hooked, &none).assess_in(at, &cut, true)
    };
    let one_end = ["a/e2", "a/e3", "b/e3"];
    let Reason::Group(PeerId(2), places, _) = of(&one_end, link(1, 2)).reason else { panic!() };
    assert_eq!(places.iter().map(|place| place.name.as_str()).collect::<Vec<_>>(), ["e1"]);
    assert_eq!(of(&one_end, link(2, 1)).state, Covered, "n1's own NICs are hooked");
    assert_eq!(of(&["a/e2", "a/e3", "b/e3", "b/e1"], link(1, 2)).state, Covered);
}

#[test]
fn a_host_end_past_which_others_may_redirect_closes_nothing() {
    let spaces = switched();
    let of = |interfaces: &[&str], bypassed: &[u32]| {
        let fixture = fixture(&config(""), &spaces, interfaces);
        CoverageAssessor::new(&fixture.picture, &fixture.hooked, &bypassed.iter().copied().collect())
            .assess(link(1, 2))
    };
    assert_eq!(of(&["h1"], &[1]), LinkAssessment { state: Partly, reason: Reason::Redirect(1) });
    assert_eq!(of(&["h1", "a/eth0"], &[1]).state, Covered, "the peer's own device is hooked");
    assert_eq!(of(&["h1", "h2"], &[1]).state, Covered, "the other end");
    assert_eq!(of(&["h1", "h2"], &[1, 2]).state, Partly);
}

#[test]
fn the_world_is_seen_from_the_peers_end_alone() {
    let mut spaces = switched();
    assert_eq!(fixture(&config(""), &spaces, &["h1"]).state(0, 1), Covered);
    assert_eq!(fixture(&config(""), &spaces, &["h2"]).state(0, 1), Not);
    spaces[1].facts.links.push(veth(1, 7, "eth1", 99));
    assert_eq!(fixture(&config(""), &spaces, &["h1"]).state(1, 0), Partly, "the world may be behind eth1");
}

#[test]
fn peers_that_are_not_here_take_no_part() {
    let spaces = switched();
    let config = config("here: [n1]");
    assert_eq!(fixture(&config, &spaces, &["h2"]).state(1, 2), Not, "n2's end is another daemon's");
    assert_eq!(fixture(&config, &spaces, &["h1"]).state(1, 2), Covered);
}

/// The daemon is on n1's host, which has a management NIC as every host has; nothing is known of n2.
#[test]
fn a_management_nic_of_a_peer_leaves_links_with_remote_peers_unknown() {
    let mut spaces = switched();
    spaces.truncate(2);
    spaces[1].facts.links.push(device(1, 7, "eth9", Kind::Other));
    spaces[1].facts.addresses.push((7, "192.0.2.7".parse().unwrap()));
    let own = |more: &str| fixture(&config(&format!("here: [n1]\n{more}")), &spaces, &["a/eth0"]);
    assert_eq!((own("").state(1, 2), own("").state(2, 1)), (Unknown, Unknown));
    assert_eq!(own("").state(0, 1), Partly, "everyone else may be behind it");
    let left_out = own("elsewhere: [{ name: eth9, netns: a }]");
    assert_eq!((left_out.state(1, 2), left_out.state(2, 1)), (Covered, Covered));
    // An address of the config is a known way.
    let listed = "peers: { n1: { addresses: [10.0.0.1, 192.0.2.7] }, n2: { addresses: [10.0.0.2] } }\ninterfaces: auto\nhere: [n1]\n";
    let listed = Config::parse(listed, "test").unwrap();
    assert_eq!(fixture(&listed, &spaces, &["a/eth0"]).state(2, 1), Partly);
}

/// Two containers and a peer by its address, on a bridge of the daemon's own.
fn contained() -> (Config, Vec<Namespace>) {
    let text = "peers: { n1: { container: a }, n2: { container: b }, n3: { addresses: [10.0.0.3] } }\ninterfaces: auto\n";
    let mut namespaces = switched();
    for (space, name) in namespaces.iter_mut().skip(1).zip(["a", "b"]) {
        space.netns = Some(Netns::Container(ContainerRef::Name(name.to_owned())));
    }
    (Config::parse(text, "test").unwrap(), namespaces)
}

#[test]
fn a_container_is_covered_by_what_is_found_in_it() {
    let (config, namespaces) = contained();
    let fixture = fixture(&config, &namespaces, &["h1", "h2"]);
    assert_eq!(fixture.assess(1, 2).reason, Reason::Closed(PeerId(1)));
    assert_eq!(fixture.picture.ends[&PeerId(1)].addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(fixture.picture.ends[&PeerId(1)].ports, [1]);
}

#[test]
fn a_container_that_is_away_is_not_covered_by_the_hooks_of_others() {
    let (config, mut namespaces) = contained();
    namespaces.remove(1);
    let fixture = fixture(&config, &namespaces, &["h1", "h2"]);
    let away = Reason::Away(PeerId(1), ContainerRef::Name("a".to_owned()));
    for (src, dst) in [(1, 2), (2, 1), (1, 3)] {
        assert_eq!(fixture.assess(src, dst), LinkAssessment { state: Not, reason: away.clone() });
    }
    assert_eq!(fixture.assess(2, 3).state, Covered);
}
