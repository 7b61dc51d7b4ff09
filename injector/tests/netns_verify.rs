//! The active check on real namespaces: it proves the cut of an idle link, finds a hole, and says nothing where its frames
//! could not have arrived. Needs root.

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector_core::api::{
    CheckForm, InForce, LinkCheck, LinkRecord, Outcome, PartitionRequest, PartitionState, RecoveryRecord,
    VerdictOptions, Verify, WarningCode,
};
use injector_core::clock::MonoNs;
use injector_core::model::{Percent, Traffic};
use injector_lab::{needs, until};
use live::daemon::{Daemon, ahead, isolate, links};
use live::foreign::{Foreign, Position};
use live::lab::{AttachPoint, Lab, addresses};

const LONG: Duration = Duration::from_mins(2);
const PATIENCE: Duration = Duration::from_secs(20);
const BOTH: [CheckForm; 2] = [CheckForm::Ethertype, CheckForm::Ip];

/// A daemon whose records are final soon.
fn start(config: &str) -> Daemon {
    Daemon::start(&format!("{config}ready: {{ observe: 200ms, observe_max: 1s }}\ndeadline: 1s\n"))
}

fn verified(request: PartitionRequest) -> PartitionRequest {
    let verdict = VerdictOptions { verify: Some(Verify::Active), ..request.verdict };
    PartitionRequest { verdict, ..request }
}

fn link<'a>(record: &'a RecoveryRecord, src: &str, dst: &str) -> &'a LinkRecord {
    record.links.iter().find(|link| link.src == src && link.dst == dst).unwrap()
}

fn check(link: &LinkRecord) -> &LinkCheck {
    link.check.as_ref().unwrap_or_else(|| panic!("{link:#?}"))
}

