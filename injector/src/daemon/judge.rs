//! Gathers the evidence of a partition from the daemon's state, and makes records, views and events of it.

use std::time::{Duration, Instant};

use injector_common::record::{LinkStamps, counter};

use super::attachment::LinkCoverage;
use super::partition::{Experiment, Partition, Pressures, named};
use super::state::State;
use injector_core::api::{
    Coverage, CoverageState, EndpointView, EventKind, First, LinkRecord, PartitionState, PeerView,
    RecoveryRecord, ShapePair, Status, Uncovered,
};
use injector_core::clock::MonoNs;
use injector_core::config::{self, Role};
use injector_core::ledger::Life;
use injector_core::measure::{self, EndpointEvidence, Evidence, HarnessFailure, STARVED_PRESSURE};
use injector_core::model::{Link, PeerId, PeerName, Protocol, Scope};
use injector_core::sample::EndpointId;

/// The stamps by link, in the links' order.
type LinksStamped = Vec<(Link, LinkStamps)>;

impl State {
    /// The record of a partition from the evidence so far.
    pub(super) fn record(&self, partition: &Partition) -> RecoveryRecord {
        let Partition { life, experiment } = partition;
        if let Some(record) = &experiment.record {
            return (**record).clone();
        }
        let (stamps, responses, unread) = self.stamped_so_far(partition);
        let now_pressure = Pressures::read();
        let share = |now: Option<measure::host::Pressure>, then: Option<measure::host::Pressure>| {
            now.zip(then).and_then(|(now, then)| now.share_since(then))
        };
        let known = unread.is_none().then_some(&stamps[..]);
        let mut links = self.link_records(partition, known);
        let mut warnings = experiment.warnings.clone();
        warnings.extend(self.note_strangers(partition, &mut links));
        let mut record = measure::record(&Evidence {
            name: life.name.clone(),
            generation: life.generation,
            clock: Some(self.clock.clone()),
            trial: experiment.request.trial,
            shape: shape_pair(experiment),
            traffic: Some(experiment.request.traffic.clone()),
            seed: experiment.seed,
            ready: self.config.ready,
            deadline: experiment.deadline,
            hold: experiment.request.for_,
            cut: life.cut,
            heal: life.heal,
            healed_by: life.healed_by,
            links,
            endpoints: self.endpoint_evidence(partition, &responses),
            overlaps: self.ledger.overlaps(life),
            closed_by: life.closed_by.clone(),
            broken: life.broken.clone().or(unread),
            warnings,
            is_strict: experiment.request.verdict.strict,
            lost_events: self.lost_in(partition),
            cpu_pressure: share(now_pressure.cpu, experiment.pressure.cpu),
            io_pressure: share(now_pressure.io, experiment.pressure.io),
            starved_pressure: STARVED_PRESSURE,
            now: MonoNs::now(),
        });
        if !self.is_looked_through(partition) {
            (record.is_final, record.outcome) = (false, None);
        }
        record
    }

    /// Events lost since a partition's cut; `None` if that can't be read.
    fn lost_in(&self, partition: &Partition) -> Option<u64> {
        if partition.life.cut.is_none() {
            return Some(0);
        }
        Some(self.lost_stamps()?.saturating_sub(partition.experiment.lost_before?))
    }

