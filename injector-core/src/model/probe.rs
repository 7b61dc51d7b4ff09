//! How endpoints are probed, as far as two measurements must agree on it.

use std::collections::BTreeMap;
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

/// What a probe is made of, by keys as in the config: the kind, where it starts, where it goes, what it sends and what it
/// expects. What may be secret is a digest. `schema` says which keys there are.
pub type ProbeSettings = BTreeMap<String, String>;

/// The version of the keys in [`ProbeSettings`] and of how their values are written: under another one they are unknown.
pub const PROBE_SETTINGS_SCHEMA: u32 = 1;

/// How an endpoint is probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeRules {
    /// What is sent and expected, in words: `http GET http://10.0.0.1:8080/health, expects 200`. It decides nothing.
    pub stimulus: String,
    /// What decides which probes are the same: two measurements agree on it. `null` from older versions: unknown.
    #[serde(default)]
    pub settings: Option<ProbeSettings>,
    /// The addresses of its peer, and what its host name was resolved to; those of a container change. Two measurements
    /// may differ in them, and one campaign keeps them. `null` from older versions: unknown.
    #[serde(default)]
    pub addresses: Option<Vec<String>>,
    /// Schedule, timeout and connections.
    #[serde(flatten)]
    pub options: ProbeOptions,
}

impl ProbeRules {
    /// Whether these and other settings are written alike, so that they can be compared.
    pub fn is_known_as(&self, other: &Self) -> bool {
        let schema = |rules: &Self| Some(rules.settings.as_ref()?.get("schema").cloned());
        schema(self).zip(schema(other)).is_some_and(|(a, b)| a == b)
    }
}

/// An endpoint and its probe.
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
