//! Peers' own devices of every kind: cables from peer to peer, second NICs, macvlans, and devices that lead to somebody behind
//! the peer. Needs root.

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use host_lab::{HostLab, PATIENCE};
use injector_core::api::{PartitionRequest, RecoveryRecord, WarningCode};
use injector_core::model::{Percent, Traffic};
use injector_lab::needs;
use live::daemon::{Daemon, isolate, links};

const LONG: Duration = Duration::from_mins(9);
/// How many copies of a group frame are sent at a time.
const COPIES: usize = 5;
/// How many packets show a loss of half of them.
const SENT: usize = 1000;

/// A way to send to all on a link.
#[derive(Clone, Copy, Debug)]
enum Group {
    Multicast,
    Broadcast,
    LinkLocal,
}

/// A node's device on a cable, and its host number.
type Plug<'a> = (&'a str, &'a str, u8);

/// How many of some frames to a group get from one end of a cable to the other.
fn heard(lab: &HostLab, group: Group, from: Plug<'_>, to: Plug<'_>) -> usize {
    let index = |(node, device, _): Plug<'_>| {
        let name = std::ffi::CString::new(device).unwrap();
        // SAFETY: a string that ends with zero.
        lab.within(node, || unsafe { libc::if_nametoindex(name.as_ptr()) })
    };
    let [IpAddr::V4(own), IpAddr::V4(far)] = [from, to].map(|(.., host)| lab.ipv4(host)) else { panic!() };
    let any: IpAddr = match group {
        Group::LinkLocal => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let receiver = lab.within(to.0, || UdpSocket::bind((any, 0)).unwrap());
    let port = receiver.local_addr().unwrap().port();
    let (bind, target): (IpAddr, SocketAddr) = match group {
        Group::Multicast => {
            let group = Ipv4Addr::new(224, 0, 0, 251);
            receiver.join_multicast_v4(&group, &far).unwrap();
            (own.into(), (group, port).into())
        }
        Group::Broadcast => (own.into(), (Ipv4Addr::BROADCAST, port).into()),
        Group::LinkLocal => {
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
            receiver.join_multicast_v6(&group, index(to)).unwrap();
            (any, SocketAddrV6::new(group, port, 0, index(from)).into())
        }
    };
    let sender = lab.within(from.0, || UdpSocket::bind((bind, 0)).unwrap());
    sender.set_broadcast(true).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // An address that is new can't be sent from yet.
    let sent = (0..COPIES).filter(|_| sender.send_to(b"all", target).is_ok()).count();
    (0..sent).filter(|_| receiver.recv(&mut [0; 8]).is_ok()).count()
}

/// Asserts that what each end sends to all gets to the other.
fn assert_heard(lab: &HostLab, groups: &[Group], one: Plug<'_>, other: Plug<'_>) {
    for (from, to) in [(one, other), (other, one)] {
        for group in groups {
            let end = Instant::now() + PATIENCE;
            while heard(lab, *group, from, to) < COPIES {
                assert!(Instant::now() < end, "{group:?} {from:?} → {to:?}");
            }
        }
    }
}

fn assert_unheard(lab: &HostLab, groups: &[Group], one: Plug<'_>, other: Plug<'_>) {
    for (from, to) in [(one, other), (other, one)] {
        for group in groups {
            assert_eq!(heard(lab, *group, from, to), 0, "{group:?} {from:?} → {to:?}");
        }
    }
}

#[test]
#[needs(root)]
fn nothing_to_groups_crosses_a_cut_cable() {
    let mut lab = HostLab::new();
    let ends = [("n1", "e0", 1), ("n2", "e0", 2)];
    for (node, ..) in ends {
        lab.add(node);
    }
    injector_lab::Lab::cable(&lab, ("n1", "e0"), ("n2", "e0"));
    for (node, device, host) in ends {
        lab.give(node, device, host);
    }
    let groups = [Group::Multicast, Group::Broadcast, Group::LinkLocal];
    let peers = ends.map(|(node, _, host)| format!("{node}: {{ addresses: [{}] }}", lab.ipv4(host)));
    let listed = ends.map(|(node, device, _)| format!("{{ name: {device}, netns: {} }}", lab.netns(node)));
    for interfaces in ["auto", &format!("[{}]", listed.join(", "))] {
        let daemon = lab.daemon_on(&peers.join(", "), interfaces);
        assert_heard(&lab, &groups, ends[0], ends[1]);
        daemon.apply("p", &links(&[("n1", "n2"), ("n2", "n1")], LONG));
        assert_unheard(&lab, &groups, ends[0], ends[1]);
        assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 5, 0), 0, "{interfaces}");
        daemon.heal("p");
        assert_heard(&lab, &groups, ends[0], ends[1]);
    }
}

