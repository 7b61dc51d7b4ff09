//! The record of a trial that cut nothing, because a role in its shape could not be resolved.

use super::{EndpointEvidence, Evidence, HarnessFailure, STARVED_PRESSURE, record};
use crate::api::{PartitionRequest, RecoveryRecord, ShapePair, Status};
use crate::campaign::is_named;
use crate::topology::RolePeers;

/// A final record of the outcome `harness_failed`. The daemon has none: it refused the request.
pub fn unresolved(
    status: &Status,
    name: String,
    request: &PartitionRequest,
    reason: String,
) -> RecoveryRecord {
    let rules = &status.rules;
    let is_advisory = |endpoint: &str| request.verdict.advisory.iter().any(|name| is_named(endpoint, name));
    let endpoints = status.endpoints.iter().map(|endpoint| EndpointEvidence {
        name: endpoint.name.clone(),
        peer: endpoint.peer.clone(),
        address: endpoint.address,
        required: endpoint.required && !is_advisory(&endpoint.name),
        interval: endpoint.probe.options.interval,
        timeout: endpoint.probe.options.timeout,
        is_unseen: false,
        served_within: endpoint.probe.options.timeout,
        first_response: None,
        samples: &[],
    });
    record(&Evidence {
        name,
        generation: 0,
        clock: Some(status.clock.clone()),
        trial: request.trial,
        shape: ShapePair {
            asked: request.shape.clone(),
            resolved: None,
            direction: request.traffic.direction,
            roles: RolePeers::new(),
        },
        traffic: Some(request.traffic.clone()),
        seed: None,
        ready: rules.ready,
        deadline: request.deadline.unwrap_or(rules.deadline),
        hold: request.for_,
        cut: None,
        heal: None,
        healed_by: None,
        links: Vec::new(),
        endpoints: endpoints.collect(),
        overlaps: Vec::new(),
        closed_by: None,
        broken: Some(HarnessFailure::Unresolved(reason)),
        warnings: Vec::new(),
        is_strict: request.verdict.strict,
        lost_events: Some(0),
        cpu_pressure: None,
        io_pressure: None,
        starved_pressure: STARVED_PRESSURE,
        now: status.now_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Outcome, Trial};
    use crate::model::Shape;

    #[test]
    fn it_is_final_and_a_failure_of_the_harness_with_its_reason() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "version": "1", "abi": 1, "kernel": "6", "pid": 1, "config_number": 1, "now_ns": 5,
            "clock": { "host": "lab", "boot": "b" }, "attachments": [], "peers": {}, "coverage": null,
            "partitions": [], "endpoints": [{
                "name": "ingress@n1", "peer": "n1", "required": true, "healthy": true, "last_error": null,
                "probe": { "stimulus": "tcp", "interval": "10ms", "timeout": "1s", "connection": "fresh" }
            }],
            "rules": { "consecutive": 5, "observe": "12s", "observe_max": "60s", "tolerate": "0s",
                "deadline": "20s", "max_for": "10m" },
            "lost_events": 0, "lost_log_lines": 0, "counters": {}
        }))
        .unwrap();
        let request = PartitionRequest {
            trial: Some(Trial { index: 7, attempt: 2 }),
            ..PartitionRequest::new(Shape::Isolate(vec!["@leader".into()]))
        };
        let record =
            unresolved(&status, "p".to_owned(), &request, "role @leader can't be resolved: x".to_owned());
        assert!(record.is_final && !record.proved);
        assert_eq!(record.outcome, Some(Outcome::HarnessFailed));
        assert_eq!(record.outcome_reason.as_deref(), Some("role @leader can't be resolved: x"));
        assert_eq!((record.trial, record.attempt, record.deadline_ns), (Some(7), Some(2), 20_000_000_000));
        assert_eq!((record.shape.resolved.as_ref(), record.cut, record.heal), (None, None, None));
        assert_eq!(record.shape.words(), "isolate @leader (not resolved)");
        let endpoint = &record.endpoints[0];
        assert_eq!((endpoint.healthy_before, endpoint.ready_ns, endpoint.probes_sent), (None, None, 0));
    }
}
