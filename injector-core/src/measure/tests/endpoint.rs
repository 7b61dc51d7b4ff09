//! One endpoint: when it is ready, when settled, and what holds the verdict back.

use super::*;

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
    // Probes due before 60 ms are answered at 900 ms; the probe due at 60 ms fails; later ones are answered
    // in 1 ms.
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
    // due at 60 ms, whose failure is known at 1060 ms, and the next run began in time.
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
