//! The run directory: resumed after a crash at any byte, and read as it is.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::Path;
use std::process::Command;

use injector_core::api::{Coverage, CoverageState, Outcome, RecoveryRecord, Trial};
use injector_core::clock::{Span, WallNs};
use injector_core::model::Shape;
use injector_core::report::{CompareOptions, IndexOptions, ReportOptions, compare, index, report};
use injector_core::run::Run;
use injector_core::run::dir::{Campaign, NotMade, Progress, RunDir, RunDirError, SUMMARY, StopWhen};
use injector_core::run::{self, read};
use injector_core::stats::summary::Summary;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synthetic::{Plant, SECOND, campaign, plants, probes, record, write, write_with};

fn append_to(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, before + text).unwrap();
}

#[test]
fn a_folder_that_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/run");
    drop(RunDir::create(&path, &campaign(3)).unwrap());
    let error = RunDir::create(&path, &campaign(3)).unwrap_err();
    assert!(matches!(error, RunDirError::Exists(_)) && error.to_string().contains("--resume"), "{error}");
    let error = RunDir::open(folder.path(), &campaign(3)).unwrap_err();
    assert!(error.to_string().contains("no campaign to resume"), "{error}");
}

/// A full disk, or a kill, before `campaign.json` had its name: without this neither a new run nor `--resume` would
/// take the folder.
#[test]
fn a_beginning_that_was_cut_short_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("trials.jsonl"), "").unwrap();
    fs::write(folder.path().join(".campaign.json.new"), "{\"sch").unwrap();
    drop(RunDir::create(folder.path(), &campaign(3)).unwrap());
    RunDir::open(folder.path(), &campaign(3)).unwrap();
    // Records are never begun over.
    fs::remove_file(folder.path().join("campaign.json")).unwrap();
    fs::write(folder.path().join("trials.jsonl"), "{").unwrap();
    assert!(matches!(RunDir::create(folder.path(), &campaign(3)), Err(RunDirError::Exists(_))));
}

#[test]
fn changed_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(RunDir::create(folder.path(), &campaign(3)).unwrap());
    let mut changed = campaign(3);
    changed.settings.seed = 8;
    changed.settings.ready.observe = Span::secs(3);
    changed.settings.probes[1].rules.options.interval = Span::millis(20);
    changed.command = vec!["elsewhere".to_owned()];
    let error = RunDir::open(folder.path(), &changed).unwrap_err().to_string();
    for part in
        ["seed: 7, 8", "ready.observe: \"12s\", \"3s\"", "probes.metadata@n1.interval: \"10ms\", \"20ms\""]
    {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("elsewhere"), "the command line is no setting: {error}");
}

#[test]
fn a_campaign_that_was_given_up_is_not_decided_whatever_its_records_say() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(40), &plants(40, 2, 0.1), false);
    let failed = Run::load(folder.path()).unwrap().summary;
    assert_eq!(failed.verdict.exit_code, 1, "{:?}", failed.verdict);
    let (dir, _) = RunDir::open(folder.path(), &campaign(40)).unwrap();
    dir.finish(&Summary { given_up: Some("3 failures in a row".to_owned()), ..failed.clone() }).unwrap();
    let given_up = Run::load(folder.path()).unwrap().summary;
    assert_eq!(given_up.verdict.exit_code, 2);
    assert!(given_up.verdict.sentence.contains("given up: 3 failures in a row"), "{:?}", given_up.verdict);
    // The campaign was continued, and finished.
    dir.finish(&failed).unwrap();
    assert_eq!(Run::load(folder.path()).unwrap().summary.verdict, failed.verdict);
}

#[test]
fn a_complete_campaign_has_no_open_trial() {
    let folder = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(folder.path(), &campaign(3)).unwrap();
    dir.close().unwrap();
    dir.begin(Trial { index: 0, attempt: 1 }).unwrap();
    assert!(folder.path().join("open.json").exists());
    dir.close().unwrap();
    assert!(!folder.path().join("open.json").exists());
}

