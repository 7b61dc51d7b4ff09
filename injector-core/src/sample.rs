//! The result of a probe.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{MonoNs, Span};

/// The interval between probes while nobody measures, if the endpoint's own is not longer.
pub const IDLE_INTERVAL: Span = Span::millis(500);

/// How late a probe of this interval and timeout may begin, and for how long beyond its interval none may be begun: what is asked
/// later says nothing of the endpoint as it was then.
pub fn patience(interval: Span, timeout: Span) -> Duration {
    timeout.0.max(interval.0).max(IDLE_INTERVAL.0)
}

/// How old the newest result of an endpoint may be, counted from when its probe was due, to say how the endpoint is now. A prober that
/// has ended reports nothing.
pub fn lasts(interval: Span, timeout: Span) -> Duration {
    interval.0.max(IDLE_INTERVAL.0) + timeout.0 + patience(interval, timeout)
}

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
    pub failure: Option<ProbeFailure>,
    /// The address that its packets come from, as the prober's routes have it; `None` where that is not known.
    pub source: Option<IpAddr>,
}

impl Sample {
    /// Whether it says something about the prober alone, which never sent it.
    pub fn is_unsent(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.code == FailureCode::Unsent)
    }
}

/// Whether the last probes of an endpoint, `wanted` of them, succeeded; `None` with fewer, and where none failed and some were
/// never sent.
pub fn healthy(last: &[&Sample], wanted: usize) -> Option<bool> {
    if last.len() < wanted {
        return None;
    }
    if last.iter().any(|sample| sample.failure.is_some() && !sample.is_unsent()) {
        return Some(false);
    }
    last.iter().all(|sample| !sample.is_unsent()).then_some(true)
}

/// Why a probe failed: a code for programs, a sentence for people. Its subject is the probe's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// The kind.
    pub code: FailureCode,
    /// The whole failure in words; probes that fail alike may share it.
    pub text: Arc<str>,
}

impl ProbeFailure {
    /// A failure of this kind.
    pub fn new(code: FailureCode, text: impl Into<Arc<str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// A failure as it is stored: `code` is missing from what the first versions wrote, and only their sentences said
    /// that a probe was never sent.
    pub fn stored(code: Option<FailureCode>, text: &str) -> Self {
        const FELL_BEHIND: &str = "the prober fell behind";
        let of_sentence =
            if text.starts_with(FELL_BEHIND) { FailureCode::Unsent } else { FailureCode::Other };
        Self::new(code.unwrap_or(of_sentence), text)
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The kind of a [`ProbeFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The prober did not send the probe: it fell behind its schedule, could not start the probe's command in time, or had as
    /// many probes of all endpoints under way as it may. The endpoint was not asked.
    Unsent,
    /// As many probes of this endpoint as may be under way had no answer yet, so that this one was not sent.
    InFlight,
    /// No complete answer came within the timeout.
    Timeout,
    /// An answer came later than a report lets count as served.
    Late,
    /// No connection was made.
    Connect,
    /// The connection broke, or carried something that is not the protocol.
    Exchange,
    /// A complete answer says that the endpoint does not serve.
    Answer,
    /// The probe's command could not be run.
    Command,
    /// The probe can't be made from its settings.
    Settings,
    /// Any other, as in run directories of the first versions.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_was_not_asked_is_neither_healthy_nor_unhealthy() {
        let sample = |code: Option<FailureCode>| Sample {
            endpoint: EndpointId(0),
            scheduled: MonoNs(1),
            begun: MonoNs(1),
            done: MonoNs(1),
            failure: code.map(|code| ProbeFailure::new(code, "planted")),
            source: None,
        };
        let (served, failed, unsent) =
            (sample(None), sample(Some(FailureCode::Timeout)), sample(Some(FailureCode::Unsent)));
        assert_eq!(healthy(&[&served, &served], 2), Some(true));
        assert_eq!(healthy(&[&served], 2), None);
        assert_eq!(healthy(&[&failed, &served], 2), Some(false));
        assert_eq!(healthy(&[&unsent, &served], 2), None);
        assert_eq!(healthy(&[&unsent, &failed], 2), Some(false));
    }

    #[test]
    fn sentences_of_the_first_versions_say_what_was_unsent() {
        let code = |code, text| ProbeFailure::stored(code, text).code;
        assert_eq!(code(None, "the prober fell behind by 120 ticks: not sent"), FailureCode::Unsent);
        assert_eq!(code(None, "timeout after 1s"), FailureCode::Other);
        let answer = Some(FailureCode::Answer);
        assert_eq!(code(answer, "the prober fell behind"), FailureCode::Answer, "no sentence decides");
        assert_eq!(
            serde_json::from_str::<FailureCode>("\"of_a_later_version\"").unwrap(),
            FailureCode::Other
        );
    }
}
