//! What two runs do not have in common: cuts that only one of them has decided, and the worst that they may hide.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Sum;

use serde::{Deserialize, Serialize};

use super::strata::{Arm, Stratum};
use super::trial::{Instant, Trial};

/// What can't be compared, and so is not good: cuts that only one of the two has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncompared {
    /// B's trials of cuts that A has not decided.
    pub b_trials: u64,
    /// Of these, beyond the deadline or not decided.
    pub b_not_good: u64,
    /// Decided trials of A whose shape B never made; a cut that B's draws or roles did not give is none of them.
    pub a_not_made: u64,
    /// The cuts of `b_not_good` and `a_not_made`.
    pub cuts: Vec<String>,
}

impl Uncompared {
    /// Why they leave the comparison open; `None` if all of them are harmless.
    pub(super) fn reason(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.b_not_good > 0 {
            reasons.push(format!(
                "{} of B's {} trials of cuts that A has not decided are beyond the deadline or undecided",
                self.b_not_good, self.b_trials
            ));
        }
        if self.a_not_made > 0 {
            reasons
                .push(format!("{} of A's decided trials are of cuts that B has not made", self.a_not_made));
        }
        if reasons.is_empty() {
            return None;
        }
        let mut cuts = self.cuts.iter().take(NAMED).cloned().collect::<Vec<_>>();
        if let Some(more) = self.cuts.len().checked_sub(NAMED).filter(|&more| more > 0) {
            cuts.push(format!("{more} more"));
        }
        Some(format!("{} ({}), and can't be compared", reasons.join(", and "), cuts.join(", ")))
    }
}

/// The cuts that a sentence names.
const NAMED: usize = 4;

/// The trials of one arm and shape.
#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    pub arm: Arm,
    pub undetermined: u64,
    pub starved: u64,
    pub unproved: u64,
}

impl Sum for Counted {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |x, y| Self {
            arm: Arm { beyond: x.arm.beyond + y.arm.beyond, n: x.arm.n + y.arm.n },
            undetermined: x.undetermined + y.undetermined,
            starved: x.starved + y.starved,
            unproved: x.unproved + y.unproved,
        })
    }
}

impl Counted {
    pub fn trials(self) -> u64 {
        self.arm.n + self.undetermined
    }
}

/// A cut that one of two runs has made, or both.
pub(super) struct Cut<'a> {
    /// Its links and settings.
    pub stratum: &'a str,
    /// The same in words.
    pub label: &'a str,
    /// A's trials of it.
    pub a: Counted,
    /// B's.
    pub b: Counted,
}

impl Cut<'_> {
    /// Its decided trials.
    pub fn decided(&self) -> Stratum {
        Stratum { a: self.a.arm, b: self.b.arm }
    }
}

/// What a comparison of decided trials leaves out.
pub(super) struct Uncertain {
    /// Trials of cuts that not both have decided.
    pub unmatched: u64,
    /// Which of them the worst case counts against B.
    pub uncompared: Uncompared,
    /// All cuts in the worst case for B.
    pub worst: Vec<Stratum>,
}

/// `not_made` is from [`not_made`].
pub(super) fn uncertain(cuts: &[Cut<'_>], not_made: &BTreeMap<&str, u64>) -> Uncertain {
    let mut all =
        Uncertain { unmatched: 0, uncompared: Uncompared::default(), worst: Vec::with_capacity(cuts.len()) };
    for cut in cuts {
        let (a, b) = (cut.a, cut.b);
        let not_made =
            if b.trials() == 0 { not_made.get(cut.stratum).copied().unwrap_or_default() } else { 0 };
        let mut not_good = 0;
        if !cut.decided().compares() {
            all.unmatched += a.trials() + b.trials();
        }
        if a.arm.n == 0 {
            not_good = b.arm.beyond + b.undetermined;
            all.uncompared.b_trials += b.trials();
        }
        all.uncompared.b_not_good += not_good;
        all.uncompared.a_not_made += not_made;
        if not_good + not_made > 0 {
            all.uncompared.cuts.push(cut.label.to_owned());
        }
        all.worst.push(worst_case(a, b, not_made));
    }
    all
}

/// A's decided trials by their cut, as far as B never made what was asked for. Where it did, draws and roles alone did not
/// give B this cut.
pub(super) fn not_made<'a>(a: &'a [Trial], b: &[Trial], deadline_ns: u64) -> BTreeMap<&'a str, u64> {
    let made: BTreeSet<&str> = b.iter().map(|trial| trial.request.as_str()).collect();
    let mut not_made: BTreeMap<&str, u64> = BTreeMap::new();
    for trial in a.iter().filter(|trial| !made.contains(trial.request.as_str())) {
        if trial.beyond(&trial.cluster, Instant::Settled, deadline_ns).is_some() {
            *not_made.entry(&trial.stratum).or_default() += 1;
        }
    }
    not_made
}

/// What a cut may be like at the worst for B. What nobody could judge must not pass for good: a cluster that never comes
/// back may look like that. `not_made` are A's trials of a cut that B should have made and has not.
fn worst_case(a: Counted, b: Counted, not_made: u64) -> Stratum {
    let b = if b.trials() == 0 {
        Arm { beyond: not_made, n: not_made }
    } else {
        Arm { beyond: b.arm.beyond + b.undetermined, n: b.trials() }
    };
    let a = if a.arm.n == 0 {
        // Nothing is known of A there, so that A may be perfect; it weighs as much as B.
        Arm { beyond: 0, n: a.trials().max(b.n) }
    } else {
        Arm { beyond: a.arm.beyond, n: a.trials() }
    };
    Stratum { a, b }
}
