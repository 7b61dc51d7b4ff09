//! A campaign of 10,000 trials reports quickly and in little memory. Alone in its process, since it measures
//! the peak.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::time::{Duration, Instant};

use injector_core::report::{ReportOptions, report};
use injector_lab::needs;
use synthetic::{campaign, plants, write_unsynced};

/// Optimised; a debug build gets ten times as long, so that it still notices a quadratic step.
const LIMIT: Duration = if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(2) };
const PEAK_KIB: u64 = 200 * 1024;

#[test]
#[needs(alone)]
fn ten_thousand_trials() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write_unsynced(&run, &campaign(10_000), &plants(10_000, 3, 0.02));
    let options = ReportOptions {
        served_within: None,
        html: Some(folder.path().join("report.html")),
        junit: Some(folder.path().join("report.xml")),
        csv: Some(folder.path().join("report.csv")),
    };
    let begun = Instant::now();
    let report = report(&run, &options).unwrap();
    let took = begun.elapsed();
    let raw = fs::metadata(run.join("trials.jsonl")).unwrap().len();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{raw} bytes of records in {took:?}, peak {peak} KiB");
    assert_eq!(report.json["summary"]["trials"], 10_000);
    assert!(took < LIMIT, "{took:?}");
    assert!(peak < PEAK_KIB, "{peak} KiB");
    assert!(fs::metadata(folder.path().join("report.html")).unwrap().len() < 5_000_000);
    assert_eq!(fs::read_to_string(folder.path().join("report.csv")).unwrap().lines().count(), 10_001);
}
