//! A trial as the statistics use it, made of its recovery record.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::api::{
    ClusterOutage, CoverageState, EndpointRecord, LinkRecord, Outage, Outcome, RecoveryRecord, role_words,
};
use crate::clock::MonoNs;
use crate::measure::{LinkEvent, STARVED_REMEDY};

use super::labels::{self, digest, isolated, resolved_label};
use super::sides::cut_off;
use super::survival::Observation;

/// The instant of a recovery that a figure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    /// The run of successes that lasted through the observation.
    Settled,
    /// The first run of K successes.
    Ready,
}

/// The times of a cluster or an endpoint, in nanoseconds from the heal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// How it ended; a record without an outcome counts as unknown.
    pub outcome: Outcome,
    /// Settled; `None` if that was not seen.
    pub settled_ns: Option<u64>,
    /// Ready; `None` if that was not seen.
    pub ready_ns: Option<u64>,
    /// Failures after ready.
    pub relapses: u64,
    /// Whether probes failed during the cut; `None` if no probe shows it.
    pub impaired: Option<bool>,
}

impl Times {
    /// Whether the outcome was decided by the deadline, for better or worse.
    pub fn is_decided(&self) -> bool {
        matches!(self.outcome, Outcome::Recovered | Outcome::NotRecovered)
    }

    /// Whether nothing was lost, by the cut or by the heal: such a recovery took no time. Service that the cut left alone may
    /// still have been lost by the heal.
    pub fn is_unfelt(&self) -> bool {
        self.outcome == Outcome::Recovered && self.impaired == Some(false) && self.settled_ns == Some(0)
    }
}

/// The times of one endpoint of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTimes {
    /// `ingress@n1`.
    pub name: String,
    /// Whether it gates the verdict.
    pub required: bool,
    /// The peer it runs on.
    pub peer: Option<String>,
    /// The time from heal to the first success.
    pub first_ok_ns: Option<u64>,
    /// When it was out; `None` if that is not known.
    pub outage: Option<Outage>,
    /// The rest.
    pub times: Times,
}

impl EndpointTimes {
    /// A figure of its outage: a lower bound if a window was open at the end of the watch, or if that came before the endpoint
    /// had settled.
    pub fn seen(&self, outage: &Outage, ns: u64) -> Observation {
        Observation::of(outage.open || self.times.settled_ns.is_none(), ns)
    }

    /// Whether it was in service from the cut on until it had settled; `None` if that is not known.
    pub fn never_out(&self) -> Option<bool> {
        let never_out = self.outage.as_ref()?.never_out()?;
        (!never_out || self.times.settled_ns.is_some()).then_some(never_out)
    }
}

/// A trial, as the statistics use it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Its index in the campaign, from 0.
    pub index: u64,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// The cluster: all required endpoints.
    pub cluster: Times,
    /// Each endpoint.
    pub endpoints: Vec<EndpointTimes>,
    /// Why it ended so, in words.
    pub reason: Option<String>,
    /// Whether the host starved the instrument.
    pub starved: bool,
    /// The shape as asked.
    pub asked: String,
    /// What was asked for, with its settings: equal where draws and roles alone decide which links are cut.
    pub request: String,
    /// The shape after drawing, roles and presets; where a role could not be resolved, the shape as asked, marked so.
    pub resolved: String,
    /// The peers of each of the shape's roles, in words; `None` if the shape has none.
    pub roles: Option<String>,
    /// The one group that was cut off from all others, if there was one.
    pub isolated: Option<String>,
    /// How long the cut really lasted.
    pub hold_ns: Option<u64>,
    /// The deadline, from the heal.
    pub deadline_ns: u64,
    /// How long a run of successes is watched before it counts as settled.
    pub observe_ns: u64,
    /// How long after the heal the endpoints were watched.
    pub observed_ns: Option<u64>,
    /// Silence, reconnect, return, relapse.
    pub phases_ns: [Option<u64>; 4],
    /// The link whose first packet came last.
    pub last_link: Option<String>,
    /// Whether another partition still held one of its links at the heal.
    pub still_cut: bool,
    /// Whether its cut is proved: in force on all links, and a packet was dropped on one of them.
    pub proved: bool,
    /// Links for which it is not known whether all their paths pass hooks of ours.
    pub unknown_links: usize,
    /// Links that were not covered and left out on purpose.
    pub left_out_links: usize,
    /// The outages of the required endpoints together, by name.
    pub outages: Vec<ClusterOutage>,
    /// The peers that the cut separated from the rest; `None` for shapes without sides.
    pub cut_off: Option<BTreeSet<String>>,
    /// The time from heal to the instant at which the last link carried again, be it after settled; `None` if one did
    /// not while it was watched.
    pub carries_ns: Option<u64>,
    /// The link that carried last, of those up to settled; `None` if one never carried.
    pub last_carrier: Option<String>,
    /// The links that carried again only after settled, and the time from heal to that.
    pub late_links: Vec<(String, u64)>,
    /// The links that dropped something and did not carry again while they were watched.
    pub lost_links: Vec<String>,
    /// The time from that instant to settled.
    pub after_links_ns: Option<u64>,
    /// The heal, in nanoseconds of the monotonic clock.
    pub heal_ns: Option<u64>,
    /// The cell of the campaign, from 0.
    pub cell: usize,
    /// The directed links that were cut, who had the shape's roles, and the settings of the cut: equal where the same was
    /// cut.
    pub stratum: String,
    /// The cut in words: the resolved shape, its roles, and the cell's settings where cells differ.
    pub label: String,
}

