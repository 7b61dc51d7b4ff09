//! What `report` makes of run directories, in each form.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;

use injector_core::api::{ClusterOutage, FailOver, Outage, Outcome};
use injector_core::clock::{Span, WallNs};
use injector_core::report::{CompareOptions, IndexOptions, ReportOptions, compare, index, report};
use injector_core::run::dir::{NotMade, RunDir};
use synthetic::{
    LEFT_OPEN, Plant, SECOND, append_to, campaign, doubtful, plants, record, write, write_with, written,
};

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
