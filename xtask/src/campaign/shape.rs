//! Checks the records of a short campaign, whatever the times in them: each trial must be effective, and
//! every endpoint measured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A run as its files have it.
struct Run {
    planned: u64,
    /// How many peers have a required endpoint.
    required: usize,
    counted: Value,
    records: Vec<Value>,
}

/// What the files of a run show.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it must be.
    Fine,
    /// What is wrong lies in trials alone that the injector itself has not decided, as where the machine was held up: another run
    /// may decide.
    Undecided(Vec<String>),
    /// Faults.
    Faulty(Vec<String>),
}

/// Judges a run whose `injector measure` exited with a code. `required` is the number of peers with a required endpoint.
///
/// # Errors
/// A file of the run can't be read.
pub fn judge(folder: &Path, code: u8, required: usize) -> Result<Verdict> {
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).context("a file of the run");
    let campaign = json(&read("campaign.json")?)?;
    let planned = campaign["settings"]["trials"].as_u64().context("the run plans no trials")?;
    let records = read("trials.jsonl")?.lines().map(json).collect::<Result<_>>()?;
    let counted = json(&read("summary.json")?)?["outcomes"].take();
    let run = Run { planned, required, counted, records };
    Ok(run.verdict(code))
}

/// What the injector says of trials for which this machine, or a cluster that elects a leader, was late.
const HELD_UP: [&str; 4] =
    ["measure on an idle machine", "this host held", "the lease ", "can't be resolved: "];

/// Whether the injector says that it does not know how a trial ended, since the machine was held up.
fn is_undecided(record: &Value) -> bool {
    let mut links = record["links"].as_array().into_iter().flatten();
    let reason = record["outcome_reason"].as_str().unwrap_or_default();
    record["starved"] == true
        || links.any(|link| link["hooks_unread"] == true)
        || HELD_UP.iter().any(|says| reason.contains(says))
}

/// The faults of a trial that being held up does not explain.
fn unexplained(record: &Value, required_peers: usize) -> Vec<String> {
    let mut faults = faults_of(record, required_peers);
    if is_undecided(record) {
        // What was not cut has nothing else either.
        let is_explained = |fault: &str| {
            record["cut"].is_null()
                || fault.starts_with(&record["outcome"].to_string())
                || fault == NOT_PROVED
                || fault.ends_with("was in force: \"unknown\"")
        };
        faults.retain(|fault| !is_explained(fault));
    }
    faults
}

const NOT_PROVED: &str = "its cut is not proved";

impl Run {
    fn verdict(&self, code: u8) -> Verdict {
        let faults = self.faults(code);
        if faults.is_empty() {
            return Verdict::Fine;
        }
        let is_sound = |record: &Value| unexplained(record, self.required).is_empty();
        let is_whole = self.records.len() as u64 == self.planned && self.miscounted().is_empty();
        let decided = self.with("recovered") + self.with("not_recovered");
        let expected = match self.with("not_recovered") {
            0 if decided < self.planned => 2,
            0 => 0,
            _ => 1,
        };
        let is_any_undecided = self.records.iter().any(is_undecided);
        if is_whole && code == expected && is_any_undecided && self.records.iter().all(is_sound) {
            Verdict::Undecided(faults)
        } else {
            Verdict::Faulty(faults)
        }
    }

    /// The outcomes that the summary counts otherwise.
    fn miscounted(&self) -> Vec<String> {
        let outcomes = ["recovered", "not_recovered", "unknown", "censored", "harness_failed"];
        let wrong = outcomes.into_iter().filter_map(|outcome| {
            let (count, counted) = (self.with(outcome), self.counted[outcome].as_u64());
            let is_wrong = counted != Some(count);
            is_wrong.then(|| format!("{count} trials are {outcome}, and the summary has {counted:?}"))
        });
        wrong.collect()
    }

