//! The formats that others read: the recovery record, `campaign.json`, the lines of `probes.jsonl`, and requests.

#[path = "support/golden.rs"]
mod golden;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use golden::{check, holes, without_prose};
use injector_core::api::*;
use injector_core::clock::{HostClock, MonoNs, Span, TimeRange, WallNs};
use injector_core::model::{
    Bridge, Connection, Direction, Draw, DrawGroups, DrawPeers, EndpointProbe, NamedLink, Neighbour, Nothing,
    ProbeOptions, ProbeRules, ProbeSettings, Ready, Shape, Traffic,
};
use injector_core::run::Run;
use injector_core::run::dir::{
    CAMPAIGN_SCHEMA, Campaign, Cell, Clock, Gates, NotMade, OpenTrials, Settings, StopWhen, TrialProbes,
    Versions,
};
use injector_core::run::{Conduct, Hooks};
use injector_core::sample::FailureCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).unwrap()
}

/// Asserts that a golden file can be read, and is written back unchanged.
fn assert_read_back<T: DeserializeOwned + serde::Serialize>(name: &str) {
    let text = fs::read_to_string(Path::new(HERE).join("tests/data/golden").join(name)).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    let read: T = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(value(&read), stored, "{name}");
}

fn at(ns: u64) -> MonoNs {
    MonoNs(1_000_000_000_000 + ns)
}

fn stamped(ns: u64) -> Stamped {
    Stamped { begin_ns: at(ns), end_ns: at(ns + 40), wall: WallNs(1_760_000_000_000_000_000) }
}

fn link() -> LinkRecord {
    LinkRecord {
        src: "n1".to_owned(),
        dst: "n2".to_owned(),
        dropped_packets: Some(56),
        dropped_bytes: Some(12_622),
        group_packets: Some(3),
        first_drop_ns: Some(at(1_000)),
        last_drop_ns: Some(at(9_000)),
        first_packet_ns: Some(at(11_000)),
        first_syn_ns: Some(at(11_100)),
        first_synack_ns: Some(at(11_200)),
        first_data_ns: Some(at(11_300)),
        first_exchange_ns: Some(at(11_400)),
        reconnected_ns: Some(at(11_200)),
        still_cut_by: vec!["other".to_owned()],
        uncovered: vec![uncovered()],
        bypassed: vec![bypassed()],
        unnamed_packets: 2,
        hooks_unread: true,
        leaked_packets: Some(1),
        first_leak_ns: Some(at(2_000)),
        late_packets: Some(2),
        crossed_bytes: Some(4_096),
        crossed_flows: Some(3),
        check: Some(LinkCheck {
            control: Some(6),
            forms: vec![CheckForm::Ethertype, CheckForm::Ip],
            sent: 18,
            arrived_after_cut: Some(0),
            arrived_before_heal: Some(1),
            checked_until_ns: Some(at(9_500)),
            why_not: Some("the receiver did not listen".to_owned()),
        }),
        in_force: Some(InForce::No),
        proved: true,
        coverage: Some(Coverage {
            state: CoverageState::Partly,
            reason: Some("eth1 has no hook".to_owned()),
            is_translated: true,
        }),
        left_out: true,
        tcp: Some(vec![TcpState {
            seen_ns: at(30_000),
            local_port: 40_000,
            remote_port: 5122,
            state: "established".to_owned(),
            rto_ns: 13_056_000_000,
            backoff: 6,
            retransmits: 7,
        }]),
    }
}

fn uncovered() -> Uncovered {
    Uncovered {
        interface: "eth0".to_owned(),
        time: TimeRange { from_ns: at(3_000), until_ns: Some(at(4_000)) },
    }
}

fn bypassed() -> Bypassed {
    Bypassed {
        interface: "eth0".to_owned(),
        why: "cil_from_netdev (id 7) runs before ours".to_owned(),
        time: TimeRange { from_ns: at(5_000), until_ns: Some(at(6_000)) },
    }
}

fn window() -> TimeRange {
    TimeRange { from_ns: at(1_500), until_ns: Some(at(12_000)) }
}

