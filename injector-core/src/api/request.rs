//! What is asked: partitions, and how they start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verify::Verify;
use crate::clock::{MonoNs, Span, WallNs};
use crate::model::{Direction, Flap, Neighbour, Percent, Scope, Shape, seed};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// Nanoseconds of `CLOCK_MONOTONIC` of the daemon's host.
    MonoNs(MonoNs),
    /// Nanoseconds since the Unix epoch, fixed to the monotonic clock at acceptance.
    WallNs(WallNs),
}

/// `PUT /v1/partitions/{name}`: what to cut, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionRequest {
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
    /// Which directions of a two-sided shape.
    #[serde(default)]
    pub direction: Direction,
    /// Which traffic; empty is all of it.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The share of packets to drop.
    #[serde(default = "all")]
    pub loss: Percent,
    /// Alternation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap: Option<Flap>,
    /// What happens to ARP and neighbour discovery.
    #[serde(default)]
    pub neighbour: Neighbour,
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
    /// Endpoints whose role this partition's record changes to advisory (by base or full name).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisory: Vec<String>,
    /// Whether to go on although links of it are not covered, or partly: they are left out of its verdict on purpose.
    #[serde(default, skip_serializing_if = "is_not")]
    pub allow_uncovered: bool,
    /// Whether what is unknown counts as wrong.
    #[serde(default, skip_serializing_if = "is_not")]
    pub strict: bool,
    /// How the cut is verified beyond counting what the hooks see; `null` is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// The campaign trial that this partition is, copied into its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_not(flag: &bool) -> bool {
    !flag
}

fn all() -> Percent {
    Percent::ALL
}

impl PartitionRequest {
    /// A request for a shape with every default.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            for_: None,
            at: None,
            deadline: None,
            direction: Direction::Both,
            scopes: Vec::new(),
            loss: Percent::ALL,
            flap: None,
            neighbour: Neighbour::Auto,
            seed: None,
            owner: Owner::None,
            request_id: None,
            advisory: Vec::new(),
            allow_uncovered: false,
            strict: false,
            verify: None,
            trial: None,
        }
    }

    /// Whether it drops all that is on its links, all the time.
    pub fn is_full(&self) -> bool {
        self.scopes.is_empty() && self.loss == Percent::ALL && self.flap.is_none()
    }
}

/// A trial of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Its index, from 0.
    pub index: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
}
