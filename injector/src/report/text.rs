//! The report for a terminal.

use std::fmt::Write;

use super::format::{deadline, maybe_percent, maybe_time, outcome, percent, percents, times};
use super::run::Run;
use super::table::Table;
use crate::api::types::Outcome;
use crate::stats::sequential::Decision;
use crate::stats::summary::{EndpointSeries, Figures, Series, ShapeSeries, Summary};

/// The report of a run.
pub fn report(run: &Run) -> String {
    let s = &run.summary;
    let mut out = String::new();
    for line in [format!("{}", run.path.display()), s.verdict.sentence.clone(), String::new(), counts(s)] {
        out.push_str(&line);
        out.push('\n');
    }
    cluster(&mut out, s);
    section(&mut out, "Endpoints", &endpoints(s));
    for (title, rows) in [
        ("By shape", &s.by_shape),
        ("By what was cut", &s.by_resolved),
        ("By isolated peer", &s.by_isolated),
        ("By hold", &s.by_hold),
    ] {
        // One row would repeat the cluster's.
        if rows.len() > 1 {
            section(&mut out, title, &shapes(rows));
        }
    }
    section(&mut out, "Phases (decided trials)", &phases(s));
    section(&mut out, "Slowest trials", &slowest(s));
    out.push('\n');
    for note in notes(run) {
        writeln!(out, "{note}").expect("writing to a String cannot fail");
    }
    out
}

/// What is to be said below the figures.
pub fn notes(run: &Run) -> Vec<String> {
    let s = &run.summary;
    let mut notes = vec![s.dependence.sentence.clone()];
    if s.intervals == "nominal" {
        notes.push("The campaign was stopped by what it found: its intervals are nominal.".to_owned());
    }
    if let Some(test) = &s.sequential {
        let says = match test.decision {
            Decision::Undecided => "undecided",
            Decision::AcceptP0 => "for p0",
            Decision::AcceptP1 => "for p1",
        };
        notes.push(format!(
            "Sequential test of {} against {} (errors of {} each): {says}, {} decided trials.",
            percent(test.p0),
            percent(test.p1),
            percent(test.alpha),
            test.trials
        ));
    }
    if let Some(rate) = s.power.smallest_rate_seen_95 {
        notes.push(format!(
            "{} decided trials see a fault of {} at least once with 95 % probability, one of 5 % with {}; {} would be \
             needed for 95 %.",
            s.cluster.settled.n,
            percent(rate),
            percent(s.power.chance_to_see_5_percent),
            s.power.trials_to_see_5_percent.map_or_else(String::new, |n| n.to_string()),
        ));
    }
    let unfelt = run
        .trials
        .iter()
        .filter(|trial| trial.cluster.outcome == Outcome::Recovered && trial.cluster.impaired == Some(false));
    let unfelt = unfelt.count() as u64;
    if unfelt > 0 {
        let were = if unfelt == 1 { "recovered trial is of a cut" } else { "recovered trials are of cuts" };
        notes.push(format!(
            "{unfelt} {were} that no required endpoint felt: they count as recovered after 0, and show nothing of a \
             recovery. If they are many, probe what needs the links, or hold longer."
        ));
    }
    if s.starved > 0 {
        let without = &s.cluster_without_starved.settled;
        notes.push(format!(
            "{} starved (the host was too busy to measure well). Without: {} of {} beyond the \
             deadline, median {}.",
            trials(s.starved),
            without.beyond_deadline,
            without.n,
            maybe_time(without.p50_ns)
        ));
    }
    if s.cluster.settled.undetermined > 0 {
        notes.push(format!(
            "{} undecided (censored, unknown or harness failed) and not in the rate: had all been good or all bad, it \
             would be {}.",
            trials(s.cluster.settled.undetermined),
            percents(s.cluster.settled.rate_bounds)
        ));
    }
    notes.extend(run.notes.iter().cloned());
    notes
}

fn trials(n: u64) -> String {
    if n == 1 { "1 trial is".to_owned() } else { format!("{n} trials are") }
}