#[test]
fn two_writers_are_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let first = RunDir::create(folder.path(), &campaign(3)).unwrap();
    assert!(matches!(RunDir::open(folder.path(), &campaign(3)), Err(RunDirError::Busy(_))));
    drop(first);
    RunDir::open(folder.path(), &campaign(3)).unwrap();
}

#[test]
fn the_trial_that_was_open_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = RunDir::create(folder.path(), &campaign(3)).unwrap();
    for trial in 0..2 {
        run.begin(Trial { index: trial, attempt: 1 }).unwrap();
        if trial == 0 {
            run.append(&record(0, &Plant::recovered(SECOND))).unwrap();
        }
    }
    drop(run);
    let (mut run, progress) = RunDir::open(folder.path(), &campaign(3)).unwrap();
    assert_eq!(progress.missing(3).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((progress.next_attempt(1), progress.next_attempt(2)), (2, 1));
    // A trial with a record can be made again, too: its last attempt counts.
    assert_eq!(progress.next_attempt(0), 2);
    let mut again = record(0, &Plant::not_recovered());
    again.attempt = Some(2);
    run.append(&again).unwrap();
    let run = Run::load(folder.path()).unwrap();
    assert_eq!(
        (run.trials.len(), run.trials[0].attempt, run.trials[0].cluster.outcome),
        (1, 2, Outcome::NotRecovered)
    );
    assert!(run.notes[0].contains("last attempt"), "{:?}", run.notes);
}

/// A cycle begins a trial before the record of the one before it: both were cut, and neither is made as that attempt again.
#[test]
fn every_trial_that_was_open_is_made_as_another_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let trial = |index, attempt| Trial { index, attempt };
    let attempts = |progress: &Progress| [0, 1, 2].map(|trial| progress.next_attempt(trial));
    let mut run = RunDir::create(folder.path(), &campaign(3)).unwrap();
    run.begin(trial(0, 1)).unwrap();
    run.begin(trial(1, 1)).unwrap();
    drop(run);
    let (mut run, progress) = RunDir::open(folder.path(), &campaign(3)).unwrap();
    assert_eq!((attempts(&progress), &progress.open), ([2, 2, 1], &vec![trial(0, 1), trial(1, 1)]));
    // A crash of the resumed campaign keeps what the first one had begun.
    run.begin(trial(0, 2)).unwrap();
    drop(run);
    let (mut run, progress) = RunDir::open(folder.path(), &campaign(3)).unwrap();
    assert_eq!(attempts(&progress), [3, 2, 1]);
    // What has a record is not open any more, neither before nor after the next trial begins.
    run.begin(trial(0, 3)).unwrap();
    run.begin(trial(1, 2)).unwrap();
    let mut whole = record(0, &Plant::recovered(SECOND));
    whole.attempt = Some(3);
    run.append(&whole).unwrap();
    drop(run);
    let (mut run, progress) = RunDir::open(folder.path(), &campaign(3)).unwrap();
    assert_eq!(progress.open, [trial(1, 2)]);
    run.begin(trial(2, 1)).unwrap();
    let noted: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("open.json")).unwrap()).unwrap();
    let expected = serde_json::json!({"index": 2, "attempt": 1, "earlier": [{"index": 1, "attempt": 2}]});
    assert_eq!(noted, expected);
    drop(run);
    // As older versions wrote it.
    fs::write(folder.path().join("open.json"), "{\"index\": 2, \"attempt\": 4}").unwrap();
    let (_, progress) = RunDir::open(folder.path(), &campaign(3)).unwrap();
    assert_eq!(progress.next_attempt(2), 5);
}