#[test]
#[needs(root)]
fn of_cables_between_three_peers_one_is_cut() {
    let mut lab = HostLab::new();
    for node in ["n1", "n2", "n3"] {
        lab.add(node);
    }
    let cables = [
        (("n1", "e2", 1), ("n2", "e1", 2)),
        (("n2", "e3", 12), ("n3", "e2", 13)),
        (("n1", "e3", 11), ("n3", "e1", 3)),
    ];
    for (one, other) in cables {
        injector_lab::Lab::cable(&lab, (one.0, one.1), (other.0, other.1));
    }
    let mut peers = Vec::new();
    for (node, hosts) in [("n1", [1, 11]), ("n2", [2, 12]), ("n3", [3, 13])] {
        let addresses = hosts.map(|host| lab.ipv4(host).to_string());
        peers.push(format!("{node}: {{ addresses: [{}] }}", addresses.join(", ")));
    }
    for (node, device, host) in cables.into_iter().flat_map(|(one, other)| [one, other]) {
        lab.ip(node, &format!("address add {}/32 dev {device}", lab.ipv4(host)));
    }
    let groups = [Group::LinkLocal];
    let daemon = lab.daemon(&peers.join(", "));
    for (one, other) in cables {
        assert_heard(&lab, &groups, one, other);
    }
    daemon.apply("p", &links(&[("n1", "n2"), ("n2", "n1")], LONG));
    assert_unheard(&lab, &groups, cables[0].0, cables[0].1);
    assert_heard(&lab, &groups, cables[1].0, cables[1].1);
    assert_heard(&lab, &groups, cables[2].0, cables[2].1);
}

/// The address of someone behind n1 or n2.
fn behind(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 244, host, 5).into()
}

/// Three nodes on one switch, with somebody behind n1 and n2, in `pod1` and `pod2`, to whom they forward.
fn pods() -> HostLab {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    for host in [1, 2] {
        let (node, pod, device) = (format!("n{host}"), format!("pod{host}"), format!("v{host}"));
        lab.add(&pod);
        injector_lab::Lab::cable(&lab, (&node, &device), (&pod, "eth0"));
        lab.sysctl(&node, "ipv4/ip_forward", "1");
        lab.ip(&node, &format!("address add 10.244.{host}.1/24 dev {device}"));
        lab.ip(&pod, &format!("address add {}/24 dev eth0", behind(host)));
        lab.ip(&pod, &format!("route add default via 10.244.{host}.1"));
        for other in (1..=3).filter(|other| *other != host) {
            lab.ip(&format!("n{other}"), &format!("route add 10.244.{host}.0/24 via {}", lab.ipv4(host)));
        }
    }
    lab
}

/// The config's peers, the first two with their pods' addresses if these are listed.
fn nodes(lab: &HostLab, are_pods_listed: bool, more: &str) -> String {
    let node = |host| {
        let pods = if are_pods_listed && host < 3 { format!(", 10.244.{host}.0/24") } else { String::new() };
        format!("n{host}: {{ addresses: [{}{pods}]{more} }}", lab.ipv4(host))
    };
    [1, 2, 3].map(node).join(", ")
}

fn warnings(record: &RecoveryRecord, code: WarningCode) -> Vec<&str> {
    record
        .warnings
        .iter()
        .filter(|warning| warning.code == code)
        .map(|warning| warning.text.as_str())
        .collect()
}

fn half(request: PartitionRequest) -> PartitionRequest {
    let traffic = Traffic { loss: Percent::new(50.0).unwrap(), ..Traffic::default() };
    PartitionRequest { traffic, ..request }
}

/// Asserts that half of what is sent arrives. Six standard deviations of a binomial of 1000 are 95; rolled for twice, 250 arrive.
fn assert_halved(lab: &HostLab, from: (&str, IpAddr), to: (&str, IpAddr)) {
    let got = lab.delivered(from, to, SENT, SENT / 2 - 95);
    assert!((SENT / 2 - 95..=SENT / 2 + 95).contains(&got), "{got} of {SENT}, {from:?} → {to:?}");
}

