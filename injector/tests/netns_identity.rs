//! A peer is more than the addresses that the config lists: what else it sends from is cut too, and no innocent is.

injector_lab::group!(waits);

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector::packet_socket::PacketSocket;
use injector_core::api::{InForce, Outcome, PartitionRequest, VerdictOptions};
use injector_core::model::{Neighbour, PeerName, Traffic};
use injector_lab::{needs, until};
use live::daemon::{Daemon, isolate, links};
use live::lab::{AttachPoint, CLIENT, Lab, addresses, ipv4};
use live::traffic::{Kind, assert_cut, assert_flows, udp_reaches};

const LONG: Duration = Duration::from_mins(2);
const PATIENCE: Duration = Duration::from_secs(10);
const DOUBT: Duration = Duration::from_millis(250);

/// The lab's config with the IPv4 addresses alone, and more of its peers.
fn v4_config(lab: &Lab, place: AttachPoint, more: &[(&str, &str)]) -> String {
    let peers = lab.peer_names().into_iter().enumerate().map(|(at, node)| {
        let host = u8::try_from(at + 1).unwrap();
        let more = more.iter().find(|(of, _)| *of == node).map_or("", |(_, more)| more);
        format!("  {node}: {{ addresses: [{}]{more} }}\n", ipv4(host))
    });
    let nodes = lab.peer_names();
    let interfaces = nodes.iter().map(|node| lab.interface(node, place, "auto"));
    format!("peers:\n{}interfaces:\n{}", peers.collect::<String>(), interfaces.collect::<String>())
}

/// Whether a datagram gets from an address of one node to an address of another.
fn reaches_from(
    lab: &Lab,
    (from, source): (&str, IpAddr),
    (to, at): (&str, SocketAddr),
    patience: Duration,
) -> bool {
    let receiver = lab.within(to, || UdpSocket::bind(at).unwrap());
    let at = receiver.local_addr().unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let sender = lab.within(from, || UdpSocket::bind((source, 0)).unwrap());
    let end = Instant::now() + patience;
    let mut buffer = [0; 16];
    while Instant::now() < end {
        // A neighbour that has failed is an error at once, as with a port that is off.
        let _ = sender.send_to(b"x", at);
        if receiver.recv(&mut buffer).is_ok() {
            return true;
        }
    }
    false
}

/// The link-local address of a node's interface, with its scope for another node.
fn link_local(lab: &Lab, of: &str, seen_from: &str) -> SocketAddr {
    let end = Instant::now() + PATIENCE;
    let address: Ipv6Addr = loop {
        let output = std::process::Command::new("ip")
            .args(["-n", &lab.netns(of), "-json", "-6", "address", "show", "dev", "eth0", "scope", "link"])
            .output()
            .unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let addresses = shown[0]["addr_info"].as_array().unwrap();
        // It can be used once nobody else has claimed it.
        let usable =
            addresses.iter().find(|address| address["tentative"].is_null() && address["local"].is_string());
        if let Some(address) = usable {
            break address["local"].as_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < end, "no link-local address in {shown}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let scope = lab.within(seen_from, || {
        // SAFETY: a string that ends with zero.
        unsafe { libc::if_nametoindex(c"eth0".as_ptr()) }
    });
    SocketAddr::V6(SocketAddrV6::new(address, 0, 0, scope))
}

