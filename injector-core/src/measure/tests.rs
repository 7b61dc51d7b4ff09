//! The pitfalls of "is it back?", each as a table of probes.

use super::*;
use crate::api::{LinkRecord, Outcome, RecoveryRecord, Uncovered};
use crate::model::{Direction, NamedLink, Nothing, Shape};
use crate::sample::{EndpointId, FailureCode, ProbeFailure, Sample};

pub(super) const MS: u64 = 1_000_000;
/// The cut lasts from 10 s to 15 s; the heal is at 15 s.
const CUT: u64 = 10_000;
const HEAL: u64 = 15_000;
pub(super) const INTERVAL: u64 = 10;

/// Milliseconds of the clock.
fn at(ms: u64) -> MonoNs {
    MonoNs(ms * MS)
}

/// Milliseconds after the heal.
pub(super) fn healed(ms: u64) -> MonoNs {
    at(HEAL + ms)
}

fn stamped(ms: u64) -> Stamped {
    Stamped { begin_ns: at(ms), end_ns: at(ms), wall: crate::clock::WallNs(0) }
}

fn planted() -> ProbeFailure {
    ProbeFailure::new(FailureCode::Timeout, "planted")
}

fn probe(scheduled: u64, took: u64, ok: bool) -> Sample {
    Sample {
        endpoint: EndpointId(0),
        scheduled: at(scheduled),
        begun: at(scheduled),
        done: at(scheduled + took),
        failure: (!ok).then(planted),
        source: None,
    }
}

/// Healthy while idle, failing during the cut; after the heal `answer` (ms after the heal) gives (ms taken, ok).
pub(super) fn life(seconds: u64, answer: impl Fn(u64) -> (u64, bool)) -> Vec<Sample> {
    let idle = (0..CUT).step_by(500).map(|ms| probe(ms, 1, true));
    let cut = (CUT..HEAL).step_by(INTERVAL as usize).map(|ms| probe(ms, 500, false));
    let after = (0..seconds * 1000).step_by(INTERVAL as usize).map(|ms| {
        let (took, ok) = answer(ms);
        probe(HEAL + ms, took, ok)
    });
    idle.chain(cut).chain(after).collect()
}

fn fails_in(spans: &[(u64, u64)]) -> impl Fn(u64) -> (u64, bool) {
    move |ms| (1, !spans.iter().any(|&(from, to)| (from..to).contains(&ms)))
}

pub(super) fn endpoint<'a>(name: &str, samples: &'a [Sample]) -> EndpointEvidence<'a> {
    EndpointEvidence {
        name: name.to_owned(),
        peer: Some("n1".to_owned()),
        required: true,
        interval: Span::millis(INTERVAL),
        timeout: Span::secs(1),
        is_unseen: false,
        served_within: Span::secs(1),
        first_response: None,
        samples,
    }
}

pub(super) fn link(dropped: u64) -> LinkRecord {
    LinkRecord {
        src: "n1".to_owned(),
        dst: "n2".to_owned(),
        dropped_packets: dropped,
        dropped_bytes: dropped * 60,
        ..LinkRecord::default()
    }
}

