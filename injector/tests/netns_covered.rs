//! Which links pass hooks on all their paths, on real devices: what is not covered is refused with the line to add.
//! Needs root.

#[path = "support/covered.rs"]
mod covered;
#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::{Duration, Instant};

use covered::{peers, process_in, refused, states};
use host_lab::HostLab;
use injector_core::api::{Code, CoverageState, NameSource, PartitionRequest, VerdictOptions, WarningCode};
use injector_core::model::PeerName;
use injector_lab::{needs, skip, until};
use live::daemon::{Daemon, isolate, links, warnings};
use live::foreign::{Foreign, Position};
use live::lab::{AttachPoint, Lab, SWITCH};

const LONG: Duration = Duration::from_mins(9);

#[test]
#[needs(root)]
fn of_three_bridge_ports_one_alone_is_hooked() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]), "[{ name: h1 }]");
    let problem = refused(&daemon, &isolate("n3", LONG));
    assert!(problem.detail.contains("n2→n3 is not covered") && problem.detail.contains("n3→n2"), "{problem}");
    // n1's other link is not cut: its frames to groups are to be dropped where n3 receives them, and no hook is there.
    assert!(problem.detail.contains("n1→n3 is partly covered: multicast"), "{problem}");
    assert!(!problem.detail.contains("n3→n1 is"), "{problem}");
    // First what, then a line for each link, then the remedies.
    let text = problem.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "nothing was cut: of 4 links, 3 would let packets pass that no hook sees", "{text}");
    assert!(lines[1..4].iter().all(|line| line.starts_with("  n") && line.contains("→")), "{text}");
    assert_eq!(lines[4], "what to do:", "{text}");
    assert!(
        lines.last().unwrap().starts_with("  or continue without these links by --allow-uncovered"),
        "{text}"
    );
    let remedy = problem.remedy.unwrap();
    assert!(remedy.contains("{ name: h2 }") && remedy.contains("{ name: h3 }"), "{remedy}");
    assert_eq!(remedy.matches("--allow-uncovered").count(), 1, "{remedy}");
    // The links of the one that is hooked are covered, and cut.
    assert!(states(&daemon, &isolate("n1", LONG)).iter().all(|state| state.ends_with(" covered")));
    let left_out = PartitionRequest {
        verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
        ..isolate("n3", LONG)
    };
    daemon.apply("p", &left_out);
    assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n3", lab.ipv4(3)), 5, 0), 0);
    assert_eq!(lab.delivered(("n2", lab.ipv4(2)), ("n3", lab.ipv4(3)), 5, 5), 5);
    daemon.heal("p");
    let record = daemon.record_now("p");
    let out: Vec<&str> =
        record.links.iter().filter(|link| link.left_out).map(|link| link.src.as_str()).collect();
    assert!(out.contains(&"n2"), "{record:#?}");
    drop(daemon);

    let all = lab.daemon_on(
        &peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]),
        "[{ name: h1 }, { name: h2 }, { name: h3 }]",
    );
    let view = all.apply("p", &isolate("n3", LONG));
    assert!(view.coverage.as_ref().unwrap().is_empty() && warnings(&view.warnings).is_empty(), "{view:#?}");
    all.heal("p");
    let record = all.record_now("p");
    for link in &record.links {
        assert_eq!(link.coverage.as_ref().unwrap().state, CoverageState::Covered, "{link:#?}");
        assert!(!link.left_out && link.uncovered.is_empty(), "{link:#?}");
    }
    let shown = all.status();
    assert!(shown.peers.values().all(|peer| peer.is_closed && peer.is_plain), "{shown:#?}");
    let ports =
        shown.peers[&PeerName("n2".to_owned())].names.iter().filter(|name| name.source == NameSource::Port);
    assert_eq!(ports.map(|name| name.name.as_str()).collect::<Vec<_>>(), ["h2"]);
    let said = String::from_utf8(all.cli(&["peers"]).stdout).unwrap();
    assert!(said.contains("eth0") && said.contains("(hooked at h2)"), "{said}");
}