fn count(links: &[LinkRecord], is: impl Fn(&LinkRecord) -> bool) -> usize {
    links.iter().filter(|link| is(link)).count()
}

/// The phases' names, in the order of [`Trial::phases_ns`].
pub const PHASES: [&str; 4] = ["silence", "reconnect", "return", "relapse"];

impl Trial {
    /// Takes the figures of a record, as trial `index` of a campaign without cells; [`Settings::trial`](crate::run::settings::Settings::trial)
    /// knows its cell, without which equal cuts would fall into two strata.
    pub(crate) fn new(index: u64, record: &RecoveryRecord) -> Self {
        let from_heal = |at: Option<MonoNs>| {
            let heal = record.heal.as_ref()?;
            // Within the heal's own interval the time is 0; before it the stamp is not one of this heal.
            at.filter(|&at| at >= heal.begin_ns).map(|at| at.0.saturating_sub(heal.end_ns.0))
        };
        let required = || record.endpoints.iter().filter(|endpoint| endpoint.required);
        let cluster = Times {
            outcome: record.outcome.unwrap_or(Outcome::Unknown),
            settled_ns: record.heal_to_settled_ns,
            ready_ns: record.heal_to_ready_ns,
            relapses: required().map(|endpoint| endpoint.relapses).sum(),
            impaired: any(required().map(|endpoint| endpoint.impaired)),
        };
        let endpoint = |endpoint: &EndpointRecord| EndpointTimes {
            name: endpoint.name.clone(),
            required: endpoint.required,
            peer: endpoint.peer.clone(),
            outage: endpoint.outage.clone(),
            first_ok_ns: from_heal(endpoint.first_ok_ns),
            times: Times {
                outcome: endpoint.outcome.unwrap_or(Outcome::Unknown),
                settled_ns: from_heal(endpoint.settled_ns),
                ready_ns: from_heal(endpoint.ready_ns),
                relapses: endpoint.relapses,
                impaired: endpoint.impaired,
            },
        };
        let phases = &record.phases;
        let heal = record.heal.map(|heal| heal.end_ns);
        let settled = heal.zip(record.heal_to_settled_ns).map(|(heal, ns)| heal + Duration::from_nanos(ns));
        let links = LinkEvent::reconnected(&record.links, settled);
        let carried = || links.late.iter().copied().chain(links.last);
        let shape = &record.shape;
        let resolved = resolved_label(shape);
        let roles = (!shape.roles.is_empty()).then(|| role_words(&shape.roles));
        let label = match &roles {
            Some(roles) => format!("{resolved} ({roles})"),
            None => resolved.clone(),
        };
        Self {
            index,
            attempt: record.attempt.unwrap_or(1),
            cluster,
            endpoints: record.endpoints.iter().map(endpoint).collect(),
            reason: record.outcome_reason.clone(),
            starved: record.starved,
            asked: labels::label(&shape.asked),
            request: format!("{} {}", labels::label(&shape.asked), shape.direction),
            resolved,
            isolated: shape.resolved.as_ref().and_then(isolated),
            hold_ns: record.hold_ns,
            deadline_ns: record.deadline_ns,
            observe_ns: record.observe_ns,
            observed_ns: from_heal(record.observed_until_ns),
            phases_ns: [phases.silence_ns, phases.reconnect_ns, phases.return_ns, phases.relapse_ns],
            last_link: phases.last_link.as_ref().map(ToString::to_string),
            still_cut: record.links.iter().any(|link| !link.still_cut_by.is_empty()),
            proved: record.proved,
            unknown_links: count(&record.links, |link| {
                link.coverage.as_ref().is_some_and(|coverage| coverage.state == CoverageState::Unknown)
            }),
            left_out_links: count(&record.links, |link| link.left_out),
            outages: record.outage.clone().unwrap_or_default(),
            cut_off: cut_off(record),
            carries_ns: from_heal(carried().map(|(_, at)| at).max().filter(|_| links.never.is_empty())),
            last_carrier: links.last.map(|(link, _)| link.named().to_string()),
            late_links: links
                .late
                .iter()
                .filter_map(|(link, at)| Some((link.named().to_string(), from_heal(Some(*at))?)))
                .collect(),
            lost_links: match record.heal {
                Some(_) => links.never.iter().map(|link| link.named().to_string()).collect(),
                None => Vec::new(),
            },
            after_links_ns: phases.after_links_ns,
            heal_ns: record.heal.map(|heal| heal.end_ns.0),
            cell: 0,
            stratum: match &roles {
                Some(roles) => format!("{} {roles}", cut_links(record)),
                None => cut_links(record),
            },
            roles,
            label,
        }
    }

