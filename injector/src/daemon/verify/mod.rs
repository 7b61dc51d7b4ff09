//! The optional active check (`verify: active`): the daemon's own frames over the links that are cut in full, before the
//! cut (the control) and again and again while it lasts. The namespaces' threads send and listen; nothing waits for
//! them but the cut itself, and that for a bounded time.

pub(in crate::daemon) mod check;
mod checked_link;
mod control;
mod form;
mod round;

pub use control::Control;
pub use round::{Report, Sink};

use std::time::Duration;

use self::check::{Check, MOST, PATIENCE};
use self::checked_link::Unchecked;
use super::partition::{Experiment, Partition, named, shortened};
use super::request::{Asked, Effective};
use super::state::State;
use crate::server::command::PutMode;
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
    /// Sends the control of a cut that is to be verified, if the command makes one.
    pub(super) fn control_of(&mut self, command: &Effective, sink: &Sink) -> Option<Control> {
        let links = self.to_be_controlled(command)?;
        let mut check = Check::new(&links);
        let until = MonoNs::now() + HOLD;
        check.begin_control(&self.interfaces, &self.config, until, sink);
        Some(Control { check, until })
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
                    let until = starts_at - CLEAR;
                    check.begin_control(&self.interfaces, &self.config, until, sink);
                }
                Due::Try => {
                    let until = (ends_at - QUIET).min(now + PATIENCE);
                    check.begin_again(&self.interfaces, &self.config, until, sink);
                }
                Due::Nothing => {}
            }
        }
    }

    /// Takes in a report of a namespace.
    pub fn checked(&mut self, report: Report) {
        let held =
            self.held.iter_mut().filter_map(|held| held.control.as_mut()).map(|control| &mut control.check);
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
