//! The probes of a partition for the API. An open one may have hundreds of thousands: the task gives their order, and the probes
//! part by part, so that none of it holds up other commands, and no list of them is whole in memory.

use std::sync::Arc;

use super::partition::{Experiment, Partition};
use super::request::Answer;
use super::state::State;
use crate::server::command::{ProbeKey, ProbeList, ProbesPart};
use injector_core::api::{Code, ProbeView, Problem};
use injector_core::sample::EndpointId;

impl State {
    /// Every probe of an open partition's evidence, in scheduled order, as its record keeps them.
    pub(super) fn probes(&self, partition: &Partition) -> Arc<Vec<ProbeView>> {
        let from = &partition.experiment.samples_from;
        let mut probes: Vec<ProbeView> = (0..self.config.endpoints.len())
            .flat_map(|index| self.samples.since(EndpointId(index), from[index]))
            .map(|sample| ProbeView::new(&self.config.endpoints[sample.endpoint.0].name, sample))
            .collect();
        probes.sort_by_key(|probe| probe.scheduled_ns);
        Arc::new(probes)
    }

    /// The list of the probes of a partition's evidence.
    pub(super) fn probe_list(&self, partition: &Partition) -> ProbeList {
        let Partition { life, experiment } = partition;
        let Experiment { samples_from, record, probes, .. } = experiment;
        if record.is_some() {
            return ProbeList::Closed(Arc::clone(probes));
        }
        let endpoints = 0..self.config.endpoints.len();
        let first: Vec<u64> = endpoints
            .clone()
            .map(|index| self.samples.first_since(EndpointId(index), samples_from[index]))
            .collect();
        let keys = endpoints.flat_map(|index| {
            let samples = self.samples.since(EndpointId(index), samples_from[index]);
            let endpoint = index as u32;
            let key = move |(number, scheduled)| ProbeKey { scheduled, endpoint, number };
            (0..).zip(samples.iter().map(|sample| sample.scheduled)).map(key)
        });
        let config_number = self.config_number;
        ProbeList::Open { generation: life.generation, config_number, first, keys: keys.collect() }
    }

    /// Some of the probes of a [`ProbeList::Open`]; its partition may be closed by now.
    pub(super) fn some_probes(&self, part: &ProbesPart) -> Answer<Vec<ProbeView>> {
        let gone = || Problem::new(Code::UnknownPartition, "its probes are not kept any more");
        // Endpoints may have other numbers.
        if part.config_number != self.config_number {
            return Err(gone());
        }
        let partition = self.ledger.get(part.generation).ok_or_else(gone)?;
        let closed = &partition.experiment.probes;
        let view = |(endpoint, number, scheduled): &(EndpointId, u64, _)| {
            let name = &self.config.endpoints[endpoint.0].name;
            let kept = self.samples.numbered(*endpoint, *number);
            if let Some(sample) = kept.filter(|sample| sample.scheduled == *scheduled) {
                return Ok(ProbeView::new(name, sample));
            }
            let at = closed.partition_point(|probe| probe.scheduled_ns < *scheduled);
            let mut equal = closed[at..].iter().take_while(|probe| probe.scheduled_ns == *scheduled);
            equal.find(|probe| probe.endpoint == *name).cloned().ok_or_else(gone)
        };
        part.wanted.iter().map(view).collect()
    }
}
