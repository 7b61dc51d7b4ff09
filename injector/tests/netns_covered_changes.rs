//! Coverage while things change, on real devices: interfaces that come, move, are renamed or lose their hook, addresses that
//! move, and programs of others that come during a cut. Needs root.

#[path = "support/covered.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod covered;
#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use covered::{peers, process_in, states};
use host_lab::HostLab;
use injector_core::api::{
    Code, CoverageState, InForce, NameSource, PartitionRequest, VerdictOptions, WarningCode,
};
use injector_core::model::PeerName;
use injector_lab::needs;
use live::daemon::{Daemon, isolate, links};
use live::foreign::{Foreign, Position};
use live::lab::{AttachPoint, Lab, SWITCH};

const LONG: Duration = Duration::from_mins(9);

#[test]
#[needs(root)]
fn a_second_nic_that_comes_during_a_cut() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let eth0 = format!("[{{ name: eth0, netns: {} }}]", lab.netns("n1"));
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), &eth0);
    std::thread::sleep(Duration::from_secs(1));
    daemon.apply("p", &links(&[("n1", "n2")], LONG));
    assert_eq!(daemon.record_now("p").links[0].coverage.as_ref().unwrap().state, CoverageState::Covered);
    lab.cable("n1", "q1", "eth1");
    lab.ip("n1", &format!("route replace {}/32 dev eth1", lab.ipv4(2)));
    let end = Instant::now() + host_lab::PATIENCE;
    let record = loop {
        let record = daemon.record_now("p");
        if record.links[0].coverage.as_ref().unwrap().state == CoverageState::Partly {
            break record;
        }
        assert!(Instant::now() < end, "{record:#?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let gap = &record.links[0].uncovered;
    assert!(gap.len() == 1 && gap[0].interface.contains("eth1") && gap[0].time.until_ns.is_none(), "{gap:?}");
    lab.ip("h", "link delete q1");
    let ended = || daemon.record_now("p").links[0].uncovered.iter().all(|gap| gap.time.until_ns.is_some());
    while !ended() {
        assert!(Instant::now() < end, "{:#?}", daemon.record_now("p"));
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.heal("p");
    assert_eq!(daemon.record_now("p").links[0].coverage.as_ref().unwrap().state, CoverageState::Partly);
}

#[test]
#[needs(root)]
fn an_address_that_moves_to_another_peer() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let vip = lab.ipv4(9);
    lab.ip("n1", &format!("address add {vip}/28 dev eth0"));
    let n1 = format!("n1: {{ addresses: [{}, {vip}] }}", lab.ipv4(1));
    let daemon = lab.daemon(&format!("{n1}, {}", peers(&lab, &[("n2", 2)])));
    let holder = || {
        let status = daemon.status();
        let name = status.peers[&PeerName("n1".to_owned())]
            .names
            .iter()
            .find(|name| name.name == vip.to_string())
            .unwrap();
        name.from.clone()
    };
    assert_eq!(holder(), None);
    lab.ip("n1", &format!("address delete {vip}/28 dev eth0"));
    lab.ip("n2", &format!("address add {vip}/28 dev eth0"));
    let end = Instant::now() + host_lab::PATIENCE;
    while holder() != Some("held by n2 now".to_owned()) {
        assert!(Instant::now() < end, "{:#?}", daemon.status().peers);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Neither peer has lost its home or its port to the other.
    let n2 = &daemon.status().peers[&PeerName("n2".to_owned())];
    let is_shared = |from: &Option<String>| from.as_ref().is_some_and(|from| from.contains("too"));
    assert!(!n2.names.iter().any(|name| name.source == NameSource::Port && is_shared(&name.from)), "{n2:#?}");
    assert_eq!(states(&daemon, &isolate("n1", LONG)), ["n1→n2 covered", "n2→n1 covered"]);
}

/// What fails over during a cut is cut at its old holder, and not at its healthy new one.
#[test]
#[needs(root)]
fn a_listed_address_that_fails_over_during_a_cut_follows_its_holder() {
    const SENT: usize = 10;
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let vip = lab.ipv4(9);
    let n3 = ("n3", lab.ipv4(3));
    lab.ip("n1", &format!("address add {vip}/28 dev eth0"));
    let n1 = format!("n1: {{ addresses: [{}, {vip}] }}", lab.ipv4(1));
    let daemon = lab.daemon(&format!("{n1}, {}", peers(&lab, &[("n2", 2), ("n3", 3)])));
    assert_eq!(lab.delivered(n3, ("n1", vip), SENT, SENT), SENT);
    daemon.apply("p", &isolate("n1", LONG));
    assert_eq!(lab.delivered(n3, ("n1", vip), SENT, 0), 0);
    lab.ip("n1", &format!("address delete {vip}/28 dev eth0"));
    lab.ip("n2", &format!("address add {vip}/28 dev eth0"));
    // As the new holder's announcement does.
    lab.ip("n3", "neighbour flush dev eth0");
    let is_told = || {
        let names = daemon.status().peers[&PeerName("n1".to_owned())].names.clone();
        let held = Some("held by n2 now".to_owned());
        names.iter().any(|name| name.name == vip.to_string() && name.from == held)
    };
    let end = Instant::now() + host_lab::PATIENCE;
    while !is_told() {
        assert!(Instant::now() < end, "{:#?}", daemon.status().peers);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lab.delivered(n3, ("n2", vip), SENT, SENT), SENT);
    assert_eq!(lab.delivered(("n2", vip), n3, SENT, SENT), SENT);
    // The rest of n1 is still cut off, and nothing of it leaked.
    assert_eq!(lab.delivered(n3, ("n1", lab.ipv4(1)), SENT, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    assert!(record.links.iter().all(|link| link.leaked_packets == Some(0)), "{record:#?}");
}

/// An address in one peer's prefix that another peer holds is cut as the holder's, and the holder's port still names it.
#[test]
#[needs(root)]
fn an_address_of_a_prefix_that_another_peer_holds() {
    const SENT: usize = 10;
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let address = lab.ipv4(9);
    let n3 = ("n3", lab.ipv4(3));
    let n1 = format!("n1: {{ addresses: [{}, {}/30] }}", lab.ipv4(1), lab.ipv4(8));
    let daemon = lab.daemon(&format!("{n1}, {}", peers(&lab, &[("n2", 2), ("n3", 3)])));
    lab.ip("n2", &format!("address add {address}/28 dev eth0"));
    let names = |peer: &str| daemon.status().peers[&PeerName(peer.to_owned())].names.clone();
    let held = Some("held by n2 now".to_owned());
    let is_told = || names("n1").iter().any(|name| name.name == address.to_string() && name.from == held);
    let end = Instant::now() + host_lab::PATIENCE;
    while !is_told() {
        assert!(Instant::now() < end, "{:#?}", daemon.status().peers);
        std::thread::sleep(Duration::from_millis(20));
    }
    let ports: Vec<_> = names("n2").into_iter().filter(|name| name.source == NameSource::Port).collect();
    assert!(
        !ports.is_empty() && ports.iter().all(|port| !port.from.as_ref().unwrap().contains("too")),
        "{ports:#?}"
    );
    daemon.apply("p", &isolate("n1", LONG));
    assert_eq!(lab.delivered(n3, ("n2", address), SENT, SENT), SENT);
    assert_eq!(lab.delivered(("n2", address), n3, SENT, SENT), SENT);
    daemon.heal("p");
    daemon.apply("p", &isolate("n2", LONG));
    assert_eq!(lab.delivered(n3, ("n2", address), SENT, 0), 0);
    assert_eq!(lab.delivered(("n2", address), n3, SENT, 0), 0);
    // Without an address that anything knows, its port names it.
    let late = lab.ipv4(13);
    lab.ip("n2", &format!("address add {late}/28 dev eth0"));
    assert_eq!(lab.delivered(("n2", late), n3, SENT, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    assert!(record.proved, "{record:#?}");
}

/// How long it takes until the daemon knows that a peer's only address has moved to a namespace that was no peer's: the
/// shortest of some times, since others use this machine.
fn moves(interfaces: impl Fn(&HostLab) -> String) -> Duration {
    let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("x", "h3", 3), ("y", "h4", 4)]);
    lab.ip("n1", &format!("address add {}/28 dev eth0", lab.ipv4(9)));
    // Other labs.
    for number in 0..60 {
        lab.add(&format!("z{number}"));
    }
    let moving = format!("n1: {{ addresses: [{}] }}", lab.ipv4(9));
    let daemon = lab.daemon_on(&format!("{moving}, {}", peers(&lab, &[("n2", 2)])), &interfaces(&lab));
    let home = || daemon.status().peers[&PeerName("n1".to_owned())].home.clone().unwrap_or_default();
    std::thread::sleep(Duration::from_secs(2));
    let mut times = Vec::new();
    let mut at = "n1";
    for to in ["x", "y", "n1", "x", "y", "n1"] {
        let change = |node: &str, verb: &str| {
            lab.ip(node, &format!("address {verb} {}/28 dev eth0", lab.ipv4(9)));
        };
        change(at, "delete");
        // So that the loss of the address is no reason to look when it is there again.
        std::thread::sleep(Duration::from_millis(400));
        change(to, "add");
        let start = Instant::now();
        while !home().ends_with(&lab.netns(to)) {
            assert!(start.elapsed() < host_lab::PATIENCE, "{:#?}", daemon.status().peers);
            std::thread::sleep(Duration::from_millis(5));
        }
        times.push(start.elapsed());
        at = to;
        std::thread::sleep(Duration::from_millis(300));
    }
    println!("{times:?}");
    times.into_iter().min().unwrap()
}

#[test]
#[needs(root, quiet)]
fn auto_follows_an_address_as_fast_as_named_interfaces() {
    let nic = |lab: &HostLab, node| format!("{{ name: eth0, netns: {} }}", lab.netns(node));
    let named = moves(|lab| format!("[{}]", ["n1", "n2", "x", "y"].map(|node| nic(lab, node)).join(", ")));
    let auto = moves(|_| "auto".to_owned());
    assert!(auto < named + Duration::from_millis(300), "named {named:?}, auto {auto:?}");
}

#[test]
#[needs(root)]
fn a_renamed_interface_keeps_its_hook() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), "[{ name: h1 }]");
    daemon.apply("p", &links(&[("n1", "n2")], LONG));
    lab.ip("h", "link set h1 name other");
    let end = Instant::now() + host_lab::PATIENCE;
    while !daemon.log().contains("renamed; its hook stays") {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 5, 0), 0);
    daemon.heal("p");
    let record = daemon.record_now("p");
    assert!(record.links[0].uncovered.is_empty(), "{record:#?}");
    assert_eq!(record.links[0].coverage.as_ref().unwrap().state, CoverageState::Covered);
}

