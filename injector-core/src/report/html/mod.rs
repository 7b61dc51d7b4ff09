//! The report as one file: no network, opens from disk, follows the reader's light or dark.

pub mod compare;
pub mod data;
mod groupings;
pub mod index;
mod number;
pub mod outages;
mod page;
pub mod place;

use std::fmt::Display;

pub(super) use self::page::OPENING;
use self::page::{Page, begin, end, section};
use self::place::Records;
use super::reservations::Reservations;
use super::text;
use super::waited::waited;
use crate::figures::{self, maybe_percent, maybe_time, percents, times};
use crate::run::Probes;
use crate::run::Run;
use crate::stats::summary::{EndpointSeries, Figures, Series};

/// The shapes that are shown of each kind.
const SHAPES: usize = 50;

/// The report of a run; `probes` are those of [`data::wanted`] trials, `late` is from [`outages::late`], and `records` is
/// where the whole records are, from the page.
pub fn report(run: &Run, probes: &Probes, late: &outages::Late, records: &Records) -> String {
    let name = run.name();
    let mut page = begin(&format!("{name} · heal to settled"));
    page.element("<h1>", format!("{name}: from heal to settled"), "</h1>");
    let systems: Vec<String> =
        run.campaign.versions.systems.iter().map(|(system, version)| format!("{system} {version}")).collect();
    page.element(
        "<p class=\"soft\">",
        [vec![figures::wall(run.campaign.started)], systems, vec![text::counts(&run.summary)]]
            .concat()
            .join(" · "),
        "</p>",
    );
    let v = &run.summary.verdict;
    verdict(&mut page, v.exit_code, ["passes", "fails", "undecided"], &v.sentence);
    for sentence in Reservations::of(&run.summary).sentences {
        page.element("<p class=\"note\">", sentence, "</p>");
    }
    if let Some(headline) = text::headline(&run.summary) {
        page.element("<p class=\"headline\" id=\"headline\">", headline, "</p>");
    }
    tiles(&mut page, run);
    axis(&mut page);
    outages::section_of(&mut page, run);
    endpoints(&mut page, run);
    curve(&mut page, &options(run));
    strip(&mut page, run);
    timeline(&mut page);
    phases(&mut page);
    slowest(&mut page, run, records);
    shapes(&mut page, run);
    how(&mut page, run);
    end(page, &data::json(run, probes, late, records))
}

/// The verdict in a box; `words` are those for exit codes 0, 1 and 2.
fn verdict(page: &mut Page, exit_code: u8, words: [&str; 3], sentence: &str) {
    let (class, word) = match exit_code {
        0 => ("ok", words[0]),
        1 => ("fail", words[1]),
        _ => ("open", words[2]),
    };
    page.markup("<div class=\"verdict ")
        .markup(class)
        .markup("\" id=\"verdict\"><b>")
        .text(word)
        .markup("</b>");
    page.text(sentence).markup("</div>");
}

fn tile(page: &mut Page, figure: impl Display, what: impl Display, interval: impl Display) {
    page.element("<div class=\"tile\"><b>", figure, "</b>").element("<span>", what, "</span>");
    page.element("<span>", interval, "</span></div>");
}

