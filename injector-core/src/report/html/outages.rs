//! The picture of outages: a panel for each cut, one row a trial, a line per endpoint where it was out.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use super::number::{UNIT, number};
use super::page::{Page, section};
use crate::api::ProbeView;
use crate::figures::{MISSING, counted, maybe_time};
use crate::report::escape::script_json;
use crate::report::text::{NEVER_OUT, fail_over, outages_title, spread};
use crate::run::ProbeFile;
use crate::run::ReadError;
use crate::run::Run;
use crate::stats::cuts::named;
use crate::stats::mix::{Factor, strata};
use crate::stats::outages::Spread;
use crate::stats::trial::Trial;

/// Panels, of the slowest cuts.
const PANELS: usize = 12;
/// Rows of a panel; of more trials every k-th is shown.
const ROWS: usize = 60;
/// Lines of a row.
const ENDPOINTS: usize = 12;
/// The bytes that marks recently answers may take.
const LATE_BYTES: usize = 400_000;

/// Times in which late answers were waited for, in nanoseconds from the heal.
type Spans = Vec<(i64, i64)>;

/// Late answers by trial and endpoint.
pub type Late = HashMap<u64, HashMap<String, Spans>>;

/// The trials of a panel, those whose last outage ended last first.
struct Panel<'a> {
    title: String,
    rows: Vec<&'a Trial>,
    trials: usize,
}

fn panels(run: &Run) -> Vec<Panel<'_>> {
    let all: Vec<&Trial> = run.trials.iter().filter(|trial| !trial.outages.is_empty()).collect();
    let cuts = named(&run.trials);
    let order: Vec<&str> = run.summary.outages.iter().map(|row| row.shape.as_str()).collect();
    let mut panels: Vec<Panel<'_>> = strata(&all, Factor::Cut)
        .into_iter()
        .map(|stratum| {
            let mut rows: Vec<&Trial> = stratum.into_iter().map(|at| all[at]).collect();
            rows.sort_by_key(|trial| (std::cmp::Reverse(last_end(trial)), trial.index));
            let trials = rows.len();
            let every = trials.div_ceil(ROWS).max(1);
            let rows: Vec<&Trial> = rows.into_iter().step_by(every).collect();
            Panel { title: cuts[rows[0].stratum.as_str()].label.clone(), rows, trials }
        })
        .collect();
    panels.sort_by_key(|panel| order.iter().position(|shape| *shape == panel.title));
    panels.truncate(PANELS);
    panels
}

/// When the last outage ended, on the clock of the run; an open one ends last.
fn last_end(trial: &Trial) -> u64 {
    let required = trial.endpoints.iter().filter(|endpoint| endpoint.required);
    let windows = required.filter_map(|endpoint| endpoint.outage.as_ref()).flat_map(|outage| &outage.windows);
    let end = windows.map(|window| window.until_ns.map_or(u64::MAX, |until| until.0)).max();
    end.map_or(0, |end| end.saturating_sub(trial.heal_ns.unwrap_or_default()))
}

/// Reads the late answers of the trials on the page: those that took longer than K intervals and were served.
pub fn late(directory: &Path, run: &Run) -> Result<Late, ReadError> {
    let mut found = HashMap::new();
    let Some(mut file) = ProbeFile::open(directory)? else { return Ok(found) };
    let settings = &run.campaign.settings;
    let bounds: HashMap<&str, u64> = settings
        .probes
        .iter()
        .map(|probe| {
            let bound =
                probe.rules.options.interval.as_nanos().saturating_mul(u64::from(settings.ready.consecutive));
            (probe.endpoint.as_str(), bound)
        })
        .collect();
    for trial in panels(run).iter().flat_map(|panel| &panel.rows) {
        let Some(heal) = trial.heal_ns else { continue };
        let Some(probes) = file.of(trial.index, trial.attempt)? else { continue };
        found.insert(trial.index, spans(&probes, heal, trial, &bounds));
    }
    Ok(found)
}

fn spans(
    probes: &[ProbeView],
    heal: u64,
    trial: &Trial,
    bounds: &HashMap<&str, u64>,
) -> HashMap<String, Spans> {
    let mut found: HashMap<String, Spans> = HashMap::new();
    let from = trial.hold_ns.unwrap_or_default();
    for probe in probes.iter().filter(|probe| probe.error.is_none()) {
        let took = probe.done_ns.since(probe.scheduled_ns).unwrap_or_default();
        if bounds.get(probe.endpoint.as_str()).is_none_or(|&bound| took <= bound) {
            continue;
        }
        let since = |at: u64| at.cast_signed() - heal.cast_signed();
        let (due, done) = (since(probe.scheduled_ns.0), since(probe.done_ns.0));
        if due < -from.cast_signed() || trial.observed_ns.is_some_and(|until| due > until.cast_signed()) {
            continue;
        }
        let own = found.entry(probe.endpoint.clone()).or_default();
        match own.last_mut() {
            Some((_, end)) if due <= *end => *end = done.max(*end),
            _ => own.push((due, done)),
        }
    }
    found
}

