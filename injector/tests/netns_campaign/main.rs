//! Campaigns on a real lab with planted faults: what was planted is what is found.

injector_lab::group!(timed);

mod lab;
mod others;
mod settings;

use std::collections::BTreeSet;
use std::time::Duration;

use injector_core::api::{EndpointRecord, Outcome, RecoveryRecord};
use injector_core::campaign::order::partition_seed;
use injector_core::model::Shape;
use injector_core::run::Run;
use injector_core::stats::binomial::clopper_pearson;
use injector_lab::needs;
use lab::{Lab, Setup};

const SECOND: u64 = 1_000_000_000;

fn endpoint<'a>(record: &'a RecoveryRecord, name: &str) -> &'a EndpointRecord {
    record.endpoints.iter().find(|endpoint| endpoint.name == name).unwrap()
}

/// The summary of the records in the run directory, as its file would have it.
fn made_anew(lab: &Lab) -> serde_json::Value {
    let summary = serde_json::to_vec(&Run::load(&lab.path("run")).unwrap().summary).unwrap();
    serde_json::from_slice(&summary).unwrap()
}

#[test]
#[needs(root, example = "quorum")]
fn a_planted_relapse_is_not_recovered_at_its_first_success() {
    // Ready after the heal, good for about 80 probes, then failing for 3 s.
    let faults = ["--stuck-probability", "1", "--stuck-after-ok", "80", "--stuck-for", "3s"];
    let lab = Lab::up(&Setup { faults: &faults, observe: "2s", ..Setup::default() });
    let (code, said) = lab.measure(&["isolate", "n1", "--hold", "2s", "--trials", "1", "--seed", "1"]);
    assert_eq!(code, 0, "{said}");
    let record = &lab.records()[0];
    assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:?}");
    let n1 = endpoint(record, "ingress@n1");
    let heal = record.heal.unwrap().end_ns;
    let (ready, settled) = (n1.ready_ns.unwrap(), n1.settled_ns.unwrap());
    assert!(n1.relapses >= 1, "{n1:?}");
    assert!(settled.since(ready).unwrap() > 3 * SECOND, "{n1:?}");
    // From the raw probes: nothing fails after settled, which is the answer to the first success after the failures.
    let after: Vec<_> =
        lab.probes(0, "ingress@n1").into_iter().filter(|probe| probe.scheduled_ns >= heal).collect();
    let last_failure = after.iter().rposition(|probe| probe.error.is_some()).unwrap();
    assert_eq!(after[last_failure + 1].done_ns, settled);
    assert!(record.heal_to_settled_ns.unwrap() >= settled.since(heal).unwrap());
}

