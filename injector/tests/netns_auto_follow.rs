//! `interfaces: auto` follows peers that come later, or move. Needs root.

#[path = "support/ground.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod ground;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::{Duration, Instant};

use ground::Ground;
use injector_core::api::PartitionRequest;
use injector_core::model::{Percent, Traffic};
use injector_lab::needs;

/// Peers with both addresses of a host number.
fn peers(ground: &Ground, peers: &[(&str, u8)]) -> String {
    let peer = |(name, host): &(&str, u8)| {
        format!("{name}: {{ addresses: [{}, \"{}\"] }}", ground.ipv4(*host), ground.ipv6(*host))
    };
    peers.iter().map(peer).collect::<Vec<_>>().join(", ")
}

#[test]
#[needs(root)]
fn a_veth_that_is_plugged_later() {
    let mut ground = Ground::new();
    ground.routed("n1", "v1", 1);
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["v1"]);
    ground.routed("n2", "v2", 2);
    ground.wait_chosen(&daemon, &["v1", "v2"]);
    ground.routed("n3", "v3", 3);
    ground.wait_chosen(&daemon, &["v1", "v2", "v3"]);
    // Between two that the daemon did not know when it started.
    ground.assert_cut(&daemon, ("n2", 2), ("n3", 3), (("n1", 1), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_neighbour_that_is_learned_later() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        ground.bridged(node, port, "br0", host);
    }
    ground.assert_flows(("h", 14), ("n1", 1));
    let daemon = ground.secluded_daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    settle();
    for (node, host) in [("n2", 2), ("n3", 3)] {
        ground.assert_flows(("h", 14), (node, host));
    }
    ground.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    // Whose MAC address is behind a port is not known until the host has spoken with its peer.
    for (node, port) in [("n2", "p2"), ("n3", "p3")] {
        let known = format!("found for {node}: the peer's MAC address was learned behind this bridge port");
        let end = Instant::now() + ground::PATIENCE;
        let why = || {
            let attachments = daemon.status().attachments;
            attachments.into_iter().find(|found| found.interface == port).unwrap().why
        };
        while !why().contains(&known) {
            assert!(Instant::now() < end, "{}", why());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    ground.assert_cut(&daemon, ("n2", 2), ("n3", 3), (("n1", 1), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_route_that_leads_elsewhere_later() {
    let mut ground = Ground::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2), ("n3", "v3", 3)] {
        ground.routed(node, end, host);
    }
    ground.plug("x", "w1");
    ground.hide("x");
    let daemon = ground.secluded_daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["v1", "v2", "v3"]);
    settle();
    // Nothing but this: no interface changes.
    ground.ip("h", &format!("route replace {}/32 dev w1", ground.ipv4(1)));
    ground.wait_chosen(&daemon, &["v1", "v2", "v3", "w1"]);
    ground.ip("h", &format!("route replace {}/32 dev v1", ground.ipv4(1)));
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

/// Lets the survey pass that closes a start: what it finds need not have been told.
fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}

#[test]
#[needs(root)]
fn a_named_namespace_that_comes_later() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    ground.bridged("n1", "p1", "br0", 1);
    ground.bridged("n3", "p3", "br0", 3);
    ground.assert_flows(("h", 14), ("n1", 1));
    ground.assert_flows(("h", 14), ("n3", 3));
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    ground.assert_chosen(&daemon, &["p1", "p3"]);
    ground.plug("n2", "p2");
    ground.give("n2", "eth0", 2);
    ground.ip("h", "link set p2 master br0");
    ground.wait_chosen(&daemon, &["p1", "p3", "n2/eth0"]);
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n1", 1), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_peer_that_moves_takes_its_loss_along() {
    moves("auto", &["v1", "v2"]);
}

#[test]
#[needs(root)]
fn a_peer_that_moves_between_interfaces_of_the_config() {
    moves("[{ name: v1 }, { name: v2 }, { name: w1 }]", &["v1", "v2", "w1"]);
}

#[test]
#[needs(root)]
fn commands_are_answered_while_programs_are_verified_for_new_interfaces() {
    let mut ground = Ground::new();
    ground.routed("n1", "v1", 1);
    let names: Vec<String> = (1..=9).map(|host| format!("n{host}")).collect();
    let ends: Vec<String> = (1..=9).map(|host| format!("v{host}")).collect();
    for host in 2..=9 {
        ground.plug(&names[host - 1], &ends[host - 1]);
    }
    let all: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(1..).collect();
    let daemon = ground.daemon(&peers(&ground, &all));
    ground.assert_chosen(&daemon, &["v1"]);
    for host in 2..=9 {
        ground.ip("h", &format!("route add {}/32 dev {}", ground.ipv4(host), ends[usize::from(host) - 1]));
    }
    let (begun, mut answers, mut longest) = (Instant::now(), 0, Duration::ZERO);
    loop {
        let asked = Instant::now();
        let found = ground.chosen(&daemon).len();
        longest = longest.max(asked.elapsed());
        answers += 1;
        if found == ends.len() {
            break;
        }
        assert!(begun.elapsed() < ground::PATIENCE, "{}", daemon.log());
    }
    let all = begun.elapsed();
    println!("{answers} answers within {all:?}, none took longer than {longest:?}");
    assert!(longest < all / 3, "one of {answers} answers took {longest:?} of {all:?}");
}

/// Loss is rolled once, at each place where the peer is or was while its slot is live.
fn moves(interfaces: &str, at_first: &[&str]) {
    const SENT: usize = 3000;
    let mut ground = Ground::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2)] {
        ground.routed(node, end, host);
    }
    ground.plug("m1", "w1");
    let daemon = ground.daemon_on(&peers(&ground, &[("n1", 1), ("n2", 2)]), interfaces);
    ground.assert_chosen(&daemon, at_first);
    let lossy = PartitionRequest {
        traffic: Traffic { loss: Percent::new(30.0).unwrap(), ..Traffic::default() },
        ..ground::links("n1", "n2")
    };
    let delivered = |ground: &Ground, node, hoped| {
        ground.delivered((node, ground.ipv4(1)), ("n2", ground.ipv4(2)), SENT, hoped)
    };
    // Six standard deviations of a binomial of 3000 are 151; rolled twice, 49% would come through.
    let is_once = |got: usize| (2100 - 151..=2100 + 151).contains(&got);
    daemon.apply("p", &lossy);
    let got = delivered(&ground, "n1", 2100 - 151);
    assert!(is_once(got), "{got} of {SENT}");

    // To another namespace behind another veth; the old one stays plugged.
    ground.ip("n1", &format!("address delete {}/32 dev eth0", ground.ipv4(1)));
    ground.ip("n1", &format!("address delete {}/128 dev eth0", ground.ipv6(1)));
    ground.route("m1", "w1", 1);
    // The host still has it as a neighbour at the old place, but the route leads to the new one.
    ground.wait_chosen(&daemon, &["v1", "v2", "w1"]);
    // Where nothing is attached anew, nothing tells when the survey is done.
    settle();
    // What is live rolls at the new place too.
    let got = delivered(&ground, "m1", 2100 - 151);
    assert!(is_once(got), "{got} of {SENT}");
    daemon.heal("p");
    daemon.apply("p", &lossy);
    let got = delivered(&ground, "m1", 2100 - 151);
    assert!(is_once(got), "{got} of {SENT}");
    daemon.heal("p");

    // A hard cut needs no binding: it holds at once where the peer is now.
    daemon.apply("q", &ground::links("n1", "n2"));
    assert_eq!(delivered(&ground, "m1", 0), 0);
    daemon.heal("q");
    assert_eq!(delivered(&ground, "m1", SENT), SENT);
}

