//! Tests of a record's text.

use super::*;
use injector_core::api::{Coverage, EndpointRecord};

fn record() -> RecoveryRecord {
    serde_json::from_str(include_str!("../../../../injector-core/tests/data/golden/record.json")).unwrap()
}

#[test]
fn a_partition_that_has_not_begun_is_not_called_cut() {
    let undecided = RecoveryRecord { outcome: None, outcome_reason: None, heal: None, ..record() };
    let waiting = text(&RecoveryRecord { cut: None, ..undecided.clone() });
    assert!(waiting.contains(": not cut yet, nothing is decided\n"), "{waiting}");
    assert!(text(&undecided).contains(": still cut, nothing is decided\n"));
}

#[test]
fn a_starved_record_says_so_and_what_to_do_right_after_its_verdict() {
    let starved = RecoveryRecord { starved: true, ..record() };
    let of = |record: &RecoveryRecord| text(record).lines().nth(1).unwrap().to_owned();
    let line = of(&starved);
    assert!(line.starts_with("  starved  this host was too busy to measure well (probe lateness"), "{line}");
    assert!(line.ends_with(&format!("; {STARVED_REMEDY}")), "{line}");
    // The verdict has the remedy already.
    let reason = Some(format!("12 probes were never sent; {STARVED_REMEDY}"));
    let unsent = RecoveryRecord { outcome_reason: reason, ..starved };
    assert!(of(&unsent).starts_with("  starved") && !of(&unsent).contains(STARVED_REMEDY));
    let calm = text(&RecoveryRecord { starved: false, ..record() });
    assert!(!calm.contains("starved"), "{calm}");
}

#[test]
fn links_without_a_verdict_are_named_at_the_head() {
    let mut record = RecoveryRecord { starved: false, ..record() };
    let mut link = record.links[0].clone();
    (link.left_out, link.coverage) = (false, None);
    let of = |dst: &str, state, left_out, reason: Option<&str>| LinkRecord {
        dst: dst.to_owned(),
        left_out,
        coverage: Some(Coverage { state, reason: reason.map(str::to_owned), is_translated: false }),
        ..link.clone()
    };
    record.links = vec![
        of("n7", CoverageState::Not, true, Some("no hook")),
        of("n8", CoverageState::Unknown, false, Some("not all devices are known")),
        of("n9", CoverageState::Covered, false, Some("eth1 is left out: elsewhere")),
    ];
    let text = text(&record);
    let head: Vec<&str> = text.lines().skip(1).take(3).collect();
    let src = &link.src;
    let expected = [
        format!("  left out {src}→n7: not covered, left out on purpose, and no part of the verdict"),
        format!("  coverage unknown for {src}→n8: not all devices of either end are known"),
        format!("  coverage of {src}→n9: eth1 is left out: elsewhere"),
    ];
    assert_eq!(head, expected, "{text}");
}

#[test]
fn what_is_not_known_is_a_dash_alone() {
    let undecided = text(&RecoveryRecord { heal_to_settled_ns: None, ..record() });
    assert!(undecided.contains("  settled  –\n"), "{undecided}");
}

#[test]
fn endpoints_that_the_heal_took_are_named_below_the_verdict() {
    let mut record = RecoveryRecord { starved: false, links: Vec::new(), ..record() };
    let mut first = record.endpoints[0].clone();
    let set = |endpoint: &mut EndpointRecord, name: &str, ns, open| {
        endpoint.name = name.to_owned();
        let outage = endpoint.outage.as_mut().unwrap();
        (outage.lost_by_heal_ns, outage.open) = (ns, open);
    };
    let line = |record: &RecoveryRecord| text(record).lines().nth(1).unwrap().to_owned();
    set(&mut first, "ingress@n1", Some(1_300_000_000), false);
    record.endpoints = vec![first.clone()];
    assert_eq!(line(&record), "  lost     ingress@n1 served at the heal and was out after it, 1.300 s");
    set(&mut first, "ingress@n2", Some(0), false);
    record.endpoints.push(first.clone());
    set(&mut first, "ingress@n3", Some(900_000_000), false);
    record.endpoints.push(first.clone());
    let both = "  lost     ingress@n1, ingress@n3 served at the heal and were out after it, up to 1.300 s";
    assert_eq!(line(&record), both);
    record.endpoints[2].outage.as_mut().unwrap().open = true;
    assert!(line(&record).ends_with("after it, at least 1.300 s"), "{}", line(&record));
    record.endpoints = vec![record.endpoints[1].clone()];
    assert!(!text(&record).contains("  lost  "), "nothing was lost");
}

/// Ready and settled are one figure in the verdict, in the lines below it and in the table.
#[test]
fn a_cluster_that_was_never_out_is_ready_and_settled_at_the_heal() {
    let mut record = record();
    let heal = record.heal.unwrap().end_ns;
    record.outcome = Some(Outcome::Recovered);
    record.outcome_reason = Some("no required endpoint was out".to_owned());
    (record.heal_to_ready_ns, record.heal_to_settled_ns) = (Some(0), Some(0));
    for endpoint in &mut record.endpoints {
        (endpoint.ready_ns, endpoint.settled_ns) = (Some(heal), Some(heal));
    }
    let text = text(&record);
    assert!(text.contains("recovered (deadline 20.000 s): no required endpoint was out\n"), "{text}");
    assert!(text.contains("  ready    at the heal\n  settled  at the heal\n"), "{text}");
    assert!(!text.contains("after the heal:") && !text.contains("0 ns after"), "{text}");
    let row = text.lines().find(|line| line.starts_with("ingress@n1  required")).unwrap();
    assert_eq!(row.matches("0 ns").count(), 2, "{row}");
}

#[test]
fn the_line_of_the_reconnect_names_its_link() {
    let mut record = record();
    let heal = record.heal.unwrap().end_ns;
    let settled = heal + Duration::from_nanos(record.heal_to_settled_ns.unwrap());
    let of = |dst: &str, reconnected_ns| LinkRecord {
        src: "n1".to_owned(),
        dst: dst.to_owned(),
        dropped_packets: Some(3),
        reconnected_ns,
        ..LinkRecord::default()
    };
    let mut line = |links: Vec<LinkRecord>| {
        record.links = links;
        let text = text(&record);
        text.lines().find(|line| line.starts_with("reconnect")).unwrap().to_owned()
    };
    let (soon, late) = (of("n2", Some(heal)), of("n3", Some(settled + Duration::from_nanos(1))));
    assert!(line(vec![soon.clone()]).ends_with("the last link carries, n1→n2"));
    assert!(line(vec![soon.clone(), late]).ends_with("n1→n2 carries, the last before settled"));
    assert!(line(vec![soon, of("n3", None)]).ends_with("the last link carries; n1→n3 has not"));
}

#[test]
fn outages_before_the_heal_that_are_not_known_are_not_counted_as_none() {
    let mut record = record();
    let outage = record.endpoints[0].outage.as_mut().unwrap();
    let before = outage.before_heal_ns.take();
    assert_eq!(times(outage), "≥ once");
    outage.windows.clear();
    assert_eq!(times(outage), NONE);
    outage.before_heal_ns = before;
    assert_eq!(times(outage), "0 times");
}