#[test]
#[needs(root)]
fn a_hook_on_the_bridge_alone_sees_nothing_between_its_ports() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), "[{ name: br0 }]");
    let problem = refused(&daemon, &isolate("n1", LONG));
    assert!(problem.detail.contains("n1→n2 is not covered"), "{problem}");
}

#[test]
#[needs(root)]
fn two_peers_in_one_namespace() {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n3", "h3", 3)]);
    lab.give("n1", "eth0", 2);
    lab.add("unused");
    let daemon = lab.daemon(&peers(&lab, &[("a", 1), ("b", 2), ("n3", 3)]));
    let problem = refused(&daemon, &isolate("a", LONG));
    assert!(problem.detail.contains("a→b is not covered") && problem.detail.contains("over lo"), "{problem}");
    assert!(problem.detail.contains("n3→a is partly covered: multicast"), "{problem}");
    assert!(
        daemon.status().peers[&PeerName("a".to_owned())]
            .names
            .iter()
            .all(|name| name.source != NameSource::Port)
    );
    let both = links(&[("a", "n3"), ("b", "n3")], LONG);
    assert_eq!(states(&daemon, &both), ["a→n3 covered", "b→n3 covered"]);
}

#[test]
#[needs(root)]
fn silent_peers_are_attached_to_as_they_speak() {
    let mut lab = HostLab::new();
    lab.bridge("br0", 14);
    for (node, port, host) in [("n1", "p1", 1), ("n2", "p2", 2), ("n3", "p3", 3)] {
        lab.bridged(node, port, "br0", host);
        lab.ip(node, "link set eth0 multicast off");
        lab.sysctl(node, "ipv6/conf/eth0/disable_ipv6", "1");
    }
    let v4 = |host| lab.ipv4(host);
    assert_eq!(lab.delivered(("h", v4(14)), ("n1", v4(1)), 3, 3), 3);
    for port in ["p2", "p3"] {
        lab.ip("h", &format!("link set {port} type bridge_slave fdb_flush"));
    }
    let peers = [("n1", 1), ("n2", 2), ("n3", 3)]
        .map(|(name, host)| format!("{name}: {{ addresses: [{}] }}", v4(host)));
    let daemon = lab.daemon_without_names(&peers.join(", "));
    lab.assert_chosen(&daemon, &["p1"]);
    let problem = refused(&daemon, &links(&[("n2", "n3"), ("n3", "n2")], LONG));
    assert!(problem.detail.contains("n2→n3 is not covered"), "{problem}");
    std::thread::sleep(Duration::from_secs(1));
    // To each other alone: the host learns where their MAC addresses are, and not whose they are.
    assert_eq!(lab.delivered(("n2", v4(2)), ("n3", v4(3)), 5, 5), 5);
    lab.wait_chosen(&daemon, &["p1", "p2", "p3"]);
    daemon.apply("p", &host_lab::links("n2", "n3"));
    assert_eq!(lab.delivered(("n2", v4(2)), ("n3", v4(3)), 5, 0), 0);
    assert_eq!(lab.delivered(("n1", v4(1)), ("n3", v4(3)), 5, 5), 5);
    daemon.heal("p");
    assert_eq!(lab.delivered(("n2", v4(2)), ("n3", v4(3)), 5, 5), 5);
}

