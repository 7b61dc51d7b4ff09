//! All state of the daemon, and what each command does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use injector_common::record::{Wakeup, counter};
use tokio::sync::{broadcast, watch};

use super::active_config::ActiveConfig;
use super::attachment::{Cuts, HookScope, InterfaceEvent, Interfaces};
use super::held::HeldCommand;
use super::log::Log;
use super::partition::{Experiment, Partition};
use super::request::{Answer, ShapeNames};
use super::samples::{self, Samples};
use super::ssh_sessions::PendingSessions;
use super::verify::check::Check;
use super::waiter::Waiter;
use crate::datapath::{Kernel, LeaseWatcher, wire_ids};
use crate::fault;
use crate::local::LocalPeers;
use crate::probe::schedule::Rate;
use crate::server::command::{Command, EventFeed};
use injector_core::api::{
    Code, Event, EventKind, HealedBy, PartitionRequest, PartitionState, Problem, RefusedConfig, Stamped,
};
use injector_core::clock::{HostClock, MonoNs, WallOffset};
use injector_core::config::{Config, Netns, Role};
use injector_core::ledger::{Effect, Ledger, Life, Now, WatchedSlot};
use injector_core::measure::HarnessFailure;
use injector_core::metrics::History;
use injector_core::model::{PeerId, Percent};
use injector_core::nearest::did_you_mean;
use injector_core::sample::{self, EndpointId, Sample};
use injector_core::timeline::Timeline;

/// How long a record waits for readings of the hooks after its heal.
const AFTER_HEAL: Duration = Duration::from_secs(2);

/// How often the hooks are read while something is cut: the kernel does not notify of TCX.
const HOOKS_WATCHED_EVERY: Duration = Duration::from_millis(100);

/// The time between two readings of the hooks is at least this many times as long as the last reading took:
/// there may be very many hooks.
const HOOKS_REST: u32 = 8;

/// How often the hooks are read of all interfaces of the namespaces where we are on host ends.
const ALL_HOOKS_WATCHED_EVERY: Duration = Duration::from_secs(1);

/// How long a round may judge before commands have their turn; the next round continues with the next record.
pub(super) const JUDGING: Duration = Duration::from_millis(100);

/// All state of the daemon.
pub struct State {
    pub(super) config: Config,
    /// The meanings of the names in shapes.
    pub(super) shape_names: Arc<ShapeNames>,
    /// How many requests are being resolved.
    pub(super) resolving: usize,
    /// The host's clock that all stamps are of.
    pub(super) clock: HostClock,
    /// 1 at the start, one more with each config that took its place.
    pub(super) config_number: u32,
    /// The last reload, if it left the config before in force.
    pub(super) refused_config: Option<RefusedConfig>,
    pub(super) kernel: Kernel,
    /// The ports of this host's SSH servers, as of the start.
    pub(super) ssh_ports: BTreeSet<u16>,
    pub(super) interfaces: Interfaces,
    pub(super) ledger: Ledger<Experiment>,
    /// The programs that give sockets of peers on this machine their owners.
    pub(super) local: Option<LocalPeers>,
    pub(super) samples: Samples,
    pub(super) wire_ids: BTreeMap<EndpointId, u32>,
    pub(super) healthy: Vec<Option<bool>>,
    pub(super) last_error: Vec<Option<String>>,
    /// The slot that is watched for `POST /v1/probes`.
    pub(super) wire_watch: Option<WatchedSlot>,
    pub(super) waiters: Vec<Waiter>,
    /// The generation of the record that was judged last.
    pub(super) judged: u32,
    timeline: Timeline,
    feed: broadcast::Sender<Arc<Event>>,
    pub(super) rate: watch::Sender<Rate>,
    /// The counters of the configs before this one.
    counted: Vec<u64>,
    /// Watches the lease while it is there.
    _lease_watcher: LeaseWatcher,
    pub(super) stopping: bool,
    /// Commands that wait for what they need to know,
    pub(super) held: Vec<HeldCommand>,
    /// of the command that is being carried out the control of its cut,
    pub(super) control: Option<Check>,
    /// the SSH connections that it may cut,
    pub(super) sessions: Option<PendingSessions>,
    /// and the instant since which the hooks have to have been read for it.
    pub(super) hooks_since: MonoNs,
    /// The counts for `GET /metrics`.
    pub(super) history: History,
    /// When the command that is being carried out was sent.
    pub(super) sent_at: Option<MonoNs>,
    /// When the hooks were last asked about; `None` if they are to be at once.
    pub(super) hooks_watched: Option<MonoNs>,
    /// When the hooks of all interfaces were last asked about, which takes longer.
    pub(super) all_hooks_watched: MonoNs,
    pub(super) log: Log,
}

