//! The counts of the daemon from its start to its end, and a reading of them.
//!
//! [`History`] is a fold over what happens: partitions that are cut, healed and closed, and probes that are sent. It has no
//! names of partitions, so that its size has a bound, and what it has counted never goes down.

mod histogram;
mod history;
mod labels;

pub use histogram::Histogram;
pub use history::{
    AttachmentsLost, Drops, EndpointHistory, HEALERS, History, OUTCOMES, ShapeHistory, Toggle, ToggledBy,
    healer_word, outcome_word,
};
pub use labels::{Labels, MOST_LABELS, NONE, OTHER};

use crate::api::{LinkTotals, PartitionState};

/// A reading of the daemon's metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The daemon's version.
    pub version: String,
    /// The ABI between daemon and programs.
    pub abi: u32,
    /// The kernel's release.
    pub kernel: String,
    /// The number of the config in force: 1 at the start.
    pub config_number: u32,
    /// Whether the last reload left the config before in force.
    pub is_config_refused: bool,
    /// The partitions that are not closed.
    pub partitions: Vec<OpenPartition>,
    /// The health of each endpoint of the config in force.
    pub endpoints: Vec<EndpointHealth>,
    /// The hook of each interface of the config in force.
    pub interfaces: Vec<InterfaceHook>,
    /// Stamps lost since the start; `None` where the counters can't be read.
    pub lost_events: Option<u64>,
    /// Log lines lost since the start.
    pub lost_log_lines: u64,
    /// The programs' counters, by name.
    pub counters: Vec<(&'static str, u64)>,
    /// The counts since the start.
    pub history: History,
}

/// A partition that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPartition {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: u32,
    /// Where in its life it is.
    pub state: PartitionState,
    /// The drops of its links so far, in sum.
    pub totals: LinkTotals,
}

/// An endpoint of the config in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// `ingress@n1`.
    pub name: String,
    /// Its peer.
    pub peer: Option<String>,
    /// Whether it gates verdicts.
    pub required: bool,
    /// Whether its last K probes succeeded; `None` before there were K.
    pub healthy: Option<bool>,
}

/// An interface of the config in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceHook {
    /// Its name.
    pub interface: String,
    /// Its namespace; `None` is the daemon's own.
    pub netns: Option<String>,
    /// The hook in force; `None` while the interface is absent.
    pub hook: Option<String>,
}
