//! The active check of one partition: its tries, and what they showed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::checked_link::{CheckedLink, Unchecked};
use super::form::Form;
use super::round::{self, CheckPath, Incoming, Report, Round, Silence, Sink};
use crate::daemon::attachment::{Interfaces, Nic};
use crate::netns::Identity;
use injector_common::packet::CHECK_PROTOCOL;
use injector_core::api::{CheckForm, LinkCheck};
use injector_core::clock::MonoNs;
use injector_core::config::Config;
use injector_core::model::{Link, PeerNames};
use injector_core::plan;

/// How many links of a partition are checked at most.
pub(super) const MOST: usize = 64;
/// How long a try may take before it is counted without those that did not report.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// The active check of one partition.
pub struct Check {
    /// The token in each of its frames.
    token: u64,
    pub(super) links: BTreeMap<Link, CheckedLink>,
    /// The paths on which the control arrived; `None` before it was sent.
    pub(super) proven: Option<Vec<CheckPath>>,
    pub(super) pending: Option<Pending>,
    /// The number of the next try.
    number: u32,
    /// When the last try began.
    pub(super) asked: Option<MonoNs>,
    /// The namespaces that have yet to report: they are not asked again until they have.
    unreported: BTreeSet<Identity>,
    /// Ends the sending of the try that is under way.
    stop: Arc<AtomicBool>,
}

/// A try that is under way.
pub(super) struct Pending {
    round: Arc<Round>,
    asked: MonoNs,
    reports: BTreeMap<Identity, Result<Incoming, String>>,
}

/// The forms of one try's frames over one link.
#[derive(Default)]
struct Forms {
    sent: BTreeSet<CheckForm>,
    arrived: BTreeSet<CheckForm>,
}

impl Check {
    pub(super) fn new(links: &[Link]) -> Self {
        Self {
            token: rand::random(),
            links: links.iter().map(|link| (*link, CheckedLink::default())).collect(),
            proven: None,
            pending: None,
            number: 0,
            asked: None,
            unreported: BTreeSet::new(),
            stop: Arc::default(),
        }
    }

    /// Sends the control.
    pub(super) fn begin_control(
        &mut self,
        interfaces: &Interfaces,
        config: &Config,
        until: MonoNs,
        sink: &Sink,
    ) {
        self.proven = Some(Vec::new());
        let paths = self.paths(interfaces, config);
        self.begin(paths, interfaces, until, sink);
    }

    /// Tries again where the control arrived, as far as the interfaces are still the same.
    pub(super) fn begin_again(
        &mut self,
        interfaces: &Interfaces,
        config: &Config,
        until: MonoNs,
        sink: &Sink,
    ) {
        let now = self.paths(interfaces, config);
        let proven = self.proven.iter().flatten();
        let paths = proven.filter(|path| now.contains(path)).cloned().collect();
        self.begin(paths, interfaces, until, sink);
    }

    fn begin(&mut self, paths: Vec<CheckPath>, interfaces: &Interfaces, until: MonoNs, sink: &Sink) {
        let now = MonoNs::now();
        self.asked = Some(now);
        self.stop = Arc::default();
        let round = Arc::new(Round::new(self.token, self.number, paths, until, self.stop.clone()));
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
        self.count_if_over(now);
    }

    /// The pairs of interfaces between which links can be tried now.
    fn paths(&mut self, interfaces: &Interfaces, config: &Config) -> Vec<CheckPath> {
        let identity = |nic: &Nic| interfaces.workers.identity(nic.netns.as_ref());
        let mut paths = Vec::new();
        let mut links = 0;
        for (link, checked_link) in &mut self.links {
            let pairs = match interfaces.nic_pairs(config, *link) {
                Ok(_) if links == MOST => {
                    checked_link.why = Some(Unchecked::TooMany(MOST));
                    continue;
                }
                Ok(pairs) => pairs,
                Err(why) => {
                    checked_link.why = Some(Unchecked::NoPair(why));
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
                    Ok((sender, receiver)) => {
                        // A frame that `protect` lets through a cut says nothing of it.
                        let is_cut = |&(from, to): &(IpAddr, IpAddr)| {
                            !plan::is_protected(&config.protect, CHECK_PROTOCOL, (from, 0), (to, 0))
                        };
                        let ip = interfaces.pair_addresses(config, *link, (&from, &to)).filter(is_cut);
                        let forms = [Some(Form::Ethertype), ip.and_then(Form::between)];
                        paths.extend(forms.into_iter().flatten().map(|form| {
                            let (from, to) = (from.clone(), to.clone());
                            CheckPath { link: *link, from, sender, to, receiver, form }
                        }));
                    }
                    Err(why) => checked_link.why = Some(why),
                }
            }
        }
        paths
    }

    /// Takes in a report; whether it is of this check.
    pub(super) fn report(&mut self, report: Report) -> Option<Report> {
        if report.token != self.token {
            return Some(report);
        }
        self.unreported.remove(&report.namespace);
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.round.number == report.number) {
            pending.reports.insert(report.namespace, report.received);
            self.count_if_over(MonoNs::now());
        }
        None
    }

    /// Counts the try that is under way, once all have reported or it has taken too long.
    pub(super) fn count_if_over(&mut self, now: MonoNs) {
        let is_over = |pending: &mut Pending| {
            pending.reports.len() == pending.round.spaces().len() || pending.asked + PATIENCE <= now
        };
        if let Some(pending) = self.pending.take_if(is_over) {
            self.count(&pending);
        }
    }

    pub(super) fn count(&mut self, Pending { round, reports, .. }: &Pending) {
        let mut found: BTreeMap<Link, (Forms, round::Outcome)> = BTreeMap::new();
        for (at, path) in round.paths.iter().enumerate() {
            match round.outcome(at, reports) {
                Ok(outcome) => {
                    if round.number == 0 && outcome.arrived > 0 {
                        self.proven.get_or_insert_default().push(path.clone());
                    }
                    let none = round::Outcome { sent: 0, arrived: 0, end: MonoNs(0) };
                    let (forms, sum) = found.entry(path.link).or_insert((Forms::default(), none));
                    forms.sent.extend((outcome.sent > 0).then(|| path.form.shown()));
                    forms.arrived.extend((outcome.arrived > 0).then(|| path.form.shown()));
                    sum.sent += outcome.sent;
                    sum.arrived += outcome.arrived;
                    sum.end = sum.end.max(outcome.end);
                }
                Err(silence) => {
                    if let Some(checked_link) = self.links.get_mut(&path.link) {
                        checked_link.why = Some(Unchecked::Silent(silence));
                    }
                }
            }
        }
        for (link, (forms, outcome)) in found {
            match self.links.get_mut(&link) {
                Some(checked_link) if round.number == 0 => {
                    checked_link.control(outcome.arrived, forms.arrived);
                }
                Some(checked_link) => checked_link.tried(outcome, forms.sent),
                None => {}
            }
        }
    }

    /// Ends the try that is under way: nothing is sent any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The check of a link for its record; `heal` is when its cut ended, if it has.
    pub fn recorded(&self, link: Link, heal: Option<MonoNs>, names: &PeerNames) -> LinkCheck {
        self.links.get(&link).cloned().unwrap_or_default().recorded(heal, names)
    }
}
