//! All state of the daemon, and what each command does to it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use injector_common::record::counter;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::command::{Command, ConnectionId, EventFeed, Reply, Step};
use super::interfaces::{InterfaceEvent, Interfaces};
use super::partition::{Partition, Pressures, instant, named, stamped};
use super::samples::Samples;
use crate::api::types::{
    Code, Event, EventKind, Healed, HealedBy, LinkCounters, Owner, PartitionRequest, PartitionState,
    PartitionView, Problem, RecoveryRecord, Stamped, StartAt,
};
use crate::clock::{MonoNs, WallOffset};
use crate::config::{Config, Netns, Role};
use crate::datapath::{Datapath, DatapathError, Kernel, Lapsed, execute, wire_ids};
use crate::measure::{Broken, Closed};
use crate::model::{Link, Percent};
use crate::plan::{self, Freshness, Presence, SlotIndex, SlotTable, SlotUse};
use crate::probe::schedule::Rate;
use crate::probe::{EndpointId, Sample};
use crate::timeline::Timeline;
use crate::topology::{self, TopologyError};

/// How many closed partitions are kept.
const KEPT: usize = 1_000;
/// Of these, how many keep every probe.
const KEPT_PROBES: usize = 20;

/// An answer that is held back until a record is final, or a time is over.
struct Waiter {
    generation: u32,
    until: Instant,
    reply: Reply<Result<Box<RecoveryRecord>, Problem>>,
}

/// All state of the daemon.
pub struct State {
    pub(super) config: Config,
    pub(super) kernel: Kernel,
    pub(super) interfaces: Interfaces,
    pub(super) partitions: VecDeque<Partition>,
    pub(super) samples: Samples,
    pub(super) wire_ids: BTreeMap<EndpointId, u32>,
    pub(super) healthy: Vec<Option<bool>>,
    pub(super) last_error: Vec<Option<String>>,
    slots: SlotTable,
    generation: u32,
    request_ids: HashMap<String, u32>,
    waiters: Vec<Waiter>,
    timeline: Timeline,
    feed: broadcast::Sender<Event>,
    rate: watch::Sender<Rate>,
    stopping: bool,
}

type Answer<T> = Result<T, Problem>;

impl State {
    /// The state of a daemon that has attached and not yet served.
    pub fn new(config: Config, kernel: Kernel, interfaces: Interfaces, rate: watch::Sender<Rate>) -> Self {
        let endpoints = config.endpoints.len();
        Self {
            wire_ids: wire_ids(&config),
            samples: Samples::new(endpoints),
            healthy: vec![None; endpoints],
            last_error: vec![None; endpoints],
            partitions: VecDeque::new(),
            slots: SlotTable::default(),
            generation: 0,
            request_ids: HashMap::new(),
            waiters: Vec::new(),
            timeline: Timeline::default(),
            feed: broadcast::Sender::new(4096),
            rate,
            stopping: false,
            config,
            kernel,
            interfaces,
        }
    }

    /// Carries out one command.
    pub async fn command(&mut self, command: Command) {
        // A reader that has gone away does not want its answer.
        match command {
            Command::Status(reply) => drop(reply.send(self.status().await)),
            Command::Apply { name, request, step, connection, reply } => {
                let answer = self.apply(&name, *request, step, connection).await;
                let _ = reply.send(answer);
            }
            Command::Enable { name, at, reply } => drop(reply.send(self.enable(&name, at).await)),
            Command::Heal { name, reply } => drop(reply.send(self.heal(&name))),
            Command::HealAll(reply) => drop(reply.send(Ok(self.heal_where(|_| true, HealedBy::Request)))),
            Command::Partitions(reply) => {
                let views = (0..self.partitions.len()).map(|at| self.view(at)).collect();
                let _ = reply.send(views);
            }
            Command::Partition { name, reply } => {
                let _ = reply.send(self.newest(&name).map(|at| self.view(at)));
            }
            Command::Recovery { name, generation, wait, reply } => {
                self.recovery(&name, generation, wait, reply);
            }
            Command::Probes { name, generation, reply } => {
                let _ = reply.send(self.find(&name, generation).map(|at| self.probes(at)));
            }
            Command::Mark { text, reply } => {
                drop(reply.send(self.event(MonoNs::now(), EventKind::Mark { text })));
            }
            Command::Events { since, reply } => {
                let feed = EventFeed { backlog: self.timeline.since(since), live: self.feed.subscribe() };
                let _ = reply.send(feed);
            }
            Command::Disconnected(connection) => {
                let is_owned = |partition: &Partition| partition.owner == Some(connection);
                self.heal_where(is_owned, HealedBy::Disconnect);
                // Enabled later, they would have no owner whose end heals them.
                self.withdraw_where(is_owned, HealedBy::Disconnect);
            }
            // Needs the namespaces' threads, which the daemon's loop has.
            Command::ProbeOnce(_) => {}
        }
    }

