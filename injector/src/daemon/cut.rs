//! From a request to a cut: normalise, resolve, prepare, commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::command::{ConnectionId, Step};
use super::partition::{Partition, Pressures, instant, named, stamped};
use super::state::{Answer, State};
use super::strangers::Strangers;
use super::witness::Witness;
use crate::api::types::{
    Code, EventKind, Owner, PartitionRequest, PartitionState, PartitionView, Problem, StartAt, Warning,
    WarningCode,
};
use crate::clock::{MonoNs, WallOffset};
use crate::datapath::{Datapath as _, DatapathError, execute};
use crate::measure::Closed;
use crate::model::{Link, PeerId, Percent, seed};
use crate::plan::{self, Presence, SlotUse};
use crate::topology::{self, TopologyError};

impl State {
    pub(super) async fn apply(
        &mut self,
        name: &str,
        request: PartitionRequest,
        step: Step,
        connection: ConnectionId,
    ) -> Answer<PartitionView> {
        if self.stopping {
            return Err(Problem::new(Code::Stopping, "the daemon is stopping"));
        }
        let request = self.normalised(request)?;
        if step != Step::DryRun
            && let Some(at) = self.known(name, &request)?
        {
            if step == Step::Apply && self.partitions[at].state == PartitionState::Prepared {
                return Err(Problem::new(
                    Code::WrongState,
                    format!("\"{name}\" is prepared, and cuts nothing until it is enabled"),
                )
                .field("name")
                .remedy(format!("POST /v1/partitions/{name}/enable")));
            }
            return Ok(self.view(at));
        }
        let mut partition = self.resolve(name, request, step, connection)?;
        self.keep_here(&mut partition)?;
        let coverage = self.look_at_coverage(&mut partition).await;
        if step == Step::DryRun {
            let links = partition.resolved.links.clone();
            return Ok(partition.view(&self.config.names, self.counters_of(&links, &[])));
        }
        self.admit(&mut partition, &coverage)?;
        let generation = self.prepare(partition)?;
        if step == Step::Apply {
            let at = self.at_generation(generation);
            let start = match self.partitions[at].request.at.map(|at| self.start(at)).transpose() {
                Ok(start) => start,
                Err(problem) => {
                    // It lay ahead when it was asked for, and no longer does.
                    self.discard(at);
                    return Err(problem);
                }
            };
            self.commit(generation, start)?;
        }
        Ok(self.view(self.at_generation(generation)))
    }

    /// Fills in the defaults, so that equal wishes are equal requests.
    pub(super) fn normalised(&self, mut request: PartitionRequest) -> Answer<PartitionRequest> {
        let max_for = self.config.max_for;
        let bad = |field: &str, detail: String| Problem::new(Code::BadTime, detail).field(field);
        let life = *request.for_.get_or_insert(max_for);
        if life.as_nanos() == 0 {
            return Err(
                bad("for", "a partition of no length cuts nothing".into()).remedy("write a length as \"5s\"")
            );
        }
        if life > max_for {
            return Err(bad("for", format!("{life} is longer than max_for, {max_for}"))
                .remedy("shorten it, or raise max_for in the config"));
        }
        let deadline = *request.deadline.get_or_insert(self.config.deadline);
        if deadline.as_nanos() == 0 {
            return Err(
                bad("deadline", "a deadline of no length can't be met".into()).remedy("write it as \"20s\"")
            );
        }
        let most = injector_common::slot::MAX_SCOPES;
        if request.scopes.len() > most {
            return Err(Problem::new(
                Code::BadParameter,
                format!("{} scopes, at most {most}", request.scopes.len()),
            )
            .field("scopes")
            .remedy("use port ranges"));
        }
        for name in &request.advisory {
            let known =
                self.config.endpoints.iter().any(|endpoint| endpoint.name == *name || endpoint.base == *name);
            if !known {
                let all: Vec<&str> =
                    self.config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
                return Err(Problem::new(
                    Code::UnknownEndpoint,
                    format!("no endpoint \"{name}\" is configured"),
                )
                .field("advisory")
                .remedy(format!("the endpoints are {}", all.join(", "))));
            }
        }
        Ok(request)
    }