fn cuts_what_the_config_does_not_list(place: AttachPoint) {
    let lab = Lab::new(3);
    lab.ip("n1", "address add 10.99.7.1/16 dev eth0");
    let daemon = Daemon::start(&v4_config(&lab, place, &[]));
    let v6 = |node: &str| addresses(node)[1];
    let secondary: IpAddr = "10.99.7.1".parse().unwrap();
    let late: IpAddr = "10.99.7.2".parse().unwrap();
    let n2 = SocketAddr::new(addresses("n2")[0], 0);
    let tries = |patience: Duration| {
        let local = link_local(&lab, "n2", "n1");
        [
            ("IPv6", udp_reaches(&lab, "n1", "n2", SocketAddr::new(v6("n2"), 0), patience)),
            ("IPv6 back", udp_reaches(&lab, "n2", "n1", SocketAddr::new(v6("n1"), 0), patience)),
            ("a secondary address", reaches_from(&lab, ("n1", secondary), ("n2", n2), patience)),
            ("to it", udp_reaches(&lab, "n3", "n1", SocketAddr::new(secondary, 0), patience)),
            ("link-local", udp_reaches(&lab, "n1", "n2", local, patience)),
        ]
    };
    for (what, passes) in tries(PATIENCE) {
        assert!(passes, "{what} before");
    }
    daemon.apply("p", &isolate("n1", LONG));
    for (what, passes) in tries(DOUBT) {
        assert!(!passes, "{what} passes the cut");
    }
    // An address that comes while the cut lasts.
    lab.ip("n1", "address add 10.99.7.2/16 dev eth0");
    assert!(!reaches_from(&lab, ("n1", late), ("n2", n2), DOUBT), "a new address passes the cut");
    assert!(!udp_reaches(&lab, "n3", "n1", SocketAddr::new(late, 0), DOUBT), "to a new address");
    // One that leaves it for a host that is no peer is nobody's.
    lab.ip("n1", "address delete 10.99.7.2/16 dev eth0");
    lab.ip(CLIENT, "address add 10.99.7.2/16 dev eth0");
    assert!(reaches_from(&lab, (CLIENT, late), ("n2", n2), PATIENCE), "an address that n1 gave up is cut");
    // The others, and the world, are untouched.
    assert!(udp_reaches(&lab, "n2", "n3", SocketAddr::new(v6("n3"), 0), PATIENCE));
    assert!(udp_reaches(&lab, "n3", "n2", link_local(&lab, "n2", "n3"), PATIENCE));
    assert_flows(&lab, &[Kind::Icmp], CLIENT, "n1");
    daemon.heal("p");
    for (what, passes) in tries(PATIENCE) {
        assert!(passes, "{what} after the heal");
    }
}

#[test]
#[needs(root)]
fn unlisted_addresses_are_cut_on_the_nodes_own_interfaces() {
    cuts_what_the_config_does_not_list(AttachPoint::OwnNic);
}

#[test]
#[needs(root)]
fn unlisted_addresses_are_cut_on_bridge_ports() {
    cuts_what_the_config_does_not_list(AttachPoint::BridgePort);
}

/// A client that is no peer, behind a peer that routes for it: cutting others off from the router leaves the client's own
/// traffic alone, and ARP and neighbour discovery of the router are kept, whatever is asked for. `known` are the peers with
/// their MACs in the config.
fn clients_behind_a_router_peer_are_untouched(known: &[&str], neighbour: Neighbour) {
    let lab = Lab::new(3);
    // The client moves behind n3: 10.77.0.9 on a cable of its own.
    lab.ip(CLIENT, "link set eth0 down");
    let netns = lab.netns(CLIENT);
    lab.ip("n3", &format!("link add eth1 type veth peer name eth1 netns {netns}"));
    lab.ip("n3", "address add 10.77.0.1/24 dev eth1");
    lab.ip("n3", "link set eth1 up");
    lab.ip(CLIENT, "address add 10.77.0.9/24 dev eth1");
    lab.ip(CLIENT, "link set eth1 up");
    lab.ip(CLIENT, "route add default via 10.77.0.1");
    lab.sysctl("n3", "ipv4/ip_forward", "1");
    for node in ["n1", "n2"] {
        lab.ip(node, &format!("route add 10.77.0.0/24 via {}", ipv4(3)));
    }
    let shown = std::process::Command::new("ip")
        .args(["-n", &lab.netns("n3"), "-json", "link", "show", "dev", "eth0"])
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let mac = format!(", mac: \"{}\"", shown[0]["address"].as_str().unwrap());
    let client: IpAddr = "10.77.0.9".parse().unwrap();
    let n1 = SocketAddr::new(addresses("n1")[0], 0);
    let known: Vec<(&str, &str)> = known.iter().map(|peer| (*peer, mac.as_str())).collect();
    let daemon = Daemon::start(&v4_config(&lab, AttachPoint::BridgePort, &known));
    assert!(reaches_from(&lab, (CLIENT, client), ("n1", n1), PATIENCE), "before");
    let traffic = Traffic { neighbour, ..Traffic::default() };
    daemon.apply("p", &PartitionRequest { traffic, ..isolate("n1", LONG) });
    // As long as ARP that is not answered takes to end an idle entry.
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        assert!(
            reaches_from(&lab, (CLIENT, client), ("n1", n1), Duration::from_secs(1)),
            "the client is cut off from n1 ({known:?})"
        );
        assert!(udp_reaches(&lab, "n1", CLIENT, SocketAddr::new(client, 0), Duration::from_secs(1)));
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_cut(&lab, &[Kind::Icmp], "n1", "n2");
    assert_cut(&lab, &[Kind::Icmp], "n1", "n3");
}