pub(super) fn evidence(endpoints: Vec<EndpointEvidence<'_>>, now: u64) -> Evidence<'_> {
    Evidence {
        name: "p".to_owned(),
        generation: 1,
        clock: None,
        trial: None,
        shape: ShapePair {
            asked: Shape::RandomNode(Nothing {}),
            resolved: Shape::Isolate(vec!["n1".into()]),
            direction: Direction::Both,
        },
        seed: None,
        ready: Ready {
            consecutive: 5,
            observe: Span::secs(12),
            observe_max: Span::secs(60),
            tolerate: Span::secs(0),
        },
        deadline: Span::secs(20),
        cut: Some(stamped(CUT)),
        heal: Some(stamped(HEAL)),
        healed_by: Some(HealedBy::Request),
        links: vec![link(3)],
        endpoints,
        closed_by: None,
        broken: None,
        warnings: Vec::new(),
        is_strict: false,
        lost_events: 0,
        cpu_pressure: Some(0.1),
        io_pressure: None,
        starved_pressure: STARVED_PRESSURE,
        now: healed(now),
    }
}

/// Judges one endpoint's life at `now` (ms after the heal).
fn judged(samples: &[Sample], now: u64) -> RecoveryRecord {
    record(&evidence(vec![endpoint("a@n1", samples)], now))
}

/// The first instant (ms after the heal, in steps of 10 ms) at which the record is final, and that record.
fn first_final(mut evidence: Evidence<'_>, until: u64) -> Option<(u64, RecoveryRecord)> {
    // Finality never goes back, so the first instant is found by halving.
    let (mut low, mut high) = (0, until / 10);
    let mut at_instant = |step: u64| {
        evidence.now = healed(step * 10);
        Some(record(&evidence)).filter(|record| record.is_final)
    };
    at_instant(high)?;
    while low < high {
        let middle = u64::midpoint(low, high);
        if at_instant(middle).is_some() { high = middle } else { low = middle + 1 }
    }
    at_instant(low).map(|record| (low * 10, record))
}

fn ms(nanos: Option<u64>) -> Option<u64> {
    nanos.map(|nanos| nanos / MS)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn one_endpoint() {
    struct Case {
        what: &'static str,
        fails: &'static [(u64, u64)],
        tolerate: u64,
        outcome: Outcome,
        ready: Option<u64>,
        settled: Option<u64>,
        relapses: u64,
        /// When it is final, ms after the heal: a probe's result comes 1 ms after its instant.
        decided: u64,
    }
    use Outcome::{NotRecovered, Recovered};
    let cases = [
        Case {
            what: "at once",
            fails: &[],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(1),
            settled: Some(1),
            relapses: 0,
            decided: 12_010,
        },
        Case {
            what: "after 3 s",
            fails: &[(0, 3000)],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(3001),
            settled: Some(3001),
            relapses: 0,
            decided: 15_010,
        },
        Case {
            what: "ready at 0.2 s, failing from 1 s to 4 s",
            fails: &[(0, 200), (1000, 4000)],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(201),
            settled: Some(4001),
            relapses: 1,
            decided: 16_010,
        },
        Case {
            what: "four in a row are not five",
            fails: &[(0, 200), (240, 4000)],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(4001),
            settled: Some(4001),
            relapses: 0,
            decided: 16_010,
        },
        Case {
            what: "a single failure late in the observation",
            fails: &[(0, 200), (11_000, 11_010)],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(201),
            settled: Some(11_011),
            relapses: 1,
            decided: 23_020,
        },
        Case {
            what: "the same, tolerated",
            fails: &[(0, 200), (11_000, 11_010)],
            tolerate: 20,
            outcome: Recovered,
            ready: Some(201),
            settled: Some(201),
            relapses: 0,
            decided: 12_210,
        },
        Case {
            what: "longer than tolerated",
            fails: &[(0, 200), (11_000, 11_020)],
            tolerate: 20,
            outcome: Recovered,
            ready: Some(201),
            settled: Some(11_021),
            relapses: 1,
            decided: 23_030,
        },
        Case {
            what: "a failure after the window",
            fails: &[(0, 200), (12_210, 30_000)],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(201),
            settled: Some(201),
            relapses: 0,
            decided: 12_210,
        },
        Case {
            what: "never",
            fails: &[(0, 90_000)],
            tolerate: 0,
            outcome: NotRecovered,
            ready: None,
            settled: None,
            relapses: 0,
            decided: 20_010,
        },
        Case {
            what: "a run that begins just in time",
            fails: &[(0, 19_990)],
            tolerate: 0,
            outcome: Recovered,
            ready: Some(19_991),
            settled: Some(19_991),
            relapses: 0,
            decided: 32_000,
        },
        Case {
            what: "a run just in time that breaks at four",
            fails: &[(0, 19_990), (20_030, 20_040)],
            tolerate: 0,
            outcome: NotRecovered,
            ready: None,
            settled: None,
            relapses: 0,
            decided: 20_040,
        },
        Case {
            what: "one probe too late",
            fails: &[(0, 20_000)],
            tolerate: 0,
            outcome: NotRecovered,
            ready: None,
            settled: None,
            relapses: 0,
            decided: 20_010,
        },
        Case {
            what: "relapse after the deadline",
            fails: &[(0, 10_000), (21_000, 21_010)],
            tolerate: 0,
            outcome: NotRecovered,
            ready: Some(10_001),
            settled: None,
            relapses: 1,
            decided: 21_010,
        },
    ];
    for case in cases {
        let samples = life(70, fails_in(case.fails));
        let mut evidence = evidence(vec![endpoint("a@n1", &samples)], 0);
        evidence.ready.tolerate = Span::millis(case.tolerate);
        let (decided, record) = first_final(evidence, 60_000).expect(case.what);
        let seen = &record.endpoints[0];
        let since = |at: Option<MonoNs>| ms(at.and_then(|at| at.since(healed(0))));
        let what = case.what;
        assert_eq!(record.outcome, Some(case.outcome), "{what}");
        assert_eq!(seen.outcome, Some(case.outcome), "{what}");
        assert_eq!(since(seen.ready_ns), case.ready, "{what}: ready");
        assert_eq!(since(seen.settled_ns), case.settled, "{what}: settled");
        assert_eq!(ms(record.heal_to_settled_ns), case.settled, "{what}: heal to settled");
        assert_eq!(seen.relapses, case.relapses, "{what}: relapses");
        assert!(decided.abs_diff(case.decided) <= 10, "{what}: decided at {decided}, not {}", case.decided);
        assert_eq!((seen.healthy_before, seen.impaired), (Some(true), Some(true)));
        assert!(record.outcome_reason.is_some() && record.proved && !record.starved);
    }
}

#[test]
fn a_hang_is_no_answer() {
    // Everything sent in the first 900 ms is answered at 900 ms.
    let samples = life(20, |ms| (if ms < 900 { 900 - ms } else { 1 }, true));
    let record = judged(&samples, 14_000);
    let seen = &record.endpoints[0];
    assert_eq!(seen.first_ok_ns, Some(healed(900)));
    assert_eq!(seen.ready_ns, Some(healed(900)));
    assert_eq!(seen.settled_ns, Some(healed(900)));
    assert_eq!(ms(record.heal_to_ready_ns), Some(900));
    let early = judged(&samples, 890);
    assert_eq!((early.endpoints[0].ready_ns, early.endpoints[0].probes_sent), (None, 0));
}

#[test]
fn pending_probes_hold_the_verdict_back() {
    // The probe at 100 ms is answered after 800 ms only, and fails: what came behind it was no run yet.
    let samples = life(20, |ms| if ms == 100 { (800, false) } else { (1, ms >= 80) });
    assert_eq!(judged(&samples, 500).endpoints[0].ready_ns, None);
    assert_eq!(judged(&samples, 950).endpoints[0].ready_ns, Some(healed(111)));
    // Down until the deadline with all probes hanging: decided when the last one due by then is known.
    let samples = life(25, |_| (1000, false));
    let (decided, record) = first_final(evidence(vec![endpoint("a@n1", &samples)], 0), 24_000).unwrap();
    assert_eq!((decided, record.outcome), (21_000, Some(Outcome::NotRecovered)));
    // A sample that never comes is given up after its timeout and the slack.
    let mut samples = life(20, fails_in(&[]));
    samples.retain(|sample| sample.scheduled != healed(5000));
    let (decided, record) = first_final(evidence(vec![endpoint("a@n1", &samples)], 0), 19_000).unwrap();
    assert_eq!((record.outcome, decided), (Some(Outcome::Recovered), 12_010));
    assert!(!judged(&samples[..], 7000).is_final);
}

#[test]
fn a_broken_run_with_a_slow_first_answer_was_never_ready() {
    // Those due before 60 ms are answered at 900 ms; failing at 60 ms, fast from 70 ms on.
    let samples = life(20, |ms| match ms {
        0..60 => (900 - ms, true),
        60 => (1, false),
        _ => (1, true),
    });
    for now in [500, 880] {
        assert_eq!(judged(&samples, now).outcome, None);
    }
    let record = judged(&samples, 13_500);
    assert_eq!(record.endpoints[0].ready_ns, Some(healed(71)));
    assert_eq!(record.endpoints[0].relapses, 0);
    assert_eq!(record.outcome, Some(Outcome::Recovered));
}

#[test]
fn a_slow_answer_past_the_deadline_is_not_the_last_word() {
    // The first run's answers come at 900 ms, past the deadline of 500 ms; but that run breaks at the probe
    // due at 60 ms, which is told at 1060 ms only, and the next run began in time.
    let samples = life(20, |ms| match ms {
        0..60 => (900 - ms, true),
        60 => (1000, false),
        _ => (1, true),
    });
    let mut evidence = evidence(vec![endpoint("a@n1", &samples)], 0);
    evidence.deadline = Span::millis(500);
    for now in [900, 950, 1050, 2000] {
        evidence.now = healed(now);
        assert_eq!(record(&evidence).outcome, None, "at {now}");
    }
    let (_, record) = first_final(evidence, 19_000).unwrap();
    assert_eq!((record.outcome, ms(record.heal_to_settled_ns)), (Some(Outcome::Recovered), Some(71)));
}

#[test]
fn the_cluster_is_ready_when_all_are() {
    let a = life(40, fails_in(&[(0, 1000), (14_000, 15_000)]));
    let b = life(40, fails_in(&[(0, 10_000)]));
    let (decided, record) =
        first_final(evidence(vec![endpoint("a@n1", &a), endpoint("b@n2", &b)], 0), 39_000).unwrap();
    // a fails again in the cluster's observation (10 s to 22 s): the observation starts anew at 15 s.
    assert_eq!(ms(record.heal_to_ready_ns), Some(10_001));
    assert_eq!(ms(record.heal_to_settled_ns), Some(15_001));
    assert_eq!(record.endpoints[0].settled_ns, Some(healed(15_001)));
    assert_eq!(record.endpoints[0].relapses, 1);
    assert_eq!(record.endpoints[1].settled_ns, Some(healed(10_001)));
    assert_eq!(decided, 27_010);
    assert_eq!(record.observed_until_ns, Some(healed(27_001)));
    assert_eq!(record.endpoints[1].probes_sent, 2701);
}

#[test]
fn observe_max_ends_a_flapping_observation() {
    let samples = life(80, |ms| (1, ms % 5000 != 0));
    let mut evidence = evidence(vec![endpoint("a@n1", &samples)], 0);
    evidence.deadline = Span::secs(300);
    let (decided, record) = first_final(evidence, 79_000).unwrap();
    assert_eq!(record.outcome, Some(Outcome::NotRecovered));
    assert_eq!(record.heal_to_settled_ns, None);
    // First ready at 11 ms; an observation that begins after 48.011 s can't end by 60.011 s.
    assert_eq!(decided, 50_010);
    assert!(record.outcome_reason.unwrap().contains("never lasted 12s within 1m"));
}

#[test]
fn an_endpoint_that_was_never_out_adds_nothing() {
    let mut never = life(20, fails_in(&[]));
    for sample in &mut never {
        sample.failure = None;
        sample.done = sample.scheduled + Duration::from_millis(1);
    }
    let out = life(20, fails_in(&[(0, 500)]));
    let record = record(&evidence(vec![endpoint("a@n1", &never), endpoint("b@n2", &out)], 14_000));
    let seen = &record.endpoints[0];
    assert_eq!((seen.impaired, seen.settled_ns), (Some(false), Some(healed(0))));
    assert_eq!(seen.ready_ns, Some(healed(0)), "ready is not after settled");
    assert_eq!(seen.outage.as_ref().unwrap().never_out(), Some(true));
    assert_eq!(ms(record.heal_to_settled_ns), Some(501));
    let alone = judged(&never, 14_000);
    assert_eq!((alone.outcome, alone.heal_to_settled_ns), (Some(Outcome::Recovered), Some(0)));
    let reason = alone.outcome_reason.unwrap();
    assert_eq!(reason, "no required endpoint was out, neither while cut nor in the 12s after the heal");
}

#[test]
fn an_endpoint_that_hung_through_the_heal_and_answered_within_its_bound_stalled() {
    let mut held = life(20, |_| (1, true));
    for sample in held.iter_mut().filter(|sample| sample.failure.is_some()) {
        sample.failure = None;
        sample.done = healed(400);
    }
    for sample in held.iter_mut().filter(|sample| sample.scheduled >= healed(0)) {
        sample.done = sample.done.max(healed(400));
    }
    let mut hanging = evidence(vec![endpoint("a@n1", &held)], 14_000);
    hanging.endpoints[0].timeout = Span::secs(10);
    hanging.endpoints[0].served_within = Span::secs(10);
    let record = record(&hanging);
    assert_eq!(record.endpoints[0].impaired, Some(true));
    assert_eq!(record.endpoints[0].settled_ns, Some(healed(0)));
    let outage = record.endpoints[0].outage.as_ref().unwrap();
    assert_eq!((outage.never_out(), ms(outage.stall_ns)), (Some(true), Some(5400)));
}

#[test]
fn probes_without_results_say_nothing_of_the_cluster() {
    let samples: Vec<Sample> = life(30, fails_in(&[(0, 30_000)]))
        .into_iter()
        .filter(|sample| sample.scheduled < healed(100))
        .collect();
    let record = judged(&samples, 25_000);
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed));
    assert!(record.outcome_reason.unwrap().contains("the prober was gone"));
}

