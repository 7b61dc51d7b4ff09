//! Someone who only looks like a peer that is cut off: whom it routes for, who has its MAC address, and who has one of its
//! addresses. None of their frames is dropped, and what can't be distinguished leaves the link not in force.

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector_core::api::{InForce, LinkRecord};
use injector_lab::{End, needs};
use live::daemon::{Daemon, isolate};

const LONG: Duration = Duration::from_mins(9);
const SENT: usize = 10;
/// A link-local address of n1.
const LOCAL: &str = "fe80::77:1";

/// n1 to n3 and `w`, who is no peer, on ports of the host's bridge.
fn bridged() -> HostLab {
    HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3), ("w", "h4", 4)])
}

/// A daemon for n1 to n3, with something more of n1.
fn daemon(lab: &HostLab, of_n1: &str) -> Daemon {
    let peer = |host: u8| {
        let more = if host == 1 { of_n1 } else { "" };
        format!("n{host}: {{ addresses: [{}, \"{}\"]{more} }}", lab.ipv4(host), lab.ipv6(host))
    };
    lab.daemon(&[1, 2, 3].map(peer).join(", "))
}

/// Waits until the daemon takes n1 for a next hop, or for none.
fn wait_for_forwards(daemon: &Daemon, what: &str, is_wanted: bool) {
    let end = Instant::now() + host_lab::PATIENCE;
    loop {
        let peers = daemon.status().peers;
        let n1 = peers.iter().find_map(|(name, peer)| (name.0 == "n1").then_some(peer)).unwrap();
        if n1.forwards == is_wanted {
            return;
        }
        assert!(Instant::now() < end, "{what}, {is_wanted}: {n1:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `w` reaches n2 through n1, and `x`, who is no peer either, is seen. Nothing shows that but the route of a third one over the same next hop.
struct Routed {
    lab: HostLab,
    moving: IpAddr,
}

impl Routed {
    fn new() -> Self {
        let mut lab = bridged();
        let moving = lab.ipv4(9);
        for (parameter, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/eth0/send_redirects", "0"),
        ] {
            lab.sysctl("n1", parameter, value);
        }
        for node in ["w", "n2", "n3"] {
            for parameter in ["ipv4/conf/all/accept_redirects", "ipv6/conf/eth0/accept_redirects"] {
                lab.sysctl(node, parameter, "0");
            }
        }
        lab.ip("n1", &format!("address add {moving}/32 dev eth0"));
        lab.ip("n1", &format!("address add {LOCAL}/64 dev eth0 nodad"));
        lab.ip("w", &format!("route add {}/32 via {}", lab.ipv4(2), lab.ipv4(1)));
        lab.ip("w", &format!("-6 route add {}/128 via {LOCAL} dev eth0", lab.ipv6(2)));
        lab.hide("w");
        lab.plug("x", "h5");
        lab.ip("h", "link set h5 master br0");
        lab.give("x", "eth0", 5);
        Self { lab, moving }
    }

    fn assert_untouched(&self, (from, to): (IpAddr, IpAddr)) {
        let reached = self.lab.delivered(("w", from), ("n2", to), SENT, SENT);
        assert_eq!(reached, SENT, "{from} → {to} through n1");
    }

    /// n1 is cut off, and passes on what it always did.
    fn assert_cut(&self, daemon: &Daemon) {
        let lab = &self.lab;
        let ends = [(lab.ipv4(4), lab.ipv4(2)), (lab.ipv6(4), lab.ipv6(2))];
        let own = [(lab.ipv4(1), lab.ipv4(2)), (lab.ipv6(1), lab.ipv6(2))];
        for ends in ends {
            self.assert_untouched(ends);
        }
        daemon.apply("p", &isolate("n1", LONG));
        for ends in ends {
            self.assert_untouched(ends);
        }
        for (from, to) in own {
            assert_eq!(lab.delivered(("n1", from), ("n2", to), SENT, 0), 0, "{from} → {to} passes the cut");
        }
        daemon.heal("p");
    }
}

#[test]
#[needs(root)]
fn clients_of_a_peer_that_is_a_next_hop_by_an_address_that_moves_are_untouched() {
    let routed = Routed::new();
    routed.lab.ip("n3", &format!("route add default via {} dev eth0 onlink", routed.moving));
    let daemon = daemon(&routed.lab, &format!(", vip: [{}]", routed.moving));
    wait_for_forwards(&daemon, "the route was there at the start", true);
    routed.assert_cut(&daemon);
}

#[test]
#[needs(root)]
fn clients_of_a_peer_that_is_a_next_hop_by_a_link_local_address_are_untouched() {
    let routed = Routed::new();
    routed.lab.ip("n3", &format!("-6 route add default via {LOCAL} dev eth0"));
    let daemon = daemon(&routed.lab, "");
    wait_for_forwards(&daemon, "the route was there at the start", true);
    routed.assert_cut(&daemon);
}

/// The clients of a router with one NIC pass, and the record says what the daemon could not know.
#[test]
#[needs(root)]
fn clients_of_a_peer_with_one_nic_that_no_route_shows_to_forward_are_untouched() {
    let routed = Routed::new();
    let daemon = daemon(&routed.lab, "");
    wait_for_forwards(&daemon, "no route", false);
    routed.assert_cut(&daemon);
    let record = daemon.record_now("p");
    let mut told = record.warnings.iter().filter(|warning| warning.text.contains("forwards: true"));
    assert!(told.any(|warning| warning.text.contains("n1")), "{:#?}", record.warnings);
}

/// `w` has an address that a bridge for containers has on n1 and on many hosts.
#[test]
#[needs(root)]
fn who_has_an_address_of_a_peers_private_bridge_is_untouched() {
    let mut lab = bridged();
    let address: IpAddr = "172.17.0.1".parse().unwrap();
    lab.ip("n1", "link add docker0 type bridge");
    lab.ip("n1", &format!("address add {address}/16 dev docker0"));
    lab.ip("n1", "link set docker0 up");
    lab.ip("w", &format!("address add {address}/32 dev lo"));
    lab.ip("n2", &format!("route add {address} via {}", lab.ipv4(4)));
    lab.ip("n3", &format!("route add {address} via {}", lab.ipv4(1)));
    lab.hide("w");
    let daemon = daemon(&lab, "");
    let (n2, at_w) = (("n2", lab.ipv4(2)), ("w", address));
    daemon.apply("p", &isolate("n1", LONG));
    for (from, to) in [(n2, at_w), (at_w, n2)] {
        assert_eq!(lab.delivered(from, to, SENT, SENT), SENT, "{from:?} → {to:?}");
    }
    // At n1, it is n1's.
    for (from, to) in [(("n3", lab.ipv4(3)), ("n1", address)), (("n1", address), ("n3", lab.ipv4(3)))] {
        assert_eq!(lab.delivered(from, to, SENT, 0), 0, "{from:?} → {to:?} passes the cut");
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    let link = |src: &str, dst: &str| {
        let mut links = record.links.iter();
        links.find(|link| (&*link.src, &*link.dst) == (src, dst)).unwrap()
    };
    for (src, dst) in [("n1", "n2"), ("n2", "n1")] {
        let link = link(src, dst);
        assert_eq!((link.dropped_packets, link.proved), (Some(0), false), "{link:#?}");
    }
    assert!(link("n3", "n1").proved && link("n1", "n3").proved, "{:#?}", record.links);
}

#[test]
#[needs(root)]
fn each_form_of_a_route_that_comes_makes_a_next_hop() {
    let routed = Routed::new();
    let (lab, moving) = (&routed.lab, routed.moving);
    let daemon = daemon(lab, &format!(", vip: [{moving}]"));
    wait_for_forwards(&daemon, "no route", false);
    let net = "198.51.100.0/24";
    for what in ["add", "delete"] {
        // In a network namespace that is no peer's.
        lab.ip("x", &format!("route {what} {net} via {}", lab.ipv4(1)));
        wait_for_forwards(&daemon, "a route of someone else", what == "add");
    }
    lab.ip("n3", &format!("nexthop add id 7 via {moving} dev eth0 onlink"));
    for (what, route) in [
        ("a route", format!("route NAME {net} via {moving} dev eth0 onlink")),
        ("of IPv4 over IPv6", format!("route NAME {net} via inet6 {LOCAL} dev eth0")),
        ("of IPv6", format!("-6 route NAME 2001:db8:77::/48 via {LOCAL} dev eth0")),
        (
            "over several",
            format!(
                "route NAME {net} nexthop via {} dev eth0 onlink nexthop via {moving} dev eth0 onlink",
                lab.ipv4(4)
            ),
        ),
        ("of another table", format!("route NAME {net} via {moving} dev eth0 onlink table 77")),
        ("over an object", format!("route NAME {net} nhid 7")),
    ] {
        lab.ip("n3", &route.replace("NAME", "add"));
        wait_for_forwards(&daemon, what, true);
        lab.ip("n3", &route.replace("NAME", "delete"));
        wait_for_forwards(&daemon, what, false);
    }
    // From here on the kernel names the object, and says neither device nor gateway.
    lab.sysctl("n3", "ipv4/nexthop_compat_mode", "0");
    lab.ip("n3", &format!("nexthop add id 8 via {LOCAL} dev eth0"));
    lab.ip("n3", &format!("nexthop add id 9 via {} dev eth0 onlink", lab.ipv4(4)));
    lab.ip("n3", "nexthop add id 10 group 7/9");
    for (what, route) in [
        ("over an object alone", format!("route NAME {net} nhid 7")),
        ("of IPv6 over an object alone", "-6 route NAME 2001:db8:77::/48 nhid 8".to_owned()),
        ("over a group alone", format!("route NAME {net} nhid 10")),
    ] {
        lab.ip("n3", &route.replace("NAME", "add"));
        wait_for_forwards(&daemon, what, true);
        lab.ip("n3", &route.replace("NAME", "delete"));
        wait_for_forwards(&daemon, what, false);
    }
    lab.ip("n3", &format!("route add {net} nhid 9"));
    wait_for_forwards(&daemon, "over an object that leads to someone else", false);
}

/// `w` is on another bridge, where n2 has a second NIC.
struct Doubled {
    lab: HostLab,
    w: End<'static>,
    n2: End<'static>,
}

impl Doubled {
    fn new() -> Self {
        let lab = bridged();
        lab.bridge("br1", 15);
        lab.ip("h", "link set h4 master br1");
        lab.cable("n2", "h5", "eth1");
        lab.ip("h", "link set h5 master br1");
        let (w, n2): (IpAddr, IpAddr) = ("198.51.100.9".parse().unwrap(), "198.51.100.2".parse().unwrap());
        lab.ip("n2", &format!("address add {n2}/24 dev eth1"));
        lab.ip("w", &format!("address add {w}/24 dev eth0"));
        Self { lab, w: ("w", w), n2: ("n2", n2) }
    }

    /// `w` has n1's MAC address from now on. Only its own network namespace notices.
    fn clone_mac(&self) {
        self.lab.ip("w", &format!("link set eth0 address {}", self.lab.mac("n1", "eth0")));
    }

    fn assert_untouched(&self) {
        for (from, to) in [(self.w, self.n2), (self.n2, self.w)] {
            let reached = self.lab.delivered_within(from, to, SENT, SENT, Duration::from_millis(500));
            assert_eq!(reached, SENT, "{from:?} → {to:?} is cut");
        }
    }

    /// n1 sends all the time, and nothing of it arrives.
    fn assert_cut(&self) {
        let (n1, n2) = (("n1", self.lab.ipv4(1)), ("n2", self.lab.ipv4(2)));
        for _ in 0..5 {
            assert_eq!(self.lab.delivered(n1, n2, SENT, 0), 0, "n1 → n2 passes the cut");
            self.assert_untouched();
        }
    }
}

fn who_has_a_peers_mac_address_is_untouched(of_n1: impl Fn(&HostLab) -> String) {
    let doubled = Doubled::new();
    doubled.clone_mac();
    let daemon = daemon(&doubled.lab, &of_n1(&doubled.lab));
    doubled.lab.delivered(doubled.w, doubled.n2, SENT, SENT);
    doubled.assert_untouched();
    daemon.apply("p", &isolate("n1", LONG));
    doubled.assert_untouched();
    doubled.assert_cut();
}

#[test]
#[needs(root)]
fn who_has_a_peers_mac_address_too_is_untouched() {
    who_has_a_peers_mac_address_is_untouched(|_| String::new());
}

#[test]
#[needs(root)]
fn who_has_a_mac_address_of_the_config_too_is_untouched() {
    who_has_a_peers_mac_address_is_untouched(|lab| format!(", mac: \"{}\"", lab.mac("n1", "eth0")));
}

#[test]
#[needs(root)]
fn who_takes_a_peers_mac_address_during_the_cut_is_untouched() {
    let doubled = Doubled::new();
    let daemon = daemon(&doubled.lab, "");
    doubled.lab.delivered(doubled.w, doubled.n2, SENT, SENT);
    doubled.assert_untouched();
    daemon.apply("p", &isolate("n1", LONG));
    doubled.clone_mac();
    // n2 has to ask for the new one.
    let reached = doubled.lab.delivered(doubled.w, doubled.n2, SENT, SENT);
    assert!(reached > 0, "{reached} after the change");
    doubled.assert_untouched();
    doubled.assert_cut();
    daemon.heal("p");
    // Of n1 it is known that it has the address, but not that it sent these frames.
    let record = daemon.record_now("p");
    let leaked: Vec<&LinkRecord> = record.links.iter().filter(|link| link.leaked_packets > Some(0)).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
}

/// n1 and n2 have an address that the config does not list, and n1 is the next hop to it.
fn what_a_next_hop_sends_from_a_shared_address(shared: &str, of: impl Fn(&HostLab, u8) -> IpAddr) {
    let lab = bridged();
    let address: IpAddr = shared.parse().unwrap();
    for node in ["n1", "n2"] {
        lab.ip(node, &format!("address add {address} dev lo"));
    }
    lab.ip("n3", &format!("route add {address} via {}", of(&lab, 1)));
    let daemon = daemon(&lab, "");
    wait_for_forwards(&daemon, "a route", true);
    let (n3, at_n1) = (("n3", of(&lab, 3)), ("n1", address));
    for (from, to) in [(n3, at_n1), (at_n1, n3)] {
        assert_eq!(lab.delivered(from, to, SENT, SENT), SENT, "{from:?} → {to:?} before");
    }
    daemon.apply("p", &isolate("n1", LONG));
    // What comes to n1 with an address of n1's is for n1, and is dropped.
    assert_eq!(lab.delivered(n3, at_n1, SENT, 0), 0, "{n3:?} → {at_n1:?} passes the cut");
    assert_eq!(lab.delivered(n3, ("n1", of(&lab, 1)), SENT, 0), 0);
    // What leaves n1 may be n2's.
    lab.delivered(at_n1, n3, SENT, SENT);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let link = |src: &str, dst: &str| {
        let mut links = record.links.iter();
        links.find(|link| (&*link.src, &*link.dst) == (src, dst)).unwrap()
    };
    let (to, from) = (link("n3", "n1"), link("n1", "n3"));
    assert_eq!((to.in_force, to.leaked_packets, to.proved), (Some(InForce::Yes), Some(0), true), "{to:#?}");
    assert_eq!((from.in_force, from.proved), (Some(InForce::No), false), "{from:#?}");
    assert!(from.leaked_packets > Some(0), "{from:#?}");
    assert!(!record.proved, "{record:#?}");
}

#[test]
#[needs(root)]
fn what_a_next_hop_sends_from_a_shared_address_of_ipv4_is_not_called_cut() {
    what_a_next_hop_sends_from_a_shared_address("203.0.113.7", |lab, host| lab.ipv4(host));
}

#[test]
#[needs(root)]
fn what_a_next_hop_sends_from_a_shared_address_of_ipv6_is_not_called_cut() {
    what_a_next_hop_sends_from_a_shared_address("2001:db8:9::7", |lab, host| lab.ipv6(host));
}
