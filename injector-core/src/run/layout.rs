//! The files of a run directory.
//!
//! | file | holds |
//! |---|---|
//! | `campaign.json` | [`Campaign`] |
//! | `trials.jsonl` | one [`RecoveryRecord`] a line, the last attempt of a trial counts |
//! | `probes.jsonl` | optional: each trial's probes, one trial a line |
//! | `probes.index` | where in `probes.jsonl` each trial's line begins, so that a report needs not read it all |
//! | `open.json` | the trial that was begun last, while the campaign is not complete |
//! | `not_made.jsonl` | one [`NotMade`] a line: trials that were tried and not cut, and why |
//! | `summary.json` | [`Summary`](crate::stats::summary::Summary) |

use serde::{Deserialize, Serialize};

use crate::api::ProbeView;
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
