//! What partitions do and what their records say, with the real daemon and real traffic.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::net::SocketAddr;
use std::time::Duration;

use injector_client::Client;
use injector_core::api::{Code, HealedBy, Outcome, Owner, PartitionRequest, PartitionState};
use injector_core::clock::{MonoNs, Span};
use injector_core::model::{Direction, Shape, Traffic};
use injector_lab::{keep_all, needs};
use live::daemon::{Daemon, ahead, isolate, links, runtime};
use live::lab::{AttachPoint, Lab, addresses};
use live::traffic::{Kind, PATIENCE, Server, ServerMode, Stream, assert_cut, assert_flows, sent_from};
use live::traffic::{tcp_reaches, udp_reaches};

const LONG: Duration = Duration::from_mins(2);
const DOUBT: Duration = Duration::from_millis(250);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A lab whose `n1` serves: required, and healthy throughout, since its prober is no peer.
fn served(nodes: u8) -> (Lab, Server, Daemon) {
    served_with(nodes, "observe: 1s, observe_max: 5s")
}

/// The same with other times of observation.
fn served_with(nodes: u8, observe: &str) -> (Lab, Server, Daemon) {
    let lab = Lab::new(nodes);
    let server = Server::start(&lab, "n1");
    let config = format!(
        "{}endpoints:\n  - name: ingress\n    peers: [n1]\n    role: required\n    probe: {{ http: {{ url: \
         \"http://{{address}}:{}/\" }}, interval: 20ms, timeout: 1s }}\n    netns: {}\nready: {{ consecutive: 3, \
         {observe} }}\ndeadline: 5s\n",
        lab.config(AttachPoint::OwnNic, "auto"),
        server.port(),
        lab.netns("client"),
    );
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    (lab, server, daemon)
}

fn bare(nodes: u8) -> (Lab, Daemon) {
    let lab = Lab::new(nodes);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    (lab, daemon)
}

#[test]
#[needs(root)]
fn traffic_proves_a_cut_and_orders_the_record() {
    let (lab, server, daemon) = served(2);
    let streams = [("n1", "n2"), ("n2", "n1")].map(|(from, to)| Stream::start(&lab, from, to, ms(2)));
    let view = daemon.apply("p", &isolate("n1", ms(700)));
    let ends_at = view.ends_at_ns.unwrap();
    // The service is out from the cut on, and back some time after the heal.
    server.set(ServerMode::Failing);
    std::thread::sleep(ends_at.saturating_since(MonoNs::now()) + ms(300));
    let fine_from = MonoNs::now();
    server.set(ServerMode::Fine);
    let record = daemon.record("p");
    let packets = streams.map(Stream::stop);

    assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:#?}");
    assert!(record.proved);
    assert_eq!(record.healed_by, Some(HealedBy::Deadline));
    let (cut, heal) = (record.cut.unwrap(), record.heal.unwrap());
    assert_eq!(Some(cut), view.effective);
    assert_eq!((heal.begin_ns, heal.end_ns), (ends_at, ends_at));
    for link in &record.links {
        let (first, last) = (link.first_drop_ns.unwrap(), link.last_drop_ns.unwrap());
        let packet = link.first_packet_ns.unwrap();
        // The deadline is judged by the clock that stamps: no tolerance.
        assert!(cut.begin_ns <= first && first <= last && last < ends_at && ends_at <= packet, "{link:?}");
        assert!(link.first_data_ns.unwrap() >= packet, "{link:?}");
        assert_eq!(link.first_syn_ns, None, "no TCP between them: missing is null");
        let at = usize::from(link.src != "n1");
        let missing = packets[at].iter().filter(|packet| packet.received.is_none()).count();
        assert_eq!(link.dropped_packets, Some(missing as u64), "every lost packet is counted once");
    }
    let phases = &record.phases;
    assert!(phases.last_link.is_some(), "{phases:?}");
    // No handshake, and payload both ways.
    assert!(record.links.iter().all(|link| link.reconnected_ns.is_some()), "{:?}", record.links);
    let parts = [phases.silence_ns, phases.reconnect_ns, phases.return_ns, phases.relapse_ns];
    let sum = parts.into_iter().sum::<Option<u64>>().unwrap_or_else(|| panic!("{phases:?}"));
    assert_eq!(Some(sum), record.heal_to_settled_ns, "the phases add up");
    let endpoint = &record.endpoints[0];
    assert_eq!((endpoint.healthy_before, endpoint.impaired), (Some(true), Some(true)));
    let (first_ok, ready) = (endpoint.first_ok_ns.unwrap(), endpoint.ready_ns.unwrap());
    assert!(fine_from <= first_ok && first_ok <= ready && Some(ready) <= endpoint.settled_ns, "{endpoint:?}");
}