/// Waits until the record of a partition is as wanted while it cuts.
fn wait_for(daemon: &Daemon, name: &str, mut holds: impl FnMut(&RecoveryRecord) -> bool) -> RecoveryRecord {
    let end = Instant::now() + PATIENCE;
    loop {
        let record = daemon.record_now(name);
        if holds(&record) {
            return record;
        }
        assert!(Instant::now() < end, "{record:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the record says that the machine was late for a link's frames.
fn is_late(link: &LinkRecord) -> bool {
    check(link).why_not.as_deref().is_some_and(|why| why.contains("in time"))
}

/// Cuts with the active check, waits for what is to happen meanwhile, and heals: the name of the cut. The threads of a busy
/// machine may not meet in time for the control, and a link without one is not tried any more, or for a later try. Then the
/// cut is made again, under another name.
fn cut_in_time(daemon: &Daemon, request: &PartitionRequest, mut meanwhile: impl FnMut(&str)) -> String {
    let mut number = 0;
    until("all frames of the check are sent in time", || {
        number += 1;
        assert!(number <= 5, "frames of the check were late each time");
        let name = format!("p{number}");
        daemon.apply(&name, request);
        let is_without_control = |link: &LinkRecord| check(link).control.is_none() && is_late(link);
        if !daemon.record_now(&name).links.iter().any(is_without_control) {
            meanwhile(&name);
        }
        daemon.heal(&name);
        (!daemon.record_now(&name).links.iter().any(is_late)).then_some(name)
    })
}

/// Whether each link was tried twice at least.
fn is_tried_again(record: &RecoveryRecord) -> bool {
    record.links.iter().all(|link| check(link).arrived_before_heal.is_some())
}

/// The name of a cut whose links were each tried twice at least. It is healed.
fn tried_again(daemon: &Daemon, request: &PartitionRequest) -> String {
    cut_in_time(daemon, request, |name| drop(wait_for(daemon, name, is_tried_again)))
}

fn an_idle_cut_is_proved(place: AttachPoint) {
    let lab = Lab::new(3);
    let daemon = start(&lab.config(place, "auto"));
    // Without the check nothing shows that an idle cut was in force.
    daemon.apply("idle", &isolate("n1", LONG));
    std::thread::sleep(Duration::from_millis(400));
    daemon.heal("idle");
    let record = daemon.record("idle");
    assert!(!record.proved && record.outcome == Some(Outcome::HarnessFailed), "{record:#?}");
    assert!(record.links.iter().all(|link| link.check.is_none()), "{record:#?}");

    let name = tried_again(&daemon, &verified(isolate("n1", LONG)));
    let record = daemon.record(&name);
    assert!(record.proved && record.outcome != Some(Outcome::HarnessFailed), "{record:#?}");
    assert_eq!(record.links.len(), 4, "{record:#?}");
    for link in &record.links {
        assert_eq!((link.in_force, link.proved), (Some(InForce::Yes), true), "{link:#?}");
        let check = check(link);
        assert_eq!((check.control, check.why_not.as_deref()), (Some(6), None), "{link:#?}");
        assert_eq!(check.forms, BOTH, "{link:#?}");
        assert!(check.sent >= 12 && check.arrived() == Some(0), "{link:#?}");
        let (cut, heal) = (record.cut.unwrap(), record.heal.unwrap());
        let until = check.checked_until_ns.unwrap();
        assert!(cut.end_ns < until && until < heal.begin_ns, "{link:#?}");
        // They are no traffic of the peers: neither drops nor first packets.
        assert_eq!((link.dropped_packets, link.first_drop_ns), (Some(0), None), "{link:#?}");
        assert!(link.first_packet_ns.is_none(), "{link:#?}");
        assert!(link.group_packets >= Some(12), "the hooks judged them: {link:#?}");
    }
    let reported = String::from_utf8(daemon.cli(&["wait", &name]).stdout).unwrap();
    assert!(reported.contains("ACTIVE CHECK") && !reported.contains("says nothing"), "{reported}");
    for node in ["n1", "n2", "n3"] {
        assert_eq!(icmp_errors(&lab, node), 0, "nobody refused a packet of the check: {node}");
    }
}

/// How many packets a node's kernel has answered by an ICMP error that nobody takes them.
fn icmp_errors(lab: &Lab, node: &str) -> u64 {
    let all = lab.within(node, || std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
    let mut lines = all.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split_whitespace().position(|name| name == "OutDestUnreachs").unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}

/// A node whose firewall drops the packets of IP says nothing by them, and all the same by the others.
#[test]
#[needs(root, quiet, program = "nft")]
fn the_form_that_speaks_is_named() {
    let lab = Lab::new(2);
    let drop = "add table ip f; add chain ip f in { type filter hook input priority 0; }; \
                add rule ip f in ip protocol 253 drop";
    lab.run("n2", "nft", &[drop]);
    let daemon = start(&lab.config(AttachPoint::OwnNic, "auto"));
    let name = tried_again(&daemon, &verified(isolate("n1", LONG)));
    let record = daemon.record(&name);
    assert!(record.proved, "{record:#?}");
    let (there, back) = (check(link(&record, "n1", "n2")), check(link(&record, "n2", "n1")));
    assert_eq!((there.control, &there.forms[..]), (Some(3), &BOTH[..1]), "{record:#?}");
    assert_eq!((back.control, &back.forms[..]), (Some(6), &BOTH[..]), "{record:#?}");
    assert_eq!((there.arrived(), back.arrived()), (Some(0), Some(0)), "{record:#?}");
    let reported = String::from_utf8(daemon.cli(&["wait", &name]).stdout).unwrap();
    assert!(reported.contains("ethertype, IP"), "{reported}");
}

/// Neither bytes of a connection that `protect` lets through nor the check's frames to a protected address speak against a cut.
#[test]
#[needs(root, quiet)]
fn what_is_protected_speaks_against_no_cut() {
    let lab = Lab::new(3);
    let ([n2, _], [n3, _]) = (addresses("n2"), addresses("n3"));
    let listeners = [0; 2].map(|port| lab.within("n2", || TcpListener::bind((n2, port)).unwrap()));
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let config = format!("{}protect: [ tcp/{}, {n3} ]\n", lab.config(AttachPoint::OwnNic, "auto"), ports[0]);
    let daemon = start(&config);
    let mut connections = listeners.each_ref().map(|listener| {
        let at = listener.local_addr().unwrap();
        let client = lab.within("n1", || TcpStream::connect_timeout(&at, PATIENCE).unwrap());
        (client, listener.accept().unwrap().0)
    });
    let (client, server) = &mut connections[0];
    let mut speak = || {
        client.write_all(b"there").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"back").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    };
    let name = cut_in_time(&daemon, &verified(isolate("n1", LONG)), |name| {
        // Connections are read each second from a second after the cut on.
        let record = wait_for(&daemon, name, |record| {
            speak();
            record.links.iter().all(|link| link.crossed_bytes.is_some()) && is_tried_again(record)
        });
        while record.cut.unwrap().end_ns + Duration::from_millis(3500) > MonoNs::now() {
            speak();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let record = daemon.record(&name);
    for link in &record.links {
        assert_eq!((link.in_force, link.proved), (Some(InForce::Yes), true), "{link:#?}");
        assert_eq!(link.crossed_bytes, Some(0), "{link:#?}");
        let forms = if link.src == "n3" || link.dst == "n3" { &BOTH[..1] } else { &BOTH[..] };
        assert_eq!(check(link).forms, forms, "{link:#?}");
    }
    assert!(daemon.status().counters["protected"] > 0);
}

#[test]
#[needs(root, quiet)]
fn an_idle_cut_is_proved_on_the_nodes_own_interfaces() {
    an_idle_cut_is_proved(AttachPoint::OwnNic);
}

#[test]
#[needs(root, quiet)]
fn an_idle_cut_is_proved_on_bridge_ports() {
    an_idle_cut_is_proved(AttachPoint::BridgePort);
}

#[test]
#[needs(root, quiet)]
fn a_cut_that_is_scheduled_or_enabled_or_ends_by_itself_is_checked_too() {
    let lab = Lab::new(2);
    let daemon = start(&lab.config(AttachPoint::OwnNic, "auto"));
    let life = Duration::from_millis(1200);
    // Whether all links were checked, up to their end. A busy machine may be late for the control, or for the last try.
    let is_checked = |record: &RecoveryRecord| {
        if record.links.iter().any(is_late) {
            return false;
        }
        assert!(record.proved, "{record:#?}");
        record.links.iter().all(|link| {
            let check = check(link);
            assert_eq!((check.control, check.arrived()), (Some(6), Some(0)), "{link:#?}");
            assert!(link.first_packet_ns.is_none(), "{link:#?}");
            let heal = record.heal.unwrap().begin_ns;
            let before = heal.saturating_since(check.checked_until_ns.unwrap());
            println!("{}→{}: the last frame was sent {before:?} before the heal", link.src, link.dst);
            assert!(before >= Duration::from_millis(50), "{before:?}");
            // The end is known: one try comes shortly before it.
            before < Duration::from_millis(450)
        })
    };
    let mut number = 0;
    until("a cut that is scheduled is checked", || {
        number += 1;
        let name = format!("later{number}");
        let (_, at) = ahead(Duration::from_secs(1));
        daemon.apply(&name, &PartitionRequest { at, ..verified(isolate("n1", life)) });
        is_checked(&daemon.record(&name)).then_some(())
    });

    let request = serde_json::to_vec(&verified(isolate("n1", life))).unwrap();
    until("a cut that is enabled is checked", || {
        number += 1;
        let path = format!("/v1/partitions/prepared{number}");
        let (status, view) = daemon.raw("POST", &format!("{path}/prepare"), &request);
        assert_eq!((status, &view["state"]), (200, &serde_json::json!("prepared")), "{view}");
        let (status, view) = daemon.raw("POST", &format!("{path}/enable"), b"{}");
        assert_eq!((status, &view["state"]), (200, &serde_json::json!("active")), "{view}");
        is_checked(&daemon.record(&format!("prepared{number}"))).then_some(())
    });
}

/// A program of others ahead of ours lets frames pass, and no hook of ours is behind it.
#[test]
#[needs(root, quiet)]
fn a_hole_is_seen_by_the_check() {
    let lab = Lab::new(2);
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    let n2 = lab.interface("n2", AttachPoint::OwnNic, "auto");
    config = config.replace(&n2, "");
    let daemon = start(&config);
    let foreign = Foreign::attach(&lab, "n1", Position::First);
    let name = tried_again(&daemon, &verified(links(&[("n1", "n2"), ("n2", "n1")], LONG)));
    drop(foreign);
    let record = daemon.record(&name);
    let out = link(&record, "n1", "n2");
    assert_eq!((out.in_force, out.proved), (Some(InForce::No), false), "{out:#?}");
    assert_eq!((check(out).control, check(out).arrived_after_cut), (Some(6), Some(6)), "{out:#?}");
    assert_eq!(check(out).arrived(), Some(check(out).sent), "{out:#?}");
    // The way back passes our ingress hook.
    assert_eq!(check(link(&record, "n2", "n1")).arrived(), Some(0), "{record:#?}");
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed), "{record:#?}");
    let reason = record.outcome_reason.as_deref().unwrap();
    assert!(reason.contains("frames of the active check arrived during the cut"), "{reason}");
}

#[test]
#[needs(root, quiet)]
fn between_routed_peers_the_check_says_nothing() {
    let lab = HostLab::routed_pair();
    let peers =
        [("n1", 1), ("n2", 2)].map(|(name, host)| format!("{name}: {{ addresses: [{}] }}", lab.ipv4(host)));
    let daemon = lab.daemon(&peers.join(", "));
    assert!(lab.delivered(("n1", lab.ipv4(1)), ("n2", lab.ipv4(2)), 3, 3) > 0, "the host routes");
    let request = verified(links(&[("n1", "n2"), ("n2", "n1")], LONG));
    let name = cut_in_time(&daemon, &request, |_| std::thread::sleep(Duration::from_millis(500)));
    let record = daemon.record_now(&name);
    for link in &record.links {
        let check = check(link);
        assert_eq!((check.control, check.sent, check.arrived()), (Some(0), 0, None), "{link:#?}");
        assert!(check.why_not.as_deref().unwrap().contains("not on one Ethernet segment"), "{link:#?}");
        assert_eq!(link.proved, link.dropped_packets > Some(0), "the check proves nothing: {link:#?}");
    }
    let reported = String::from_utf8(daemon.cli(&["wait", &name, "--timeout", "1ms"]).stdout).unwrap();
    assert!(reported.contains("n1→n2: the active check says nothing"), "{reported}");
}

#[test]
#[needs(root, quiet)]
fn a_cut_that_is_not_full_is_not_checked() {
    let lab = Lab::new(2);
    let daemon = start(&lab.config(AttachPoint::OwnNic, "auto"));
    let loss = Percent::new(50.0).unwrap();
    daemon.apply(
        "p",
        &PartitionRequest {
            traffic: Traffic { loss, ..Traffic::default() },
            ..verified(isolate("n1", LONG))
        },
    );
    assert_eq!(daemon.partition("p").state, PartitionState::Active);
    std::thread::sleep(Duration::from_millis(400));
    daemon.heal("p");
    let record = daemon.record_now("p");
    for link in &record.links {
        assert_eq!((check(link).control, check(link).sent), (None, 0), "{link:#?}");
        assert!(check(link).why_not.as_deref().unwrap().contains("in full"), "{link:#?}");
    }
}

/// Its frames need a while: what is too short for them is reported at the request, and the record names no check as the remedy.
#[test]
#[needs(root, quiet)]
fn a_cut_that_is_too_short_to_be_checked_says_so() {
    let lab = Lab::new(2);
    let daemon = start(&lab.config(AttachPoint::OwnNic, "auto"));
    let held = |millis| verified(isolate("n1", Duration::from_millis(millis)));
    let view = daemon.apply("p", &held(300));
    let told = view.warnings.iter().find(|warning| warning.code == WarningCode::NotChecked).unwrap();
    assert!(told.text.contains("hold it for 400 ms or longer"), "{told:?}");
    std::thread::sleep(Duration::from_millis(600));
    let record = daemon.record_now("p");
    let why = record.outcome_reason.as_deref().unwrap_or_default();
    assert!(why.contains("the active check says nothing"), "{record:#?}");
    let view = daemon.apply("q", &held(400));
    assert!(view.warnings.iter().all(|warning| warning.code != WarningCode::NotChecked), "{view:#?}");
}