    pub(super) fn event(&mut self, at: MonoNs, kind: EventKind) -> Event {
        let event = self.timeline.add(at, WallOffset::now(), kind);
        let _ = self.feed.send(event.clone());
        event
    }

    fn newest(&self, name: &str) -> Answer<usize> {
        self.find(name, None)
    }

    fn find(&self, name: &str, generation: Option<u32>) -> Answer<usize> {
        self.partitions
            .iter()
            .rposition(|partition| {
                partition.name == name
                    && generation.is_none_or(|generation| generation == partition.generation)
            })
            .ok_or_else(|| {
                Problem::new(Code::UnknownPartition, format!("no partition \"{name}\" is known"))
                    .remedy("see `injector status`, or GET /v1/partitions for those still kept")
            })
    }

    async fn apply(
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
        let partition = self.resolve(name, request, step, connection)?;
        if step == Step::DryRun {
            let links = partition.resolved.links.clone();
            return Ok(partition.view(self.counters_of(&links, &[])));
        }
        let generation = self.prepare(partition)?;
        if step == Step::Apply {
            let at = self.at_generation(generation);
            let start = self.partitions[at].request.at;
            self.commit(generation, start).await?;
        }
        Ok(self.view(self.at_generation(generation)))
    }

    /// Fills in the defaults, so that equal wishes are equal requests.
    fn normalised(&self, mut request: PartitionRequest) -> Answer<PartitionRequest> {
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
    fn known(&self, name: &str, request: &PartitionRequest) -> Answer<Option<usize>> {
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

    fn resolve(
        &self,
        name: &str,
        request: PartitionRequest,
        step: Step,
        connection: ConnectionId,
    ) -> Answer<Partition> {
        // Every JSON reader keeps 53 bits whole.
        let seed = request.seed.unwrap_or_else(|| rand::random::<u64>() >> 11);
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
            warnings: Vec::new(),
            samples_from: self.samples.mark(),
            pressure: Pressures::default(),
            lost_before: 0,
            closed_by: None,
            broken: None,
            told: HashSet::new(),
            record: None,
            final_links: Vec::new(),
            probes: Vec::new(),
            resolved,
            request,
        })
    }

