//! What `report` and `compare` make of run directories: each form, and each exit code.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::Path;

use injector_core::api::{ClusterOutage, Coverage, CoverageState, FailOver, Outage, Outcome, RecoveryRecord};
use injector_core::clock::{MonoNs, Span, TimeRange, WallNs};
use injector_core::model::Shape;
use injector_core::report::{CompareOptions, IndexOptions, ReportOptions, compare, index, report};
use injector_core::run::dir::{Campaign, NotMade, RunDir, StopWhen};
use synthetic::{Plant, SECOND, append_to, campaign, plants, record, write, write_with};

#[test]
fn every_form_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut planted = plants(30, 6, 0.1);
    planted[3] = Plant::undecided(Outcome::Unknown);
    planted[4] = Plant::undecided(Outcome::HarnessFailed);
    let mut settings = campaign(30);
    settings.settings.gates.max_rate = 0.0;
    write(&run, &settings, &planted, false);
    let options = ReportOptions {
        served_within: None,
        html: None,
        junit: Some(folder.path().join("report.xml")),
        csv: Some(folder.path().join("report.csv")),
    };
    let made = report(&run, &options).unwrap();
    let failed = planted.iter().filter(|plant| plant.outcome == Outcome::NotRecovered).count();
    assert!(failed > 0 && made.verdict.exit_code == 1);
    for part in [
        "1 unknown, 1 harness failed",
        "All intervals assume that trials are independent",
        "ingress, last of 3 (required)",
        "metadata, last of 3 (advisory)",
        "By what was cut",
        "Slowest trials",
        "silence",
        "2 trials are undecided and not in the rate",
        "Why: trial 3 unknown: planted; trial 4 harness failed: planted.",
    ] {
        assert!(made.text.contains(part), "{part} is missing in\n{}", made.text);
    }
    // The figures by shape and by isolated peer are the same: they are printed once.
    assert!(!made.text.contains("By isolated peer"), "{}", made.text);
    assert_eq!(made.json["summary"]["trials"], 30);
    let xml = fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert_eq!(xml.matches("<testcase").count(), 31);
    assert_eq!(xml.matches("<failure").count(), failed + 1);
    assert!(
        xml.contains(&format!("tests=\"31\" failures=\"{}\" errors=\"1\" skipped=\"1\"", failed + 1)),
        "{xml}"
    );
    let csv = fs::read_to_string(folder.path().join("report.csv")).unwrap();
    let mut rows = csv.lines();
    let columns = rows.next().unwrap().split(',').count();
    assert!(rows.clone().all(|row| row.split(',').count() == columns));
    // An unknown trial has no times: its cells are empty, not 0.
    assert!(
        rows.nth(3)
            .unwrap()
            .starts_with("3,1,unknown,planted,random-node,isolate n1,,5000012345,20000000000,,,0,")
    );
}

/// The page explains the words that a first reader can't know, and the sentences say who did what.
#[test]
fn a_page_explains_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut planted = plants(30, 6, 0.1);
    planted[3] = Plant::undecided(Outcome::HarnessFailed);
    write(&run, &campaign(30), &planted, false);
    let html = folder.path().join("page.html");
    report(&run, &ReportOptions { html: Some(html.clone()), ..ReportOptions::default() }).unwrap();
    let page = fs::read_to_string(html).unwrap();
    let words = page.split("id=\"words\"").nth(1).unwrap();
    for word in [
        "ready",
        "settled",
        "relapse",
        "censored",
        "harness failed",
        "starved",
        "nothing felt",
        "mean outage",
    ] {
        assert!(words.contains(&format!("<dt>{word}</dt>")), "{word} is not explained");
    }
    // Each of them is on the page, before it is explained.
    let shown = page.split("id=\"words\"").next().unwrap();
    for word in ["relapses", "harness failed", "nothing felt", "last of 3"] {
        assert!(shown.contains(word), "{word} is explained, and is not on the page");
    }
    assert!(!shown.contains("nobody"), "a sentence without its actor");
}