fn endpoint() -> EndpointRecord {
    EndpointRecord {
        name: "ingress@n1".to_owned(),
        peer: Some("n1".into()),
        address: Some([10, 0, 0, 1].into()),
        required: true,
        healthy_before: Some(true),
        failure_rate_before: Some(0.015_625),
        impaired: Some(true),
        first_response_ns: Some(at(11_900)),
        first_ok_ns: Some(at(12_000)),
        ready_ns: Some(at(12_000)),
        settled_ns: Some(at(14_000)),
        relapses: 2,
        probes_sent: 1_200,
        probes_failed: 40,
        outage: Some(Outage {
            served_within_ns: 1_000_000_000,
            windows: vec![window()],
            sum_ns: Some(10_500),
            longest_ns: Some(10_500),
            before_heal_ns: Some(8_500),
            after_heal_ns: 2_000,
            open: true,
            fail_over: Some(FailOver::Back),
            fail_over_ns: Some(7_000),
            lost_by_heal_ns: Some(100),
            tolerated: 1,
            stall_ns: Some(300),
            unseen: true,
        }),
        outcome: Some(Outcome::Recovered),
    }
}

/// Every field has a value: a field that is added, renamed or left out shows.
fn record() -> RecoveryRecord {
    RecoveryRecord {
        schema: RECORD_SCHEMA,
        name: "p".to_owned(),
        generation: 7,
        clock: Some(HostClock {
            host: "lab-1".to_owned(),
            boot: "5d3c1e0a-0b2f-4c6e-9a51-2f9a7c1d4e88".to_owned(),
        }),
        trial: Some(3),
        attempt: Some(2),
        shape: ShapePair {
            asked: Shape::RandomNode(Draw::default()),
            resolved: Some(Shape::Isolate(vec!["n1".into()])),
            direction: Direction::Out,
            roles: BTreeMap::from([("leader".to_owned(), vec!["n1".into()])]),
        },
        traffic: Some(Traffic { direction: Direction::Out, ..cell().traffic }),
        seed: Some(9_007_199_254_740_991),
        hold_ns: Some(10_000),
        deadline_ns: 20_000_000_000,
        observe_ns: 12_000_000_000,
        cut: Some(stamped(0)),
        heal: Some(stamped(10_000)),
        healed_by: Some(HealedBy::Deadline),
        links: vec![link()],
        endpoints: vec![endpoint()],
        phases: Phases {
            silence_ns: Some(960),
            reconnect_ns: Some(200),
            return_ns: Some(800),
            relapse_ns: Some(2_000),
            relapse_out_ns: Some(1_500),
            after_links_ns: Some(2_800),
            last_link: Some(NamedLink { src: "n1".into(), dst: "n2".to_owned() }),
            last_synack_ns: Some(at(11_200)),
        },
        outage: Some(vec![ClusterOutage {
            name: "ingress".to_owned(),
            endpoints: 3,
            without_data: 1,
            some: vec![window()],
            all: Some(vec![window()]),
            some_ns: 10_500,
            some_after_heal_ns: 2_000,
            all_ns: Some(10_500),
            share_ns: Some(3_500),
            open: true,
        }]),
        heal_to_ready_ns: Some(1_960),
        heal_to_settled_ns: Some(3_960),
        host: HostRecord {
            probe_lateness_p99_ns: Some(900_000),
            probe_rate: Some(600.5),
            cpu_pressure: Some(0.25),
            io_pressure: Some(0.125),
        },
        starved: true,
        warnings: vec![Warning::new(
            WarningCode::ForeignAhead,
            "eth0",
            "eth0: cil_from_netdev runs before ours",
        )],
        lost_events: Some(1),
        proved: true,
        is_final: true,
        outcome: Some(Outcome::Recovered),
        outcome_reason: Some("settled 3.96 µs after the heal".to_owned()),
        closed_by: Some("q".to_owned()),
        observed_until_ns: Some(at(30_000)),
    }
}