fn tiles(page: &mut Page, run: &Run) {
    let s = &run.summary.cluster.settled;
    page.markup("<div class=\"tiles\">");
    let deadline = figures::deadline(run.summary.deadline_ns);
    tile(
        page,
        maybe_percent(s.rate),
        format!("not settled within {deadline}"),
        format!("95 %: {}", percents(s.rate_ci95)),
    );
    let median = if run.summary.mix.clear.is_some() {
        "median to settled, over this mix"
    } else {
        "median to settled"
    };
    for (name, at, interval) in [
        (median, s.p50_ns, s.p50_ci95_ns),
        ("90 % settled by", s.p90_ns, s.p90_ci95_ns),
        ("99 % settled by", s.p99_ns, s.p99_ci95_ns),
    ] {
        let interval = if at.is_none() && interval == [None, None] {
            if name.starts_with("99") && s.in_curve < 100 { "needs 100 trials" } else { "not reached" }
                .to_owned()
        } else {
            format!("95 %: {}", times(interval))
        };
        tile(page, maybe_time(at), name, interval);
    }
    let ready = &run.summary.cluster.ready;
    tile(page, maybe_time(ready.p50_ns), "median to ready", format!("90 %: {}", maybe_time(ready.p90_ns)));
    let relapses = s.relapses.map_or_else(|| figures::MISSING.to_owned(), |n| n.to_string());
    tile(page, relapses, "failures after ready", "relapses, all trials");
    page.markup("</div>");
}

/// The time axis of every plot.
fn axis(page: &mut Page) {
    page.markup("<div class=\"controls\"><label><input type=\"checkbox\" id=\"log\"> logarithmic time, in every plot</label></div>");
}

/// Explains the whiskers of a table.
fn whisker_legend(page: &mut Page) {
    page.markup("<p class=\"note\">Rate, 0 to 100 %, on a square-root scale: the dot is the share of trials beyond the deadline, the bar its 95 % interval.</p>");
}

/// The interval of a rate as a whisker with a dot, on a square-root scale so that small rates can be distinguished.
fn whisker(page: &mut Page, figures: &Figures) {
    let (Some(rate), Some([low, high])) = (figures.rate, figures.rate_ci95) else {
        page.markup("<td></td>");
        return;
    };
    let x = |share: f64| 4.0 + 122.0 * share.sqrt();
    let colour = if figures.beyond_deadline > 0 { "--bad" } else { "--good" };
    page.markup(&format!(
        "<td class=\"text\"><svg class=\"bar\" viewBox=\"0 0 130 14\" aria-hidden=\"true\"><line x1=\"4\" x2=\"126\" y1=\"7\" y2=\"7\" stroke=\"var(--grid)\" stroke-width=\"2\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"7\" y2=\"7\" stroke=\"var({colour})\" stroke-width=\"3\" stroke-linecap=\"round\" opacity=\"0.55\"/><circle cx=\"{:.1}\" cy=\"7\" r=\"4\" fill=\"var({colour})\"/></svg></td>",
        x(low), x(high), x(rate),
    ));
}

fn cells(f: &Figures) -> Vec<String> {
    vec![
        maybe_percent(f.rate),
        percents(f.rate_ci95),
        maybe_time(f.p50_ns),
        maybe_time(f.p90_ns),
        f.relapses.map_or_else(|| figures::MISSING.to_owned(), |n| n.to_string()),
    ]
}

fn endpoint_row(page: &mut Page, e: &EndpointSeries, class: &str) {
    let f = &e.series.settled;
    page.markup("<tr class=\"").markup(class).markup("\">").element("<td>", &e.name, "");
    if e.instances > 1 {
        page.element(" <span class=\"soft\">last of ", e.instances, "</span>");
    }
    let (badge, word) = match (f.n, f.beyond_deadline) {
        (0, _) => ("", "nothing decided".to_owned()),
        (n, 0) => ("ok", format!("{n} of {n} in time")),
        (n, beyond) => ("fail", format!("{beyond} of {n} too late")),
    };
    page.element("</td><td class=\"text\">", &e.role, "</td>");
    page.markup("<td class=\"text\"><span class=\"badge ")
        .markup(badge)
        .markup("\">")
        .text(word)
        .markup("</span></td>");
    whisker(page, f);
    for cell in cells(f) {
        page.element("<td>", cell, "</td>");
    }
    page.element("<td>", e.not_impaired, "</td></tr>");
}

