//! One endpoint: what its probes say before the cut, during it, and after the heal.

use std::time::Duration;

use super::outage::{Judged, Rules, Scope, Window, Windows, outage, windows};
use super::{EndpointEvidence, PENDING_SLACK};
use crate::api::{Outage, Stamped};
use crate::clock::{MonoNs, TimeRange};
use crate::model::Ready;
use crate::sample::{self, Sample, healthy};

/// A time in which an endpoint was in service after the heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The heal, or the end of the window before.
    pub ready: MonoNs,
    /// When the probe was due that ended it.
    pub end: Option<MonoNs>,
}

/// The findings of an endpoint's probes since the cut, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Track {
    /// The stretches in order; only the last one may be open.
    pub stretches: Vec<Stretch>,
    /// The earliest instant at which a further stretch could begin; `None` while the last one is open.
    pub hope: Option<MonoNs>,
    /// Up to here the stretches are certain: later probes are unknown, or their failures may yet be tolerated.
    pub certain: MonoNs,
    /// All probes that were due before this are known.
    pub known: MonoNs,
    /// The windows without service that the stretches lie between.
    pub windows: Windows,
    /// The probes that the windows are made of, those known and due from the cut on, in the order of their schedule.
    probes: Vec<Judged>,
}

impl Track {
    /// Judges the probes from `cut` on whose results came until `horizon`. Of an endpoint
    /// that is unseen, and of one without a cut, probes count from the heal on.
    pub fn new(
        endpoint: &EndpointEvidence<'_>,
        rules: &Ready,
        cut: Option<MonoNs>,
        heal: MonoNs,
        is_in_service: bool,
        horizon: MonoNs,
    ) -> Self {
        let from = cut.filter(|_| !endpoint.is_unseen).unwrap_or(heal);
        let mut samples: Vec<&Sample> = endpoint
            .samples
            .iter()
            .filter(|sample| sample.done <= horizon && (sample.scheduled >= from || sample.done > from))
            .collect();
        samples.sort_by_key(|sample| sample.scheduled);
        let known = known(&samples, endpoint, from, horizon);
        let probes: Vec<Judged> = samples
            .iter()
            .filter(|sample| sample.scheduled < known)
            // A probe that was under way at the heal was sent into the cut of an unseen endpoint.
            .filter(|sample| !endpoint.is_unseen || sample.scheduled >= heal)
            // A probe that was never sent says nothing of a cut; after the heal it spoils the verdict.
            .filter(|sample| !sample.is_unsent() || sample.scheduled >= heal)
            .map(|sample| Judged {
                due: sample.scheduled,
                done: sample.done,
                is_served: sample.failure.is_none(),
            })
            .collect();
        let walked = Rules { consecutive: rules.consecutive.max(1) as usize, tolerate: rules.tolerate.0 };
        let windows = windows(probes.iter().copied(), walked, from, is_in_service, known);
        let stretches = stretches(&windows.windows, heal);
        let is_open = stretches.last().is_some_and(|stretch| stretch.end.is_none());
        Self {
            hope: (!is_open).then(|| windows.hope.unwrap_or(known)),
            certain: windows.certain,
            stretches,
            known,
            windows,
            probes,
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

    /// The outage within `scope`, of an endpoint that was healthy before.
    pub fn outage(&self, endpoint: &EndpointEvidence<'_>, consecutive: u32, scope: &Scope) -> Outage {
        let consecutive = consecutive.max(1) as usize;
        outage(&self.windows, self.probes.iter().copied(), consecutive, endpoint.interval.0, scope)
    }
}

/// The time after the heal that lies outside of windows.
fn stretches(windows: &[Window], heal: MonoNs) -> Vec<Stretch> {
    let mut start = match windows.iter().find(|window| window.covers(heal)) {
        Some(window) => window.back,
        None => Some(heal),
    };
    let mut stretches = Vec::new();
    for window in windows.iter().filter(|window| window.out > heal) {
        if let Some(ready) = start {
            stretches.push(Stretch { ready, end: Some(window.out) });
        }
        start = window.back;
    }
    stretches.extend(start.map(|ready| Stretch { ready, end: None }));
    stretches
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

/// The longest time between two probes that still counts as being watched.
pub(super) fn longest_silence(endpoint: &EndpointEvidence<'_>) -> Duration {
    endpoint.interval.0 + sample::patience(endpoint.interval, endpoint.timeout)
}

/// The first gap in the probes between two instants: no probe that was sent was due in it, or those that were due have no result
/// although their timeout has passed. The prober had ended, or was held up.
pub(super) fn first_gap(
    endpoint: &EndpointEvidence<'_>,
    from: MonoNs,
    until: MonoNs,
    horizon: MonoNs,
) -> Option<TimeRange> {
    let known = until.min(horizon - endpoint.timeout.0 - PENDING_SLACK);
    let longest = longest_silence(endpoint);
    let told = endpoint.samples.iter().filter(|sample| sample.done <= horizon && !sample.is_unsent());
    let mut due: Vec<MonoNs> =
        told.map(|sample| sample.scheduled).filter(|due| (from..known).contains(due)).collect();
    due.push(known);
    due.sort_unstable();
    let mut last = from;
    for due in due {
        if due.saturating_since(last) > longest {
            return Some(TimeRange { from_ns: last, until_ns: Some(due) });
        }
        last = last.max(due);
    }
    None
}

/// The findings of an endpoint's probes before the heal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BeforeHeal {
    /// Whether the last K probes before the cut succeeded; `None` if there were fewer, if one of them was never sent, or if the
    /// last is too old to say anything of the cut's beginning.
    pub healthy: Option<bool>,
    /// The share of failed probes before the cut, of those that were sent; `None` without any.
    pub failure_rate: Option<f64>,
    /// Whether probes failed during the cut, or hung from then past the heal for more than K intervals; `None` if
    /// none ended then.
    pub impaired: Option<bool>,
    /// Whether the probes of the cut have a gap; false before the heal.
    pub has_gaps: bool,
}

impl BeforeHeal {
    /// Probes under way when the cut began count for neither side; during the cut, those count that were due in it. What was
    /// never sent says nothing of the endpoint.
    pub fn new(
        endpoint: &EndpointEvidence<'_>,
        consecutive: u32,
        cut: Option<Stamped>,
        heal_begin: Option<MonoNs>,
        horizon: MonoNs,
    ) -> Self {
        let Some(cut) = cut else {
            return Self { healthy: None, failure_rate: None, impaired: None, has_gaps: false };
        };
        let mut before: Vec<&Sample> =
            endpoint.samples.iter().filter(|sample| sample.done <= cut.begin_ns).collect();
        before.sort_by_key(|sample| sample.scheduled);
        let last: Vec<&Sample> = before.iter().rev().take(consecutive as usize).copied().collect();
        let is_stale = before.last().is_some_and(|last| {
            cut.begin_ns.saturating_since(last.scheduled) > sample::lasts(endpoint.interval, endpoint.timeout)
        });
        let sent = before.iter().filter(|sample| !sample.is_unsent());
        let failed = sent.clone().filter(|sample| sample.failure.is_some()).count();
        let sent = sent.count();
        let is_healed = heal_begin.is_some();
        let heal_begin = heal_begin.unwrap_or(horizon);
        let due = endpoint.samples.iter().filter(|sample| {
            sample.scheduled >= cut.end_ns && sample.scheduled < heal_begin && sample.done <= horizon
        });
        // Before the heal nobody asks, and a long cut has very many probes.
        let has_gaps = is_healed
            && (due.clone().any(Sample::is_unsent)
                || first_gap(endpoint, cut.end_ns, heal_begin, horizon).is_some());
        let mut during = due.filter(|sample| !sample.is_unsent()).peekable();
        Self {
            healthy: healthy(&last, consecutive as usize).filter(|_| !is_stale),
            failure_rate: (sent > 0).then(|| failed as f64 / sent as f64),
            impaired: during.peek().is_some().then(|| {
                during.any(|sample| {
                    // A probe that was held through the heal succeeds in the end, and yet nothing was served.
                    // The time that it waited for this process before it was sent is no part of it.
                    let was_held = sample.done > heal_begin
                        && sample.done.saturating_since(sample.begun) > endpoint.interval.0 * consecutive;
                    sample.failure.is_some() || was_held
                })
            }),
            has_gaps,
        }
    }
}