    /// The partition that this request was answered with before, if it was.
    pub(super) fn known(&self, name: &str, request: &PartitionRequest) -> Answer<Option<usize>> {
        if let Some(generation) = request.request_id.as_ref().and_then(|id| self.request_ids.get(id)) {
            let at = self.partitions.iter().position(|partition| partition.generation == *generation);
            return match at {
                Some(at) if self.partitions[at].name == name && self.partitions[at].request == *request => {
                    Ok(Some(at))
                }
                _ => Err(Problem::new(Code::RequestIdUsed, "this request_id was used for another request")
                    .field("request_id")
                    .remedy("make a new id for each request")),
            };
        }
        let Ok(at) = self.newest(name) else { return Ok(None) };
        let partition = &self.partitions[at];
        if !partition.is_live() && partition.state != PartitionState::Prepared {
            return Ok(None);
        }
        if partition.request == *request {
            return Ok(Some(at));
        }
        Err(Problem::new(Code::NameTaken, format!("a partition \"{name}\" is live, with another request"))
            .field("name")
            .remedy(format!("heal it (injector heal {name}), or take another name")))
    }

    pub(super) fn resolve(
        &self,
        name: &str,
        request: PartitionRequest,
        step: Step,
        connection: ConnectionId,
    ) -> Answer<Partition> {
        // The control was sent over the links that were drawn then.
        let control = self.control.as_ref().and_then(|control| control.seed);
        let seed = request.seed.or(control).unwrap_or_else(|| seed::drawn(rand::random()));
        let resolved = topology::resolve(
            &request.shape,
            request.direction,
            &self.config.names,
            &self.config.presets,
            seed,
        )
        .map_err(|error| shape_problem(&error))?;
        if let Some(at) = request.at {
            self.start(at)?;
        }
        let now = MonoNs::now();
        Ok(Partition {
            name: name.to_owned(),
            generation: if step == Step::DryRun { 0 } else { self.generation + 1 },
            seed: resolved.drawn.then_some(seed),
            deadline: request.deadline.unwrap_or(self.config.deadline),
            state: PartitionState::Prepared,
            slot: None,
            owner: (request.owner == Owner::Connection).then_some(connection),
            prepared_at: now,
            starts_at: now,
            ends_at: now,
            cut: None,
            heal: None,
            healed_by: None,
            still_cut: BTreeMap::new(),
            sockets_asked: false,
            sockets: BTreeMap::new(),
            not_here: Vec::new(),
            coverage: Vec::new(),
            left_out: BTreeSet::new(),
            warnings: Vec::new(),
            cells: Vec::new(),
            witness: Witness::default(),
            check: None,
            samples_from: self.samples.mark(),
            pressure: Pressures::default(),
            counters_before: Vec::new(),
            strangers: Strangers::default(),
            closed_by: None,
            broken: None,
            told: HashSet::new(),
            record: None,
            probes: Vec::new(),
            resolved,
            request,
        })
    }

    /// The monotonic instant of a start that lies ahead.
    pub(super) fn start(&self, at: StartAt) -> Answer<MonoNs> {
        let mono = match at {
            StartAt::MonoNs(mono) => mono,
            StartAt::WallNs(wall) => WallOffset::now().mono(wall),
        };
        let now = MonoNs::now();
        let problem = |detail: String| Problem::new(Code::BadTime, detail).field("at");
        if mono <= now {
            return Err(
                problem("the start lies in the past".into()).remedy("leave `at` out to start at once")
            );
        }
        if mono.saturating_since(now) > self.config.max_for.0 {
            return Err(problem(format!("the start lies more than max_for ({}) ahead", self.config.max_for))
                .remedy("start it nearer to its time"));
        }
        Ok(mono)
    }

