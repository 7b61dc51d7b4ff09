//! Tests of what spoils, censors or closes a trial.

use super::*;

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
    expect(spoilt(&|e| e.links[0].dropped_packets = Some(0)), HarnessFailed, "not proved");
    let unproved = |more: &dyn Fn(&mut Evidence<'_>)| {
        spoilt(&|e| {
            e.links[0].dropped_packets = Some(0);
            more(e);
        })
    };
    let held = |e: &mut Evidence<'_>, ms| e.cut = Some(stamped(HEAL - ms));
    let short = unproved(&|e| held(e, 5));
    expect(
        short.clone(),
        HarnessFailed,
        "in the 5ms that it was held; hold it until a peer has sent something",
    );
    assert!(!short.1.contains("verify: active"), "it tries no cut that is that short: {}", short.1);
    expect(unproved(&|e| held(e, 4_000)), HarnessFailed, "in the 4s that it was held; is there traffic");
    expect(unproved(&|e| held(e, 4_000)), HarnessFailed, "(`verify: active` sends frames of its own)");
    let scoped = unproved(&|e| {
        held(e, 4_000);
        e.traffic.as_mut().unwrap().scopes = vec!["tcp/8003".parse().unwrap()];
    });
    expect(scoped.clone(), HarnessFailed, "is there such traffic (tcp/8003)");
    assert!(!scoped.1.contains("verify: active"), "it tries no cut of a scope: {}", scoped.1);
    expect(spoilt(&|e| e.links[0].uncovered = vec![gap(9_000, 10_100)]), HarnessFailed, "n1→n2");
    expect(spoilt(&|e| e.links[0].uncovered = vec![gap(8_000, 9_000)]), Recovered, "501ms");
    expect(spoilt(&|e| e.healed_by = Some(HealedBy::Lease)), HarnessFailed, "lease");
    expect(spoilt(&|e| e.broken = Some(HarnessFailure::StampLost("x".to_owned()))), HarnessFailed, "stamp");
    expect(spoilt(&|e| e.broken = Some(HarnessFailure::Stopping)), Recovered, "501ms");
    expect(spoilt(&|e| e.links[0].still_cut_by = vec!["q".to_owned()]), Unknown, "still cut by \"q\"");
    expect(spoilt(&|e| e.ready.consecutive = 21), Unknown, "fewer than 21");
    expect(spoilt(&|e| e.ready.consecutive = 21), Unknown, "; cut again once `injector wait --healthy`");
    let mut sick = samples.clone();
    sick[18].failure = Some(planted());
    let record = judged(&sick, 14_000);
    expect(
        (record.outcome.unwrap(), record.outcome_reason.unwrap()),
        Unknown,
        "a@n1 was not healthy before the cut: its last failed probe says \"planted\"; cut again once `injector wait --healthy`",
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
    assert_eq!(
        record.outcome_reason.unwrap(),
        "200 probes that decide were never sent to a@n1: this host held the daemon up; measure on an idle machine, probe \
         less often (a longer `interval`), and use a release build"
    );
    // Those that were sent left in time, on a host without pressure.
    assert!(record.starved);
    // After the observation they are nobody's concern.
    let mut samples = life(20, fails_in(&[(0, 500)]));
    for sample in samples.iter_mut().filter(|sample| sample.scheduled >= healed(13_000)) {
        sample.failure = Some(ProbeFailure::new(FailureCode::Unsent, "200 ticks behind"));
    }
    assert_eq!(judged(&samples, 18_500).outcome, Some(Outcome::Recovered));
}

#[test]
fn probes_that_we_failed_to_send_are_no_failures_of_an_endpoint() {
    let unsent_in = |from: u64, until: u64| {
        let mut samples = life(20, fails_in(&[]));
        for sample in samples.iter_mut().filter(|sample| (at(from)..at(until)).contains(&sample.scheduled)) {
            sample.failure = Some(ProbeFailure::new(FailureCode::Unsent, "not started"));
        }
        judged(&samples, 14_000)
    };
    // Nothing else was sent while the cut lasted.
    let during = unsent_in(CUT, HEAL);
    assert_eq!(during.endpoints[0].impaired, None);
    assert_eq!(during.outcome, Some(Outcome::Recovered), "{:?}", during.outcome_reason);
    let before = unsent_in(CUT - 1_000, CUT);
    let endpoint = &before.endpoints[0];
    assert_eq!((endpoint.healthy_before, endpoint.failure_rate_before), (None, Some(0.0)));
    assert_eq!(before.outcome, Some(Outcome::Unknown));
    let reason = before.outcome_reason.unwrap();
    assert!(
        reason.starts_with("some of the last 5 probes of a@n1 before the cut were never sent"),
        "{reason}"
    );
    assert!(reason.contains("measure on an idle machine"), "{reason}");
    // Earlier ones say nothing of the last.
    assert_eq!(unsent_in(1_000, 2_000).endpoints[0].healthy_before, Some(true));
}

/// A life in which every probe is served.
fn steady() -> Vec<Sample> {
    let mut samples = life(20, fails_in(&[]));
    samples.retain(|sample| !(at(CUT)..at(HEAL)).contains(&sample.scheduled));
    samples.extend((CUT..HEAL).step_by(INTERVAL as usize).map(|ms| probe(ms, 1, true)));
    samples
}

