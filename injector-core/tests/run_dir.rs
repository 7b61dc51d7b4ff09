//! The run directory: resumed after a crash at any byte, and read as it is.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::Path;

use injector_core::api::{Outcome, Trial};
use injector_core::clock::Span;
use injector_core::report::{ReportOptions, report};
use injector_core::run::Run;
use injector_core::run::dir::{Progress, RunDir, RunDirError, SUMMARY};
use injector_core::run::{self, read};
use injector_core::stats::summary::Summary;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synthetic::{Plant, SECOND, append_to, campaign, plants, probes, record, write};

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
    // A command would have the locks of other tests, for a moment.
    let fifo = |file: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
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