/// Whatever byte a crash ends at, every whole record stays, and the campaign continues to exactly all trials.
#[test]
fn resumes_from_any_byte() {
    let whole = tempfile::tempdir().unwrap();
    let settings = campaign(6);
    let planted = plants(6, 9, 0.2);
    write(whole.path(), &settings, &planted, false);
    let text = fs::read(whole.path().join("trials.jsonl")).unwrap();
    let ends: Vec<usize> = (0..text.len()).filter(|&at| text[at] == b'\n').collect();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let at_random = (0..30).map(|_| rng.random_range(0..text.len()));
    for cut in at_random.chain(ends.iter().flat_map(|&end| [end, end + 1])) {
        let folder = tempfile::tempdir().unwrap();
        drop(RunDir::create(folder.path(), &settings).unwrap());
        fs::write(folder.path().join("trials.jsonl"), &text[..cut]).unwrap();
        // A record that lacks its end of line alone is whole.
        let kept = ends.iter().filter(|&&end| end <= cut).count() as u64;
        let read = Run::load(folder.path()).unwrap();
        assert_eq!(read.trials.len() as u64, kept, "cut at {cut}");
        let torn = !ends.iter().any(|&end| end == cut || end + 1 == cut) && cut > 0;
        assert_eq!(
            read.notes.iter().any(|note| note.contains("torn")),
            torn,
            "cut at {cut}: {:?}",
            read.notes
        );
        let (mut run, progress) = RunDir::open(folder.path(), &settings).unwrap();
        assert_eq!(progress.missing(6).collect::<Vec<_>>(), (kept..6).collect::<Vec<_>>());
        assert_eq!(progress.torn_line.is_some(), torn);
        for trial in kept..6 {
            run.append(&record(trial, &planted[trial as usize])).unwrap();
        }
        assert_eq!(fs::read(folder.path().join("trials.jsonl")).unwrap(), text, "cut at {cut}");
    }
}

#[test]
fn a_broken_line_in_the_middle_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(2), &plants(2, 1, 0.0), false);
    let path = folder.path().join("trials.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("{\"schema\"", "{schema", 1)).unwrap();
    let error = Run::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("trials.jsonl line 1"), "{error}");
}

#[test]
fn other_versions_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(1), &plants(1, 1, 0.0), false);
    append_to(&folder.path().join("trials.jsonl"), "{\"schema\":9,\"all\":\"different\"}\n");
    let error = Run::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("trials.jsonl has schema 9, this injector reads 1 to 2"), "{error}");
    fs::write(folder.path().join("campaign.json"), "{\"schema\": 2}").unwrap();
    for error in [
        Run::load(folder.path()).unwrap_err().to_string(),
        RunDir::open(folder.path(), &campaign(1)).unwrap_err().to_string(),
    ] {
        assert!(error.contains("campaign.json has schema 2, this injector reads 1"), "{error}");
    }
    let error = Run::load(&folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("--out"), "{error}");
}

#[test]
fn probes_are_found_with_and_without_the_index() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(5), &plants(5, 2, 0.0), true);
    let expected = probes(&record(3, &plants(5, 2, 0.0)[3]));
    let index = folder.path().join("probes.index");
    assert_eq!(run::probes(folder.path(), &[(3, 1), (9, 1)]).unwrap()[&3], expected);
    // An index that does not fit the file is not believed.
    fs::write(&index, fs::read_to_string(&index).unwrap().replace("3 1 ", "4 1 ")).unwrap();
    let found = run::probes(folder.path(), &[(4, 1)]).unwrap();
    assert_ne!(found[&4], expected);
    fs::remove_file(&index).unwrap();
    append_to(&folder.path().join("probes.jsonl"), "{\"trial\":5,\"att");
    assert_eq!(run::probes(folder.path(), &[(3, 1), (3, 2)]).unwrap()[&3], expected);
    // Resuming cuts the torn line off.
    drop(RunDir::open(folder.path(), &campaign(5)).unwrap());
    assert!(fs::read_to_string(folder.path().join("probes.jsonl")).unwrap().ends_with("]}\n"));
}

