//! How a campaign is run, as far as that may change when it is resumed.

use serde::{Deserialize, Serialize};

use crate::clock::Span;

/// Commands that run beside trials, each by `sh -c`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Runs before the cut, when the cluster is healthy; if it fails, the trial is not made.
    pub before_trial: Option<String>,
    /// Runs after the record was written.
    pub after_trial: Option<String>,
    /// Runs as soon as a trial is known not to recover by the deadline.
    pub on_slow: Option<String>,
}

/// How a campaign is run, as far as it may change when it is resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// How long endpoints may take to be healthy before a trial.
    pub healthy_timeout: Span,
    /// After how many failures in a row the campaign is given up.
    pub abort_after: u32,
    /// Commands beside trials.
    pub hooks: Hooks,
}
