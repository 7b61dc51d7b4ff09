//! When an endpoint counts as ready and settled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Span;

/// When an endpoint counts as ready and settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// K: successes in a row.
    pub consecutive: u32,
    /// How long readiness is observed.
    pub observe: Span,
    /// How long at most, with relapses.
    pub observe_max: Span,
    /// The longest isolated failure that is no relapse.
    // The first run directories do not have it.
    #[serde(default)]
    #[schemars(!default)]
    pub tolerate: Span,
}