#[test]
fn advisory_endpoints_never_change_the_verdict() {
    let good = life(40, fails_in(&[(0, 500)]));
    let never = life(40, fails_in(&[(0, 90_000)]));
    let slow = life(40, fails_in(&[(0, 10_000)]));
    let mut stuck = endpoint("meta@n1", &never);
    stuck.required = false;
    let (decided, record) =
        first_final(evidence(vec![endpoint("a@n1", &good), stuck.clone()], 0), 39_000).unwrap();
    assert_eq!(record.outcome, Some(Outcome::Recovered));
    assert_eq!(record.endpoints[1].outcome, Some(Outcome::NotRecovered));
    assert_eq!(decided, 20_010, "waits for the advisory endpoint until the deadline");
    let mut late = endpoint("meta@n1", &slow);
    late.required = false;
    let (decided, record) = first_final(evidence(vec![endpoint("a@n1", &good), late], 0), 39_000).unwrap();
    assert_eq!(record.outcome, Some(Outcome::Recovered));
    assert_eq!((record.endpoints[1].outcome, decided), (Some(Outcome::Censored), 20_010));
    assert_eq!(record.endpoints[1].ready_ns, Some(healed(10_001)));
    let (_, record) = first_final(evidence(vec![stuck], 0), 39_000).unwrap();
    assert_eq!(record.outcome, Some(Outcome::Unknown));
    assert!(record.outcome_reason.unwrap().contains("nothing decides"));
}

