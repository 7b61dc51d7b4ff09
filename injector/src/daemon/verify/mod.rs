//! The optional active check (`verify: active`): the daemon's own frames over the links that are cut in full, before the
//! cut (the control) and again and again while it lasts. The namespaces' threads send and listen; nothing waits for
//! them but the cut itself, and that for a bounded time.

mod round;
mod tally;

pub use round::{Report, Sink};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::round::{Incoming, Round, Silence, Trip};
use self::tally::{Tally, Unchecked};
use super::attachment::{Interfaces, Nic};
use super::partition::{Experiment, Partition};
use super::state::State;
use crate::netns::Identity;
use crate::server::command::{Command, Step};
use injector_core::api::{LinkCheck, PartitionState};
use injector_core::clock::MonoNs;
use injector_core::config::Config;
use injector_core::ledger::Life;
use injector_core::model::{Link, PeerNames};

/// How many links of a partition are checked at most.
const MOST: usize = 64;
/// How long a cut waits for its control at most.
const HOLD: Duration = Duration::from_millis(350);
/// How long before a start that was set ahead the control is sent.
const AHEAD: Duration = Duration::from_millis(600);
/// How long before such a start the last frame of the control may be sent.
const CLEAR: Duration = Duration::from_millis(20);
/// How long after the cut it is first tried: what was on its way has arrived by then.
const SETTLED: Duration = Duration::from_millis(200);
/// How often it is tried from then on.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long before an end that is known it is tried once more,
const LAST: Duration = Duration::from_millis(350);
/// how far from the try before,
const APART: Duration = Duration::from_millis(300);
/// and how long before that end the last frame may be sent.
const QUIET: Duration = Duration::from_millis(60);
/// How long a try may take before it is counted without those that did not report.
const PATIENCE: Duration = Duration::from_millis(400);

/// The active check of one partition.
pub struct Check {
    /// In each of its frames.
    token: u64,
    links: BTreeMap<Link, Tally>,
    /// The trips on which the control arrived; `None` before it was sent.
    proven: Option<Vec<Trip>>,
    pending: Option<Pending>,
    /// The number of the next try.
    number: u32,
    /// When the last try began.
    asked: Option<MonoNs>,
    /// The namespaces that have yet to report: they are not asked again until they have.
    unreported: BTreeSet<Identity>,
    /// Ends the sending of the try that is under way.
    stop: Arc<AtomicBool>,
}

/// A try that is under way.
struct Pending {
    round: Arc<Round>,
    asked: MonoNs,
    reports: BTreeMap<Identity, Result<Incoming, String>>,
}

impl Check {
    fn new(links: &[Link]) -> Self {
        Self {
            token: rand::random(),
            links: links.iter().map(|link| (*link, Tally::default())).collect(),
            proven: None,
            pending: None,
            number: 0,
            asked: None,
            unreported: BTreeSet::new(),
            stop: Arc::default(),
        }
    }

    /// Sends the control.
    fn begin_control(&mut self, interfaces: &Interfaces, config: &Config, until: MonoNs, sink: &Sink) {
        self.proven = Some(Vec::new());
        let trips = self.trips(interfaces, config);
        self.begin(trips, interfaces, until, sink);
    }

    /// Tries again where the control arrived, as far as the interfaces are still the same.
    fn begin_again(&mut self, interfaces: &Interfaces, config: &Config, until: MonoNs, sink: &Sink) {
        let now = self.trips(interfaces, config);
        let proven = self.proven.iter().flatten();
        let trips = proven.filter(|trip| now.contains(trip)).cloned().collect();
        self.begin(trips, interfaces, until, sink);
    }

    fn begin(&mut self, trips: Vec<Trip>, interfaces: &Interfaces, until: MonoNs, sink: &Sink) {
        let now = MonoNs::now();
        self.asked = Some(now);
        self.stop = Arc::default();
        let round = Arc::new(Round::new(self.token, self.number, trips, until, self.stop.clone()));
        self.number += 1;
        for space in round.spaces() {
            if let Some(worker) =
                interfaces.workers.all().map(|(_, worker)| worker).find(|worker| worker.identity() == space)
            {
                self.unreported.insert(space);
                round.ask(worker, sink);
            }
        }
        self.pending = Some(Pending { round, asked: now, reports: BTreeMap::new() });
        self.settle(now);
    }

