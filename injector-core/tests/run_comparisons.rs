//! What `compare` makes of run directories, with each exit code.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;

use injector_core::api::{ClusterOutage, FailOver, Outage, Outcome, RecoveryRecord};
use injector_core::clock::{MonoNs, Span, TimeRange};
use injector_core::model::Shape;
use injector_core::report::{CompareOptions, ReportOptions, compare, report};
use injector_core::run::dir::{RunDir, StopWhen};
use synthetic::{LEFT_OPEN, Plant, SECOND, campaign, doubtful, plants, record, write, write_with, written};

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
