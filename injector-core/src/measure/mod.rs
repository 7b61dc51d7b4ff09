//! The measurement core: from probes and kernel stamps to a verdict. Pure; the caller brings the time.
//!
//! [`Evidence`] is everything that is known about one partition; [`record()`] judges it. Judging is a function of
//! the evidence alone: call it as often as wanted and keep the first record that says it is final.
//!
//! The words, as this module uses them:
//! - Probes count from the cut on, in the order in which they were due.
//! - *Known*: an endpoint's probes are judged up to the first one whose result is still missing. The grid of
//!   its interval shows that one is missing; a probe that has no result [`PENDING_SLACK`] after its timeout is
//!   taken as never sent.
//! - *Out*, *back*: see [`outage`]. The time after the heal outside of windows is made of stretches; the first one
//!   begins at the heal where the endpoint was in service then, and this is *ready*. Every stretch that ends is one
//!   relapse, however many probes fail until the next one begins.
//! - *Cluster ready*: an instant that lies in a stretch of every required endpoint. *Settled*: the first such
//!   instant that no failure follows for `observe`.

pub mod again;
mod as_asked;
mod cluster;
mod endpoint;
mod force;
pub mod host;
pub mod outage;
mod outages;
mod phases;
mod proof;
#[cfg(test)]
mod properties;
mod record;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use crate::api::{HealedBy, LinkRecord, ShapePair, Stamped, Trial, Warning};
use crate::clock::{HostClock, MonoNs, Span};
use crate::model::{Ready, Traffic};
use crate::sample::Sample;

mod unhealthy;
mod unresolved;
mod words;

pub use phases::LinkEvent;
pub use record::record;
pub use unresolved::unresolved;

/// How long after its timeout a probe's result may still be on its way.
pub const PENDING_SLACK: Duration = Duration::from_secs(2);

/// The usual [`Evidence::starved_pressure`].
pub const STARVED_PRESSURE: f64 = 0.5;

/// The remedy where the host was too busy to send probes when they were due.
pub const STARVED_REMEDY: &str =
    "measure on an idle machine, probe less often (a longer `interval`), and use a release build";

/// Everything that is known about one partition at one instant.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The partition's name.
    pub name: String,
    /// Its generation.
    pub generation: u32,
    /// The host's clock that the stamps are of.
    pub clock: Option<HostClock>,
    /// The campaign trial that it is.
    pub trial: Option<Trial>,
    /// The shape as asked and as resolved.
    pub shape: ShapePair,
    /// The effect of the cut on packets; `None` if that was not recorded.
    pub traffic: Option<Traffic>,
    /// The seed used.
    pub seed: Option<u64>,
    /// When an endpoint is ready and settled.
    pub ready: Ready,
    /// How long after the heal the cluster may take.
    pub deadline: Span,
    /// How long the cut was to last; `None` if that was not recorded.
    pub hold: Option<Span>,
    /// The cut; `None` if it never took effect.
    pub cut: Option<Stamped>,
    /// The heal; `None` before.
    pub heal: Option<Stamped>,
    /// The cause of the heal. The lease and the daemon's end make the trial a failure of the harness.
    pub healed_by: Option<HealedBy>,
    /// The links as the kernel counted and stamped them.
    pub links: Vec<LinkRecord>,
    /// The endpoints with the roles of this partition.
    pub endpoints: Vec<EndpointEvidence<'a>>,
    /// Other partitions that were in force at some time from the cut on.
    pub overlaps: Vec<Overlap>,
    /// The partition that became active after the heal.
    pub closed_by: Option<Closed>,
    /// The failure of the instrument, if there was one.
    pub broken: Option<HarnessFailure>,
    /// The warnings that make the record doubtful.
    pub warnings: Vec<Warning>,
    /// Whether a link for which it is not known whether its cut was in force spoils the trial.
    pub is_strict: bool,
    /// Events lost during the trial.
    pub lost_events: Option<u64>,
    /// The share of the trial in which some task waited for a CPU, 0 to 1.
    pub cpu_pressure: Option<f64>,
    /// The share of time in which tasks waited for I/O, as `cpu_pressure`.
    pub io_pressure: Option<f64>,
    /// The CPU pressure above which a record is starved.
    pub starved_pressure: f64,
    /// The present instant. All samples that were done by now must be in the evidence.
    pub now: MonoNs,
}

/// The evidence about one endpoint.
#[derive(Clone, Debug)]
pub struct EndpointEvidence<'a> {
    /// `ingress@n1`.
    pub name: String,
    /// The peer it runs on.
    pub peer: Option<String>,
    /// Where its probes go.
    pub address: Option<IpAddr>,
    /// Whether it gates the verdict.
    pub required: bool,
    /// The interval of its probes at the full rate.
    pub interval: Span,
    /// The timeout of its probes.
    pub timeout: Span,
    /// Whether the cut lies on the probe's own way, so that nothing is seen of the endpoint before the heal.
    pub is_unseen: bool,
    /// The bound within which an answer counts as served, as the samples were judged.
    pub served_within: Span,
    /// The first successful response that the kernel saw after the heal.
    pub first_response: Option<MonoNs>,
    /// Its probes, from the idle ones before the cut on, in any order.
    pub samples: &'a [Sample],
}

/// Another partition that was in force at some time from this one's cut on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Its name.
    pub partition: String,
    /// The instant from which on it was in force.
    pub from: MonoNs,
    /// The end of that time; `None` while it is in force.
    pub until: Option<MonoNs>,
}

/// Another cut that became active before the record was final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The other partition.
    pub partition: String,
    /// When its cut began.
    pub at: MonoNs,
}

/// A failure of the instrument that ends the trial at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HarnessFailure {
    /// The dead-man's switch healed, or would have.
    #[error(
        "the lease lapsed: the daemon was late, and the kernel healed everything; unless you paused it, {STARVED_REMEDY}"
    )]
    LeaseLapsed,
    /// A role in its shape could not be resolved, so that nothing was cut.
    #[error("{0}")]
    Unresolved(String),
    /// The daemon stops.
    #[error("the daemon stopped before the recovery was decided")]
    Stopping,
    /// The kernel's record of this partition is gone.
    #[error("a stamp that the verdict needs was lost: {0}")]
    StampLost(String),
    /// More probes than the daemon keeps; how many these are.
    #[error(
        "the partition was open for more than the {0} probes that the daemon keeps of all open partitions: cut or watch for a \
         shorter time, or probe less often"
    )]
    TooManyProbes(usize),
    /// Anything else that ended the measurement.
    #[error("{0}")]
    Other(String),
}