#[test]
#[needs(root, minutes = 1, example = "quorum", program = "script")]
fn a_planted_probability_is_found() {
    let campaign =
        ["isolate", "n1", "--hold", "2s", "--trials", "2", "--deadline", "3s", "--cooldown", "100ms"];
    let always =
        Lab::up(&Setup { faults: &["--stuck-probability", "1", "--stuck-for", "6s"], ..Setup::default() });
    let reported = always.path("told");
    let slow = format!("echo \"$INJECTOR_TRIAL $INJECTOR_OUTCOME\" >> {}", reported.display());
    let (code, said) = always.measure(&[&campaign[..], &["--on-slow", &slow]].concat());
    assert_eq!(code, 1, "{said}");
    assert!(always.records().iter().all(|record| record.outcome == Some(Outcome::NotRecovered)), "{said}");
    assert_eq!(std::fs::read_to_string(reported).unwrap(), "0 not_recovered\n1 not_recovered\n");
    drop(always);

    let never = Lab::up(&Setup::default());
    let (code, drawn) = never.measure_on_a_terminal(&campaign);
    assert_eq!(code, 0, "{drawn}");
    assert_eq!(never.records().len(), 2);
    // The line moves, and has the rate so far with its interval.
    for part in ["0/2, ", "It takes at least ", "at least ", "1/2, ", " to go", "0/1 late (0.0 to 97.5 %)"] {
        assert!(drawn.contains(part), "{part:?} was not drawn: {drawn}");
    }
    // It moves within a trial too.
    let lines = drawn.split("0/2, ").filter(|line| line.contains("; trial 0 is measured"));
    let elapsed: BTreeSet<&str> = lines.filter_map(|line| line.split(',').next()).collect();
    assert!(elapsed.len() >= 2, "{elapsed:?} in {drawn}");
    // What the daemon would refuse leaves no folder behind.
    let elsewhere = never.path("elsewhere");
    let words = ["measure", "isolate", "n9", "--trials", "2", "--out", elsewhere.to_str().unwrap()];
    assert_eq!(never.run(&words).status.code(), Some(64));
    assert!(!elsewhere.exists());
    // The folder is taken, and other settings are not the same campaign.
    assert_eq!(never.measure(&campaign).0, 64);
    let (code, said) = never.measure(&["isolate", "n2", "--hold", "2s", "--trials", "2", "--resume"]);
    assert!(code == 64 && said.contains("other settings"), "{said}");
    // Only what is given is compared: the stored hold is not the usual one.
    let (code, said) = never.measure(&["isolate", "n1", "--trials", "2", "--resume"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = never.measure(&["isolate", "n1", "--direction", "out", "--trials", "2", "--resume"]);
    assert!(code == 64 && said.contains("other settings"), "{said}");
    // Nor are trials of another version of the system.
    let (code, said) = never.measure(&["--system", "quorum=2", "--resume"]);
    assert!(code == 64 && said.contains("systems.quorum"), "{said}");
}

#[test]
#[needs(root, minutes = 10, example = "quorum")]
fn five_percent_is_estimated_with_an_interval_that_covers_it() {
    let faults = ["--stuck-probability", "0.05", "--stuck-for", "6s"];
    let lab = Lab::up(&Setup { faults: &faults, ..Setup::default() });
    let campaign = ["isolate", "n1", "--hold", "2s", "--trials", "80", "--deadline", "4s"];
    let (code, said) = lab.measure(&[&campaign[..], &["--cooldown", "100ms", "--no-gate"]].concat());
    assert_eq!(code, 0, "{said}");
    let records = lab.records();
    let count = |outcome| records.iter().filter(|record| record.outcome == Some(outcome)).count() as u64;
    let (beyond, good) = (count(Outcome::NotRecovered), count(Outcome::Recovered));
    let [low, high] = clopper_pearson(beyond, beyond + good, 0.95).unwrap();
    assert!(good > 60 && low <= 0.05 && 0.05 <= high, "{beyond} of {}", beyond + good);
}

#[test]
#[needs(root, example = "quorum")]
fn a_server_that_hangs_is_not_ready_before_it_answers() {
    let faults = ["--stuck-probability", "1", "--stuck-for", "900ms", "--stuck-mode", "hang"];
    let lab = Lab::up(&Setup { faults: &faults, ..Setup::default() });
    let (code, said) = lab.measure(&["isolate", "n1", "--hold", "2s", "--trials", "1"]);
    assert_eq!(code, 0, "{said}");
    let record = &lab.records()[0];
    let ready = endpoint(record, "ingress@n1").ready_ns.unwrap();
    let heal = record.heal.unwrap().end_ns;
    let probes = lab.probes(0, "ingress@n1");
    let first = probes.iter().find(|probe| probe.scheduled_ns >= heal && probe.error.is_none()).unwrap();
    assert_eq!(first.done_ns, ready);
    assert!(ready.since(first.scheduled_ns).unwrap() > SECOND * 8 / 10, "{first:?}");
}

/// A quorum that joins by IPv6 under a config that lists IPv4 alone is cut all the same.
#[test]
#[needs(root, example = "quorum")]
fn a_quorum_that_joins_by_unlisted_addresses_is_cut() {
    let lab = Lab::up(&Setup { joined_by_v6: true, ..Setup::default() });
    let (code, said) = lab.measure(&["isolate", "n1", "--hold", "3s", "--trials", "1"]);
    assert_eq!(code, 0, "{said}");
    let record = &lab.records()[0];
    assert!(record.proved, "{record:#?}");
    assert_eq!(endpoint(record, "ingress@n1").impaired, Some(true), "{record:#?}");
}

#[test]
#[needs(root, example = "quorum")]
fn a_planted_delay_shows_in_its_phase_and_in_no_other() {
    // Links come back up to 1.5 s apart (back-off and dial), and a quorum needs the first of them alone: that much
    // of the delay may fall into the silence of the last link, and that much any phase may hold without a fault.
    let faults = ["--delay-phase", "reconnect", "--delay", "4s"];
    let lab = Lab::up(&Setup { faults: &faults, ..Setup::default() });
    let (code, said) =
        lab.measure(&["isolate", "n1", "--hold", "2s", "--trials", "2", "--cooldown", "100ms"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(lab.records().len(), 2);
    for record in lab.records() {
        let phases = &record.phases;
        assert!(phases.reconnect_ns.unwrap() >= SECOND * 12 / 5, "{phases:?}");
        for other in [phases.silence_ns, phases.return_ns, phases.relapse_ns] {
            assert!(other.unwrap() < SECOND * 12 / 5, "{phases:?}");
        }
    }
}

#[test]
#[needs(root, minutes = 1, example = "quorum")]
fn a_campaign_resumes_after_sigkill_without_losing_or_doubling_a_trial() {
    let lab = Lab::up(&Setup::default());
    let campaign = ["random-node", "--hold", "1500ms", "--trials", "4", "--seed", "9", "--cooldown", "100ms"];
    for kill in 0..3 {
        let resume: &[&str] = if kill == 0 { &[] } else { &["--resume"] };
        let mut child = lab.measuring(&campaign).args(resume).spawn().unwrap();
        let random = rand::random::<u64>() % 4_000;
        std::thread::sleep(Duration::from_millis(500 + random));
        let _ = child.kill();
        child.wait().unwrap();
        println!("killed after {} ms", 500 + random);
    }
    let (code, said) = lab.measure(&[&campaign[..], &["--resume"]].concat());
    assert_eq!(code, 0, "{said}");
    let records = lab.records();
    let trials: Vec<u64> = records.iter().map(|record| record.trial.unwrap()).collect();
    assert_eq!(trials.iter().copied().collect::<BTreeSet<_>>(), (0..4).collect(), "{trials:?}");
    assert_eq!(trials.len(), 4, "{trials:?}");
    for record in &records {
        assert_eq!(record.seed, Some(partition_seed(9, record.trial.unwrap())));
        assert!(matches!(&record.shape.resolved, Some(Shape::Isolate(peers)) if peers.len() == 1));
        assert!(!lab.probes(record.trial.unwrap(), "ingress@n1").is_empty());
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.path("run/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["trials"], 4);
    let report = lab.run(&["report", lab.path("run").to_str().unwrap()]);
    assert!(report.status.success(), "{report:?}");
}

#[test]
#[needs(root, example = "quorum")]
fn an_interrupted_campaign_heals_and_says_so() {
    let lab = Lab::up(&Setup::default());
    let mut child = lab.measuring(&["isolate", "n1", "--hold", "1m", "--trials", "2"]).spawn().unwrap();
    let live = || {
        let status = lab.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["partitions"].as_array().unwrap().iter().any(|partition| partition["state"] == "active")
    };
    let wait = |wanted: bool| {
        for _ in 0..300 {
            if live() == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("cut: {wanted} was not seen");
    };
    wait(true);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!live(), "the cut outlived the campaign");
    assert!(lab.path("run/summary.json").exists());
    assert!(lab.path("run/open.json").exists(), "its trial is to be made again");
}

#[test]
#[needs(root, minutes = 1, example = "quorum")]
fn back_to_back_cycles_close_the_records_before_them() {
    let lab = Lab::up(&Setup { observe: "2s", ..Setup::default() });
    let campaign = ["isolate", "n1", "--hold", "1500ms", "--cycle", "800ms", "--trials", "3"];
    let (code, said) = lab.measure(&campaign);
    // Two trials were not decided, so that the rate is not either.
    assert_eq!(code, 2, "{said}");
    let records = lab.records();
    assert_eq!(records.len(), 3, "{said}");
    assert_eq!(records[0].outcome, Some(Outcome::Censored), "{:?}", records[0].outcome_reason);
    assert_eq!(records[0].closed_by.as_ref(), Some(&records[1].name));
    let healed = records[1].cut.unwrap().begin_ns.since(records[0].heal.unwrap().end_ns).unwrap();
    assert!((SECOND * 8 / 10..3 * SECOND).contains(&healed), "{healed}");
}

/// The hook has the time between a heal and the next cut; only one that takes longer puts the cut off, and that is said.
#[test]
#[needs(root, minutes = 1, example = "quorum")]
fn a_hook_does_not_put_off_the_cuts_of_a_cycle() {
    let lab = Lab::up(&Setup { observe: "2s", ..Setup::default() });
    let pause = || {
        let records = lab.records();
        records[1].cut.unwrap().begin_ns.since(records[0].heal.unwrap().end_ns).unwrap()
    };
    let campaign = ["isolate", "n1", "--hold", "1s", "--trials", "2"];
    let (_, said) = lab.measure(&[&campaign[..], &["--cycle", "3s", "--before-trial", "sleep 1.6"]].concat());
    assert!((3 * SECOND..4 * SECOND).contains(&pause()), "{}: {said}", pause());
    std::fs::remove_dir_all(lab.path("run")).unwrap();
    let (_, said) =
        lab.measure(&[&campaign[..], &["--cycle", "500ms", "--before-trial", "sleep 1.6"]].concat());
    assert!(pause() >= 16 * SECOND / 10, "{}", pause());
    assert!(said.contains("later than 500ms after the heal before it: --before-trial"), "{said}");
    assert!(said.contains("1 of 1 cut came more than 500ms after the heal before"), "{said}");
}

/// Two trials are open at once, and the next cut is set ahead, when the campaign dies.
#[test]
#[needs(root, quiet, example = "quorum")]
fn a_campaign_of_cycles_resumes_after_sigkill() {
    let lab = Lab::up(&Setup::default());
    let campaign = ["isolate", "n1", "--hold", "1s", "--cycle", "600ms", "--trials", "6", "--seed", "3"];
    for kill in 0..2 {
        let resume: &[&str] = if kill == 0 { &[] } else { &["--resume"] };
        let mut child = lab.measuring(&campaign).args(resume).spawn().unwrap();
        let random = 1_000 + rand::random::<u64>() % 3_000;
        std::thread::sleep(Duration::from_millis(random));
        let _ = child.kill();
        child.wait().unwrap();
        println!("killed after {random} ms");
    }
    let (code, said) = lab.measure(&[&campaign[..], &["--resume"]].concat());
    assert!([0, 2].contains(&code), "{said}");
    let records = lab.records();
    let trials: BTreeSet<u64> = records.iter().map(|record| record.trial.unwrap()).collect();
    assert_eq!((records.len(), trials), (6, (0..6).collect()));
    // A cycle cuts whatever the state: on a busy machine a node may not be healthy again when the next cut begins.
    let is_too_early = |record: &RecoveryRecord| {
        let reason = record.outcome_reason.as_deref().unwrap_or_default();
        record.outcome == Some(Outcome::Unknown) && reason.contains("was not healthy before the cut")
    };
    for record in &records {
        let outcome = record.outcome.unwrap();
        // Killed while cut, the owner's connection broke: that record is nobody's, and was made again.
        let is_usual = matches!(outcome, Outcome::Recovered | Outcome::Censored);
        assert!(is_usual || is_too_early(record), "{record:?}");
        let hold = record.hold_ns.unwrap();
        // Up to the store of the cut less than a second, by what that store took.
        assert!((SECOND * 9 / 10..SECOND * 11 / 10).contains(&hold), "{hold}");
    }
    let last = records.last().unwrap();
    assert!(last.outcome == Some(Outcome::Recovered) || is_too_early(last), "{last:?}");
}

/// What probing does to the system under test: the nodes of this lab do little else than answer.
#[test]
#[needs(root, minutes = 1, example = "quorum")]
fn half_the_probe_rate_is_half_the_probes_and_less_load() {
    let measured = |interval| {
        let lab = Lab::up(&Setup { interval, ..Setup::default() });
        let before = lab.cpu_of_nodes();
        let (code, said) =
            lab.measure(&["isolate", "n1", "--hold", "2s", "--trials", "2", "--cooldown", "100ms"]);
        // A host that starves the probes ends a trial undecided: then there is nothing to compare.
        assert!([0, 2].contains(&code), "{said}");
        let used = lab.cpu_of_nodes().saturating_sub(before);
        let records = lab.records();
        let sent: u64 =
            records.iter().flat_map(|record| &record.endpoints).map(|endpoint| endpoint.probes_sent).sum();
        let ready: Vec<_> = records.iter().map(|record| record.heal_to_ready_ns).collect();
        println!(
            "every {interval}: {sent} probes, the nodes' processor time {used:?}, ready after {ready:?} ns"
        );
        (code == 0).then(|| (records[0].host.probe_rate.unwrap(), used))
    };
    // What else runs on this machine takes its part: the load is compared until it shows, at most four times.
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (Some((full, busy)), Some((half, less))) = (measured("5ms"), measured("10ms")) else { continue };
        assert!((1.6..2.5).contains(&(full / half)), "{full} and {half} probes a second");
        if busy > less.mul_f64(1.2) {
            return;
        }
        seen.push((busy, less));
    }
    panic!("processor time at the whole and at half the rate: {seen:?}");
}

/// After the first heal the second trial is noted as begun, and the first one has no record yet: both were cut.
#[test]
#[needs(root, quiet, example = "quorum")]
fn a_cycle_that_dies_between_two_trials_makes_both_as_other_attempts() {
    let lab = Lab::up(&Setup::default());
    let campaign = ["isolate", "n1", "--hold", "1s", "--cycle", "2s", "--trials", "4", "--seed", "3"];
    let mut child = lab.measuring(&campaign).spawn().unwrap();
    let is_second_begun = || {
        let open = std::fs::read(lab.path("run/open.json")).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&open).is_ok_and(|open| open["index"] == 1)
    };
    for _ in 0..3_000 {
        if is_second_begun() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_second_begun(), "the second trial was not begun within 30 s");
    assert_eq!(std::fs::read_to_string(lab.path("run/trials.jsonl")).unwrap(), "");
    let (code, said) = lab.measure(&[&campaign[..], &["--resume"]].concat());
    assert!([0, 2].contains(&code), "{said}");
    let attempts: Vec<_> = lab.records().iter().map(|record| (record.trial, record.attempt)).collect();
    let expected = [(0, 2), (1, 2), (2, 1), (3, 1)].map(|(trial, attempt)| (Some(trial), Some(attempt)));
    assert_eq!(attempts, expected);
}

/// One trial is recorded before the campaign dies, and the others after it was resumed.
#[test]
#[needs(root, example = "quorum")]
fn the_summary_of_a_resumed_campaign_is_that_of_its_records() {
    let lab = Lab::up(&Setup::default());
    let campaign = ["isolate", "n1", "--hold", "1s", "--trials", "3", "--seed", "9", "--cooldown", "5s"];
    let mut child = lab.measuring(&campaign).spawn().unwrap();
    let recorded =
        || std::fs::read_to_string(lab.path("run/trials.jsonl")).map_or(0, |text| text.lines().count());
    for _ in 0..6_000 {
        if recorded() > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(recorded(), 1);
    let (code, said) = lab.measure(&[&campaign[..], &["--resume"]].concat());
    assert_eq!(code, 0, "{said}");
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.path("run/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["by_resolved"].as_array().unwrap().len(), 1, "{summary:#}");
    assert_eq!(summary, made_anew(&lab));
}
