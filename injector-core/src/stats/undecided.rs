//! Why trials are undecided: the reasons that their records give, counted.

use serde::{Deserialize, Serialize};

use super::trial::{Instant, Trial};
use crate::api::Outcome;
use crate::figures::outcome;
use crate::measure::STARVED_REMEDY;

/// The undecided trials that give one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// Their outcome.
    pub outcome: Outcome,
    /// Their reason, as their records give it; `null` where these give none.
    pub reason: Option<String>,
    /// Whether the reason is that the host was too busy to measure. A trial may be starved and undecided for another reason.
    pub starved: bool,
    /// The indices of these trials, in their order.
    pub trials: Vec<u64>,
}

/// The reason of all trials that starvation itself left undecided: their records differ in counts and names alone.
const TOO_BUSY: &str = "the host was too busy to measure";

/// The undecided trials by outcome and reason, the most frequent reason first.
pub fn undecided(trials: &[Trial]) -> Vec<Undecided> {
    let is_decided =
        |trial: &Trial| trial.beyond(&trial.cluster, Instant::Settled, trial.deadline_ns).is_some();
    let mut found: Vec<Undecided> = Vec::new();
    for trial in trials.iter().filter(|trial| !is_decided(trial)) {
        let outcome = trial.cluster.outcome;
        let starved = trial.is_undecided_by_starvation();
        let reason = if starved { Some(TOO_BUSY.to_owned()) } else { trial.reason.clone() };
        match found.iter_mut().find(|group| group.outcome == outcome && group.reason == reason) {
            Some(group) => group.trials.push(trial.index),
            None => found.push(Undecided { outcome, reason, starved, trials: vec![trial.index] }),
        }
    }
    // The sort is stable: equally frequent reasons stay in the order of their first trials.
    found.sort_by_key(|group| std::cmp::Reverse(group.trials.len()));
    found
}

/// The reasons that a verdict names.
const NAMED: usize = 3;

/// The reasons, counted, and the remedy for starved trials, to end a verdict's sentence; empty without undecided trials.
pub(super) fn words(undecided: &[Undecided]) -> String {
    if undecided.is_empty() {
        return String::new();
    }
    let mut parts: Vec<String> = undecided
        .iter()
        .take(NAMED)
        .map(|group| format!("{} {}", group.trials.len(), group.cause()))
        .collect();
    let more: usize = undecided.iter().skip(NAMED).map(|group| group.trials.len()).sum();
    if more > 0 {
        parts.push(format!("{more} for other reasons"));
    }
    let remedy = if undecided.iter().any(|group| group.starved) {
        format!("; {STARVED_REMEDY}")
    } else {
        String::new()
    };
    format!(" ({}){remedy}", parts.join("; "))
}

impl Undecided {
    /// The outcome and the reason, in words.
    pub fn cause(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {reason}", outcome(self.outcome)),
            None => outcome(self.outcome).to_owned(),
        }
    }

    /// The trials by their indices, and the cause: `trials 3, 7 censored: …`.
    pub fn listed(&self) -> String {
        let indices: Vec<String> = self.trials.iter().take(LISTED).map(u64::to_string).collect();
        let more = match self.trials.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let noun = if self.trials.len() == 1 { "trial" } else { "trials" };
        format!("{noun} {}{more} {}", indices.join(", "), self.cause())
    }
}

/// The trials of one reason that a report names.
const LISTED: usize = 6;
