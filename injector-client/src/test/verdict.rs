//! Whether a cluster recovered in time, and what a failing test shows.

use std::fmt;
use std::time::Duration;

use injector_core::api::{Outcome, RecoveryRecord};
use injector_core::clock::Span;

/// The record of a cluster that did not settle in time, or may not have.
#[derive(Debug)]
pub struct NotRecovered {
    /// The bound, from the heal on.
    pub within: Duration,
    /// The daemon's record.
    pub record: RecoveryRecord,
}

impl std::error::Error for NotRecovered {}

/// How long to wait for a record that says whether a bound was kept: the observation and its relapses come after it.
pub(super) fn patience(within: Duration) -> Duration {
    within.saturating_add(Duration::from_mins(2))
}

pub(super) fn within(record: RecoveryRecord, within: Duration) -> Result<RecoveryRecord, Box<NotRecovered>> {
    let settled = record.heal_to_settled_ns.filter(|_| record.outcome == Some(Outcome::Recovered));
    if settled.is_some_and(|settled| u128::from(settled) <= within.as_nanos()) {
        return Ok(record);
    }
    Err(Box::new(NotRecovered { within, record }))
}

fn span(ns: Option<u64>) -> String {
    ns.map_or_else(|| "unknown".to_owned(), |ns| Span(Duration::from_nanos(ns)).to_string())
}

impl fmt::Display for NotRecovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { within, record } = self;
        let within = Span(*within);
        match (record.outcome, record.heal_to_settled_ns) {
            (Some(Outcome::Recovered), settled) => {
                write!(f, "{}: settled {} after the heal, not within {within}", record.name, span(settled))?;
            }
            (outcome, _) => {
                let reason = record.outcome_reason.as_deref().unwrap_or("it is not decided yet");
                let outcome = match outcome {
                    None => "undecided",
                    Some(Outcome::Recovered) => "recovered",
                    Some(Outcome::NotRecovered) => "not recovered",
                    Some(Outcome::Censored) => "censored",
                    Some(Outcome::Unknown) => "unknown",
                    Some(Outcome::HarnessFailed) => "harness failed",
                };
                write!(f, "{}: {outcome}, not settled within {within}: {reason}", record.name)?;
            }
        }
        let phases = &record.phases;
        write!(
            f,
            "\n  phases: silence {} · reconnect {} · return {} · relapse {}",
            span(phases.silence_ns),
            span(phases.reconnect_ns),
            span(phases.return_ns),
            span(phases.relapse_ns)
        )?;
        for link in &record.links {
            let dropped =
                link.dropped_packets.map_or_else(|| "unknown".to_owned(), |dropped| dropped.to_string());
            write!(f, "\n  {}→{}: packets dropped: {dropped}", link.src, link.dst)?;
        }
        for endpoint in &record.endpoints {
            let heal = record.heal.map(|heal| heal.begin_ns);
            let after = |at: Option<injector_core::clock::MonoNs>| {
                span(at.zip(heal).map(|(at, heal)| at.0.saturating_sub(heal.0)))
            };
            let (ready, settled) = (after(endpoint.ready_ns), after(endpoint.settled_ns));
            write!(f, "\n  {}: ready {ready}, settled {settled} after the heal", endpoint.name)?;
            write!(f, ", {} of {} probes failed", endpoint.probes_failed, endpoint.probes_sent)?;
        }
        Ok(())
    }
}