#[test]
#[needs(root)]
fn a_cut_without_traffic_is_not_proved() {
    let (_lab, _server, daemon) = served(2);
    daemon.apply("p", &isolate("n1", ms(300)));
    let record = daemon.record("p");
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed));
    assert!(!record.proved);
    assert!(record.outcome_reason.unwrap().contains("not proved"));
    assert!(record.links.iter().all(|link| link.first_drop_ns.is_none() && link.dropped_packets == Some(0)));
}

#[test]
#[needs(root)]
fn a_link_is_down_while_any_partition_holds_it() {
    let (lab, _server, daemon) = served(3);
    // A cut drops the question for a MAC address too, and that proves nothing: these two know each other's.
    assert_flows(&lab, &[Kind::Icmp], "n1", "n2");
    daemon.apply("first", &isolate("n1", LONG));
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    daemon.apply("second", &links(&[("n1", "n2")], LONG));
    daemon.heal("first");
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    assert_flows(&lab, &[Kind::Udp], "n1", "n3");
    assert_flows(&lab, &[Kind::Udp], "n2", "n1");
    let record = daemon.record("first");
    assert_eq!(record.outcome, Some(Outcome::Unknown), "{record:#?}");
    assert!(record.outcome_reason.unwrap().contains("still cut by \"second\""));
    for link in &record.links {
        let held = link.src == "n1" && link.dst == "n2";
        assert_eq!(link.still_cut_by, if held { vec!["second"] } else { vec![] }, "{link:?}");
    }
    daemon.heal("second");
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
}

#[test]
#[needs(root)]
fn a_cut_during_the_watch_censors() {
    // A busy machine has time for the second cut until then.
    let (lab, _server, daemon) = served_with(3, "observe: 3s, observe_max: 10s");
    let _stream = Stream::start(&lab, "n1", "n2", ms(5));
    daemon.apply("first", &isolate("n1", LONG));
    std::thread::sleep(ms(500));
    let healed = daemon.heal("first");
    let cut = daemon.apply("second", &isolate("n2", ms(500))).effective.unwrap();
    let record = daemon.record("first");
    assert_eq!(record.outcome, Some(Outcome::Censored), "{record:#?}");
    assert_eq!(record.closed_by.as_deref(), Some("second"));
    assert!(record.proved && record.is_final);
    let until = record.observed_until_ns.unwrap();
    assert!(healed.at.end_ns <= until && until <= cut.end_ns, "{until:?}");
    assert_eq!(daemon.record("second").outcome, Some(Outcome::Recovered));
}

#[test]
#[needs(root)]
fn a_heal_that_comes_late_is_told_what_was_first() {
    let (_lab, daemon) = bare(2);
    let ends_at = daemon.apply("p", &isolate("n1", ms(100))).ends_at_ns.unwrap();
    std::thread::sleep(ms(200));
    for _ in 0..2 {
        let healed = daemon.heal("p");
        assert_eq!(healed.healed_by, HealedBy::Deadline);
        assert_eq!((healed.at.begin_ns, healed.at.end_ns), (ends_at, ends_at));
    }
    let output = daemon.cli(&["heal", "p"]);
    assert_eq!(output.status.code(), Some(0));
    let output = daemon.cli(&["heal", "never-seen"]);
    assert_eq!(output.status.code(), Some(64));
}