#[test]
#[needs(root)]
fn macvlan_siblings_past_the_hook_on_their_parent() {
    const NAME: &str = "macvlan_siblings_past_the_hook_on_their_parent";
    let mut lab = HostLab::new();
    lab.plug("x", "u0");
    for (node, host) in [("n1", 1), ("n2", 2)] {
        lab.add(node);
        if !lab.can("h", "link add m0 link u0 type macvlan mode bridge") {
            return skip(NAME, "this kernel makes no macvlan devices");
        }
        lab.ip("h", &format!("link set m0 netns {}", lab.netns(node)));
        lab.ip(node, "link set m0 up");
        lab.give(node, "m0", host);
    }
    let both = peers(&lab, &[("n1", 1), ("n2", 2)]);
    let daemon = lab.daemon_on(&both, "[{ name: u0 }]");
    let problem = refused(&daemon, &isolate("n1", LONG));
    assert!(problem.detail.contains("n1→n2 is not covered"), "{problem}");
    let line = format!("{{ name: m0, netns: {} }}", lab.netns("n1"));
    assert!(problem.remedy.as_ref().unwrap().contains(&line), "{problem}");
    drop(daemon);
    let daemon = lab.daemon_on(&both, &format!("[{{ name: m0, netns: {} }}]", lab.netns("n1")));
    assert_eq!(states(&daemon, &isolate("n1", LONG)), ["n1→n2 covered", "n2→n1 covered"]);
}

/// The peer's own NIC is not its alone: to say that it is would cut someone else.
#[test]
#[needs(root)]
fn a_macvlan_of_others_on_the_nic_of_a_peer() {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    lab.add("x");
    if !lab.can("n1", "link add m0 link eth0 type macvlan mode bridge") {
        return skip("a_macvlan_of_others_on_the_nic_of_a_peer", "this kernel makes no macvlan devices");
    }
    lab.ip("n1", &format!("link set m0 netns {}", lab.netns("x")));
    lab.ip("x", "link set m0 up");
    lab.give("x", "m0", 9);
    let all = peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]);
    let daemon = lab.daemon(&all);
    let problem = refused(&daemon, &isolate("n1", LONG));
    assert!(problem.detail.contains("n2→n1 is partly covered: multicast"), "{problem}");
    let remedy = problem.remedy.unwrap();
    assert!(remedy.contains("frames of others pass eth0") && !remedy.contains("say so in"), "{remedy}");
}

#[test]
#[needs(root)]
fn inner_addresses_past_the_hook_on_the_underlay() {
    const NAME: &str = "inner_addresses_past_the_hook_on_the_underlay";
    let lab = HostLab::switched(&[("n1", "h1", 11), ("n2", "h2", 12)]);
    for (node, far, host) in [("n1", 12, 1), ("n2", 11, 2)] {
        let far = lab.ipv4(far);
        if !lab.can(node, &format!("link add vx0 type vxlan id 5 dstport 4789 remote {far} dev eth0")) {
            return skip(NAME, "this kernel makes no vxlan devices");
        }
        lab.ip(node, "link set vx0 up");
        lab.ip(node, &format!("address add {}/32 dev vx0", lab.ipv4(host)));
        lab.ip(node, &format!("route add {}/32 dev vx0", lab.ipv4(3 - host)));
    }
    let peer = |name: &str, host| format!("{name}: {{ addresses: [{}] }}", lab.ipv4(host));
    let interfaces = ["n1", "n2"].map(|node| format!("{{ name: eth0, netns: {} }}", lab.netns(node)));
    let daemon =
        lab.daemon_on(&[peer("n1", 1), peer("n2", 2)].join(", "), &format!("[{}]", interfaces.join(", ")));
    let problem = refused(&daemon, &isolate("n1", LONG));
    assert!(problem.detail.contains("vx0"), "{problem}");
    assert!(problem.remedy.unwrap().contains("{ name: vx0, netns:"));
}

