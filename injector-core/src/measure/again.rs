//! A record judged again from its stored probes: with a tighter bound, or because it is of an older schema.

use super::phases::{Marks, phases, reconnected};
use super::{Closed, EndpointEvidence, Evidence, HarnessFailure, STARVED_PRESSURE, record};
use crate::api::{Outcome, ProbeView, RECORD_SCHEMA, RecoveryRecord, Trial};
use crate::clock::{MonoNs, Span};
use crate::model::{EndpointProbe, Ready};
use crate::sample::{EndpointId, FailureCode, ProbeFailure, Sample};

/// Judges a record again from all of its probes. An answer counts as served if it came within `served_within` of the
/// instant at which its probe was sent, as while measuring; `None` leaves the timeout as the bound. Where a setting or the heal is missing,
/// the answer is `None`.
///
/// What probes do not say stays as it was recorded: the links, the host, a failure of the harness.
pub fn again(
    old: &RecoveryRecord,
    probes: &[ProbeView],
    ready: &Ready,
    settings: &[EndpointProbe],
    served_within: Option<Span>,
) -> Option<RecoveryRecord> {
    old.heal?;
    let used: Vec<&EndpointProbe> = old
        .endpoints
        .iter()
        .map(|endpoint| settings.iter().find(|probed| probed.endpoint == endpoint.name))
        .collect::<Option<_>>()?;
    let bound = |probed: &EndpointProbe| {
        let timeout = probed.rules.options.timeout;
        served_within.map_or(timeout, |bound| bound.min(timeout))
    };
    let samples: Vec<Vec<Sample>> = used
        .iter()
        .enumerate()
        .map(|(at, probed)| {
            let own = probes.iter().filter(|probe| probe.endpoint == probed.endpoint);
            // A probe's own timeout has been applied to it: an answer that came in time is read a little later.
            let limit = Some(bound(probed)).filter(|limit| *limit < probed.rules.options.timeout);
            own.map(|probe| sample(EndpointId(at), probe, limit)).collect()
        })
        .collect();
    let endpoints =
        old.endpoints.iter().zip(&used).zip(&samples).map(|((endpoint, probed), samples)| EndpointEvidence {
            name: endpoint.name.clone(),
            peer: endpoint.peer.clone(),
            address: endpoint.address,
            required: endpoint.required,
            interval: probed.rules.options.interval,
            timeout: probed.rules.options.timeout,
            is_unseen: endpoint.outage.as_ref().is_some_and(|outage| outage.unseen),
            served_within: bound(probed),
            first_response: endpoint.first_response_ns,
            samples,
        });
    let last = samples.iter().flatten().map(|sample| sample.done).max();
    let failed = old.outcome == Some(Outcome::HarnessFailed);
    let mut judged = record(&Evidence {
        name: old.name.clone(),
        generation: old.generation,
        clock: old.clock.clone(),
        trial: old.trial.map(|index| Trial { index, attempt: old.attempt.unwrap_or(1) }),
        shape: old.shape.clone(),
        traffic: old.traffic.clone(),
        seed: old.seed,
        ready: *ready,
        deadline: Span(std::time::Duration::from_nanos(old.deadline_ns)),
        // The outcome and the warnings say what ended or overlapped a trial.
        hold: None,
        overlaps: Vec::new(),
        cut: old.cut,
        heal: old.heal,
        healed_by: old.healed_by,
        links: old.links.clone(),
        endpoints: endpoints.collect(),
        closed_by: old
            .closed_by
            .clone()
            .zip(old.observed_until_ns)
            .map(|(partition, at)| Closed { partition, at }),
        broken: failed.then(|| HarnessFailure::Other(old.outcome_reason.clone().unwrap_or_default())),
        warnings: old.warnings.clone(),
        is_strict: false,
        lost_events: old.lost_events,
        cpu_pressure: old.host.cpu_pressure,
        io_pressure: old.host.io_pressure,
        starved_pressure: STARVED_PRESSURE,
        now: last.unwrap_or(MonoNs(0)),
    });
    (judged.host, judged.starved) = (old.host.clone(), old.starved);
    judged.proved = old.proved;
    if judged.outcome.is_none() {
        judged.outcome = Some(Outcome::Censored);
        judged.outcome_reason = Some("the stored probes end before the recovery is decided".to_owned());
        for endpoint in &mut judged.endpoints {
            endpoint.outcome.get_or_insert(Outcome::Censored);
        }
    }
    judged.is_final = true;
    Some(judged)
}

fn sample(endpoint: EndpointId, probe: &ProbeView, limit: Option<Span>) -> Sample {
    // Of older records the sending is not known: they can be judged by a bound from the due time alone.
    let begun = probe.begun_ns.unwrap_or(probe.scheduled_ns);
    let mut sample = Sample {
        endpoint,
        scheduled: probe.scheduled_ns,
        begun,
        done: probe.done_ns,
        failure: probe.failure(),
        source: None,
    };
    // The failure is known as soon as the bound is over.
    if let Some(limit) = limit
        && sample.done > begun + limit.0
    {
        let late = || ProbeFailure::new(FailureCode::Late, format!("no answer within {limit}"));
        sample.failure.get_or_insert_with(late);
        sample.done = begun + limit.0;
    }
    sample
}

/// A record of an older schema without its probes: links and phases by the present definitions, outages unknown.
pub fn upgraded(old: &RecoveryRecord) -> RecoveryRecord {
    let links = reconnected(&old.links);
    let phases = old.heal.map(|heal| {
        let at = |ns: Option<u64>| ns.map(|ns| heal.end_ns + std::time::Duration::from_nanos(ns));
        let marks = Marks {
            heal: heal.end_ns,
            ready: at(old.heal_to_ready_ns),
            settled: at(old.heal_to_settled_ns),
            some_out: None,
        };
        phases(&links, &marks)
    });
    RecoveryRecord { schema: RECORD_SCHEMA, links, phases: phases.unwrap_or_default(), ..old.clone() }
}