    /// The monotonic instant of a start that lies ahead.
    fn start(&self, at: StartAt) -> Answer<MonoNs> {
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
    fn prepare(&mut self, mut partition: Partition) -> Answer<u32> {
        if self.slots.free().is_none() {
            self.evict_oldest_watch(&partition.name);
        }
        let (slot, freshness) = self.slots.free().ok_or_else(|| {
            Problem::new(
                Code::NoFreeSlot,
                format!("{} partitions are live, and there are no more slots", injector_common::SLOTS),
            )
            .remedy("heal one of them")
        })?;
        if freshness == Freshness::Reused {
            self.kernel.settle();
            // Stamps of a program that still ran when the slot was freed.
            self.kernel.forget(slot).map_err(|error| data_plane(&error))?;
        }
        partition.slot = Some(slot);
        // Written with times at the commit: until then it is as if over.
        let contents = plan::slot(&partition.request, partition.generation, MonoNs(0), MonoNs(0));
        execute(&mut self.kernel, &plan::prepare(slot, contents, &partition.resolved.links))
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

    async fn enable(&mut self, name: &str, at: Option<StartAt>) -> Answer<PartitionView> {
        let index = self.newest(name)?;
        let partition = &self.partitions[index];
        if partition.state != PartitionState::Prepared {
            return Err(Problem::new(
                Code::WrongState,
                format!("\"{name}\" is not prepared: it was enabled before"),
            )
            .remedy("prepare it again after its heal"));
        }
        let generation = partition.generation;
        self.commit(generation, at.or(partition.request.at)).await?;
        Ok(self.view(self.at_generation(generation)))
    }

    pub(super) fn at_generation(&self, generation: u32) -> usize {
        self.partitions
            .iter()
            .rposition(|partition| partition.generation == generation)
            .expect("the caller holds the generation of a partition that is kept")
    }

    /// Makes a prepared partition live.
    async fn commit(&mut self, generation: u32, at: Option<StartAt>) -> Answer<()> {
        let index = self.at_generation(generation);
        let ahead = at.map(|at| self.start(at)).transpose();
        let ahead = match ahead {
            Ok(ahead) => ahead,
            Err(problem) => {
                self.discard(index);
                return Err(problem);
            }
        };
        let offset = WallOffset::now();
        let lost = self.lost_stamps();
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
        let partition = &mut self.partitions[index];
        partition.lost_before = lost;
        partition.pressure = pressure;
        let effective = if ahead.is_some() { instant(starts_at, offset) } else { stamped(interval, offset) };
        partition.cut = Some(effective);
        partition.state = if ahead.is_some() { PartitionState::Scheduled } else { PartitionState::Active };
        let name = partition.name.clone();
        let at = interval.end;
        self.event(at, EventKind::Cut { name, generation, effective });
        if ahead.is_none() {
            self.became_active(generation);
        }
        self.look_ahead(generation).await;
        Ok(())
    }

    /// A cut became active: records that are not final yet see another experiment from now on.
    pub(super) fn became_active(&mut self, generation: u32) {
        let index = self.at_generation(generation);
        let name = self.partitions[index].name.clone();
        let at = self.partitions[index].cut.map_or_else(MonoNs::now, |cut| cut.begin_ns);
        for partition in &mut self.partitions {
            if partition.state == PartitionState::Watched && partition.generation != generation {
                partition.closed_by.get_or_insert(Closed { partition: name.clone(), at });
            }
        }
        self.judge_watched();
    }

    /// Asks who else is on the hooks: a program ahead of ours can bypass us.
    async fn look_ahead(&mut self, generation: u32) {
        let mut warnings = self.interfaces.ahead().await;
        let partition = &self.partitions[self.at_generation(generation)];
        if partition.request.loss != Percent::ALL {
            let unbound = partition.resolved.links.iter().filter(|link| self.interfaces.is_unbound(**link));
            warnings.extend(unbound.map(|link| {
                let link = named(&self.config.names, *link);
                format!("{link}: no interface is known to be at either end, so its loss is rolled at every hook on its way")
            }));
        }
        for warning in &warnings {
            tracing::warn!(generation, warning);
        }
        let index = self.at_generation(generation);
        self.partitions[index].warnings.extend(warnings);
    }

    /// Undoes a preparation.
    fn discard(&mut self, index: usize) {
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
            self.kernel.write_links(slot, &partition.resolved.links, Presence::Out);
            if let Err(error) = self.kernel.forget(slot) {
                tracing::warn!(%error, "stamps could not be freed");
            }
            self.slots.set(slot, SlotUse::Free);
        }
    }

    fn heal(&mut self, name: &str) -> Answer<Healed> {
        let generation = self.partitions[self.newest(name)?].generation;
        if self.partitions[self.at_generation(generation)].state == PartitionState::Prepared {
            return Ok(self.withdraw(generation, HealedBy::Request));
        }
        let mut healed = self.heal_where(|partition| partition.generation == generation, HealedBy::Request);
        // Otherwise it had ended before; a record that closes may take the oldest one out of the queue.
        let healed = healed
            .pop()
            .or_else(|| self.find(name, Some(generation)).ok().and_then(|at| self.partitions[at].healed()));
        healed.ok_or_else(|| Problem::new(Code::WrongState, format!("\"{name}\" has no heal")))
    }

    /// Ends a partition that was prepared and never cut.
    fn withdraw(&mut self, generation: u32, by: HealedBy) -> Healed {
        let index = self.at_generation(generation);
        let partition = &mut self.partitions[index];
        partition.heal = Some(instant(MonoNs::now(), WallOffset::now()));
        partition.healed_by = Some(by);
        partition.broken = Some(Broken::Other("the partition was prepared and never enabled".into()));
        partition.state = PartitionState::Watched;
        // Before it is judged: closing may take it out of the queue.
        let healed = partition.healed().expect("just healed");
        self.judge_watched();
        healed
    }

    /// Withdraws the prepared partitions that are wanted.
    fn withdraw_where(&mut self, wanted: impl Fn(&Partition) -> bool, by: HealedBy) {
        let prepared: Vec<u32> = self
            .partitions
            .iter()
            .filter(|partition| partition.state == PartitionState::Prepared && wanted(partition))
            .map(|partition| partition.generation)
            .collect();
        for generation in prepared {
            self.withdraw(generation, by);
        }
    }

    /// Heals the live partitions that are wanted, all by one store.
    fn heal_where(&mut self, wanted: impl Fn(&Partition) -> bool, by: HealedBy) -> Vec<Healed> {
        // What the kernel ended before is not healed by us.
        self.expire(MonoNs::now());
        let live: Vec<usize> = (0..self.partitions.len())
            .filter(|at| self.partitions[*at].is_live() && wanted(&self.partitions[*at]))
            .collect();
        if live.is_empty() {
            return Vec::new();
        }
        let mut slots = self.slots.clone();
        for at in &live {
            slots.set(self.partitions[*at].slot.expect("a live partition has a slot"), SlotUse::Watched);
        }
        let interval = match self.kernel.store(slots.word()) {
            Ok(interval) => interval,
            Err(lapsed) => {
                let generations = self.generations(&live);
                self.lapsed(lapsed);
                // By generation: records that closed may have moved the others in the queue.
                let healed = |generation: &u32| {
                    self.partitions.iter().find(|partition| partition.generation == *generation)?.healed()
                };
                return generations.iter().filter_map(healed).collect();
            }
        };
        self.slots = slots;
        let offset = WallOffset::now();
        let together = self.generations(&live);
        for at in &live {
            let partition = &mut self.partitions[*at];
            // A deadline that passed between the look and the store was first.
            let (heal, by) = if partition.ends_at <= interval.begin {
                (instant(partition.ends_at, offset), HealedBy::Deadline)
            } else {
                (stamped(interval, offset), by)
            };
            self.ended(*at, heal, by, &together);
        }
        let healed = live.iter().filter_map(|at| self.partitions[*at].healed()).collect();
        // Last: records that close move the others in the queue.
        self.judge_watched();
        healed
    }

    fn generations(&self, at: &[usize]) -> Vec<u32> {
        at.iter().map(|at| self.partitions[*at].generation).collect()
    }

    /// Notes the heal of a partition whose slot is already out of the live half (or past its end). Partitions
    /// that ended `together`, by the same store, do not hold each other's links.
    fn ended(&mut self, at: usize, heal: Stamped, by: HealedBy, together: &[u32]) {
        let mine = self.partitions[at].resolved.links.clone();
        let generation = self.partitions[at].generation;
        let starts_at = self.partitions[at].starts_at;
        let mut still: BTreeMap<Link, Vec<String>> = BTreeMap::new();
        let mut another = None;
        for other in &self.partitions {
            let holds = other.is_live()
                && other.generation != generation
                && !together.contains(&other.generation)
                && other.starts_at <= heal.end_ns
                && other.ends_at > heal.end_ns;
            if holds {
                // What was cut before is this experiment's ground; what came on top of it is another experiment.
                if other.starts_at > starts_at {
                    another.get_or_insert_with(|| other.name.clone());
                }
                for link in mine.iter().filter(|link| other.resolved.links.binary_search(link).is_ok()) {
                    still.entry(*link).or_default().push(other.name.clone());
                }
            }
        }
        let partition = &mut self.partitions[at];
        if partition.state == PartitionState::Scheduled && partition.starts_at >= heal.end_ns {
            partition.cut = None;
            partition.broken = Some(Broken::Other("healed before its start: nothing was cut".into()));
        }
        partition.still_cut = still;
        if let Some(partition_name) = another {
            partition.closed_by.get_or_insert(Closed { partition: partition_name, at: heal.end_ns });
        }
        partition.heal = Some(heal);
        partition.healed_by = Some(by);
        partition.state = PartitionState::Watched;
        if by == HealedBy::Lease {
            partition.broken = Some(Broken::LeaseLapsed);
        }
        let healed = partition.healed().expect("just healed");
        self.event(heal.end_ns, EventKind::Heal { healed });
    }

    /// Starts and ends what the kernel has started and ended by itself.
    pub(super) fn expire(&mut self, now: MonoNs) {
        let offset = WallOffset::now();
        let due: Vec<u32> = self
            .partitions
            .iter()
            .filter(|partition| partition.state == PartitionState::Scheduled && partition.starts_at <= now)
            .map(|partition| partition.generation)
            .collect();
        for generation in due {
            // A lapse found on the way has ended them all.
            let scheduled = |partition: &Partition| {
                partition.generation == generation && partition.state == PartitionState::Scheduled
            };
            let Some(at) = self.partitions.iter().position(scheduled) else { continue };
            self.partitions[at].state = PartitionState::Active;
            self.became_active(generation);
        }
        let mut over: Vec<(MonoNs, u32)> = self
            .partitions
            .iter()
            .filter(|partition| partition.is_live() && partition.ends_at <= now)
            .map(|partition| (partition.ends_at, partition.generation))
            .collect();
        if over.is_empty() {
            return;
        }
        // In the order of their ends: one that ended later held the links of those before it.
        over.sort_unstable();
        let mut slots = self.slots.clone();
        for (_, generation) in &over {
            let slot = self.partitions[self.at_generation(*generation)].slot;
            slots.set(slot.expect("a live partition has a slot"), SlotUse::Watched);
        }
        match self.kernel.store(slots.word()) {
            Ok(_) => self.slots = slots,
            Err(lapsed) => return self.lapsed(lapsed),
        }
        for (ends_at, generation) in over {
            let at = self.at_generation(generation);
            self.ended(at, instant(ends_at, offset), HealedBy::Deadline, &[]);
        }
    }

    /// The lease ran out: the gate has emptied the word; each partition ended then, or before by its deadline.
    pub fn lapsed(&mut self, lapsed: Lapsed) {
        if self.kernel.gate().acknowledge().is_none() {
            return;
        }
        tracing::error!("the lease lapsed: this process was held up; every partition has been healed");
        self.event(lapsed.expired, EventKind::LeaseLapsed);
        let offset = WallOffset::now();
        let live: Vec<usize> =
            (0..self.partitions.len()).filter(|at| self.partitions[*at].is_live()).collect();
        let together = self.generations(&live);
        for at in live {
            let slot = self.partitions[at].slot.expect("a live partition has a slot");
            self.slots.set(slot, SlotUse::Watched);
            let ends_at = self.partitions[at].ends_at;
            if ends_at <= lapsed.expired {
                self.ended(at, instant(ends_at, offset), HealedBy::Deadline, &[]);
                self.partitions[at].broken = Some(Broken::LeaseLapsed);
            } else {
                self.ended(at, instant(lapsed.expired, offset), HealedBy::Lease, &together);
            }
        }
        self.judge_watched();
    }

    /// Takes in news of an interface; answers the namespaces whose probes are to be started anew.
    pub async fn interface(&mut self, event: InterfaceEvent) -> Vec<Netns> {
        let changes = self.interfaces.handle(event, &mut self.kernel).await;
        for (interface, what) in changes.told {
            self.event(MonoNs::now(), EventKind::Interface { interface, what });
        }
        changes.reborn
    }

    /// Takes in a probe's result.
    pub fn sample(&mut self, sample: Sample) {
        let endpoint = sample.endpoint;
        let done = sample.done;
        let error = sample.error.clone();
        self.samples.add(sample);
        let wanted = self.config.ready.consecutive as usize;
        let last = self.samples.last(endpoint, wanted);
        let healthy = (last.len() == wanted).then(|| last.iter().all(|sample| sample.error.is_none()));
        if error.is_some() {
            self.last_error[endpoint.0].clone_from(&error);
        }
        if healthy != self.healthy[endpoint.0] {
            self.healthy[endpoint.0] = healthy;
            if let Some(healthy) = healthy {
                let endpoint = self.config.endpoints[endpoint.0].name.clone();
                self.event(done, EventKind::Health { endpoint, healthy, error });
            }
        }
    }

    /// Whether an endpoint gates a partition's verdict.
    pub(super) fn required(&self, endpoint: usize, request: &PartitionRequest) -> bool {
        let endpoint = &self.config.endpoints[endpoint];
        endpoint.role == Role::Required
            && !request.advisory.iter().any(|name| *name == endpoint.name || *name == endpoint.base)
    }

    /// Stamps lost since the start. (A lost bell loses nothing: it is among the counters alone.)
    pub(super) fn lost_stamps(&self) -> u64 {
        self.kernel.counters().map_or(0, |counters| counters[counter::STAMPS_LOST as usize])
    }

    fn recovery(
        &mut self,
        name: &str,
        generation: Option<u32>,
        wait: Duration,
        reply: Reply<Answer<Box<RecoveryRecord>>>,
    ) {
        let at = match self.find(name, generation) {
            Ok(at) => at,
            Err(problem) => return drop(reply.send(Err(problem))),
        };
        let partition = &self.partitions[at];
        if let Some(record) = &partition.record {
            return drop(reply.send(Ok(record.clone())));
        }
        if wait.is_zero() {
            return drop(reply.send(Ok(Box::new(self.record(at)))));
        }
        self.waiters.push(Waiter { generation: partition.generation, until: Instant::now() + wait, reply });
    }

    /// Answers the readers whose record is final, or whose time is over.
    pub(super) fn answer_waiters(&mut self) {
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiters) {
            let Some(at) =
                self.partitions.iter().position(|partition| partition.generation == waiter.generation)
            else {
                // It was withdrawn before it was ever cut.
                let problem = Problem::new(Code::UnknownPartition, "the partition was withdrawn");
                let _ = waiter.reply.send(Err(problem));
                continue;
            };
            match &self.partitions[at].record {
                Some(record) => drop(waiter.reply.send(Ok(record.clone()))),
                None if waiter.until <= now => drop(waiter.reply.send(Ok(Box::new(self.record(at))))),
                None if waiter.reply.is_closed() => {}
                None => self.waiters.push(waiter),
            }
        }
    }

