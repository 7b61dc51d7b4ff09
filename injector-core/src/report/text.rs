//! The report for a terminal.

use std::fmt::Write;

use super::reservations::{Reservations, trials};
use super::table::Table;
use crate::figures::{
    Bound, counted, deadline, maybe_percent, maybe_time, outcome, percent, percents, time, times,
};
use crate::run::Run;
use crate::stats::mix::{Factor, Measured};
use crate::stats::outages::{FailOvers, Spread};
use crate::stats::sequential::Decision;
use crate::stats::summary::{EndpointSeries, Figures, Series, ShapeSeries, Summary};
use crate::stats::trial::Trial;
use crate::stats::undecided::Undecided;

/// The report of a run.
pub fn report(run: &Run) -> String {
    let s = &run.summary;
    let mut out = String::new();
    let mut head = vec![run.path.display().to_string(), s.verdict.sentence.clone()];
    head.extend(Reservations::of(s).sentences);
    head.extend([String::new(), counts(s)]);
    for line in head {
        out.push_str(&line);
        out.push('\n');
    }
    if let Some(headline) = headline(s) {
        writeln!(out, "\n{headline}").expect("writing to a String cannot fail");
    }
    cluster(&mut out, s);
    section(&mut out, &outages_title(run), &outages(s));
    section(&mut out, "Fail-over and loss by the heal", &fail_overs(s));
    section(&mut out, "Endpoints", &endpoints(s));
    for (title, rows) in groups(s) {
        // A single row would repeat the cluster's.
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

/// The tables by shape, cut, peer and hold; of those with the same figures the first one alone.
pub fn groups(s: &Summary) -> Vec<(&'static str, &Vec<ShapeSeries>)> {
    let mut kept: Vec<(&str, &Vec<ShapeSeries>)> = Vec::new();
    for (title, rows) in [
        ("By what was cut", &s.by_resolved),
        ("By shape", &s.by_shape),
        ("By role", &s.by_role),
        ("By isolated peer", &s.by_isolated),
        ("By hold", &s.by_hold),
    ] {
        let same = |other: &Vec<ShapeSeries>| {
            other.len() == rows.len()
                && rows.iter().all(|row| other.iter().any(|other| other.series == row.series))
        };
        if !rows.is_empty() && !kept.iter().any(|(_, other)| same(other)) {
            kept.push((title, rows));
        }
    }
    kept
}

/// Where the strata differ: each with its times, slowest first, and the figure over all of them.
pub fn headline(s: &Summary) -> Option<String> {
    let test = s.mix.clear.as_ref()?;
    let rows = match test.factor {
        Factor::Cut => &s.by_resolved,
        Factor::Isolated => &s.by_isolated,
        Factor::Cell => {
            if s.by_hold.len() > 1 {
                &s.by_hold
            } else {
                &s.by_shape
            }
        }
    };
    let mut rows: Vec<&ShapeSeries> = rows.iter().collect();
    let late = |row: &&ShapeSeries| {
        let f = &row.series.settled;
        std::cmp::Reverse((f.p50_ns.unwrap_or(u64::MAX), f.p90_ns.unwrap_or(u64::MAX)))
    };
    rows.sort_by_key(late);
    let times = |f: &Figures| format!("{} ({})", maybe_time(f.p50_ns), maybe_time(f.p90_ns));
    let more = rows.len().saturating_sub(HEADLINE);
    let mut strata: Vec<String> = rows
        .iter()
        .take(HEADLINE)
        .map(|row| format!("{} {}", row.shape, times(&row.series.settled)))
        .collect();
    if more > 0 {
        strata.push(format!("{more} more"));
    }
    let of = match test.of {
        Measured::Settled => "settled",
        Measured::Outage => "the outage",
    };
    Some(format!(
        "Settled, p50 (p90), slowest first: {}. Over this mix: {}. The trials are not alike (log-rank of {of} over {} \
         strata: p {}, adjusted).",
        strata.join(", "),
        times(&s.cluster.settled),
        test.strata,
        crate::figures::probability_words(test.p_holm),
    ))
}

/// The strata that a headline names.
const HEADLINE: usize = 8;

/// The bound that every outage depends on is part of the title.
pub fn outages_title(run: &Run) -> String {
    let mut bounds: Vec<u64> = run
        .trials
        .iter()
        .flat_map(|trial| &trial.endpoints)
        .filter(|endpoint| endpoint.required)
        .filter_map(|endpoint| Some(endpoint.outage.as_ref()?.served_within_ns))
        .collect();
    bounds.sort_unstable();
    bounds.dedup();
    let bounds: Vec<String> = bounds.into_iter().map(|ns| deadline(Some(ns))).collect();
    format!("Outages by what was cut, p50 / p90 / max; served within {}", bounds.join(", "))
}

/// A spread as p50 / p90 / max.
pub fn spread(spread: &Spread) -> String {
    if spread.n == 0 {
        return crate::figures::MISSING.to_owned();
    }
    let [p50, p90] = [spread.p50_ns, spread.p90_ns].map(maybe_time);
    let max = match spread.max_at_least_ns {
        // Quantiles are rounded to the nearest. Where that makes a quantile the same figure as this bound, the bound is shown
        // alike: rounded down, it would look smaller than the quantile, which it is not.
        Some(ns) if [&p50, &p90].contains(&&time(ns)) => format!("≥ {}", time(ns)),
        Some(ns) => format!("≥ {}", Bound::Lower.time(ns)),
        None => maybe_time(spread.max_ns),
    };
    let times = [p50, p90, max].join(" / ");
    if spread.censored == 0 { times } else { format!("{times} ({} censored)", spread.censored) }
}

/// How the rest came back while cut, in words.
pub fn fail_over(found: Option<&FailOvers>) -> String {
    let Some(f) = found else { return crate::figures::MISSING.to_owned() };
    let out = f.back + f.not_back;
    let never = match (out, f.never_out) {
        (0, n) => return format!("not out while cut, {n} of {n}"),
        (_, 0) => String::new(),
        (_, n) => format!("; {n} not out while cut"),
    };
    format!("{} of {out} came back while cut: {}{never}", f.back, spread(&f.times))
}

/// The column of endpoints that were out neither during the cut nor after the heal. Those of the fail-over may be lost by the heal.
pub const NEVER_OUT: &str = "never out, cut or heal";

fn outages(s: &Summary) -> Table {
    let mut table =
        Table::new(["cut", "endpoint", "n", "all out", "some out after the heal", "mean outage", "settled"]);
    for row in &s.outages {
        table.row([
            row.shape.clone(),
            row.name.clone(),
            row.trials.to_string(),
            spread(&row.all_out),
            spread(&row.some_after_heal),
            spread(&row.share),
            spread(&row.settled),
        ]);
    }
    table
}

fn fail_overs(s: &Summary) -> Table {
    let mut table = Table::new([
        "cut",
        "endpoint",
        "fail-over of the rest",
        "outage of the cut off",
        "lost by the heal",
        NEVER_OUT,
    ]);
    for row in &s.outages {
        table.row([
            row.shape.clone(),
            row.name.clone(),
            fail_over(row.rest_fail_over.as_ref()),
            row.cut_off.as_ref().map_or_else(|| crate::figures::MISSING.to_owned(), spread),
            match row.lost_by_heal.n {
                0 => "none".to_owned(),
                n => format!("{n}: {}", spread(&row.lost_by_heal)),
            },
            row.never_out.to_string(),
        ]);
    }
    table
}

/// The sentences below the figures.
pub fn notes(run: &Run) -> Vec<String> {
    let s = &run.summary;
    let mut notes = vec![s.dependence.sentence.clone()];
    if let Some(test) = &s.sequential {
        let says = match test.decision {
            Decision::Undecided => "undecided",
            Decision::AcceptP0 => "for p0",
            Decision::AcceptP1 => "for p1",
        };
        notes.push(format!(
            "Sequential test of {} against {} (errors of {} each): {says}, {}{}.",
            percent(test.p0),
            percent(test.p1),
            percent(test.alpha),
            counted(test.trials, "decided trial"),
            match test.undecided {
                0 => String::new(),
                n => format!(" and {n} undecided"),
            }
        ));
    }
    if let Some(rate) = s.power.smallest_rate_seen_95 {
        notes.push(format!(
            "{} decided trials see a fault of {} at least once with 95 % probability, one of 5 % with {}; {} would be \
             needed for 95 %.",
            s.cluster.settled.n,
            Bound::Upper.percent(rate),
            percent(s.power.chance_to_see_5_percent),
            s.power.trials_to_see_5_percent.map_or_else(String::new, |n| n.to_string()),
        ));
    }
    notes.extend(unfelt(run));
    // Of the same trials as the phases.
    let mut after: Vec<f64> = run
        .trials
        .iter()
        .filter(|trial| trial.cluster.is_decided())
        .filter_map(|t| Some(t.after_links_ns? as f64 / t.cluster.settled_ns.filter(|&ns| ns > 0)? as f64))
        .collect();
    after.sort_unstable_by(f64::total_cmp);
    if !after.is_empty() {
        notes.push(format!(
            "Links do not explain {} of the time to settled at the median of {}: so much of it comes after the last link \
             carries again.",
            // The lower of two middle ones, as for the quantiles of the curves.
            percent(after[(after.len() - 1) / 2]),
            counted(after.len() as u64, "decided trial")
        ));
    }
    notes.extend(links_apart(run));
    notes.extend(late_cuts(run));
    if !run.not_made.is_empty() {
        let last = &run.not_made[run.not_made.len() - 1];
        notes.push(format!(
            "{} not made, the last one (trial {}): {}. not_made.jsonl has all of them.",
            match run.not_made.len() {
                1 => "1 try was".to_owned(),
                n => format!("{n} tries were"),
            },
            last.trial,
            last.reason
        ));
    }
    if s.starved > 0 {
        let without = &s.cluster_without_starved.settled;
        notes.push(format!(
            "Without the {} starved: {} of {} beyond the deadline, median {}.",
            if s.starved == 1 {
                "trial that is".to_owned()
            } else {
                format!("{} trials that are", s.starved)
            },
            without.beyond_deadline,
            without.n,
            maybe_time(without.p50_ns)
        ));
    }
    if s.cluster.settled.undetermined > 0 {
        notes.push(format!(
            "{} undecided and not in the rate: had all been good or all bad, it would be {}. Why: {}.",
            trials(s.cluster.settled.undetermined),
            percents(s.cluster.settled.rate_bounds),
            reasons(&s.undecided)
        ));
    }
    notes.extend(run.notes.iter().cloned());
    notes
}

/// The reasons for undecided trials that the report names.
const REASONS: usize = 8;

/// Why trials are undecided, with their indices.
fn reasons(undecided: &[Undecided]) -> String {
    let mut listed: Vec<String> = undecided.iter().take(REASONS).map(Undecided::listed).collect();
    let more: usize = undecided.iter().skip(REASONS).map(|group| group.trials.len()).sum();
    if more > 0 {
        listed.push(format!("{more} for other reasons"));
    }
    listed.join("; ")
}

/// What the phases leave out: links that carried again only after settled, or not at all.
fn links_apart(run: &Run) -> Vec<String> {
    let decided = || run.trials.iter().filter(|trial| trial.cluster.is_decided());
    let count = |is: fn(&Trial) -> bool| decided().filter(|trial| is(trial)).count() as u64;
    // Where all were in service throughout, nothing waited for a link.
    let late = count(|t| t.cluster.settled_ns > Some(0) && !t.late_links.is_empty());
    let mut notes = Vec::new();
    if late > 0 {
        notes.push(format!(
            "In {} a link that had dropped packets carried again only after settled: the phases leave such a link out.",
            counted(late, "decided trial")
        ));
    }
    let lost = count(|t| !t.lost_links.is_empty());
    if lost > 0 {
        notes.push(format!(
            "In {} a link that had dropped packets did not carry again while it was watched: when the last link carried, \
             and what came after that, is not known there.",
            counted(lost, "decided trial")
        ));
    }
    notes
}

/// What a cut may be late before it counts as late: the kernel's timers keep it.
const ON_TIME_NS: u64 = 5_000_000;

/// Cuts of a cycle that came later after the heal before them than the cycle says. The first attempts alone: what was made again
/// was made by a resumed campaign, after whatever pause.
fn late_cuts(run: &Run) -> Option<String> {
    let cycle = run.campaign.settings.cycle?;
    let late: Vec<Option<u64>> = run
        .trials
        .windows(2)
        .filter(|pair| pair[1].index == pair[0].index + 1 && pair[1].attempt == 1)
        .filter_map(|pair| {
            let cut = pair[1].heal_ns?.checked_sub(pair[1].hold_ns?)?;
            let after = cut.checked_sub(pair[0].heal_ns?)?;
            Some(after.checked_sub(cycle.as_nanos()).filter(|&late| late > ON_TIME_NS))
        })
        .collect();
    let latest = late.iter().flatten().max()?;
    Some(format!(
        "{} of {} came more than {cycle} after the heal before, the latest by {}: --before-trial took longer than the \
         cycle, or the host was too busy.",
        late.iter().flatten().count(),
        counted(late.len() as u64, "cut"),
        time(*latest)
    ))
}

/// Recoveries that show nothing of a recovery.
fn unfelt(run: &Run) -> Option<String> {
    let unfelt = run.trials.iter().filter(|trial| trial.cluster.is_unfelt()).count();
    let were = if unfelt == 1 { "recovered trial is of a cut" } else { "recovered trials are of cuts" };
    (unfelt > 0).then(|| {
        format!(
            "{unfelt} {were} that no required endpoint felt, nor the heal: they count as recovered after 0, and show nothing of a \
             recovery. If they are many, probe what needs the links, or hold longer."
        )
    })
}

/// Trials by outcome, in a line.
pub fn counts(s: &Summary) -> String {
    let made = match s.planned.filter(|&planned| planned != s.trials) {
        Some(planned) => format!("{} of {}", s.trials, counted(planned, "trial")),
        None => counted(s.trials, "trial"),
    };
    let o = &s.outcomes;
    format!(
        "{}: {} recovered, {} not recovered, {} censored, {} unknown, {} harness failed; {} starved",
        made, o.recovered, o.not_recovered, o.censored, o.unknown, o.harness_failed, s.starved
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
    let over = if s.mix.clear.is_some() { ", over this mix" } else { "" };
    section(
        out,
        &format!("Cluster (all required endpoints){over}, deadline {}", deadline(s.deadline_ns)),
        &table,
    );
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
        f.relapses.map_or_else(|| crate::figures::MISSING.to_owned(), |n| n.to_string()),
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
            slow.cut(),
            slow.last_link.clone().unwrap_or_default(),
            if slow.starved { "starved" } else { "" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::survival::Observation;

    #[test]
    fn the_bound_of_the_largest_never_looks_smaller_than_a_quantile() {
        let shown = |seen: &[u64], censored: u64| {
            let events = seen.iter().map(|&ms| Observation::event(ms * 1_000_000));
            spread(&Spread::of(events.chain([Observation::censored(censored * 1_000_000)]).collect()))
        };
        assert_eq!(shown(&[1057, 1057, 1057, 1058], 3), "1.06 s / 1.06 s / ≥ 1.06 s (1 censored)");
        assert_eq!(shown(&[1020, 1030, 1040], 1057), "1.03 s / – / ≥ 1.05 s (1 censored)");
    }
}