#[test]
#[needs(root)]
fn the_second_nic_of_a_peer() {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    lab.cable("n1", "q1", "eth1");
    lab.ip("n1", &format!("address add {}/32 dev eth1", lab.ipv4(5)));
    let n1 = format!("n1: {{ addresses: [{}, {}] }}", lab.ipv4(1), lab.ipv4(5));
    let both = format!("{n1}, {}", peers(&lab, &[("n2", 2)]));
    let eth0 = format!("{{ name: eth0, netns: {} }}", lab.netns("n1"));
    let daemon = lab.daemon_on(&both, &format!("[{eth0}]"));
    let problem = refused(&daemon, &links(&[("n2", "n1")], LONG));
    assert!(problem.detail.contains(&lab.ipv4(5).to_string()), "{problem}");
    assert!(problem.remedy.as_ref().unwrap().contains("{ name: q1 }"), "{problem}");
    drop(daemon);
    // Where it is left out on purpose, n1's own end is closed.
    let elsewhere = format!("[{eth0}]\nelsewhere: [{{ name: eth1, netns: {} }}]", lab.netns("n1"));
    let daemon = lab.daemon_on(&both, &elsewhere);
    assert_eq!(states(&daemon, &links(&[("n2", "n1")], LONG)), ["n2→n1 covered"]);
    drop(daemon);
    let daemon = lab.daemon(&both);
    lab.assert_chosen(&daemon, &["n1/eth0", "n1/eth1", "n2/eth0"]);
    lab.hide("n2");
}

#[test]
#[needs(root)]
fn one_namespace_under_two_names() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let name = lab.netns("n1");
    let twice = format!("[{{ name: eth0, netns: {name} }}, {{ name: eth0, netns: /run/netns/{name} }}]");
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), &twice);
    let attached = daemon.status().attachments;
    assert!(attached.len() == 1 && attached[0].others.is_empty(), "{attached:#?}");
    let view = daemon.apply("p", &links(&[("n1", "n2")], LONG));
    // n2 has no hooked port: what n1 sends to groups is lost for all, and that is all there is to warn of.
    let told = warnings(&view.warnings);
    assert!(told.iter().all(|warning| warning.code == WarningCode::GroupsLost), "{told:?}");
}

/// What is left out is left out, and who is behind an interface is behind it, whichever name of the namespace the config has.
#[test]
#[needs(root)]
fn devices_in_a_namespace_under_another_name() {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    lab.cable("n1", "q1", "eth1");
    lab.ip("n1", &format!("address add {}/32 dev eth1", lab.ipv4(5)));
    let (pid, name) = (process_in(&mut lab, "n1"), lab.netns("n1"));
    let n1 = format!("n1: {{ addresses: [{}, {}] }}", lab.ipv4(1), lab.ipv4(5));
    let both = format!("{n1}, {}", peers(&lab, &[("n2", 2)]));
    let to_n1 = links(&[("n2", "n1")], LONG);
    let names = [
        name.clone(),
        format!("/run/netns/{name}"),
        format!("{{ pid: {pid} }}"),
        format!("/proc/{pid}/ns/net"),
    ];
    for (attached, left_out) in names.iter().zip(names.iter().skip(1).chain(&names)) {
        let eth0 = format!("[{{ name: eth0, netns: {attached} }}]");
        let config = format!("{eth0}\nelsewhere: [{{ name: eth1, netns: {left_out} }}]");
        let daemon = lab.daemon_on(&both, &config);
        assert_eq!(states(&daemon, &to_n1), ["n2→n1 covered"], "{config}");
    }
    // Another device of that name is not left out.
    let other = lab.netns("n2");
    let other = format!("[{{ name: eth0, netns: {name} }}]\nelsewhere: [{{ name: eth1, netns: {other} }}]");
    refused(&lab.daemon_on(&both, &other), &to_n1);
    // Under auto, what is left out is not attached to.
    let auto = format!("auto\nelsewhere: [{{ name: eth1, netns: /proc/{pid}/ns/net }}]");
    lab.assert_chosen(&lab.daemon_on(&both, &auto), &["n1/eth0", "n2/eth0"]);

    let host = |number: u8| format!("{{ name: h{number}, netns: {} }}", lab.netns("h"));
    let behind = |netns: &str| {
        let (one, two) = (peers(&lab, &[("n1", 1)]), lab.ipv4(2));
        format!("{one}, n2: {{ addresses: [{two}], vm: {{ interface: {{ name: h2, netns: {netns} }} }} }}")
    };
    let file = format!("/run/netns/{}", lab.netns("h"));
    let twice = lab.daemon_on(&behind(&file), &format!("[{}]", host(2)));
    let attached = twice.status().attachments;
    assert!(attached.len() == 1 && attached[0].interface == "h2", "{attached:#?}");
    let names = &twice.status().peers[&PeerName("n2".to_owned())].names;
    assert!(names.iter().any(|name| name.source == NameSource::Port && name.name == "h2"), "{names:#?}");
    drop(twice);
    let contrary = host(2).replace(" }", ", peer: n1 }");
    let config = format!("peers: {{ {} }}\ninterfaces: [{contrary}]\n", behind(&file));
    let (_, log) = lab.within("h", || Daemon::try_start(&config).map(drop)).expect_err("it has two peers");
    assert!(log.contains("both n1 and n2 are behind it") && log.contains("keep one of the two"), "{log}");
}