    /// Closes partitions whose record is final: their slots leave the word, then are freed.
    pub(super) fn close(&mut self, finals: Vec<(u32, RecoveryRecord)>) {
        if finals.is_empty() {
            return;
        }
        let mut slots = self.slots.clone();
        for (generation, _) in &finals {
            if let Some(slot) = self.partitions[self.at_generation(*generation)].slot {
                slots.set(slot, SlotUse::Free);
            }
        }
        if let Err(lapsed) = self.kernel.store(slots.word()) {
            // The lapse heals everything first; these records are closed at the next look.
            return self.lapsed(lapsed);
        }
        for (generation, record) in finals {
            let at = self.at_generation(generation);
            let links = self.view(at).links;
            let probes = self.probes(at);
            let mut partition = self.partitions.remove(at).expect("an index of this queue");
            self.free(&partition);
            partition.slot = None;
            partition.final_links = links;
            partition.probes = probes;
            partition.state = PartitionState::Closed;
            let (name, outcome) = (record.name.clone(), record.outcome);
            partition.record = Some(Box::new(record));
            self.partitions.insert(at, partition);
            if let Some(outcome) = outcome {
                self.event(MonoNs::now(), EventKind::Record { name, generation, outcome });
            }
        }
        self.forget_old();
        self.answer_waiters();
        self.refresh_rate();
    }

