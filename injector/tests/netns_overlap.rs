//! Partitions that overlap or lose their owner, with the real daemon.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::Duration;

use injector::api::types::{HealedBy, Outcome, PartitionState};
use live::can_run;
use live::daemon::{Daemon, links};
use live::lab::{Lab, Place};

const LONG: Duration = Duration::from_mins(2);

#[test]
fn a_cut_on_top_of_another_censors_that_one_also_on_other_links() {
    if !can_run("a_cut_on_top_of_another_censors_that_one_also_on_other_links") {
        return;
    }
    let lab = Lab::new(3);
    let config = lab.config(Place::OwnNic, "auto");
    let daemon = Daemon::start(&format!("{config}ready: {{ observe: 1s, observe_max: 2s }}\n"));
    daemon.apply("first", &links(&[("n1", "n2")], LONG));
    daemon.apply("second", &links(&[("n3", "n2")], LONG));
    let healed = daemon.heal("first");
    let record = daemon.record("first");
    assert_eq!(record.closed_by.as_deref(), Some("second"), "{record:#?}");
    assert_eq!(record.observed_until_ns, Some(healed.end_ns));
    assert_ne!(record.outcome, Some(Outcome::NotRecovered));
    // What was cut before is the ground that an experiment stands on.
    daemon.apply("third", &links(&[("n1", "n2")], LONG));
    daemon.heal("third");
    daemon.heal("second");
    assert_eq!(daemon.record("third").closed_by, None);
}

#[test]
fn what_is_prepared_ends_with_its_owner_and_is_not_taken_for_a_cut() {
    if !can_run("what_is_prepared_ends_with_its_owner_and_is_not_taken_for_a_cut") {
        return;
    }
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(Place::OwnNic, "auto"));
    let body = br#"{"shape":{"isolate":["n1"]},"for":"60s","owner":"connection"}"#;
    // Each raw request has a connection of its own, which ends with it.
    let (status, view) = daemon.raw("POST", "/v1/partitions/p/prepare", body);
    assert_eq!((status, view["state"].as_str()), (200, Some("prepared")), "{view}");
    let waited = std::time::Instant::now();
    while daemon.partition("p").state != PartitionState::Closed {
        assert!(waited.elapsed() < Duration::from_secs(20), "still prepared without an owner");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.partition("p").healed.unwrap().healed_by, HealedBy::Disconnect);

    let body = br#"{"shape":{"isolate":["n1"]},"for":"60s"}"#;
    assert_eq!(daemon.raw("POST", "/v1/partitions/q/prepare", body).0, 200);
    let (status, problem) = daemon.raw("PUT", "/v1/partitions/q", body);
    assert_eq!((status, problem["code"].as_str()), (409, Some("wrong-state")), "{problem}");
}
