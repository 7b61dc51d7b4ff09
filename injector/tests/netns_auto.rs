//! `interfaces: auto` on real kernels: where the peers are found, and that a cut there is one. Needs root.

injector_lab::group!(kernels);

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::Duration;

use host_lab::HostLab;
use injector_core::api::{Code, PartitionRequest, VerdictOptions, WarningCode};
use injector_core::model::{Percent, Traffic};
use injector_lab::{Lab, needs, until};
use live::daemon::warnings;

/// A peer with both addresses of a host number.
fn peer(lab: &HostLab, name: &str, host: u8) -> String {
    format!("{name}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(host), lab.ipv6(host))
}

/// Some of these.
fn peers(lab: &HostLab, peers: &[(&str, u8)]) -> String {
    peers.iter().map(|(name, host)| peer(lab, name, *host)).collect::<Vec<_>>().join(", ")
}

/// What `status` says of why an interface was chosen.
fn why(daemon: &live::daemon::Daemon, interface: &str) -> String {
    let found = daemon.status().attachments.into_iter().find(|found| found.interface == interface);
    found.unwrap_or_else(|| panic!("{interface} is not attached to")).why
}

#[test]
#[needs(root)]
fn neighbours_of_a_routing_host() {
    let mut lab = HostLab::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2), ("n3", "v3", 3)] {
        lab.routed(node, end, host);
    }
    // Learned by real traffic; the third is silent until then, and known by its route alone.
    lab.assert_flows(("n1", 1), ("n2", 2));
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["v1", "v2", "v3"]);
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2)] {
        let why = why(&daemon, end);
        assert!(why.contains(&format!("found for {node}: {} is its neighbour", lab.ipv4(host))), "{why}");
    }
    let silent = why(&daemon, "v3");
    assert!(silent.contains(&format!("the route {}/32 leads to it", lab.ipv4(3))), "{silent}");
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    lab.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_neighbour_known_by_one_address_alone() {
    let mut lab = HostLab::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2), ("n3", "v3", 3)] {
        lab.routed(node, end, host);
        lab.ip("h", &format!("route delete {}/32 dev {end}", lab.ipv4(host)));
    }
    for (a, b, c, d) in [("n1", 1, "n2", 2), ("n2", 2, "n3", 3)] {
        assert_eq!(lab.delivered((a, lab.ipv6(b)), (c, lab.ipv6(d)), 3, 3), 3);
    }
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["v1", "v2", "v3"]);
    let missed = format!("did not find peer n1 at {}", lab.ipv4(1));
    until("the log says so", || {
        let said = daemon.log();
        (said.contains(&missed) && said.contains("behind the same interfaces")).then_some(())
    });
    let end = |node, host| (node, lab.ipv6(host));
    daemon.apply("p", &host_lab::links("n1", "n2"));
    assert_eq!(lab.delivered(end("n1", 1), end("n2", 2), 5, 0), 0);
    assert_eq!(lab.delivered(end("n2", 2), end("n3", 3), 5, 5), 5);
    assert_eq!(host_lab::dropped(&daemon.partition("p"), "n1", "n2"), 5);
    daemon.heal("p");
    assert_eq!(lab.delivered(end("n1", 1), end("n2", 2), 5, 5), 5);
}

#[test]
#[needs(root)]
fn ports_of_a_bridge_and_not_the_bridge() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.bridged(node, port, "br0", host);
    }
    // Known on the bridge by the host's own traffic.
    for (node, host) in [("n1", 1), ("n2", 2), ("n3", 3)] {
        lab.assert_flows(("h", 14), (node, host));
    }
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["p1", "p2", "p3"]);
    assert!(why(&daemon, "p1").contains("learned behind this bridge port"));
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    // The host is no peer: what it says to the nodes is not theirs.
    lab.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("h", 14), ("n1", 1)));
}

