//! `interfaces: auto` follows peers that come later, or move. Needs root.

injector_lab::group!(waits);

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector_core::api::PartitionRequest;
use injector_core::model::{Percent, Traffic};
use injector_lab::{needs, until};

/// Peers with both addresses of a host number.
fn peers(lab: &HostLab, peers: &[(&str, u8)]) -> String {
    let peer = |(name, host): &(&str, u8)| {
        format!("{name}: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(*host), lab.ipv6(*host))
    };
    peers.iter().map(peer).collect::<Vec<_>>().join(", ")
}

#[test]
#[needs(root)]
fn a_veth_that_is_plugged_later() {
    let mut lab = HostLab::new();
    lab.routed("n1", "v1", 1);
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["v1"]);
    lab.routed("n2", "v2", 2);
    lab.wait_chosen(&daemon, &["v1", "v2"]);
    lab.routed("n3", "v3", 3);
    lab.wait_chosen(&daemon, &["v1", "v2", "v3"]);
    // Between two that the daemon did not know when it started.
    lab.assert_cut(&daemon, ("n2", 2), ("n3", 3), (("n1", 1), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_neighbour_that_is_learned_later() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.bridged(node, port, "br0", host);
    }
    lab.assert_flows(("h", 14), ("n1", 1));
    let daemon = lab.daemon_without_names(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    wait_for_survey();
    for (node, host) in [("n2", 2), ("n3", 3)] {
        lab.assert_flows(("h", 14), (node, host));
    }
    lab.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    // Whose MAC address is behind a port is not known until the host has spoken with its peer.
    for (node, port) in [("n2", "p2"), ("n3", "p3")] {
        let known = format!("found for {node}: the peer's MAC address was learned behind this bridge port");
        let end = Instant::now() + host_lab::PATIENCE;
        let why = || {
            let attachments = daemon.status().attachments;
            attachments.into_iter().find(|found| found.interface == port).unwrap().why
        };
        while !why().contains(&known) {
            assert!(Instant::now() < end, "{}", why());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    lab.assert_cut(&daemon, ("n2", 2), ("n3", 3), (("n1", 1), ("n3", 3)));
}

#[test]
#[needs(root)]
fn a_route_that_leads_elsewhere_later() {
    let mut lab = HostLab::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2), ("n3", "v3", 3)] {
        lab.routed(node, end, host);
    }
    lab.plug("x", "w1");
    lab.hide("x");
    let daemon = lab.daemon_without_names(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["v1", "v2", "v3"]);
    wait_for_survey();
    // Nothing but this: no interface changes.
    lab.ip("h", &format!("route replace {}/32 dev w1", lab.ipv4(1)));
    lab.wait_chosen(&daemon, &["v1", "v2", "v3", "w1"]);
    lab.ip("h", &format!("route replace {}/32 dev v1", lab.ipv4(1)));
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}

/// Lets the survey pass that closes a start: what it finds need not have been reported.
fn wait_for_survey() {
    std::thread::sleep(Duration::from_secs(2));
}

#[test]
#[needs(root)]
fn a_named_namespace_that_comes_later() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    lab.bridged("n1", "p1", "br0", 1);
    lab.bridged("n3", "p3", "br0", 3);
    lab.assert_flows(("h", 14), ("n1", 1));
    lab.assert_flows(("h", 14), ("n3", 3));
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    lab.assert_chosen(&daemon, &["p1", "p3"]);
    lab.plug("n2", "p2");
    lab.give("n2", "eth0", 2);
    lab.ip("h", "link set p2 master br0");
    lab.wait_chosen(&daemon, &["p1", "p3", "n2/eth0"]);
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n1", 1), ("n3", 3)));
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
    // A busy machine may hold up one answer; a daemon that verifies instead of answering does it each time.
    let is_answered = (0..3).any(|_| {
        let (answers, longest, all) = answers_while_attaching();
        answers >= 3 && longest < all / 3
    });
    assert!(is_answered, "an answer took a third of the time or more, each time");
}

/// Routes lead to eight new interfaces: how many answers of the daemon came until it was attached to all of them, the longest of
/// them, and how long all that took.
fn answers_while_attaching() -> (usize, Duration, Duration) {
    let mut lab = HostLab::new();
    lab.routed("n1", "v1", 1);
    let names: Vec<String> = (1..=9).map(|host| format!("n{host}")).collect();
    let ends: Vec<String> = (1..=9).map(|host| format!("v{host}")).collect();
    for host in 2..=9 {
        lab.plug(&names[host - 1], &ends[host - 1]);
    }
    let all: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(1..).collect();
    let daemon = lab.daemon(&peers(&lab, &all));
    lab.assert_chosen(&daemon, &["v1"]);
    for host in 2..=9 {
        lab.ip("h", &format!("route add {}/32 dev {}", lab.ipv4(host), ends[usize::from(host) - 1]));
    }
    let (begun, are_attached) = (Instant::now(), AtomicBool::new(false));
    let is_over = || are_attached.load(Ordering::Relaxed) || begun.elapsed() > host_lab::PATIENCE;
    // For a status, namespaces are asked, which are busy attaching. For the partitions, none is.
    let process: &injector_lab::Daemon = &daemon;
    let ask = || {
        let (mut answers, mut longest) = (0, Duration::ZERO);
        while !is_over() {
            let asked = Instant::now();
            let (status, view) = process.raw("GET", "/v1/partitions", b"");
            assert_eq!(status, 200, "{view}");
            longest = longest.max(asked.elapsed());
            answers += 1;
        }
        (answers, longest)
    };
    let (answers, longest, all) = std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        while !is_over() && lab.chosen(&daemon).len() < ends.len() {}
        let all = begun.elapsed();
        are_attached.store(true, Ordering::Relaxed);
        let (answers, longest) = asking.join().unwrap();
        (answers, longest, all)
    });
    assert_eq!(lab.chosen(&daemon).len(), ends.len(), "{}", daemon.log());
    println!("{answers} answers within {all:?}, none took longer than {longest:?}");
    (answers, longest, all)
}