#[test]
#[needs(root)]
fn a_peer_that_is_unplugged_and_plugged_elsewhere_is_cut_again() {
    let mut ground = Ground::new();
    // The other end is nowhere: nothing but n1's own interface covers the link.
    for (node, end, host) in [("n1", "v1", 1), ("n3", "v3", 3)] {
        ground.routed(node, end, host);
    }
    ground.assert_flows(("n1", 1), ("n3", 3));
    let daemon = ground.daemon(&format!("n1: {{ addresses: [{}, \"{}\"] }}", ground.ipv4(1), ground.ipv6(1)));
    ground.assert_chosen(&daemon, &["v1"]);
    daemon.apply("p", &live::daemon::links(&[("world", "n1")], Duration::from_mins(9)));
    assert_eq!(ground.delivered(("n3", ground.ipv4(3)), ("n1", ground.ipv4(1)), 5, 0), 0);
    ground.ip("h", "link delete v1");
    ground.routed("m1", "w1", 1);
    ground.wait_chosen(&daemon, &["w1"]);
    assert_eq!(ground.delivered(("n3", ground.ipv4(3)), ("m1", ground.ipv4(1)), 5, 0), 0);
    daemon.heal("p");
    ground.assert_flows(("m1", 1), ("n3", 3));
    let record = daemon.record_now("p");
    let gaps = &record.links[0].uncovered;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].interface.contains("w1") && gaps[0].time.until_ns.is_some(), "{gaps:?}");
}

#[test]
#[needs(root)]
fn a_second_holder_of_an_address_changes_nothing() {
    let mut ground = Ground::new();
    ground.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        ground.plug(node, port);
        ground.ip("h", &format!("link set {port} master br0"));
        ground.give(node, "eth0", host);
    }
    let daemon = ground.daemon(&peers(&ground, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    // Of another lab, joined to nothing.
    ground.add("x");
    ground.ip("x", "link add eth0 type veth peer name other");
    ground.give("x", "eth0", 1);
    ground.add("y");
    let end = Instant::now() + ground::PATIENCE;
    while !daemon.log().contains("it is taken to be where it was") {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    ground.assert_chosen(&daemon, &["n1/eth0", "n2/eth0", "n3/eth0"]);
    ground.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}