#[test]
fn cuts_that_nobody_felt_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(folder.path(), &campaign(3)).unwrap();
    for trial in 0..3 {
        let mut record = record(trial, &Plant::recovered(0));
        for endpoint in record.endpoints.iter_mut().filter(|_| trial > 0) {
            endpoint.impaired = Some(false);
        }
        run.append(&record).unwrap();
    }
    let text = report(folder.path(), &ReportOptions::default()).unwrap().text;
    assert!(text.contains("2 recovered trials are of cuts that no required endpoint felt"), "{text}");
    // Served through the cut, and lost by the heal: that took its time.
    let lost = folder.path().join("lost");
    write_with(&lost, &campaign(3), &[1, 2, 3].map(|after| Plant::recovered(after * SECOND)), |_, record| {
        for endpoint in &mut record.endpoints {
            endpoint.impaired = Some(false);
        }
    });
    let found = report(&lost, &ReportOptions::default()).unwrap();
    assert!(!found.text.contains("endpoint felt"), "{}", found.text);
    let unfelt = found.json["summary"]["endpoints"].as_array().unwrap().iter();
    assert!(unfelt.clone().count() == 6 && unfelt.clone().all(|endpoint| endpoint["not_impaired"] == 0));
    let felt = folder.path().join("felt");
    write(&felt, &campaign(3), &[1, 2, 3].map(|after| Plant::recovered(after * SECOND)), false);
    let text = report(&felt, &ReportOptions::default()).unwrap().text;
    assert!(!text.contains("endpoint felt"), "{text}");
}

/// The second trial knows all outages, the first one none of its endpoints'.
#[test]
fn a_lower_bound_is_marked_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut run = RunDir::create(&path, &campaign(2)).unwrap();
    for trial in 0..2 {
        let mut record = record(trial, &Plant::recovered(SECOND));
        let is_known = trial == 1;
        record.outage = Some(vec![ClusterOutage {
            name: "ingress".to_owned(),
            endpoints: 3,
            without_data: if is_known { 0 } else { 3 },
            some: Vec::new(),
            all: is_known.then(Vec::new),
            some_ns: 0,
            some_after_heal_ns: 0,
            all_ns: is_known.then_some(0),
            share_ns: is_known.then_some(0),
            open: false,
        }]);
        if is_known {
            for endpoint in &mut record.endpoints {
                endpoint.outage = Some(served());
            }
        }
        run.append(&record).unwrap();
    }
    let file = |end: &str| folder.path().join(format!("report.{end}"));
    let options =
        ReportOptions { junit: Some(file("xml")), csv: Some(file("csv")), ..ReportOptions::default() };
    report(&path, &options).unwrap();
    let csv = fs::read_to_string(file("csv")).unwrap();
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    for column in ["ingress some_out_at_least", "ingress some_out_after_heal_at_least"] {
        let at = head.iter().position(|head| *head == column).unwrap();
        let cells: Vec<&str> = csv.lines().skip(1).map(|row| row.split(',').nth(at).unwrap()).collect();
        assert_eq!(cells, ["true", "false"], "{column}");
    }
    let xml = fs::read_to_string(file("xml")).unwrap();
    assert!(xml.contains("some out after the heal at least 0, "), "{xml}");
    assert!(xml.contains("some out after the heal 0, "), "{xml}");
}

fn served() -> Outage {
    Outage {
        served_within_ns: SECOND,
        windows: Vec::new(),
        sum_ns: Some(0),
        longest_ns: None,
        before_heal_ns: Some(0),
        after_heal_ns: 0,
        open: false,
        fail_over: Some(FailOver::NeverOut),
        fail_over_ns: None,
        lost_by_heal_ns: Some(0),
        tolerated: 0,
        stall_ns: None,
        unseen: false,
    }
}

