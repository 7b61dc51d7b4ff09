//! `interfaces: auto` on real kernels: where the peers are found, and that a cut there is one. Needs root.

injector_lab::group!(kernels);

#[path = "support/ground.rs"]
mod ground;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::Duration;

use ground::Ground;
use injector_core::api::{PartitionRequest, VerdictOptions, WarningCode};
use injector_core::model::{Percent, Traffic};
use injector_lab::needs;

/// A peer with both addresses of a host number.
fn peer(ground: &Ground, name: &str, host: u8) -> String {
    format!("{name}: {{ addresses: [{}, \"{}\"] }}", ground.ipv4(host), ground.ipv6(host))
}

/// Some of these.
fn peers(ground: &Ground, peers: &[(&str, u8)]) -> String {
    peers.iter().map(|(name, host)| peer(ground, name, *host)).collect::<Vec<_>>().join(", ")
}

/// What `status` says of why an interface was chosen.
fn why(daemon: &live::daemon::Daemon, interface: &str) -> String {
    let found = daemon.status().attachments.into_iter().find(|found| found.interface == interface);
    found.unwrap_or_else(|| panic!("{interface} is not attached to")).why
}

#[test]
#[needs(root)]
fn neighbours_of_a_routing_host() {
    let mut ground = Ground::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2), ("n3", "v3", 3)] {
        ground.routed(node, end, host);
    }
    // Learned by real traffic; the third is silent until then, and known by its route alone.
    ground.assert_flows(("n1", 1), ("n2", 2));
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["v1", "v2", "v3"]);
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2)] {
        let why = why(&daemon, end);
        assert!(why.contains(&format!("found for {node}: {} is its neighbour", ground.ipv4(host))), "{why}");
    }
    let silent = why(&daemon, "v3");
    assert!(silent.contains(&format!("the route {}/32 leads to it", ground.ipv4(3))), "{silent}");
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    ground.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_neighbour_known_by_one_address_alone() {
    let mut ground = Ground::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2), ("n3", "v3", 3)] {
        ground.routed(node, end, host);
        ground.ip("h", &format!("route delete {}/32 dev {end}", ground.ipv4(host)));
    }
    for (a, b, c, d) in [("n1", 1, "n2", 2), ("n2", 2, "n3", 3)] {
        assert_eq!(ground.delivered((a, ground.ipv6(b)), (c, ground.ipv6(d)), 3, 3), 3);
    }
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["v1", "v2", "v3"]);
    let said = daemon.log();
    assert!(
        said.contains(&format!("did not find peer n1 at {}", ground.ipv4(1)))
            && said.contains("behind the same interfaces"),
        "{said}"
    );
    let end = |node, host| (node, ground.ipv6(host));
    daemon.apply("p", &ground::links("n1", "n2"));
    assert_eq!(ground.delivered(end("n1", 1), end("n2", 2), 5, 0), 0);
    assert_eq!(ground.delivered(end("n2", 2), end("n3", 3), 5, 5), 5);
    assert_eq!(ground::dropped(&daemon.partition("p"), "n1", "n2"), 5);
    daemon.heal("p");
    assert_eq!(ground.delivered(end("n1", 1), end("n2", 2), 5, 5), 5);
}

#[test]
#[needs(root)]
fn ports_of_a_bridge_and_not_the_bridge() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        ground.bridged(node, port, "br0", host);
    }
    // Known on the bridge by the host's own traffic.
    for (node, host) in [("n1", 1), ("n2", 2), ("n3", 3)] {
        ground.assert_flows(("h", 14), (node, host));
    }
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["p1", "p2", "p3"]);
    assert!(why(&daemon, "p1").contains("learned behind this bridge port"));
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    // The host is no peer: what it says to the nodes is not theirs.
    ground.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("h", 14), ("n1", 1)));
}

