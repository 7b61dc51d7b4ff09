//! The leader in each trial of a run, and how the recovery depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The file that the campaign's `before_trial` writes: for each trial that was begun, who would be isolated by
/// `isolate @leader`. A trial that was made again has several lines, and the last one counts.
pub const LEADERS: &str = "leaders.jsonl";

/// Trials of one shape and hold whose leader was cut off from so many peers.
type Group = (String, String, String);

/// A table in Markdown of a run's recoveries by how far the leader was cut off.
///
/// # Errors
/// A file of the run can't be read.
pub fn table(run: &Path) -> Result<String> {
    let lines = |file: &str| {
        let path = run.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let values = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
        values.with_context(|| format!("reading {}", path.display()))
    };
    let leaders = lines(LEADERS)?.into_iter().filter_map(|line| {
        let leader = line["plan"]["roles"]["leader"][0].as_str()?.to_owned();
        Some((line["trial"].as_u64()?, leader))
    });
    Ok(in_words(&lines("trials.jsonl")?, &leaders.collect()))
}

fn in_words(records: &[Value], leaders: &BTreeMap<u64, String>) -> String {
    let mut groups: BTreeMap<Group, Vec<Option<u64>>> = BTreeMap::new();
    for record in records {
        let decided = record["outcome"] == "recovered" || record["outcome"] == "not_recovered";
        if !decided || record["starved"] == true {
            continue;
        }
        let shape = record["shape"]["asked"].as_object().and_then(|shape| shape.keys().next());
        let shape = shape.map_or_else(|| "?".to_owned(), |shape| shape.replace('_', "-"));
        let hold = record["hold_ns"].as_u64().unwrap_or(0) as f64 / 1e9;
        let leader = record["trial"].as_u64().and_then(|trial| leaders.get(&trial));
        let settled = record["heal_to_settled_ns"].as_u64().filter(|_| record["outcome"] == "recovered");
        let group = (shape, format!("{hold:.0} s"), cut_off(record, leader));
        groups.entry(group).or_default().push(settled);
    }
    let mut text =
        "| shape | hold | leader cut off from | trials | beyond the deadline | settled: median | slowest |\n\
                    |---|---|---|---|---|---|---|\n"
            .to_owned();
    for ((shape, hold, leader), mut settled) in groups {
        // A trial that did not settle is slower than all that did.
        settled.sort_by_key(|settled| settled.unwrap_or(u64::MAX));
        let beyond = settled.iter().filter(|settled| settled.is_none()).count();
        let seconds = |settled: Option<u64>| {
            settled.map_or_else(|| "not by the deadline".to_owned(), |ns| format!("{:.2} s", ns as f64 / 1e9))
        };
        let (median, slowest) = (settled[(settled.len() - 1) / 2], settled[settled.len() - 1]);
        let (median, slowest) = (seconds(median), seconds(slowest));
        let trials = settled.len();
        let _ =
            writeln!(text, "| {shape} | {hold} | {leader} | {trials} | {beyond} | {median} | {slowest} |");
    }
    text
}

/// The number of peers from which the cut kept the leader, one way or both.
fn cut_off(record: &Value, leader: Option<&String>) -> String {
    let Some(leader) = leader else { return "not known".to_owned() };
    let links = record["links"].as_array().into_iter().flatten();
    let ends = links.filter_map(|link| Some((link["src"].as_str()?, link["dst"].as_str()?)));
    let others: BTreeSet<&str> = ends
        .filter_map(|(src, dst)| match (src == leader, dst == leader) {
            (true, _) => Some(dst),
            (_, true) => Some(src),
            _ => None,
        })
        .collect();
    match others.len() {
        0 => "no peer".to_owned(),
        1 => "1 peer".to_owned(),
        peers => format!("{peers} peers"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trials_are_told_apart_by_how_far_the_leader_was_cut_off() {
        let record = |trial: u64, settled: Option<u64>, links: &[(&str, &str)]| {
            let links: Vec<Value> =
                links.iter().map(|(src, dst)| json!({ "src": src, "dst": dst })).collect();
            let outcome = if settled.is_some() { "recovered" } else { "not_recovered" };
            json!({ "trial": trial, "outcome": outcome, "starved": false, "hold_ns": 5_000_100_000_u64, "links": links,
                "heal_to_settled_ns": settled, "shape": { "asked": { "random_node": {} } } })
        };
        let isolated = [("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")];
        let mut starved = record(4, Some(1), &isolated);
        starved["starved"] = true.into();
        let records = [
            record(0, Some(1_500_000_000), &isolated),
            record(1, None, &isolated),
            record(2, Some(2_000_000_000), &isolated),
            record(3, Some(250_000_000), &isolated),
            starved,
        ];
        let leaders = [(0, "n1"), (1, "n1"), (2, "n2")].map(|(trial, leader)| (trial, leader.to_owned()));
        let text = in_words(&records, &leaders.into());
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| random-node | 5 s | 1 peer | 1 | 0 | 2.00 s | 2.00 s |",
                "| random-node | 5 s | 2 peers | 2 | 1 | 1.50 s | not by the deadline |",
                "| random-node | 5 s | not known | 1 | 0 | 0.25 s | 0.25 s |",
            ]
        );
    }
}
