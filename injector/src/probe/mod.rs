//! Active probes: open-loop stimuli of the endpoints, one file a kind and one scheduler.

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
}
