//! How endpoints are probed, as far as two measurements must agree on it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Span;

/// Whether each probe makes its own connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// A new one each.
    #[default]
    Fresh,
    /// Kept and shared.
    Pooled,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Pooled => "pooled",
        })
    }
}

/// What every kind of probe has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeOptions {
    /// The schedule at the full rate.
    pub interval: Span,
    /// When a probe has failed.
    pub timeout: Span,
    /// Whether each probe makes its own connection.
    pub connection: Connection,
}

/// How an endpoint is probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeRules {
    /// What is sent and expected, in words: `http GET http://10.0.0.1:8080/health, expects 200`. It decides nothing.
    pub stimulus: String,
    /// Schedule, timeout and connections.
    #[serde(flatten)]
    pub options: ProbeOptions,
}

/// One endpoint and its probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointProbe {
    /// `ingress@n1`.
    pub endpoint: String,
    /// Its role in the config, whatever a run makes advisory.
    pub required: bool,
    /// How it is probed.
    #[serde(flatten)]
    pub rules: ProbeRules,
}