/// The section: figures in words beside each panel.
pub(super) fn section_of(page: &mut Page, run: &Run) {
    if run.summary.outages.is_empty() {
        return;
    }
    section(
        page,
        "outages-section",
        &outages_title(run),
        "One row a trial, those whose last outage ended last on top. A thick line: the endpoint was out. A thin one: its \
         answers came late. The tick: the last link carried again. Grey: the cut. Choose a row to look into its trial.",
    );
    page.markup("<div class=\"legend\" id=\"outages-legend\"></div><div class=\"panels\">");
    for (at, panel) in panels(run).iter().enumerate() {
        page.markup("<figure>");
        page.element(
            "<figcaption><b>",
            format!("{}, {}", panel.title, counted(panel.trials, "trial")),
            "</b>",
        );
        for row in run.summary.outages.iter().filter(|row| row.shape == panel.title) {
            let short = |spread: &Spread| match spread.n {
                0 => MISSING.to_owned(),
                _ => format!("{} ({})", maybe_time(spread.p50_ns), maybe_time(spread.p90_ns)),
            };
            page.element(
                "<span>",
                format!(
                    "{}: all out {} · some out after the heal {} · settled {} · fail-over of the rest: {}",
                    row.name,
                    short(&row.all_out),
                    short(&row.some_after_heal),
                    short(&row.settled),
                    fail_over(row.rest_fail_over.as_ref())
                ),
                "</span>",
            );
        }
        page.markup("</figcaption>");
        page.markup(&format!(
            "<div class=\"plot outages\" data-panel=\"{at}\" data-label=\"outages of each trial\"></div></figure>"
        ));
    }
    page.markup("</div>");
    table(page, run);
    page.markup("</section>");
}

/// The meaning of the column of that name.
pub(super) const MEAN_OUTAGE: &str = "Mean outage: how long the endpoints were out in sum, divided by their number. It is what a client \
    that uses one endpoint alone sees on average.";

fn table(page: &mut Page, run: &Run) {
    page.table(
        "<table class=\"words\">",
        &[
            "cut",
            "endpoint",
            "n",
            "all out",
            "some out after the heal",
            "mean outage",
            "outage of the cut off",
            "lost by the heal",
            NEVER_OUT,
        ],
    );
    for row in &run.summary.outages {
        let cells = [
            row.shape.clone(),
            row.name.clone(),
            row.trials.to_string(),
            spread(&row.all_out),
            spread(&row.some_after_heal),
            spread(&row.share),
            row.cut_off.as_ref().map_or_else(|| MISSING.to_owned(), spread),
            format!("{}: {}", row.lost_by_heal.n, spread(&row.lost_by_heal)),
            row.never_out.to_string(),
        ];
        page.row("<tr>", &cells);
    }
    page.end_table();
    page.element("<p class=\"note\">", MEAN_OUTAGE, "</p>");
}

/// `{"endpoints": [name…], "panels": [[row…]…]}` where a row is
/// `[trial, cut before, carries, [[endpoint, from, until or null]…], [[endpoint, from, until]…]]`.
pub(super) fn json(run: &Run, late: &Late) -> String {
    let mut names: Vec<&str> = Vec::new();
    for endpoint in run.trials.iter().flat_map(|trial| &trial.endpoints).filter(|endpoint| endpoint.required)
    {
        if !names.contains(&endpoint.name.as_str()) && names.len() < ENDPOINTS {
            names.push(&endpoint.name);
        }
    }
    let mut left = LATE_BYTES;
    let panels: Vec<String> = panels(run)
        .iter()
        .map(|panel| {
            let rows: Vec<String> =
                panel.rows.iter().map(|trial| row(trial, &names, late, &mut left)).collect();
            format!("[{}]", rows.join(","))
        })
        .collect();
    format!("{{\"endpoints\":{},\"panels\":[{}]}}", script_json(&names), panels.join(","))
}

fn row(trial: &Trial, names: &[&str], late: &Late, left: &mut usize) -> String {
    let heal = trial.heal_ns.unwrap_or_default().cast_signed();
    let unit = |ns: i64| ns / UNIT.cast_signed();
    let mut windows = String::new();
    let mut marks = String::new();
    for (at, name) in names.iter().enumerate() {
        let Some(endpoint) = trial.endpoints.iter().find(|endpoint| endpoint.name == *name) else { continue };
        for window in endpoint.outage.iter().flat_map(|outage| &outage.windows) {
            let since = |ns: u64| unit(ns.cast_signed() - heal);
            let until = window.until_ns.map_or_else(|| "null".to_owned(), |until| since(until.0).to_string());
            add(&mut windows, format_args!("[{at},{},{until}]", since(window.from_ns.0)));
        }
        let spans = late.get(&trial.index).and_then(|found| found.get(*name));
        for (from, until) in spans.into_iter().flatten() {
            add(&mut marks, format_args!("[{at},{},{}]", unit(*from), unit(*until)));
        }
    }
    if marks.len() > *left {
        marks.clear();
    }
    *left -= marks.len();
    let (cut, carries) = (number(trial.hold_ns), number(trial.carries_ns));
    format!("[{},{cut},{carries},[{windows}],[{marks}]]", trial.index)
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    if !out.is_empty() {
        out.push(',');
    }
    out.write_fmt(text).expect("writing to a String cannot fail");
}