/// Each form of the report has the time from heal to settled, says so, and has no ready after it.
#[test]
fn a_cut_that_nobody_felt_is_settled_at_the_heal_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write(&run, &campaign(3), &[0, 0, 0].map(Plant::recovered), false);
    let file = |end: &str| folder.path().join(format!("report.{end}"));
    let options = ReportOptions {
        served_within: None,
        html: Some(file("html")),
        junit: Some(file("xml")),
        csv: Some(file("csv")),
    };
    let made = report(&run, &options).unwrap();
    for of in ["settled", "ready"] {
        let row = made.text.lines().find(|line| line.trim_start().starts_with(of)).unwrap();
        assert!(row.split_whitespace().filter(|cell| *cell == "0").count() >= 2, "{row}");
    }
    // In JSON, the figures of settled are members of `cluster`, and those of ready of `cluster.ready`.
    let cluster = &made.json["summary"]["cluster"];
    for figures in [cluster, &cluster["ready"]] {
        assert_eq!((figures["p50_ns"].as_u64(), figures["p90_ns"].as_u64()), (Some(0), Some(0)), "{figures}");
    }
    let read = |end: &str| fs::read_to_string(file(end)).unwrap();
    let html = read("html");
    assert!(html.contains("<title>run · heal to settled</title>"), "{}", &html[..300]);
    assert!(html.contains(">run: from heal to settled</h1>") && html.contains("median to settled"));
    assert!(!html.contains("heal to ready"));
    assert_eq!(read("xml").matches(" time=\"0.000000\"").count(), 3);
    let csv = read("csv");
    let column = |name: &str| csv.lines().next().unwrap().split(',').position(|head| head == name).unwrap();
    let (ready, settled) = (column("ready_ns"), column("settled_ns"));
    for row in csv.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!((cells[ready], cells[settled]), ("0", "0"), "{row}");
    }
    let other =
        compare(&run, &run, &CompareOptions { html: Some(file("html")), ..CompareOptions::default() });
    assert_eq!(other.unwrap().exit_code, 2, "three trials decide nothing");
    assert!(read("html").contains("<h1>From heal to settled, compared</h1>"));
}

fn written(folder: &Path, name: &str, settings: &Campaign, seed: u64, beyond: f64) -> std::path::PathBuf {
    let path = folder.join(name);
    let trials = settings.settings.trials;
    write(&path, settings, &plants(trials, seed, beyond), false);
    path
}

#[test]
fn runs_that_were_made_differently_are_not_compared_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let a = written(folder.path(), "a", &campaign(80), 1, 0.0);
    let mut other = campaign(80);
    other.settings.deadline = Span::secs(10);
    other.settings.cells[0].hold = Span::secs(15);
    other.settings.gates.advisory = vec!["metadata".to_owned()];
    other.settings.seed = 99;
    let b = written(folder.path(), "b", &other, 2, 0.3);
    let refused = compare(&a, &b, &CompareOptions::default()).unwrap();
    assert_eq!((refused.exit_code, refused.comparison.is_none()), (2, true));
    for part in ["deadline: \"20s\", \"10s\"", "hold[0]: \"5s\", \"15s\"", "gates.advisory", "--force"] {
        assert!(refused.text.contains(part), "{part} is missing in {}", refused.text);
    }
    assert!(!refused.text.contains("seed"), "seeds may differ");
    let forced = compare(&a, &b, &CompareOptions { force: true, ..CompareOptions::default() }).unwrap();
    assert_eq!(forced.exit_code, 1, "{}", forced.text);
    assert!(forced.text.contains("The runs differ in deadline"));
}

#[test]
fn comparing_by_the_three_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let good = written(folder.path(), "good", &campaign(90), 1, 0.0);
    let also_good = written(folder.path(), "also", &campaign(90), 2, 0.0);
    let bad = written(folder.path(), "bad", &campaign(90), 3, 0.2);
    let few = written(folder.path(), "few", &campaign(12), 4, 0.0);
    let code = |a, b, margin| {
        compare(a, b, &CompareOptions { margin, ..CompareOptions::default() }).unwrap().exit_code
    };
    assert_eq!(code(&good, &also_good, 0.05), 0);
    assert_eq!(code(&good, &bad, 0.05), 1);
    assert_eq!(code(&bad, &good, 0.05), 0);
    assert_eq!(code(&good, &few, 0.05), 2);
    assert_eq!(code(&good, &also_good, 0.01), 2, "90 trials can't rule 1 point out");
    let undecided = compare(&good, &few, &CompareOptions::default()).unwrap();
    assert!(undecided.text.contains("trials in each run"), "{}", undecided.text);
    assert_eq!(undecided.json["comparison"]["finding"], "undecided");
    assert_eq!(undecided.json["same_run"], false);
}

#[test]
fn a_run_that_is_compared_with_itself_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), "run", &campaign(12), 1, 0.0);
    let copy = written(folder.path(), "copy", &campaign(12), 1, 0.0);
    let html = folder.path().join("page.html");
    for b in [&run, &copy] {
        let options = CompareOptions { html: Some(html.clone()), ..CompareOptions::default() };
        let made = compare(&run, b, &options).unwrap();
        let second = made.text.lines().nth(1).unwrap();
        assert!(second.starts_with("A and B are one and the same run"), "{}", made.text);
        assert_eq!(made.json["same_run"], true);
        assert!(fs::read_to_string(&html).unwrap().contains("A and B are one and the same run"));
    }
}

