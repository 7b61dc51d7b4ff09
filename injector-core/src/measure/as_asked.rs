//! Whether a trial of a campaign is the one that was asked for: cut for its whole hold, and by its own partition alone.

use std::collections::BTreeMap;

use super::words::seconds;
use super::{Evidence, Overlap};
use crate::api::{HealedBy, Stamped, Warning, WarningCode};
use crate::clock::MonoNs;

/// Why a trial of a campaign is not the one that was asked for; `None` for partitions of no campaign, whose users end and
/// overlap them as they please.
pub(super) fn why_not(evidence: &Evidence<'_>, cut: Stamped, heal: Stamped) -> Option<String> {
    evidence.trial?;
    cut_short(evidence, cut, heal).or_else(|| overlapped(evidence, cut, heal))
}

fn cut_short(evidence: &Evidence<'_>, cut: Stamped, heal: Stamped) -> Option<String> {
    let ended = match evidence.healed_by? {
        // The kernel's own end, at the instant that was set.
        HealedBy::Deadline => return None,
        HealedBy::Request => "another client healed the cut",
        HealedBy::Disconnect => "the connection that owned the cut broke",
        HealedBy::Lease => "the lease ended the cut",
        HealedBy::Shutdown => "the daemon was stopped",
    };
    let held = seconds(heal.begin_ns.saturating_since(cut.end_ns));
    let of = evidence.hold.map_or_else(String::new, |hold| format!(" of {hold}"));
    Some(format!("{ended} after {held}{of}: this is not the trial that was asked for"))
}

/// A partition that began after the heal closes the record there, and spoils nothing of what was seen before.
fn overlapped(evidence: &Evidence<'_>, cut: Stamped, heal: Stamped) -> Option<String> {
    let other = evidence.overlaps.iter().find(|other| other.from < heal.end_ns)?;
    Some(format!(
        "another partition, \"{}\", was in force {}: this is not the trial that was asked for",
        other.partition,
        when(other, cut, Some(heal))
    ))
}

/// A warning for each name of partitions that were in force before `until`, in the order of their beginnings.
pub(super) fn warnings(evidence: &Evidence<'_>, until: MonoNs) -> Vec<Warning> {
    let Some(cut) = evidence.cut else { return Vec::new() };
    let mut by_name: BTreeMap<&str, Overlap> = BTreeMap::new();
    for other in evidence.overlaps.iter().filter(|other| other.from < until) {
        let all = by_name.entry(&other.partition).or_insert_with(|| other.clone());
        all.from = all.from.min(other.from);
        all.until = all.until.zip(other.until).map(|(a, b)| a.max(b));
    }
    let mut others: Vec<Overlap> = by_name.into_values().collect();
    others.sort_by_key(|other| other.from);
    let warning = |other: Overlap| {
        let text = format!(
            "another partition, \"{}\", was in force {}: what was seen is of both",
            other.partition,
            when(&other, cut, evidence.heal)
        );
        Warning::new(WarningCode::Overlapped, other.partition, text)
    };
    others.into_iter().map(warning).collect()
}