#[test]
fn what_spoils_a_trial_is_named_and_hides_nothing() {
    use Outcome::{HarnessFailed, Recovered, Unknown};
    let samples = life(20, fails_in(&[(0, 500)]));
    let spoilt = |change: &dyn Fn(&mut Evidence<'_>)| {
        let mut evidence = evidence(vec![endpoint("a@n1", &samples)], 14_000);
        change(&mut evidence);
        let record = record(&evidence);
        assert!(record.is_final);
        assert_eq!(record.endpoints[0].ready_ns, Some(healed(501)));
        (record.outcome.unwrap(), record.outcome_reason.unwrap())
    };
    let gap = |from, until| Uncovered {
        interface: "eth0".to_owned(),
        time: crate::clock::TimeRange { from_ns: at(from), until_ns: Some(at(until)) },
    };
    let expect = |seen: (Outcome, String), outcome, part: &str| {
        assert_eq!(seen.0, outcome, "{}", seen.1);
        assert!(seen.1.contains(part), "{}", seen.1);
    };
    expect(spoilt(&|e| e.links[0].dropped_packets = 0), HarnessFailed, "not proved");
    expect(spoilt(&|e| e.links[0].uncovered = vec![gap(9_000, 10_100)]), HarnessFailed, "n1→n2");
    expect(spoilt(&|e| e.links[0].uncovered = vec![gap(8_000, 9_000)]), Recovered, "501ms");
    expect(spoilt(&|e| e.healed_by = Some(HealedBy::Lease)), HarnessFailed, "lease");
    expect(spoilt(&|e| e.broken = Some(Broken::StampLost("x".to_owned()))), HarnessFailed, "stamp");
    expect(spoilt(&|e| e.broken = Some(Broken::Stopping)), Recovered, "501ms");
    expect(spoilt(&|e| e.links[0].still_cut_by = vec!["q".to_owned()]), Unknown, "still cut by \"q\"");
    expect(spoilt(&|e| e.ready.consecutive = 21), Unknown, "fewer than 21");
    expect(spoilt(&|e| e.ready.consecutive = 21), Unknown, "once `injector status` shows it healthy");
    let mut sick = samples.clone();
    sick[18].failure = Some(planted());
    let record = judged(&sick, 14_000);
    expect(
        (record.outcome.unwrap(), record.outcome_reason.unwrap()),
        Unknown,
        "a@n1 was not healthy before the cut: its last failed probe says \"planted\"",
    );
    assert_eq!(record.endpoints[0].failure_rate_before, Some(0.05));
}