/// A FIFO would keep a reader waiting for ever, and a device has no end.
#[test]
fn what_is_no_regular_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let settings = campaign(2);
    write(&path, &settings, &plants(2, 1, 0.0), true);
    let swapped = |name: &str, with: &dyn Fn(&Path), used: &dyn Fn() -> String| {
        let (file, kept) = (path.join(name), folder.path().join("kept"));
        let was_there = fs::rename(&file, &kept).is_ok();
        with(&file);
        let error = used();
        assert!(error.contains(name) && error.contains("not a regular file"), "{name}: {error}");
        fs::remove_file(&file).unwrap();
        if was_there {
            fs::rename(&kept, &file).unwrap();
        }
    };
    let fifo = |file: &Path| assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    let device = |file: &Path| std::os::unix::fs::symlink("/dev/zero", file).unwrap();
    let reported = || report(&path, &ReportOptions::default()).unwrap_err().to_string();
    let resumed = || RunDir::open(&path, &settings).unwrap_err().to_string();
    for with in [&fifo as &dyn Fn(&Path), &device] {
        for name in ["campaign.json", "trials.jsonl", "not_made.jsonl"] {
            swapped(name, with, &reported);
            swapped(name, with, &resumed);
        }
        swapped("open.json", with, &resumed);
        swapped("probes.jsonl", with, &resumed);
        swapped("probes.jsonl", with, &|| Run::load(&path).map(drop).unwrap_err().to_string());
    }
}

#[test]
fn the_summary_is_written_whole_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(40), &plants(40, 2, 0.1), false);
    let run = Run::load(folder.path()).unwrap();
    let (open, _) = RunDir::open(folder.path(), &campaign(40)).unwrap();
    open.finish(&run.summary).unwrap();
    let back = read::summary(folder.path()).unwrap();
    assert_eq!(
        (back.outcomes, back.slowest, back.verdict),
        (run.summary.outcomes, run.summary.slowest, run.summary.verdict)
    );
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join(SUMMARY)).unwrap()).unwrap();
    // The layout that is promised.
    for path in [
        "/trials",
        "/deadline_ns",
        "/outcomes/harness_failed",
        "/starved",
        "/cluster/n",
        "/cluster/rate_ci95/1",
        "/cluster/p50_ci95_ns/0",
        "/cluster/p99_ns",
        "/cluster/ready/beyond_deadline",
        "/cluster/relapses",
        "/endpoints/0/name",
        "/endpoints/0/role",
        "/endpoints/0/rate",
        "/by_shape/0/shape",
        "/by_shape/0/n",
    ] {
        assert!(json.pointer(path).is_some(), "{path} is missing");
    }
    assert_eq!(json["cluster"]["p99_ns"], serde_json::Value::Null, "under 100 trials");
}

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
        "2 trials are undecided",
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
    let felt = folder.path().join("felt");
    write(&felt, &campaign(3), &[1, 2, 3].map(|after| Plant::recovered(after * SECOND)), false);
    let text = report(&felt, &ReportOptions::default()).unwrap().text;
    assert!(!text.contains("endpoint felt"), "{text}");
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
    assert!(undecided.text.contains("trials an arm"), "{}", undecided.text);
    assert_eq!(undecided.json["comparison"]["finding"], "undecided");
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
    for sentence in LEFT_OPEN.map(|sentence| format!("B: {sentence}")) {
        assert!(head.contains(&sentence) && page.contains(&sentence), "{sentence} is missing in {head}");
    }
    assert!(!head.contains("A: "), "{head}");
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
    assert!(made.text.lines().take(3).any(|line| line == nominal), "{}", made.text);
    assert_eq!(made.json["reservations"]["a"]["intervals"], "nominal");
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
    assert!(made.text.contains("The host starved the instrument in"), "{}", made.text);
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

#[test]
fn another_bound_needs_the_probes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &campaign(2), &plants(2, 1, 0.0), false);
    let options = ReportOptions { served_within: Some(Span::millis(500)), ..ReportOptions::default() };
    let error = report(folder.path(), &options).unwrap_err().to_string();
    assert!(error.contains("has no probes of trial 0"), "{error}");
}