/// Loss is rolled once, at each place where the peer is or was while its slot is live.
fn moves(interfaces: &str, at_first: &[&str]) {
    const SENT: usize = 3000;
    let mut lab = HostLab::new();
    for (node, end, host) in [("n1", "v1", 1), ("n2", "v2", 2)] {
        lab.routed(node, end, host);
    }
    lab.plug("m1", "w1");
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), interfaces);
    lab.assert_chosen(&daemon, at_first);
    let lossy = PartitionRequest {
        traffic: Traffic { loss: Percent::new(30.0).unwrap(), ..Traffic::default() },
        ..host_lab::links("n1", "n2")
    };
    let delivered =
        |lab: &HostLab, node, hoped| lab.delivered((node, lab.ipv4(1)), ("n2", lab.ipv4(2)), SENT, hoped);
    // Six standard deviations of a binomial of 3000 are 151; rolled twice, 49% would come through.
    let is_once = |got: usize| (2100 - 151..=2100 + 151).contains(&got);
    daemon.apply("p", &lossy);
    let got = delivered(&lab, "n1", 2100 - 151);
    assert!(is_once(got), "{got} of {SENT}");

    // To another namespace behind another veth; the old one stays plugged.
    lab.ip("n1", &format!("address delete {}/32 dev eth0", lab.ipv4(1)));
    lab.ip("n1", &format!("address delete {}/128 dev eth0", lab.ipv6(1)));
    lab.route("m1", "w1", 1);
    // The host still has it as a neighbour at the old place, but the route leads to the new one.
    lab.wait_chosen(&daemon, &["v1", "v2", "w1"]);
    // What is live rolls at the new place too, once the survey is done. Where nothing is attached again, nothing says
    // when that is, and it may be while datagrams are sent.
    until("what is live rolls at the new place", || {
        let got = delivered(&lab, "m1", 2100 - 151);
        assert!(got >= 2100 - 151, "{got} of {SENT}");
        is_once(got).then_some(())
    });
    daemon.heal("p");
    daemon.apply("p", &lossy);
    let got = delivered(&lab, "m1", 2100 - 151);
    assert!(is_once(got), "{got} of {SENT}");
    daemon.heal("p");

    // A hard cut needs no binding: it holds at once where the peer is now.
    daemon.apply("q", &host_lab::links("n1", "n2"));
    assert_eq!(delivered(&lab, "m1", 0), 0);
    daemon.heal("q");
    assert_eq!(delivered(&lab, "m1", SENT), SENT);
}

#[test]
#[needs(root)]
fn a_peer_that_is_unplugged_and_plugged_elsewhere_is_cut_again() {
    let mut lab = HostLab::new();
    // The other end is nowhere: nothing but n1's own interface covers the link.
    for (node, end, host) in [("n1", "v1", 1), ("n3", "v3", 3)] {
        lab.routed(node, end, host);
    }
    lab.assert_flows(("n1", 1), ("n3", 3));
    let daemon = lab.daemon(&format!("n1: {{ addresses: [{}, \"{}\"] }}", lab.ipv4(1), lab.ipv6(1)));
    lab.assert_chosen(&daemon, &["v1"]);
    daemon.apply("p", &live::daemon::links(&[("world", "n1")], Duration::from_mins(9)));
    assert_eq!(lab.delivered(("n3", lab.ipv4(3)), ("n1", lab.ipv4(1)), 5, 0), 0);
    lab.ip("h", "link delete v1");
    lab.routed("m1", "w1", 1);
    lab.wait_chosen(&daemon, &["w1"]);
    assert_eq!(lab.delivered(("n3", lab.ipv4(3)), ("m1", lab.ipv4(1)), 5, 0), 0);
    daemon.heal("p");
    lab.assert_flows(("m1", 1), ("n3", 3));
    let record = daemon.record_now("p");
    let gaps = &record.links[0].uncovered;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].interface.contains("w1") && gaps[0].time.until_ns.is_some(), "{gaps:?}");
}

#[test]
#[needs(root)]
fn a_second_holder_of_an_address_changes_nothing() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.plug(node, port);
        lab.ip("h", &format!("link set {port} master br0"));
        lab.give(node, "eth0", host);
    }
    let daemon = lab.daemon(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]));
    // Of another lab, joined to nothing.
    lab.add("x");
    lab.ip("x", "link add eth0 type veth peer name other");
    lab.give("x", "eth0", 1);
    lab.add("y");
    let end = Instant::now() + host_lab::PATIENCE;
    while !daemon.log().contains("it is taken to be where it was") {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    lab.assert_chosen(&daemon, &["n1/eth0", "n2/eth0", "n3/eth0"]);
    lab.assert_cut(&daemon, ("n1", 1), ("n2", 2), (("n2", 2), ("n3", 3)));
}
