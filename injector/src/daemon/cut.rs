//! The steps from a request to a cut: normalise, resolve, prepare, commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::evidence::strangers::Strangers;
use super::evidence::witness::Witness;
use super::partition::{Experiment, Partition, Pressures, named};
use super::request::Answer;
use super::request::{Asked, Resolution, Wanted};
use super::state::{JUDGING, State};
use super::verify;
use crate::datapath::DatapathError;
use crate::fault;
use crate::server::command::{Origin, PutMode};
use injector_core::api::{
    Code, EnableRequest, Owner, PartitionRequest, PartitionState, PartitionView, Problem, StartAt, Warning,
    WarningCode,
};
use injector_core::clock::{MonoNs, WallOffset};
use injector_core::config::LONGEST_DEADLINE;
use injector_core::ledger::{Changed, Draft, Life, NotPrepared, Now};
use injector_core::model::{Link, PeerId, Percent, Traffic};
use injector_core::nearest::did_you_mean;
use injector_core::plan;

/// The longest id of a request: a UUID has 36 bytes.
const LONGEST_REQUEST_ID: usize = 128;

impl State {
    /// Carries out a request whose links are known, and answers it.
    pub(super) fn apply(&mut self, wanted: Wanted) {
        // A client that is gone by now would not know what it has cut.
        if wanted.asked.reply.is_closed() || (wanted.asked.is_gone)() {
            return;
        }
        let before = self.ledger.next_generation();
        let Wanted { asked, resolution, .. } = wanted;
        let Asked { name, request, step, from, whose, is_gone, reply, sent_at } = asked;
        self.sent_at = sent_at;
        let answer = self.cut(&name, *request, (step, from), whose, resolution);
        self.sent_at = None;
        fault::here("command/answer");
        let undelivered = if is_gone() { Err(answer) } else { reply.send(answer) };
        // A partition that an earlier request has made stays.
        if let Err(Ok(undelivered)) = undelivered
            && undelivered.generation >= before
        {
            self.withdraw_undelivered(undelivered.generation);
        }
    }

    fn cut(
        &mut self,
        name: &str,
        request: PartitionRequest,
        (step, from): (PutMode, Option<usize>),
        whose: Origin,
        resolution: Resolution,
    ) -> Answer<PartitionView> {
        if self.stopping {
            return Err(Problem::new(Code::Stopping, "the daemon is stopping"));
        }
        let request = self.normalised(request)?;
        // Another request may have been carried out in between.
        if let Some(view) = self.answered_before(name, &request, step, from)? {
            return Ok(view);
        }
        let mut partition = self.draft(name, request, whose, resolution)?;
        self.keep_here(&mut partition)?;
        self.within_link_limit(whose.by, partition.life.links.len())?;
        fault::here("apply/resolved");
        let coverage = self.assess_coverage(&mut partition);
        let unchecked = self.unchecked(&partition.experiment.request, &partition.life.links);
        // The record of a full cut that lasts says link by link what the check found.
        let request = &partition.experiment.request;
        if step == PutMode::DryRun || !request.traffic.is_full() || verify::is_too_short(request) {
            partition.experiment.warnings.extend(unchecked);
        }
        fault::here("apply/looked");
        let start = partition.experiment.request.at.map(|at| self.start(at)).transpose()?;
        self.spare_ssh(&partition, start)?;
        if step == PutMode::DryRun {
            return Ok(self.dry(&partition, from));
        }
        self.within_share(whose.by)?;
        self.admit(&mut partition, &coverage)?;
        let generation = self.prepare(partition)?;
        fault::here("apply/prepared");
        if step == PutMode::Apply {
            let start = match self.partition(generation).experiment.request.at {
                // The instant lay ahead when the cut was asked for, and may no longer.
                Some(at) => Some(self.start(at).inspect_err(|_| self.discard(generation))?),
                None => None,
            };
            self.commit(generation, start)?;
        }
        Ok(self.view(generation, from))
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
        if deadline > LONGEST_DEADLINE {
            return Err(bad("deadline", format!("{deadline} is longer than {LONGEST_DEADLINE}"))
                .remedy("shorten it: every probe until then is kept in memory"));
        }
        let parameter = |field: &str, detail: String| Problem::new(Code::BadParameter, detail).field(field);
        if let Some(id) = &request.request_id
            && (id.is_empty() || id.len() > LONGEST_REQUEST_ID)
        {
            let what = format!("a request_id has 1 to {LONGEST_REQUEST_ID} bytes, this one {}", id.len());
            return Err(parameter("request_id", what).remedy("make a shorter one, such as a UUID"));
        }
        let endpoints = self.config.endpoints.len() * 2;
        if request.verdict.advisory.len() > endpoints {
            let what = format!("{} names, at most {endpoints}", request.verdict.advisory.len());
            return Err(parameter("advisory", what).remedy("name each endpoint once"));
        }
        let most = injector_common::slot::MAX_SCOPES;
        if request.traffic.scopes.len() > most {
            return Err(Problem::new(
                Code::BadParameter,
                format!("{} scopes, at most {most}", request.traffic.scopes.len()),
            )
            .field("scopes")
            .remedy("use port ranges"));
        }
        let asked = request.traffic.neighbour;
        request.traffic.neighbour = plan::neighbour(asked, &self.config.protect).ok_or_else(|| {
            parameter(
                "neighbour",
                "`protect` lets ports of all peers through each cut, which takes the ARP and neighbour discovery that `neighbour: drop` drops".into(),
            )
            .remedy("leave `neighbour` out, or protect the addresses of the hosts that need it instead of ports")
        })?;
        for name in &request.verdict.advisory {
            let known =
                self.config.endpoints.iter().any(|endpoint| endpoint.name == *name || endpoint.base == *name);
            if !known {
                let all: Vec<&str> =
                    self.config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
                let bases = self.config.endpoints.iter().map(|endpoint| endpoint.base.as_str());
                let proposal = did_you_mean(name, all.iter().copied().chain(bases));
                return Err(Problem::new(
                    Code::UnknownEndpoint,
                    format!("no endpoint \"{name}\" is configured"),
                )
                .field("advisory")
                .remedy(format!("{proposal}the endpoints are {}", all.join(", "))));
            }
        }
        Ok(request)
    }

