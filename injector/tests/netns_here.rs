//! A daemon on each host, each with the peers on it (`here:`): all are asked for the same grudge, and each cuts its own part.
//! Needs root.

#[path = "support/covered.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod covered;
#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::Duration;

use covered::peers;
use host_lab::HostLab;
use injector_core::api::{
    Code, CoverageState, InForce, LinkRecord, PartitionRequest, PartitionView, Problem, WarningCode,
};
use injector_core::clock::Span;
use injector_core::model::Shape;
use injector_lab::{Lab, needs};
use live::daemon::{Daemon, isolate, warnings};

const SENT: usize = 10;

/// Four nodes, each on a port of a switch. What is between them is on no host of theirs.
fn hosts() -> HostLab {
    HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3), ("n4", "h4", 4)])
}

/// The daemon of a host: it has the node's own interface, and sees no other host.
fn daemon(lab: &HostLab, host: &str, interfaces: &str) -> Daemon {
    let peers = peers(lab, &[("n1", 1), ("n2", 2), ("n3", 3)]);
    lab.daemon_without_names_in(host, &peers, interfaces)
}

fn grudge(json: &str) -> PartitionRequest {
    let shape: Shape = serde_json::from_str(&format!("{{\"grudge\": {json}}}")).unwrap();
    PartitionRequest { for_: Some(Span::secs(540)), ..PartitionRequest::new(shape) }
}

/// How many packets of each pair arrive, in both directions.
fn arrived(lab: &HostLab, a: u8, b: u8, hoped: usize) -> [usize; 2] {
    let (a_node, b_node) = (format!("n{a}"), format!("n{b}"));
    let (a, b) = ((a_node.as_str(), lab.ipv4(a)), (b_node.as_str(), lab.ipv4(b)));
    [lab.delivered(a, b, SENT, hoped), lab.delivered(b, a, SENT, hoped)]
}

fn flows(lab: &HostLab, a: u8, b: u8) {
    assert_eq!(arrived(lab, a, b, SENT), [SENT; 2], "n{a} and n{b}");
}

fn is_cut(lab: &HostLab, a: u8, b: u8) {
    assert_eq!(arrived(lab, a, b, 0), [0; 2], "n{a} and n{b}");
}

fn cut(view: &PartitionView) -> Vec<String> {
    view.links.iter().flatten().map(|link| format!("{}→{}", link.src, link.dst)).collect()
}

fn left_to_others(view: &PartitionView) -> Vec<String> {
    view.not_here.iter().flatten().map(ToString::to_string).collect()
}

fn not_here(daemon: &Daemon, request: &PartitionRequest) -> Problem {
    let problem = daemon.try_apply("q", request).expect_err("no link of it ends here");
    assert_eq!(problem.code, Code::NotHere, "{problem:?}");
    assert!(daemon.status().partitions.iter().all(|partition| partition.name != "q"));
    problem
}

/// Every link was cut here, and what the host's own node sent was dropped here: what others sent, their daemons may have.
fn assert_cut_by(host: &str, link: &LinkRecord) {
    assert_eq!(link.coverage.as_ref().unwrap().state, CoverageState::Covered, "{link:#?}");
    assert_eq!(link.in_force, Some(InForce::Yes), "{link:#?}");
    assert!(link.src != host || link.proved && link.dropped_packets.unwrap() >= SENT as u64, "{link:#?}");
}