#[test]
fn the_recovery_record() {
    let record = value(&record());
    assert_eq!(holes(&record), Vec::<String>::new(), "the sample must have a value of each field");
    check(HERE, "record.json", &record);
    let schema = value(&schemars::schema_for!(RecoveryRecord));
    check(HERE, "record.schema.json", &without_prose(schema));
    assert_read_back::<RecoveryRecord>("record.json");
}

#[test]
fn a_record_without_data_has_nulls() {
    let empty = RecoveryRecord {
        clock: None,
        trial: None,
        attempt: None,
        seed: None,
        hold_ns: None,
        cut: None,
        heal: None,
        healed_by: None,
        links: vec![LinkRecord { src: "n1".into(), dst: "n2".into(), ..LinkRecord::default() }],
        endpoints: Vec::new(),
        phases: Phases::default(),
        outage: None,
        heal_to_ready_ns: None,
        heal_to_settled_ns: None,
        host: HostRecord::default(),
        warnings: Vec::new(),
        outcome: None,
        outcome_reason: None,
        closed_by: None,
        observed_until_ns: None,
        ..record()
    };
    check(HERE, "record-empty.json", &value(&empty));
    assert_read_back::<RecoveryRecord>("record-empty.json");
}

fn cell() -> Cell {
    Cell {
        traffic: Traffic {
            direction: Direction::In,
            scopes: vec!["tcp/5122".parse().unwrap(), "udp/7000-7010:dst".parse().unwrap()],
            loss: "30%".parse().unwrap(),
            flap: Some("200ms/50%".parse().unwrap()),
            neighbour: Neighbour::Keep,
        },
        ..Cell::new(Shape::Split(vec![vec!["n1".into()], vec!["n2".into(), "n3".into()]]), Span::secs(5))
    }
}

fn ready() -> Ready {
    Ready { consecutive: 5, observe: Span::secs(12), observe_max: Span::secs(60), tolerate: Span::millis(20) }
}

fn campaign() -> Campaign {
    Campaign {
        schema: CAMPAIGN_SCHEMA,
        settings: Settings {
            cells: vec![cell(), Cell::new(Shape::RandomNode(Draw::default()), Span::secs(15))],
            trials: 60,
            seed: 7,
            deadline: Span::secs(20),
            cool_down: Span::secs(5),
            cycle: Some(Span::secs(30)),
            ready: ready(),
            probes: vec![EndpointProbe {
                endpoint: "ingress@n1".to_owned(),
                required: true,
                rules: ProbeRules {
                    stimulus: "http GET http://10.0.0.1:8080/health, expects 2xx".to_owned(),
                    settings: Some(probe_settings()),
                    addresses: Some(vec!["10.0.0.1".to_owned()]),
                    options: ProbeOptions {
                        interval: Span::millis(10),
                        timeout: Span::secs(1),
                        connection: Connection::Pooled,
                    },
                },
            }],
            gates: Gates {
                advisory: vec!["metadata".to_owned()],
                no_gate: true,
                max_rate: 0.05,
                stop_when: Some(StopWhen { p0: 0.01, p1: 0.05 }),
            },
            allow_uncovered: true,
            strict: true,
            verify: Some(Verify::Active),
        },
        conduct: Some(Conduct {
            healthy_timeout: Span::secs(60),
            abort_after: 3,
            hooks: Hooks {
                before_trial: Some("./before".to_owned()),
                after_trial: Some("./after".to_owned()),
                on_slow: Some("./slow".to_owned()),
            },
        }),
        versions: Versions {
            injector: "0.1.0".to_owned(),
            systems: BTreeMap::from([("quorum".to_owned(), "1.2.3".to_owned())]),
        },
        kernel: "6.12.0".to_owned(),
        command: ["injector", "measure", "--campaign", "c.yaml"].map(str::to_owned).to_vec(),
        clock: Clock { mono_ns: at(0), wall: WallNs(1_760_000_000_000_000_000) },
        started: WallNs(1_760_000_000_000_000_000),
    }
}

#[test]
fn the_settings_of_a_campaign() {
    let campaign = value(&campaign());
    // The second cell has the defaults.
    let holes: Vec<String> = holes(&campaign).into_iter().filter(|path| !path.contains("cells[1]")).collect();
    assert_eq!(holes, Vec::<String>::new(), "the sample must have a value of each field");
    check(HERE, "campaign.json", &campaign);
    assert_read_back::<Campaign>("campaign.json");
}