    /// Between which interfaces each link can be tried now.
    fn trips(&mut self, interfaces: &Interfaces, config: &Config) -> Vec<Trip> {
        let identity = |nic: &Nic| Some(interfaces.workers.running(nic.netns.as_ref())?.identity());
        let mut trips = Vec::new();
        let mut links = 0;
        for (link, tally) in &mut self.links {
            let pairs = match interfaces.nic_pairs(config, *link) {
                Ok(_) if links == MOST => {
                    tally.why = Some(Unchecked::TooMany(MOST));
                    continue;
                }
                Ok(pairs) => pairs,
                Err(why) => {
                    tally.why = Some(Unchecked::NoPair(why));
                    continue;
                }
            };
            links += 1;
            for (from, to) in pairs {
                let free = |nic: &Nic| {
                    let space = identity(nic).filter(|space| !self.unreported.contains(space));
                    space.ok_or_else(|| Unchecked::Silent(Silence::NoAnswer(nic.clone())))
                };
                match free(&from).and_then(|sender| Ok((sender, free(&to)?))) {
                    Ok((sender, receiver)) => trips.push(Trip { link: *link, from, sender, to, receiver }),
                    Err(why) => tally.why = Some(why),
                }
            }
        }
        trips
    }

    /// Takes in a report; whether it is of this check.
    fn report(&mut self, report: Report) -> Option<Report> {
        if report.token != self.token {
            return Some(report);
        }
        self.unreported.remove(&report.namespace);
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.round.number == report.number) {
            pending.reports.insert(report.namespace, report.heard);
            self.settle(MonoNs::now());
        }
        None
    }

    /// Counts the try that is under way, once all have reported or it has taken too long.
    fn settle(&mut self, now: MonoNs) {
        let is_over = |pending: &mut Pending| {
            pending.reports.len() == pending.round.spaces().len() || pending.asked + PATIENCE <= now
        };
        if let Some(pending) = self.pending.take_if(is_over) {
            self.count(&pending);
        }
    }

    fn count(&mut self, Pending { round, reports, .. }: &Pending) {
        let mut found: BTreeMap<Link, (u64, round::Outcome)> = BTreeMap::new();
        for (at, trip) in round.trips.iter().enumerate() {
            match round.outcome(at, reports) {
                Ok(outcome) => {
                    if round.number == 0 && outcome.arrived > 0 {
                        self.proven.get_or_insert_default().push(trip.clone());
                    }
                    let none = round::Outcome { sent: 0, arrived: 0, end: MonoNs(0) };
                    let (trips, sum) = found.entry(trip.link).or_insert((0, none));
                    *trips += 1;
                    sum.sent += outcome.sent;
                    sum.arrived += outcome.arrived;
                    sum.end = sum.end.max(outcome.end);
                }
                Err(silence) => {
                    if let Some(tally) = self.links.get_mut(&trip.link) {
                        tally.why = Some(Unchecked::Silent(silence));
                    }
                }
            }
        }
        for (link, (_, outcome)) in found {
            match self.links.get_mut(&link) {
                Some(tally) if round.number == 0 => tally.control(outcome.arrived),
                Some(tally) => tally.tried(outcome),
                None => {}
            }
        }
    }

    /// Ends the try that is under way: nothing is sent any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// What is to be recorded of a link; `heal` is when its cut ended, if it has.
    pub fn recorded(&self, link: Link, heal: Option<MonoNs>, names: &PeerNames) -> LinkCheck {
        self.links.get(&link).cloned().unwrap_or_default().recorded(heal, names)
    }
}

/// A command that waits for the control of its cut.
pub struct Held {
    command: Command,
    control: Control,
    until: MonoNs,
}

/// The check of a cut that is about to be made, and the seed that its links were drawn by.
pub struct Control {
    check: Check,
    /// `None` if nothing was drawn.
    pub seed: Option<u64>,
}

impl State {
    /// Sends the control of a cut that is to be verified, and keeps its command until [`Self::release_held`]; answers the
    /// command if it is to be carried out at once.
    pub fn hold(&mut self, command: Command, sink: &Sink) -> Option<Command> {
        let Some((links, seed)) = self.to_be_controlled(&command) else { return Some(command) };
        let mut check = Check::new(&links);
        let until = MonoNs::now() + HOLD;
        check.begin_control(&self.interfaces, &self.config, until, sink);
        self.held.push(Held { command, control: Control { check, seed }, until });
        None
    }

