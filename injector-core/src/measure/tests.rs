//! The pitfalls of "is it back?", each as a table of probes.

use super::*;
use crate::api::{LinkRecord, Outcome, RecoveryRecord, Uncovered};
use crate::model::{Direction, Draw, NamedLink, Shape, Traffic};
use crate::sample::{EndpointId, FailureCode, ProbeFailure, Sample};

mod again;
mod cluster;
mod endpoint;
mod outcome;
mod phases;

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
        address: None,
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
        dropped_packets: Some(dropped),
        dropped_bytes: Some(dropped * 60),
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
            asked: Shape::RandomNode(Draw::default()),
            resolved: Some(Shape::Isolate(vec!["n1".into()])),
            direction: Direction::Both,
            roles: std::collections::BTreeMap::new(),
        },
        traffic: Some(Traffic::default()),
        seed: None,
        ready: Ready {
            consecutive: 5,
            observe: Span::secs(12),
            observe_max: Span::secs(60),
            tolerate: Span::secs(0),
        },
        deadline: Span::secs(20),
        hold: None,
        cut: Some(stamped(CUT)),
        heal: Some(stamped(HEAL)),
        healed_by: Some(HealedBy::Request),
        links: vec![link(3)],
        endpoints,
        overlaps: Vec::new(),
        closed_by: None,
        broken: None,
        warnings: Vec::new(),
        is_strict: false,
        lost_events: Some(0),
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
fn an_open_record_says_before_the_heal_what_is_proved_so_far() {
    let open = |links: Vec<LinkRecord>| {
        let evidence = Evidence { heal: None, healed_by: None, links, ..evidence(Vec::new(), 0) };
        let record = record(&evidence);
        assert!(!record.is_final && record.links.iter().all(|link| link.in_force.is_none()), "{record:#?}");
        (record.proved, record.links[0].proved)
    };
    assert_eq!(open(vec![link(3)]), (true, true));
    assert_eq!(open(vec![link(0)]), (false, false), "nothing was dropped yet");
    let leaked = LinkRecord { leaked_packets: Some(1), ..link(3) };
    assert_eq!(open(vec![link(3), leaked]), (false, true), "one link is not in force");
}
