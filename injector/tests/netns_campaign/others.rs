//! What another client of the daemon does to a trial makes it none.

use std::path::Path;

use injector_core::api::{HealedBy, Outcome, RecoveryRecord, Warning, WarningCode};
use injector_lab::needs;

use super::lab::{Lab, Setup};

/// A hook that goes on beside the trial: `command` is run by another client, 0.3 s after the trial's cut.
fn meanwhile(command: &str) -> String {
    let injector = env!("CARGO_BIN_EXE_injector");
    let cut = r#"\"name\":\"$INJECTOR_NAME\",\"generation\":[0-9]*,\"state\":\"active\""#;
    let is_cut = format!(r#"{injector} status --json | tr -d ' \n' | grep -q "{cut}""#);
    // It is not known how long after the hook the cut comes. The loop is bounded in case there is none.
    let act = format!("sleep 0.3; {injector} {command}; break");
    format!(
        "(for turn in $(seq 200); do if {is_cut}; then {act}; fi; sleep 0.05; done) >/dev/null 2>&1 </dev/null &"
    )
}

/// The warnings of a record, but not that hooks were not read in time.
fn warnings(record: &RecoveryRecord) -> Vec<&Warning> {
    record.warnings.iter().filter(|warning| !injector_lab::is_late_reading(&warning.text)).collect()
}

fn records(run: &Path) -> Vec<RecoveryRecord> {
    let text = std::fs::read_to_string(run.join("trials.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a campaign of one trial beside which `command` is run, if there is one; it decides nothing. Answers its record.
fn spoilt(lab: &Lab, name: &str, beside: Option<&str>) -> RecoveryRecord {
    let out = lab.path(name);
    let hook = beside.map(meanwhile);
    let mut words =
        vec!["measure", "isolate", "n1", "--hold", "3s", "--trials", "1", "--out", out.to_str().unwrap()];
    words.extend(hook.as_deref().into_iter().flat_map(|hook| ["--before-trial", hook]));
    let output = lab.run(&words);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["outcomes"]["harness_failed"], 1, "{summary}");
    assert_eq!(summary["cluster"]["in_curve"], 0, "{summary}");
    let record = records(&out).remove(0);
    assert_eq!(record.outcome, Some(Outcome::HarnessFailed), "{record:#?}");
    assert!(record.endpoints.iter().all(|endpoint| endpoint.outcome == Some(Outcome::HarnessFailed)));
    record
}

fn assert_overlapped(record: &RecoveryRecord, by: &str) {
    let told = warnings(record);
    let [warning] = &told[..] else { panic!("{told:?}") };
    assert_eq!((warning.code, warning.subject.as_deref()), (WarningCode::Overlapped, Some(by)));
}

#[test]
#[needs(root, minutes = 1, example = "quorum")]
fn a_trial_that_another_client_ends_or_overlaps_is_no_result() {
    let lab = Lab::up(&Setup::default());
    let ended = spoilt(&lab, "ended", Some("heal --all"));
    assert_eq!(ended.healed_by, Some(HealedBy::Request));
    let reason = ended.outcome_reason.unwrap();
    assert!(
        reason.starts_with("another client healed the cut after ") && reason.contains("s of 3s"),
        "{reason}"
    );

    // Its name is somebody else's by the time that the record is read.
    let again = format!(
        "heal \"$INJECTOR_NAME\"; {} partition isolate n2 --name \"$INJECTOR_NAME\" --for 1s",
        env!("CARGO_BIN_EXE_injector")
    );
    let replaced = spoilt(&lab, "replaced", Some(&again));
    assert_eq!(replaced.shape.words(), "isolate n1");

    // It cuts other traffic of other links, and is over before the heal.
    let within =
        spoilt(&lab, "within", Some("partition links n2:n3 --scope udp/9 --name within --for 500ms"));
    assert_overlapped(&within, "within");
    assert_eq!(within.healed_by, Some(HealedBy::Deadline));
    let reason = within.outcome_reason.unwrap();
    assert!(reason.starts_with("another partition, \"within\", was in force from "), "{reason}");

    let background =
        ["partition", "links", "n2:n3", "--scope", "udp/9", "--name", "background", "--for", "60s"];
    assert!(lab.run(&background).status.success());
    assert_overlapped(&spoilt(&lab, "over", None), "background");

    // A campaign of such trials is given up, and says so with its exit code and in its summary.
    let given_up = lab.path("given-up");
    let words =
        ["measure", "isolate", "n1", "--hold", "1s", "--trials", "3", "--abort-after", "1", "--no-gate"];
    let output = lab.run(&[&words[..], &["--out", given_up.to_str().unwrap()]].concat());
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(given_up.join("summary.json")).unwrap()).unwrap();
    assert_eq!((output.status.code(), &summary["verdict"]["exit_code"]), (Some(2), &2.into()), "{summary}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("The campaign was given up: "), "{output:?}");

    // A partition of no campaign is judged as ever, with a warning.
    assert!(lab.run(&["partition", "isolate", "n1", "--name", "own", "--for", "2s"]).status.success());
    let output = lab.run(&["wait", "own", "--json"]);
    let own: RecoveryRecord = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(own.outcome, Some(Outcome::Recovered), "{own:#?}");
    assert_overlapped(&own, "background");

    // The trial's own end, with nobody else there, is a result.
    assert!(lab.run(&["heal", "background"]).status.success());
    let (code, said) = lab.measure(&["isolate", "n1", "--hold", "2s", "--trials", "1"]);
    assert_eq!((code, warnings(&lab.records()[0]).len()), (0, 0), "{said}");
}
