use super::*;
use crate::api::LinkRecord;
use crate::metrics::MOST_LABELS;

/// The record of the golden file, with this outcome for itself and its endpoints.
fn record(outcome: Option<Outcome>) -> RecoveryRecord {
    let text = include_str!("../../../tests/data/golden/record.json");
    let mut record: RecoveryRecord = serde_json::from_str(text).unwrap();
    record.outcome = outcome;
    for endpoint in &mut record.endpoints {
        endpoint.outcome = outcome;
    }
    record
}

fn closed<'a>(history: &'a History, shape: &str) -> &'a ShapeHistory {
    history.shapes.iter().find(|(word, _)| *word == shape).unwrap().1
}

#[test]
fn an_outcome_that_is_not_known_is_counted_as_its_own_and_observes_nothing() {
    let mut history = History::default();
    for outcome in [Some(Outcome::Recovered), Some(Outcome::HarnessFailed), Some(Outcome::Unknown), None] {
        history.closed(&record(outcome));
    }
    let word = record(None).shape.asked.written().0;
    let shape = closed(&history, word);
    assert_eq!(
        shape.closed,
        BTreeMap::from([("recovered", 1), ("harness_failed", 1), ("unknown", 1), (NONE, 1)])
    );
    assert_eq!((shape.ready.count(), shape.settled.count()), (1, 1), "of the recovered one alone");
    let endpoint = record(None).endpoints[0].name.clone();
    let (_, endpoint) = history.endpoints.iter().find(|(name, _)| *name == endpoint).unwrap();
    assert_eq!(endpoint.closed.values().sum::<u64>(), 4);
    assert_eq!(endpoint.closed[NONE], 1);
    assert!(endpoint.ready.count() <= 1, "{endpoint:?}");
}

#[test]
fn a_time_that_is_null_is_not_observed() {
    let mut history = History::default();
    let mut record = record(Some(Outcome::NotRecovered));
    record.heal_to_settled_ns = None;
    for endpoint in &mut record.endpoints {
        endpoint.settled_ns = None;
    }
    history.closed(&record);
    let shape = closed(&history, record.shape.asked.written().0);
    assert_eq!(shape.settled.count(), 0);
    assert!(history.endpoints.iter().all(|(_, endpoint)| endpoint.settled.count() == 0));
}

#[test]
fn the_peers_that_are_cut_off_are_counted_and_a_shape_without_sides_counts_for_nobody() {
    let link =
        |src: &str, dst: &str| LinkRecord { src: src.into(), dst: dst.into(), ..LinkRecord::default() };
    let mut isolated = record(Some(Outcome::Recovered));
    isolated.endpoints.clear();
    isolated.shape.resolved = Some(Shape::Isolate(vec!["n1".into()]));
    isolated.links = vec![link("n1", "n2"), link("n2", "n1"), link("n1", "n3"), link("n3", "n1")];
    let mut one_way = isolated.clone();
    one_way.links = vec![link("n1", "n2")];
    let mut history = History::default();
    history.closed(&isolated);
    history.closed(&one_way);
    let peers: Vec<(&str, u64)> =
        history.peers.iter().map(|(peer, outcomes)| (peer, outcomes["recovered"])).collect();
    assert_eq!(peers, [(NONE, 1), ("n1", 1)]);
}

#[test]
fn drops_never_go_down() {
    let mut history = History::default();
    let drops = |packets| Drops { packets, bytes: packets * 100 };
    history.dropping(drops(7));
    history.dropping(drops(0));
    assert_eq!(history.drops(), drops(7), "a map that can't be read does not make it less");
    let mut record = record(Some(Outcome::Recovered));
    record.links.truncate(1);
    record.links[0].dropped_packets = Some(9);
    record.links[0].dropped_bytes = Some(900);
    history.closed(&record);
    history.dropping(drops(0));
    assert_eq!(history.drops(), drops(9), "what closed partitions dropped stays");
    history.dropping(drops(2));
    assert_eq!(history.drops(), drops(11));
}

#[test]
fn a_thousand_endpoints_over_many_reloads_have_a_bound() {
    let mut history = History::default();
    let record = record(Some(Outcome::Recovered));
    for at in 0..1_000 {
        let mut record = record.clone();
        record.endpoints.truncate(1);
        record.endpoints[0].name = format!("ingress@n{at}");
        history.closed(&record);
    }
    assert_eq!(history.endpoints.iter().count(), MOST_LABELS + 1);
    let all: u64 = history.endpoints.iter().flat_map(|(_, endpoint)| endpoint.closed.values()).sum();
    assert_eq!(all, 1_000);
}
