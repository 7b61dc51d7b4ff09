//! Frames that pass a cut since nothing names one of their ends: whose they are, or may be, is in the record. Needs root.

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
#[path = "support/stopped_thread.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod stopped_thread;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector_core::api::{InForce, LinkRecord, RecoveryRecord, WarningCode};
use injector_lab::needs;
use live::daemon::{Daemon, isolate, links};
use stopped_thread::StoppedThread;

const LONG: Duration = Duration::from_mins(9);

fn link<'a>(record: &'a RecoveryRecord, src: &str, dst: &str) -> &'a LinkRecord {
    let link = record.links.iter().find(|link| link.src == src && link.dst == dst);
    link.unwrap_or_else(|| panic!("no {src}→{dst}: {record:#?}"))
}

fn peer(lab: &HostLab, name: &str, host: u8) -> String {
    format!("{name}: {{ addresses: [{}] }}", lab.ipv4(host))
}

/// Two nodes on ports of the host's bridge, and a daemon on their own interfaces.
fn two_nodes() -> (HostLab, Daemon) {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "h1", 1), ("n2", "h2", 2)] {
        lab.plug(node, port);
        lab.ip("h", &format!("link set {port} master br0"));
        lab.give(node, "eth0", host);
    }
    let interfaces = ["n1", "n2"].map(|node| format!("{{ name: eth0, netns: {} }}", lab.netns(node)));
    let peers = [peer(&lab, "n1", 1), peer(&lab, "n2", 2)].join(", ");
    let daemon = lab.daemon_on(&peers, &format!("[{}]", interfaces.join(", ")));
    (lab, daemon)
}

/// Plugs another interface of n1 into the bridge, with an address that the config does not list.
fn plug(lab: &HostLab) {
    lab.cable("n1", "h9", "eth1");
    lab.ip("h", "link set h9 master br0");
    lab.ip("n1", &format!("address add {}/32 dev eth1", lab.ipv4(9)));
    lab.ip("n1", &format!("route replace {}/32 dev eth1 src {}", lab.ipv4(2), lab.ipv4(9)));
}

