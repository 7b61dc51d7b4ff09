//! When an endpoint, or the cluster, was out of service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimeRange;

/// Whether service came back while the cut lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailOver {
    /// The endpoint was in service throughout the cut.
    NeverOut,
    /// K answers of the run that ended its first outage came before the heal.
    Back,
    /// They did not: the time to the return is censored at the heal.
    NotBack,
}

/// The outages of one endpoint, from the cut to the end of the watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outage {
    /// The bound within which an answer had to come to count as served. Every figure depends on it.
    pub served_within_ns: u64,
    /// The windows without service. Each is from the instant at which the first probe that was not served was due, but
    /// not before the cut, to the earliest answer of the first unbroken run of at least K served probes; without an end
    /// if the watch ended first. They are in their order; they never overlap. Of an unseen endpoint, those after the heal.
    pub windows: Vec<TimeRange>,
    /// The sum of all windows; `null` if nothing is known of the endpoint during the cut: it was unseen, or no probe that was
    /// sent ended then.
    pub sum_ns: Option<u64>,
    /// The longest window; `null` without windows, and where the sum is.
    pub longest_ns: Option<u64>,
    /// The part of the sum before the heal; `null` where the sum is.
    pub before_heal_ns: Option<u64>,
    /// The part of the sum after the heal.
    pub after_heal_ns: u64,
    /// Whether the last window was open when the watch ended: the sums and the longest window are then lower bounds.
    pub open: bool,
    /// Fail-over; `null` where the sum is.
    pub fail_over: Option<FailOver>,
    /// From the cut to the return, where [`FailOver::Back`].
    pub fail_over_ns: Option<u64>,
    /// The sum of the windows that began after the heal, if the endpoint was in service at the heal; else, and where that is not
    /// known, `null`.
    pub lost_by_heal_ns: Option<u64>,
    /// Failed probes that `tolerate` kept from opening a window.
    pub tolerated: u64,
    /// The longest time without an answer that no failed probe marks, if over K intervals. It is no outage.
    pub stall_ns: Option<u64>,
    /// Whether the cut lay on the probe's own way: before the heal nothing is known.
    pub unseen: bool,
}

impl Outage {
    /// Whether there was no window before or after the heal; `None` if that is not known.
    pub fn never_out(&self) -> Option<bool> {
        if self.windows.is_empty() { self.is_known_before_heal().then_some(true) } else { Some(false) }
    }

    /// Whether it is known what the endpoint did during the cut.
    pub fn is_known_before_heal(&self) -> bool {
        self.before_heal_ns.is_some()
    }
}

/// The outages of all required endpoints of one name together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterOutage {
    /// The name without the peer: `ingress`.
    pub name: String,
    /// Required endpoints of this name.
    pub endpoints: u64,
    /// Of these, endpoints whose outage is not known for all of the time: *some out* is then a lower bound.
    pub without_data: u64,
    /// When at least one endpoint was out.
    pub some: Vec<TimeRange>,
    /// When all endpoints were out; `null` if the outage of one is not known.
    pub all: Option<Vec<TimeRange>>,
    /// The sum of `some`.
    pub some_ns: u64,
    /// The part of it after the heal: a lower bound where the outage of an endpoint is `null`.
    pub some_after_heal_ns: u64,
    /// The sum of `all`.
    pub all_ns: Option<u64>,
    /// The sum over endpoints, divided by their number: what a client bound to one endpoint sees on average.
    pub share_ns: Option<u64>,
    /// Whether a window was open when the watch ended: the sums are then lower bounds.
    pub open: bool,
}