/// The check knows `lo` by its name; the start knows a loopback device by what it is.
#[test]
#[needs(root)]
fn a_loopback_device_under_another_name() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    lab.ip("n1", "link set lo down");
    lab.ip("n1", "link set lo name lo9");
    lab.ip("n1", "link set lo9 up");
    let (peers, netns) = (peers(&lab, &[("n1", 1), ("n2", 2)]), lab.netns("n1"));
    let config = format!("peers: {{ {peers} }}\ninterfaces: [{{ name: lo9, netns: {netns} }}]\n");
    let (_, log) = lab.within("h", || Daemon::try_start(&config).map(drop)).expect_err("it is refused");
    assert!(
        log.contains("interface lo9 in netns") && log.contains("a loopback device can't be configured"),
        "{log}"
    );
    assert!(log.contains("listens: [2379]") && !log.contains("Ethernet header"), "{log}");
}

#[test]
#[needs(root)]
fn links_that_end_elsewhere() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let here = "auto\nhere: [n1]";
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]), here);
    let view = daemon.apply("p", &isolate("n2", LONG));
    let cut: Vec<String> =
        view.links.iter().flatten().map(|link| format!("{}→{}", link.src, link.dst)).collect();
    assert_eq!(cut, ["n1→n2", "n2→n1"]);
    let others: Vec<String> = view.not_here.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(others, ["n2→n3", "n3→n2"]);
    daemon.heal("p");
    let problem = daemon.try_apply("q", &links(&[("n2", "n3")], LONG)).unwrap_err();
    assert_eq!(problem.code, Code::NotHere, "{problem}");
}

#[test]
#[needs(root, tcx)]
fn a_program_of_others_that_may_redirect_past_a_host_end() {
    let lab = Lab::new(2);
    let peers = lab.config(AttachPoint::BridgePort, "auto");
    let peers = peers.split_once("interfaces:").unwrap().0;
    let port = lab.interface("n1", AttachPoint::BridgePort, "auto");
    let daemon = Daemon::start(&format!("{peers}interfaces:\n{port}"));
    assert_eq!(states(&daemon, &isolate("n1", LONG)), ["n1→n2 covered", "n2→n1 covered"]);
    lab.ip(SWITCH, "link add eth0 type veth peer name far0");
    let foreign = Foreign::attach(&lab, SWITCH, Position::Last);
    let problem = refused(&daemon, &isolate("n1", LONG));
    assert!(problem.detail.contains("may redirect past the hook of p-n1"), "{problem}");
    drop(foreign);
    until("it is covered again", || {
        (states(&daemon, &isolate("n1", LONG)) == ["n1→n2 covered", "n2→n1 covered"]).then_some(())
    });
    // Inside, nothing goes past it.
    let _foreign = Foreign::attach(&lab, SWITCH, Position::Last);
    let own = lab.interface("n1", AttachPoint::OwnNic, "auto");
    let inside = Daemon::start(&format!("{peers}interfaces:\n{own}"));
    assert_eq!(states(&inside, &isolate("n1", LONG)), ["n1→n2 covered", "n2→n1 covered"]);
}