    /// This trial as a part of a cell; `settings` are equal where the cells' cuts are, and `words`
    /// distinguishes them.
    #[must_use]
    pub fn in_cell(mut self, cell: usize, settings: &str, words: Option<&str>) -> Self {
        self.cell = cell;
        self.stratum = format!("{} {settings}", self.stratum);
        self.request = format!("{} {settings}", self.request);
        if let Some(words) = words {
            self.label = format!("{} {words}", self.label);
        }
        self
    }

    /// Whether the injection itself is in doubt, so that no endpoint's own outcome counts.
    pub fn injection_in_doubt(&self) -> bool {
        self.cluster.outcome == Outcome::HarnessFailed || self.still_cut
    }

    /// Whether the host was too busy to measure, and nothing else, left it undecided. Another cut or a failure of another kind
    /// may leave a starved trial undecided too.
    pub fn is_undecided_by_starvation(&self) -> bool {
        let is_its_reason = self.reason.as_ref().is_some_and(|reason| reason.contains(STARVED_REMEDY));
        self.starved && !self.cluster.is_decided() && is_its_reason
    }

    /// The times of an endpoint by its name, or of all instances of one (`ingress` for `ingress@n1`, …): then the
    /// last of them, and the worst outcome. `None` where the trial has no such endpoint.
    pub fn endpoint(&self, name: &str) -> Option<Times> {
        let mut instances = self.endpoints.iter().filter(|e| e.name == name || base(&e.name) == name);
        let first = instances.next()?.times.clone();
        let mut all = instances.fold(first, |all, next| Times {
            outcome: worse(all.outcome, next.times.outcome),
            settled_ns: all.settled_ns.zip(next.times.settled_ns).map(|(a, b)| a.max(b)),
            ready_ns: all.ready_ns.zip(next.times.ready_ns).map(|(a, b)| a.max(b)),
            relapses: all.relapses + next.times.relapses,
            impaired: any([all.impaired, next.times.impaired].into_iter()),
        });
        if self.injection_in_doubt() {
            all.outcome = Outcome::HarnessFailed;
        }
        Some(all)
    }