    fn forget_old(&mut self) {
        let closed = |partition: &Partition| partition.state == PartitionState::Closed;
        let mut with_probes = 0;
        for partition in self.partitions.iter_mut().rev().filter(|partition| closed(partition)) {
            with_probes += 1;
            if with_probes > KEPT_PROBES {
                partition.probes = Vec::new();
            }
        }
        while self.partitions.iter().filter(|partition| closed(partition)).count() > KEPT {
            let at = self.partitions.iter().position(closed).expect("just counted");
            if let Some(gone) = self.partitions.remove(at)
                && let Some(id) = gone.request.request_id
            {
                self.request_ids.remove(&id);
            }
        }
        let open = self.partitions.iter().filter(|partition| partition.is_open());
        self.samples.trim(open.map(|partition| partition.samples_from.as_slice()));
    }

    fn evict_oldest_watch(&mut self, by: &str) {
        let at = MonoNs::now();
        if let Some(oldest) =
            self.partitions.iter_mut().find(|partition| partition.state == PartitionState::Watched)
        {
            oldest.closed_by.get_or_insert(Closed { partition: by.to_owned(), at });
            self.judge_watched();
        }
    }

    /// Probes run at the full rate while a partition is open.
    fn refresh_rate(&self) {
        let open = self.partitions.iter().any(Partition::is_open);
        let rate = if open { Rate::Full } else { Rate::Idle };
        self.rate.send_if_modified(|current| std::mem::replace(current, rate) != rate);
    }