#[test]
fn a_starved_run_says_so_before_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut planted = plants(9, 1, 0.0);
    planted.push(Plant { starved: true, ..Plant::undecided(Outcome::HarnessFailed) });
    write(&path, &campaign(10), &planted, false);
    let made = report(&path, &ReportOptions::default()).unwrap();
    let head: Vec<&str> = made.text.lines().take(3).collect();
    assert!(
        head[2].starts_with("1 of 10 trials is starved: the host was too busy to measure well; measure on"),
        "{head:#?}"
    );
    assert!(made.text.contains("Without the trial that is starved: "), "{}", made.text);
    let compared = compare(&path, &path, &CompareOptions::default()).unwrap();
    assert_eq!(compared.json["reservations"]["a"]["starved"], 1);
    assert!(compared.text.contains("A: 1 of 10 trials is starved"), "{}", compared.text);
}

/// Links left out, links of unknown coverage, and one cut that nothing proves.
fn doubtful(trial: u64, record: &mut RecoveryRecord) {
    record.links[0].left_out = true;
    record.links[1].coverage =
        Some(Coverage { state: CoverageState::Unknown, reason: None, is_translated: false });
    record.proved = trial != 0;
}

const LEFT_OPEN: [&str; 3] = [
    "1 trial is of a cut that is not proved",
    "Links of 90 trials are not covered and were left out on purpose",
    "Coverage is unknown for links of 90 trials",
];

#[test]
fn an_unproved_run_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let good = written(folder.path(), "good", &campaign(90), 1, 0.0);
    let unproved = |name: &str, beyond: f64| {
        let path = folder.path().join(name);
        write_with(&path, &campaign(90), &plants(90, 2, beyond), |_, record| record.proved = false);
        path
    };
    let (quiet, bad) = (unproved("quiet", 0.0), unproved("bad", 0.3));
    for (a, b, name) in [(&good, &quiet, "B"), (&good, &bad, "B"), (&quiet, &good, "A")] {
        let made = compare(a, b, &CompareOptions::default()).unwrap();
        assert_eq!(made.exit_code, 2, "{}", made.text);
        let start = format!("Undecided: in none of {name}'s 90 trials was the cut proved");
        assert!(made.text.starts_with(&start), "{}", made.text);
    }
}

#[test]
fn a_comparison_tells_what_the_verdicts_leave_open() {
    let folder = tempfile::tempdir().unwrap();
    let good = written(folder.path(), "good", &campaign(90), 1, 0.0);
    let b = folder.path().join("b");
    write_with(&b, &campaign(90), &plants(90, 2, 0.0), doubtful);
    let html = folder.path().join("page.html");
    let options = CompareOptions { html: Some(html.clone()), ..CompareOptions::default() };
    let made = compare(&good, &b, &options).unwrap();
    assert_eq!(made.exit_code, 0, "{}", made.text);
    let (head, _) = made.text.split_once("\n\n").unwrap();
    let page = fs::read_to_string(html).unwrap();
    let times = made.comparison.as_ref().unwrap().times_sentence.as_ref().unwrap();
    assert!(head.contains(times) && page.contains("B − A, 95 %"), "{head}");
    for sentence in LEFT_OPEN.map(|sentence| format!("B: {sentence}")) {
        assert!(head.contains(&sentence) && page.contains(&sentence), "{sentence} is missing in {head}");
    }
    // Of A's planted trials the host starved some.
    let of_a: Vec<&str> = head.lines().filter(|line| line.starts_with("A: ")).collect();
    assert!(of_a.len() == 1 && of_a[0].contains("starved"), "{head}");
    let of_b = &made.json["reservations"]["b"];
    assert_eq!(
        (&of_b["unproved"], &of_b["left_out"], &of_b["unknown_coverage"]),
        (&1.into(), &90.into(), &90.into())
    );
    let mut early = campaign(200);
    early.settings.gates.stop_when = Some(StopWhen { p0: 0.01, p1: 0.05 });
    let stopped = |name: &str, seed| {
        let path = folder.path().join(name);
        write(&path, &early, &plants(90, seed, 0.0), false);
        path
    };
    let made = compare(&stopped("c", 3), &stopped("d", 4), &CompareOptions::default()).unwrap();
    let nominal = "B: The campaign was stopped by what it found: its intervals are nominal.";
    assert!(
        made.text.lines().take_while(|line| !line.is_empty()).any(|line| line == nominal),
        "{}",
        made.text
    );
    assert_eq!(made.json["reservations"]["a"]["intervals"], "nominal");
}