    /// The partition that this request was answered with before, if it was.
    pub(super) fn known(&self, name: &str, request: &PartitionRequest) -> Answer<Option<&Partition>> {
        let of_request = request.request_id.as_ref().and_then(|id| self.ledger.of_request(id));
        if let Some(generation) = of_request {
            let partition = self.ledger.get(generation);
            let is_same = |partition: &&Partition| {
                partition.life.name == name && partition.experiment.request == *request
            };
            return match partition.filter(is_same) {
                Some(partition) => Ok(Some(partition)),
                None => {
                    Err(Problem::new(Code::RequestIdUsed, "this request_id was used for another request")
                        .field("request_id")
                        .remedy("make a new id for each request"))
                }
            };
        }
        let Ok(partition) = self.newest(name) else { return Ok(None) };
        if !partition.life.is_live() && partition.life.state != PartitionState::Prepared {
            return Ok(None);
        }
        if partition.experiment.request == *request {
            return Ok(Some(partition));
        }
        Err(Problem::new(Code::NameTaken, format!("a partition \"{name}\" is live, with another request"))
            .field("name")
            .remedy(format!("heal it (injector heal {name}), or take another name")))
    }

    /// The partition of a request, which is nowhere yet.
    fn draft(
        &self,
        name: &str,
        request: PartitionRequest,
        whose: Origin,
        resolution: Resolution,
    ) -> Answer<Partition> {
        let Resolution { resolved, seed, roles } = resolution;
        if let Some(at) = request.at {
            self.start(at)?;
        }
        let draft = Draft {
            name: name.to_owned(),
            owner: owned_by(request.owner, whose),
            request_id: request.request_id.clone(),
            links: resolved.links,
            length: request.for_.unwrap_or(self.config.max_for),
        };
        let experiment = Experiment {
            unread_hooks: BTreeSet::new(),
            by: whose.by,
            seed: resolved.drawn.then_some(seed),
            resolved: resolved.shape,
            roles,
            deadline: request.deadline.unwrap_or(self.config.deadline),
            sockets_asked: false,
            sockets: BTreeMap::new(),
            not_here: Vec::new(),
            not_healthy: self.not_healthy(&request),
            coverage: Vec::new(),
            left_out: BTreeSet::new(),
            warnings: Vec::new(),
            witness: Witness::default(),
            check: None,
            samples_from: self.samples.mark(),
            pressure: Pressures::default(),
            lost_before: None,
            announced: HashSet::new(),
            strangers: Strangers::default(),
            counted: None,
            record: None,
            probes: Arc::default(),
            listed: None,
            request,
        };
        Ok(Partition { life: Life::new(draft, MonoNs::now()), experiment })
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
    fn prepare(&mut self, mut partition: Partition) -> Answer<u32> {
        let cells = self.cells(&partition.experiment.request.traffic, &partition.life.links);
        let warnings = self.groups_lost(&partition.life.links, &cells);
        partition.experiment.warnings.extend(warnings);
        let contents = plan::slot(&partition.experiment.request.traffic);
        if !self.ledger.has_free_slot() {
            self.end_wire_watch();
        }
        // Those whose watch is over and that wait for hooks alone give theirs back first.
        if !self.ledger.has_free_slot() {
            self.judge_watched(JUDGING);
        }
        if !self.ledger.has_free_slot() {
            self.evict_oldest_watch(&partition.life.name);
        }
        let generation = self.ledger.prepare(&mut self.kernel, partition, contents, cells).map_err(
            |error| match error {
                NotPrepared::Plane(error) => data_plane(&error),
                NotPrepared::NoFreeSlot => Problem::new(
                    Code::NoFreeSlot,
                    format!("{} partitions are live, and there are no more slots", injector_common::SLOTS),
                )
                .remedy("heal one of them"),
            },
        )?;
        self.refresh_rate();
        Ok(generation)
    }

    pub(super) fn enable(
        &mut self,
        name: &str,
        EnableRequest { at, owner }: EnableRequest,
        whose: Origin,
    ) -> Answer<PartitionView> {
        let partition = self.newest(name)?;
        if partition.life.state != PartitionState::Prepared {
            return Err(Problem::new(
                Code::WrongState,
                format!("\"{name}\" is not prepared: it was enabled or withdrawn before"),
            )
            .remedy("prepare it again after its heal"));
        }
        let generation = partition.life.generation;
        let at = at.or(partition.experiment.request.at);
        fault::here("enable/begin");
        // A wrong time changes nothing: it stays prepared.
        let start = at.map(|at| self.start(at)).transpose()?;
        self.spare_ssh(self.partition(generation), start)?;
        let warnings = self.confirm_hooks();
        self.experiment(generation).warnings.extend(warnings);
        self.commit(generation, start)?;
        if let Some(owner) = owner {
            self.ledger.set_owner(generation, owned_by(owner, whose));
            self.experiment(generation).request.owner = owner;
        }
        Ok(self.view(generation, None))
    }

    /// Makes a prepared partition live, at once or at an instant ahead.
    fn commit(&mut self, generation: u32, ahead: Option<MonoNs>) -> Answer<()> {
        // A peer that moved while loss was rolled has its hook renewed now.
        let is_rolling = self.cuts().is_rolling;
        self.interfaces.bind(&mut self.kernel, is_rolling);
        let lost_before = self.lost_stamps();
        let strangers = self.begin_strangers();
        let pressure = Pressures::read();
        let check = self.take_check(generation);
        let not_healthy = self.not_healthy(&self.partition(generation).experiment.request);
        let experiment = self.experiment(generation);
        experiment.not_healthy = not_healthy;
        experiment.lost_before = lost_before;
        experiment.pressure = pressure;
        experiment.strangers = strangers;
        experiment.check = check;
        let Changed { answer, effects } =
            self.ledger.commit(&mut self.kernel, generation, ahead, Now::read());
        self.carry_out(effects);
        if let Err(fault) = answer {
            self.refresh_rate();
            return Err(data_plane(&DatapathError::from(fault)));
        }
        fault::here("apply/committed");
        self.warn_of_loss(generation);
        // Something may have come before our programs since the hooks were last read.
        self.hooks_watched = None;
        Ok(())
    }

    /// Warns where loss is not what was asked for.
    fn warn_of_loss(&mut self, generation: u32) {
        let Partition { life, experiment } = self.partition(generation);
        if experiment.request.traffic.loss == Percent::ALL {
            return;
        }
        let warnings: Vec<Warning> = life
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
            tracing::warn!(partition = life.name, warning = warning.text);
        }
        self.experiment(generation).warnings.extend(warnings);
    }

