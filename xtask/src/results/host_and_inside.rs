//! Two ways of cutting the same cluster, side by side: what the records of each have, and how exact their times are.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The endpoint that both ways measure.
const ENDPOINT: &str = "ingress@n1";

/// The text of a row for one run.
type Cell = fn(&[Value]) -> String;

const ROWS: [(&str, Cell); 11] = [
    ("trials, recovered", recovered),
    ("records with `starved`", starved),
    ("links cut, in force from beginning to end", in_force),
    ("hold differs from 5 s by at most", hold),
    ("uncertainty of the cut's instant, median", |records| {
        milliseconds(medians(records, |record| width(&record["cut"])))
    }),
    ("uncertainty of the heal's instant, median", |records| {
        milliseconds(medians(records, |record| width(&record["heal"])))
    }),
    ("packets dropped in a trial, median", |records| {
        medians(records, dropped).map_or_else(nothing, |packets| packets.to_string())
    }),
    ("heal to the first packet between n1 and another peer, median", |records| {
        milliseconds(medians(records, first_packet))
    }),
    ("n1 isolated: heal to settled at n1, median", |records| milliseconds(medians(records, settled))),
    ("lateness of probes, 99th percentile, median of the trials", |records| {
        milliseconds(medians(records, |record| record["host"]["probe_lateness_p99_ns"].as_u64()))
    }),
    ("share of time in which work waited for a processor, median", |records| {
        let share = |record: &Value| {
            let share = record["host"]["cpu_pressure"].as_f64()?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share, in thousandths"
            )]
            Some((share * 1e3).round() as u64)
        };
        #[expect(clippy::cast_precision_loss, reason = "a share, in thousandths")]
        medians(records, share).map_or_else(nothing, |share| format!("{:.0} %", share as f64 / 10.0))
    }),
];

/// A table in Markdown of two kept runs.
///
/// # Errors
/// A file of a run can't be read.
pub fn table(host: &Path, inside: &Path) -> Result<String> {
    Ok(in_words(&records(host)?, &records(inside)?))
}

fn records(run: &Path) -> Result<Vec<Value>> {
    let path = run.join("trials.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let records = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
    records.with_context(|| format!("reading {}", path.display()))
}

fn in_words(host: &[Value], inside: &[Value]) -> String {
    let mut text = "| | daemon on the host | daemon in n1 |\n|---|---|---|\n".to_owned();
    for (name, cell) in ROWS {
        let _ = writeln!(text, "| {name} | {} | {} |", cell(host), cell(inside));
    }
    text
}

fn nothing() -> String {
    "–".to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "times of a trial are far below 2^52 ns")]
fn milliseconds(span: Option<u64>) -> String {
    span.map_or_else(nothing, |ns| match ns {
        0..10_000_000 => format!("{:.3} ms", ns as f64 / 1e6),
        _ => format!("{:.0} ms", ns as f64 / 1e6),
    })
}

/// The median of what a value of the records that have one is; the lower one of two.
fn medians(records: &[Value], of: impl Fn(&Value) -> Option<u64>) -> Option<u64> {
    let mut values: Vec<u64> = records.iter().filter_map(of).collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

fn links(record: &Value) -> impl Iterator<Item = &Value> {
    record["links"].as_array().into_iter().flatten()
}

fn recovered(records: &[Value]) -> String {
    let recovered = records.iter().filter(|record| record["outcome"] == "recovered").count();
    format!("{}, {recovered}", records.len())
}

fn starved(records: &[Value]) -> String {
    records.iter().filter(|record| record["starved"] == true).count().to_string()
}

fn in_force(records: &[Value]) -> String {
    let all = || records.iter().flat_map(links);
    format!("{} of {}", all().filter(|link| link["in_force"] == "yes").count(), all().count())
}

fn hold(records: &[Value]) -> String {
    const ASKED: u64 = 5_000_000_000;
    let holds = records.iter().filter_map(|record| record["hold_ns"].as_u64());
    milliseconds(holds.map(|hold| hold.abs_diff(ASKED)).max())
}

fn width(instant: &Value) -> Option<u64> {
    instant["end_ns"].as_u64()?.checked_sub(instant["begin_ns"].as_u64()?)
}

fn dropped(record: &Value) -> Option<u64> {
    links(record).map(|link| link["dropped_packets"].as_u64()).sum()
}

fn first_packet(record: &Value) -> Option<u64> {
    let healed = record["heal"]["end_ns"].as_u64()?;
    let of_n1 = links(record).filter(|link| link["src"] == "n1" || link["dst"] == "n1");
    let first = of_n1.filter_map(|link| link["first_packet_ns"].as_u64()).min()?;
    Some(first.saturating_sub(healed))
}

/// The time from the heal of an isolated n1 until it had served for long enough.
fn settled(record: &Value) -> Option<u64> {
    let isolated = &record["shape"]["resolved"]["isolate"];
    if isolated.as_array()?.iter().all(|peer| peer != "n1") {
        return None;
    }
    let mut endpoints = record["endpoints"].as_array()?.iter();
    let endpoint = endpoints.find(|endpoint| endpoint["name"] == ENDPOINT)?;
    Some(endpoint["settled_ns"].as_u64()?.saturating_sub(record["heal"]["end_ns"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::command::workspace;

    #[test]
    fn the_page_has_the_table_of_the_kept_runs() {
        let kept = workspace().join("docs/results/vms");
        let page = std::fs::read_to_string(kept.join("host-and-inside.md")).unwrap();
        let text = table(&kept.join("host"), &kept.join("inside")).unwrap();
        assert!(page.contains(&text), "docs/results/vms/host-and-inside.md lacks this table:\n{text}");
    }

    #[test]
    fn two_runs_stand_side_by_side() {
        let record = |settled: u64, shape: Value| {
            json!({ "outcome": "recovered", "starved": false, "hold_ns": 4_999_900_000_u64,
                "shape": { "resolved": shape }, "cut": { "begin_ns": 1_000, "end_ns": 3_000 },
                "heal": { "begin_ns": 5_000_000_000_u64, "end_ns": 5_000_000_000_u64 },
                "links": [
                    { "src": "n1", "dst": "n2", "in_force": "yes", "dropped_packets": 7, "first_packet_ns": 5_020_000_000_u64 },
                    { "src": "n2", "dst": "n3", "in_force": "no", "dropped_packets": 5, "first_packet_ns": 5_000_000_000_u64 },
                ],
                "endpoints": [{ "name": "ingress@n1", "settled_ns": settled }],
                "host": { "probe_lateness_p99_ns": 5_000_000, "cpu_pressure": 0.376 } })
        };
        let isolate = || json!({ "isolate": ["n1"] });
        let host = [
            record(5_200_000_000, isolate()),
            record(5_000_000_000, json!({ "between": [["n1"], ["n2"]] })),
            record(5_300_000_000, isolate()),
        ];
        let text = in_words(&host, &[]);
        for row in [
            "| trials, recovered | 3, 3 | 0, 0 |",
            "| links cut, in force from beginning to end | 3 of 6 | 0 of 0 |",
            "| hold differs from 5 s by at most | 0.100 ms | – |",
            "| uncertainty of the cut's instant, median | 0.002 ms | – |",
            "| packets dropped in a trial, median | 12 | – |",
            "| heal to the first packet between n1 and another peer, median | 20 ms | – |",
            "| n1 isolated: heal to settled at n1, median | 200 ms | – |",
            "| share of time in which work waited for a processor, median | 38 % | – |",
        ] {
            assert!(text.lines().any(|line| line == row), "{row}\n{text}");
        }
    }
}