/// What a program on XDP redirects to a device never passes that device's TC.
#[test]
#[needs(root)]
fn a_program_on_xdp_that_may_redirect_past_a_host_end() {
    let lab = Lab::new(2);
    let peers = lab.config(AttachPoint::BridgePort, "auto");
    let peers = peers.split_once("interfaces:").unwrap().0;
    let port = lab.interface("n1", AttachPoint::BridgePort, "auto");
    let daemon = Daemon::start(&format!("{peers}interfaces:\n{port}"));
    lab.ip(SWITCH, "link add eth0 type veth peer name far0");
    assert_eq!(states(&daemon, &isolate("n1", LONG)), ["n1→n2 covered", "n2→n1 covered"]);
    let foreign = Foreign::attach_to_xdp(&lab, SWITCH);
    let problem = refused(&daemon, &isolate("n1", LONG));
    assert!(problem.detail.contains("may redirect past the hook of p-n1"), "{problem}");
    drop(foreign);
    // A reading from before serves for a moment.
    until("it is covered again", || {
        (states(&daemon, &isolate("n1", LONG)) == ["n1→n2 covered", "n2→n1 covered"]).then_some(())
    });
}

#[test]
#[needs(root)]
fn a_route_over_a_private_cable_to_a_listed_address() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let name = |node| lab.netns(node);
    lab.ip("n1", &format!("link add v0 type veth peer name v0 netns {}", name("n2")));
    for node in ["n1", "n2"] {
        lab.ip(node, "link set v0 up");
    }
    let hooks = ["n1", "n2"].map(|node| format!("{{ name: eth0, netns: {} }}", name(node))).join(", ");
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), &format!("[{hooks}]"));
    let there = links(&[("n1", "n2")], LONG);
    assert_eq!(states(&daemon, &there), ["n1→n2 unknown"], "nothing leads over the cable");
    lab.ip("n1", &format!("route replace {}/32 dev v0 src {}", lab.ipv4(2), lab.ipv4(1)));
    let end = Instant::now() + host_lab::PATIENCE;
    while states(&daemon, &there) != ["n1→n2 partly"] {
        assert!(Instant::now() < end, "{:?}", states(&daemon, &there));
        std::thread::sleep(Duration::from_millis(20));
    }
    let problem = refused(&daemon, &there);
    assert!(problem.detail.contains(&format!("packets to {}", lab.ipv4(2))), "{problem}");
    let line = format!("{{ name: v0, netns: {} }}", name("n1"));
    assert!(problem.remedy.as_ref().unwrap().contains(&line), "{problem}");
    // It is true: they go by it, although both listed addresses are on hooked devices.
    daemon.apply(
        "p",
        &PartitionRequest {
            verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
            ..there.clone()
        },
    );
    assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 5, 5), 5);
    drop(daemon);
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), &format!("[{hooks}, {line}]"));
    assert_eq!(states(&daemon, &there), ["n1→n2 covered"]);
    daemon.apply("p", &there);
    assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 5, 0), 0);
}