#[test]
fn the_other_lines_of_a_run_directory() {
    let probe = |failure: Option<(FailureCode, &str)>| ProbeView {
        endpoint: "ingress@n1".to_owned(),
        scheduled_ns: at(0),
        begun_ns: Some(at(1)),
        done_ns: at(900),
        error: failure.map(|(_, text)| text.to_owned()),
        code: failure.map(|(code, _)| code),
    };
    let probes = vec![
        probe(None),
        probe(Some((FailureCode::Timeout, "timeout after 1s"))),
        probe(Some((FailureCode::Unsent, "the prober fell behind by 120 ticks: not sent"))),
    ];
    let lines = json!({
        "probes.jsonl": TrialProbes { trial: 3, attempt: 2, probes },
        "not_made.jsonl": NotMade {
            trial: 4,
            attempt: 1,
            wall: WallNs(1_760_000_000_000_000_000),
            reason: "not healthy within 60s: ingress@n1: connect: connection refused".to_owned(),
        },
        "open.json": OpenTrials::new(Trial { index: 3, attempt: 2 }, vec![Trial { index: 2, attempt: 1 }]),
    });
    check(HERE, "run-lines.json", &lines);
}

/// The settings of a probe: where it starts, where it goes and what it expects.
fn probe_settings() -> ProbeSettings {
    let settings = [
        ("schema", "1"),
        ("kind", "http"),
        ("netns", "client"),
        ("url", "http://{address}:8080/health"),
        ("method", "GET"),
        ("expect.status", "2xx"),
        ("wire", "port 8080, http"),
    ];
    settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn request() -> PartitionRequest {
    let cell = cell();
    PartitionRequest {
        shape: cell.shape,
        for_: Some(Span::secs(5)),
        at: Some(StartAt::MonoNs(at(0))),
        deadline: Some(Span::secs(20)),
        traffic: cell.traffic,
        seed: Some(7),
        owner: Owner::Connection,
        request_id: Some("once".to_owned()),
        allow_ssh: true,
        verdict: VerdictOptions {
            advisory: vec!["metadata".to_owned()],
            allow_uncovered: true,
            strict: true,
            verify: Some(Verify::Active),
        },
        trial: Some(Trial { index: 3, attempt: 2 }),
    }
}

#[test]
fn requests() {
    let whole = value(&request());
    assert_eq!(holes(&whole), Vec::<String>::new(), "the sample must have a value of each field");
    let among = || Some(vec!["n1".into(), "@followers".into()]);
    let shapes: [Shape; 17] = [
        Shape::Isolate(vec!["n1".into(), "n2".into()]),
        Shape::Isolate(vec!["@leader".into()]),
        Shape::Between(vec![vec!["n1".into()], vec!["n2".into()]]),
        Shape::Halves(Nothing {}),
        Shape::RandomHalves(Draw::default()),
        Shape::RandomHalves(Draw { among: among() }),
        Shape::RandomGroups(DrawGroups { groups: 3, among: among() }),
        Shape::RandomNode(Draw::default()),
        Shape::Random(DrawPeers { peers: 2, among: None }),
        Shape::Random(DrawPeers { peers: 2, among: among() }),
        Shape::Minority(Draw::default()),
        Shape::MinorityThird(Draw { among: among() }),
        Shape::MajoritiesRing(Draw::default()),
        Shape::Bridge(Bridge { via: "n3".into() }),
        Shape::Links(vec![NamedLink { src: "n1".into(), dst: "n2".into() }]),
        serde_json::from_value(json!({ "grudge": { "n1": ["n2"], "n3": [] } })).unwrap(),
        Shape::Preset("lonely".to_owned()),
    ];
    let plain: Vec<PartitionRequest> = shapes.map(PartitionRequest::new).to_vec();
    check(HERE, "requests.json", &json!({ "whole": whole, "plain": plain }));
    for request in plain.iter().chain([&request()]) {
        let read: PartitionRequest = serde_json::from_value(value(request)).unwrap();
        assert_eq!(read, *request);
    }
}

#[test]
fn what_the_daemon_answers() {
    let healed = Healed { name: "p".to_owned(), generation: 7, at: stamped(0), healed_by: HealedBy::Request };
    let endpoint = EndpointView {
        name: "ingress@n1".to_owned(),
        peer: Some("n1".into()),
        address: Some([10, 0, 0, 1].into()),
        required: true,
        healthy: Some(false),
        last_error: Some("connect: connection refused".to_owned()),
        probe: ProbeRules {
            stimulus: "tcp 10.0.0.1:8080".to_owned(),
            settings: Some(probe_settings()),
            addresses: Some(vec!["10.0.0.1".to_owned()]),
            options: ProbeOptions {
                interval: Span::millis(10),
                timeout: Span::secs(1),
                connection: Connection::Fresh,
            },
        },
    };
    let rules = Rules { ready: ready(), deadline: Span::secs(20), max_for: Span::secs(600) };
    let event = |kind| Event { id: 1, at_ns: at(0), wall: WallNs(1_760_000_000_000_000_000), kind };
    let first = |what| {
        event(EventKind::First {
            name: "p".to_owned(),
            generation: 7,
            what,
            subject: "n1→n2".to_owned(),
            stamp_ns: at(1),
        })
    };
    let mut events: Vec<Event> =
        [First::Drop, First::Packet, First::Syn, First::Synack, First::Data, First::Response]
            .map(first)
            .to_vec();
    events.extend(
        [
            EventKind::Cut { name: "p".to_owned(), generation: 7, effective: stamped(0) },
            EventKind::Heal { healed: healed.clone() },
            EventKind::Health {
                endpoint: "ingress@n1".to_owned(),
                healthy: false,
                error: Some("x".to_owned()),
            },
            EventKind::Record { name: "p".to_owned(), generation: 7, outcome: Outcome::Recovered },
            EventKind::LeaseLapsed,
            EventKind::Lost { count: 2 },
        ]
        .map(event),
    );
    for event in &events {
        assert_eq!(serde_json::from_value::<Event>(value(event)).unwrap(), *event);
    }
    let answers = json!({ "healed": healed, "endpoint": endpoint, "rules": rules, "events": events });
    check(HERE, "answers.json", &answers);
    assert_eq!(serde_json::from_value::<Rules>(answers["rules"].clone()).unwrap(), rules);
    assert_eq!(serde_json::from_value::<EndpointView>(answers["endpoint"].clone()).unwrap(), endpoint);
    assert_eq!(serde_json::from_value::<Healed>(answers["healed"].clone()).unwrap(), healed);
}

/// A run directory that the first schema wrote: sentences for warnings, no coverage, no outage, no conduct. It is
/// never rewritten.
#[test]
fn a_run_directory_of_schema_1_is_read() {
    let directory = Path::new(HERE).join("tests/data/golden/run-schema-1");
    let run = Run::load(&directory).unwrap();
    assert_eq!((run.trials.len(), run.notes.len()), (1, 0), "{:?}", run.notes);
    let settings = &run.campaign.settings;
    assert_eq!((settings.ready.consecutive, settings.ready.tolerate), (5, Span::default()));
    assert_eq!((settings.strict, settings.verify, run.campaign.conduct.is_none()), (false, None, true));
    let trial = &run.trials[0];
    assert_eq!((trial.cluster.outcome, trial.cluster.settled_ns), (Outcome::Recovered, Some(6_402_000_000)));
    assert_eq!((trial.resolved.as_str(), trial.proved), ("isolate n1", true));
    assert!(trial.outages.is_empty(), "what was not recorded is not known");
    let record = &Run::records(&directory, None).unwrap()[0];
    assert_eq!(record.schema, RECORD_SCHEMA, "it is brought to the present schema");
    assert_eq!(record.warnings[0].code, WarningCode::Other);
    assert_eq!(record.warnings[0].text, "eth0: a program runs before ours");
    assert_eq!(record.links[0].reconnected_ns, Some(MonoNs(5_200_000_000)), "from the SYN-ACK");
}