/// Each of `isolate @leader` where n2 is the leader.
#[test]
fn slow_trials_name_the_role_that_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let planted: Vec<Plant> =
        (0..12).map(|at| Plant { isolated: "n2", ..Plant::recovered((at + 1) * SECOND) }).collect();
    write_with(&run, &campaign(12), &planted, |_, record| {
        record.shape.roles.insert("leader".to_owned(), vec!["n2".into()]);
    });
    let page = folder.path().join("page.html");
    let made = report(&run, &ReportOptions { html: Some(page.clone()), ..ReportOptions::default() }).unwrap();
    let (_, slowest) = made.text.split_once("Slowest trials").unwrap();
    let cut = "isolate n2 (@leader = n2)";
    assert_eq!(slowest.matches(cut).count(), 10, "{slowest}");
    let page = fs::read_to_string(page).unwrap();
    let (_, slowest) = page.split_once("id=\"slowest\"").unwrap();
    assert!(slowest.split("</section>").next().unwrap().contains(cut));
    assert_eq!(made.json["summary"]["slowest"][0]["roles"], "@leader = n2");
}

/// The table has a word; the sentences are below it.
#[test]
fn the_table_of_an_index_stays_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let run = written(folder.path(), "run", &campaign(30), 1, 0.2);
    let options = IndexOptions { html: folder.path().join("index.html"), served_within: None };
    let text = index(std::slice::from_ref(&run), &options).unwrap().text;
    let (table, sentences) = text.split_once("\n\n").unwrap();
    assert!(table.ends_with("  fails"), "{table}");
    let path = run.display().to_string();
    assert!(table.lines().all(|line| line.chars().count() < path.chars().count() + 80), "{table}");
    assert!(
        sentences.starts_with(&format!("{path}: ")) && sentences.contains("did not settle"),
        "{sentences}"
    );
}

#[test]
fn the_head_of_a_report_tells_what_its_verdict_leaves_open() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write_with(&run, &campaign(90), &plants(90, 2, 0.0), doubtful);
    let page = folder.path().join("page.html");
    let made = report(&run, &ReportOptions { html: Some(page.clone()), ..ReportOptions::default() }).unwrap();
    let index_page = folder.path().join("index.html");
    let options = IndexOptions { html: index_page.clone(), served_within: None };
    let listed = index(std::slice::from_ref(&run), &options).unwrap().text;
    let (head, _) = made.text.split_once("\n\n").unwrap();
    let [page, index_page] = [page, index_page].map(|path| fs::read_to_string(path).unwrap());
    for sentence in LEFT_OPEN {
        assert!(head.contains(sentence) && listed.contains(sentence), "{sentence}: {head}");
        assert_eq!((page.matches(sentence).count(), index_page.matches(sentence).count()), (1, 1));
    }
    let summary = &made.json["summary"];
    assert_eq!((&summary["left_out"], &summary["unknown_coverage"]), (&90.into(), &90.into()));
}

#[test]
fn one_cut_by_two_names_is_one_stratum() {
    let folder = tempfile::tempdir().unwrap();
    let isolated = |name: &str, peers: [&str; 2], seed: u64| {
        let path = folder.path().join(name);
        let mut run = RunDir::create(&path, &campaign(8)).unwrap();
        for (trial, plant) in plants(8, seed, 0.0).iter().enumerate() {
            let mut record = record(trial as u64, &Plant { isolated: "n3", ..plant.clone() });
            record.shape.resolved = Some(Shape::Isolate(peers.map(Into::into).to_vec()));
            run.append(&record).unwrap();
        }
        path
    };
    let (a, b) = (isolated("a", ["n1", "n2"], 1), isolated("b", ["n2", "n1"], 2));
    let made = compare(&a, &b, &CompareOptions::default()).unwrap();
    let comparison = made.comparison.unwrap();
    assert_eq!((comparison.strata.len(), comparison.unmatched), (1, 0), "{}", made.text);
    assert_eq!(comparison.strata[0].shape, "isolate n1,n2");
}

