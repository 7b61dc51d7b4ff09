//! Properties that hold for any life of two endpoints.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{INTERVAL, MS, endpoint, evidence, healed, life};
use super::*;
use crate::api::{Outcome, RecoveryRecord};

/// Few long spans rather than noise: (length in probes, ms taken, ok).
fn spans() -> impl Strategy<Value = Vec<(usize, u64, bool)>> {
    proptest::collection::vec((1..40_usize, prop_oneof![Just(1_u64), 0..90_u64], any::<bool>()), 1..12)
}

fn life_of(spans: &[(usize, u64, bool)]) -> Vec<Sample> {
    let probes: Vec<(u64, bool)> =
        spans.iter().flat_map(|&(length, took, ok)| std::iter::repeat_n((took, ok), length)).collect();
    life(4, |ms| probes.get((ms / INTERVAL) as usize).copied().unwrap_or(*probes.last().unwrap()))
}

/// Small bounds, so that every way to end is met.
fn small<'a>(a: &'a [Sample], b: &'a [Sample], tolerate: u64, now: u64) -> Evidence<'a> {
    let mut evidence = evidence(vec![endpoint("a@n1", a), endpoint("b@n2", b)], now);
    evidence.endpoints.iter_mut().for_each(|endpoint| endpoint.timeout = Span::millis(100));
    evidence.ready.consecutive = 3;
    evidence.ready.observe = Span::millis(400);
    evidence.ready.observe_max = Span::millis(900);
    evidence.ready.tolerate = Span::millis(tolerate);
    evidence.deadline = Span::millis(800);
    evidence
}

/// Judges two lives again and again while their probes come in.
fn stays_decided(
    a: &[(usize, u64, bool)],
    b: &[(usize, u64, bool)],
    tolerate: u64,
) -> Result<(), TestCaseError> {
    let (a, b) = (life_of(a), life_of(b));
    let mut first: Option<(u64, RecoveryRecord)> = None;
    for now in (0..3900).step_by(26) {
        let seen = record(&small(&a, &b, tolerate, now));
        let Some((then, first)) = &first else {
            if seen.is_final {
                first = Some((now, seen));
            }
            continue;
        };
        prop_assert!(seen.is_final, "final at {} but not at {}", then, now);
        prop_assert_eq!(seen.outcome, first.outcome, "decided at {}, changed at {}", then, now);
        prop_assert_eq!(seen.heal_to_settled_ns, first.heal_to_settled_ns);
        if first.outcome == Some(Outcome::Recovered) {
            // All of what was judged was there.
            prop_assert_eq!(&seen.endpoints, &first.endpoints);
            prop_assert_eq!(seen.heal_to_ready_ns, first.heal_to_ready_ns);
        } else {
            for (now, then) in seen.endpoints.iter().zip(&first.endpoints) {
                prop_assert!(then.ready_ns.is_none() || then.ready_ns == now.ready_ns);
            }
        }
    }
    prop_assert!(first.is_some(), "never decided");
    Ok(())
}

/// When two endpoints relapse, the slower one's failure is known later: the other one's must not be
/// forgotten.
#[test]
fn a_late_failure_opens_nothing_again() {
    let slow = [(63, 1, false), (10, 1, true), (1, 77, false)];
    let prompt = [(57, 1, false), (20, 1, true), (1, 1, false)];
    stays_decided(&slow, &prompt, 0).unwrap();
    stays_decided(&prompt, &slow, 0).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_order_of_arrival_changes_nothing(a in spans(), now in 0..3000_u64, seed in any::<u64>()) {
        let sorted = life_of(&a);
        let mut mixed = sorted.clone();
        let mut state = seed | 1;
        for at in (1..mixed.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            mixed.swap(at, (state >> 33) as usize % (at + 1));
        }
        prop_assert_eq!(record(&small(&sorted, &sorted, 0, now)), record(&small(&mixed, &mixed, 0, now)));
    }

    /// This holds for endpoints that the cut did not impair, and in words: the verdict names the figure of
    /// the record.
    #[test]
    fn ready_is_never_after_settled(a in spans(), b in spans(), felt in any::<[bool; 2]>()) {
        let mut lives = [life_of(&a), life_of(&b)];
        for (life, felt) in lives.iter_mut().zip(felt) {
            for sample in life.iter_mut().filter(|sample| !felt && sample.scheduled < healed(0)) {
                sample.failure = None;
                sample.done = sample.scheduled + Duration::from_millis(1);
            }
        }
        let seen = record(&small(&lives[0], &lives[1], 0, 3900));
        let times = seen.endpoints.iter().map(|endpoint| (endpoint.ready_ns, endpoint.settled_ns));
        for (ready, settled) in times {
            prop_assert!(settled.is_none() || ready.is_some_and(|ready| ready <= settled.unwrap()));
        }
        let Some(settled) = seen.heal_to_settled_ns else { return Ok(()) };
        prop_assert!(seen.heal_to_ready_ns.is_some_and(|ready| ready <= settled));
        let reason = seen.outcome_reason.unwrap_or_default();
        let named = format!("settled {} after the heal", words::seconds(Duration::from_nanos(settled)));
        prop_assert_eq!(reason.starts_with(&named), settled > 0, "{} ns: {}", settled, reason);
        prop_assert_eq!(reason.contains("settled"), settled > 0, "{} ns: {}", settled, reason);
    }

    #[test]
    fn settled_means_that_nothing_failed_afterwards(a in spans(), b in spans()) {
        let (a, b) = (life_of(&a), life_of(&b));
        let seen = record(&small(&a, &b, 0, 3900));
        if let Some(settled) = seen.heal_to_settled_ns {
            let from = healed(0).0 + settled;
            let failed = |samples: &[Sample]| samples.iter().any(|sample| {
                sample.failure.is_some() && (from..from + 400 * MS).contains(&sample.scheduled.0)
            });
            prop_assert!(!failed(&a) && !failed(&b));
            prop_assert!(settled <= 800 * MS);
            prop_assert!(seen.heal_to_ready_ns.unwrap() <= settled);
        }
    }
}

/// How many pairs of lives are judged again and again: each of them costs 150 records.
fn lives() -> u32 {
    if std::env::var_os("INJECTOR_LONG").is_some() { 400 } else { 32 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(lives()))]

    #[test]
    fn a_decided_record_stays_decided(a in spans(), b in spans(), tolerate in prop_oneof![Just(0), 10..60_u64]) {
        stays_decided(&a, &b, tolerate)?;
    }
}