    /// Whether the deadline was kept, for `times` of this trial; `None` if that was not decided.
    pub fn beyond(&self, times: &Times, instant: Instant, deadline_ns: u64) -> Option<bool> {
        let reached = self.reached(times, instant);
        match times.outcome {
            // A recovery whose time is missing is a hole in the data, neither good nor bad.
            Outcome::Recovered => reached.map(|at| at > deadline_ns),
            Outcome::NotRecovered => Some(reached.is_none_or(|at| at > deadline_ns)),
            Outcome::Censored | Outcome::Unknown | Outcome::HarnessFailed => None,
        }
    }

    /// The instant as far as the outcome allows it: what is not recovered has not settled by the deadline.
    fn reached(&self, times: &Times, instant: Instant) -> Option<u64> {
        match instant {
            Instant::Settled if times.outcome == Outcome::NotRecovered => {
                times.settled_ns.filter(|&at| at > self.deadline_ns)
            }
            Instant::Settled => times.settled_ns,
            Instant::Ready => times.ready_ns,
        }
    }

    /// What `times` of this trial bring to the survival curve, watched no longer than to `deadline_ns`; `None` for
    /// a trial that says nothing about recovery.
    ///
    /// A trial that another cut closed is censored where it was last watched. For *settled* that is one
    /// observation earlier: a run that began after that could not have been seen to last, so that to count it as
    /// "not settled by then" would make the cluster slower than it is.
    pub fn observation(&self, times: &Times, instant: Instant, deadline_ns: u64) -> Option<Observation> {
        let reached = self.reached(times, instant);
        let watched = match times.outcome {
            Outcome::Recovered if reached.is_none() => return None,
            Outcome::Recovered | Outcome::NotRecovered => deadline_ns,
            Outcome::Censored => {
                let until = self.observed_ns?;
                match instant {
                    Instant::Ready => until,
                    Instant::Settled => until.saturating_sub(self.observe_ns),
                }
            }
            Outcome::Unknown | Outcome::HarnessFailed => return None,
        };
        let watched = watched.min(deadline_ns);
        Some(match reached.filter(|&at| at <= deadline_ns) {
            Some(at) => Observation::event(at),
            None => Observation::censored(watched),
        })
    }

    /// A figure of a name's outages: a lower bound if a window was open at the end of the watch, or if that came before all
    /// had settled, so that another window may have followed.
    pub fn seen(&self, outage: &ClusterOutage, ns: u64) -> Observation {
        Observation::of(outage.open || self.cluster.settled_ns.is_none(), ns)
    }

    /// When some endpoint of a name was out, from the cut on: a lower bound also if one is not known for all of the time.
    pub fn some_out(&self, outage: &ClusterOutage) -> Observation {
        if outage.without_data > 0 {
            return Observation::censored(outage.some_ns);
        }
        self.seen(outage, outage.some_ns)
    }

    /// When some endpoint of a name was out after the heal: a lower bound also if the outage of one is not known. After the heal
    /// that of an unseen one is.
    pub fn some_after_heal(&self, outage: &ClusterOutage) -> Observation {
        let mut instances = self.endpoints.iter().filter(|e| e.required && base(&e.name) == outage.name);
        if instances.any(|endpoint| endpoint.outage.is_none()) {
            return Observation::censored(outage.some_after_heal_ns);
        }
        self.seen(outage, outage.some_after_heal_ns)
    }

    /// The sum of the required endpoints' outages; `None` if one is not known.
    pub fn total_outage(&self) -> Option<Observation> {
        let (mut sum, mut open) = (0, self.cluster.settled_ns.is_none());
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.required) {
            let outage = endpoint.outage.as_ref()?;
            sum += outage.sum_ns?;
            open |= outage.open;
        }
        (!self.injection_in_doubt()).then(|| Observation::of(open, sum))
    }
}

/// The directed links of a record in one order; very many are distinguished by a digest.
fn cut_links(record: &RecoveryRecord) -> String {
    let mut links: Vec<String> =
        record.links.iter().map(|link| format!("{}>{}", link.src, link.dst)).collect();
    links.sort_unstable();
    let text = links.join(" ");
    if text.len() <= LINKS { text } else { format!("{} links #{:016x}", links.len(), digest(&text)) }
}

/// The longest text of links that is kept.
const LINKS: usize = 2000;