#[test]
#[needs(root)]
fn a_peer_whose_nic_is_a_port_of_its_own_bridge() {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    lab.plug("n3", "h3");
    lab.ip("h", "link set h3 master br0");
    lab.ip("n3", "link add br9 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
    lab.ip("n3", "link set eth0 master br9");
    lab.ip("n3", "link set br9 up");
    lab.give("n3", "br9", 3);
    let all = peers(&lab, &[("n1", 1), ("n2", 2), ("n3", 3)]);
    let nic = |node: &str, name: &str| format!("{{ name: {name}, netns: {} }}", lab.netns(node));
    let interfaces = |third: &str| format!("[{}, {}, {third}]", nic("n1", "eth0"), nic("n2", "eth0"));
    let daemon = lab.daemon_on(&all, &interfaces(&nic("n3", "eth0")));
    let v4 = |host| lab.ipv4(host);
    assert_eq!(lab.delivered(("n1", v4(1)), ("n3", v4(3)), 3, 3), 3);
    daemon.apply("p", &isolate("n3", LONG));
    for node in [("n1", v4(1)), ("n2", v4(2))] {
        assert_eq!(lab.delivered(node, ("n3", v4(3)), 3, 0), 0);
        assert_eq!(lab.delivered(("n3", v4(3)), node, 3, 0), 0);
    }
    assert_eq!(lab.delivered(("n1", v4(1)), ("n2", v4(2)), 3, 3), 3);
    daemon.heal("p");
    let record = daemon.record_now("p");
    for link in &record.links {
        assert_eq!(link.coverage.as_ref().unwrap().state, CoverageState::Covered, "{link:#?}");
    }
    // With another port, its NIC carries frames of others too, and the bridge alone is its own.
    lab.ip("n3", "link add d0 type veth peer name d1");
    lab.ip("n3", "link set d0 master br9");
    let end = Instant::now() + host_lab::PATIENCE;
    let problem = loop {
        let isolated = serde_json::to_vec(&isolate("n3", LONG)).unwrap();
        let (_, view) = daemon.raw("PUT", "/v1/partitions/dry?dry_run=true", &isolated);
        if view.to_string().contains("partly") {
            break daemon.try_apply("q", &isolate("n3", LONG)).expect_err("it must be refused");
        }
        assert!(Instant::now() < end, "{view}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(problem.remedy.as_ref().unwrap().contains(&nic("n3", "br9")), "{problem}");
    drop(daemon);
    let both = format!("{}, {}", nic("n3", "eth0"), nic("n3", "br9"));
    let daemon = lab.daemon_on(&all, &interfaces(&both));
    let view = daemon.apply("p", &isolate("n3", LONG));
    assert!(view.coverage.as_ref().unwrap().is_empty(), "{view:#?}");
    assert_eq!(lab.delivered(("n1", v4(1)), ("n3", v4(3)), 3, 0), 0);
}

/// Every device of a router leads to somebody else: what is sent to all can be kept from it at the sender alone. The remedy is one
/// that helps.
#[test]
#[needs(root)]
fn a_router_is_cut_off_from_one_whose_links_are_all_cut() {
    let mut lab = HostLab::new();
    lab.add("r");
    lab.sysctl("r", "ipv4/ip_forward", "1");
    for host in [1, 2, 3] {
        let (node, device) = (format!("n{host}"), format!("t{host}"));
        lab.add(&node);
        Lab::cable(&lab, ("r", &device), (&node, "eth0"));
        lab.ip("r", &format!("address add 10.66.{host}.254/24 dev {device}"));
        lab.ip(&node, &format!("address add 10.66.{host}.1/24 dev eth0"));
        lab.ip(&node, &format!("route add default via 10.66.{host}.254"));
    }
    let node = |host| format!("n{host}: {{ addresses: [10.66.{host}.1] }}");
    let daemon =
        lab.daemon(&format!("r: {{ addresses: [10.66.1.254] }}, {}", [1, 2, 3].map(node).join(", ")));
    let problem = refused(&daemon, &links(&[("n1", "r"), ("r", "n1")], LONG));
    assert!(problem.detail.contains("n1→r is partly covered: multicast"), "{problem}");
    let remedy = problem.remedy.unwrap();
    assert!(remedy.contains("others are reached through r") && !remedy.contains("say so in"), "{remedy}");
    daemon.apply("p", &isolate("n1", LONG));
}