    /// The links that a command cuts at once and in full, and the seed that they were drawn by, if it wants them checked.
    fn to_be_controlled(&self, command: &Command) -> Option<(Vec<Link>, Option<u64>)> {
        match command {
            Command::Apply { name, request, step: Step::Apply, connection, .. }
                if request.verdict.verify.is_some()
                    && request.at.is_none()
                    && request.traffic.is_full()
                    && !self.stopping =>
            {
                let request = self.normalised((**request).clone()).ok()?;
                if self.known(name, &request).ok()?.is_some() {
                    return None;
                }
                let Partition { life, experiment } = self.resolve(name, request, *connection).ok()?;
                Some((life.links, experiment.seed))
            }
            Command::Enable { name, at: None, .. } => {
                let Partition { life, experiment } = self.newest(name).ok()?;
                let request = &experiment.request;
                let is_wanted = life.state == PartitionState::Prepared
                    && request.verdict.verify.is_some()
                    && request.at.is_none()
                    && request.traffic.is_full();
                is_wanted.then(|| (life.links.clone(), None))
            }
            _ => None,
        }
    }

    /// Carries out the commands whose control has come back, or has taken too long.
    pub async fn release_held(&mut self) {
        let now = MonoNs::now();
        let is_ready = |held: &Held| held.control.check.pending.is_none() || held.until <= now;
        while let Some(at) = self.held.iter().position(is_ready) {
            let Held { command, mut control, .. } = self.held.remove(at);
            control.check.stop();
            if let Some(pending) = control.check.pending.take() {
                control.check.count(&pending);
            }
            self.control = Some(control);
            self.command(command).await;
            self.control = None;
        }
    }

    /// The check of a partition that is made live.
    pub(super) fn take_check(&mut self, generation: u32) -> Option<Check> {
        let control = self.control.take();
        let Partition { life, experiment } = self.partition(generation);
        experiment.request.verdict.verify?;
        let links = &life.links;
        let mut check = control.map_or_else(|| Check::new(links), |control| control.check);
        for link in links {
            let tally = check.links.entry(*link).or_default();
            if !experiment.request.traffic.is_full() {
                tally.why = Some(Unchecked::NotFull);
            }
        }
        Some(check)
    }

    /// Begins the tries that are due, and counts those that have taken too long.
    pub fn ask_for_checks(&mut self, sink: &Sink) {
        let now = MonoNs::now();
        for (life, experiment) in self.ledger.iter_mut() {
            let due = due(life, experiment, now);
            let Life { starts_at, ends_at, .. } = *life;
            let Some(check) = &mut experiment.check else { continue };
            check.settle(now);
            match due {
                Due::Control => {
                    let until = MonoNs(starts_at.0.saturating_sub(CLEAR.as_nanos() as u64));
                    check.begin_control(&self.interfaces, &self.config, until, sink);
                }
                Due::Try => {
                    let until = MonoNs(ends_at.0.saturating_sub(QUIET.as_nanos() as u64)).min(now + PATIENCE);
                    check.begin_again(&self.interfaces, &self.config, until, sink);
                }
                Due::Nothing => {}
            }
        }
    }

    /// Takes in a report of a namespace.
    pub fn checked(&mut self, report: Report) {
        let held = self.held.iter_mut().map(|held| &mut held.control.check);
        let open = self.ledger.iter_mut().filter_map(|(_, experiment)| experiment.check.as_mut());
        let mut left = Some(report);
        for check in held.chain(open) {
            left = left.and_then(|report| check.report(report));
        }
    }
}

/// What a partition's check needs now.
enum Due {
    Nothing,
    Control,
    Try,
}

fn due(life: &Life, experiment: &Experiment, now: MonoNs) -> Due {
    let Some(check) = experiment.check.as_ref().filter(|check| check.pending.is_none()) else {
        return Due::Nothing;
    };
    if !experiment.request.traffic.is_full() {
        return Due::Nothing;
    }
    let left = life.ends_at.saturating_since(now);
    let since = check.asked.map_or(Duration::MAX, |asked| now.saturating_since(asked));
    match (life.state, life.cut) {
        (PartitionState::Scheduled, _) => {
            let is_near = life.starts_at.saturating_since(now) <= AHEAD;
            if is_near && check.proven.is_none() { Due::Control } else { Due::Nothing }
        }
        (PartitionState::Active, Some(cut)) => {
            let is_settled = cut.end_ns + SETTLED <= now && left > QUIET * 2;
            let is_first = check.asked.is_some_and(|asked| asked < cut.end_ns);
            let is_again = since >= INTERVAL || (left <= LAST && since >= APART);
            let is_due = check.proven.as_ref().is_some_and(|proven| !proven.is_empty());
            if is_due && is_settled && (is_first || is_again) { Due::Try } else { Due::Nothing }
        }
        _ => Due::Nothing,
    }
}
