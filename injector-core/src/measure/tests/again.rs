//! Records judged again from their stored probes.

use super::super::again::again;
use super::*;
use crate::api::ProbeView;
use crate::model::{Connection, EndpointProbe, ProbeOptions, ProbeRules};

/// Every probe is sent 400 ms after it was due, as on a busy host, and answered 700 ms after that: in time for 1 s.
fn sent_late() -> Vec<Sample> {
    let late = |mut sample: Sample| {
        sample.begun = sample.scheduled + Duration::from_millis(400);
        sample.done = sample.begun + Duration::from_millis(700);
        sample
    };
    life(20, |ms| (1, ms > 500)).into_iter().map(late).collect()
}

#[test]
fn a_bound_counts_from_the_sending_of_a_probe_again_as_it_did_live() {
    let samples = sent_late();
    let live = judged(&samples, 20_000);
    assert_eq!(live.outcome, Some(Outcome::Recovered), "{live:?}");
    assert!(live.endpoints[0].outage.is_some(), "{live:?}");
    let probes: Vec<ProbeView> = samples.iter().map(|sample| ProbeView::new("a@n1", sample)).collect();
    let options = ProbeOptions {
        interval: Span::millis(INTERVAL),
        timeout: Span::secs(1),
        connection: Connection::Fresh,
    };
    let rules = ProbeRules { options, ..ProbeRules::default() };
    let settings = [EndpointProbe { endpoint: "a@n1".to_owned(), required: true, rules }];
    let ready = evidence(Vec::new(), 0).ready;
    let within = |bound: Option<Span>| again(&live, &probes, &ready, &settings, bound).unwrap();
    let figures = |record: &RecoveryRecord| {
        let windows = record.endpoints[0].outage.as_ref().map(|outage| outage.windows.clone());
        (record.outcome, record.heal_to_settled_ns, windows)
    };
    // The bound that was in force, none, and one that all answers kept.
    for bound in [Some(Span::secs(1)), None, Some(Span::millis(700))] {
        assert_eq!(figures(&within(bound)), figures(&live), "{bound:?}");
    }
    assert_ne!(figures(&within(Some(Span::millis(699)))), figures(&live), "no answer came in time");
    // Stored probes of older versions have no time of sending.
    let older: Vec<ProbeView> =
        probes.iter().map(|probe| ProbeView { begun_ns: None, ..probe.clone() }).collect();
    let usual = again(&live, &older, &ready, &settings, Some(Span::secs(1))).unwrap();
    assert_eq!(figures(&usual), figures(&live));
}