#[test]
#[needs(root)]
fn what_the_senders_inner_device_drops_is_not_late() {
    let lab = pods();
    let daemon = lab.daemon(&nodes(&lab, true, ""));
    assert_eq!(lab.delivered(("pod1", behind(1)), ("pod2", behind(2)), 5, 5), 5);
    daemon.apply("p", &links(&[("n1", "n2"), ("n2", "n1")], LONG));
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(lab.delivered(("pod1", behind(1)), ("pod2", behind(2)), 5, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let link = record.links.iter().find(|link| link.src == "n1").unwrap();
    assert_eq!((link.dropped_packets, link.late_packets), (Some(5), Some(0)), "{link:#?}");
}

#[test]
#[needs(root)]
fn what_somebody_behind_a_peer_sends_is_lost_once() {
    let mut lab = pods();
    lab.plug("w", "hw");
    lab.ip("h", "link set hw master br0");
    lab.give("w", "eth0", 9);
    lab.ip("w", &format!("route add 10.244.1.0/24 via {}", lab.ipv4(1)));
    let daemon = lab.daemon(&nodes(&lab, true, ""));
    let (pod1, pod2) = (("pod1", behind(1)), ("pod2", behind(2)));
    let between_peers =
        [(pod1, ("n2", lab.ipv4(2))), (pod1, pod2), (("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)))];
    let with_world = [(pod1, ("w", lab.ipv4(9))), (("w", lab.ipv4(9)), ("n1", lab.ipv4(1)))];
    for (peers, ways) in [(["n1", "n2"], &between_peers[..]), (["n1", "world"], &with_world)] {
        let [one, other] = peers;
        daemon.apply("p", &half(links(&[(one, other), (other, one)], LONG)));
        for (from, to) in ways {
            assert_halved(&lab, *from, *to);
            assert_halved(&lab, *to, *from);
        }
        daemon.heal("p");
        let record = daemon.record_now("p");
        assert_eq!(warnings(&record, WarningCode::LossNotOnce), [""; 0], "{record:#?}");
    }
}

#[test]
#[needs(root)]
fn a_device_without_a_listed_address_loses_packets_too() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    injector_lab::Lab::bridge(&lab, "h", "br1");
    for (node, port, host) in [("n1", "k1", 21), ("n2", "k2", 22)] {
        lab.cable(node, port, "eth1");
        lab.ip("h", &format!("link set {port} master br1"));
        lab.ip(node, &format!("address add 10.81.0.{host}/24 dev eth1"));
    }
    // A macvlan, whose packets pass eth0 as well.
    lab.sysctl("n1", "ipv4/conf/all/arp_ignore", "1");
    lab.ip("n1", "link add m0 link eth0 type macvlan mode bridge");
    lab.ip("n1", "link set m0 up");
    lab.ip("n1", "address add 10.82.0.1/24 dev m0");
    lab.ip("n2", "address add 10.82.0.2/24 dev eth0");
    let peers = [1, 2].map(|host| format!("n{host}: {{ addresses: [{}] }}", lab.ipv4(host)));
    let daemon = lab.daemon(&peers.join(", "));
    daemon.apply("p", &half(links(&[("n1", "n2"), ("n2", "n1")], LONG)));
    for addresses in [["10.81.0.21", "10.81.0.22"], ["10.82.0.1", "10.82.0.2"]] {
        let [one, other] = addresses.map(|address| address.parse::<IpAddr>().unwrap());
        assert_halved(&lab, ("n1", one), ("n2", other));
        assert_halved(&lab, ("n2", other), ("n1", one));
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    assert_eq!(warnings(&record, WarningCode::LossNotOnce), [""; 0], "{record:#?}");
}

/// The warnings of senders that are not listed, of a cut of n1 during which the pods send to each other.
fn told(lab: &HostLab, daemon: &Daemon) -> Vec<String> {
    daemon.apply("p", &isolate("n1", LONG));
    for (from, to) in [(1, 2), (2, 1)] {
        let (from, to) = ((format!("pod{from}"), behind(from)), (format!("pod{to}"), behind(to)));
        assert_eq!(lab.delivered((&from.0, from.1), (&to.0, to.1), 5, 5), 5);
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    warnings(&record, WarningCode::ForeignSource).into_iter().map(str::to_owned).collect()
}

#[test]
#[needs(root)]
fn a_node_that_forwards_for_unlisted_pods_is_named_with_them() {
    let lab = pods();
    let found = told(&lab, &lab.daemon(&nodes(&lab, false, "")));
    for host in [1, 2] {
        let wanted = format!("n{host} speaks for {}", behind(host));
        assert!(found.iter().any(|text| text.starts_with(&wanted)), "{wanted}: {found:?}");
    }
    // The config says so.
    let found = told(&lab, &lab.daemon(&nodes(&lab, false, ", forwards: true")));
    assert_eq!(found, [""; 0]);
}