#[test]
#[needs(root)]
fn peers_beyond_a_gateway() {
    let mut ground = Ground::new();
    ground.routed("n1", "v1", 1);
    ground.routed("n2", "v2", 2);
    beyond(&mut ground, "v4", "n3", 3);
    ground.ip("h", "address add fe80::1/64 dev v4 nodad");
    for (host, gateway, length) in
        [(ground.ipv4(3), ground.ipv4(9), 32), (ground.ipv6(3), ground.ipv6(9), 128)]
    {
        ground.ip("h", &format!("route add {host}/{length} via {gateway} dev v4 onlink"));
    }
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["v1", "v2", "v4"]);
    let why = why(&daemon, "v4");
    assert!(
        why.contains(&format!("the route {}/32 via {} leads to it", ground.ipv4(3), ground.ipv4(9))),
        "{why}"
    );
    ground.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n1", 1), ("n2", 2)));
}

#[test]
#[needs(root)]
fn every_next_hop_of_a_route() {
    let mut ground = two_nics();
    ground.hide("n3");
    let n3 = format!("n3: {{ addresses: [{}] }}", ground.ipv4(3));
    let daemon = ground.daemon(&format!("{}, {n3}", peers(&ground, &[("n1", 1), ("n2", 2)])));
    ground.assert_chosen(&daemon, &["v1", "v2", "v3", "w3"]);
    let (near, far) = (("n1", ground.ipv4(1)), ("n3", ground.ipv4(3)));
    assert_eq!(ground.delivered(far, near, 5, 5), 5);
    daemon.apply("p", &ground::links("n1", "n3"));
    assert_eq!(ground.delivered(far, near, 5, 0), 0);
    ground.assert_flows(("n1", 1), ("n2", 2));
    assert_eq!(ground::dropped(&daemon.partition("p"), "n3", "n1"), 5);
    daemon.heal("p");
    assert_eq!(ground.delivered(far, near, 5, 5), 5);
}

#[test]
#[needs(root)]
fn loss_is_rolled_on_every_way_of_a_peer() {
    const SENT: usize = 3000;
    let mut ground = two_nics();
    ground.ip("n3", &format!("route add {} via {} dev eth1 onlink", ground.ipv4(2), ground::GATEWAY));
    ground.hide("n3");
    let n3 = format!("n3: {{ addresses: [{}] }}", ground.ipv4(3));
    let daemon = ground.daemon(&format!("{}, {n3}", peers(&ground, &[("n1", 1), ("n2", 2)])));
    ground.assert_chosen(&daemon, &["v1", "v2", "v3", "w3"]);
    let links = live::daemon::links(&[("n3", "n1"), ("n3", "n2")], Duration::from_mins(9));
    daemon.apply(
        "p",
        &PartitionRequest {
            traffic: Traffic { loss: Percent::new(30.0).unwrap(), ..Traffic::default() },
            ..links
        },
    );
    // By eth0, and by eth1.
    for (node, host) in [("n1", 1), ("n2", 2)] {
        // Six standard deviations of a binomial of 3000 are 151; rolled twice, 49% would come through.
        let got = ground.delivered(("n3", ground.ipv4(3)), (node, ground.ipv4(host)), SENT, 2100 - 151);
        assert!((2100 - 151..=2100 + 151).contains(&got), "{got} of {SENT} to {node}");
    }
    // Of hidden nodes it is not known what other devices they have; that is all there is to warn of.
    let warnings = daemon.record_now("p").warnings;
    assert!(matches!(&warnings[..], [only] if only.code == WarningCode::CoverageUnknown), "{warnings:?}");
}

/// Two nodes on veths of their own, and a third on two veths, to which its one address is routed.
fn two_nics() -> Ground {
    let mut ground = Ground::new();
    ground.routed("n1", "v1", 1);
    ground.routed("n2", "v2", 2);
    ground.plug("n3", "v3");
    ground.cable("n3", "w3", "eth1");
    for nic in ["eth0", "eth1"] {
        ground.ip("n3", &format!("address add {}/32 dev {nic}", ground.ipv4(3)));
    }
    ground.leave_by_gateway("n3");
    ground.ip("h", &format!("route add {}/32 nexthop dev v3 nexthop dev w3", ground.ipv4(3)));
    ground
}

