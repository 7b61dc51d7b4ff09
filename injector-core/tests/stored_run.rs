//! Applies the definitions of outages to a real run.

#[path = "support/restate.rs"]
mod restate;

use std::collections::BTreeMap;
use std::fs;

use injector_core::api::{FailOver, RecoveryRecord};
use injector_core::clock::{Span, TimeRange};
use injector_core::run::Run;
use serde_json::Value;

/// The records of the run, judged again from its probes.
fn judged(served_within: Option<Span>) -> Vec<RecoveryRecord> {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    Run::records(folder.path(), served_within).unwrap()
}

fn milliseconds(record: &RecoveryRecord, windows: &[TimeRange]) -> Vec<[f64; 2]> {
    let heal = record.heal.unwrap().end_ns.0 as f64;
    let since = |at: u64| (at as f64 - heal) / 1e6;
    windows.iter().map(|window| [since(window.from_ns.0), since(window.until_ns.unwrap().0)]).collect()
}

fn assert_close(what: &str, seen: &[[f64; 2]], expected: &Value) {
    let expected: Vec<[f64; 2]> = serde_json::from_value(expected.clone()).unwrap();
    let is_close = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).abs() <= 1.0 && (a[1] - b[1]).abs() <= 1.0;
    let all = seen.len() == expected.len() && seen.iter().zip(&expected).all(|(a, b)| is_close(a, b));
    assert!(all, "{what}: {seen:?}, not {expected:?}");
}

#[test]
fn windows_fail_over_and_cluster_are_those_of_the_definitions() {
    let records = judged(None);
    assert_eq!(records.len(), 60);
    let text = fs::read_to_string(restate::data("expected-outages.jsonl")).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let expected: Value = serde_json::from_str(line).unwrap();
        let record = &records[expected["trial"].as_u64().unwrap() as usize];
        let trial = record.trial.unwrap();
        assert_eq!(serde_json::to_value(record.outcome).unwrap(), expected["outcome"], "trial {trial}");
        for (name, windows) in expected["windows_ms"].as_object().unwrap() {
            let endpoint = record.endpoints.iter().find(|endpoint| endpoint.name == *name).unwrap();
            let outage = endpoint.outage.as_ref().unwrap();
            let what = format!("trial {trial}, {name}");
            assert_close(&what, &milliseconds(record, &outage.windows), windows);
            let kind = match outage.fail_over.unwrap() {
                FailOver::NeverOut => "never out",
                FailOver::Back => "back",
                FailOver::NotBack => "not back",
            };
            assert_eq!(kind, expected["fail_over"][name][0], "{what}");
            if let Some(back) = outage.fail_over_ns {
                let wanted = expected["fail_over"][name][1].as_f64().unwrap();
                assert!((back as f64 / 1e6 - wanted).abs() <= 1.0, "{what}: {back}, not {wanted}");
            }
            compared += 1;
        }
        let cluster = &record.outage.as_ref().unwrap()[0];
        assert_eq!((cluster.name.as_str(), cluster.endpoints, cluster.without_data), ("ingress", 3, 0));
        assert_close("some out", &milliseconds(record, &cluster.some), &expected["some_out_ms"]);
        assert_close(
            "all out",
            &milliseconds(record, cluster.all.as_ref().unwrap()),
            &expected["all_out_ms"],
        );
    }
    assert_eq!(compared, 120);
}

/// The p50 and the maximum, in seconds with two digits.
fn middle_and_most(mut values: Vec<u64>) -> [String; 2] {
    values.sort_unstable();
    let seconds = |ns: u64| format!("{:.2}", ns as f64 / 1e9);
    [seconds(values[values.len().div_ceil(2) - 1]), seconds(*values.last().unwrap())]
}

#[test]
fn the_figures_of_each_isolated_node() {
    let mut by_node: BTreeMap<String, Vec<RecoveryRecord>> = BTreeMap::new();
    for record in judged(None) {
        by_node.entry(record.shape.words()).or_default().push(record);
    }
    let of = |node: &str, figure: &dyn Fn(&RecoveryRecord) -> u64| {
        middle_and_most(by_node[&format!("isolate {node}")].iter().map(figure).collect())
    };
    let all_out = |record: &RecoveryRecord| record.outage.as_ref().unwrap()[0].all_ns.unwrap();
    let after = |record: &RecoveryRecord| record.outage.as_ref().unwrap()[0].some_after_heal_ns;
    let settled = |record: &RecoveryRecord| record.heal_to_settled_ns.unwrap();
    let outage = |at: usize| {
        move |record: &RecoveryRecord| record.endpoints[at].outage.as_ref().unwrap().sum_ns.unwrap()
    };
    assert_eq!(of("n1", &all_out), ["2.70", "10.77"]);
    assert_eq!(of("n2", &all_out), ["0.00", "0.00"]);
    assert_eq!(of("n1", &outage(0)), ["7.17", "12.52"]);
    assert_eq!(of("n2", &outage(1)), ["5.59", "6.06"]);
    assert_eq!(of("n3", &outage(2)), ["5.98", "8.83"]);
    assert_eq!(of("n1", &after), ["2.81", "8.29"]);
    assert_eq!(of("n2", &after), ["0.59", "1.06"]);
    assert_eq!(of("n3", &after), ["0.98", "3.83"]);
    assert_eq!(of("n1", &settled), ["7.42", "11.37"]);
    assert_eq!(of("n2", &settled), ["0.59", "1.06"]);
    assert_eq!(of("n3", &settled), ["0.98", "7.94"]);
}