fn endpoints(page: &mut Page, run: &Run) {
    section(
        page,
        "endpoints",
        "Endpoints",
        "Required endpoints make the verdict, advisory ones are only reported.",
    );
    page.markup("<div class=\"scroll\"><table><thead><tr><th></th><th class=\"text\">role</th><th class=\"text\">verdict</th><th class=\"text\">rate, 0 to 100 %</th><th>rate</th><th>95 %</th><th>median</th><th>90 %</th><th>relapses</th><th>nothing felt</th></tr></thead><tbody>");
    let s = &run.summary;
    let mut shown: Vec<&str> = Vec::new();
    for group in &s.endpoint_groups {
        endpoint_row(page, group, "group");
        for e in s.endpoints.iter().filter(|e| crate::stats::trial::base(&e.name) == group.name) {
            endpoint_row(page, e, "part");
            shown.push(&e.name);
        }
    }
    for e in s.endpoints.iter().filter(|e| !shown.contains(&e.name.as_str())) {
        endpoint_row(page, e, "group");
    }
    page.end_table();
    whisker_legend(page);
    page.markup("</section>");
}

fn options(run: &Run) -> Vec<(String, String)> {
    let names = data::curve_names(run);
    let option = |instant: &str, name: &String| (format!("{instant}\n{name}"), format!("{name}, {instant}"));
    names.iter().flat_map(|name| [option("settled", name), option("ready", name)]).collect()
}

fn curve(page: &mut Page, options: &[(String, String)]) {
    section(
        page,
        "curve-section",
        "How many have not recovered yet",
        "Kaplan–Meier: trials that another cut ended count as long as they were watched. The band holds the true \
         share with 95 % at each time.",
    );
    page.markup("<div class=\"controls\"><label>of <select id=\"curve-of\">");
    for (value, name) in options {
        page.markup("<option value=\"").text(value).markup("\">").text(name).markup("</option>");
    }
    page.markup("</select></label></div>");
    page.markup("<div class=\"plot\" id=\"curve\" data-label=\"survival curve\"></div>");
    page.markup("<div class=\"legend\" id=\"curve-legend\"></div></section>");
}

fn strip(page: &mut Page, run: &Run) {
    section(page, "strip-section", "Every trial", "From heal to settled. Choose a trial to look into it.");
    page.markup("<div class=\"controls\"><label>in lanes by <select id=\"strip-by\"><option value=\"\">nothing: all in one</option></select></label></div>");
    page.markup("<div class=\"plot\" id=\"strip\" data-label=\"every trial, and their histogram\"></div>");
    page.markup("<div class=\"legend\" id=\"strip-legend\"></div><p class=\"note\" id=\"strip-note\"></p>");
    not_made(page, run);
    page.markup("</section>");
}

/// The trials that were not made, each with its reason.
fn not_made(page: &mut Page, run: &Run) {
    if run.not_made.is_empty() {
        return;
    }
    page.markup("<h3 id=\"not-made\">Trials that were not made</h3>");
    page.table("<table class=\"words\">", &["trial", "attempt", "when", "why"]);
    for not_made in run.not_made.iter().take(SHAPES) {
        let when = figures::wall(not_made.wall);
        page.markup("<tr>");
        for cell in [not_made.trial.to_string(), not_made.attempt.to_string(), when] {
            page.element("<td>", cell, "</td>");
        }
        page.element("<td class=\"wrap\">", &not_made.reason, "</td></tr>");
    }
    page.end_table();
    let more = run.not_made.len().saturating_sub(SHAPES);
    if more > 0 {
        page.element("<p class=\"note\">", format!("{more} more are in not_made.jsonl."), "</p>");
    }
}

