//! One check of this host, and how it ended.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// All is as it should be.
    Fine,
    /// Worth knowing; nothing fails for it.
    Note,
    /// The daemon can't do its work.
    Prevents,
}

/// A check of the host.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The thing that was checked.
    pub what: &'static str,
    /// How it ended.
    pub verdict: CheckResult,
    /// The finding, in words.
    pub found: String,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<&'static str>,
}

/// Something that exists, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The finding, in words.
    pub found: String,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<&'static str>,
}

impl Remark {
    /// A finding with its remedy.
    pub fn new(found: impl Into<String>, remedy: &'static str) -> Self {
        Self { found: found.into(), remedy: Some(remedy) }
    }
}