#[test]
#[needs(root)]
fn the_end_of_its_owner_heals() {
    let (lab, daemon) = bare(2);
    let runtime = runtime();
    let request = PartitionRequest { owner: Owner::Connection, ..isolate("n1", LONG) };
    let client = runtime.block_on(async {
        let mut client = Client::connect(daemon.socket()).await.unwrap();
        client.apply("owned", &request).await.unwrap();
        client
    });
    daemon.apply("free", &links(&[("n2", "n1")], LONG));
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    drop(client);
    drop(runtime);
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    assert_cut(&lab, &[Kind::Udp], "n2", "n1");
    assert_eq!(daemon.partition("owned").healed.unwrap().healed_by, HealedBy::Disconnect);
    assert_eq!(daemon.partition("free").state, PartitionState::Active);

    // The same by the command line: SIGKILL gives `with` no chance to heal.
    let mut with = std::process::Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["with", "links", "n1:n2", "--name", "with", "--", "sleep", "5"])
        .stderr(std::process::Stdio::null())
        .env("INJECTOR_SOCKET", daemon.socket())
        .spawn()
        .unwrap();
    let end = MonoNs::now() + PATIENCE;
    while !daemon.status().partitions.iter().any(|partition| partition.name == "with") {
        assert!(MonoNs::now() < end, "it never cut");
        std::thread::sleep(ms(20));
    }
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    with.kill().unwrap();
    with.wait().unwrap();
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    assert_eq!(daemon.partition("with").healed.unwrap().healed_by, HealedBy::Disconnect);
}

#[test]
#[needs(root)]
fn one_request_cuts_once() {
    let (lab, daemon) = bare(2);
    let request = isolate("n1", LONG);
    let first = daemon.apply("p", &request);
    let again = daemon.apply("p", &request);
    assert_eq!((again.generation, again.effective), (first.generation, first.effective));
    let other = daemon.try_apply("p", &isolate("n2", LONG)).unwrap_err();
    assert_eq!((other.code, other.status), (Code::NameTaken, 409));
    assert_eq!(daemon.status().partitions.len(), 1);
    daemon.heal("p");

    let request = PartitionRequest { request_id: Some("once".to_owned()), ..isolate("n1", LONG) };
    let first = daemon.apply("q", &request);
    daemon.heal("q");
    let again = daemon.apply("q", &request);
    assert_eq!(again.generation, first.generation);
    assert_ne!(again.state, PartitionState::Active, "it would have cut twice");
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    let elsewhere = daemon.try_apply("r", &request).unwrap_err();
    assert_eq!(elsewhere.code, Code::RequestIdUsed);
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
}

#[test]
#[needs(root)]
fn the_thirty_third_live_partition_is_refused() {
    let (lab, daemon) = bare(2);
    for number in 0..32 {
        daemon.apply(&format!("p{number}"), &links(&[("n1", "n2")], LONG));
    }
    let problem = daemon.try_apply("p32", &links(&[("n2", "n1")], LONG)).unwrap_err();
    assert_eq!((problem.code, problem.status), (Code::NoFreeSlot, 503));
    assert!(problem.remedy.is_some());
    assert_eq!(daemon.status().partitions.len(), 32);
    assert_flows(&lab, &[Kind::Udp], "n2", "n1");
    // Every one of them holds the link, the last one too.
    for number in 0..31 {
        daemon.heal(&format!("p{number}"));
    }
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    daemon.heal("p31");
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    // Watched slots are given up for live ones.
    let view = daemon.apply("p32", &links(&[("n2", "n1")], LONG));
    assert_eq!(view.state, PartitionState::Active);
    assert_cut(&lab, &[Kind::Udp], "n2", "n1");
}