    /// The evidence about each endpoint during a partition, with the responses that the programs have stamped
    /// by wire ID.
    fn endpoint_evidence(
        &self,
        partition: &Partition,
        responses: &[(u32, u64)],
    ) -> Vec<EndpointEvidence<'_>> {
        let experiment = &partition.experiment;
        let evidence = |(index, endpoint): (usize, &config::Endpoint)| EndpointEvidence {
            name: endpoint.name.clone(),
            peer: endpoint.peer.map(|peer| self.config.names.name(peer).to_owned()),
            address: endpoint.destination(endpoint.peer.map(|peer| self.config.names.name(peer))),
            required: self.required(index, &experiment.request),
            interval: endpoint.probe.options.interval,
            timeout: endpoint.probe.options.timeout,
            is_unseen: self.is_unseen(index, partition),
            served_within: endpoint.probe.options.timeout,
            first_response: self.wire_ids.get(&EndpointId(index)).and_then(|id| {
                let found = responses.iter().find(|(endpoint, _)| endpoint == id)?;
                MonoNs::stamped(found.1)
            }),
            samples: self.samples.since(EndpointId(index), experiment.samples_from[index]),
        };
        self.config.endpoints.iter().enumerate().map(evidence).collect()
    }

    /// Whether an endpoint's probes come from a peer, or from the world, on a link that the partition cuts for them. Of a command it
    /// is known from which peer's namespace it starts, and not which port it asks: a scope with ports is taken for other traffic.
    fn is_unseen(&self, index: usize, partition: &Partition) -> bool {
        let endpoint = &self.config.endpoints[index];
        let samples = self.samples.since(EndpointId(index), partition.experiment.samples_from[index]);
        let name = endpoint.peer.map(|peer| self.config.names.name(peer));
        let destination = endpoint.destination(name);
        let Some(probed) = destination.and_then(|address| self.peer_at(address)).or(endpoint.peer) else {
            return false;
        };
        let address = samples.iter().find_map(|sample| sample.source);
        let resident = self.interfaces.resident(endpoint.netns.as_ref()).filter(|peer| !self.is_local(*peer));
        let at_address = || address.map(|address| self.peer_at(address).unwrap_or(PeerId::WORLD));
        let Some(source) = resident.or_else(at_address) else { return false };
        let way = [Link { src: source, dst: probed }, Link { src: probed, dst: source }];
        let is_spared = self.config.protect.iter().any(|protect| match protect {
            config::Protect::Address(own) => [address, destination].contains(&Some(*own)),
            config::Protect::Scope(scope) => has_probes(scope, endpoint.port()),
        });
        let scopes = &partition.experiment.request.traffic.scopes;
        let is_cut = scopes.is_empty() || scopes.iter().any(|scope| has_probes(scope, endpoint.port()));
        is_cut && !is_spared && way.iter().any(|link| partition.life.links.binary_search(link).is_ok())
    }

    /// The stamps of the programs for a partition, and why they are unknown if a map can't be read: no stamp
    /// is not the same as an unread one.
    fn stamped_so_far(
        &self,
        partition: &Partition,
    ) -> (LinksStamped, Vec<(u32, u64)>, Option<HarnessFailure>) {
        let Some(slot) = partition.life.slot else { return (Vec::new(), Vec::new(), None) };
        let stamps = self.kernel.link_stamps(slot, partition.life.generation, &partition.life.links);
        let responses = self.kernel.responses(slot, partition.life.generation);
        match (stamps, responses) {
            (Ok(stamps), Ok(responses)) => (stamps, responses, None),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "stamps could not be read");
                (Vec::new(), Vec::new(), Some(HarnessFailure::StampLost(error.to_string())))
            }
        }
    }

    /// The links, with what the programs have stamped, if that can be read.
    fn link_records(&self, partition: &Partition, stamps: Option<&[(Link, LinkStamps)]>) -> Vec<LinkRecord> {
        let links = &partition.life.links;
        let coverage = partition.life.cut.map(|cut| {
            let until = partition.life.heal.map(|heal| heal.end_ns);
            let names = &self.config.names;
            self.interfaces.coverage_of(
                names,
                links,
                partition.experiment.cut_links(&partition.life),
                cut.begin_ns,
                until,
            )
        });
        let mut bypassed = partition.life.cut.map_or_else(Vec::new, |cut| {
            let until = partition.life.heal.map(|heal| heal.end_ns);
            self.interfaces.bypassed(
                links,
                partition.experiment.cut_links(&partition.life),
                cut.begin_ns,
                until,
            )
        });
        let mut uncovered =
            partition.life.cut.map_or_else(Vec::new, |cut| self.interfaces.uncovered(links, cut.begin_ns));
        let unread = partition.life.cut.and(partition.life.heal).map(|heal| {
            let unread = (heal.end_ns, &partition.experiment.unread_hooks);
            self.interfaces.unread(links, partition.experiment.cut_links(&partition.life), unread)
        });
        // From when another cut ended the watch, packets are of its experiment.
        let closed = partition.life.closed_by.as_ref().map(|closed| closed.at);
        let is_own = |stamp: &MonoNs| closed.is_none_or(|closed| *stamp <= closed);
        let within = |link: LinkRecord| LinkRecord {
            first_packet_ns: link.first_packet_ns.filter(is_own),
            first_syn_ns: link.first_syn_ns.filter(is_own),
            first_synack_ns: link.first_synack_ns.filter(is_own),
            first_data_ns: link.first_data_ns.filter(is_own),
            first_exchange_ns: link.first_exchange_ns.filter(is_own),
            ..link
        };
        let crossed = partition.experiment.witness.crossed();
        let carried = partition.experiment.witness.carried();
        links
            .iter()
            .enumerate()
            .map(|(at, link)| {
                let coverage = coverage.as_ref().map(|coverage| &coverage[at]);
                let left_out = partition.experiment.left_out.contains(link);
                LinkRecord {
                    crossed_bytes: crossed.as_ref().map(|bytes| bytes.get(link).copied().unwrap_or(0)),
                    crossed_flows: carried.as_ref().map(|flows| flows.get(link).copied().unwrap_or(0)),
                    check: partition.experiment.check.as_ref().map(|check| {
                        let heal = partition.life.heal.map(|heal| heal.begin_ns);
                        check.recorded(*link, heal, &self.config.names)
                    }),
                    still_cut_by: partition.life.still_cut.get(link).cloned().unwrap_or_default(),
                    tcp: partition.experiment.sockets.get(link).cloned(),
                    uncovered: uncovered.get_mut(at).map(std::mem::take).map_or_else(Vec::new, |known| {
                        let seen = coverage.filter(|_| !left_out).map(|coverage| &coverage.uncovered[..]);
                        with_seen(known, seen.unwrap_or_default())
                    }),
                    coverage: coverage.map(recorded_coverage),
                    left_out,
                    bypassed: bypassed.get_mut(at).map(std::mem::take).unwrap_or_default(),
                    hooks_unread: !left_out && unread.as_ref().is_some_and(|unread| unread[at]),
                    ..within(self.stamped_record(*link, stamps))
                }
            })
            .collect()
    }

    /// The record of a link as far as the programs have stamped it, if that can be read.
    fn stamped_record(&self, link: Link, stamps: Option<&[(Link, LinkStamps)]>) -> LinkRecord {
        // A count that can't be read is not zero.
        let count = |count: u64| stamps.is_some().then_some(count);
        let found = stamps.and_then(|stamps| {
            let at = stamps.binary_search_by_key(&link, |(link, _)| *link).ok()?;
            Some(stamps[at].1)
        });
        let stamps = found.unwrap_or_default();
        let named = named(&self.config.names, link);
        LinkRecord {
            src: named.src,
            dst: named.dst,
            dropped_packets: count(stamps.dropped_packets),
            dropped_bytes: count(stamps.dropped_bytes),
            first_drop_ns: MonoNs::stamped(stamps.first_drop),
            last_drop_ns: MonoNs::stamped(stamps.last_drop),
            first_packet_ns: MonoNs::stamped(stamps.first_packet),
            first_syn_ns: MonoNs::stamped(stamps.first_syn),
            first_synack_ns: MonoNs::stamped(stamps.first_synack),
            first_data_ns: MonoNs::stamped(stamps.first_data),
            first_exchange_ns: MonoNs::stamped(stamps.first_exchange),
            group_packets: count(stamps.group_packets),
            leaked_packets: count(stamps.leaked_packets),
            first_leak_ns: MonoNs::stamped(stamps.first_leak),
            late_packets: count(stamps.late_packets),
            ..LinkRecord::default()
        }
    }

    /// Judges the healed partitions in turn, as many as fit into a time and one at least, and closes those whose record is final.
    pub(super) fn judge_watched(&mut self, time: Duration) {
        let begun = Instant::now();
        self.note_hooks_read();
        let watched = self.ledger.iter().filter(|partition| partition.life.state == PartitionState::Watched);
        let mut turns: Vec<u32> = watched.map(|partition| partition.life.generation).collect();
        let next = turns.partition_point(|generation| *generation <= self.judged);
        turns.rotate_left(next);
        let mut finals = Vec::new();
        for generation in turns {
            let record = self.record(self.partition(generation));
            if record.is_final {
                finals.push((generation, record));
            }
            self.judged = generation;
            if begun.elapsed() >= time {
                break;
            }
        }
        self.close(finals);
    }

    /// Announces first packets that the programs have stamped since the last announcement.
    pub fn announce_firsts(&mut self, generation: u32) {
        let Some(Partition { life, .. }) = self.ledger.get(generation) else { return };
        let Some(slot) = life.slot else { return };
        let name = life.name.clone();
        let mut firsts = Vec::new();
        for (link, stamps) in self.stamps(slot, life, &life.links).unwrap_or_default() {
            let subject = named(&self.config.names, link).to_string();
            for (what, stamp) in [
                (First::Drop, stamps.first_drop),
                (First::Packet, stamps.first_packet),
                (First::Syn, stamps.first_syn),
                (First::Synack, stamps.first_synack),
                (First::Data, stamps.first_data),
            ] {
                firsts.push((subject.clone(), what, stamp));
            }
        }
        for (wire, stamp) in self.kernel.responses(slot, generation).unwrap_or_default() {
            let endpoints = self.wire_ids.iter().filter(|(_, id)| **id == wire);
            for (endpoint, _) in endpoints {
                firsts.push((self.config.endpoints[endpoint.0].name.clone(), First::Response, stamp));
            }
        }
        firsts.sort_by_key(|(.., stamp)| *stamp);
        for (subject, what, stamp) in firsts {
            let Some(stamp_ns) = MonoNs::stamped(stamp) else { continue };
            let key = (subject.clone(), what);
            if !self.experiment(generation).announced.insert(key) {
                continue;
            }
            let name = name.clone();
            self.event(MonoNs::now(), EventKind::First { name, generation, what, subject, stamp_ns });
        }
    }

    pub(super) async fn status(&mut self) -> Status {
        let counters = self.counters().unwrap_or_default();
        let (mut attachments, is_lost) = self.interfaces.views().await;
        if is_lost {
            // Told and attached again now, not at the next cut.
            for (interface, what) in self.interfaces.read_hooks_again(&self.config).await {
                self.event(MonoNs::now(), EventKind::Interface { interface, what });
            }
            self.scan_local_peers();
            (attachments, _) = self.interfaces.views().await;
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: injector_common::ABI_VERSION,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            pid: std::process::id(),
            config_number: self.config_number,
            refused_config: self.refused_config.clone(),
            now_ns: MonoNs::now(),
            clock: self.clock.clone(),
            attachments,
            peers: self.peers(),
            coverage: self.interfaces.coverage_summary(&self.config),
            partitions: self.summaries(Life::is_open),
            endpoints: self
                .config
                .endpoints
                .iter()
                .enumerate()
                .map(|(index, endpoint)| EndpointView {
                    name: endpoint.name.clone(),
                    peer: endpoint.peer.map(|peer| self.config.names.name(peer).to_owned()),
                    address: endpoint.destination(endpoint.peer.map(|peer| self.config.names.name(peer))),
                    required: endpoint.role == Role::Required,
                    healthy: self.healthy_now(EndpointId(index)),
                    last_error: self.last_error[index].clone(),
                    probe: super::rules::probe(&self.config, endpoint),
                })
                .collect(),
            rules: super::rules::of(&self.config),
            lost_events: self.lost_stamps(),
            lost_log_lines: self.log.lost(),
            counters: counter::NAMES.iter().map(|name| (*name).to_owned()).zip(counters).collect(),
        }
    }

    fn peers(&self) -> std::collections::BTreeMap<PeerName, PeerView> {
        let closed = self.interfaces.closed();
        self.config
            .peers
            .iter()
            .map(|peer| {
                let view = self.interfaces.peer_view(&self.config, peer.id, &closed);
                (PeerName(self.config.names.name(peer.id).to_owned()), view)
            })
            .collect()
    }
}