/// `ingress` of `ingress@n1`.
pub fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// The outcome of two endpoints together: a failure of one decides it, and any other outcome that is not
/// known hides the other endpoint's.
fn worse(a: Outcome, b: Outcome) -> Outcome {
    let weight = |outcome| match outcome {
        Outcome::Recovered => 0,
        Outcome::Censored => 1,
        Outcome::Unknown => 2,
        Outcome::NotRecovered => 3,
        Outcome::HarnessFailed => 4,
    };
    if weight(a) >= weight(b) { a } else { b }
}

/// `Some(true)` if any is, `None` if one may be.
fn any(values: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all_known = true;
    for value in values {
        match value {
            Some(true) => return Some(true),
            Some(false) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(outcome: Outcome, settled: Option<u64>, ready: Option<u64>, observed: Option<u64>) -> Trial {
        Trial {
            index: 0,
            attempt: 1,
            cluster: Times {
                outcome,
                settled_ns: settled,
                ready_ns: ready,
                relapses: 0,
                impaired: Some(true),
            },
            endpoints: vec![],
            reason: None,
            starved: false,
            asked: "random-node".to_owned(),
            request: "random-node both".to_owned(),
            resolved: "isolate n1".to_owned(),
            roles: None,
            isolated: Some("n1".to_owned()),
            hold_ns: Some(5),
            deadline_ns: 20,
            observe_ns: 12,
            observed_ns: observed,
            phases_ns: [None; 4],
            last_link: None,
            still_cut: false,
            proved: true,
            unknown_links: 0,
            left_out_links: 0,
            outages: vec![],
            cut_off: None,
            carries_ns: None,
            last_carrier: None,
            late_links: vec![],
            lost_links: vec![],
            after_links_ns: None,
            heal_ns: None,
            cell: 0,
            stratum: "n1>n2".to_owned(),
            label: "isolate n1".to_owned(),
        }
    }

    fn both(trial: &Trial) -> [Option<Observation>; 2] {
        [Instant::Settled, Instant::Ready]
            .map(|instant| trial.observation(&trial.cluster, instant, trial.deadline_ns))
    }

    #[test]
    fn each_outcome_enters_the_curve_as_what_it_is() {
        let event = |at| Some(Observation::event(at));
        let censored = |at| Some(Observation::censored(at));
        let cases = [
            (trial(Outcome::Recovered, Some(3), Some(2), Some(15)), [event(3), event(2)]),
            (trial(Outcome::NotRecovered, None, None, Some(20)), [censored(20), censored(20)]),
            // Settled late, ready early: censored at the deadline, and ready at its time.
            (trial(Outcome::NotRecovered, Some(25), Some(4), Some(37)), [censored(20), event(4)]),
            (trial(Outcome::Censored, None, Some(2), Some(5)), [censored(0), event(2)]),
            (trial(Outcome::Censored, None, None, Some(15)), [censored(3), censored(15)]),
            (trial(Outcome::Censored, None, None, None), [None, None]),
            (trial(Outcome::Unknown, Some(1), Some(1), Some(15)), [None, None]),
            (trial(Outcome::HarnessFailed, Some(1), Some(1), Some(15)), [None, None]),
            // A recovery without its time is a hole in the data, not a recovery at 0.
            (trial(Outcome::Recovered, None, None, Some(15)), [None, None]),
        ];
        for (trial, expected) in cases {
            assert_eq!(both(&trial), expected, "{trial:?}");
        }
    }

    #[test]
    fn only_decided_trials_are_in_the_rate() {
        let beyond = |trial: Trial, instant| trial.beyond(&trial.cluster, instant, 20);
        let settled = Instant::Settled;
        assert_eq!(beyond(trial(Outcome::Recovered, Some(20), Some(2), None), settled), Some(false));
        assert_eq!(beyond(trial(Outcome::NotRecovered, Some(25), Some(4), None), settled), Some(true));
        assert_eq!(
            beyond(trial(Outcome::NotRecovered, Some(25), Some(4), None), Instant::Ready),
            Some(false)
        );
        for outcome in [Outcome::Censored, Outcome::Unknown, Outcome::HarnessFailed] {
            assert_eq!(beyond(trial(outcome, Some(1), Some(1), Some(9)), settled), None);
        }
    }
}