/// Trials by outcome, in a line.
pub fn counts(s: &Summary) -> String {
    let planned =
        s.planned.filter(|&planned| planned != s.trials).map_or_else(String::new, |p| format!(" of {p}"));
    let o = &s.outcomes;
    format!(
        "{}{planned} trials: {} recovered, {} not recovered, {} censored, {} unknown, {} harness failed; {} starved",
        s.trials, o.recovered, o.not_recovered, o.censored, o.unknown, o.harness_failed, s.starved
    )
}

fn section(out: &mut String, title: &str, table: &Table) {
    if !table.is_empty() {
        writeln!(out, "\n{title}").expect("writing to a String cannot fail");
        table.write(out);
    }
}

fn cluster(out: &mut String, s: &Summary) {
    let mut table =
        Table::new(["from heal to", "beyond", "rate", "95 % interval", "undecided as", "p50", "p90", "p99"]);
    for (name, figures) in [("settled", &s.cluster.settled), ("ready", &s.cluster.ready)] {
        table.row([
            name.to_owned(),
            share(figures),
            maybe_percent(figures.rate),
            percents(figures.rate_ci95),
            percents(figures.rate_bounds),
            maybe_time(figures.p50_ns),
            maybe_time(figures.p90_ns),
            maybe_time(figures.p99_ns),
        ]);
        table.row([
            "  times, 95 %".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            times(figures.p50_ci95_ns),
            times(figures.p90_ci95_ns),
            times(figures.p99_ci95_ns),
        ]);
    }
    section(out, &format!("Cluster (all required endpoints), deadline {}", deadline(s.deadline_ns)), &table);
}

fn share(figures: &Figures) -> String {
    format!("{}/{}", figures.beyond_deadline, figures.n)
}

const HEAD: [&str; 8] = ["", "beyond", "rate", "95 % interval", "p50", "p90", "p90, 95 %", "relapses"];

fn figures(name: String, series: &Series) -> [String; 8] {
    let f = &series.settled;
    [
        name,
        share(f),
        maybe_percent(f.rate),
        percents(f.rate_ci95),
        maybe_time(f.p50_ns),
        maybe_time(f.p90_ns),
        times(f.p90_ci95_ns),
        f.relapses.map_or_else(|| super::format::MISSING.to_owned(), |n| n.to_string()),
    ]
}

fn endpoints(s: &Summary) -> Table {
    let mut table = Table::new(HEAD);
    let name = |e: &EndpointSeries| match e.instances {
        1 => format!("{} ({})", e.name, e.role),
        n => format!("{}, last of {n} ({})", e.name, e.role),
    };
    for endpoint in s.endpoint_groups.iter().chain(&s.endpoints) {
        table.row(figures(name(endpoint), &endpoint.series));
    }
    table
}

fn shapes(rows: &[ShapeSeries]) -> Table {
    let mut table = Table::new(HEAD);
    for row in rows {
        table.row(figures(row.shape.clone(), &row.series));
    }
    table
}

fn phases(s: &Summary) -> Table {
    let mut table = Table::new(["", "trials", "p50", "p90"]);
    for phase in s.phases.iter().filter(|phase| phase.n > 0) {
        table.row([
            phase.phase.clone(),
            phase.n.to_string(),
            maybe_time(phase.p50_ns),
            maybe_time(phase.p90_ns),
        ]);
    }
    table
}

fn slowest(s: &Summary) -> Table {
    let mut table = Table::new(["trial", "settled", "ready", "outcome", "cut", "last link", ""]);
    for slow in &s.slowest {
        table.row([
            slow.trial.to_string(),
            maybe_time(slow.settled_ns),
            maybe_time(slow.ready_ns),
            outcome(slow.outcome).to_owned(),
            slow.resolved.clone(),
            slow.last_link.clone().unwrap_or_default(),
            if slow.starved { "starved" } else { "" }.to_owned(),
        ]);
    }
    table
}
