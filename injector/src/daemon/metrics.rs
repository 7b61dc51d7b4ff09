//! The daemon's counts for `GET /metrics`, and a reading of them.
//!
//! A reading asks no thread for anything, so that a frequent reader delays no heal.

use std::time::{Duration, Instant};

use injector_common::record::counter;

use super::state::State;
use crate::datapath::CommonStamps;
use injector_core::api::{Healed, HealedBy, Stamped};
use injector_core::clock::MonoNs;
use injector_core::config::Role;
use injector_core::ledger::Life;
use injector_core::metrics::{Drops, EndpointHealth, OpenPartition, Reading, Toggle, ToggledBy};
use injector_core::sample::EndpointId;

/// How long a reading may count what the links of many partitions dropped.
const COUNTING: Duration = Duration::from_millis(50);

impl State {
    /// The metrics as they are now.
    pub(super) fn reading(&mut self) -> Reading {
        let partitions = self.open_partitions();
        let sum = |of: fn(&OpenPartition) -> Option<u64>| partitions.iter().filter_map(of).sum();
        self.history.dropping(Drops {
            packets: sum(|partition| partition.totals.dropped_packets),
            bytes: sum(|partition| partition.totals.dropped_bytes),
        });
        self.history.lost(self.interfaces.take_losses());
        let counters = self.counters().unwrap_or_default();
        Reading {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: injector_common::ABI_VERSION,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            config_number: self.config_number,
            is_config_refused: self.refused_config.is_some(),
            partitions,
            endpoints: self.endpoint_health(),
            interfaces: self.interfaces.hooks_in_force(),
            lost_events: self.lost_stamps(),
            lost_log_lines: self.log.lost(),
            counters: counter::NAMES.into_iter().zip(counters).collect(),
            history: self.history.clone(),
        }
    }

    fn open_partitions(&mut self) -> Vec<OpenPartition> {
        let end = Instant::now() + COUNTING;
        let open = self.ledger.iter().map(|partition| &partition.life).filter(|life| life.is_open());
        let open: Vec<u32> = open.map(|life| life.generation).collect();
        let mut common = CommonStamps::default();
        open.into_iter()
            .map(|generation| {
                let totals = self.totals(generation, end, &mut common);
                let Life { name, state, .. } = &self.partition(generation).life;
                OpenPartition { name: name.clone(), generation, state: *state, totals }
            })
            .collect()
    }

    fn endpoint_health(&self) -> Vec<EndpointHealth> {
        let endpoints = self.config.endpoints.iter().enumerate();
        let health = endpoints.map(|(at, endpoint)| EndpointHealth {
            name: endpoint.name.clone(),
            peer: endpoint.peer.map(|peer| self.config.names.name(peer).to_owned()),
            required: endpoint.role == Role::Required,
            healthy: self.healthy_now(EndpointId(at)),
        });
        health.collect()
    }

    /// Counts a cut, and how late it is if a request made it take effect at once.
    pub(super) fn count_cut(&mut self, generation: u32, effective: Stamped) {
        if let Some(partition) = self.ledger.get(generation) {
            self.history.cut(&partition.experiment.request.shape);
        }
        // A cut that was set ahead is exact.
        if effective.begin_ns != effective.end_ns {
            self.count_lateness(Toggle::Cut, self.sent_at, effective.end_ns);
        }
    }

    /// Counts the heal of what was cut, and how late it is.
    pub(super) fn count_heal(&mut self, healed: &Healed) {
        if self.partition(healed.generation).life.cut.is_none() {
            return;
        }
        self.history.healed(healed.healed_by);
        match healed.healed_by {
            HealedBy::Request => self.count_lateness(Toggle::Heal, self.sent_at, healed.at.end_ns),
            HealedBy::Deadline => {
                let late = MonoNs::now().saturating_since(healed.at.end_ns);
                self.history.toggled(Toggle::Heal, ToggledBy::Clock, late);
            }
            HealedBy::Lease | HealedBy::Shutdown | HealedBy::Disconnect => {}
        }
    }

    fn count_lateness(&mut self, toggle: Toggle, sent: Option<MonoNs>, done: MonoNs) {
        if let Some(sent) = sent {
            self.history.toggled(toggle, ToggledBy::Request, done.saturating_since(sent));
        }
    }
}