/// A process's id leads nowhere once it has ended, as where a container was restarted: nothing says that it is waited for, and its
/// links are not called cut.
#[test]
#[needs(root)]
fn a_namespace_that_was_named_by_a_process_which_has_ended() {
    for by_path in [false, true] {
        let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
        let pid = process_in(&mut lab, "n1");
        let netns = if by_path { format!("/proc/{pid}/ns/net") } else { format!("{{ pid: {pid} }}") };
        let both = peers(&lab, &[("n1", 1), ("n2", 2)]);
        let daemon = lab.daemon_on(&both, &format!("[{{ name: eth0, netns: {netns} }}]"));
        daemon.apply("p", &links(&[("n1", "n2")], LONG));
        lab.end_processes();
        let end = Instant::now() + host_lab::PATIENCE;
        let why = loop {
            let attachments = daemon.status().attachments;
            if attachments[0].hook.is_none() {
                break attachments[0].why.clone();
            }
            assert!(Instant::now() < end, "{attachments:#?}");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(why.contains(&format!("process {pid} has ended, and its id does not lead to")), "{why}");
        assert!(
            why.contains("name the namespace by a name below /run/netns") && !why.contains("as soon as"),
            "{why}"
        );
        let problem = daemon.try_apply("q", &links(&[("n1", "n2")], LONG)).expect_err("nothing is attached");
        assert_eq!(problem.code, Code::NotCovered, "{problem}");
        daemon.heal("p");
        assert!(!daemon.record_now("p").links[0].uncovered.is_empty());
    }
}

/// Our own program on an interface that was recreated is no stranger's, also if its hook is read before the daemon knows that
/// it is attached there: each cut reads all hooks.
#[test]
#[needs(root)]
fn our_programs_on_a_recreated_interface_are_no_strangers() {
    const TIMES: u32 = 12;
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3)]);
    let named = "[{ name: h1 }, { name: h2 }, { name: h3 }]";
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), named);
    daemon.apply("p", &links(&[("n1", "n2")], LONG));
    let mut cuts = 0;
    let mut cut_again = || {
        cuts += 1;
        let name = format!("q{cuts}");
        let warnings = daemon.apply(&name, &links(&[("n2", "n1")], LONG)).warnings;
        daemon.heal(&name);
        let is_ahead = warnings.iter().any(|warning| warning.code == WarningCode::ForeignAhead);
        assert!(!is_ahead, "{warnings:#?}\n{}", daemon.log());
    };
    for round in 2..2 + TIMES {
        lab.ip("h", "link delete h3");
        lab.cable("n3", "h3", "eth0");
        let end = Instant::now() + host_lab::PATIENCE;
        let attached =
            || daemon.log().lines().filter(|line| line.contains(" attached interface=\"h3\"")).count();
        while attached() < round as usize {
            assert!(Instant::now() < end, "{}", daemon.log());
            cut_again();
        }
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    assert!(record.links.iter().all(|link| link.bypassed.is_empty()), "{record:#?}");
}