/// Of three peers, `isolate n1,n2` and a drawn `isolate n3` are one cut. Figures must not mix who is cut off by which words.
#[test]
fn one_cut_in_other_words_has_one_name_and_the_same_sides() {
    let folder = tempfile::tempdir().unwrap();
    let outage = |out_for: u64, record: &RecoveryRecord| {
        let (cut, heal) = (record.cut.unwrap().end_ns, record.heal.unwrap().end_ns);
        let hold = heal.0 - cut.0;
        Outage {
            served_within_ns: SECOND,
            windows: (out_for > 0)
                .then(|| TimeRange { from_ns: cut, until_ns: Some(MonoNs(cut.0 + out_for)) })
                .into_iter()
                .collect(),
            sum_ns: Some(out_for),
            longest_ns: Some(out_for).filter(|&ns| ns > 0),
            before_heal_ns: Some(out_for.min(hold)),
            after_heal_ns: out_for.saturating_sub(hold),
            open: false,
            fail_over: Some(if out_for > 0 { FailOver::NotBack } else { FailOver::NeverOut }),
            fail_over_ns: None,
            lost_by_heal_ns: (out_for == 0).then_some(0),
            tolerated: 0,
            stall_ns: None,
            unseen: false,
        }
    };
    for (first, second, label, cut_off, rest) in [
        (&["n3"][..], &["n1", "n2"][..], "isolate n3", 8, 16),
        (&["n1", "n2"], &["n3"], "isolate n1,n2", 16, 8),
    ] {
        let run = folder.path().join(label.replace(' ', "-"));
        let plants = vec![Plant { isolated: "n3", ..Plant::recovered(SECOND) }; 8];
        write_with(&run, &campaign(8), &plants, |trial, record| {
            let words = if trial % 2 == 0 { first } else { second };
            record.shape.resolved = Some(Shape::Isolate(words.iter().map(|&peer| peer.into()).collect()));
            // The slowest trial, which the panel has on top, is one of the second words.
            let out_for = if trial == 3 { 7 * SECOND } else { 6 * SECOND };
            let outages = record.endpoints.iter().map(|endpoint| {
                outage(if endpoint.peer.as_deref() == Some("n3") { out_for } else { 0 }, record)
            });
            let outages: Vec<Outage> = outages.collect();
            for (endpoint, outage) in record.endpoints.iter_mut().zip(outages) {
                endpoint.outage = Some(outage);
            }
            record.outage = Some(vec![ClusterOutage {
                name: "ingress".to_owned(),
                endpoints: 3,
                without_data: 0,
                some: Vec::new(),
                all: Some(Vec::new()),
                some_ns: out_for,
                some_after_heal_ns: SECOND,
                all_ns: Some(0),
                share_ns: Some(out_for / 3),
                open: false,
            }]);
        });
        let page = run.join("page.html");
        let options = ReportOptions { html: Some(page.clone()), ..ReportOptions::default() };
        let found = report(&run, &options).unwrap();
        let summary = &found.json["summary"];
        let rows = summary["outages"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["shape"], &rows[0]["trials"]), (1, &label.into(), &8.into()));
        assert_eq!(summary["by_resolved"][0]["shape"], label);
        // n3 is out in each trial, n1 and n2 never: by either name the sides are one or the other.
        assert_eq!(rows[0]["cut_off"]["n"], cut_off);
        let never_out = &rows[0]["rest_fail_over"]["never_out"];
        let not_back = &rows[0]["rest_fail_over"]["not_back"];
        let all_out = label == "isolate n1,n2";
        assert_eq!(
            (never_out, not_back),
            (&(if all_out { 0 } else { rest }).into(), &(if all_out { rest } else { 0 }).into())
        );
        assert_eq!(rows[0]["cut_off"]["p50_ns"], if all_out { 0 } else { 6 * SECOND });
        // The panel finds its figures.
        let page = fs::read_to_string(&page).unwrap();
        let panel = format!("<figcaption><b>{label}, 8 trials</b><span>ingress: all out ");
        assert!(page.contains(&panel), "{label}");
    }
}

