//! One check of this host, and how it ended.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// As it should be.
    Fine,
    /// Worth knowing; nothing fails for it.
    Note,
    /// The daemon can't do its work.
    Prevents,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// How it ended.
    pub verdict: CheckResult,
    /// What was found.
    pub found: String,
    /// What to do; `null` if nothing.
    pub remedy: Option<&'static str>,
}
