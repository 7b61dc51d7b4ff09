//! The requests for partitions, and how partitions start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict_options::{VerdictOptions, verdict_fields};
use crate::clock::{MonoNs, Span, WallNs};
use crate::flat::flat;
use crate::model::{Shape, Traffic, seed, traffic_fields};
use crate::object::object_only;

/// Who keeps a partition alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Nobody: it lives until its deadline or a heal.
    #[default]
    None,
    /// The connection that applied it: it heals when that breaks.
    Connection,
}

/// When a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// Nanoseconds of `CLOCK_MONOTONIC` of the daemon's host.
    MonoNs(MonoNs),
    /// Nanoseconds since the Unix epoch, fixed to the monotonic clock at acceptance.
    WallNs(WallNs),
}

/// A start as it is written. It is read as an object, since what JSON says of a bad enum does not name what is expected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a start, such as {\"wall_ns\": 1767225600000000000}")]
struct Start {
    mono_ns: Option<MonoNs>,
    wall_ns: Option<WallNs>,
}

impl<'de> Deserialize<'de> for StartAt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Start::deserialize(deserializer)? {
            Start { mono_ns: Some(at), wall_ns: None } => Ok(Self::MonoNs(at)),
            Start { mono_ns: None, wall_ns: Some(at) } => Ok(Self::WallNs(at)),
            Start { .. } => Err(serde::de::Error::custom("a start has either mono_ns or wall_ns")),
        }
    }
}

flat! {
    /// `PUT /v1/partitions/{name}`: what to cut, and how.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(from = "FlatRequest")]
    pub struct PartitionRequest;
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, expecting = "a request, such as {\"shape\": {\"isolate\": [\"n1\"]}}")]
    struct FlatRequest;
    {
        /// Which links.
        pub shape: Shape,
        /// How long; without it the config's `max_for`.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        pub for_: Option<Span>,
        /// When; without it at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub at: Option<StartAt>,
        /// How long after the heal the cluster may take; without it the config's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub deadline: Option<Span>,
        /// What the cut does to the packets of its links.
        pub traffic: ..traffic_fields!(Traffic),
        /// The seed of drawn shapes and of nothing else, at most 2^53 - 1; drawn if missing.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seed::optional")]
        #[schemars(range(max = 9_007_199_254_740_991_u64))]
        pub seed: Option<u64>,
        /// Who keeps it alive.
        #[serde(default)]
        pub owner: Owner,
        /// A client's own id of this request: one id never cuts twice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request_id: Option<String>,
        /// Whether it may cut SSH connections to the daemon's host.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub allow_ssh: bool,
        /// What its verdict takes into account.
        pub verdict: ..verdict_fields!(VerdictOptions),
        /// The campaign trial that this partition is, copied into its record. A trial has to end by its own deadline, with no
        /// other partition in force: else its record is `harness_failed`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub trial: Option<Trial>,
    }
}

impl PartitionRequest {
    /// A request for a shape with every default.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            for_: None,
            at: None,
            deadline: None,
            traffic: Traffic::default(),
            seed: None,
            owner: Owner::None,
            request_id: None,
            allow_ssh: false,
            verdict: VerdictOptions::default(),
            trial: None,
        }
    }
}

/// A trial of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "a trial, such as {\"index\": 0, \"attempt\": 1}")]
pub struct Trial {
    /// Its index, from 0.
    pub index: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
}
object_only!(Trial);
