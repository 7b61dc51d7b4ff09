//! The optional active check (`verify: active`): the daemon's own frames over the links that are cut in full, before the
//! cut (the control) and again and again while it lasts. The namespaces' threads send and listen; nothing waits for
//! them but the cut itself, and that for a bounded time.

pub(in crate::daemon) mod check;
mod checked_link;
mod form;
mod round;
pub(in crate::daemon) mod waiting;

pub use round::{Report, Sink};

use std::time::Duration;

use self::check::{Check, MOST, PATIENCE};
use self::checked_link::Unchecked;
use self::waiting::WaitingCommand;
use super::partition::{Experiment, Partition, named, shortened};
use super::request::{Asked, Effective, ReturnedSink};
use super::state::State;
use crate::server::command::{Command, PutMode};
use injector_core::api::{EnableRequest, PartitionRequest, PartitionState, Warning, WarningCode};
use injector_core::clock::MonoNs;
use injector_core::ledger::Life;
use injector_core::model::Link;

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

impl State {
    /// Sends the control of a cut that is to be verified, and keeps its command until [`Self::release_held`]; answers the
    /// command if it is to be carried out at once.
    pub fn hold(&mut self, command: Effective, sink: &Sink) -> Option<Effective> {
        let Some(links) = self.to_be_controlled(&command) else { return Some(command) };
        let mut control = Check::new(&links);
        let until = MonoNs::now() + HOLD;
        control.begin_control(&self.interfaces, &self.config, until, sink);
        self.held.push(WaitingCommand { command, control, until });
        None
    }

    /// The links that a command cuts at once and in full, if it wants them checked.
    fn to_be_controlled(&self, command: &Effective) -> Option<Vec<Link>> {
        match command {
            Effective::Apply(wanted) => {
                let Asked { name, request, step: PutMode::Apply, .. } = &wanted.asked else { return None };
                if request.verdict.verify.is_none()
                    || request.at.is_some()
                    || !request.traffic.is_full()
                    || self.stopping
                {
                    return None;
                }
                let request = self.normalised((**request).clone()).ok()?;
                let is_new = self.known(name, &request).ok()?.is_none();
                is_new.then(|| wanted.resolution.resolved.links.clone())
            }
            Effective::Enable { name, request: EnableRequest { at: None, .. }, .. } => {
                let Partition { life, experiment } = self.newest(name).ok()?;
                let request = &experiment.request;
                let is_wanted = life.state == PartitionState::Prepared
                    && request.verdict.verify.is_some()
                    && request.at.is_none()
                    && request.traffic.is_full();
                is_wanted.then(|| life.links.clone())
            }
            Effective::Enable { .. } => None,
        }
    }

    /// Carries out a command that may cut.
    pub async fn take_effect(&mut self, command: Effective, sink: &ReturnedSink) {
        match command {
            // Its links are of a config that is no longer in force.
            Effective::Apply(wanted) if wanted.config_number != self.config_number => {
                self.control = None;
                self.resolve(wanted.asked, sink);
            }
            Effective::Apply(wanted) => self.apply(*wanted).await,
            Effective::Enable { name, request, whose, is_gone, reply, sent_at } => {
                self.command(Command::Enable { name, request, whose, is_gone, reply }, sent_at).await;
            }
        }
    }

    /// Carries out the commands whose control has come back, or has taken too long.
    pub async fn release_held(&mut self, sink: &ReturnedSink) {
        let now = MonoNs::now();
        let is_ready = |held: &WaitingCommand| held.control.pending.is_none() || held.until <= now;
        while let Some(at) = self.held.iter().position(is_ready) {
            let WaitingCommand { command, mut control, .. } = self.held.remove(at);
            control.stop();
            if let Some(pending) = control.pending.take() {
                control.count(&pending);
            }
            self.control = Some(control);
            self.take_effect(command, sink).await;
            self.control = None;
        }
    }

    /// Warnings about links that the active check of a partition will not cover, as far as that is known
    /// before it begins.
    pub(super) fn unchecked(&self, request: &PartitionRequest, links: &[Link]) -> Vec<Warning> {
        if request.verdict.verify.is_none() {
            return Vec::new();
        }
        let mut found: Vec<(Unchecked, Vec<String>)> = Vec::new();
        let mut checked = 0;
        let is_short = is_too_short(request);
        for link in links {
            let why = if !request.traffic.is_full() {
                Unchecked::NotFull
            } else if is_short {
                Unchecked::TooShort
            } else if let Err(why) = self.interfaces.nic_pairs(&self.config, *link) {
                Unchecked::NoPair(why)
            } else if checked == MOST {
                Unchecked::TooMany(MOST)
            } else {
                checked += 1;
                continue;
            };
            let link = named(&self.config.names, *link).to_string();
            match found.iter_mut().find(|(other, _)| *other == why) {
                Some((_, links)) => links.push(link),
                None => found.push((why, vec![link])),
            }
        }
        let warning = |(why, links): (Unchecked, Vec<String>)| {
            let links = shortened(&links);
            let why = why.text(&self.config.names);
            let text = format!("the active check says nothing about {links}: {why}");
            Warning::new(WarningCode::NotChecked, links, text)
        };
        found.into_iter().map(warning).collect()
    }

    /// The check of a partition that is made live.
    pub(super) fn take_check(&mut self, generation: u32) -> Option<Check> {
        let control = self.control.take();
        let Partition { life, experiment } = self.partition(generation);
        experiment.request.verdict.verify?;
        let links = &life.links;
        let mut check = control.unwrap_or_else(|| Check::new(links));
        for link in links {
            let checked_link = check.links.entry(*link).or_default();
            if !experiment.request.traffic.is_full() {
                checked_link.why = Some(Unchecked::NotFull);
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
            check.count_if_over(now);
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
        let held = self.held.iter_mut().map(|held| &mut held.control);
        let open = self.ledger.iter_mut().filter_map(|(_, experiment)| experiment.check.as_mut());
        let mut left = Some(report);
        for check in held.chain(open) {
            left = left.and_then(|report| check.report(report));
        }
    }
}

/// The step that a partition's check needs now.
enum Due {
    Nothing,
    Control,
    Try,
}

/// Whether a cut ends before its first try.
pub(super) fn is_too_short(request: &PartitionRequest) -> bool {
    request.for_.is_some_and(|hold| hold.0 <= SETTLED + QUIET * 2)
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