    fn faults(&self, code: u8) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |holds: bool, otherwise: String| {
            if !holds {
                faults.push(otherwise);
            }
        };
        let made = self.records.len();
        expect(made as u64 == self.planned, format!("{made} of {} trials were made", self.planned));
        for wrong in self.miscounted() {
            expect(false, wrong);
        }
        // The gate is that no trial misses its deadline.
        let expected = u8::from(self.with("not_recovered") > 0);
        expect(code == expected, format!("the campaign exited with {code}, not {expected}"));
        let required = || self.records.iter().flat_map(|record| endpoints(record, true));
        expect(
            required().any(|endpoint| endpoint["impaired"] == true),
            "no cut has kept a required endpoint from serving".to_owned(),
        );
        for (name, is_measured) in self.measured() {
            expect(is_measured, format!("{name} was measured in no trial"));
        }
        for record in &self.records {
            let trial = record["trial"].as_u64().unwrap_or(0) + 1;
            faults.extend(
                faults_of(record, self.required).into_iter().map(|fault| format!("trial {trial}: {fault}")),
            );
        }
        faults
    }

    /// Each endpoint, and whether a trial found it healthy and decided whether it recovered. In some trial an advisory one may still
    /// recover from the trial before.
    fn measured(&self) -> BTreeMap<&str, bool> {
        let mut found = BTreeMap::new();
        let lists = self.records.iter().filter_map(|record| record["endpoints"].as_array());
        for endpoint in lists.flatten() {
            let is_decided = endpoint["outcome"] == "recovered" || endpoint["outcome"] == "not_recovered";
            let name = endpoint["name"].as_str().unwrap_or_default();
            *found.entry(name).or_insert(false) |= endpoint["healthy_before"] == true && is_decided;
        }
        found
    }

    fn with(&self, outcome: &str) -> u64 {
        self.records.iter().filter(|record| record["outcome"] == outcome).count() as u64
    }
}

/// The endpoints of a record that are required, or those that are not.
fn endpoints(record: &Value, required: bool) -> impl Iterator<Item = &Value> {
    let all = record["endpoints"].as_array().into_iter().flatten();
    all.filter(move |endpoint| endpoint["required"] == required)
}