    /// Takes a slot and writes it and its links; nothing is cut yet.
    pub(super) fn prepare(&mut self, mut partition: Partition) -> Answer<u32> {
        let mut slot = self.writable_slot().map_err(|error| data_plane(&error))?;
        if slot.is_none() {
            self.end_look();
            slot = self.writable_slot().map_err(|error| data_plane(&error))?;
        }
        if slot.is_none() {
            self.evict_oldest_watch(&partition.name);
            slot = self.writable_slot().map_err(|error| data_plane(&error))?;
        }
        let slot = slot.ok_or_else(|| {
            Problem::new(
                Code::NoFreeSlot,
                format!("{} partitions are live, and there are no more slots", injector_common::SLOTS),
            )
            .remedy("heal one of them")
        })?;
        partition.slot = Some(slot);
        // Written with times at the commit: until then it is as if over.
        let contents = plan::slot(&partition.request, partition.generation, MonoNs(0), MonoNs(0));
        partition.cells = self.cells(&partition.request, &partition.resolved.links);
        partition.warnings.extend(self.groups_lost(&partition));
        execute(&mut self.kernel, &plan::prepare(slot, contents, &partition.cells))
            .map_err(|error| data_plane(&error))?;
        self.generation = partition.generation;
        if let Some(id) = &partition.request.request_id {
            self.request_ids.insert(id.clone(), partition.generation);
        }
        self.slots.set(slot, SlotUse::Prepared);
        let generation = partition.generation;
        self.partitions.push_back(partition);
        self.refresh_rate();
        Ok(generation)
    }

    pub(super) async fn enable(&mut self, name: &str, at: Option<StartAt>) -> Answer<PartitionView> {
        let index = self.newest(name)?;
        let partition = &self.partitions[index];
        if partition.state != PartitionState::Prepared {
            return Err(Problem::new(
                Code::WrongState,
                format!("\"{name}\" is not prepared: it was enabled or withdrawn before"),
            )
            .remedy("prepare it again after its heal"));
        }
        let generation = partition.generation;
        let at = at.or(partition.request.at);
        let warnings = self.confirm_hooks().await;
        // A wrong time changes nothing: it stays prepared.
        let start = at.map(|at| self.start(at)).transpose()?;
        self.partitions[index].warnings.extend(warnings);
        self.commit(generation, start)?;
        Ok(self.view(self.at_generation(generation)))
    }

    /// Makes a prepared partition live, at once or at an instant ahead.
    pub(super) fn commit(&mut self, generation: u32, ahead: Option<MonoNs>) -> Answer<()> {
        let index = self.at_generation(generation);
        // A peer that moved while loss was rolled has its hook renewed now.
        let is_rolling = self.cuts().is_rolling;
        self.interfaces.bind(&mut self.kernel, is_rolling);
        let offset = WallOffset::now();
        let counters = self.counters().unwrap_or_default();
        let strangers = self.begin_strangers();
        let pressure = Pressures::read();
        let partition = &mut self.partitions[index];
        let slot = partition.slot.expect("a prepared partition has a slot");
        let life = partition.request.for_.unwrap_or(self.config.max_for);
        let starts_at = ahead.unwrap_or_else(MonoNs::now);
        (partition.starts_at, partition.ends_at) = (starts_at, starts_at + life.0);
        let contents = plan::slot(&partition.request, generation, partition.starts_at, partition.ends_at);
        let mut slots = self.slots.clone();
        slots.set(slot, SlotUse::Live);
        let steps = [plan::Step::Slot(slot, Box::new(contents)), plan::Step::Word(slots.word())];
        let interval = match execute(&mut self.kernel, &steps) {
            Ok(interval) => interval.expect("the steps end with a commit"),
            Err(error) => {
                self.discard(index);
                if let DatapathError::Lapsed(lapsed) = error {
                    self.lapsed(lapsed);
                }
                return Err(data_plane(&error));
            }
        };
        self.slots = slots;
        let check = self.take_check(index);
        let partition = &mut self.partitions[index];
        partition.check = check;
        partition.counters_before = counters;
        partition.strangers = strangers;
        partition.pressure = pressure;
        let effective = if ahead.is_some() { instant(starts_at, offset) } else { stamped(interval, offset) };
        partition.cut = Some(effective);
        partition.state = if ahead.is_some() { PartitionState::Scheduled } else { PartitionState::Active };
        let name = partition.name.clone();
        let at = interval.end;
        self.event(at, EventKind::Cut { name, generation, effective });
        if ahead.is_none() {
            self.became_active(generation);
            self.judge_watched();
        }
        self.warn_of_loss(self.at_generation(generation));
        // Something may have come before our programs since they were last looked at.
        self.hooks_watched = None;
        Ok(())
    }