/// The time in which it was in force, in words.
fn when(other: &Overlap, cut: Stamped, heal: Option<Stamped>) -> String {
    let from = if other.from <= cut.end_ns {
        "from before this cut".to_owned()
    } else {
        format!("from {} after this cut", seconds(other.from.saturating_since(cut.end_ns)))
    };
    let until = match (other.until, heal) {
        (None, _) => "on".to_owned(),
        (Some(until), Some(heal)) if until > heal.end_ns => {
            format!("to {} after the heal", seconds(until.saturating_since(heal.end_ns)))
        }
        (Some(until), _) => format!("to {} after it", seconds(until.saturating_since(cut.end_ns))),
    };
    format!("{from} {until}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{endpoint, evidence, healed, life};
    use super::super::{again, record};
    use super::*;
    use crate::api::{Outcome, RecoveryRecord, Trial};
    use crate::clock::Span;

    /// A trial that recovers at once, changed.
    fn trial(change: impl FnOnce(&mut Evidence<'_>)) -> RecoveryRecord {
        let samples = life(30, |_| (1, true));
        let mut evidence = evidence(vec![endpoint("a@n1", &samples)], 30_000);
        evidence.trial = Some(Trial { index: 0, attempt: 1 });
        evidence.hold = Some(Span::secs(5));
        evidence.healed_by = Some(HealedBy::Deadline);
        change(&mut evidence);
        record(&evidence)
    }

    /// Another partition, with times in milliseconds from the heal; the cut is 5,000 before it.
    fn other(from: i64, until: Option<i64>) -> Overlap {
        let at = |ms: i64| MonoNs(healed(0).0.saturating_add_signed(ms * 1_000_000));
        Overlap { partition: "bg".to_owned(), from: at(from), until: until.map(at) }
    }

    #[test]
    fn a_trial_that_its_own_deadline_ends_is_one() {
        let good = trial(|_| ());
        assert_eq!((good.outcome, good.warnings.len()), (Some(Outcome::Recovered), 0), "{good:#?}");
    }

    #[test]
    fn a_trial_that_something_else_ends_is_none() {
        for (by, said) in [
            (HealedBy::Request, "another client healed the cut after 5s of 5s"),
            (HealedBy::Disconnect, "the connection that owned the cut broke after 5s of 5s"),
        ] {
            let record = trial(|evidence| evidence.healed_by = Some(by));
            assert_eq!(record.outcome, Some(Outcome::HarnessFailed));
            assert!(record.outcome_reason.as_ref().unwrap().starts_with(said), "{:?}", record.outcome_reason);
            assert_eq!(record.endpoints[0].outcome, Some(Outcome::HarnessFailed));
        }
        let by_its_user = trial(|evidence| {
            (evidence.trial, evidence.healed_by) = (None, Some(HealedBy::Request));
        });
        assert_eq!(by_its_user.outcome, Some(Outcome::Recovered));
    }

    #[test]
    fn a_partition_that_lies_over_a_trial_is_told_and_spoils_it() {
        for (overlap, said) in [
            (other(-9_000, None), "from before this cut on"),
            (other(-9_000, Some(2_000)), "from before this cut to 2s after the heal"),
            (other(-4_000, Some(-3_000)), "from 1s after this cut to 2s after it"),
        ] {
            let record = trial(|evidence| evidence.overlaps.push(overlap.clone()));
            assert_eq!(record.outcome, Some(Outcome::HarnessFailed), "{overlap:?}");
            let reason = record.outcome_reason.unwrap();
            assert!(
                reason.starts_with(&format!("another partition, \"bg\", was in force {said}")),
                "{reason}"
            );
            let [warning] = &record.warnings[..] else { panic!("{:?}", record.warnings) };
            assert_eq!((warning.code, warning.subject.as_deref()), (WarningCode::Overlapped, Some("bg")));
            assert!(warning.text.contains(said), "{warning}");
            // Outside campaigns, an overlap is a warning, and the outcome is judged as before.
            let own = trial(|evidence| {
                evidence.trial = None;
                evidence.overlaps = vec![overlap.clone(), other(-8_000, Some(-4_500))];
            });
            assert_eq!(
                (own.outcome, own.warnings.len()),
                (Some(Outcome::Recovered), 1),
                "{:?}",
                own.warnings
            );
        }
    }

    #[test]
    fn what_begins_after_the_observation_is_no_overlap() {
        let record = trial(|evidence| evidence.overlaps.push(other(29_000, None)));
        assert_eq!((record.outcome, record.warnings.len()), (Some(Outcome::Recovered), 0));
    }

    #[test]
    fn a_record_that_is_judged_again_keeps_both() {
        let record = trial(|evidence| evidence.overlaps.push(other(-9_000, None)));
        let ready = evidence(Vec::new(), 0).ready;
        let old = RecoveryRecord { endpoints: Vec::new(), ..record };
        let judged = again::again(&old, &[], &ready, &[], None).unwrap();
        assert_eq!((judged.outcome, &judged.warnings), (old.outcome, &old.warnings));
        assert_eq!(judged.outcome_reason, old.outcome_reason);
    }
}