#[test]
#[needs(root)]
fn a_gateway_behind_a_bridge_is_behind_its_port() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    ground.bridged("n1", "p1", "br0", 1);
    ground.bridged("n2", "p2", "br0", 2);
    for node in ["n1", "n2"] {
        for (host, gateway) in [(ground.ipv4(3), ground.ipv4(14)), (ground.ipv6(3), ground.ipv6(14))] {
            ground.ip(node, &format!("route add {host} via {gateway}"));
        }
    }
    beyond(&mut ground, "p4", "n3", 3);
    ground.ip("h", "link set p4 master br0");
    ground.ip("h", "address add fe80::1/64 dev br0 nodad");
    ground.ip("h", &format!("route add {}/32 via {} dev br0 onlink", ground.ipv4(3), ground.ipv4(9)));
    ground.ip("h", &format!("route add {}/128 via {} dev br0 onlink", ground.ipv6(3), ground.ipv6(9)));
    ground.assert_flows(("n1", 1), ("n3", 3));
    ground.assert_flows(("n1", 1), ("n2", 2));
    ground.assert_flows(("h", 14), ("n2", 2));
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["p1", "p2", "p4"]);
    assert!(why(&daemon, "p4").contains("this bridge port to the gateway"));
    ground.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n1", 1), ("n2", 2)));
}

/// A hidden node beyond a hidden router (host number 9) on a veth of the host's.
fn beyond(ground: &mut Ground, host_end: &str, of: &str, host: u8) {
    let router = "r";
    ground.plug(router, host_end);
    ground.within(router, || {
        for of in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{of}"), "1").unwrap();
        }
    });
    ground.ip(router, &format!("address add {}/32 dev eth0", ground.ipv4(9)));
    ground.ip(router, &format!("address add {}/128 dev eth0 nodad", ground.ipv6(9)));
    ground.leave_by_gateway(router);
    ground.add(of);
    let name = ground.netns(of);
    ground.ip(router, &format!("link add far type veth peer name eth0 netns {name}"));
    ground.ip(router, "link set far up");
    ground.ip(router, "address add fe80::1/64 dev far nodad");
    ground.ip(router, &format!("route add {}/32 dev far", ground.ipv4(host)));
    ground.ip(router, &format!("route add {}/128 dev far", ground.ipv6(host)));
    ground.ip(of, "link set eth0 up");
    ground.ip(of, &format!("address add {}/32 dev eth0", ground.ipv4(host)));
    ground.ip(of, &format!("address add {}/128 dev eth0 nodad", ground.ipv6(host)));
    ground.ip(of, &format!("route add default via {} dev eth0 onlink", ground.ipv4(9)));
    ground.ip(of, "route add default via fe80::1 dev eth0");
    ground.hide(of);
    ground.hide(router);
}

#[test]
#[needs(root)]
fn peers_with_a_mac_address_alone() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        ground.bridged(node, port, "br0", host);
    }
    ground.assert_flows(("n1", 1), ("n2", 2));
    ground.assert_flows(("n2", 2), ("n3", 3));
    let peer = |node: &str| format!("{node}: {{ mac: \"{}\" }}", ground.mac(node, "eth0"));
    let daemon = ground.daemon(&["n1", "n2", "n3"].map(peer).join(", "));
    ground.assert_chosen(&daemon, &["p1", "p2", "p3"]);
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_mac_address_of_a_neighbour_on_a_veth() {
    let mut ground = Ground::new();
    ground.routed("n1", "v1", 1);
    ground.routed("n2", "v2", 2);
    ground.assert_flows(("n1", 1), ("n2", 2));
    let mac = ground.mac("n1", "eth0");
    let daemon = ground.daemon(&format!("n1: {{ mac: \"{mac}\" }}, {}", peer(&ground, "n2", 2)));
    ground.assert_chosen(&daemon, &["v1", "v2"]);
    let why = why(&daemon, "v1");
    assert!(why.contains("a neighbour on it has the peer's MAC address"), "{why}");
}