#[test]
#[needs(root)]
fn peers_beyond_a_gateway() {
    let mut lab = HostLab::new();
    lab.routed("n1", "v1", 1);
    lab.routed("n2", "v2", 2);
    beyond(&mut lab, "v4", "n3", 3);
    lab.ip("h", "address add fe80::1/64 dev v4 nodad");
    for (host, gateway, length) in [(lab.ipv4(3), lab.ipv4(9), 32), (lab.ipv6(3), lab.ipv6(9), 128)] {
        lab.ip("h", &format!("route add {host}/{length} via {gateway} dev v4 onlink"));
    }
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["v1", "v2", "v4"]);
    let why = why(&daemon, "v4");
    assert!(why.contains(&format!("the route {}/32 via {} leads to it", lab.ipv4(3), lab.ipv4(9))), "{why}");
    lab.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n1", 1), ("n2", 2)));
}

#[test]
#[needs(root)]
fn every_next_hop_of_a_route() {
    let mut lab = two_nics();
    lab.hide("n3");
    let n3 = format!("n3: {{ addresses: [{}] }}", lab.ipv4(3));
    let daemon = lab.daemon(&format!("{}, {n3}", peers(&lab, &[("n1", 1), ("n2", 2)])));
    lab.assert_chosen(&daemon, &["v1", "v2", "v3", "w3"]);
    let (near, far) = (("n1", lab.ipv4(1)), ("n3", lab.ipv4(3)));
    assert_eq!(lab.delivered(far, near, 5, 5), 5);
    daemon.apply("p", &host_lab::links("n1", "n3"));
    assert_eq!(lab.delivered(far, near, 5, 0), 0);
    lab.assert_flows(("n1", 1), ("n2", 2));
    assert_eq!(host_lab::dropped(&daemon.partition("p"), "n3", "n1"), 5);
    daemon.heal("p");
    assert_eq!(lab.delivered(far, near, 5, 5), 5);
}

#[test]
#[needs(root)]
fn loss_is_rolled_on_every_way_of_a_peer() {
    const SENT: usize = 3000;
    let mut lab = two_nics();
    lab.ip("n3", &format!("route add {} via {} dev eth1 onlink", lab.ipv4(2), host_lab::GATEWAY));
    lab.hide("n3");
    let n3 = format!("n3: {{ addresses: [{}] }}", lab.ipv4(3));
    let daemon = lab.daemon(&format!("{}, {n3}", peers(&lab, &[("n1", 1), ("n2", 2)])));
    lab.assert_chosen(&daemon, &["v1", "v2", "v3", "w3"]);
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
        let got = lab.delivered(("n3", lab.ipv4(3)), (node, lab.ipv4(host)), SENT, 2100 - 151);
        assert!((2100 - 151..=2100 + 151).contains(&got), "{got} of {SENT} to {node}");
    }
    // Of hidden nodes it is not known what other devices they have; that is all there is to warn of.
    let record = daemon.record_now("p");
    let told = warnings(&record.warnings);
    assert!(matches!(&told[..], [only] if only.code == WarningCode::CoverageUnknown), "{told:?}");
}

/// Two nodes on veths of their own, and a third on two veths, to which its one address is routed.
fn two_nics() -> HostLab {
    let mut lab = HostLab::new();
    lab.routed("n1", "v1", 1);
    lab.routed("n2", "v2", 2);
    lab.plug("n3", "v3");
    lab.cable("n3", "w3", "eth1");
    for nic in ["eth0", "eth1"] {
        lab.ip("n3", &format!("address add {}/32 dev {nic}", lab.ipv4(3)));
    }
    lab.leave_by_gateway("n3");
    lab.ip("h", &format!("route add {}/32 nexthop dev v3 nexthop dev w3", lab.ipv4(3)));
    lab
}

#[test]
#[needs(root)]
fn a_gateway_behind_a_bridge_is_behind_its_port() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    lab.bridged("n1", "p1", "br0", 1);
    lab.bridged("n2", "p2", "br0", 2);
    for node in ["n1", "n2"] {
        for (host, gateway) in [(lab.ipv4(3), lab.ipv4(14)), (lab.ipv6(3), lab.ipv6(14))] {
            lab.ip(node, &format!("route add {host} via {gateway}"));
        }
    }
    beyond(&mut lab, "p4", "n3", 3);
    lab.ip("h", "link set p4 master br0");
    lab.ip("h", "address add fe80::1/64 dev br0 nodad");
    lab.ip("h", &format!("route add {}/32 via {} dev br0 onlink", lab.ipv4(3), lab.ipv4(9)));
    lab.ip("h", &format!("route add {}/128 via {} dev br0 onlink", lab.ipv6(3), lab.ipv6(9)));
    lab.assert_flows(("n1", 1), ("n3", 3));
    lab.assert_flows(("n1", 1), ("n2", 2));
    lab.assert_flows(("h", 14), ("n2", 2));
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["p1", "p2", "p4"]);
    assert!(why(&daemon, "p4").contains("this bridge port to the gateway"));
    lab.assert_cut(&daemon, ("n1", 1), ("n3", 3), (("n1", 1), ("n2", 2)));
}