#[test]
fn probes_that_we_failed_to_send_decide_nothing() {
    let mut samples = life(20, fails_in(&[(0, 500)]));
    for sample in
        samples.iter_mut().filter(|sample| (healed(3_000)..healed(5_000)).contains(&sample.scheduled))
    {
        sample.failure = Some(ProbeFailure::new(FailureCode::Unsent, "200 ticks behind"));
    }
    let record = judged(&samples, 18_500);
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed), "{:?}", record.outcome_reason);
    assert!(record.outcome_reason.unwrap().contains("200 probes of a@n1"));
    // After the observation they are nobody's concern.
    let mut samples = life(20, fails_in(&[(0, 500)]));
    for sample in samples.iter_mut().filter(|sample| sample.scheduled >= healed(13_000)) {
        sample.failure = Some(ProbeFailure::new(FailureCode::Unsent, "200 ticks behind"));
    }
    assert_eq!(judged(&samples, 18_500).outcome, Some(Outcome::Recovered));
}

#[test]
fn another_cut_censors_only_what_is_open() {
    // The other cut makes probes fail from 5 s on, one of them under way when it came.
    let samples = life(20, |ms| if ms >= 4990 { (900, false) } else { (1, ms >= 500) });
    let mut open = evidence(vec![endpoint("a@n1", &samples)], 14_000);
    open.closed_by = Some(Closed { partition: "q".to_owned(), at: healed(5000) });
    let seen = record(&open);
    assert!(seen.is_final);
    assert_eq!((seen.outcome, seen.closed_by.as_deref()), (Some(Outcome::Censored), Some("q")));
    assert_eq!(seen.observed_until_ns, Some(healed(5000)));
    assert_eq!(seen.endpoints[0].ready_ns, Some(healed(501)));
    assert_eq!((seen.endpoints[0].relapses, seen.endpoints[0].outcome), (0, Some(Outcome::Censored)));
    let samples = life(20, fails_in(&[(0, 500), (13_000, 90_000)]));
    let mut decided = evidence(vec![endpoint("a@n1", &samples)], 14_000);
    decided.closed_by = Some(Closed { partition: "q".to_owned(), at: healed(13_000) });
    assert_eq!(record(&decided).outcome, Some(Outcome::Recovered));
}

