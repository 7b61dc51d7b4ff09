//! The files of a run directory.
//!
//! | file | holds |
//! |---|---|
//! | `campaign.json` | [`Campaign`] |
//! | `trials.jsonl` | one [`RecoveryRecord`] a line, the last attempt of a trial counts |
//! | `probes.jsonl` | optional: each trial's probes, one trial a line |
//! | `probes.index` | where in `probes.jsonl` each trial's line begins, so that a report needs not read it all |
//! | `open.json` | [`OpenTrials`], while the campaign is not complete |
//! | `not_made.jsonl` | one [`NotMade`] a line: trials that were tried and not cut, and why |
//! | `summary.json` | [`Summary`](crate::stats::summary::Summary) |

use serde::{Deserialize, Serialize};

use crate::api::{ProbeView, Trial};
use crate::clock::WallNs;

/// `campaign.json`.
pub const CAMPAIGN: &str = "campaign.json";
/// `trials.jsonl`.
pub const TRIALS: &str = "trials.jsonl";
/// `probes.jsonl`.
pub const PROBES: &str = "probes.jsonl";
/// `probes.index`.
pub const PROBES_INDEX: &str = "probes.index";
/// `not_made.jsonl`.
pub const NOT_MADE: &str = "not_made.jsonl";
/// `open.json`.
pub const OPEN: &str = "open.json";
/// `summary.json`.
pub const SUMMARY: &str = "summary.json";

/// All of them.
pub const FILES: [&str; 7] = [CAMPAIGN, TRIALS, PROBES, PROBES_INDEX, NOT_MADE, OPEN, SUMMARY];

/// `open.json`: the trials that were begun, as far as they have no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTrials {
    /// The index of the one that was begun last.
    pub index: u64,
    /// Its attempt.
    pub attempt: u32,
    /// Those begun before it that had no record then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Trial>,
}

impl OpenTrials {
    /// `last` was begun after `earlier`.
    pub fn new(last: Trial, earlier: Vec<Trial>) -> Self {
        Self { index: last.index, attempt: last.attempt, earlier }
    }

    /// All open trials, in the order in which they were begun.
    pub fn all(self) -> Vec<Trial> {
        let last = Trial { index: self.index, attempt: self.attempt };
        self.earlier.into_iter().chain([last]).collect()
    }
}

/// A line of `probes.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialProbes {
    /// The trial's index.
    pub trial: u64,
    /// The attempt.
    pub attempt: u32,
    /// Its probes in scheduled order.
    pub probes: Vec<ProbeView>,
}

/// A trial that was tried and not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMade {
    /// The trial's index.
    pub trial: u64,
    /// The attempt.
    pub attempt: u32,
    /// When it was given up.
    pub wall: WallNs,
    /// Why it was not made.
    pub reason: String,
}