/// A hidden node beyond a hidden router (host number 9) on a veth of the host's.
fn beyond(lab: &mut HostLab, host_end: &str, of: &str, host: u8) {
    let router = "r";
    lab.plug(router, host_end);
    for of in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        lab.sysctl(router, of, "1");
    }
    lab.ip(router, &format!("address add {}/32 dev eth0", lab.ipv4(9)));
    lab.ip(router, &format!("address add {}/128 dev eth0 nodad", lab.ipv6(9)));
    lab.leave_by_gateway(router);
    lab.add(of);
    let name = lab.netns(of);
    lab.ip(router, &format!("link add far type veth peer name eth0 netns {name}"));
    lab.ip(router, "link set far up");
    lab.ip(router, "address add fe80::1/64 dev far nodad");
    lab.ip(router, &format!("route add {}/32 dev far", lab.ipv4(host)));
    lab.ip(router, &format!("route add {}/128 dev far", lab.ipv6(host)));
    lab.ip(of, "link set eth0 up");
    lab.ip(of, &format!("address add {}/32 dev eth0", lab.ipv4(host)));
    lab.ip(of, &format!("address add {}/128 dev eth0 nodad", lab.ipv6(host)));
    lab.ip(of, &format!("route add default via {} dev eth0 onlink", lab.ipv4(9)));
    lab.ip(of, "route add default via fe80::1 dev eth0");
    lab.hide(of);
    lab.hide(router);
}

#[test]
#[needs(root)]
fn peers_with_a_mac_address_alone() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.bridged(node, port, "br0", host);
    }
    lab.assert_flows(("n1", 1), ("n2", 2));
    lab.assert_flows(("n2", 2), ("n3", 3));
    let peer = |node: &str| format!("{node}: {{ mac: \"{}\" }}", lab.mac(node, "eth0"));
    let daemon = lab.daemon(&["n1", "n2", "n3"].map(peer).join(", "));
    lab.assert_chosen(&daemon, &["p1", "p2", "p3"]);
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_mac_address_of_a_neighbour_on_a_veth() {
    let mut lab = HostLab::new();
    lab.routed("n1", "v1", 1);
    lab.routed("n2", "v2", 2);
    lab.assert_flows(("n1", 1), ("n2", 2));
    let mac = lab.mac("n1", "eth0");
    let daemon = lab.daemon(&format!("n1: {{ mac: \"{mac}\" }}, {}", peer(&lab, "n2", 2)));
    lab.assert_chosen(&daemon, &["v1", "v2"]);
    let why = why(&daemon, "v1");
    assert!(why.contains("a neighbour on it has the peer's MAC address"), "{why}");
}

#[test]
#[needs(root)]
fn every_interface_behind_which_a_prefix_lives() {
    let mut lab = HostLab::new();
    // 8/30 and its IPv6 are behind two veths, each with a route to a part of it; 1 is another peer.
    for (node, end, host) in [("n1", "v1", 1), ("a", "v8", 8), ("b", "v10", 10), ("n3", "v3", 3)] {
        lab.routed(node, end, host);
    }
    let v6 = format!("{}/125", lab.ipv6(8));
    let peers = format!(
        "{}, n2: {{ addresses: [{}/30, \"{v6}\"] }}, {}",
        peer(&lab, "n1", 1),
        lab.ipv4(8),
        peer(&lab, "n3", 3)
    );
    let daemon = lab.daemon(&peers);
    lab.assert_chosen(&daemon, &["v1", "v10", "v3", "v8"]);
    for (node, host) in [("a", 8), ("b", 10)] {
        lab.assert_flows((node, host), ("n1", 1));
        daemon.apply("p", &host_lab::links("n1", "n2"));
        let (near, far) = ((node, lab.ipv4(host)), ("n1", lab.ipv4(1)));
        assert_eq!(lab.delivered(near, far, 7, 0), 0, "{node}");
        assert_eq!(lab.delivered(far, near, 7, 0), 0, "{node}");
        assert_eq!(lab.delivered(near, ("n3", lab.ipv4(3)), 7, 7), 7, "{node}");
        let view = daemon.partition("p");
        assert_eq!((host_lab::dropped(&view, "n1", "n2"), host_lab::dropped(&view, "n2", "n1")), (7, 7));
        daemon.heal("p");
        lab.assert_flows((node, host), ("n1", 1));
    }
}

