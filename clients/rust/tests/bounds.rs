//! For how long a guard watches a recovery, against a daemon with the peers n1 and n2 and a required endpoint.

use std::time::Duration;

use injector_client::test::{Cut, GuardError, Partition};

/// Cuts n1 off for a second, in which dozens of probes are dropped: they prove the cut.
fn cut_off(deadline: Duration) -> Partition {
    let partition = Partition::cut(Cut::isolate(["n1"]).deadline(deadline)).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    partition
}

#[test]
fn a_bound_beyond_the_deadline_is_refused() {
    let partition = cut_off(Duration::from_secs(30));
    let refused = partition.recovers(Duration::from_secs(31)).unwrap_err();
    assert!(matches!(refused, GuardError::BeyondDeadline { .. }), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("is watched for 30s after the heal, and not for 31s"), "{said}");
    assert!(said.contains("Cut::deadline"), "{said}");
    // The deadline itself may be asked for.
    partition.recovers(Duration::from_secs(30)).unwrap();
}

/// One call of the API waits 10 minutes at most; whoever wants to wait for longer makes several.
#[test]
fn a_bound_may_be_longer_than_one_call_waits() {
    let hour = Duration::from_mins(60);
    let partition = cut_off(hour);
    let record = partition.recovers(hour).unwrap();
    assert!(record.is_final, "{record:?}");
    assert!(partition.recovery(Duration::MAX).unwrap().is_final);
}
