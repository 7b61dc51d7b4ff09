//! Reports: from a run directory to text, HTML, `JUnit`, CSV and JSON, and the comparison of two.

pub mod csv;
pub mod escape;
mod file;
pub mod html;
pub mod json;
pub mod junit;
mod outputs;
mod reservations;
pub mod table;
pub mod text;
mod waited;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::clock::Span;
use crate::figures::{deadline, maybe_percent, maybe_time, percents, probability, wall};
use crate::run::Run;
use crate::run::{ReadError, probes};
use crate::stats::compare::{Comparison, MARGIN, Row, compare as compare_trials};
use crate::stats::medians;
use crate::stats::summary::Verdict;
use html::index::Linked;
use html::place::{Records, link};
pub use outputs::OutputError;
pub use reservations::Reservations;
use table::Table;

/// The files that a report writes beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// Where to write a self-contained HTML page.
    pub html: Option<PathBuf>,
    /// `JUnit` XML.
    pub junit: Option<PathBuf>,
    /// Where to write CSV, with a line for each trial.
    pub csv: Option<PathBuf>,
    /// The bound that every record is judged again by; `None` leaves them as they are.
    pub served_within: Option<Span>,
}

/// A report that was made.
#[derive(Clone, Debug)]
pub struct Report {
    /// The text for the terminal.
    pub text: String,
    /// The value for `--json`.
    pub json: Value,
    /// The campaign's verdict, with the exit code of `measure`; reading it is no failure, so that `report` itself
    /// exits with 0.
    pub verdict: Verdict,
}

/// How two runs are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// The share by which B may be worse.
    pub margin: f64,
    /// Whether runs with differing deadline, observation, K, probes, hold or gates are compared all the same.
    pub force: bool,
    /// A page with overlaid curves.
    pub html: Option<PathBuf>,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { margin: MARGIN, force: false, html: None }
    }
}

/// A comparison that was made.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The text for the terminal.
    pub text: String,
    /// The value for `--json`.
    pub json: Value,
    /// 0 not worse by the margin, 1 worse, 2 undecided or not comparable.
    pub exit_code: u8,
    /// The settings in which the runs differ.
    pub incomparable: Vec<String>,
    /// The figures; `None` where the runs were not compared.
    pub comparison: Option<Comparison>,
}

/// Why a report can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file is asked for that must not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file can't be written.
    #[error("can't write {}: {source}; {}", .path.display(), file::remedy(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn write_file(path: &Path, text: &str) -> Result<(), ReportError> {
    write_through(path, |out| out.write_all(text.as_bytes()))
}