#[test]
#[needs(root)]
fn clients_behind_a_router_peer_are_untouched_by_its_mac() {
    clients_behind_a_router_peer_are_untouched(&["n3"], Neighbour::Auto);
}

#[test]
#[needs(root)]
fn clients_behind_a_router_peer_are_untouched_without_its_mac() {
    clients_behind_a_router_peer_are_untouched(&[], Neighbour::Auto);
}

#[test]
#[needs(root)]
fn clients_behind_a_router_peer_are_untouched_where_neighbours_are_dropped() {
    clients_behind_a_router_peer_are_untouched(&[], Neighbour::Drop);
}

/// Three guests on ports of a bridge that the config's word binds, and a host that is no peer: none is seen inside. n1 has
/// two listed addresses, and holds one of them.
fn guests() -> (HostLab, Daemon) {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3), ("host", "uplink", 4)] {
        lab.bridged(node, port, "br0", host);
    }
    let [one, two, three, second] = [1, 2, 3, 8].map(|host| lab.ipv4(host));
    let daemon = lab.daemon_on(
        &format!("n1: {{ addresses: [{one}, {second}] }}, n2: {{ addresses: [{two}] }}, n3: {{ addresses: [{three}] }}"),
        "[{ name: h1, peer: n1 }, { name: h2, peer: n2 }, { name: h3, peer: n3 }, { name: uplink }]",
    );
    (lab, daemon)
}

/// Cuts a guest off from the other guests.
fn isolate_guest(daemon: &Daemon, guest: &str) {
    daemon.apply(
        "p",
        &PartitionRequest {
            verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
            ..isolate(guest, LONG)
        },
    );
}

/// An address that a guest claimed is cut while the guest has it, and not once a host has it that is no peer.
#[test]
#[needs(root)]
fn an_address_that_a_guest_gave_up_is_not_cut() {
    const SENT: usize = 10;
    let (lab, daemon) = guests();
    let address = lab.ipv4(9);
    let n1 = ("n1", lab.ipv4(1));
    lab.ip("n2", &format!("address add {address}/28 dev eth0"));
    // It asks for n1 from there.
    assert_eq!(lab.delivered(("n2", address), n1, SENT, SENT), SENT);
    isolate_guest(&daemon, "n1");
    assert_eq!(lab.delivered(("n2", address), n1, SENT, 0), 0);
    assert_eq!(lab.delivered(n1, ("n2", address), SENT, 0), 0);
    assert_eq!(lab.delivered(("n2", address), ("n3", lab.ipv4(3)), SENT, SENT), SENT);
    daemon.heal("p");
    let link = &daemon.record_now("p").links[0];
    assert!(link.dropped_packets > Some(0) && link.leaked_packets == Some(0), "{link:#?}");

    lab.ip("n2", &format!("address delete {address}/28 dev eth0"));
    lab.ip("host", &format!("address add {address}/28 dev eth0"));
    isolate_guest(&daemon, "n1");
    assert_eq!(lab.delivered(("host", address), n1, SENT, SENT), SENT);
    assert_eq!(lab.delivered(n1, ("host", address), SENT, SENT), SENT);
    assert_eq!(lab.delivered(("n2", lab.ipv4(2)), n1, SENT, 0), 0);
    daemon.heal("p");
    let links = daemon.record_now("p").links;
    assert!(links.iter().all(|link| link.leaked_packets == Some(0)), "{links:#?}");
}