#[test]
#[needs(root)]
fn every_interface_behind_which_a_prefix_lives() {
    let mut ground = Ground::new();
    // 8/30 and its IPv6 are behind two veths, each with a route to a part of it; 1 is another peer.
    for (node, end, host) in [("n1", "v1", 1), ("a", "v8", 8), ("b", "v10", 10), ("n3", "v3", 3)] {
        ground.routed(node, end, host);
    }
    let v6 = format!("{}/125", ground.ipv6(8));
    let peers = format!(
        "{}, n2: {{ addresses: [{}/30, \"{v6}\"] }}, {}",
        peer(&ground, "n1", 1),
        ground.ipv4(8),
        peer(&ground, "n3", 3)
    );
    let daemon = ground.daemon(&peers);
    ground.assert_chosen(&daemon, &["v1", "v10", "v3", "v8"]);
    for (node, host) in [("a", 8), ("b", 10)] {
        ground.assert_flows((node, host), ("n1", 1));
        daemon.apply("p", &ground::links("n1", "n2"));
        let (near, far) = ((node, ground.ipv4(host)), ("n1", ground.ipv4(1)));
        assert_eq!(ground.delivered(near, far, 7, 0), 0, "{node}");
        assert_eq!(ground.delivered(far, near, 7, 0), 0, "{node}");
        assert_eq!(ground.delivered(near, ("n3", ground.ipv4(3)), 7, 7), 7, "{node}");
        let view = daemon.partition("p");
        assert_eq!((ground::dropped(&view, "n1", "n2"), ground::dropped(&view, "n2", "n1")), (7, 7));
        daemon.heal("p");
        ground.assert_flows((node, host), ("n1", 1));
    }
}

#[test]
#[needs(root)]
fn peers_in_named_namespaces() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        ground.plug(node, port);
        ground.ip("h", &format!("link set {port} master br0"));
        ground.give(node, "eth0", host);
    }
    // A second NIC with an address of the same peer.
    ground.cable("n1", "q1", "eth1");
    ground.ip("n1", &format!("address add {}/32 dev eth1", ground.ipv4(5)));
    ground.ip("n1", "route add 169.254.1.1 dev eth1 scope link");
    ground.ip("n1", &format!("route add {} via 169.254.1.1 dev eth1 onlink", ground.ipv4(14)));
    ground.ip("h", &format!("route add {}/32 dev q1", ground.ipv4(5)));
    let others = peers(&ground, &[("n2", 2), ("n3", 3)]);
    let n1 = format!("n1: {{ addresses: [{}, \"{}\", {}] }}", ground.ipv4(1), ground.ipv6(1), ground.ipv4(5));
    let daemon = ground.daemon(&format!("{n1}, {others}"));
    ground.assert_chosen(&daemon, &["n1/eth0", "n1/eth1", "n2/eth0", "n3/eth0"]);
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    // Over the other NIC.
    let (near, far) = (("n1", ground.ipv4(5)), ("h", ground.ipv4(14)));
    assert_eq!(ground.delivered(near, far, 4, 4), 4);
    daemon.apply("p", &ground::links("n1", "world"));
    assert_eq!(ground.delivered(near, far, 4, 0), 0);
    assert_eq!(ground::dropped(&daemon.partition("p"), "n1", "world"), 4);
    daemon.heal("p");
    assert_eq!(ground.delivered(near, far, 4, 4), 4);
}