fn timeline(page: &mut Page) {
    section(page, "timeline-section", "One trial", "");
    page.markup("<div class=\"controls\"><label>trial <select id=\"pick\"></select></label><span><button id=\"previous\" type=\"button\">← previous</button> <button id=\"next\" type=\"button\">next →</button></span> <span><button id=\"closer\" type=\"button\">closer</button> <button id=\"whole\" type=\"button\">all of it</button></span></div>");
    page.markup("<p class=\"soft\" id=\"timeline-caption\"></p><div class=\"plot\" id=\"timeline\" data-label=\"timeline of one trial\"></div>");
    page.markup("<div class=\"legend\" id=\"timeline-legend\"></div><p class=\"note\">Drag across the timeline to look closer; a double click shows all of it. <span id=\"timeline-note\"></span></p><p class=\"note\" id=\"timeline-stuck\"></p><p class=\"note\" id=\"timeline-raw\"></p></section>");
}

fn phases(page: &mut Page) {
    section(
        page,
        "phases-section",
        "Where the time went",
        "Phases of the slowest trials, slowest first, and the medians. Silence: from the heal until a packet was sent on \
         every link that had been cut. Reconnect: until a packet had come through on each of them. Return: until all required \
         endpoints were ready. Relapse: until all had settled.",
    );
    page.markup("<div class=\"plot\" id=\"phases\" data-label=\"phases by trial\"></div><div class=\"legend\" id=\"phases-legend\"></div><p class=\"note\" id=\"phases-note\"></p></section>");
}

fn slowest(page: &mut Page, run: &Run, records: &Records) {
    /// The cell of a sentence.
    const WAITED: usize = 5;
    section(page, "slowest", "Slowest trials", "");
    page.table(
        "<table class=\"words\">",
        &["trial", "settled", "ready", "outcome", "cut", "what it waited for", "starved", "record"],
    );
    for slow in &run.summary.slowest {
        let found = run.trials.iter().zip(&run.details).find(|(trial, _)| trial.index == slow.trial);
        let waited = found.and_then(|(trial, detail)| waited(trial, detail));
        let line = found.map_or_else(String::new, |(_, detail)| format!("line {}", detail.line));
        let cells = [
            slow.trial.to_string(),
            maybe_time(slow.settled_ns),
            maybe_time(slow.ready_ns),
            figures::outcome(slow.outcome).to_owned(),
            slow.cut(),
            waited.unwrap_or_else(|| slow.last_link.clone().unwrap_or_default()),
            if slow.starved { "yes" } else { "" }.to_owned(),
        ];
        page.markup(&format!("<tr data-trial=\"{}\">", slow.trial));
        for (at, cell) in cells.iter().enumerate() {
            page.element(if at == WAITED { "<td class=\"wrap\">" } else { "<td>" }, cell, "</td>");
        }
        page.markup("<td><a href=\"").text(&records.href).markup("\">").text(line).markup("</a></td></tr>");
    }
    page.end_table();
    page.markup("</section>");
}

fn shape_row(page: &mut Page, name: &str, series: &Series) {
    let f = &series.settled;
    page.element("<tr><td class=\"wrap\">", name, "</td>");
    page.element("<td>", format!("{} of {}", f.beyond_deadline, f.n), "</td>");
    whisker(page, f);
    for cell in cells(f) {
        page.element("<td>", cell, "</td>");
    }
    page.markup("</tr>");
}

fn shapes(page: &mut Page, run: &Run) {
    let s = &run.summary;
    let groups = text::groups(s);
    if groups.is_empty() {
        return;
    }
    section(page, "shapes", "By what was cut", "");
    page.head(&["", "beyond", "rate, 0 to 100 %", "rate", "95 %", "median", "90 %", "relapses"]);
    let mut more = 0;
    for (title, rows) in groups {
        page.element("<tr class=\"sub\"><th colspan=\"8\">", title, "</th></tr>");
        for row in rows.iter().take(SHAPES) {
            shape_row(page, &row.shape, &row.series);
        }
        more += rows.len().saturating_sub(SHAPES);
    }
    page.end_table();
    whisker_legend(page);
    if more > 0 {
        page.element("<p class=\"note\">", format!("{more} more rows are in summary.json."), "</p>");
    }
    page.markup("</section>");
}