    /// A cut became active: records that are not final yet see another experiment from now on. They are to be judged.
    pub(super) fn became_active(&mut self, generation: u32) {
        let index = self.at_generation(generation);
        let name = self.partitions[index].name.clone();
        let at = self.partitions[index].cut.map_or_else(MonoNs::now, |cut| cut.begin_ns);
        for partition in &mut self.partitions {
            if partition.state == PartitionState::Watched && partition.generation != generation {
                partition.closed_by.get_or_insert(Closed { partition: name.clone(), at });
            }
        }
    }

    /// Warns where loss is not what was asked for.
    fn warn_of_loss(&mut self, index: usize) {
        let partition = &self.partitions[index];
        if partition.request.loss == Percent::ALL {
            return;
        }
        let warnings: Vec<Warning> = partition
            .resolved
            .links
            .iter()
            .filter_map(|link| {
                let why = self.interfaces.why_not_once(*link)?;
                let link = named(&self.config.names, *link).to_string();
                let text = format!("{link}: {why}");
                Some(Warning::new(WarningCode::LossNotOnce, link, text))
            })
            .collect();
        for warning in &warnings {
            tracing::warn!(partition = partition.name, warning = warning.text);
        }
        self.partitions[index].warnings.extend(warnings);
    }

    /// What a partition affects in the matrix, as the peers are known now.
    fn cells(&self, request: &PartitionRequest, links: &[Link]) -> Vec<plan::Cell> {
        let identity = self.interfaces.hooked_identity();
        let bound = identity.bound();
        let peers: Vec<PeerId> = self.config.names.peers().collect();
        let forwards = |peer| identity.peers.get(&peer).is_some_and(|known| known.forwards);
        let around = plan::Surroundings {
            peers: &peers,
            forwards: &forwards,
            is_bound: &|peer| bound.contains(&peer),
        };
        plan::cells(request, links, &around)
    }

    /// Warns where multicast and broadcast are lost for the world as well, which is not cut off.
    fn groups_lost(&self, partition: &Partition) -> Option<Warning> {
        let spares_world = |cell: &&plan::Cell| {
            let to_world = Link { src: cell.src, dst: PeerId::WORLD };
            cell.dst == plan::Column::Group && partition.resolved.links.binary_search(&to_world).is_err()
        };
        let senders = partition.cells.iter().filter(spares_world);
        let senders: Vec<&str> = senders.map(|cell| self.config.names.name(cell.src)).collect();
        if senders.is_empty() {
            return None;
        }
        let senders = senders.join(", ");
        let text = format!(
            "multicast and broadcast of {senders} are lost for everyone: a peer that is cut off from {senders} has no hooked port of its own, at which its copies alone could be dropped"
        );
        Some(Warning::new(WarningCode::GroupsLost, senders, text))
    }

    /// Undoes a preparation.
    pub(super) fn discard(&mut self, index: usize) {
        if let Some(partition) = self.partitions.remove(index) {
            self.free(&partition);
            if let Some(id) = &partition.request.request_id {
                self.request_ids.remove(id);
            }
        }
        self.refresh_rate();
    }

    /// Gives a partition's slot back; its bit must be out of the word.
    pub(super) fn free(&mut self, partition: &Partition) {
        if let Some(slot) = partition.slot {
            self.kernel.write_cells(slot, &partition.cells, Presence::Out);
            if let Err(error) = self.kernel.forget(slot) {
                tracing::warn!(%error, "stamps could not be freed");
            }
            self.release(slot);
        }
    }
}

fn shape_problem(error: &TopologyError) -> Problem {
    let code = match error {
        TopologyError::UnknownPeer { .. } => Code::UnknownPeer,
        TopologyError::UnknownPreset { .. } => Code::UnknownPreset,
        TopologyError::Empty { .. } | TopologyError::CutsNothing => Code::EmptyPartition,
        _ => Code::BadShape,
    };
    let field = match error {
        TopologyError::NoFirstGroup { .. } => "direction",
        _ => "shape",
    };
    Problem::new(code, error.what()).field(field).remedy(error.remedy())
}

fn data_plane(error: &DatapathError) -> Problem {
    Problem::new(Code::DataPlane, error.to_string()).remedy("see the daemon's log, and `injector doctor`")
}
