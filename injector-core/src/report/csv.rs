//! CSV with a line for each trial, for spreadsheets; what is missing is empty.

use std::io::{self, Write};

use crate::run::Run;
use crate::shown::acts;
use crate::stats::survival::{End, Observation};
use crate::stats::trial::PHASES;

/// How every file begins: with its first column's name.
pub(super) const OPENING: &str = "trial,";

/// Writes the trials of a run.
pub fn write(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for endpoint in run.trials.iter().flat_map(|trial| &trial.endpoints) {
        if !names.contains(&endpoint.name.as_str()) {
            names.push(&endpoint.name);
        }
    }
    let groups = groups(run);
    row(out, &head(&names, &groups))?;
    for (trial, detail) in run.trials.iter().zip(&run.details) {
        let mut cells = vec![
            trial.index.to_string(),
            trial.attempt.to_string(),
            word(trial.cluster.outcome),
            trial.reason.clone().unwrap_or_default(),
            trial.asked.clone(),
            trial.resolved.clone(),
            trial.roles.clone().unwrap_or_default(),
            number(trial.hold_ns),
            trial.deadline_ns.to_string(),
            number(trial.cluster.ready_ns),
            number(trial.cluster.settled_ns),
            trial.cluster.relapses.to_string(),
            number(trial.observed_ns),
            trial.starved.to_string(),
            number(detail.dropped_packets),
            number(detail.lost_events),
            number(detail.lateness_p99_ns),
            number(detail.cpu_pressure),
            number(detail.io_pressure),
            trial.last_link.clone().unwrap_or_default(),
        ];
        cells.extend(trial.phases_ns.map(number));
        for name in &names {
            let endpoint = trial.endpoints.iter().find(|endpoint| endpoint.name == *name);
            let times = endpoint.map(|endpoint| &endpoint.times);
            cells.push(number(times.and_then(|times| times.ready_ns)));
            cells.push(number(times.and_then(|times| times.settled_ns)));
            let outage = endpoint.and_then(|endpoint| endpoint.outage.as_ref());
            cells.push(number(outage.and_then(|outage| outage.sum_ns)));
            cells.push(number(outage.map(|outage| outage.open)));
            cells.push(number(outage.map(|outage| outage.windows.len())));
            cells.push(outage.and_then(|outage| outage.fail_over).map_or_else(String::new, word));
            cells.push(number(outage.and_then(|outage| outage.fail_over_ns)));
            cells.push(number(outage.and_then(|outage| outage.lost_by_heal_ns)));
            cells.push(number(outage.and_then(|outage| outage.stall_ns)));
        }
        for name in &groups {
            let outage = trial.outages.iter().find(|outage| outage.name == *name);
            cells.push(number(outage.and_then(|outage| outage.all_ns)));
            cells.push(number(outage.map(|outage| outage.some_ns)));
            cells.push(number(outage.map(|outage| outage.some_after_heal_ns)));
            cells.push(number(outage.and_then(|outage| outage.share_ns)));
            cells.push(number(outage.map(|outage| outage.open)));
            let is_bound = |seen: Observation| seen.end == End::Censored;
            cells.push(number(outage.map(|outage| is_bound(trial.some_out(outage)))));
            cells.push(number(outage.map(|outage| is_bound(trial.some_after_heal(outage)))));
        }
        cells.extend([number(trial.carries_ns), number(trial.after_links_ns), trial.proved.to_string()]);
        row(out, &cells)?;
    }
    Ok(())
}

/// The names of the clusters of endpoints.
fn groups(run: &Run) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for outage in run.trials.iter().flat_map(|trial| &trial.outages) {
        if !groups.contains(&outage.name.as_str()) {
            groups.push(&outage.name);
        }
    }
    groups
}

fn head(names: &[&str], groups: &[&str]) -> Vec<String> {
    let mut head: Vec<String> = [
        "trial",
        "attempt",
        "outcome",
        "reason",
        "shape",
        "cut",
        "roles",
        "hold_ns",
        "deadline_ns",
        "ready_ns",
        "settled_ns",
        "relapses",
        "observed_ns",
        "starved",
        "dropped_packets",
        "lost_events",
        "probe_lateness_p99_ns",
        "cpu_pressure",
        "io_pressure",
        "last_link",
    ]
    .map(str::to_owned)
    .to_vec();
    head.extend(PHASES.map(|phase| format!("{phase}_ns")));
    for name in names {
        let columns = [
            "ready_ns",
            "settled_ns",
            "outage_ns",
            "outage_open",
            "outages",
            "fail_over",
            "fail_over_ns",
            "lost_by_heal_ns",
            "stall_ns",
        ];
        head.extend(columns.map(|what| format!("{name} {what}")));
    }
    for name in groups {
        let columns = [
            "all_out_ns",
            "some_out_ns",
            "some_out_after_heal_ns",
            "share_ns",
            "outage_open",
            "some_out_at_least",
            "some_out_after_heal_at_least",
        ];
        head.extend(columns.map(|what| format!("{name} {what}")));
    }
    head.extend(["carries_ns", "after_links_ns", "proved"].map(str::to_owned));
    head
}

/// The word that represents it in records.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// RFC 4180, and nothing that a spreadsheet takes for a formula or that acts on a terminal: names are user input.
fn row(out: &mut impl Write, cells: &[String]) -> io::Result<()> {
    let quoted = |cell: &String| {
        let mut harmless = String::with_capacity(cell.len());
        for c in cell.chars() {
            if acts(c) {
                harmless.extend(c.escape_unicode());
            } else {
                harmless.push(c);
            }
        }
        let cell = harmless;
        let cell = match cell.chars().next() {
            Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{cell}"),
            _ => cell,
        };
        if cell.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    };
    writeln!(out, "{}", cells.iter().map(quoted).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let mut out = Vec::new();
        let cells =
            ["a,b", "say \"x\"", "=1+1", "", "plain", "a\u{1b}[2J\u{9b}m\r\u{202e}"].map(str::to_owned);
        row(&mut out, &cells).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a,b\",\"say \"\"x\"\"\",'=1+1,,plain,a\\u{1b}[2J\\u{9b}m\\u{d}\\u{202e}\n"
        );
    }
}