/// The shape of a partition as it was asked for and as it was resolved.
fn shape_pair(experiment: &Experiment) -> ShapePair {
    ShapePair {
        asked: experiment.request.shape.clone(),
        resolved: Some(experiment.resolved.clone()),
        direction: experiment.request.traffic.direction,
        roles: experiment.roles.clone(),
    }
}

/// Whether a scope has the packets of a probe that asks this port.
fn has_probes(scope: &Scope, port: Option<u16>) -> bool {
    let is_within = |(first, last): (u16, u16)| port.is_some_and(|port| (first..=last).contains(&port));
    matches!(scope.protocol, Protocol::Tcp | Protocol::Number(6)) && scope.ports.is_none_or(is_within)
}

/// A link's coverage as the record has it: a covered link gives a reason only if its users are to know it.
fn recorded_coverage(coverage: &LinkCoverage) -> Coverage {
    let is_told = coverage.state != CoverageState::Covered || coverage.is_told;
    Coverage {
        state: coverage.state,
        reason: is_told.then(|| coverage.reason.clone()),
        is_translated: coverage.is_translated,
    }
}

/// Adds, to the times that are known, those others that were seen.
fn with_seen(mut known: Vec<Uncovered>, seen: &[Uncovered]) -> Vec<Uncovered> {
    let is_before = |a: &Uncovered, b: &Uncovered| a.time.is_before(&b.time);
    let others: Vec<Uncovered> = seen
        .iter()
        .filter(|time| known.iter().all(|known| is_before(known, time) || is_before(time, known)))
        .cloned()
        .collect();
    known.extend(others);
    known.sort_by_key(|known| known.time.from_ns);
    known
}