#[test]
#[needs(root)]
fn the_same_grudge_is_given_to_the_daemon_of_each_host() {
    let lab = hosts();
    let on = |host: &str| daemon(&lab, host, &format!("[{{ name: eth0 }}]\nhere: [{host}]"));
    let (one, two) = (on("n1"), on("n2"));
    for (a, b) in [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4)] {
        flows(&lab, a, b);
    }
    let asked = grudge(r#"{"n1": ["n2", "n3"], "n2": ["n1"], "n3": ["n1"]}"#);

    // The host of n1 has an end of every link, and the one of n2 leaves two to others: it refuses nothing for that.
    let (first, second) = (one.apply("p", &asked), two.apply("p", &asked));
    assert_eq!(cut(&first), ["n1→n2", "n1→n3", "n2→n1", "n3→n1"]);
    assert!(left_to_others(&first).is_empty(), "{first:#?}");
    assert_eq!(cut(&second), ["n1→n2", "n2→n1"]);
    assert_eq!(left_to_others(&second), ["n1→n3", "n3→n1"]);
    assert!(warnings(&second.warnings).is_empty(), "{second:#?}");
    // All links of n1 are cut, and no port of its peers is on its host: its broadcasts are lost for others too, and that is said.
    let told = warnings(&first.warnings);
    assert!(told.iter().all(|warning| warning.code == WarningCode::GroupsLost), "{first:#?}");
    assert!([&first, &second].iter().all(|view| view.coverage.as_ref().unwrap().is_empty()));
    is_cut(&lab, 1, 2);
    is_cut(&lab, 1, 3);
    for (a, b) in [(2, 3), (1, 4), (2, 4)] {
        flows(&lab, a, b);
    }

    // Each ends its own part alone.
    one.heal("p");
    flows(&lab, 1, 3);
    is_cut(&lab, 1, 2);
    two.heal("p");
    flows(&lab, 1, 2);
    for (daemon, host, links) in [(&one, "n1", 4), (&two, "n2", 2)] {
        let record = daemon.record_now("p");
        assert_eq!((record.links.len(), record.proved), (links, true), "{record:#?}");
        record.links.iter().for_each(|link| assert_cut_by(host, link));
    }

    // A grudge of others is no typing mistake: a program tells it by its code.
    let problem = not_here(&two, &grudge(r#"{"n1": ["n3"], "n3": ["n1"]}"#));
    assert!(problem.detail.contains("here are n2"), "{problem}");
    assert!(problem.remedy.unwrap().contains("ask the daemons of the other hosts"));
    flows(&lab, 1, 3);
}

/// A management NIC that leads to no peer, and peers that are on other hosts, are what every host has: nothing is refused
/// because of them, and no option is needed.
#[test]
#[needs(root)]
fn a_management_nic_and_remote_peers_are_no_reason_to_refuse() {
    let mut lab = hosts();
    lab.add("office");
    Lab::cable(&lab, ("n1", "eth9"), ("office", "eth0"));
    lab.ip("n1", "address add 192.168.77.1/24 dev eth9");
    lab.ip("office", "address add 192.168.77.2/24 dev eth0");
    let reaches_office = || {
        let [here, there] = ["192.168.77.1", "192.168.77.2"].map(|address| address.parse().unwrap());
        lab.delivered(("n1", here), ("office", there), SENT, SENT) == SENT
    };
    for (elsewhere, state) in [("", CoverageState::Unknown), ("\nelsewhere: [eth9]", CoverageState::Covered)]
    {
        let daemon = daemon(&lab, "n1", &format!("[{{ name: eth0 }}]\nhere: [n1]{elsewhere}"));
        assert!(reaches_office());
        flows(&lab, 1, 2);
        let view = daemon.apply("p", &isolate("n1", Duration::from_mins(9)));
        assert_eq!(cut(&view).len(), 4, "{view:#?}");
        is_cut(&lab, 1, 2);
        assert!(reaches_office(), "the management network is nobody's link");
        flows(&lab, 2, 3);
        daemon.heal("p");
        flows(&lab, 1, 2);
        let record = daemon.record_now("p");
        for link in record.links.iter().filter(|link| link.src == "n2" || link.dst == "n2") {
            let coverage = link.coverage.as_ref().unwrap();
            assert_eq!(coverage.state, state, "{link:#?}");
            // What is left out on purpose stays in each record.
            let is_named =
                coverage.reason.as_ref().is_some_and(|reason| reason.contains("but for eth9: elsewhere"));
            assert_eq!(is_named, !elsewhere.is_empty(), "{link:#?}");
            assert!(link.proved && !link.left_out, "{link:#?}");
        }
    }
}

#[test]
#[needs(root)]
fn a_wrong_name_in_here_stops_the_start_with_its_place() {
    let lab = hosts();
    let peers = peers(&lab, &[("n1", 1), ("n2", 2)]);
    let started = |here: &str| {
        let config = format!("peers: {{ {peers} }}\ninterfaces: [{{ name: eth0 }}]\nhere: {here}\n");
        lab.within("n1", || Daemon::try_start(&config).map(drop))
    };
    for (here, says) in [
        ("[n1, n9]", ":4:12: here[1]: unknown peer \"n9\"; known peers: n1, n2"),
        ("[N1]", ":4:8: here[0]: unknown peer \"N1\"; did you mean \"n1\"? known peers: n1, n2"),
        ("[world]", "here[0]: \"world\" is everyone who is no peer; name the peers on this host"),
        ("[]", "no peer is here, so that this daemon would cut nothing"),
        ("n1", "found \"n1\" where a list is expected; name the peers on this host, as in: here: [n1]"),
    ] {
        let (status, log) = started(here).expect_err(here);
        assert_eq!(status.code(), Some(64), "{log}");
        assert!(log.contains(says), "{here}: {log}");
    }
}