#[test]
fn before_the_heal_nothing_is_decided() {
    let samples = life(0, fails_in(&[]));
    let mut live = evidence(vec![endpoint("a@n1", &samples)], 0);
    live.heal = None;
    live.healed_by = None;
    let seen = record(&live);
    assert_eq!((seen.is_final, seen.outcome, seen.hold_ns), (false, None, None));
    assert_eq!(seen.endpoints[0].impaired, Some(true));
}

#[test]
fn phases_add_up_and_name_the_last_link() {
    let samples = life(20, fails_in(&[(0, 900)]));
    let mut all = evidence(vec![endpoint("a@n1", &samples)], 14_000);
    let mut slow = link(2);
    "n3".clone_into(&mut slow.src);
    slow.first_packet_ns = Some(healed(300));
    slow.first_synack_ns = Some(healed(310));
    slow.first_data_ns = Some(healed(600));
    all.links[0].first_packet_ns = Some(healed(100));
    // A reconnect long after settled had no part in it.
    all.links[0].first_synack_ns = Some(healed(9000));
    let mut silent = link(0);
    silent.first_packet_ns = Some(healed(800));
    all.links.extend([slow, silent]);
    let seen = record(&all).phases;
    let lengths = [seen.silence_ns, seen.reconnect_ns, seen.return_ns, seen.relapse_ns, seen.after_links_ns];
    assert_eq!(lengths.map(ms), [Some(300), Some(10), Some(591), Some(0), Some(591)]);
    assert_eq!(seen.last_synack_ns, Some(healed(9000)), "evidence, also where it came too late");
    assert_eq!(seen.last_link, Some(NamedLink { src: "n3".to_owned(), dst: "n2".to_owned() }));
    // Without any handshake the next phase is counted from the last boundary there is.
    all.links[1].first_synack_ns = None;
    let seen = record(&all).phases;
    assert_eq!(
        [seen.reconnect_ns, seen.return_ns, seen.after_links_ns].map(ms),
        [Some(300), Some(301), Some(301)]
    );
    all.links[1].first_data_ns = None;
    let seen = record(&all).phases;
    assert_eq!([seen.reconnect_ns, seen.return_ns, seen.after_links_ns].map(ms), [None, Some(601), None]);
}

