//! Rules of NAT between peers, on real devices: what gives packets other addresses than hooks see leaves no link covered, and what
//! engines of containers write on each host puts none in doubt. Needs root.

#[path = "support/covered.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod covered;
#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use covered::{peers, refused, states};
use host_lab::HostLab;
use injector::netlink::nat;
use injector_core::api::{CoverageState, InForce, PartitionRequest, VerdictOptions};
use injector_lab::needs;
use injector_lab::skip;
use live::daemon::{Daemon, links};
use live::lab::Lab;

const LONG: Duration = Duration::from_mins(9);

/// Starts a daemon with hooks in these nodes.
fn hooked(lab: &HostLab, nodes: &[&str]) -> Daemon {
    let peers =
        [("n1", 1), ("n2", 2)].map(|(name, host)| format!("{name}: {{ addresses: [{}] }}", lab.ipv4(host)));
    let lines: Vec<String> = nodes.iter().map(|node| nic(lab, node)).collect();
    lab.daemon_on(&peers.join(", "), &format!("[{}]", lines.join(", ")))
}

fn nic(lab: &HostLab, node: &str) -> String {
    format!("{{ name: eth0, netns: {} }}", lab.netns(node))
}

fn both_ways() -> PartitionRequest {
    links(&[("n1", "n2"), ("n2", "n1")], LONG)
}

fn uncovered_all_the_same() -> PartitionRequest {
    let verdict = VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() };
    PartitionRequest { verdict, ..both_ways() }
}

fn nft(lab: &HostLab, commands: &str) {
    lab.run("h", "nft", &[commands]);
}

