//! One endpoint: what its probes say before the cut, during it, and after the heal.

use std::time::Duration;

use super::{EndpointEvidence, PENDING_SLACK};
use crate::api::types::Stamped;
use crate::clock::MonoNs;
use crate::config::Ready;
use crate::probe::Sample;

/// A time in which an endpoint was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The answer to the first probe of K successes.
    pub ready: MonoNs,
    /// When the probe was due that ended it.
    pub end: Option<MonoNs>,
}

/// What an endpoint's probes after the heal say, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Track {
    /// In order; only the last one may be open.
    pub stretches: Vec<Stretch>,
    /// The earliest instant at which a further stretch could begin; `None` while the last one is open.
    pub hope: Option<MonoNs>,
    /// Up to here the stretches are certain: later probes are unknown, or their failures may yet be tolerated.
    pub certain: MonoNs,
    /// All probes that were due before this are known.
    pub known: MonoNs,
}

impl Track {
    /// Judges the probes due from `from` (the heal) on whose results came until `horizon`.
    pub fn new(endpoint: &EndpointEvidence<'_>, rules: &Ready, from: MonoNs, horizon: MonoNs) -> Self {
        let mut samples: Vec<&Sample> = endpoint
            .samples
            .iter()
            .filter(|sample| sample.scheduled >= from && sample.done <= horizon)
            .collect();
        samples.sort_by_key(|sample| sample.scheduled);
        let known = known(&samples, endpoint, from, horizon);
        let mut walk = Walk::new(rules, endpoint.interval.0);
        for sample in samples.iter().take_while(|sample| sample.scheduled < known) {
            walk.step(sample);
        }
        let is_open = walk.stretches.last().is_some_and(|stretch| stretch.end.is_none());
        // A run may still break, and the next one's first answer come before this one's did.
        let next = if walk.run > 0 { walk.run_begin.min(known) } else { known };
        Self {
            hope: (!is_open).then_some(next),
            certain: walk.doubt.unwrap_or(known),
            stretches: walk.stretches,
            known,
        }
    }

    /// The stretch that begins by `at` and still lasts then.
    pub fn stretch_at(&self, at: MonoNs) -> Option<Stretch> {
        self.stretches
            .iter()
            .copied()
            .find(|stretch| stretch.ready <= at && stretch.end.is_none_or(|end| end > at))
    }

    /// When it was first ready, once no probe due earlier can deny it.
    pub fn ready(&self) -> Option<MonoNs> {
        let first = self.stretches.first()?;
        (first.end.is_some() || self.certain >= first.ready).then_some(first.ready)
    }

    /// How often readiness was lost before `until`.
    pub fn relapses(&self, until: MonoNs) -> u64 {
        self.stretches.iter().filter(|stretch| stretch.end.is_some_and(|end| end < until)).count() as u64
    }
}

/// The instant before which every probe's result is there. The grid has exactly one tick in each interval.
fn known(samples: &[&Sample], endpoint: &EndpointEvidence<'_>, from: MonoNs, horizon: MonoNs) -> MonoNs {
    let interval = endpoint.interval.0.max(Duration::from_nanos(1));
    let mut known = from.max(horizon - endpoint.timeout.0 - PENDING_SLACK);
    let mut latest_next = known + interval - Duration::from_nanos(1);
    for sample in samples {
        if sample.scheduled > latest_next {
            break;
        }
        let next = sample.scheduled + interval;
        if next > known {
            known = next;
            latest_next = next;
        }
    }
    known
}

/// The walk through one endpoint's probes in scheduled order.
struct Walk {
    consecutive: u32,
    tolerate: Duration,
    interval: Duration,
    stretches: Vec<Stretch>,
    /// Successes in a row so far.
    run: u32,
    /// The answer to the first of them.
    run_begin: MonoNs,
    /// The failure in an open stretch that may yet be tolerated.
    doubt: Option<MonoNs>,
}

impl Walk {
    fn new(rules: &Ready, interval: Duration) -> Self {
        Self {
            consecutive: rules.consecutive.max(1),
            tolerate: rules.tolerate.0,
            interval,
            stretches: Vec::new(),
            run: 0,
            run_begin: MonoNs(0),
            doubt: None,
        }
    }

    fn step(&mut self, sample: &Sample) {
        if sample.error.is_some() {
            self.run = 0;
            let is_open = self.stretches.last().is_some_and(|stretch| stretch.end.is_none());
            if is_open {
                let failed = *self.doubt.get_or_insert(sample.scheduled);
                // The next success is due an interval later at the earliest.
                if sample.scheduled + self.interval > failed + self.tolerate {
                    self.end(failed);
                }
            }
            return;
        }
        if self.run == 0 {
            self.run_begin = sample.done;
        }
        self.run = self.run.saturating_add(1);
        if let Some(failed) = self.doubt
            && self.run_begin > failed + self.tolerate
        {
            self.end(failed);
        }
        if self.run == self.consecutive {
            match self.stretches.last() {
                Some(stretch) if stretch.end.is_none() => self.doubt = None,
                _ => self.stretches.push(Stretch { ready: self.run_begin, end: None }),
            }
        }
    }

    fn end(&mut self, failed: MonoNs) {
        self.doubt = None;
        if let Some(stretch) = self.stretches.last_mut() {
            stretch.end = Some(failed);
            // A slow first answer came after the run was broken: there was no ready instant.
            if stretch.ready >= failed {
                self.stretches.pop();
            }
        }
    }
}

/// What an endpoint's probes say of the time before the heal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Before {
    /// Whether the last K probes before the cut succeeded; `None` if there were fewer.
    pub healthy: Option<bool>,
    /// The share of failed probes before the cut; `None` without any.
    pub failure_rate: Option<f64>,
    /// Whether probes failed during the cut, or hung from then past the heal for more than K intervals; `None` if
    /// none ended then.
    pub impaired: Option<bool>,
}

impl Before {
    /// Probes under way when the cut began tell of neither side; during the cut, those count that were due in it.
    pub fn new(
        endpoint: &EndpointEvidence<'_>,
        consecutive: u32,
        cut: Option<Stamped>,
        heal_begin: Option<MonoNs>,
        horizon: MonoNs,
    ) -> Self {
        let Some(cut) = cut else {
            return Self { healthy: None, failure_rate: None, impaired: None };
        };
        let mut before: Vec<&Sample> =
            endpoint.samples.iter().filter(|sample| sample.done <= cut.begin_ns).collect();
        before.sort_by_key(|sample| sample.scheduled);
        let failed = before.iter().filter(|sample| sample.error.is_some()).count();
        let last = before.iter().rev().take(consecutive as usize);
        let healthy = last.clone().all(|sample| sample.error.is_none());
        let heal_begin = heal_begin.unwrap_or(horizon);
        let mut during = endpoint
            .samples
            .iter()
            .filter(|sample| {
                sample.scheduled >= cut.end_ns && sample.scheduled < heal_begin && sample.done <= horizon
            })
            .peekable();
        Self {
            healthy: (last.len() == consecutive as usize).then_some(healthy),
            failure_rate: (!before.is_empty()).then(|| failed as f64 / before.len() as f64),
            impaired: during.peek().is_some().then(|| {
                during.any(|sample| {
                    // A probe that was held through the heal succeeds in the end, and yet nothing was served.
                    let was_held = sample.done > heal_begin
                        && sample.done.saturating_since(sample.scheduled) > endpoint.interval.0 * consecutive;
                    sample.error.is_some() || was_held
                })
            }),
        }
    }
}
