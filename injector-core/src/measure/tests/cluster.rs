//! Several endpoints: the cluster is ready and settled when all required ones are.

use super::*;

#[test]
fn the_cluster_is_ready_when_all_are() {
    let a = life(40, fails_in(&[(0, 1000), (14_000, 15_000)]));
    let b = life(40, fails_in(&[(0, 10_000)]));
    let (decided, record) =
        first_final(evidence(vec![endpoint("a@n1", &a), endpoint("b@n2", &b)], 0), 39_000).unwrap();
    // a fails again in the cluster's observation (10 s to 22 s): the observation restarts at 15 s.
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