#[test]
#[needs(root)]
fn a_start_ahead_is_an_instant() {
    let (lab, daemon) = bare(2);
    let stream = Stream::start(&lab, "n1", "n2", ms(1));
    let (starts_at, at) = ahead(ms(2000));
    let view = daemon.apply("p", &PartitionRequest { at, ..isolate("n1", ms(500)) });
    assert_eq!(view.state, PartitionState::Scheduled);
    let cut = view.effective.unwrap();
    assert_eq!((cut.begin_ns, cut.end_ns), (starts_at, starts_at));
    let ends_at = view.ends_at_ns.unwrap();
    assert_eq!(ends_at, starts_at + ms(500));
    std::thread::sleep(ends_at.saturating_since(MonoNs::now()) + ms(300));
    let packets = stream.stop();
    for packet in &packets {
        let lost = packet.received.is_none();
        if packet.at + ms(50) < starts_at {
            assert!(!lost, "lost {:?} before the start", starts_at.saturating_since(packet.at));
        }
        if packet.at >= starts_at && packet.at + ms(50) < ends_at {
            assert!(lost, "passed {:?} after the start", packet.at.saturating_since(starts_at));
        }
        assert!(packet.at < ends_at || !lost, "lost after the end");
    }
    let past =
        PartitionRequest { at: Some(injector_core::api::StartAt::MonoNs(MonoNs(1))), ..isolate("n1", LONG) };
    assert_eq!(daemon.try_apply("past", &past).unwrap_err().code, Code::BadTime);
}

