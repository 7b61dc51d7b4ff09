//! The result of a probe.

use std::net::IpAddr;

use crate::clock::MonoNs;

/// The index of an endpoint instance in [`crate::config::Config::endpoints`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub usize);

/// The result of one probe, made when its answer was complete or it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// When it was due: probes are ordered by this.
    pub scheduled: MonoNs,
    /// When it was really begun.
    pub begun: MonoNs,
    /// When the answer was complete, or the failure known.
    pub done: MonoNs,
    /// Why it failed; `None` is a success.
    pub error: Option<String>,
    /// The address that its packets come from, as the prober's routes have it; `None` where that is not known.
    pub source: Option<IpAddr>,
}

/// What the error of a probe begins with that was never sent because the prober was held up.
pub const HELD_UP: &str = "the prober fell behind";

impl Sample {
    /// Whether it says something about the prober alone: the prober was held up and never sent it.
    pub fn is_unsent(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.starts_with(HELD_UP))
    }
}