#[test]
#[needs(root)]
fn peers_in_named_namespaces() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.plug(node, port);
        lab.ip("h", &format!("link set {port} master br0"));
        lab.give(node, "eth0", host);
    }
    // A second NIC with an address of the same peer.
    lab.cable("n1", "q1", "eth1");
    lab.ip("n1", &format!("address add {}/32 dev eth1", lab.ipv4(5)));
    lab.ip("n1", "route add 169.254.1.1 dev eth1 scope link");
    lab.ip("n1", &format!("route add {} via 169.254.1.1 dev eth1 onlink", lab.ipv4(14)));
    lab.ip("h", &format!("route add {}/32 dev q1", lab.ipv4(5)));
    let others = peers(&lab, &[("n2", 2), ("n3", 3)]);
    let n1 = format!("n1: {{ addresses: [{}, \"{}\", {}] }}", lab.ipv4(1), lab.ipv6(1), lab.ipv4(5));
    let daemon = lab.daemon(&format!("{n1}, {others}"));
    lab.assert_chosen(&daemon, &["n1/eth0", "n1/eth1", "n2/eth0", "n3/eth0"]);
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
    // Over the other NIC.
    let (near, far) = (("n1", lab.ipv4(5)), ("h", lab.ipv4(14)));
    assert_eq!(lab.delivered(near, far, 4, 4), 4);
    daemon.apply("p", &host_lab::links("n1", "world"));
    assert_eq!(lab.delivered(near, far, 4, 0), 0);
    assert_eq!(host_lab::dropped(&daemon.partition("p"), "n1", "world"), 4);
    daemon.heal("p");
    assert_eq!(lab.delivered(near, far, 4, 4), 4);
}

#[test]
#[needs(root)]
fn a_routed_address_on_the_loopback_of_a_node() {
    let mut lab = HostLab::new();
    lab.routed("n2", "v2", 2);
    lab.routed("n3", "v3", 3);
    lab.plug("n1", "v1");
    lab.ip("h", "address add fe80::1/64 dev v1 nodad");
    lab.ip("n1", &format!("address add {}/32 dev lo", lab.ipv4(1)));
    lab.ip("n1", &format!("address add {}/128 dev lo nodad", lab.ipv6(1)));
    lab.leave_by_gateway("n1");
    lab.ip("h", &format!("route add {}/32 dev v1", lab.ipv4(1)));
    // IPv6 resolves only what is on the link itself.
    lab.ip("n1", "address add fe80::2/64 dev eth0 nodad");
    lab.ip("h", &format!("route add {}/128 via fe80::2 dev v1", lab.ipv6(1)));
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["n1/eth0", "v2", "v3"]);
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