#[test]
fn the_report_tells_the_strata_apart() {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    let run = Run::load(folder.path()).unwrap();
    let summary = &run.summary;
    // The slowest stratum first.
    let shapes: Vec<&str> = summary.outages.iter().map(|row| row.shape.as_str()).collect();
    assert_eq!(shapes, ["isolate n1", "isolate n3", "isolate n2"]);
    let seconds = |ns: Option<u64>| format!("{:.2}", ns.unwrap() as f64 / 1e9);
    let n1 = &summary.outages[0];
    let rest = n1.rest_fail_over.as_ref().unwrap();
    assert_eq!((rest.back, rest.not_back, rest.never_out), (38, 4, 0));
    assert_eq!(seconds(rest.times.p90_ns), "4.36");
    // Four did not come back before the heal: the longest fail-over is longer than that cut.
    assert_eq!((rest.times.max_ns, seconds(rest.times.max_at_least_ns)), (None, "5.00".into()));
    assert_eq!([seconds(n1.all_out.p90_ns), seconds(n1.settled.p90_ns)], ["5.09", "8.58"]);
    let [n3, n2] = [&summary.outages[1], &summary.outages[2]].map(|row| row.rest_fail_over.as_ref().unwrap());
    assert_eq!((n3.back, n3.never_out, n2.back, n2.never_out), (0, 40, 0, 38));
    let clear = summary.mix.clear.as_ref().unwrap();
    println!("{:?}", summary.mix.tests);
    assert_eq!((clear.strata, clear.p <= 0.0001, clear.p_holm < 0.01), (3, true, true));
    assert_eq!(summary.mix.tests.len(), 2, "the isolated peer divides the trials as the cut does");
    let text = injector_core::report::text::report(&run);
    assert!(text.contains("slowest first: isolate n1 7.42 s (8.58 s), isolate n3 975 ms (2.07 s)"), "{text}");
    assert!(text.contains("Over this mix: 995 ms (7.96 s)"), "{text}");
    assert!(text.contains("the trials are not alike") && !text.contains("Nothing here speaks"), "{text}");
    assert!(!text.contains("By isolated peer"), "equal tables are printed once: {text}");
}

#[test]
fn links_do_not_explain_most_of_the_time() {
    let mut shares: Vec<f64> = judged(None)
        .iter()
        .filter_map(|record| {
            Some(
                record.phases.after_links_ns? as f64 / record.heal_to_settled_ns.filter(|&ns| ns > 0)? as f64,
            )
        })
        .collect();
    shares.sort_unstable_by(f64::total_cmp);
    let median = shares[shares.len() / 2];
    println!("after the links: {median:.3} at the median of {}", shares.len());
    assert!((median - 0.93).abs() < 0.01, "{median}");
}

#[test]
fn a_tighter_bound_shows_more_outage_and_no_less() {
    let (usual, tight) = (judged(None), judged(Some(Span::millis(250))));
    let sum = |records: &[RecoveryRecord]| -> u64 {
        let outages = records.iter().flat_map(|record| &record.endpoints);
        outages.filter_map(|endpoint| endpoint.outage.as_ref()?.sum_ns).sum()
    };
    assert!(sum(&tight) > sum(&usual), "{} {}", sum(&tight), sum(&usual));
    let first = tight[0].endpoints[0].outage.as_ref().unwrap();
    assert_eq!(first.served_within_ns, 250_000_000);
}

#[test]
fn a_bound_that_the_probes_cannot_answer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    restate::expand(folder.path());
    let refused = |bound| Run::load_within(folder.path(), Some(bound)).unwrap_err().to_string();
    let zero = refused(Span::secs(0));
    assert!(zero.contains("can't be served within 0s") && zero.contains("1s"), "{zero}");
    let above = refused(Span::millis(1001));
    assert!(above.contains("no probe waited for 1s 1ms") && above.contains("at most 1s"), "{above}");
    let run = Run::load_within(folder.path(), Some(Span::secs(1))).unwrap();
    assert!(run.notes.is_empty(), "{:?}", run.notes);
}
