//! A stored run of 60 trials of Restate with real probes, made by an injector whose records had schema 1.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use injector_core::api::ProbeView;
use injector_core::clock::MonoNs;
use injector_core::run::dir::TrialProbes;
use serde_json::Value;

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/restate-60").join(name)
}

fn unpacked(name: &str) -> String {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(data(name)).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// Writes the run directory.
pub fn expand(path: &Path) {
    fs::copy(data("campaign.json"), path.join("campaign.json")).unwrap();
    let trials = unpacked("trials.jsonl.gz");
    fs::write(path.join("trials.jsonl"), &trials).unwrap();
    let mut probes = String::new();
    for (record, packed) in trials.lines().zip(unpacked("probes.jsonl.gz").lines()) {
        let (record, packed): (Value, Value) =
            (serde_json::from_str(record).unwrap(), serde_json::from_str(packed).unwrap());
        assert_eq!(record["trial"], packed["trial"]);
        let heal = record["heal"]["end_ns"].as_i64().unwrap();
        let line = TrialProbes {
            trial: record["trial"].as_u64().unwrap(),
            attempt: 1,
            probes: views(&packed["endpoints"], heal),
        };
        probes += &serde_json::to_string(&line).unwrap();
        probes.push('\n');
    }
    fs::write(path.join("probes.jsonl"), probes).unwrap();
}

/// Makes views of pairs of microseconds, per endpoint: from the probe before (first: from the heal) to when
/// this one was due, and how long it took, below 0 for a failure.
fn views(endpoints: &Value, heal: i64) -> Vec<ProbeView> {
    let mut all = Vec::new();
    for (endpoint, pairs) in endpoints.as_object().unwrap() {
        let numbers: Vec<i64> = pairs.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
        let mut due = heal;
        for pair in numbers.chunks(2) {
            due += pair[0] * 1000;
            all.push(ProbeView {
                endpoint: endpoint.clone(),
                scheduled_ns: MonoNs(due.cast_unsigned()),
                begun_ns: None,
                done_ns: MonoNs((due + pair[1].abs() * 1000).cast_unsigned()),
                error: (pair[1] < 0).then(|| "timeout after 1s".to_owned()),
                code: None,
            });
        }
    }
    all.sort_by_key(|probe| probe.scheduled_ns);
    all
}