    /// The cells that a partition affects in the matrix, as the peers are known now.
    fn cells(&self, traffic: &Traffic, links: &[Link]) -> Vec<plan::Cell> {
        let identity = self.interfaces.hooked_identity();
        let bound = identity.bound();
        let peers: Vec<PeerId> = self.config.names.peers().collect();
        let forwards = |peer| identity.peers.get(&peer).is_some_and(|known| known.forwards);
        let around = plan::CellContext {
            peers: &peers,
            forwards: &forwards,
            // On a loopback device, what is sent to groups is not judged.
            is_bound: &|peer| bound.contains(&peer) || self.is_local(peer),
        };
        plan::cells(traffic, links, &around)
    }

    /// Whether a peer is on this machine.
    pub(super) fn is_local(&self, peer: PeerId) -> bool {
        self.config.peer(peer).is_some_and(|peer| peer.local.is_some())
    }

    /// Warns where multicast and broadcast are lost for the world as well, which is not cut off.
    fn groups_lost(&self, links: &[Link], cells: &[plan::Cell]) -> Option<Warning> {
        let spares_world = |cell: &&plan::Cell| {
            let to_world = Link { src: cell.src, dst: PeerId::WORLD };
            cell.dst == plan::Column::Group && links.binary_search(&to_world).is_err()
        };
        let senders = cells.iter().filter(spares_world);
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
    fn discard(&mut self, generation: u32) {
        let effects = self.ledger.undo(&mut self.kernel, generation);
        self.carry_out(effects);
        self.refresh_rate();
    }
}

/// The connection whose end heals a partition, if one does.
fn owned_by(owner: Owner, whose: Origin) -> Option<u64> {
    (owner == Owner::Connection).then_some(whose.connection.0)
}

fn data_plane(error: &DatapathError) -> Problem {
    Problem::new(Code::DataPlane, error.to_string()).remedy("see the daemon's log, and `injector doctor`")
}