/// 3 of 100 are within the rate that is allowed, and 100 trials are still to be made.
#[test]
fn trials_do_not_fail_where_the_verdict_is_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = campaign(200);
    settings.settings.gates.max_rate = 0.05;
    let (path, xml) = (folder.path().join("run"), folder.path().join("junit.xml"));
    let planted = [vec![Plant::recovered(SECOND); 97], vec![Plant::not_recovered(); 3]].concat();
    write(&path, &settings, &planted, false);
    let options = ReportOptions { junit: Some(xml.clone()), ..ReportOptions::default() };
    assert_eq!(report(&path, &options).unwrap().verdict.exit_code, 2);
    let xml = fs::read_to_string(xml).unwrap();
    assert!(xml.contains("failures=\"0\"") && !xml.contains("<failure"), "{xml}");
    assert!(xml.contains("name=\"verdict\"><skipped") && xml.contains("skipped=\"1\""), "{xml}");
}

#[test]
fn why_a_trial_was_not_made_is_kept_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path(), &campaign(1)).unwrap();
    let not_made = NotMade {
        trial: 0,
        attempt: 1,
        wall: WallNs(1_760_000_000_000_000_000),
        reason: "not healthy within 1m: ingress@n1: refused".to_owned(),
    };
    run.not_made(&not_made).unwrap();
    append_to(&folder.path().join("not_made.jsonl"), "{\"trial\":1,\"att");
    let page = folder.path().join("page.html");
    let options = ReportOptions { html: Some(page.clone()), ..ReportOptions::default() };
    let text = report(folder.path(), &options).unwrap().text;
    assert!(text.contains("1 try was not made, the last one (trial 0): not healthy within 1m"), "{text}");
    assert!(fs::read_to_string(&page).unwrap().contains("ingress@n1: refused"));
    drop(run);
    let (_, progress) = RunDir::open(folder.path(), &campaign(1)).unwrap();
    assert_eq!(progress.complete.len(), 0);
    assert_eq!(fs::read_to_string(folder.path().join("not_made.jsonl")).unwrap().lines().count(), 1);
}

#[test]
fn a_campaign_without_a_proved_cut_is_undecided_even_without_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = campaign(2);
    settings.settings.gates.no_gate = true;
    let mut run = RunDir::create(folder.path(), &settings).unwrap();
    for trial in 0..2 {
        let mut record = record(trial, &Plant::undecided(Outcome::HarnessFailed));
        record.proved = false;
        run.append(&record).unwrap();
    }
    let verdict = report(folder.path(), &ReportOptions::default()).unwrap().verdict;
    assert_eq!(verdict.exit_code, 2);
    assert!(verdict.sentence.starts_with("In none of 2 trials was the cut proved"), "{}", verdict.sentence);
}

/// The phases and what links do not explain of them are of the same trials.
#[test]
fn phases_and_the_share_after_the_links_are_of_decided_trials() {
    let folder = tempfile::tempdir().unwrap();
    let mut planted = vec![Plant::recovered(SECOND); 3];
    planted.extend(vec![Plant { outcome: Outcome::Unknown, ..Plant::recovered(4 * SECOND) }; 5]);
    planted.push(Plant { outcome: Outcome::HarnessFailed, ..Plant::recovered(4 * SECOND) });
    write(folder.path(), &campaign(9), &planted, false);
    let text = report(folder.path(), &ReportOptions::default()).unwrap().text;
    assert!(text.contains("at the median of 3 decided trials:"), "{text}");
    let phase = text.lines().find(|line| line.trim_start().starts_with("return ")).unwrap();
    assert_eq!(phase.split_whitespace().nth(1), Some("3"), "{phase}");
}

/// The planted cuts begin 55 s after the heal before them.
#[test]
fn cuts_that_a_cycle_made_late_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text_of = |name: &str, cycle: u64| {
        let mut settings = campaign(4);
        settings.settings.cycle = Some(Span::millis(cycle));
        let run = folder.path().join(name);
        write(&run, &settings, &[1; 4].map(|after| Plant::recovered(after * SECOND)), false);
        report(&run, &ReportOptions::default()).unwrap().text
    };
    let late = "3 of 3 cuts came more than 54s 800ms after the heal before, the latest by 200 ms";
    assert!(text_of("late", 54_800).contains(late), "{}", text_of("late-shown", 54_800));
    assert!(!text_of("in-time", 55_000).contains("cuts came more than"));
}

#[test]
fn another_bound_needs_the_probes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(2), &plants(2, 1, 0.0), false);
    let options = ReportOptions { served_within: Some(Span::millis(500)), ..ReportOptions::default() };
    let error = report(folder.path(), &options).unwrap_err().to_string();
    assert!(error.contains("has no probes of trial 0"), "{error}");
}