#[test]
#[needs(root)]
fn a_routed_address_on_the_loopback_of_a_node() {
    let mut ground = Ground::new();
    ground.routed("n2", "v2", 2);
    ground.routed("n3", "v3", 3);
    ground.plug("n1", "v1");
    ground.ip("h", "address add fe80::1/64 dev v1 nodad");
    ground.ip("n1", &format!("address add {}/32 dev lo", ground.ipv4(1)));
    ground.ip("n1", &format!("address add {}/128 dev lo nodad", ground.ipv6(1)));
    ground.leave_by_gateway("n1");
    ground.ip("h", &format!("route add {}/32 dev v1", ground.ipv4(1)));
    // IPv6 resolves only what is on the link itself.
    ground.ip("n1", "address add fe80::2/64 dev eth0 nodad");
    ground.ip("h", &format!("route add {}/128 via fe80::2 dev v1", ground.ipv6(1)));
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["n1/eth0", "v2", "v3"]);
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn what_is_found_nowhere_or_twice() {
    let mut ground = Ground::new();
    ground.routed("n1", "v1", 1);
    // A default route leads everywhere, and so says nothing.
    ground.ip("h", "route add default dev v1");
    let said = ground.refusal(&peers(&ground, &[("n7", 7), ("n8", 8)]));
    assert!(
        said.contains("found none of the peers' addresses") && said.contains("name the interfaces"),
        "{said}"
    );

    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n7", 7)]));
    ground.assert_chosen(&daemon, &["v1"]);
    let said = daemon.log();
    assert!(
        said.contains(&format!("did not find peer n7 at {}: no interface has it", ground.ipv4(7)))
            && said.contains("name its interface in the config"),
        "{said}"
    );
    drop(daemon);

    for node in ["a", "b"] {
        ground.plug(node, &format!("v{node}"));
        ground.give(node, "eth0", 2);
    }
    let said = ground.refusal(&peers(&ground, &[("n1", 1), ("n2", 2)]));
    for node in ["a", "b"] {
        assert!(said.contains(&format!("eth0 in netns {}", ground.netns(node))), "{said}");
    }
    assert!(
        said.contains("of peer n2 is at") && said.contains("name the interfaces in the config"),
        "{said}"
    );

    // Within one namespace it is no riddle: a host with two ways to a neighbour is hooked on both.
    ground.routed("n3", "v3", 3);
    ground.routed("n4", "v4", 4);
    ground.assert_flows(("n3", 3), ("n4", 4));
    ground.add("x");
    ground.cable("x", "w4", "eth0");
    let (address, mac) = (ground.ipv4(4), ground.mac("x", "eth0"));
    ground.ip("h", &format!("neighbour add {address} lladdr {mac} dev w4"));
    let daemon = ground.daemon(&peers(&ground, &[("n3", 3), ("n4", 4)]));
    ground.assert_chosen(&daemon, &["v3", "v4", "w4"]);
}

/// Of guests nothing on the host shows that an interface leads to one alone: the config says it, under `auto` too.
#[test]
#[needs(root)]
fn guests_that_the_config_names_the_interfaces_of() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    let nodes = [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)];
    for (node, port, host) in nodes {
        ground.bridged(node, port, "br0", host);
        ground.assert_flows(("h", 14), (node, host));
    }
    let partial = PartitionRequest { verdict: VerdictOptions::default(), ..ground::links("n1", "n2") };
    let plain = nodes.map(|(node, _, host)| {
        format!("{node}: {{ addresses: [{}, \"{}\"] }}", ground.ipv4(host), ground.ipv6(host))
    });
    let daemon = ground.secluded_daemon(&plain.join(", "));
    ground.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    let problem = daemon.try_apply("p", &partial).expect_err("frames to groups would pass");
    let remedy = problem.remedy.clone().unwrap();
    assert!(
        remedy.contains("if p2 leads to n2 alone, say so in peers, as in: n2: { …, vm: { interface: p2 } }"),
        "{problem}"
    );
    drop(daemon);
    let worded = nodes.map(|(node, port, host)| {
        let (v4, v6) = (ground.ipv4(host), ground.ipv6(host));
        format!("{node}: {{ addresses: [{v4}, \"{v6}\"], vm: {{ interface: {port} }} }}")
    });
    let daemon = ground.secluded_daemon(&worded.join(", "));
    ground.assert_chosen(&daemon, &["p1", "p2", "p3"]);
    let view = daemon.apply("p", &partial);
    assert!(view.coverage.as_ref().unwrap().is_empty() && view.warnings.is_empty(), "{view:#?}");
    daemon.heal("p");
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n1", 1), ("n3", 3)));
    // A guest that starts again gets another interface of that name.
    ground.ip("h", "link delete p3");
    ground.wait_chosen(&daemon, &["p1", "p2"]);
    ground.plug("n4", "p3");
    ground.ip("h", "link set p3 master br0");
    ground.give("n4", "eth0", 3);
    ground.hide("n4");
    ground.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    // The others know it by another MAC address.
    ground.ip("n1", "neighbour flush dev eth0");
    ground.assert_flows(("n1", 1), ("n4", 3));
    daemon.apply("q", &PartitionRequest { verdict: VerdictOptions::default(), ..ground::links("n1", "n3") });
    assert_eq!(ground.delivered(("n4", ground.ipv4(3)), ("n1", ground.ipv4(1)), 5, 0), 0);
}
