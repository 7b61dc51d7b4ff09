//! The page of a comparison: overlaid curves and the figures of both.

use super::data::{curve_json, endpoint_curve};
use super::page::{Page, begin, end, section};
use super::{axis, curve, verdict};
use crate::figures::{maybe_percent, maybe_time, percents, probability};
use crate::report::escape::script_json;
use crate::run::Run;
use crate::stats::compare::{Comparison, Row};
use crate::stats::dependence::ASSUMPTION;
use crate::stats::medians;
use crate::stats::summary::cluster_curve;
use crate::stats::trial::{Instant, Trial};

/// The page; `left_open` is what the verdicts of the runs leave open, and `forced` are the settings in which the runs differ
/// although they are compared.
pub fn report(a: &Run, b: &Run, comparison: &Comparison, left_open: &[String], forced: &[String]) -> String {
    let mut page = begin("comparison · heal to settled");
    page.markup("<h1>From heal to settled, compared</h1>");
    page.element("<p class=\"soft\">A: ", a.path.display(), "<br>").element("B: ", b.path.display(), "</p>");
    verdict(
        &mut page,
        comparison.finding.exit_code(),
        ["not worse", "worse", "undecided"],
        &comparison.sentence,
    );
    for line in left_open.iter().chain(&comparison.times_sentence) {
        page.element("<p class=\"note\">", line, "</p>");
    }
    for difference in forced {
        page.element("<p class=\"note\">The runs differ in ", difference, "</p>");
    }
    let mut names = vec!["cluster".to_owned()];
    names.extend(
        comparison
            .times
            .iter()
            .filter(|test| test.name != "cluster" && test.instant == "settled")
            .map(|test| test.name.clone()),
    );
    let keys: Vec<(String, String)> = names
        .iter()
        .flat_map(|name| ["settled", "ready"].map(|of| (format!("{of}\n{name}"), format!("{name}, {of}"))))
        .collect();
    axis(&mut page);
    curve(&mut page, &keys);
    rates(&mut page, comparison);
    times(&mut page, comparison);
    page.element("<footer>", ASSUMPTION, "</footer>");
    end(page, &json(a, b, comparison, &names))
}

fn rates(page: &mut Page, c: &Comparison) {
    section(
        page,
        "rates",
        "Beyond the deadline",
        "The verdict rests on this: an exact one-sided test within equal cuts, and the upper bound of the difference.",
    );
    page.head(&["cut", "A", "A, 95 %", "B", "B, 95 %"]);
    for Row { name, a, b } in c.rows() {
        let of = |n: u64, beyond: u64| format!("{beyond} of {n}");
        page.row(
            "<tr>",
            &[
                name,
                of(a.n, a.beyond_deadline),
                percents(a.rate_ci95),
                of(b.n, b.beyond_deadline),
                percents(b.rate_ci95),
            ],
        );
    }
    page.end_table();
    if let Some(note) = c.without_part() {
        page.element("<p class=\"note\">", note, "</p>");
    }
    page.markup("</section>");
}

fn times(page: &mut Page, c: &Comparison) {
    section(
        page,
        "times",
        "Times",
        "Descriptive: log-rank tests within equal cuts, adjusted for their number (Holm).",
    );
    page.head(&[
        "",
        "A median",
        "B median",
        "B − A",
        "B − A, 95 %",
        "A beyond",
        "B beyond",
        "p",
        "p adjusted",
    ]);
    for test in &c.times {
        page.row(
            "<tr>",
            &[
                format!("{}, {}", test.name, test.instant),
                maybe_time(test.a_p50_ns),
                maybe_time(test.b_p50_ns),
                medians::maybe_signed(test.p50_difference_ns),
                medians::interval(test.p50_difference_ci95_ns),
                maybe_percent(test.a_rate),
                maybe_percent(test.b_rate),
                probability(test.p),
                probability(test.p_holm),
            ],
        );
    }
    page.end_table();
    page.markup("</section>");
}

fn json(a: &Run, b: &Run, comparison: &Comparison, names: &[String]) -> String {
    let one = |run: &Run, label: &str, name: &str, instant| {
        let all: Vec<&Trial> = run.trials.iter().collect();
        let curve = if name == "cluster" {
            cluster_curve(&all, instant)
        } else {
            endpoint_curve(&all, name, instant)
        };
        let body = curve_json(&curve);
        format!("{{\"name\":\"{label}\",{}", &body[1..])
    };
    let curves: Vec<String> = names
        .iter()
        .flat_map(|name| {
            [("settled", Instant::Settled), ("ready", Instant::Ready)].map(|instant| (name, instant))
        })
        .map(|(name, (of, instant))| {
            let key = script_json(&format!("{of}\n{name}"));
            format!("{key}:[{},{}]", one(a, "A", name, instant), one(b, "B", name, instant))
        })
        .collect();
    let deadline = comparison.deadline_ns.map_or_else(|| "null".to_owned(), |ns| (ns / 100_000).to_string());
    format!("{{\"deadline\":{deadline},\"compare\":{{{}}}}}", curves.join(","))
}
