//! What came of reading the config again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{MonoNs, WallNs};

/// What came of reading the config again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigOutcome {
    /// It is in force, as a whole.
    InForce,
    /// It says the same as before: nothing was done.
    Unchanged,
    /// It has faults, or something is in its way: nothing was done.
    Refused,
    /// It could not be put in force: the one before is in force again.
    Failed,
}

impl ConfigOutcome {
    /// The outcome in words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed, the one before is in force again",
        }
    }
}

/// A reload that left the config before in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedConfig {
    /// When it was refused, by the daemon's clock.
    pub at_ns: MonoNs,
    /// The wall clock at that instant.
    pub wall: WallNs,
    /// Whether it was refused or failed.
    pub outcome: ConfigOutcome,
    /// Why, in words.
    pub what: String,
}