fn write_through(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ReportError> {
    file::write(path, fill).map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

/// Reads a run directory and writes what is asked for.
pub fn report(directory: &Path, options: &ReportOptions) -> Result<Report, ReportError> {
    let ReportOptions { html, junit, csv, .. } = options;
    let outputs = [("--html", html.as_ref()), ("--junit", junit.as_ref()), ("--csv", csv.as_ref())];
    outputs::refuse([directory], &[], &outputs)?;
    let run = Run::load_within(directory, options.served_within)?;
    if let Some(path) = &options.html {
        write_page(&run, path)?;
    }
    if let Some(path) = &options.junit {
        write_file(path, &junit::report(&run))?;
    }
    if let Some(path) = &options.csv {
        write_through(path, |mut out| csv::write(&run, &mut out))?;
    }
    Ok(Report { text: text::report(&run), json: json::report(&run), verdict: run.summary.verdict })
}

/// The files that an index writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// The page over all runs. Each run's own page is written into its directory, as [`RUN_PAGE`].
    pub html: PathBuf,
    /// The bound that every record is judged again by; `None` leaves them as they are.
    pub served_within: Option<Span>,
}

/// The page of a run, in its directory.
pub const RUN_PAGE: &str = "report.html";

/// An index that was made.
#[derive(Clone, Debug)]
pub struct Index {
    /// The text for the terminal.
    pub text: String,
    /// The value for `--json`.
    pub json: Value,
}

/// Reads run directories, writes the page of each and one over all of them.
///
/// # Errors
/// The first run that can't be read; then no page is written.
pub fn index(directories: &[PathBuf], options: &IndexOptions) -> Result<Index, ReportError> {
    let pages: Vec<PathBuf> = directories.iter().map(|directory| directory.join(RUN_PAGE)).collect();
    outputs::refuse(directories.iter().map(PathBuf::as_path), &pages, &[("--index", Some(&options.html))])?;
    let runs = directories.iter().map(|directory| Run::load_within(directory, options.served_within));
    let runs = runs.collect::<Result<Vec<Run>, ReadError>>()?;
    let mut linked = Vec::with_capacity(runs.len());
    for run in runs {
        let page = run.path.join(RUN_PAGE);
        write_page(&run, &page)?;
        linked.push(Linked { href: link(&options.html, &page), run });
    }
    write_file(&options.html, &html::index::report(&linked))?;
    let mut table = Table::new(["run", "started", "beyond", "median", "90 %", "verdict"]);
    for Linked { run, .. } in &linked {
        let settled = &run.summary.cluster.settled;
        table.row([
            run.path.display().to_string(),
            wall(run.campaign.started),
            format!("{}/{}", settled.beyond_deadline, settled.n),
            maybe_time(settled.p50_ns),
            maybe_time(settled.p90_ns),
            match run.summary.verdict.exit_code {
                0 => "passes",
                1 => "fails",
                _ => "undecided",
            }
            .to_owned(),
        ]);
    }
    let mut text = String::new();
    table.write(&mut text);
    text.push('\n');
    for Linked { run, .. } in &linked {
        writeln!(text, "{}: {}", run.path.display(), run.summary.verdict.sentence)
            .expect("writing to a String cannot fail");
        for sentence in Reservations::of(&run.summary).sentences {
            writeln!(text, "{}: {sentence}", run.path.display()).expect("writing to a String cannot fail");
        }
    }
    Ok(Index { text, json: Value::Array(linked.iter().map(|linked| json::report(&linked.run)).collect()) })
}

/// Writes the page of a run.
fn write_page(run: &Run, path: &Path) -> Result<(), ReportError> {
    let wanted: Vec<(u64, u32)> =
        html::data::wanted(&run.trials).iter().map(|trial| (trial.index, trial.attempt)).collect();
    let late = html::outages::late(&run.path, run)?;
    let records = Records::of(&run.path, path);
    write_file(path, &html::report(run, &probes(&run.path, &wanted)?, &late, &records))
}

/// Compares run `b` with run `a`.
pub fn compare(a: &Path, b: &Path, options: &CompareOptions) -> Result<Compared, ReportError> {
    outputs::refuse([a, b], &[], &[("--html", options.html.as_ref())])?;
    let (run_a, run_b) = (Run::load(a)?, Run::load(b)?);
    let incomparable = run_a.campaign.settings.incomparable(&run_b.campaign.settings);
    if !incomparable.is_empty() && !options.force {
        let mut text = String::from("Not compared: the runs were made differently (A's value, B's value):\n");
        for difference in &incomparable {
            writeln!(text, "  {difference}").expect("writing to a String cannot fail");
        }
        text +=
            "Run one of them again with the other's settings, or compare them all the same with --force.\n";
        let json = json::compare(2, &incomparable, None);
        return Ok(Compared { text, json, exit_code: 2, incomparable, comparison: None });
    }
    let comparison = compare_trials(&run_a.trials, &run_b.trials, options.margin);
    let reservations = [&run_a, &run_b].map(|run| Reservations::of(&run.summary));
    let same_run = is_same(&run_a, &run_b);
    let mut left_open = left_open(&reservations);
    if same_run {
        left_open.insert(0, SAME_RUN.to_owned());
    }
    if let Some(path) = &options.html {
        write_file(path, &html::compare::report(&run_a, &run_b, &comparison, &left_open, &incomparable))?;
    }
    let exit_code = comparison.finding.exit_code();
    let mut text = compare_text(&comparison, &left_open);
    for difference in &incomparable {
        writeln!(text, "The runs differ in {difference}").expect("writing to a String cannot fail");
    }
    let known_to_one = run_a.campaign.settings.known_to_one(&run_b.campaign.settings);
    if !known_to_one.is_empty() {
        writeln!(
            text,
            "The runs do not record alike where probes start, where they go and what they expect, as they are of different \
             versions; that may differ: {}",
            known_to_one.join(", ")
        )
        .expect("writing to a String cannot fail");
    }
    for difference in run_a.campaign.settings.started_elsewhere(&run_b.campaign.settings) {
        writeln!(
            text,
            "The probes start in network namespaces of different names; a probe from within a peer sees another service than one \
             from outside: {difference}"
        )
        .expect("writing to a String cannot fail");
    }
    for difference in run_a.campaign.settings.reworded(&run_b.campaign.settings) {
        writeln!(text, "The stimulus is worded differently, which decides nothing: {difference}")
            .expect("writing to a String cannot fail");
    }
    for note in run_a.notes.iter().chain(&run_b.notes) {
        writeln!(text, "{note}").expect("writing to a String cannot fail");
    }
    let json = json::compare(exit_code, &incomparable, Some((&comparison, &reservations, same_run)));
    Ok(Compared { text, json, exit_code, incomparable, comparison: Some(comparison) })
}

/// Said of a run that is compared with itself.
const SAME_RUN: &str =
    "A and B are one and the same run: what they differ in can't show here. Compare runs of two campaigns.";

/// Whether both are one run, or a copy of it: no two campaigns heal at the same instants.
fn is_same(a: &Run, b: &Run) -> bool {
    !a.trials.is_empty() && a.trials == b.trials
}

/// What the verdicts of A and of B leave open, in sentences that name the run.
fn left_open(runs: &[Reservations; 2]) -> Vec<String> {
    let named = ["A", "B"].into_iter().zip(runs);
    named
        .flat_map(|(name, run)| run.sentences.iter().map(move |sentence| format!("{name}: {sentence}")))
        .collect()
}

fn compare_text(c: &Comparison, left_open: &[String]) -> String {
    let mut out = format!("{}\n", c.sentence);
    for line in left_open.iter().chain(&c.times_sentence) {
        writeln!(out, "{line}").expect("writing to a String cannot fail");
    }
    writeln!(out, "\nBeyond the deadline of {}", deadline(c.deadline_ns))
        .expect("writing to a String cannot fail");
    let mut table = Table::new(["cut", "A", "rate", "95 %", "B", "rate", "95 %"]);
    for Row { name, a, b } in c.rows() {
        table.row([
            name,
            format!("{}/{}", a.beyond_deadline, a.n),
            maybe_percent(a.rate),
            percents(a.rate_ci95),
            format!("{}/{}", b.beyond_deadline, b.n),
            maybe_percent(b.rate),
            percents(b.rate_ci95),
        ]);
    }
    table.write(&mut out);
    out += "\nTimes (descriptive; log-rank, adjusted after Holm)\n";
    let mut table = Table::new(["", "A median", "B median", "B − A", "95 %", "p", "adjusted"]);
    for test in &c.times {
        table.row([
            format!("{}, {}", test.name, test.instant),
            maybe_time(test.a_p50_ns),
            maybe_time(test.b_p50_ns),
            medians::maybe_signed(test.p50_difference_ns),
            medians::interval(test.p50_difference_ci95_ns),
            probability(test.p),
            probability(test.p_holm),
        ]);
    }
    table.write(&mut out);
    if let Some(note) = c.without_part() {
        writeln!(out, "\n{note}").expect("writing to a String cannot fail");
    }
    out.push('\n');
    out.push_str(crate::stats::dependence::ASSUMPTION);
    out.push('\n');
    out
}