#[test]
#[needs(root)]
fn a_hook_that_is_detached_during_a_cut_is_named() {
    let lab = Lab::new(3);
    let daemon = Daemon::start(&lab.config(AttachPoint::BridgePort, "clsact"));
    daemon.apply("p", &isolate("n1", LONG));
    let (port, _) = lab.end("n1", AttachPoint::BridgePort);
    std::thread::sleep(Duration::from_millis(300));
    let tc = ["netns", "exec", &lab.netns(SWITCH), "tc", "qdisc", "delete", "dev", &port, "clsact"];
    assert!(std::process::Command::new("ip").args(tc).status().unwrap().success());
    let end = Instant::now() + host_lab::PATIENCE;
    while !daemon.log().contains("another process detached our program") {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    daemon.heal("p");
    let record = daemon.record_now("p");
    // What n2 sends to groups is dropped where n1 receives it.
    let link = record.links.iter().find(|link| (&*link.src, &*link.dst) == ("n2", "n1")).unwrap();
    let gaps = &link.uncovered;
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.interface.contains(&port)), "{gaps:?}");
}

#[test]
#[needs(root, tcx)]
fn what_runs_before_our_programs_is_told_as_it_changes() {
    let lab = Lab::new(3);
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let peers = config.split_once("interfaces:").unwrap().0;
    let hooks = ["n1", "n2"].map(|node| lab.interface(node, AttachPoint::OwnNic, "auto")).concat();
    let daemon = Daemon::start(&format!("{peers}interfaces:\n{hooks}"));
    let wanted = PartitionRequest {
        verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
        ..links(&[("n3", "n1"), ("n1", "n2")], LONG)
    };
    daemon.apply("p", &wanted);
    let _first = Foreign::attach(&lab, "n1", Position::First);
    let _other = Foreign::attach(&lab, "n2", Position::First);
    let end = Instant::now() + host_lab::PATIENCE;
    while daemon.log().matches("runs before our program").count() < 2 {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let _second = Foreign::attach(&lab, "n1", Position::First);
    let is_two = |text: &str| text.lines().any(|line| line.matches("foreign (id").count() == 2);
    let end = Instant::now() + host_lab::PATIENCE;
    while !is_two(&String::from_utf8_lossy(&daemon.cli(&["timeline"]).stdout)) {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    let of = |src: &str, dst: &str| {
        &record.links.iter().find(|link| (&*link.src, &*link.dst) == (src, dst)).unwrap().bypassed
    };
    let reported = of("n3", "n1");
    assert!(reported.iter().all(|bypass| bypass.interface.contains("n1")), "{reported:#?}");
    let (before, after): (Vec<_>, Vec<_>) =
        reported.iter().partition(|bypass| bypass.why.matches("foreign").count() == 1);
    assert!(!before.is_empty() && !after.is_empty(), "{reported:#?}");
    assert_eq!(before.last().unwrap().time.until_ns, Some(after[0].time.from_ns), "{reported:#?}");
    let both = of("n1", "n2");
    assert!(
        ["n1", "n2"].iter().all(|node| both.iter().any(|bypass| bypass.interface.contains(node))),
        "{both:#?}"
    );
}

/// What our program on the sender's interface should have dropped, and the receiver's did, is reported after a second.
#[test]
#[needs(root, tcx)]
fn what_a_senders_hook_lets_pass_is_late_a_second_after_the_cut() {
    const SENT: usize = 10;
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let (n1, n2) = (("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)));
    let hooks = [n1, n2].map(|(node, _)| format!("{{ name: eth0, netns: {} }}", lab.netns(node))).join(", ");
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), &format!("[{hooks}]"));
    assert_eq!(lab.delivered(n1, n2, SENT, SENT), SENT);
    daemon.apply("p", &isolate("n1", LONG));
    // It answers for our program on the egress.
    let _ahead = Foreign::attach(&lab, "n1", Position::First);
    let counted = || {
        let record = daemon.record_now("p");
        let link = record.links.iter().find(|link| &*link.src == "n1").unwrap();
        (link.dropped_packets.unwrap(), link.late_packets.unwrap())
    };
    std::thread::sleep(Duration::from_millis(1200));
    let (before, _) = counted();
    assert_eq!(lab.delivered(n1, n2, SENT, 0), 0);
    let end = Instant::now() + host_lab::PATIENCE;
    while counted().0 < before + SENT as u64 {
        assert!(Instant::now() < end, "{:#?}", daemon.record_now("p"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let (dropped, late) = counted();
    assert!(late >= SENT as u64 && late <= dropped, "{late} late of {dropped}");
    daemon.heal("p");
    let record = daemon.record_now("p");
    let link = record.links.iter().find(|link| &*link.src == "n1").unwrap();
    // The receiver's hook has held the cut.
    assert!(link.late_packets == Some(late) && link.proved && link.bypassed.is_empty(), "{link:#?}");
}

/// Whatever the hooks say, the receiver's kernel counts what a connection receives across the cut.
#[test]
#[needs(root, tcx)]
fn bytes_that_a_connection_receives_during_a_cut_are_counted() {
    let lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2)]);
    let eth0 = format!("[{{ name: eth0, netns: {} }}]", lab.netns("n1"));
    let daemon = lab.daemon_on(&peers(&lab, &[("n1", 1), ("n2", 2)]), &eth0);
    let n2 = lab.ipv4(2);
    let listener = lab.within("n2", || TcpListener::bind((n2, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let mut sender = lab.within("n1", || TcpStream::connect_timeout(&at, host_lab::PATIENCE).unwrap());
    let _receiver = listener.accept().unwrap();
    // It answers for our program on the egress.
    let _ahead = Foreign::attach(&lab, "n1", Position::First);
    daemon.apply("p", &isolate("n1", LONG));
    let crossed = |src: &str| {
        let record = daemon.record_now("p");
        record.links.iter().find(|link| &*link.src == src).unwrap().crossed_bytes
    };
    let end = Instant::now() + host_lab::PATIENCE;
    // What was received before the first look, at both ends at once, was on its way at the cut.
    while crossed("n1").is_none() {
        assert!(Instant::now() < end, "{:#?}", daemon.record_now("p"));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((crossed("n1"), crossed("n2")), (Some(0), Some(0)));
    while crossed("n1") == Some(0) {
        assert!(Instant::now() < end, "{:#?}", daemon.record_now("p"));
        sender.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    daemon.heal("p");
    let record = daemon.record_now("p");
    let link = record.links.iter().find(|link| (&*link.src, &*link.dst) == ("n1", "n2")).unwrap();
    assert!(link.crossed_bytes > Some(0) && link.in_force == Some(InForce::No), "{link:#?}");
    assert_eq!(crossed("n2"), Some(0), "n1 received nothing");
}