#[test]
fn a_link_carries_from_a_handshake_or_from_payload_both_ways() {
    let samples = life(20, fails_in(&[(0, 900)]));
    let pair = |there: [Option<u64>; 2], back: [Option<u64>; 2]| {
        let mut all = evidence(vec![endpoint("a@n1", &samples)], 14_000);
        let mut other = link(3);
        std::mem::swap(&mut other.src, &mut other.dst);
        all.links.push(other);
        for (link, [synack, exchange]) in all.links.iter_mut().zip([there, back]) {
            (link.first_synack_ns, link.first_exchange_ns) = (synack.map(healed), exchange.map(healed));
            // Payload alone, as of a retransmission, is no sign of it.
            link.first_data_ns = Some(healed(1));
        }
        let seen = record(&all);
        assert_eq!(seen.links[0].reconnected_ns, seen.links[1].reconnected_ns);
        ms(seen.links[0].reconnected_ns.and_then(|at| at.since(healed(0))))
    };
    // An old connection goes on at 40 ms; the handshake of another one moves nothing.
    assert_eq!(pair([None, None], [Some(700), Some(40)]), Some(40));
    assert_eq!(pair([Some(30), Some(50)], [None, Some(60)]), Some(30));
    // Retransmissions both ways, on connections that the other end has given up.
    assert_eq!(pair([None, None], [None, None]), None);
    // In a one-way cut the other direction is no link of the partition.
    let mut all = evidence(vec![endpoint("a@n1", &samples)], 14_000);
    all.links[0].first_data_ns = Some(healed(20));
    assert_eq!(record(&all).links[0].reconnected_ns, Some(healed(20)));
}

#[test]
fn an_endpoint_that_was_never_out_moves_no_phase() {
    let out = life(20, fails_in(&[(0, 500)]));
    let mut never = life(20, fails_in(&[]));
    for sample in &mut never {
        sample.failure = None;
        // Slower than the others' whole recovery.
        sample.done = sample.scheduled + Duration::from_millis(700);
    }
    never.retain(|sample| (sample.scheduled.0 / MS).is_multiple_of(1000));
    let mut slow = endpoint("b@n2", &never);
    slow.interval = Span::secs(1);
    let mut all = evidence(vec![endpoint("a@n1", &out), slow], 16_000);
    all.links[0].first_packet_ns = Some(healed(100));
    let seen = record(&all);
    assert_eq!(seen.endpoints[1].settled_ns, Some(healed(0)));
    assert_eq!(ms(seen.heal_to_settled_ns), Some(501));
    assert_eq!(ms(seen.heal_to_ready_ns), Some(501), "ready is not after settled");
    assert_eq!([seen.phases.return_ns, seen.phases.relapse_ns].map(ms), [Some(401), Some(0)]);
}

#[test]
fn a_starved_instrument_says_so() {
    let mut samples = life(20, fails_in(&[]));
    assert!(!judged(&samples, 14_000).starved);
    for sample in samples.iter_mut().skip(600).step_by(20) {
        sample.begun = sample.scheduled + Duration::from_millis(11);
        sample.done = sample.begun + Duration::from_millis(1);
    }
    let seen = judged(&samples, 14_000);
    assert_eq!((seen.starved, ms(seen.host.probe_lateness_p99_ns)), (true, Some(11)));
    assert!((95.0..=101.0).contains(&seen.host.probe_rate.unwrap()), "{:?}", seen.host);
    let calm = life(20, fails_in(&[]));
    let mut pressed = evidence(vec![endpoint("a@n1", &calm)], 14_000);
    pressed.cpu_pressure = Some(0.6);
    assert!(record(&pressed).starved);
}