#[test]
#[needs(root)]
fn what_is_found_nowhere_or_twice() {
    let mut lab = HostLab::new();
    lab.routed("n1", "v1", 1);
    // A default route leads everywhere, and so says nothing.
    lab.ip("h", "route add default dev v1");
    let said = lab.refusal(&peers(&lab, &[("n7", 7), ("n8", 8)]));
    assert!(
        said.contains("found none of the peers' addresses")
            && said.contains("one that runs and is silent is not found")
            && said.contains("name the interfaces"),
        "{said}"
    );

    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n7", 7)]));
    lab.assert_chosen(&daemon, &["v1"]);
    let missed = format!("did not find peer n7 at {}: no interface has it", lab.ipv4(7));
    until("the log says so", || {
        let said = daemon.log();
        (said.contains(&missed) && said.contains("name its interface in the config")).then_some(())
    });
    drop(daemon);

    for node in ["a", "b"] {
        lab.plug(node, &format!("v{node}"));
        lab.give(node, "eth0", 2);
    }
    let said = lab.refusal(&peers(&lab, &[("n1", 1), ("n2", 2)]));
    for node in ["a", "b"] {
        assert!(said.contains(&format!("eth0 in netns {}", lab.netns(node))), "{said}");
    }
    assert!(
        said.contains("of peer n2 is at") && said.contains("name the interfaces in the config"),
        "{said}"
    );

    // Within one namespace it is no riddle: a host with two ways to a neighbour is hooked on both.
    lab.routed("n3", "v3", 3);
    lab.routed("n4", "v4", 4);
    lab.assert_flows(("n3", 3), ("n4", 4));
    lab.add("x");
    lab.cable("x", "w4", "eth0");
    let (address, mac) = (lab.ipv4(4), lab.mac("x", "eth0"));
    lab.ip("h", &format!("neighbour add {address} lladdr {mac} dev w4"));
    let daemon = lab.daemon(&peers(&lab, &[("n3", 3), ("n4", 4)]));
    lab.assert_chosen(&daemon, &["v3", "v4", "w4"]);
}

/// Of guests nothing on the host shows that an interface leads to one alone: the config says it, under `auto` too.
#[test]
#[needs(root)]
fn guests_that_the_config_names_the_interfaces_of() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    let nodes = [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)];
    for (node, port, host) in nodes {
        lab.bridged(node, port, "br0", host);
        lab.assert_flows(("h", 14), (node, host));
    }
    let partial = PartitionRequest { verdict: VerdictOptions::default(), ..host_lab::links("n1", "n2") };
    let plain = nodes.map(|(node, _, host)| {
        format!("{node}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(host), lab.ipv6(host))
    });
    let daemon = lab.daemon_without_names(&plain.join(", "));
    lab.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    let problem = daemon.try_apply("p", &partial).expect_err("frames to groups would pass");
    let remedy = problem.remedy.clone().unwrap();
    assert!(
        remedy.contains("if p2 leads to n2 alone, say so in peers, as in: n2: { …, vm: { interface: p2 } }"),
        "{problem}"
    );
    drop(daemon);
    let worded = nodes.map(|(node, port, host)| {
        let (v4, v6) = (lab.ipv4(host), lab.ipv6(host));
        // The daemon's own namespace may be named, too.
        let interface = match node {
            "n2" => format!("{{ name: {port}, netns: /proc/self/ns/net }}"),
            _ => port.to_owned(),
        };
        format!("{node}: {{ addresses: [{v4}, \"{v6}\"], vm: {{ interface: {interface} }} }}")
    });
    let daemon = lab.daemon_without_names(&worded.join(", "));
    lab.assert_chosen(&daemon, &["p1", "p2", "p3"]);
    let view = daemon.apply("p", &partial);
    assert!(view.coverage.as_ref().unwrap().is_empty() && warnings(&view.warnings).is_empty(), "{view:#?}");
    daemon.heal("p");
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n1", 1), ("n3", 3)));
    // A guest that starts again gets another interface of that name.
    lab.ip("h", "link delete p3");
    lab.wait_chosen(&daemon, &["p1", "p2"]);
    lab.plug("n4", "p3");
    lab.ip("h", "link set p3 master br0");
    lab.give("n4", "eth0", 3);
    lab.hide("n4");
    lab.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    // The others know it by another MAC address.
    lab.ip("n1", "neighbour flush dev eth0");
    lab.assert_flows(("n1", 1), ("n4", 3));
    let cut = PartitionRequest { verdict: VerdictOptions::default(), ..host_lab::links("n1", "n3") };
    // A survey that comes later finds that the new interface is covered.
    until("the link to the new guest is covered", || match daemon.try_apply("q", &cut) {
        Ok(_) => Some(()),
        Err(refused) => {
            assert_eq!(refused.code, Code::NotCovered, "{refused:?}");
            None
        }
    });
    assert_eq!(lab.delivered(("n4", lab.ipv4(3)), ("n1", lab.ipv4(1)), 5, 0), 0);
}