/// The probes that have to be restarted.
#[must_use]
pub struct Restarts {
    /// The namespaces that have a new thread: probes from there start again.
    pub reborn: Vec<Netns>,
    /// Whether endpoints have other addresses.
    pub has_moved: bool,
}

impl State {
    /// The state of a daemon that has attached and not yet served.
    pub fn new(active: ActiveConfig, log: Log, ssh_ports: BTreeSet<u16>) -> Self {
        let ActiveConfig { config, kernel, interfaces, local, rate, lease_watcher } = active;
        let endpoints = config.endpoints.len();
        let mut history = History::default();
        history.expect(&config);
        Self {
            wire_ids: wire_ids(&config),
            samples: Samples::new(endpoints),
            healthy: vec![None; endpoints],
            last_error: vec![None; endpoints],
            ledger: Ledger::default(),
            wire_watch: None,
            waiters: Vec::new(),
            judged: 0,
            timeline: Timeline::default(),
            feed: broadcast::Sender::new(4096),
            rate,
            counted: vec![0; counter::COUNT as usize],
            _lease_watcher: lease_watcher,
            stopping: false,
            held: Vec::new(),
            control: None,
            sessions: None,
            hooks_since: MonoNs(0),
            history,
            sent_at: None,
            hooks_watched: None,
            all_hooks_watched: MonoNs(0),
            log,
            ssh_ports,
            shape_names: Arc::new(ShapeNames::of(&config)),
            resolving: 0,
            config,
            clock: host_clock(),
            config_number: 1,
            refused_config: None,
            kernel,
            interfaces,
            local,
        }
    }

    /// Puts another config in force while nothing is open. What was before stays as history.
    pub(super) fn replace(&mut self, active: ActiveConfig) {
        self.history.lost(self.interfaces.take_losses());
        let mut new = Self::new(active, self.log.clone(), std::mem::take(&mut self.ssh_ports));
        new.config_number = self.config_number + 1;
        new.counted = self.counters().unwrap_or_else(|| std::mem::take(&mut self.counted));
        new.ledger = std::mem::take(&mut self.ledger).into_history();
        new.held = std::mem::take(&mut self.held);
        new.resolving = self.resolving;
        new.waiters = std::mem::take(&mut self.waiters);
        new.timeline = std::mem::take(&mut self.timeline);
        new.feed = self.feed.clone();
        new.history = std::mem::take(&mut self.history);
        new.history.expect(&new.config);
        *self = new;
    }

    /// Scans for sockets of peers on this machine that have no owner: a process has become a peer's.
    pub fn scan_local_peers(&mut self) {
        let Some(local) = &self.local else { return };
        if let Err(error) = local.scan(self.interfaces.scan_reporter()) {
            for (interface, what) in self.interfaces.take_local(&self.config, MonoNs::now(), Err(error)) {
                self.event(MonoNs::now(), EventKind::Interface { interface, what });
            }
        }
    }