/// The words of this page that a first reader can't know, each with its meaning.
const WORDS: [(&str, &str); 12] = [
    ("trial", "One cut, its heal and what followed: one line of trials.jsonl, with its record."),
    ("ready", "The first of several good answers in a row after the heal (how many: see above)."),
    (
        "settled",
        "Ready, and no failure since while it was watched on; the cluster has settled when all required endpoints have.",
    ),
    (
        "beyond the deadline",
        "Not settled in time after the heal: too late, or never. The verdict counts these trials.",
    ),
    ("relapse", "A failure after an endpoint was ready: it came back too early, and was lost again."),
    (
        "decided",
        "Trials that recovered or did not. The others (censored, unknown, harness failed) are in no rate.",
    ),
    ("censored", "Known only up to a point: another cut, or the end of the watch, came before the event."),
    (
        "harness failed",
        "Something about the measurement went wrong, so that the trial says nothing about the cluster.",
    ),
    ("starved", "The host gave the probes too little CPU or disk time, so that times may be too long."),
    (
        "nothing felt",
        "Recovered trials in which the endpoint was never out: neither while cut nor after the heal.",
    ),
    ("mean outage", outages::MEAN_OUTAGE),
    ("last of N", "The row is of all instances of an endpoint together; its time is that of the last one."),
];

fn words(page: &mut Page) {
    section(page, "words", "Words", "");
    page.markup("<dl>");
    for (word, meaning) in WORDS {
        page.element("<dt>", word, "</dt>").element("<dd>", meaning, "</dd>");
    }
    page.markup("</dl></section>");
}

fn how(page: &mut Page, run: &Run) {
    let (c, settings) = (&run.campaign, &run.campaign.settings);
    section(page, "how", "How it was run", "");
    page.markup("<dl>");
    let mut item = |term: &str, text: String| {
        page.element("<dt>", term, "</dt>").element("<dd>", text, "</dd>");
    };
    item("command", c.command.join(" "));
    item("seed", settings.seed.to_string());
    let systems = c.versions.systems.iter().map(|(system, version)| format!(", {system} {version}"));
    item("versions", format!("injector {}{}", c.versions.injector, systems.collect::<String>()));
    item("kernel", c.kernel.clone());
    item("started", figures::wall(c.started));
    item("clock", format!("CLOCK_MONOTONIC {} ns was {}", c.clock.mono_ns.0, figures::wall(c.clock.wall)));
    let ready = &settings.ready;
    item(
        "ready, settled",
        format!(
            "{} answers in a row; watched for {}, at most {}, tolerating failures up to {}",
            ready.consecutive, ready.observe, ready.observe_max, ready.tolerate
        ),
    );
    item(
        "deadline, cool-down",
        format!("{} from the heal, {} between trials", settings.deadline, settings.cool_down),
    );
    let cells = settings
        .cells
        .iter()
        .map(|cell| format!("{} for {}", crate::stats::labels::label(&cell.shape), cell.hold));
    item("cuts", cells.collect::<Vec<_>>().join("; "));
    let probes = settings.probes.iter().map(|probe| {
        format!(
            "{}: {} every {} ({})",
            probe.endpoint,
            probe.rules.stimulus,
            probe.rules.options.interval,
            probe.rules.options.connection
        )
    });
    item("probes", probes.collect::<Vec<_>>().join("; "));
    let gates = &settings.gates;
    let advisory = if gates.advisory.is_empty() { "none".to_owned() } else { gates.advisory.join(", ") };
    let gate = if gates.no_gate { "off" } else { "on" };
    item(
        "gate",
        format!(
            "{gate}, up to {} beyond the deadline; made advisory: {advisory}",
            figures::percent(gates.max_rate)
        ),
    );
    page.markup("</dl>");
    page.markup("</section>");
    words(page);
    page.markup("<footer>");
    for note in text::notes(run) {
        page.element("<p>", note, "</p>");
    }
    page.markup("</footer>");
}