/// A listed address follows the guest that claims it, and the daemon says so.
#[test]
#[needs(root)]
fn a_listed_address_that_another_guest_takes_over_follows_it() {
    const SENT: usize = 10;
    let (lab, daemon) = guests();
    let address = lab.ipv4(8);
    let n3 = ("n3", lab.ipv4(3));
    lab.ip("n2", &format!("address add {address}/28 dev eth0"));
    assert_eq!(lab.delivered(("n2", address), n3, SENT, SENT), SENT);
    wait_for_news(&daemon, &format!("n2 claims {address}, which the config lists for n1"));
    let shown = daemon.status().peers[&PeerName("n1".to_owned())].names.clone();
    let name = shown.iter().find(|name| name.name == address.to_string()).unwrap();
    assert_eq!(name.from.as_deref(), Some("held by n2 now"), "{shown:#?}");
    isolate_guest(&daemon, "n1");
    assert_eq!(lab.delivered(("n2", address), n3, SENT, SENT), SENT);
    assert_eq!(lab.delivered(n3, ("n2", address), SENT, SENT), SENT);
    daemon.heal("p");
    isolate_guest(&daemon, "n2");
    assert_eq!(lab.delivered(("n2", address), n3, SENT, 0), 0);
    assert_eq!(lab.delivered(n3, ("n2", address), SENT, 0), 0);
}

/// Another VLAN may be a network of its own, with the same addresses: what is claimed there says nothing about this one. The
/// kernel has the tag beside the packet.
#[test]
#[needs(root)]
fn an_address_that_another_guest_claims_in_a_vlan_stays_its_peers() {
    const SENT: usize = 10;
    let (lab, daemon) = guests();
    let [second, n3] = [8, 3].map(|host| lab.ipv4(host));
    lab.within("n2", || announce_in_vlan("eth0", n3));
    // What it announces without a tag comes later.
    lab.ip("n2", &format!("address add {second}/28 dev eth0"));
    assert_eq!(lab.delivered(("n2", second), ("n3", n3), SENT, SENT), SENT);
    wait_for_news(&daemon, &format!("n2 claims {second}, which the config lists for n1"));
    let timeline = String::from_utf8(daemon.cli(&["timeline"]).stdout).unwrap();
    assert!(!timeline.contains(&format!("n2 claims {n3}")), "{timeline}");
}

/// What is cut one way stays open the other way: ARP and neighbour discovery are kept, whatever is asked for, or the answers
/// would end it too.
#[test]
#[needs(root)]
fn a_one_way_cut_stays_one_way() {
    std::thread::scope(|scope| {
        for neighbour in [Neighbour::Auto, Neighbour::Drop] {
            scope.spawn(move || stays_one_way(neighbour));
        }
    });
}