    /// Takes in what programs say of processes: one has become a peer's, or made a socket of multipath TCP.
    pub fn wake_local<'a>(&mut self, wakeups: impl Iterator<Item = &'a Wakeup>) {
        let mut is_woken = false;
        for wakeup in wakeups {
            is_woken = true;
            if wakeup.slot == Wakeup::MULTIPATH {
                self.interfaces.multipath(&self.config, PeerId(wakeup.generation as u16));
            }
        }
        if is_woken {
            self.scan_local_peers();
        }
    }

    /// Whether it is known what happened up to a partition's heal, or nobody waits for that any more: a reading of the hooks after
    /// it finds a program that was placed ahead of ours during the cut, and a scan of peers on this machine a socket that was handed over.
    pub(super) fn is_looked_through(&self, partition: &Partition) -> bool {
        let Partition { life, experiment } = partition;
        let Some(heal) = life.heal.filter(|_| life.cut.is_some() && !self.stopping) else { return true };
        // Another cut has ended its watch, and may need its slot.
        let is_needed = life.closed_by.is_some() && !self.ledger.has_free_slot();
        if !is_needed && is_awaited(heal) && !experiment.unread_hooks.is_empty() {
            return false;
        }
        let is_local = |peer: PeerId| self.config.peer(peer).is_some_and(|peer| peer.local.is_some());
        let concerns = self.local.is_some()
            && life.closed_by.is_none()
            && life.links.iter().any(|link| is_local(link.src) || is_local(link.dst));
        !concerns || self.interfaces.local_scan_began() >= heal.end_ns
    }

    /// Whether readers of a partition's record are answered: it is known what happened up to the heal, or was waited for long enough.
    pub(super) fn is_answerable(&self, partition: &Partition) -> bool {
        partition.life.heal.is_none_or(|heal| !is_awaited(heal)) || self.is_looked_through(partition)
    }

    /// Notes which hooks were read since the heals of partitions that wait for that.
    pub(super) fn note_hooks_read(&mut self) {
        for (generation, heal) in self.awaiting_hooks() {
            let Self { ledger, interfaces, .. } = self;
            if let Some(experiment) = ledger.experiment_mut(generation) {
                experiment.unread_hooks.retain(|id| !interfaces.are_hooks_known_since(*id, heal));
            }
        }
    }

    /// The generations of the partitions whose records wait for readings of the hooks, each with the end of its heal.
    fn awaiting_hooks(&self) -> Vec<(u32, MonoNs)> {
        let unread = self.ledger.iter().filter(|partition| !partition.experiment.unread_hooks.is_empty());
        let waiting = unread.filter_map(|partition| {
            let heal = partition.life.heal.filter(|heal| is_awaited(*heal))?;
            Some((partition.life.generation, heal.end_ns))
        });
        waiting.collect()
    }

    /// Carries out one command, which was sent at an instant.
    pub async fn command(&mut self, command: Command, sent_at: Option<MonoNs>) {
        fault::here("command/take");
        self.sent_at = sent_at;
        // A reader that has gone away does not want its answer.
        match command {
            Command::Status(reply) => drop(reply.send(self.status().await)),
            Command::Metrics(reply) => drop(reply.send(Box::new(self.reading()))),
            // A client that is gone by now would not know what it has cut.
            Command::Enable { reply, is_gone, .. } if reply.is_closed() || is_gone() => {}
            Command::Enable { name, request, whose, is_gone, reply } => {
                let answer = self.enable(&name, request, whose);
                let undelivered = if is_gone() { Err(answer) } else { reply.send(answer) };
                if let Err(Ok(undelivered)) = undelivered {
                    self.withdraw_undelivered(undelivered.generation);
                }
            }
            Command::Heal { name, reply } => drop(reply.send(self.heal(&name))),
            Command::HealAll(reply) => drop(reply.send(Ok(self.heal_where(|_| true, HealedBy::Request)))),
            Command::Partitions(reply) => {
                let _ = reply.send(self.listed());
            }
            Command::Partition { name, from, reply } => {
                let newest = self.newest(&name).map(|partition| partition.life.generation);
                let _ = reply.send(newest.map(|generation| self.view(generation, from)));
            }
            Command::Recovery { name, generation, wait, reply } => {
                self.recovery(&name, generation, wait, reply);
            }
            Command::Probes { name, generation, reply } => {
                let _ = reply.send(self.find(&name, generation).map(|partition| self.probe_list(partition)));
            }
            Command::ProbesPart { part, reply } => drop(reply.send(self.some_probes(&part))),
            Command::Mark { text, reply } => {
                let event = self.event(MonoNs::now(), EventKind::Mark { text });
                let _ = reply.send(Event::clone(&event));
            }
            Command::Events { since, reply } => {
                let (page, is_more) = self.timeline.page(since, EventFeed::PAGE);
                let _ = reply.send(EventFeed { page, is_more, live: self.feed.subscribe() });
            }
            Command::Disconnected(connection) => {
                let is_owned = |life: &Life| life.owner == Some(connection.0);
                self.heal_where(is_owned, HealedBy::Disconnect);
                // Enabled later, they would have no owner whose end heals them.
                self.withdraw_where(is_owned, HealedBy::Disconnect);
            }
            // The daemon's loop sends the answers to these later.
            Command::ProbeOnce(_) | Command::Apply { .. } => {}
        }
        self.sent_at = None;
    }

    /// Ends what was applied for a client that went away before its answer.
    pub(super) fn withdraw_undelivered(&mut self, generation: u32) {
        let is_it = |life: &Life| life.generation == generation;
        self.heal_where(is_it, HealedBy::Disconnect);
        self.withdraw_where(is_it, HealedBy::Disconnect);
    }

    pub(super) fn event(&mut self, at: MonoNs, kind: EventKind) -> Arc<Event> {
        let event = self.timeline.add(at, WallOffset::now(), kind);
        let _ = self.feed.send(Arc::clone(&event));
        event
    }

    /// The newest partition of a name.
    pub(super) fn newest(&self, name: &str) -> Answer<&Partition> {
        self.find(name, None)
    }

    pub(super) fn find(&self, name: &str, generation: Option<u32>) -> Answer<&Partition> {
        self.ledger.find(name, generation).ok_or_else(|| {
            let what = match (generation, self.ledger.find(name, None)) {
                (Some(generation), Some(newest)) => format!(
                    "no partition \"{name}\" of generation {generation} is known; its newest is of generation {}",
                    newest.life.generation
                ),
                _ => format!("no partition \"{name}\" is known"),
            };
            let kept = self.ledger.iter().map(|kept| kept.life.name.as_str());
            let proposal = did_you_mean(name, kept.filter(|kept| *kept != name));
            Problem::new(Code::UnknownPartition, what)
                .remedy(format!("{proposal}see `injector status`, or GET /v1/partitions for those still kept"))
        })
    }

    /// A partition whose generation the caller has from the ledger.
    pub(super) fn partition(&self, generation: u32) -> &Partition {
        self.ledger.get(generation).expect("the caller holds the generation of a partition that is kept")
    }

    pub(super) fn experiment(&mut self, generation: u32) -> &mut Experiment {
        self.ledger
            .experiment_mut(generation)
            .expect("the caller holds the generation of a partition that is kept")
    }

    /// Carries out what a transition of the ledger asks for.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut is_to_be_judged = false;
        for effect in effects {
            match effect {
                Effect::Cut { generation, effective, at } => {
                    let name = self.partition(generation).life.name.clone();
                    self.count_cut(generation, effective);
                    self.event(at, EventKind::Cut { name, generation, effective });
                }
                Effect::Healed(healed) => {
                    self.end_strangers(healed.generation);
                    if let Some(check) = &self.partition(healed.generation).experiment.check {
                        check.stop();
                    }
                    // A program that came before ours since the last reading is found right after the heal.
                    self.hooks_watched = None;
                    self.experiment(healed.generation).unread_hooks = self.interfaces.hooked_now();
                    self.scan_local_peers();
                    self.count_heal(&healed);
                    self.event(healed.at.end_ns, EventKind::Heal { healed });
                }
                Effect::LeaseLapsed { expired } => {
                    tracing::error!(
                        "the lease lapsed: this process was held up; every partition has been healed"
                    );
                    self.event(expired, EventKind::LeaseLapsed);
                }
                Effect::StampsKept { error } => tracing::warn!(error, "stamps could not be freed"),
                Effect::Judge => is_to_be_judged = true,
            }
        }
        if is_to_be_judged {
            self.judge_watched(JUDGING);
        }
    }

    /// Takes in news of an interface; answers the namespaces whose probes are to be restarted.
    pub async fn interface(&mut self, event: InterfaceEvent) -> Restarts {
        if matches!(event, InterfaceEvent::Cgroups | InterfaceEvent::OwnersLost) {
            self.scan_local_peers();
        }
        let cuts = self.cuts();
        let changes = self.interfaces.handle(event, &self.config, &mut self.kernel, cuts).await;
        for (interface, what) in changes.reported {
            self.event(MonoNs::now(), EventKind::Interface { interface, what });
        }
        if changes.hooks {
            self.hooks_watched = None;
        }
        let has_moved = changes.contained.is_some_and(|addresses| self.config.place(&addresses));
        if has_moved {
            self.placed();
        }
        Restarts { reborn: changes.reborn, has_moved }
    }

    /// Endpoints have other addresses.
    fn placed(&mut self) {
        self.shape_names = Arc::new(ShapeNames::of(&self.config));
        self.wire_ids = wire_ids(&self.config);
        if let Err(error) = self.kernel.rewire(&self.config) {
            tracing::error!(%error, "the programs look for responses at old addresses");
        }
    }

    /// Takes note of addresses that the config lists for one peer and another one claims.
    pub fn take_over(&mut self) {
        let claims = match self.kernel.learned_claims() {
            Ok(claims) => claims,
            Err(error) => return tracing::error!(%error, "what the peers claim can't be read"),
        };
        for (interface, what) in self.interfaces.take_over(&self.config, claims) {
            tracing::warn!("{interface}: {what}");
            self.event(MonoNs::now(), EventKind::Interface { interface, what });
        }
    }

    /// The facts about cuts that the interfaces need now.
    pub(super) fn cuts(&self) -> Cuts {
        let open = self.ledger.iter().filter(|partition| partition.life.is_open());
        let is_lossy = |partition: &Partition| partition.experiment.request.traffic.loss != Percent::ALL;
        Cuts {
            open_since: open.filter_map(|partition| partition.life.cut.map(|cut| cut.begin_ns)).min(),
            is_rolling: self.ledger.iter().any(|partition| partition.life.is_live() && is_lossy(partition)),
        }
    }

    /// Takes in a probe's result.
    pub fn sample(&mut self, sample: Sample) {
        let endpoint = sample.endpoint;
        let done = sample.done;
        let error = sample.failure.as_ref().map(|failure| failure.text.to_string());
        self.history.probed(&sample);
        self.samples.add(sample);
        if self.samples.kept() > samples::MOST {
            self.give_up_oldest_evidence();
        }
        let wanted = self.config.ready.consecutive as usize;
        let last = self.samples.last(endpoint, wanted);
        let healthy = sample::healthy(&last, wanted);
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

    /// Whether an endpoint's last K probes succeeded; `None` where that is not known, or where the last of them is too old to say how
    /// it is now, since its prober is gone.
    pub(super) fn healthy_now(&self, endpoint: EndpointId) -> Option<bool> {
        let options = &self.config.endpoints[endpoint.0].probe.options;
        let newest = self.samples.last(endpoint, 1).first()?.scheduled;
        let age = MonoNs::now().saturating_since(newest);
        self.healthy[endpoint.0].filter(|_| age <= sample::lasts(options.interval, options.timeout))
    }

    /// Gives up the evidence of the open partition whose probes go back furthest, so that those of the others can be kept.
    fn give_up_oldest_evidence(&mut self) {
        let open = self.ledger.iter().filter(|partition| partition.life.is_open());
        let oldest = open.min_by_key(|partition| partition.experiment.samples_from.iter().sum::<u64>());
        if let Some(generation) = oldest.map(|partition| partition.life.generation) {
            let from = self.samples.mark();
            self.experiment(generation).samples_from = from;
            let broken = HarnessFailure::TooManyProbes(samples::MOST);
            tracing::warn!(partition = self.partition(generation).life.name, %broken, "its evidence is given up");
            self.ledger.broke(generation, broken);
        }
        let open = self.ledger.iter().filter(|partition| partition.life.is_open());
        self.samples.trim(open.map(|partition| partition.experiment.samples_from.as_slice()));
    }

    /// Whether an endpoint gates a partition's verdict.
    pub(super) fn required(&self, endpoint: usize, request: &PartitionRequest) -> bool {
        let endpoint = &self.config.endpoints[endpoint];
        endpoint.role == Role::Required
            && !request.verdict.advisory.iter().any(|name| *name == endpoint.name || *name == endpoint.base)
    }

    /// The data plane's counters since the start; `None` where the map can't be read.
    pub(super) fn counters(&self) -> Option<Vec<u64>> {
        let counters = self.kernel.counters().ok()?;
        Some(counters.iter().zip(&self.counted).map(|(now, before)| now + before).collect())
    }

    /// Stamps lost since the start; `None` where the map can't be read. (A lost wake-up loses nothing: it is among the
    /// counters alone.)
    pub(super) fn lost_stamps(&self) -> Option<u64> {
        self.counters().map(|counters| counters[counter::STAMPS_LOST as usize])
    }

    /// Whether something has to be judged regularly.
    pub fn is_busy(&self) -> bool {
        !self.waiters.is_empty() || !self.held.is_empty() || self.ledger.is_open()
    }

    /// When the kernel next starts or ends something by itself.
    pub fn next_instant(&self) -> Option<MonoNs> {
        self.ledger.next_instant()
    }

    /// Does the work that time alone makes due: ends cuts, withdraws prepared partitions, judges, and answers
    /// readers.
    pub fn tick(&mut self) {
        let now = Now::read();
        let effects = self.ledger.expire(&mut self.kernel, now);
        self.carry_out_but_judging(effects);
        self.ask_for_hooks_after_heals();
        let max_for = self.config.max_for.0;
        self.withdraw_where(|life| now.mono.saturating_since(life.prepared_at) > max_for, HealedBy::Request);
        self.judge_watched(JUDGING);
        self.answer_waiters();
        if !self.ledger.is_open() {
            self.samples.trim(std::iter::empty());
        }
    }

    /// Asks again for the hooks that records wait for, where a reading failed.
    fn ask_for_hooks_after_heals(&mut self) {
        let heals = self.awaiting_hooks().into_iter().map(|(_, heal)| heal);
        if let Some(youngest) = heals.max() {
            self.interfaces.ask_for_hooks_since(youngest);
        }
    }

    /// Asks what is on the hooks while something is cut, and once more after each heal.
    pub fn watch_hooks(&mut self) {
        let now = MonoNs::now();
        let is_cut = self.ledger.iter().any(|partition| partition.life.state == PartitionState::Active);
        let is_due = match self.hooks_watched {
            None => true,
            Some(last) => {
                let pause = HOOKS_WATCHED_EVERY.max(self.interfaces.hooks_cost() * HOOKS_REST);
                is_cut && now.saturating_since(last) >= pause
            }
        };
        if is_due {
            let is_all_due = now.saturating_since(self.all_hooks_watched) >= ALL_HOOKS_WATCHED_EVERY;
            let scope =
                if is_all_due || self.hooks_watched.is_none() { HookScope::All } else { HookScope::Ours };
            if scope == HookScope::All {
                self.all_hooks_watched = now;
            }
            let are_all_asked = self.interfaces.ask_for_hooks(scope);
            self.hooks_watched = are_all_asked.then_some(now);
        }
    }

    /// Detaches everywhere.
    pub async fn detach(mut self) {
        self.interfaces.detach().await;
    }
}

/// Whether a record still waits for what is read after its heal.
fn is_awaited(heal: Stamped) -> bool {
    MonoNs::now().saturating_since(heal.end_ns) < AFTER_HEAL
}

/// The clock of this host.
fn host_clock() -> HostClock {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    HostClock {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot: boot.trim().to_owned(),
    }
}