/// A life without what was due in this time.
fn without(samples: &[Sample], from: MonoNs, until: MonoNs) -> RecoveryRecord {
    let is_gone = |sample: &Sample| (from..until).contains(&sample.scheduled);
    let left: Vec<Sample> = samples.iter().filter(|sample| !is_gone(sample)).cloned().collect();
    judged(&left, 18_500)
}

/// A prober that is gone reports nothing, not even a failure. What is not there is no service.
#[test]
fn probes_that_have_no_result_are_no_service() {
    let samples = life(20, fails_in(&[(0, 500)]));
    assert_eq!(judged(&samples, 18_500).heal_to_settled_ns, Some(501_000_000));
    // In the observation.
    let gone = without(&samples, healed(3_000), healed(20_000));
    let reason = gone.outcome_reason.unwrap();
    assert_eq!(gone.outcome, Some(Outcome::HarnessFailed), "{reason}");
    assert!(
        reason.contains("no probe of a@n1 has a result for ") && reason.contains("the prober was gone"),
        "{reason}"
    );
    assert_eq!((gone.heal_to_ready_ns, gone.heal_to_settled_ns), (Some(501_000_000), None));
    assert_eq!((gone.endpoints[0].settled_ns, &gone.endpoints[0].outage), (None, &None));
    // From the heal on, in service as it seems.
    let gone = without(&steady(), healed(0), healed(20_000));
    assert_eq!((gone.outcome, gone.heal_to_ready_ns), (Some(Outcome::HarnessFailed), None));
    // For a while, and back.
    let gone = without(&samples, healed(3_000), healed(4_500));
    assert_eq!(gone.outcome, Some(Outcome::HarnessFailed), "{:?}", gone.outcome_reason);
    // Not for longer than an answer may take.
    assert_eq!(without(&samples, healed(3_000), healed(3_900)).outcome, Some(Outcome::Recovered));
    // While cut: what is seen of it is not all.
    let gone = without(&samples, at(HEAL - 3_000), at(HEAL - 1_000));
    assert_eq!(gone.outcome, Some(Outcome::Recovered), "{:?}", gone.outcome_reason);
    let outage = gone.endpoints[0].outage.as_ref().unwrap();
    assert_eq!((outage.sum_ns, outage.before_heal_ns, outage.fail_over), (None, None, None));
    // Before the cut: it is not known how it was.
    let gone = without(&samples, at(0), at(CUT));
    assert_eq!((gone.outcome, gone.endpoints[0].healthy_before), (Some(Outcome::Unknown), None));
    let gone = without(&samples, at(CUT - 4_000), at(CUT));
    assert_eq!((gone.outcome, gone.endpoints[0].healthy_before), (Some(Outcome::Unknown), None));
    assert!(gone.outcome_reason.unwrap().contains("a@n1 was probed last "));
}

/// What waited for this process before it was sent was not held by the endpoint.
#[test]
fn a_probe_that_was_begun_late_impairs_nobody() {
    let of = |begun: u64| {
        let mut samples = steady();
        let late = samples.iter_mut().find(|sample| sample.scheduled == at(HEAL - INTERVAL)).unwrap();
        (late.begun, late.done) = (at(begun), at(HEAL + 150));
        judged(&samples, 18_500).endpoints[0].impaired
    };
    assert_eq!(of(HEAL - INTERVAL), Some(true));
    assert_eq!(of(HEAL + 149), Some(false));
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
    // Where no probe is due, none is starved.
    assert!(!record(&Evidence { endpoints: Vec::new(), ..pressed.clone() }).starved);
    assert!(!record(&Evidence { cut: None, ..pressed }).starved);
}

/// The interval is longer than the cut, which no probe saw.
#[test]
fn without_a_probe_in_the_cut_the_record_says_nothing_of_that_time() {
    let all = |failing: &[(u64, u64)]| {
        let mut samples = life(20, fails_in(failing));
        samples.retain(|sample| sample.scheduled < at(CUT) || sample.scheduled >= healed(0));
        samples
    };
    let lost = all(&[(200, 1200)]);
    let seen = record(&evidence(vec![endpoint("a@n1", &lost)], 15_000));
    let outage = seen.endpoints[0].outage.as_ref().unwrap();
    assert_eq!(seen.endpoints[0].impaired, None);
    assert_eq!((outage.fail_over, outage.before_heal_ns, outage.lost_by_heal_ns), (None, None, None));
    assert_eq!((outage.windows.len(), ms(Some(outage.after_heal_ns))), (1, Some(1001)));
    let cluster = &seen.outage.as_ref().unwrap()[0];
    assert_eq!((cluster.without_data, cluster.all_ns, cluster.share_ns), (1, None, None));

    let served = all(&[]);
    let seen = record(&evidence(vec![endpoint("a@n1", &served)], 15_000));
    assert_eq!(seen.outcome, Some(Outcome::Recovered));
    assert_eq!(seen.endpoints[0].outage.as_ref().unwrap().never_out(), None);
    let reason = seen.outcome_reason.unwrap();
    assert_eq!(
        reason,
        "no failure in the 12s after the heal; what a@n1 did while cut is not known: probes were not sent, or none ended"
    );
}