/// Once per link and packet, though the packet meets two hooks: rolled at each, 30% would be 51%.
#[test]
#[needs(root)]
fn loss_is_rolled_once_per_link() {
    const PACKETS: u64 = 20_000;
    let (lab, daemon) = bare(2);
    let at = SocketAddr::new(addresses("n2")[0], 9_000);
    let receiver = lab.within("n2", || std::net::UdpSocket::bind(at).unwrap());
    keep_all(&receiver);
    receiver.set_read_timeout(Some(ms(300))).unwrap();
    let sender = lab.within("n1", || std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    let loss = "30%".parse().unwrap();
    daemon.apply(
        "p",
        &PartitionRequest { traffic: Traffic { loss, ..Traffic::default() }, ..links(&[("n1", "n2")], LONG) },
    );
    for number in 0..PACKETS {
        sender.send_to(&number.to_le_bytes(), at).unwrap();
        if number % 64 == 63 {
            // The receive queue of a veth takes a thousand.
            std::thread::sleep(ms(1));
        }
    }
    let mut arrived = 0_u64;
    while receiver.recv(&mut [0; 16]).is_ok() {
        arrived += 1;
    }
    daemon.heal("p");
    let dropped = daemon.record_now("p").links[0].dropped_packets.unwrap();
    assert_eq!(arrived + dropped, PACKETS, "nothing is lost elsewhere");
    let sigma = (PACKETS as f64 * 0.3 * 0.7).sqrt();
    let off = (dropped as f64 - PACKETS as f64 * 0.3) / sigma;
    assert!(off.abs() < 5.0, "{dropped} of {PACKETS} dropped, {off:.1} standard deviations off");
}

#[test]
#[needs(root)]
fn a_flap_alternates_in_the_kernel() {
    let (lab, daemon) = bare(2);
    let stream = Stream::start(&lab, "n1", "n2", ms(1));
    let flap = Some("200ms/50%".parse().unwrap());
    let life = ms(2_000);
    let ends_at = daemon
        .apply(
            "p",
            &PartitionRequest { traffic: Traffic { flap, ..Traffic::default() }, ..isolate("n1", life) },
        )
        .ends_at_ns
        .unwrap();
    std::thread::sleep(ends_at.saturating_since(MonoNs::now()) + ms(100));
    let starts_at = ends_at - life;
    let (mut right, mut wrong, mut dropped) = (0_u32, 0_u32, 0_u32);
    for packet in sent_from(&stream.stop(), starts_at) {
        let since = packet.at.saturating_since(starts_at);
        let phase = since.as_millis() % 200;
        // Between the stamp of the sender and the hook lie microseconds, or a preemption.
        if since >= life || phase % 100 >= 85 {
            continue;
        }
        dropped += u32::from(packet.received.is_none());
        if packet.received.is_none() == (phase < 100) { right += 1 } else { wrong += 1 }
    }
    assert!(right + wrong > 100, "{right} + {wrong} packets");
    assert!(wrong * 50 <= right, "{wrong} of {} packets against the phase", right + wrong);
    assert!(dropped * 4 > right && dropped * 4 < right * 3, "{dropped} of {right} dropped");
}

#[test]
#[needs(root)]
fn scopes_directions_world_and_protection() {
    let lab = Lab::new(2);
    let config = format!("{}protect: [ udp/9999, \"fd99::2\" ]\n", lab.config(AttachPoint::OwnNic, "auto"));
    let daemon = Daemon::start(&config);
    let [v4, v6] = addresses("n2");

    let scoped = PartitionRequest {
        traffic: Traffic { scopes: vec!["tcp/7000".parse().unwrap()], ..Traffic::default() },
        ..isolate("n1", LONG)
    };
    daemon.apply("scoped", &scoped);
    assert!(!tcp_reaches(&lab, "n1", "n2", (v4, 7_000).into(), DOUBT), "the cut port");
    assert!(tcp_reaches(&lab, "n1", "n2", (v4, 7_001).into(), PATIENCE), "another port");
    assert!(udp_reaches(&lab, "n1", "n2", (v4, 7_000).into(), PATIENCE), "another protocol");
    daemon.heal("scoped");
    assert!(tcp_reaches(&lab, "n1", "n2", (v4, 7_000).into(), PATIENCE), "healed");

    for (direction, cut, open) in
        [(Direction::In, ("n2", "n1"), ("n1", "n2")), (Direction::Out, ("n1", "n2"), ("n2", "n1"))]
    {
        let name = format!("{direction:?}");
        daemon.apply(
            &name,
            &PartitionRequest { traffic: Traffic { direction, ..Traffic::default() }, ..isolate("n1", LONG) },
        );
        let reaches = |(from, to): (&str, &str), patience| {
            udp_reaches(&lab, from, to, (addresses(to)[0], 7_000).into(), patience)
        };
        assert!(!reaches(cut, DOUBT), "{cut:?} with direction {direction:?}");
        assert!(reaches(open, PATIENCE), "{open:?} with direction {direction:?}");
        daemon.heal(&name);
    }

    daemon.apply("world", &links(&[("world", "n1")], LONG));
    assert_cut(&lab, &[Kind::Udp], "client", "n1");
    assert_flows(&lab, &[Kind::Udp], "n1", "client");
    assert_flows(&lab, &[Kind::Udp], "n2", "n1");
    daemon.heal("world");
    assert_flows(&lab, &[Kind::Udp], "client", "n1");

    daemon.apply("protected", &isolate("n1", LONG));
    assert!(!udp_reaches(&lab, "n1", "n2", (v4, 9_998).into(), DOUBT), "cut");
    assert!(udp_reaches(&lab, "n1", "n2", (v4, 9_999).into(), PATIENCE), "a protected port");
    assert!(tcp_reaches(&lab, "n1", "n2", (v6, 7_000).into(), PATIENCE), "a protected address");
    assert!(daemon.status().counters["protected"] > 0);
}

#[test]
#[needs(root)]
fn prepared_is_not_cut_and_dry_runs_change_nothing() {
    let (lab, daemon) = bare(2);
    let body = br#"{"shape":{"isolate":["n1"]},"for":"60s"}"#;
    let (status, view) = daemon.raw("PUT", "/v1/partitions/p?dry_run=true", body);
    assert_eq!((status, view["links"].as_array().map(Vec::len)), (200, Some(2)), "{view}");
    assert!(daemon.status().partitions.is_empty());
    let (status, view) = daemon.raw("POST", "/v1/partitions/p/prepare", body);
    assert_eq!((status, view["state"].as_str()), (200, Some("prepared")), "{view}");
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    let (status, view) = daemon.raw("POST", "/v1/partitions/p/enable", b"{}");
    assert_eq!((status, view["state"].as_str()), (200, Some("active")), "{view}");
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    let request = PartitionRequest {
        for_: Some(Span::secs(60)),
        ..PartitionRequest::new(Shape::Isolate(vec!["n1".into()]))
    };
    assert_eq!(daemon.apply("p", &request).generation, 1, "the same wish is the same partition");
}