/// Waits until the daemon shows the interface among n1's, and its address: the second comes with the survey.
fn wait_known(lab: &HostLab, daemon: &Daemon) {
    let address = lab.ipv4(9).to_string();
    let end = Instant::now() + host_lab::PATIENCE;
    loop {
        let shown = String::from_utf8(daemon.cli(&["peers"]).stdout).unwrap();
        if shown.contains("eth1") && shown.contains(&address) {
            return;
        }
        assert!(Instant::now() < end, "{shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[needs(root)]
fn what_a_new_interface_sends_before_it_is_known_speaks_against_the_cut() {
    let (lab, daemon) = two_nodes();
    let (n1, n2) = (lab.ipv4(1), lab.ipv4(2));
    assert_eq!(lab.delivered(("n1", n1), ("n2", n2), 3, 3), 3);
    daemon.apply("p", &isolate("n1", LONG));
    assert_eq!(lab.delivered(("n1", n1), ("n2", n2), 3, 0), 0);
    // The daemon gets no news of the interface. It works otherwise, so that its lease does not end.
    let stopped = StoppedThread::of(daemon.id(), &lab.netns("n1"));
    plug(&lab);
    let passed = {
        let receiver = lab.within("n2", || UdpSocket::bind((n2, 0)).unwrap());
        receiver.set_read_timeout(Some(host_lab::PATIENCE)).unwrap();
        let sender = lab.within("n1", || UdpSocket::bind((lab.ipv4(9), 0)).unwrap());
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
        receiver.recv(&mut [0; 8]).is_ok()
    };
    drop(stopped);
    assert!(passed, "nothing names the new interface yet");
    wait_known(&lab, &daemon);
    // From now on it is n1's.
    assert_eq!(lab.delivered(("n1", lab.ipv4(9)), ("n2", n2), 5, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let seen = link(&record, "n1", "n2");
    assert_eq!((seen.in_force, seen.proved), (Some(InForce::No), false), "{seen:#?}");
    assert!(seen.leaked_packets > Some(0) && seen.dropped_packets > Some(0), "{seen:#?}");
    let gap =
        seen.bypassed.iter().find(|gap| gap.interface.contains("eth1")).expect("the interface is named");
    let (cut, heal) = (record.cut.unwrap(), record.heal.unwrap());
    let until = gap.time.until_ns.unwrap();
    assert!(gap.time.from_ns >= cut.begin_ns && gap.time.from_ns < until && until <= heal.end_ns, "{gap:?}");
    assert!(gap.why.contains(&lab.ipv4(9).to_string()), "{gap:?}");
    assert!(!record.proved, "{record:#?}");
}

#[test]
#[needs(root)]
fn a_new_interface_that_sends_nothing_says_nothing() {
    let (lab, daemon) = two_nodes();
    let (n1, n2) = (lab.ipv4(1), lab.ipv4(2));
    assert_eq!(lab.delivered(("n1", n1), ("n2", n2), 3, 3), 3);
    daemon.apply("p", &isolate("n1", LONG));
    assert_eq!(lab.delivered(("n1", n1), ("n2", n2), 3, 0), 0);
    assert_eq!(lab.delivered(("n2", n2), ("n1", n1), 3, 0), 0);
    plug(&lab);
    wait_known(&lab, &daemon);
    assert_eq!(lab.delivered(("n1", lab.ipv4(9)), ("n2", n2), 5, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    for link in &record.links {
        assert_eq!((link.in_force, link.proved), (Some(InForce::Yes), true), "{link:#?}");
        assert!(link.bypassed.is_empty() && link.leaked_packets == Some(0), "{link:#?}");
    }
}

/// Engines give the MAC address of one container to the next, and hypervisors that of a guest.
#[test]
#[needs(root)]
fn a_mac_address_that_a_peer_has_given_up_may_be_anyones() {
    const SENT: usize = 5;
    const GIVEN_UP: &str = "02:00:00:aa:aa:aa";
    let (mut lab, daemon) = two_nodes();
    lab.plug("w", "h3");
    lab.ip("h", "link set h3 master br0");
    lab.give("w", "eth0", 3);
    let [n1, n2, w] = [("n1", 1), ("n2", 2), ("w", 3)].map(|(node, host)| (node, lab.ipv4(host)));
    let is_n1s = || String::from_utf8(daemon.cli(&["peers"]).stdout).unwrap().contains(GIVEN_UP);
    let wait = |is: bool| {
        let end = Instant::now() + host_lab::PATIENCE;
        while is_n1s() != is {
            assert!(Instant::now() < end, "{:#?}", daemon.status().peers);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    lab.ip("n1", &format!("link set eth0 address {GIVEN_UP}"));
    wait(true);
    lab.ip("n1", "link set eth0 address 02:00:00:bb:bb:bb");
    wait(false);
    lab.ip("w", &format!("link set eth0 address {GIVEN_UP}"));
    // Longer than a frame may be on its way.
    std::thread::sleep(Duration::from_millis(300));
    for node in ["n1", "n2", "w"] {
        lab.ip(node, "neighbour flush dev eth0");
    }
    assert_eq!(lab.delivered(n1, n2, SENT, SENT), SENT);
    daemon.apply("p", &isolate("n1", LONG));
    for (from, to) in [(w, n2), (n2, w)] {
        assert_eq!(lab.delivered(from, to, SENT, SENT), SENT);
    }
    for (from, to) in [(n1, n2), (n2, n1)] {
        assert_eq!(lab.delivered(from, to, SENT, 0), 0);
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    for (src, dst) in [("n1", "n2"), ("n2", "n1")] {
        let link = link(&record, src, dst);
        assert_eq!((link.in_force, link.leaked_packets), (Some(InForce::Yes), Some(0)), "{link:#?}");
        assert!(link.proved && link.unnamed_packets == 0, "{link:#?}");
    }
}

/// n1's interface alone is hooked. r is on the bridge and w behind the host, and their namespaces have no name.
struct Remote {
    lab: HostLab,
    daemon: Daemon,
    w: IpAddr,
}

fn remote(more: &str) -> Remote {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    lab.plug("n1", "h1");
    lab.ip("h", "link set h1 master br0");
    lab.give("n1", "eth0", 1);
    lab.ip("n1", &format!("route add default via {}", lab.ipv4(14)));
    lab.bridged("r", "h2", "br0", 2);
    lab.bridged("x", "h3", "br0", 3);
    let w: IpAddr = "198.51.100.7".parse().unwrap();
    lab.plug("w", "h4");
    lab.ip("h", "address add 198.51.100.1/24 dev h4");
    lab.ip("w", &format!("address add {w}/24 dev eth0"));
    lab.ip("w", "route add default via 198.51.100.1");
    lab.hide("w");
    let eth0 = format!("[{{ name: eth0, netns: {} }}]", lab.netns("n1"));
    let peers = format!("{}, r: {{ addresses: [{}]{more} }}", peer(&lab, "n1", 1), lab.ipv4(2));
    let daemon = lab.daemon_on(&peers, &eth0);
    Remote { lab, daemon, w }
}

#[test]
#[needs(root)]
fn unlisted_addresses_of_a_remote_peer_leave_its_links_in_doubt() {
    let Remote { lab, daemon, w } = remote("");
    let v4 = |host| lab.ipv4(host);
    assert_eq!(lab.delivered(("r", v4(2)), ("n1", v4(1)), 3, 3), 3);
    let request = links(&[("n1", "r"), ("r", "n1")], LONG);
    // Clients on the same link and behind a router are nobody.
    daemon.apply("clients", &request);
    for (node, address) in [("x", v4(3)), ("w", w)] {
        assert_eq!(lab.delivered((node, address), ("n1", v4(1)), 5, 5), 5);
        assert_eq!(lab.delivered(("n1", v4(1)), (node, address), 5, 5), 5);
    }
    assert_eq!(lab.delivered(("r", v4(2)), ("n1", v4(1)), 3, 0), 0);
    assert_eq!(lab.delivered(("n1", v4(1)), ("r", v4(2)), 3, 0), 0);
    daemon.heal("clients");
    let record = daemon.record_now("clients");
    for link in &record.links {
        assert_eq!((link.in_force, link.proved), (Some(InForce::Yes), true), "{link:#?}");
    }
    assert!(record.warnings.iter().all(|warning| warning.code != WarningCode::Unnamed), "{record:#?}");

    // An address of the remote peer that nobody announced.
    lab.ip("r", &format!("address add {}/28 dev eth0", v4(9)));
    daemon.apply("doubt", &request);
    assert_eq!(lab.delivered(("r", v4(9)), ("n1", v4(1)), 5, 5), 5);
    assert_eq!(lab.delivered(("r", v4(2)), ("n1", v4(1)), 3, 0), 0);
    daemon.heal("doubt");
    let record = daemon.record_now("doubt");
    let seen = link(&record, "r", "n1");
    assert_eq!(
        (seen.in_force, seen.proved, seen.unnamed_packets),
        (Some(InForce::Unknown), false, 5),
        "{seen:#?}"
    );
    let warning = record.warnings.iter().find(|warning| warning.code == WarningCode::Unnamed).unwrap();
    assert_eq!(warning.subject.as_deref(), Some("r→n1"));
    assert!(warning.text.contains(&v4(9).to_string()) && warning.text.contains("`mac:` of r"), "{warning:?}");
    let said = String::from_utf8(daemon.cli(&["wait", "doubt", "--timeout", "1ms"]).stdout).unwrap();
    assert!(said.contains("5 packets that may be r→n1's passed"), "{said}");
}

#[test]
#[needs(root)]
fn a_remote_peer_with_its_mac_in_the_config_is_named_by_it() {
    let mac = "02:00:5e:00:53:07";
    let Remote { lab, daemon, .. } = remote(&format!(", mac: \"{mac}\""));
    let v4 = |host| lab.ipv4(host);
    lab.ip("r", &format!("link set eth0 address {mac}"));
    lab.ip("r", &format!("address add {}/28 dev eth0", v4(9)));
    daemon.apply("p", &links(&[("r", "n1")], LONG));
    assert_eq!(lab.delivered(("r", v4(9)), ("n1", v4(1)), 5, 5), 5);
    assert_eq!(lab.delivered(("r", v4(2)), ("n1", v4(1)), 3, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let seen = link(&record, "r", "n1");
    // It may forward for others, since its namespace is not seen: that is not cut by a guess, but counted.
    assert_eq!(
        (seen.in_force, seen.leaked_packets, seen.unnamed_packets),
        (Some(InForce::No), Some(5), 0),
        "{seen:#?}"
    );
}

#[test]
#[needs(root)]
fn a_peer_that_speaks_for_another_address_is_named_with_it() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "h1", 1), ("n2", "h2", 2)] {
        lab.bridged(node, port, "br0", host);
    }
    let inner: IpAddr = "172.17.0.2".parse().unwrap();
    lab.ip("n2", &format!("address add {inner}/32 dev lo"));
    // As a container's address, it is in no ARP of its own.
    lab.sysctl("n2", "ipv4/conf/all/arp_announce", "2");
    let peers = [peer(&lab, "n1", 1), peer(&lab, "n2", 2)].join(", ");
    let daemon = lab.daemon_on(&peers, "[{ name: h1, peer: n1 }, { name: h2, peer: n2 }]");
    let (n1, n2) = (lab.ipv4(1), lab.ipv4(2));
    daemon.apply("p", &links(&[("n2", "n1")], LONG));
    assert_eq!(lab.delivered(("n2", n2), ("n1", n1), 3, 0), 0);
    assert_eq!(lab.delivered(("n2", inner), ("n1", n1), 5, 5), 5);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let seen = link(&record, "n2", "n1");
    assert_eq!((seen.in_force, seen.leaked_packets), (Some(InForce::No), Some(5)), "{seen:#?}");
    let warning = record.warnings.iter().find(|warning| warning.code == WarningCode::ForeignSource).unwrap();
    assert_eq!(warning.subject.as_deref(), Some("n2"));
    assert!(warning.text.contains("n2 speaks for 172.17.0.2"), "{warning:?}");
}