fn stays_one_way(neighbour: Neighbour) {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::BridgePort, "auto"));
    assert_flows(&lab, &[Kind::Icmp], "n2", "n1");
    let traffic = Traffic { neighbour, ..Traffic::default() };
    daemon.apply("p", &PartitionRequest { traffic, ..links(&[("n1", "n2")], LONG) });
    // An entry that nobody confirms fails within 3 s, 1 s more, and three probes a second apart: twice.
    for version in ["ipv4", "ipv6"] {
        lab.sysctl("n2", &format!("{version}/neigh/eth0/base_reachable_time_ms"), "2000");
        lab.sysctl("n2", &format!("{version}/neigh/eth0/delay_first_probe_time"), "1");
    }
    let end = Instant::now() + Duration::from_secs(16);
    while Instant::now() < end {
        for address in addresses("n1") {
            assert!(
                udp_reaches(&lab, "n2", "n1", SocketAddr::new(address, 0), Duration::from_secs(1)),
                "{address} ({neighbour:?})"
            );
        }
        assert_cut(&lab, &[Kind::Udp], "n1", "n2");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Broadcasts an ARP announcement of an address in VLAN 7.
fn announce_in_vlan(device: &str, address: IpAddr) {
    let IpAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    let [mac, other] = [[2, 0, 0, 7, 7, 7], [0; 6]];
    let tag = [0x81, 0, 0, 7];
    let kinds = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let ends = [&mac[..], &address.octets(), &other, &address.octets()].concat();
    let frame = [&[0xff; 6][..], &mac, &tag, &kinds, &ends, &[0; 18]].concat();
    let name = std::ffi::CString::new(device).unwrap();
    // SAFETY: a string that ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async { PacketSocket::open(0x8100).unwrap().send(index, &frame).unwrap() });
}

/// Runs a command in a node's namespace.
fn run_in(lab: &Lab, node: &str, program: &str, arguments: &[&str]) {
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", &lab.netns(node), program])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until the daemon has noticed something, as its timeline shows it.
fn wait_for_news(daemon: &Daemon, what: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let timeline = daemon.cli(&["timeline"]);
        let text = String::from_utf8_lossy(&timeline.stdout).into_owned();
        if text.contains(what) {
            return;
        }
        assert!(Instant::now() < end, "no \"{what}\" in {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `with` believes nothing of a command whose cut could be bypassed.
#[test]
#[needs(root, tcx)]
fn with_fails_if_its_cut_was_not_in_force() {
    use live::foreign::{Foreign, Position};
    let lab = Lab::new(2);
    let daemon = Daemon::start(&one_hook(&lab, "auto"));
    assert_flows(&lab, &[Kind::Icmp], "n1", "n2");
    let whole = daemon.cli(&["with", "isolate", "n1", "--", "sleep", "0.3"]);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let ahead = Foreign::attach(&lab, "n1", Position::First);
    let bypassed = daemon.cli(&["with", "isolate", "n1", "--", "sleep", "0.3"]);
    drop(ahead);
    assert_eq!(bypassed.status.code(), Some(125), "{bypassed:?}");
    let said = String::from_utf8_lossy(&bypassed.stderr).into_owned();
    assert!(said.contains("was not in force until the command ended"), "{said}");
}

/// A record says of no cut that it was in force before the hooks were read after its heal.
#[test]
#[needs(root, tcx)]
fn a_program_that_is_placed_ahead_just_before_the_heal_is_in_the_first_record() {
    use live::foreign::{Foreign, Position};
    let lab = Lab::new(2);
    let daemon = Daemon::start(&one_hook(&lab, "auto"));
    for round in 0..5 {
        let name = format!("p{round}");
        daemon.apply(&name, &isolate("n1", LONG));
        let ahead = Foreign::attach(&lab, "n1", Position::First);
        daemon.heal(&name);
        let record = daemon.record_now(&name);
        drop(ahead);
        assert!(!record.links.is_empty());
        for link in &record.links {
            assert_ne!(link.in_force, Some(InForce::Yes), "{link:#?}");
            assert!(!link.bypassed.is_empty() || link.hooks_unread, "{link:#?}");
        }
    }
}

/// Where it is not known whether a cut was in force, `with` believes the command, unless it is to be strict.
#[test]
#[needs(root)]
fn with_fails_if_it_is_strict_and_nobody_knows_whether_its_cut_was_in_force() {
    let (_lab, daemon) = live::up_with_unknown_coverage();
    for (more, expected) in [(&[][..], 0), (&["--strict"][..], 125)] {
        let arguments = [&["with", "isolate", "n1"][..], more, &["--", "sleep", "0.3"][..]].concat();
        let output = daemon.cli(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(expected), "{more:?}: {said}");
        let is_told = said.contains("it is not known whether packets of");
        assert_eq!(is_told, expected == 125, "{more:?}: {said}");
    }
}

/// Only the sender's interface is hooked: nothing else would hide what bypasses it.
fn one_hook(lab: &Lab, hook: &str) -> String {
    let config = lab.config(AttachPoint::OwnNic, hook);
    let (peers, _) = config.split_once("interfaces:").unwrap();
    format!("{peers}interfaces:\n{}", lab.interface("n1", AttachPoint::OwnNic, hook))
}

/// A cut that something bypasses while it lasts is not in force, and its record says why.
fn is_not_in_force(hook: &str, disturb: impl FnOnce(&Lab) -> Box<dyn std::any::Any>, news: &str) {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&(one_hook(&lab, hook) + "ready: { observe: 500ms }\n"));
    assert_flows(&lab, &[Kind::Icmp], "n1", "n2");
    let kept = PartitionRequest {
        traffic: Traffic { neighbour: Neighbour::Keep, ..Traffic::default() },
        ..isolate("n1", LONG)
    };
    daemon.apply("whole", &kept);
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    assert_cut(&lab, &[Kind::Udp], "n2", "n1");
    std::thread::sleep(Duration::from_millis(300));
    daemon.heal("whole");
    let record = daemon.record_now("whole");
    assert!(record.proved, "{record:#?}");
    assert!(record.links.iter().all(|link| link.in_force == Some(InForce::Yes)), "{record:#?}");

    daemon.apply("p", &kept);
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    let guard = disturb(&lab);
    wait_for_news(&daemon, news);
    daemon.heal("p");
    drop(guard);
    let record = daemon.record("p");
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed), "{record:#?}");
    assert!(!record.proved);
    assert!(record.links.iter().all(|link| link.in_force == Some(InForce::No)), "{record:#?}");
    let reason = record.outcome_reason.unwrap();
    assert!(reason.contains("not in force"), "{reason}");
}

#[test]
#[needs(root, tcx)]
fn a_program_that_comes_before_ours_during_a_cut_is_noticed() {
    use live::foreign::{Foreign, Position};
    let attach =
        |lab: &Lab| -> Box<dyn std::any::Any> { Box::new(Foreign::attach(lab, "n1", Position::First)) };
    is_not_in_force("auto", attach, "runs before our program");
}

#[test]
#[needs(root)]
fn a_program_on_xdp_that_comes_during_a_cut_is_noticed() {
    use live::foreign::Foreign;
    let attach = |lab: &Lab| -> Box<dyn std::any::Any> { Box::new(Foreign::attach_to_xdp(lab, "n1")) };
    is_not_in_force("auto", attach, "XDP foreign");
}

#[test]
#[needs(root, tcx)]
fn a_program_that_comes_and_goes_between_two_looks_is_noticed() {
    use live::foreign::{Foreign, Position};
    let flicker = |lab: &Lab| -> Box<dyn std::any::Any> {
        drop(Foreign::attach(lab, "n1", Position::First));
        Box::new(())
    };
    // Or it is seen while it is there.
    is_not_in_force("auto", flicker, "before our");
}

#[test]
#[needs(root, program = "nft")]
fn a_chain_of_nftables_on_the_egress_is_noticed() {
    let add = |lab: &Lab| -> Box<dyn std::any::Any> {
        run_in(lab, "n1", "nft", &["add", "table", "netdev", "t"]);
        let chain = "{ type filter hook egress device \"eth0\" priority 0; }";
        run_in(lab, "n1", "nft", &["add", "chain", "netdev", "t", "c", chain]);
        Box::new(())
    };
    is_not_in_force("auto", add, "nftables chain netdev t c");
}

#[test]
#[needs(root, program = "nft")]
fn a_chain_of_nftables_that_comes_and_goes_between_two_looks_is_noticed() {
    const OVER: &str = "nothing runs before our programs any more";
    let lab = Lab::new(2);
    let daemon = Daemon::start(&one_hook(&lab, "auto"));
    daemon.apply("p", &isolate("n1", LONG));
    std::thread::sleep(Duration::from_millis(300));
    // One look may meet it by chance, and not all do.
    for number in 0..6 {
        let chain = format!(
            "nft add table netdev t; \
             nft 'add chain netdev t c{number} {{ type filter hook egress device \"eth0\" priority 0; }}'; \
             nft delete table netdev t"
        );
        run_in(&lab, "n1", "sh", &["-c", &chain]);
        // Each is a time of its own in the record once a look has found that nothing is left of the one before.
        until(&format!("c{number} has come and gone"), || {
            let timeline = String::from_utf8(daemon.cli(&["timeline"]).stdout).unwrap();
            let has_come = timeline.contains(&format!("nftables chain netdev t c{number} runs before"));
            (has_come && timeline.matches(OVER).count() > number).then_some(())
        });
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    for link in &record.links {
        assert_eq!(link.in_force, Some(InForce::No), "{link:#?}");
        assert_eq!(link.bypassed.len(), 6, "{link:#?}");
        assert!(link.bypassed.iter().all(|bypass| bypass.time.until_ns.is_some()), "{link:#?}");
    }
}

#[test]
#[needs(root)]
fn our_program_that_another_detaches_is_attached_again() {
    let remove = |lab: &Lab| -> Box<dyn std::any::Any> {
        run_in(lab, "n1", "tc", &["qdisc", "del", "dev", "eth0", "clsact"]);
        Box::new(())
    };
    is_not_in_force("clsact", remove, "attached");
}

/// While nothing is cut nobody reads the hooks, except for `status`: what it shows is mended too.
#[test]
#[needs(root)]
fn a_program_that_status_misses_is_attached_again() {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "clsact"));
    run_in(&lab, "n1", "tc", &["qdisc", "del", "dev", "eth0", "clsact"]);
    let _ = daemon.status();
    until("it is told", || {
        let timeline = String::from_utf8(daemon.cli(&["timeline"]).stdout).unwrap();
        let lost = timeline.find("lost: ")?;
        timeline[lost..].contains("attached").then_some(())
    });
    until("it is attached", || {
        let attachments = daemon.status().attachments;
        attachments.iter().all(|attachment| !attachment.why.contains("no longer")).then_some(())
    });
    daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
}