/// One more name for a namespace, as `ip netns attach` gives it; it is gone with the lab's view of mounts.
fn name_again(lab: &HostLab, of: &str, prefix: &str) -> String {
    let name = format!("{prefix}-{}", lab.netns(of));
    let path = format!("/run/netns/{name}");
    std::fs::write(&path, "").unwrap();
    lab.run(of, "mount", &["--bind", "/proc/self/ns/net", &path]);
    name
}

/// The bridge of the guests is in a namespace that has two names. Which of them discovery goes by, the config can't know.
#[test]
#[needs(root)]
fn a_guests_interface_in_a_namespace_with_two_names() {
    let mut lab = HostLab::new();
    lab.add("s");
    Lab::bridge(&lab, "s", "br0");
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.add(node);
        Lab::cable(&lab, ("s", port), (node, "eth0"));
        lab.ip("s", &format!("link set {port} master br0"));
        lab.give(node, "eth0", host);
        lab.hide(node);
    }
    // Both sort differently: one of them is not the first.
    let names = [name_again(&lab, "s", "a"), name_again(&lab, "s", "z")];
    for names in [[lab.netns("s"), names[0].clone()], names] {
        let at = |number: usize| {
            let (v4, v6) = (lab.ipv4(number as u8), lab.ipv6(number as u8));
            let netns = &names[number % 2];
            format!(
                "n{number}: {{ addresses: [{v4}, \"{v6}\"], vm: {{ interface: {{ name: p{number}, netns: {netns} }} }} }}"
            )
        };
        let daemon = lab.daemon(&[at(1), at(2), at(3)].join(", "));
        let chosen: Vec<String> =
            lab.chosen(&daemon).iter().map(|place| place.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(chosen, ["p1", "p2", "p3"], "{:#?}", daemon.status().attachments);
        for found in daemon.status().attachments {
            assert!(found.why.contains("the config says that its VM is behind it"), "{found:#?}");
        }
        // Frames to groups are covered too: each peer is known to be alone behind its port.
        let cut = PartitionRequest { verdict: VerdictOptions::default(), ..host_lab::links("n1", "n2") };
        let view = daemon.apply("p", &cut);
        let told = warnings(&view.warnings);
        assert!(view.coverage.as_ref().unwrap().is_empty() && told.is_empty(), "{view:#?}");
        assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 5, 0), 0);
        lab.assert_flows(("n1", 1), ("n3", 3));
        daemon.heal("p");
        lab.assert_flows(("n1", 1), ("n2", 2));
    }
}

/// A peer whose address is wrong in the config is found nowhere. What its NIC has instead is named, and that NIC is not taken for
/// the other end of the peer's link.
#[test]
#[needs(root)]
fn a_peer_whose_address_is_wrong_and_its_own_nic() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let (n3, right) = (lab.netns("n3"), lab.ipv4(3));
    let others = peers(&lab, &[("n1", 1), ("n2", 2)]);
    let wrong = |more: &str| format!("{others}, n3: {{ addresses: [{}]{more} }}", lab.ipv4(7));
    let interfaces = ["n1", "n2", "n3"].map(|node| format!("{{ name: eth0, netns: {} }}", lab.netns(node)));
    let daemon = lab.daemon_on(&wrong(""), &format!("[{}]", interfaces.join(", ")));
    let partial = PartitionRequest { verdict: VerdictOptions::default(), ..host_lab::links("n3", "n1") };
    let problem = daemon.try_apply("p", &partial).expect_err("n3 is nowhere");
    let remedy = problem.remedy.clone().unwrap();
    let entry = format!("n3: {{ addresses: [{right}] }}");
    assert!(remedy.contains(&entry) && !remedy.contains("say so in"), "{problem}");
    drop(daemon);
    let said = lab.refusal(&wrong(&format!(", vm: {{ interface: {{ name: eth0, netns: {n3} }} }}")));
    assert!(said.contains(&format!("eth0 in netns {n3}")) && said.contains("own NIC"), "{said}");
    assert!(said.contains(&format!("list {right} among the addresses of n3")), "{said}");
}