fn faults_of(record: &Value, required_peers: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, otherwise: String| {
        if !holds {
            faults.push(otherwise);
        }
    };
    let decided = record["outcome"] == "recovered" || record["outcome"] == "not_recovered";
    expect(decided, format!("{}: {}", record["outcome"], record["outcome_reason"]));
    expect(record["final"] == true, "its record is not final".to_owned());
    expect(record["proved"] == true, NOT_PROVED.to_owned());
    for link in record["links"].as_array().into_iter().flatten() {
        let in_force = link["in_force"] == "yes";
        expect(in_force, format!("{}→{} was in force: {}", link["src"], link["dst"], link["in_force"]));
    }
    for (role, peers) in record["shape"]["roles"].as_object().into_iter().flatten() {
        let named = peers.as_array().is_some_and(|peers| !peers.is_empty());
        expect(named, format!("nobody has the role {role}"));
    }

    let heal = record["heal"]["end_ns"].as_u64();
    expect(heal.is_some(), "it was not healed".to_owned());
    for (required, expected) in [(true, required_peers), (false, 3)] {
        let peers: BTreeSet<&str> =
            endpoints(record, required).filter_map(|endpoint| endpoint["peer"].as_str()).collect();
        let kind = if required { "required" } else { "advisory" };
        expect(peers.len() >= expected, format!("{} peers have a {kind} endpoint", peers.len()));
        for endpoint in endpoints(record, required) {
            let name = &endpoint["name"];
            let sent = endpoint["probes_sent"].as_u64().unwrap_or(0);
            expect(sent > 0, format!("{name} was not probed"));
            let ready = endpoint["ready_ns"].as_u64();
            let settled = endpoint["settled_ns"].as_u64();
            // Where it never served by the end of the watch there are no such instants.
            if endpoint["outcome"] == "recovered" {
                let ordered = heal <= ready && ready <= settled && ready.is_some();
                expect(ordered, format!("{name} healed {heal:?}, ready {ready:?}, settled {settled:?}"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(trial: u64) -> Value {
        let endpoints: Vec<Value> = [(true, "ingress"), (false, "read")]
            .iter()
            .flat_map(|(required, name)| {
                ["n1", "n2", "n3"].map(|peer| {
                    json!({ "name": format!("{name}@{peer}"), "peer": peer, "required": required, "impaired": true,
                        "healthy_before": true, "probes_sent": 9, "ready_ns": 15, "settled_ns": 20, "outcome": "recovered" })
                })
            })
            .collect();
        json!({ "trial": trial, "outcome": "recovered", "final": true, "proved": true, "heal": { "end_ns": 10 },
            "links": [{ "src": "n1", "dst": "n2", "in_force": "yes" }], "endpoints": endpoints,
            "shape": { "roles": { "leader": ["n1"] } } })
    }

    fn run(records: Vec<Value>) -> Run {
        let counted = json!({ "recovered": records.len(), "not_recovered": 0, "unknown": 0, "censored": 0,
            "harness_failed": 0 });
        Run { planned: records.len() as u64, required: 3, counted, records }
    }

    #[test]
    fn what_is_missing_is_named_and_slowness_is_no_fault() {
        assert_eq!(run(vec![record(0), record(1)]).faults(0), Vec::<String>::new());
        let mut slow = record(0);
        slow["outcome"] = "not_recovered".into();
        slow["endpoints"][0]["outcome"] = "not_recovered".into();
        slow["endpoints"][0]["settled_ns"] = Value::Null;
        let mut slow = run(vec![slow]);
        slow.counted =
            json!({ "recovered": 0, "not_recovered": 1, "unknown": 0, "censored": 0, "harness_failed": 0 });
        assert_eq!(slow.faults(1), Vec::<String>::new());
        assert_eq!(slow.faults(0), ["the campaign exited with 0, not 1"]);

        let edits: [(&str, Value, &str); 6] = [
            ("/proved", json!(false), "not proved"),
            ("/links/0/in_force", json!("unknown"), "was in force: \"unknown\""),
            ("/outcome", json!("harness_failed"), "harness_failed"),
            ("/endpoints/0/ready_ns", Value::Null, "ready None"),
            ("/endpoints/4/probes_sent", json!(0), "read@n2\" was not probed"),
            ("/shape/roles/leader", json!([]), "nobody has the role leader"),
        ];
        for (place, value, expected) in edits {
            let mut broken = record(3);
            *broken.pointer_mut(place).unwrap() = value;
            let faults = run(vec![broken]).faults(0).join("\n");
            assert!(faults.contains("trial 4: ") && faults.contains(expected), "{place}: {faults}");
        }
        // An advisory endpoint that never served is not measured, whatever its probes did.
        let mut sick = record(0);
        sick["endpoints"][4]["healthy_before"] = false.into();
        assert_eq!(run(vec![sick.clone()]).faults(0), ["read@n2 was measured in no trial"]);
        assert_eq!(run(vec![sick, record(1)]).faults(0), Vec::<String>::new());
        let counts = |recovered: u64, unknown: u64| json!({ "recovered": recovered, "not_recovered": 0, "unknown": unknown, "censored": 0, "harness_failed": 0 });
        let mut late = record(0);
        late["outcome"] = "unknown".into();
        late["outcome_reason"] = "probes were late; measure on an idle machine".into();
        late["cut"] = json!({ "end_ns": 1 });
        let verdict = |trial: &Value, code| {
            let mut run = run(vec![trial.clone(), record(1)]);
            run.counted = counts(1, 1);
            run.verdict(code)
        };
        assert!(matches!(verdict(&late, 2), Verdict::Undecided(faults) if !faults.is_empty()));
        assert_eq!(run(vec![record(0)]).verdict(0), Verdict::Fine);
        // Being held up explains no other exit code, no cut that was not in force, nothing that was not probed, and no other trial.
        assert!(matches!(verdict(&late, 0), Verdict::Faulty(_)));
        for (place, value) in [
            ("/links/0/in_force", json!("no")),
            ("/endpoints/4/probes_sent", json!(0)),
            ("/outcome_reason", json!("no packet was dropped on its links")),
        ] {
            let mut trial = late.clone();
            *trial.pointer_mut(place).unwrap() = value;
            assert!(matches!(verdict(&trial, 2), Verdict::Faulty(_)), "{place}");
        }
        let mut unproved = record(1);
        unproved["proved"] = false.into();
        let mut both = run(vec![late.clone(), unproved]);
        both.counted = counts(1, 1);
        assert!(matches!(both.verdict(2), Verdict::Faulty(_)));
        let mut short = run(vec![late]);
        short.planned = 2;
        short.counted = counts(0, 1);
        assert!(matches!(short.verdict(2), Verdict::Faulty(_)));
        let mut idle = record(0);
        for endpoint in idle["endpoints"].as_array_mut().unwrap() {
            endpoint["impaired"] = false.into();
        }
        assert!(run(vec![idle]).faults(0)[0].starts_with("no cut has kept"));
    }
}
