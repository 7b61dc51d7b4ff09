//! Partitions that overlap or lose their owner, with the real daemon.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::time::Duration;

use injector_core::api::{HealedBy, Outcome, PartitionRequest, PartitionState};
use injector_core::clock::MonoNs;
use injector_lab::needs;
use live::daemon::{Daemon, ahead, links};
use live::lab::{AttachPoint, Lab};
use live::traffic::{Kind, Stream, assert_flows};

const LONG: Duration = Duration::from_mins(2);
/// How often a heal and a start are set to meet.
const TRIALS: u32 = 150;
/// By how much the next trial differs.
const STEP: Duration = Duration::from_micros(10);

#[test]
#[needs(root)]
fn a_cut_on_top_of_another_censors_that_one_also_on_other_links() {
    let lab = Lab::new(3);
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let daemon = Daemon::start(&format!("{config}ready: {{ observe: 1s, observe_max: 2s }}\n"));
    daemon.apply("first", &links(&[("n1", "n2")], LONG));
    daemon.apply("second", &links(&[("n3", "n2")], LONG));
    let healed = daemon.heal("first");
    let record = daemon.record("first");
    assert_eq!(record.closed_by.as_deref(), Some("second"), "{record:#?}");
    assert_eq!(record.observed_until_ns, Some(healed.at.end_ns));
    assert_ne!(record.outcome, Some(Outcome::NotRecovered));
    // What was cut before is the setting of the experiment.
    daemon.apply("third", &links(&[("n1", "n2")], LONG));
    daemon.heal("third");
    daemon.heal("second");
    assert_eq!(daemon.record("third").closed_by, None);
}

#[test]
#[needs(root)]
fn what_is_prepared_ends_with_its_owner_and_is_not_taken_for_a_cut() {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
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

/// Heals a partition over and over at about the instant that its start was set to: whatever of the two was first, a
/// cut that took place closes the record that was still open.
#[test]
#[needs(root)]
fn a_cut_that_began_as_it_was_healed_still_closes_open_records() {
    let lab = Lab::new(3);
    // Nobody answers there: records stay open until their deadline.
    let endpoint = "endpoints: [{ name: dark, peers: [n2], probe: { tcp: { target: \"{address}:9\" } } }]\n";
    let daemon =
        Daemon::start(&format!("{}{endpoint}deadline: 60s\n", lab.config(AttachPoint::OwnNic, "auto")));
    let watch = || {
        daemon.apply("watched", &links(&[("n1", "n2")], LONG));
        daemon.heal("watched");
        assert!(!daemon.record_now("watched").is_final);
    };
    watch();
    // How long before the start the heal is sent: the two are driven towards each other.
    let mut lead = Duration::from_micros(400);
    let mut step = STEP;
    let (mut begun, mut unbegun) = (0, 0);
    for trial in 0..TRIALS {
        let name = format!("ahead-{trial}");
        let (start, at) = ahead(Duration::from_millis(60));
        let request = PartitionRequest { at, ..links(&[("n3", "n2")], LONG) };
        // On a busy host its slot may be free again only after that.
        let Ok(_) = daemon.try_apply(&name, &request) else { continue };
        while MonoNs::now() + lead < start {
            std::hint::spin_loop();
        }
        let healed = daemon.heal(&name);
        let cut = daemon.partition(&name).effective;
        let closed_by = daemon.record_now("watched").closed_by;
        if cut.is_some() {
            assert!(healed.at.end_ns > start);
            assert_eq!(
                closed_by.as_deref(),
                Some(&*name),
                "trial {trial}: healed {healed:?}, start {start:?}"
            );
            begun += 1;
            lead += step;
            watch();
        } else {
            assert!(healed.at.end_ns <= start);
            assert_eq!(closed_by, None, "trial {trial}: healed {healed:?}, start {start:?}");
            unbegun += 1;
            lead = lead.saturating_sub(step);
        }
        // On a busy machine heals take longer, and the way to the first of the other kind is long.
        step = if begun > 0 && unbegun > 0 { STEP } else { step.mul_f64(1.1) };
    }
    println!("{begun} began, {unbegun} did not; the lead is {lead:?}");
    assert!(begun > 0 && unbegun > 0, "{begun} began, {unbegun} did not");
}

/// What partitions have in common is read once for all that a list shows: their counts then differ by what only one of them
/// dropped, however dense the traffic is.
#[test]
#[needs(root)]
fn a_list_counts_what_partitions_have_in_common_at_one_instant() {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    assert_flows(&lab, &[Kind::Udp], "n1", "n2");
    let names = ["p", "q"];
    for name in names {
        daemon.apply(name, &links(&[("n1", "n2")], LONG));
    }
    let stream = Stream::start(&lab, "n1", "n2", Duration::ZERO);
    let mut last = [0; 2];
    let mut differences = Vec::new();
    for _ in 0..20 {
        let (status, views) = daemon.raw("GET", "/v1/partitions", b"");
        assert_eq!(status, 200, "{views}");
        let counts = names.map(|name| {
            let view = views.as_array().unwrap().iter().find(|view| view["name"] == name).unwrap();
            view["totals"]["dropped_packets"].as_u64()
        });
        // A daemon that stood still as it counted has none for the second.
        if let [Some(p), Some(q)] = counts {
            // A count that took long is shown again for a while.
            if p > last[0] && q > last[1] {
                differences.push(p.cast_signed() - q.cast_signed());
            }
            last = [p, q];
        }
        // Longer than a count is shown again, unless this machine stood still.
        std::thread::sleep(Duration::from_millis(100));
    }
    let sent = stream.stop().len();
    println!("{sent} packets sent; p has dropped so many more than q: {differences:?}");
    assert!(differences.len() >= 5, "{differences:?}");
    assert!(differences.iter().all(|difference| *difference == differences[0]), "{differences:?}");
}