/// Waits until both links are covered so far.
fn wait_for_state(daemon: &Daemon, state: &str) {
    let wanted = [format!("n1→n2 {state}"), format!("n2→n1 {state}")];
    let end = Instant::now() + host_lab::PATIENCE;
    while states(daemon, &both_ways()) != wanted {
        let found = states(daemon, &both_ways());
        assert!(Instant::now() < end, "never {state}: {found:?}\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many of five datagrams from n1 to an address arrive at n2.
fn served(lab: &HostLab, to: IpAddr, hoped: usize) -> usize {
    let bound = |node: &str, host: u8| {
        let at = (lab.ipv4(host), 0);
        lab.within(node, || UdpSocket::bind(at)).unwrap()
    };
    let (sender, receiver) = (bound("n1", 1), bound("n2", 2));
    let port = receiver.local_addr().unwrap().port();
    for _ in 0..5 {
        sender.send_to(b"service", (to, port)).unwrap();
    }
    let take = |patience: Duration, enough: usize| {
        receiver.set_read_timeout(Some(patience)).unwrap();
        (0..enough).take_while(|_| receiver.recv(&mut [0; 16]).is_ok()).count()
    };
    take(host_lab::PATIENCE, hoped) + take(Duration::from_millis(100), 5)
}

#[test]
#[needs(root, program = "nft")]
fn a_service_address_that_the_host_translates_beyond_the_only_hook() {
    let lab = HostLab::routed_pair();
    let nft = |commands: &str| nft(&lab, commands);
    let (service, n2) = (lab.ipv4(9), lab.ipv4(2));
    let rule = format!("add rule ip s pre ip daddr {service} dnat to {n2}");
    let daemon = hooked(&lab, &["n1"]);
    wait_for_state(&daemon, "covered");
    nft(&format!("add table ip s; add chain ip s pre {{ type nat hook prerouting priority -100; }}; {rule}"));
    wait_for_state(&daemon, "partly");
    let problem = refused(&daemon, &both_ways());
    let says = format!(
        "chain ip s pre of nftables in the daemon's own network namespace sends packets on to {n2} of n2"
    );
    assert!(problem.detail.contains(&says), "{problem}");
    assert!(problem.remedy.as_ref().unwrap().contains(&nic(&lab, "n2")), "{problem}");
    // It is true: the only hook sees the address of the service.
    daemon.apply("p", &uncovered_all_the_same());
    assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", n2), 5, 0), 0);
    assert_eq!(served(&lab, service, 5), 5);
    daemon.heal("p");
    let record = daemon.record_now("p");
    for link in &record.links {
        let coverage = link.coverage.as_ref().unwrap();
        assert_eq!((coverage.state, link.left_out), (CoverageState::Partly, true), "{link:#?}");
        assert!(coverage.reason.as_ref().unwrap().contains(&says), "{link:#?}");
    }
    nft("flush chain ip s pre");
    wait_for_state(&daemon, "covered");
    nft("add map ip s m { type ipv4_addr : ipv4_addr; }; add rule ip s pre dnat to ip daddr map @m");
    wait_for_state(&daemon, "unknown");
    nft(&format!("flush chain ip s pre; {rule}"));
    wait_for_state(&daemon, "partly");
    drop(daemon);

    let daemon = hooked(&lab, &["n1", "n2"]);
    assert_eq!(states(&daemon, &both_ways()), ["n1→n2 covered", "n2→n1 covered"]);
    assert_eq!(served(&lab, service, 5), 5);
    daemon.apply("p", &both_ways());
    assert_eq!(served(&lab, service, 0), 0);
    daemon.heal("p");
    assert_eq!(served(&lab, service, 5), 5);
}

/// As the rules of Docker and Kubernetes are: in a chain of their own, written by `iptables`.
#[test]
#[needs(root, program = "iptables-nft")]
fn a_service_address_that_iptables_translates_beyond_the_only_hook() {
    let lab = HostLab::routed_pair();
    let (service, n2) = (lab.ipv4(9).to_string(), lab.ipv4(2).to_string());
    let iptables = |words: &[&str]| lab.run("h", "iptables-nft", &[&["-t", "nat"][..], words].concat());
    iptables(&["-N", "SERVICES"]);
    iptables(&["-A", "PREROUTING", "-j", "SERVICES"]);
    let own = ["-A", "OUTPUT", "-d", &service, "-j", "DNAT", "--to-destination", &n2];
    iptables(&own);
    let daemon = hooked(&lab, &["n1"]);
    wait_for_state(&daemon, "covered");
    let to = format!("{n2}:80");
    iptables(&["-A", "SERVICES", "-d", &service, "-p", "tcp", "-j", "DNAT", "--to-destination", &to]);
    wait_for_state(&daemon, "partly");
    let problem = refused(&daemon, &both_ways());
    assert!(problem.detail.contains("chain ip nat SERVICES of nftables in"), "{problem}");
    drop(daemon);
    // A rule that was there before the daemon.
    let daemon = hooked(&lab, &["n1"]);
    assert_eq!(states(&daemon, &both_ways()), ["n1→n2 partly", "n2→n1 partly"]);
}

/// Sources of packets that the host passes on to n2.
#[test]
#[needs(root, program = "nft")]
fn a_source_that_the_host_replaces_before_the_only_hook() {
    let lab = HostLab::routed_pair();
    let (n1, n2) = (lab.ipv4(1), lab.ipv4(2));
    let daemon = hooked(&lab, &["n2"]);
    wait_for_state(&daemon, "covered");
    nft(
        &lab,
        &format!(
            "add table ip s; add chain ip s post {{ type nat hook postrouting priority 100; }}; \
             add rule ip s post ip saddr {n1} masquerade"
        ),
    );
    wait_for_state(&daemon, "partly");
    let problem = refused(&daemon, &both_ways());
    let says = "chain ip s post of nftables in the daemon's own network namespace replaces the source of packets from n1";
    assert!(problem.detail.contains(says), "{problem}");
    assert!(problem.remedy.as_ref().unwrap().contains(&nic(&lab, "n1")), "{problem}");
    // It is true: the only hook sees an address of the host.
    daemon.apply("p", &uncovered_all_the_same());
    assert_eq!(served(&lab, n2, 5), 5);
    drop(daemon);
    for nodes in [&["n1"][..], &["n1", "n2"]] {
        let daemon = hooked(&lab, nodes);
        assert_eq!(states(&daemon, &both_ways()), ["n1→n2 covered", "n2→n1 covered"], "{nodes:?}");
        daemon.apply("p", &both_ways());
        assert_eq!(served(&lab, n2, 0), 0, "{nodes:?}");
    }
}

#[test]
#[needs(root, program = "nft")]
fn packets_with_both_addresses_replaced_are_no_drops_of_the_link() {
    let lab = HostLab::routed_pair();
    let (service, n1, n2) = (lab.ipv4(9), lab.ipv4(1), lab.ipv4(2));
    nft(
        &lab,
        &format!(
            "add table ip s; add chain ip s pre {{ type nat hook prerouting priority -100; }}; \
             add rule ip s pre ip daddr {service} dnat to {n2}; \
             add chain ip s post {{ type nat hook postrouting priority 100; }}; \
             add rule ip s post ip saddr {n1} masquerade"
        ),
    );
    let daemon = hooked(&lab, &["n1", "n2"]);
    assert_eq!(states(&daemon, &both_ways()), ["n1→n2 unknown", "n2→n1 unknown"]);
    let view = daemon.apply("p", &both_ways());
    assert!(view.warnings.iter().any(|warning| warning.text.contains("rules of NAT")), "{:?}", view.warnings);
    // Those by the peers' own addresses are dropped, and the others pass.
    for ends in [("n1", "n2"), ("n2", "n1")] {
        let host = |node| if node == "n1" { (node, n1) } else { (node, n2) };
        assert_eq!(lab.delivered(host(ends.0), host(ends.1), 5, 0), 0);
    }
    assert_eq!(served(&lab, service, 5), 5);
    daemon.heal("p");
    let record = daemon.record_now("p");
    for link in &record.links {
        let coverage = link.coverage.as_ref().unwrap();
        assert!(link.dropped_packets >= Some(5) && coverage.is_translated, "{link:#?}");
        assert_eq!((link.in_force, link.proved), (Some(InForce::Unknown), false), "{link:#?}");
        assert!(coverage.reason.as_ref().unwrap().contains("chain ip s pre"), "{link:#?}");
    }
    // Cut off from the world too, n1 does not reach the service.
    let world = links(&[("n1", "n2"), ("n2", "n1"), ("n1", "world"), ("world", "n1")], LONG);
    assert!(states(&daemon, &world).iter().all(|state| state.ends_with(" covered")));
    daemon.apply("q", &world);
    assert_eq!(served(&lab, service, 0), 0);
    daemon.heal("q");
    assert_eq!(served(&lab, service, 5), 5);
    let record = daemon.record_now("q");
    let link = record.links.iter().find(|link| link.src == "n1" && link.dst == "n2").unwrap();
    assert_eq!(link.coverage.as_ref().unwrap().state, CoverageState::Covered, "{link:#?}");
}

/// As podman does for a published port: what depends on a mark is not followed, and the connection is found all the same.
#[test]
#[needs(root, program = "nft")]
fn a_connection_that_is_translated_at_both_ends_is_seen_to_cross() {
    let lab = HostLab::routed_pair();
    let (service, n1, n2) = (lab.ipv4(9), lab.ipv4(1), lab.ipv4(2));
    nft(
        &lab,
        &format!(
            "add table ip s; add chain ip s setmark; add rule ip s setmark meta mark set meta mark | 0x2000; \
             add chain ip s pre {{ type nat hook prerouting priority -100; }}; \
             add rule ip s pre ip saddr {n1} jump setmark; add rule ip s pre ip daddr {service} dnat to {n2}; \
             add chain ip s post {{ type nat hook postrouting priority 100; }}; \
             add rule ip s post meta mark & 0x2000 == 0x2000 masquerade"
        ),
    );
    let daemon = hooked(&lab, &["n1", "n2"]);
    assert_eq!(states(&daemon, &both_ways()), ["n1→n2 covered", "n2→n1 covered"]);
    let listener = lab.within("n2", || TcpListener::bind((n2, 0)).unwrap());
    let at = (service, listener.local_addr().unwrap().port()).into();
    let mut sender = lab.within("n1", || TcpStream::connect_timeout(&at, host_lab::PATIENCE).unwrap());
    let (_receiver, from) = listener.accept().unwrap();
    assert_ne!(from.ip(), n1, "the source is replaced");
    daemon.apply("p", &both_ways());
    let crossed = || {
        let record = daemon.record_now("p");
        record.links.iter().find(|link| link.src == "n1").unwrap().crossed_bytes
    };
    let end = Instant::now() + host_lab::PATIENCE;
    while crossed().unwrap_or(0) == 0 {
        assert!(Instant::now() < end, "{:#?}\n{}", daemon.record_now("p"), daemon.log());
        sender.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    // A drop by the peers' own addresses would prove the cut.
    assert_eq!(lab.delivered(("n1", n1), ("n2", n2), 5, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let link = record.links.iter().find(|link| link.src == "n1").unwrap();
    assert!(link.dropped_packets >= Some(5), "{link:#?}");
    assert_eq!((link.in_force, link.proved), (Some(InForce::No), false), "{link:#?}");
    let coverage = link.coverage.as_ref().unwrap();
    assert_eq!((coverage.state, coverage.is_translated), (CoverageState::Covered, false));
    let told = coverage.reason.as_ref().unwrap();
    assert!(told.contains("chain ip s pre") && told.contains("chain ip s post"), "{told}");
}

/// Rules that write addresses without NAT, so that no hook sees both peers: no drop by their own addresses proves the cut.
#[test]
#[needs(root, program = "nft")]
fn addresses_that_are_written_without_nat() {
    let lab = HostLab::routed_pair();
    let (service, other, n1, n2) = (lab.ipv4(9), lab.ipv4(8), lab.ipv4(1), lab.ipv4(2));
    let nft = |commands: &str| nft(&lab, commands);
    nft("add table inet t; add chain inet t pre { type filter hook prerouting priority -300; }; \
         add rule inet t pre ip ttl set 60; add rule inet t pre ip dscp set 1; add rule inet t pre ip6 hoplimit set 60; \
         add table netdev d; add chain netdev d in { type filter hook ingress device h1 priority 0; }");
    let daemon = hooked(&lab, &["n1", "n2"]);
    wait_for_state(&daemon, "covered");
    let there = format!("ip daddr {service} ip daddr set {n2}");
    nft(&format!("add rule netdev d in {there}"));
    wait_for_state(&daemon, "unknown");
    nft("flush chain netdev d in");
    wait_for_state(&daemon, "covered");
    nft(&format!(
        "add table ip m; add chain ip m pre {{ type filter hook prerouting priority -300; }}; \
         add chain ip m post {{ type filter hook postrouting priority 300; }}; \
         add rule ip m pre {there}; \
         add rule ip m post ip saddr {n1} ip daddr {n2} ip saddr set {other}"
    ));
    wait_for_state(&daemon, "unknown");
    daemon.apply("p", &both_ways());
    for ends in [[("n1", n1), ("n2", n2)], [("n2", n2), ("n1", n1)]] {
        assert_eq!(lab.delivered(ends[0], ends[1], 5, 0), 0);
    }
    assert_eq!(served(&lab, service, 5), 5, "it is true");
    daemon.heal("p");
    let says = "of nftables in the daemon's own network namespace writes other addresses into packets";
    let record = daemon.record_now("p");
    for link in &record.links {
        let coverage = link.coverage.as_ref().unwrap();
        assert!(coverage.is_translated && link.dropped_packets >= Some(5), "{link:#?}");
        assert!(coverage.reason.as_ref().unwrap().contains(says), "{link:#?}");
        assert_eq!((link.in_force, link.proved), (Some(InForce::Unknown), false), "{link:#?}");
    }
    let world = links(&[("n1", "n2"), ("n2", "n1"), ("n1", "world"), ("world", "n1")], LONG);
    assert!(states(&daemon, &world).iter().all(|state| state.ends_with(" covered")));
    daemon.apply("q", &world);
    assert_eq!(served(&lab, service, 0), 0, "cut off from the world too, it does not get there");
}

/// Datagrams, and connections that are over before they are read: their sockets say nothing.
#[test]
#[needs(root, program = "nft")]
fn flows_that_are_translated_at_both_ends_are_seen_to_cross() {
    let lab = HostLab::routed_pair();
    let (service, n1, n2) = (lab.ipv4(9), lab.ipv4(1), lab.ipv4(2));
    // As kube-proxy's: the destination is looked up, and the source is replaced of what has another destination.
    nft(
        &lab,
        &format!(
            "add table ip s; add chain ip s svc; add rule ip s svc dnat to {n2}; \
             add chain ip s pre {{ type nat hook prerouting priority -100; }}; \
             add rule ip s pre ip daddr vmap {{ {service} : jump svc }}; \
             add chain ip s post {{ type nat hook postrouting priority 100; }}; \
             add rule ip s post ct status dnat masquerade"
        ),
    );
    let daemon = hooked(&lab, &["n1", "n2"]);
    let listener = lab.within("n2", || TcpListener::bind((n2, 0)).unwrap());
    let at = (service, listener.local_addr().unwrap().port()).into();
    let [sender, receiver] = [("n1", n1), ("n2", n2)].map(|(node, own)| {
        let socket = lab.within(node, || UdpSocket::bind((own, 0))).unwrap();
        socket.set_read_timeout(Some(host_lab::PATIENCE)).unwrap();
        socket
    });
    let port = receiver.local_addr().unwrap().port();
    let send = || {
        sender.send_to(b"old", (service, port)).unwrap();
        receiver.recv_from(&mut [0; 16]).unwrap().1
    };
    let from = send();
    assert_ne!(from.ip(), n1, "the source is replaced");
    let talk = || {
        let mut client = lab.within("n1", || TcpStream::connect_timeout(&at, host_lab::PATIENCE).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"ask").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
    };
    // Each in a partition of its own: nothing, an old flow, and connections made during the cut.
    let cut = |name: &str, during: &dyn Fn()| {
        daemon.apply(name, &both_ways());
        let end = Instant::now() + host_lab::PATIENCE;
        while daemon.record_now(name).links[0].crossed_flows.is_none() {
            assert!(Instant::now() < end, "{:#?}\n{}", daemon.record_now(name), daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        for ends in [("n1", n1, "n2", n2), ("n2", n2, "n1", n1)] {
            assert_eq!(lab.delivered((ends.0, ends.1), (ends.2, ends.3), 5, 0), 0);
        }
        during();
        daemon.heal(name);
        let record = daemon.record_now(name);
        ["n1", "n2"].map(|src| record.links.iter().find(|link| link.src == src).unwrap().clone())
    };
    let crossed = |name: &str, is_both: bool| {
        let seen = |src: &str| {
            let record = daemon.record_now(name);
            record.links.iter().find(|link| link.src == src).unwrap().crossed_flows > Some(0)
        };
        seen("n1") && (!is_both || seen("n2"))
    };
    let idle = cut("idle", &|| std::thread::sleep(Duration::from_secs(4)));
    for link in &idle {
        assert_eq!(link.crossed_flows, Some(0), "{link:#?}");
        assert_eq!((link.in_force, link.proved), (Some(InForce::Yes), true), "{link:#?}");
    }
    let until = |name: &str, is_both: bool, act: &dyn Fn()| {
        let end = Instant::now() + host_lab::PATIENCE;
        while !crossed(name, is_both) {
            assert!(Instant::now() < end, "{:#?}\n{}", daemon.record_now(name), daemon.log());
            act();
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let [there, _] = cut("old", &|| {
        until("old", false, &|| {
            send();
        });
    });
    assert_eq!((there.in_force, there.proved), (Some(InForce::No), false), "{there:#?}");
    for link in cut("short", &|| until("short", true, &talk)) {
        assert_eq!((link.in_force, link.proved), (Some(InForce::No), false), "{link:#?}");
    }
    let shown = String::from_utf8(daemon.cli(&["wait", "short", "--timeout", "1s"]).stdout).unwrap();
    assert!(shown.contains("carried packets during the cut"), "{shown}");
}

/// As podman and Docker write them for their networks.
#[test]
#[needs(root, program = "nft")]
fn rules_that_each_host_of_containers_has_put_no_link_in_doubt() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let net = lab.ipv4(0);
    nft(
        &lab,
        &format!(
            "add table inet netavark; add chain inet netavark POSTROUTING {{ type nat hook postrouting priority 100; }}; \
             add chain inet netavark nv; \
             add rule inet netavark POSTROUTING meta mark & 0x2000 == 0x2000 masquerade; \
             add rule inet netavark POSTROUTING ip saddr {net}/24 jump nv; \
             add rule inet netavark nv ip daddr {net}/24 accept; \
             add rule inet netavark nv ip daddr != 224.0.0.0/4 masquerade; \
             add table ip nat; add chain ip nat POSTROUTING {{ type nat hook postrouting priority 100; }}; \
             add rule ip nat POSTROUTING ip saddr {net}/24 oifname != \"br0\" masquerade; \
             add rule ip nat POSTROUTING ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade"
        ),
    );
    let all = peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]);
    let every = [("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1"), ("n2", "n3"), ("n3", "n2")];
    for (interfaces, links_of) in
        [("[{ name: h1 }]", &every[..4]), ("[{ name: h1 }, { name: h2 }, { name: h3 }]", &every[..])]
    {
        let daemon = lab.daemon_on(&all, interfaces);
        let request = links(links_of, LONG);
        let wanted = |state: &String| state.ends_with(" covered") || state.ends_with(" partly");
        let found = states(&daemon, &request);
        // `partly` by frames to groups alone, where a receiver has no hook.
        assert!(found.iter().all(wanted), "{interfaces}: {found:?}");
        let (_, view) =
            daemon.raw("PUT", "/v1/partitions/dry?dry_run=true", &serde_json::to_vec(&request).unwrap());
        assert!(!view.to_string().contains("nftables"), "{view}");
    }
}

/// Published on the one network that is hooked.
#[test]
#[needs(root, program = "nft")]
fn a_published_port_of_a_peer_in_two_networks() {
    let lab = HostLab::routed_pair();
    let (service, n2, other) = (lab.ipv4(9), lab.ipv4(2), lab.ipv4(12));
    lab.cable("n2", "q2", "eth1");
    lab.ip("n2", &format!("address add {other}/32 dev eth1"));
    lab.ip("h", &format!("route replace {other}/32 dev q2"));
    nft(
        &lab,
        &format!(
            "add table ip s; add chain ip s pre {{ type nat hook prerouting priority -100; }}; \
             add rule ip s pre ip daddr {service} dnat to {n2}"
        ),
    );
    let daemon = hooked(&lab, &["n1", "n2"]);
    wait_for_state(&daemon, "covered");
    daemon.apply("p", &both_ways());
    assert_eq!(served(&lab, service, 0), 0, "it arrives by the hooked device");
    daemon.heal("p");
    nft(&lab, &format!("flush chain ip s pre; add rule ip s pre ip daddr {service} dnat to {other}"));
    let end = Instant::now() + host_lab::PATIENCE;
    while !states(&daemon, &both_ways()).contains(&"n1→n2 partly".to_owned()) {
        assert!(Instant::now() < end, "{:?}", states(&daemon, &both_ways()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[needs(root, program = "iptables-nft")]
fn a_network_that_iptables_translates_to_that_of_a_peer() {
    let lab = HostLab::routed_pair();
    let (service, n2) = (lab.ipv4(9).to_string(), lab.ipv4(2).to_string());
    let daemon = hooked(&lab, &["n1"]);
    wait_for_state(&daemon, "covered");
    let rule = ["-t", "nat", "-A", "PREROUTING", "-d", &service, "-j", "NETMAP", "--to", &n2];
    lab.run("h", "iptables-nft", &rule);
    wait_for_state(&daemon, "partly");
    daemon.apply("p", &uncovered_all_the_same());
    assert_eq!(served(&lab, lab.ipv4(9), 5), 5);
}

#[test]
#[needs(root, program = "iptables-legacy")]
fn rules_of_iptables_legacy_are_said_to_be_there() {
    const NAME: &str = "rules_of_iptables_legacy_are_said_to_be_there";
    let lab = HostLab::routed_pair();
    let (service, n2) = (lab.ipv4(9).to_string(), lab.ipv4(2).to_string());
    let listed = lab.command("h", "iptables-legacy").args(["-t", "nat", "-S"]).output().unwrap();
    if !listed.status.success() {
        return skip(NAME, "this kernel has no tables of iptables-legacy");
    }
    // To list the table is to make it.
    let daemon = hooked(&lab, &["n1"]);
    wait_for_state(&daemon, "covered");
    drop(daemon);
    let rule = ["-t", "nat", "-A", "PREROUTING", "-d", &service, "-j", "DNAT", "--to-destination", &n2];
    lab.run("h", "iptables-legacy", &rule);
    let daemon = hooked(&lab, &["n1"]);
    wait_for_state(&daemon, "unknown");
    let request = serde_json::to_vec(&both_ways()).unwrap();
    let (_, view) = daemon.raw("PUT", "/v1/partitions/dry?dry_run=true", &request);
    assert!(view.to_string().contains("iptables-legacy has rules of NAT"), "{view}");
    daemon.apply("p", &both_ways());
    assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 5, 0), 0);
    assert_eq!(served(&lab, lab.ipv4(9), 5), 5, "it is true");
    daemon.heal("p");
    let record = daemon.record_now("p");
    assert!(
        record.links.iter().all(|link| link.in_force != Some(InForce::Yes) && !link.proved),
        "{record:#?}"
    );
    drop(daemon);
    let daemon = hooked(&lab, &["n1", "n2"]);
    assert_eq!(states(&daemon, &both_ways()), ["n1→n2 covered", "n2→n1 covered"]);
}

/// Rules before them come and go while the list is read, so that they move in it.
#[test]
#[needs(root, program = "nft")]
fn no_rule_is_overlooked_while_others_come_and_go() {
    const RULES: u16 = 500;
    let mut lab = Lab::new(1);
    lab.add("h");
    let mut rules = "add table ip s\nadd chain ip s a { type nat hook prerouting priority -101; }\n\
         add chain ip s b { type nat hook prerouting priority -100; }\n"
        .to_owned();
    for port in 1..=RULES {
        writeln!(rules, "add rule ip s b tcp dport {port} dnat to 192.0.2.1").unwrap();
    }
    let file = lab.folder().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    lab.run("h", "nft", &["-f", file.to_str().unwrap()]);
    let is_whole =
        |(kept, unread): &&(usize, Option<String>)| *kept == usize::from(RULES) && unread.is_none();
    let is_over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            let more = |port| format!("add rule ip s a tcp dport {port} dnat to 192.0.2.2\n");
            let more: String = (1..=40).map(more).collect();
            while !is_over.load(Ordering::Relaxed) {
                lab.run("h", "nft", &[&more]);
                lab.run("h", "nft", &["flush chain ip s a"]);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let found = lab.within("h", || {
            let begun = Instant::now();
            let mut found = Vec::new();
            // A busy machine may take long for one that is whole.
            while begun.elapsed() < Duration::from_secs(3)
                || !found.iter().any(|read| is_whole(&read)) && begun.elapsed() < Duration::from_secs(30)
            {
                let nat = nat::read();
                let kept = nat.rules.iter().filter(|rule| rule.name == "chain ip s b of nftables").count();
                found.push((kept, nat.unread));
            }
            found
        });
        is_over.store(true, Ordering::Relaxed);
        found
    });
    let is_said = |(_, unread): &&(usize, Option<String>)| unread.is_some();
    let wrong: Vec<_> = found.iter().filter(|read| !is_whole(read) && !is_said(read)).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), found.len());
    assert!(found.iter().any(|read| is_whole(&read)), "{found:?}");
}
