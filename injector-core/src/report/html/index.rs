//! A page over several runs: a row for each, their trials on one time axis, links to their own pages.

use serde::Serialize;

use super::number::UNIT;
use super::page::{Page, begin, end, section};
use super::{axis, whisker, whisker_legend};
use crate::figures::{self, counted, maybe_time, percents, times};
use crate::report::escape::script_json;
use crate::report::reservations::Reservations;
use crate::run::Run;

/// Trials of a run that are drawn; of more every k-th is.
const DOTS: usize = 2_000;

/// A run, and where its own page is.
#[derive(Debug)]
pub struct Linked {
    /// The run.
    pub run: Run,
    /// The run's own page, as a link from this one.
    pub href: String,
}

/// The parts of a run that the script draws.
#[derive(Serialize)]
struct Row {
    name: String,
    href: String,
    deadline: Option<u64>,
    median: Option<u64>,
    /// When trials had settled, in the order of time.
    settled: Vec<u64>,
    /// Decided trials that never were.
    never: usize,
}

/// The page.
pub fn report(runs: &[Linked]) -> String {
    let title = format!("{}, from heal to settled", counted(runs.len(), "run"));
    let mut page = begin(&title);
    page.element("<h1>", &title, "</h1>");
    axis(&mut page);
    section(&mut page, "runs-section", "Every trial of every run", "Choose a run to see its own page.");
    page.markup("<div class=\"plot\" id=\"runs\" data-label=\"settled times of each run\"></div>");
    page.markup("<div class=\"legend\" id=\"runs-legend\"></div></section>");
    table(&mut page, runs);
    page.element("<footer><p>", HINT, "</p></footer>");
    let rows: Vec<Row> = runs.iter().map(row).collect();
    end(page, &format!("{{\"index\":{}}}", script_json(&rows)))
}

const HINT: &str = "Runs are in the order in which they were given. Whether two of them differ is not visible on this page: \
                    `injector compare A B` tests it.";

fn table(page: &mut Page, runs: &[Linked]) {
    section(page, "table", "Figures", "");
    page.table(
        "<table>",
        &["run", "verdict", "trials", "beyond", "rate, 0 to 100 %", "95 %", "median", "95 %", "90 %"],
    );
    for Linked { run, href } in runs {
        let settled = &run.summary.cluster.settled;
        page.markup("<tr><td class=\"wrap\"><a href=\"").text(href).markup("\">");
        page.text(run.name()).markup("</a>");
        let systems = run.campaign.versions.systems.iter();
        let systems = systems.map(|(system, version)| format!("{system} {version}"));
        for line in std::iter::once(figures::wall(run.campaign.started)).chain(systems) {
            page.element("<br><span class=\"soft\">", line, "</span>");
        }
        page.markup("</td>");
        verdict(page, run);
        let not_made = match run.not_made.len() {
            0 => String::new(),
            count => format!(", {count} not made"),
        };
        page.element("<td>", format!("{}{not_made}", run.trials.len()), "</td>");
        page.element("<td>", format!("{} of {}", settled.beyond_deadline, settled.n), "</td>");
        whisker(page, settled);
        for cell in [
            percents(settled.rate_ci95),
            maybe_time(settled.p50_ns),
            times(settled.p50_ci95_ns),
            maybe_time(settled.p90_ns),
        ] {
            page.element("<td>", cell, "</td>");
        }
        page.markup("</tr>");
    }
    page.end_table();
    whisker_legend(page);
    page.markup("</section>");
}

fn verdict(page: &mut Page, run: &Run) {
    let verdict = &run.summary.verdict;
    let (class, word) = match verdict.exit_code {
        0 => ("ok", "passes"),
        1 => ("fail", "fails"),
        _ => ("", "undecided"),
    };
    page.markup("<td class=\"wrap text\"><span class=\"badge ").markup(class).markup("\">").text(word);
    page.element("</span> ", &verdict.sentence, "");
    for sentence in Reservations::of(&run.summary).sentences {
        page.element("<br><span class=\"soft\">", sentence, "</span>");
    }
    page.markup("</td>");
}

fn row(Linked { run, href }: &Linked) -> Row {
    use crate::api::Outcome::{NotRecovered, Recovered};
    let decided = run.trials.iter().filter(|trial| matches!(trial.cluster.outcome, Recovered | NotRecovered));
    let (mut settled, mut never) = (Vec::new(), 0);
    for trial in decided {
        match trial.cluster.settled_ns {
            Some(ns) => settled.push(ns / UNIT),
            None => never += 1,
        }
    }
    settled.sort_unstable();
    let every = settled.len().div_ceil(DOTS).max(1);
    // The last one is the one that matters most.
    let settled: Vec<u64> = settled.into_iter().rev().step_by(every).collect();
    Row {
        name: run.name(),
        href: href.clone(),
        deadline: run.summary.deadline_ns.map(|ns| ns / UNIT),
        median: run.summary.cluster.settled.p50_ns.map(|ns| ns / UNIT),
        settled: settled.into_iter().rev().collect(),
        never,
    }
}