    /// Whether something has to be looked at regularly.
    pub fn is_busy(&self) -> bool {
        !self.waiters.is_empty() || self.partitions.iter().any(Partition::is_open)
    }

    /// When the kernel next starts or ends something by itself.
    pub fn next_instant(&self) -> Option<MonoNs> {
        self.partitions
            .iter()
            .filter(|partition| partition.is_live())
            .map(|partition| match partition.state {
                PartitionState::Scheduled => partition.starts_at,
                _ => partition.ends_at,
            })
            .min()
    }

    /// Looks at everything that time alone changes.
    pub fn tick(&mut self) {
        let now = MonoNs::now();
        self.expire(now);
        let max_for = self.config.max_for.0;
        self.withdraw_where(
            |partition| now.saturating_since(partition.prepared_at) > max_for,
            HealedBy::Request,
        );
        self.judge_watched();
        self.answer_waiters();
        if !self.partitions.iter().any(Partition::is_open) {
            self.samples.trim(std::iter::empty());
        }
    }

    /// Heals everything and closes every record.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.heal_where(|_| true, HealedBy::Shutdown);
        for partition in &mut self.partitions {
            if partition.is_open() {
                partition.broken.get_or_insert(Broken::Stopping);
                partition.state = PartitionState::Watched;
            }
        }
        self.judge_watched();
        self.answer_waiters();
    }

    /// Detaches everywhere.
    pub async fn detach(mut self) {
        self.interfaces.detach().await;
    }

    /// The drop counters of links, zero where nothing was dropped.
    pub(super) fn counters_of(
        &self,
        links: &[Link],
        stamps: &[(Link, injector_common::record::LinkStamps)],
    ) -> Vec<LinkCounters> {
        links
            .iter()
            .map(|link| {
                let found = stamps.binary_search_by_key(link, |(link, _)| *link).ok().map(|at| stamps[at].1);
                let named = named(&self.config.names, *link);
                LinkCounters {
                    src: named.src,
                    dst: named.dst,
                    dropped_packets: found.map_or(0, |stamps| stamps.dropped_packets),
                    dropped_bytes: found.map_or(0, |stamps| stamps.dropped_bytes),
                }
            })
            .collect()
    }

    /// The stamps of a slot, or none where the map can't be read (which is logged).
    pub(super) fn stamps(
        &self,
        slot: SlotIndex,
        generation: u32,
    ) -> Vec<(Link, injector_common::record::LinkStamps)> {
        self.kernel.link_stamps(slot, generation).unwrap_or_else(|error| {
            tracing::error!(%error, "stamps could not be read");
            Vec::new()
        })
    }

    pub(super) fn view(&self, at: usize) -> PartitionView {
        let partition = &self.partitions[at];
        let links = match partition.slot {
            Some(slot) => {
                self.counters_of(&partition.resolved.links, &self.stamps(slot, partition.generation))
            }
            None => partition.final_links.clone(),
        };
        partition.view(links)
    }
}

fn shape_problem(error: &TopologyError) -> Problem {
    let code = match error {
        TopologyError::UnknownPeer { .. } => Code::UnknownPeer,
        TopologyError::UnknownPreset { .. } => Code::UnknownPreset,
        _ => Code::BadShape,
    };
    Problem::new(code, error.what()).field("shape").remedy(error.remedy())
}

fn data_plane(error: &DatapathError) -> Problem {
    Problem::new(Code::DataPlane, error.to_string()).remedy("see the daemon's log, and `injector doctor`")
}
