//! Assembles the recovery record.

use super::cluster::{Assessment, Bounds, Settling, judge};
use super::endpoint::{BeforeHeal, Track, first_gap, longest_silence};
use super::host::lateness_p99;
use super::outage::Scope;
use super::phases::{self, Marks};
use super::proof::{harness_failure, is_proved};
use super::words::seconds;
use super::{
    EndpointEvidence, Evidence, HarnessFailure, STARVED_REMEDY, as_asked, force, outages, unhealthy,
};
use crate::api::{
    EndpointRecord, HealedBy, HostRecord, Outage, Outcome, Phases, RECORD_SCHEMA, RecoveryRecord, Stamped,
};
use crate::clock::{MonoNs, TimeRange};
use crate::sample::Sample;

/// Judges the evidence.
///
/// The outcome is set as soon as no later probe can change it. The record is final when it is and each advisory
/// endpoint is decided too or its probes are known up to the deadline; a broken instrument or another cut make it
/// final at once. A trial whose cut is not proved, or that began unhealthy, is watched like any other, so that
/// its fields say what was seen.
///
/// Where the cluster did not settle, each endpoint's own outcome is judged as if it were alone, with an observation
/// of its own; one that is ready but not yet observed for long enough when the record closes is censored.
///
/// An endpoint that is in service at the heal is ready then, and settled then if it stays so.
pub fn record(evidence: &Evidence<'_>) -> RecoveryRecord {
    let horizon = evidence.closed_by.as_ref().map_or(evidence.now, |closed| evidence.now.min(closed.at));
    let before: Vec<BeforeHeal> =
        evidence.endpoints.iter().map(|endpoint| before(evidence, endpoint, horizon)).collect();
    let watch = evidence.heal.map(|heal| Watch::new(evidence, &before, heal, horizon));
    let decided = decide(evidence, &before, watch.as_ref());
    let is_final = match &decided {
        None => false,
        Some(decision) => {
            decision.is_at_once
                || evidence.closed_by.is_some()
                || evidence.broken.is_some()
                || watch.as_ref().is_none_or(Watch::advisory_is_over)
        }
    };
    let endpoints: Vec<EndpointRecord> = evidence
        .endpoints
        .iter()
        .enumerate()
        .map(|(at, endpoint)| {
            let mut record = bare(endpoint, before[at]);
            if let Some(watch) = &watch {
                watch.fill(&mut record, at, decided.as_ref(), is_final);
            }
            record
        })
        .collect();
    let observed_until = watch.as_ref().map(Watch::until);
    let settled =
        match watch.as_ref().filter(|watch| watch.held_up().is_none()).and_then(|watch| watch.cluster) {
            Some(Assessment { settling: Settling::Settled { .. }, .. }) => endpoints
                .iter()
                .filter(|endpoint| endpoint.required)
                .filter_map(|endpoint| endpoint.settled_ns)
                .max(),
            _ => None,
        };
    let ready = watch.as_ref().and_then(Watch::ready);
    let since_heal = |at: Option<MonoNs>| at?.since(evidence.heal?.end_ns);
    let outage = watch.as_ref().map(|watch| outages::by_name(&endpoints, watch.heal, watch.until()));
    let some_out = {
        let required = endpoints.iter().filter(|endpoint| endpoint.required);
        let known: Option<Vec<&Outage>> = required.map(|endpoint| endpoint.outage.as_ref()).collect();
        watch.as_ref().zip(known).map(|(watch, known)| outages::overlapping(&known, 1, watch.until()))
    };
    let links = phases::reconnected(&evidence.links);
    // Before the heal, a cut is proved as far as it has come.
    let so_far = |cut: Stamped| Stamped { begin_ns: evidence.now, end_ns: evidence.now, ..cut };
    let mut links = force::judged(links, evidence.cut, evidence.heal.or_else(|| evidence.cut.map(so_far)));
    let proved = is_proved(&links);
    if evidence.heal.is_none() {
        // Whether it was in force to its end is not known before its end.
        for link in &mut links {
            link.in_force = None;
        }
    }
    let marks = |heal: Stamped| Marks { heal: heal.end_ns, ready, settled, some_out: some_out.as_deref() };
    let host = host(evidence, observed_until.unwrap_or(horizon), horizon);
    let mut warnings = evidence.warnings.clone();
    warnings.extend(as_asked::warnings(evidence, observed_until.unwrap_or(horizon)));
    let shortest = evidence.endpoints.iter().map(|endpoint| endpoint.interval.as_nanos()).min();
    // A trial without probes can't be starved of them, however busy the host is.
    let is_probed = evidence.cut.is_some() && !evidence.endpoints.is_empty();
    let is_pressed = host.cpu_pressure.is_some_and(|share| share > evidence.starved_pressure);
    let is_late = host.probe_lateness_p99_ns.zip(shortest).is_some_and(|(late, interval)| late > interval);
    let is_unsent = watch.as_ref().is_some_and(|watch| watch.unsent().is_some());
    RecoveryRecord {
        schema: RECORD_SCHEMA,
        name: evidence.name.clone(),
        generation: evidence.generation,
        clock: evidence.clock.clone(),
        trial: evidence.trial.map(|trial| trial.index),
        attempt: evidence.trial.map(|trial| trial.attempt),
        shape: evidence.shape.clone(),
        traffic: evidence.traffic.clone(),
        seed: evidence.seed,
        hold_ns: evidence.cut.zip(evidence.heal).and_then(|(cut, heal)| heal.begin_ns.since(cut.end_ns)),
        deadline_ns: evidence.deadline.as_nanos(),
        observe_ns: evidence.ready.observe.as_nanos(),
        cut: evidence.cut,
        heal: evidence.heal,
        healed_by: evidence.healed_by,
        phases: evidence.heal.map_or_else(Phases::default, |heal| phases::phases(&links, &marks(heal))),
        links,
        endpoints,
        outage,
        heal_to_ready_ns: since_heal(ready),
        heal_to_settled_ns: since_heal(settled),
        starved: is_probed && (is_late || is_pressed || is_unsent),
        host,
        warnings,
        lost_events: evidence.lost_events,
        proved,
        is_final,
        outcome: decided.as_ref().map(|decision| decision.outcome),
        outcome_reason: decided.map(|decision| decision.reason),
        closed_by: evidence.closed_by.as_ref().map(|closed| closed.partition.clone()),
        observed_until_ns: observed_until,
    }
}

/// The endpoints after the heal.
struct Watch<'a> {
    evidence: &'a Evidence<'a>,
    heal: MonoNs,
    deadline: MonoNs,
    horizon: MonoNs,
    tracks: Vec<Track>,
    /// The required endpoints together; `None` if there are none.
    cluster: Option<Assessment>,
    /// Each endpoint by itself, through the cluster's observation if that was lasted through.
    alone: Vec<Assessment>,
    /// The required endpoints' positions.
    required: Vec<usize>,
    /// Whether the probes of each endpoint show the whole cut: some ended in it, and all that were due in it were sent.
    is_probed: Vec<bool>,
    /// The first gap in each endpoint's probes after the heal.
    gaps: Vec<Option<TimeRange>>,
}

impl<'a> Watch<'a> {
    fn new(evidence: &'a Evidence<'a>, before: &[BeforeHeal], heal: Stamped, horizon: MonoNs) -> Self {
        let heal = heal.end_ns;
        let cut = evidence.cut.map(|cut| cut.end_ns);
        let tracks: Vec<Track> = evidence
            .endpoints
            .iter()
            .zip(before)
            .map(|(endpoint, before)| {
                let is_in_service = before.healthy == Some(true) && !endpoint.is_unseen;
                Track::new(endpoint, &evidence.ready, cut, heal, is_in_service, horizon)
            })
            .collect();
        let bounds = Bounds {
            deadline: heal + evidence.deadline.0,
            observe: evidence.ready.observe.0,
            observe_max: evidence.ready.observe_max.0,
            not_before: heal,
        };
        let required: Vec<usize> = (0..tracks.len()).filter(|&at| evidence.endpoints[at].required).collect();
        let gating: Vec<&Track> = required.iter().map(|&at| &tracks[at]).collect();
        let cluster = (!gating.is_empty()).then(|| judge(&gating, &bounds));
        let not_before = match cluster {
            Some(Assessment { settling: Settling::Settled { at, .. }, .. }) => at,
            _ => heal,
        };
        let alone = tracks.iter().map(|track| judge(&[track], &Bounds { not_before, ..bounds })).collect();
        let is_probed = before.iter().map(|before| before.impaired.is_some() && !before.has_gaps).collect();
        let gap = |endpoint| first_gap(endpoint, heal, horizon, horizon);
        Self {
            gaps: evidence.endpoints.iter().map(gap).collect(),
            evidence,
            heal,
            deadline: bounds.deadline,
            horizon,
            tracks,
            cluster,
            alone,
            required,
            is_probed,
        }
    }

    /// When all required endpoints were ready, as far as it is known how they were until then.
    fn ready(&self) -> Option<MonoNs> {
        let ready = self.cluster?.ready?;
        let is_known = |at: &usize| self.unknown_from(*at, self.until()).is_none_or(|from| from > ready);
        self.required.iter().all(is_known).then_some(ready)
    }

    /// Whether no required endpoint was out, neither while cut nor after the heal.
    fn never_out(&self) -> bool {
        self.required.iter().all(|&at| {
            self.tracks[at].windows.windows.is_empty()
                && !self.evidence.endpoints[at].is_unseen
                && self.is_probed[at]
        })
    }

    /// The instant up to which the required endpoints were watched.
    fn until(&self) -> MonoNs {
        match self.cluster {
            Some(Assessment { settling: Settling::Settled { until, .. }, .. }) => until,
            _ => self.horizon,
        }
    }

    /// Why the required endpoints' probes decide nothing: some that decide were never sent, or have no result;
    /// `None` if the probes decide.
    fn held_up(&self) -> Option<String> {
        let until = self.decided_until()?;
        self.unsent().or_else(|| {
            self.required.iter().find_map(|&at| {
                let gap = self.first_gap(at, until)?;
                let (name, end) = (&self.evidence.endpoints[at].name, gap.until_ns?);
                Some(format!(
                    "no probe of {name} has a result for {}, from {} after the heal on: the prober was gone, or this host held \
                     it up",
                    seconds(end.saturating_since(gap.from_ns)),
                    seconds(gap.from_ns.saturating_since(self.heal)),
                ))
            })
        })
    }

    /// The first gap in an endpoint's probes between the heal and `until`.
    fn first_gap(&self, at: usize, until: MonoNs) -> Option<TimeRange> {
        let gap = self.gaps[at]?;
        let end = gap.until_ns?.min(until);
        let is_long = end.saturating_since(gap.from_ns) > longest_silence(&self.evidence.endpoints[at]);
        is_long.then_some(TimeRange { until_ns: Some(end), ..gap })
    }

    /// The end of the time whose probes decide; `None` without required endpoints.
    fn decided_until(&self) -> Option<MonoNs> {
        Some(match self.cluster?.settling {
            Settling::Settled { until, .. } => until,
            Settling::Hopeless { .. } | Settling::Open => self.deadline,
        })
    }

    /// Which probes that decide were never sent, since this host held the daemon up; `None` if all were.
    fn unsent(&self) -> Option<String> {
        let until = self.decided_until()?;
        self.required.iter().find_map(|&at| {
            let unsent = self.unsent_of(at, until).count();
            (unsent > 0).then(|| {
                let were = if unsent == 1 { "probe that decides was" } else { "probes that decide were" };
                format!(
                    "{unsent} {were} never sent to {}: this host held the daemon up; {STARVED_REMEDY}",
                    self.evidence.endpoints[at].name
                )
            })
        })
    }

    /// An endpoint's probes after the heal that were never sent.
    fn unsent_of(&self, at: usize, until: MonoNs) -> impl Iterator<Item = &Sample> {
        self.evidence.endpoints[at].samples.iter().filter(move |sample| {
            sample.is_unsent()
                && sample.scheduled >= self.heal
                && sample.scheduled < until
                && sample.done <= self.horizon
        })
    }

    /// Since when after the heal it is not known how an endpoint is; `None` if all is known up to `until`.
    fn unknown_from(&self, at: usize, until: MonoNs) -> Option<MonoNs> {
        let unsent = self.unsent_of(at, until).map(|sample| sample.scheduled);
        unsent.chain(self.first_gap(at, until).map(|gap| gap.from_ns)).min()
    }

    fn advisory_is_over(&self) -> bool {
        self.evidence
            .endpoints
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| !endpoint.required)
            .all(|(at, _)| self.alone[at].settling != Settling::Open || self.tracks[at].known > self.deadline)
    }

    fn fill(&self, record: &mut EndpointRecord, at: usize, decided: Option<&Decision>, is_final: bool) {
        let track = &self.tracks[at];
        let settling = match self.cluster {
            Some(Assessment { settling: Settling::Settled { at: ready, until }, .. }) if record.required => {
                let stretch = track.stretch_at(ready).expect("the cluster settled in a stretch of each");
                Settling::Settled { at: stretch.ready, until }
            }
            _ => self.alone[at].settling,
        };
        let until = match settling {
            _ if record.required => self.until(),
            Settling::Settled { until, .. } if decided.is_some() => until,
            _ => self.horizon,
        };
        let counted: Vec<&Sample> = self.evidence.endpoints[at]
            .samples
            .iter()
            .filter(|sample| {
                sample.scheduled >= self.heal && sample.scheduled < until && sample.done <= self.horizon
            })
            .collect();
        record.first_ok_ns =
            counted.iter().filter(|sample| sample.failure.is_none()).map(|sample| sample.done).min();
        let unknown_from = self.unknown_from(at, until);
        record.ready_ns = track.ready().filter(|&ready| unknown_from.is_none_or(|from| from > ready));
        record.relapses = track.relapses(until);
        record.probes_sent = counted.len() as u64;
        record.probes_failed = counted.iter().filter(|sample| sample.failure.is_some()).count() as u64;
        if let Some(cut) = self.evidence.cut
            && record.healthy_before == Some(true)
            && unknown_from.is_none()
        {
            let (endpoint, consecutive) = (&self.evidence.endpoints[at], self.evidence.ready.consecutive);
            let scope = Scope {
                cut: cut.end_ns,
                heal: self.heal,
                until: until.min(track.known),
                served_within: endpoint.served_within.0,
                is_unseen: endpoint.is_unseen,
                is_probed: self.is_probed[at],
            };
            record.outage = Some(track.outage(endpoint, consecutive, &scope));
        }
        let Some(decision) = decided else { return };
        record.settled_ns = match settling {
            Settling::Settled { at, .. } => Some(at).filter(|_| unknown_from.is_none()),
            Settling::Open | Settling::Hopeless { .. } => None,
        };
        let own = match settling {
            _ if unknown_from.is_some() => Some(Outcome::Unknown),
            Settling::Settled { .. } => Some(Outcome::Recovered),
            Settling::Hopeless { .. } => Some(Outcome::NotRecovered),
            // Its watch ended before it was decided.
            Settling::Open => is_final.then_some(Outcome::Censored),
        };
        let is_healthy_before = record.healthy_before == Some(true);
        record.outcome = decision.overrides.or(if is_healthy_before { own } else { Some(Outcome::Unknown) });
    }
}

/// The trial's outcome.
struct Decision {
    outcome: Outcome,
    reason: String,
    /// An outcome that holds for each endpoint too, whatever its probes say.
    overrides: Option<Outcome>,
    /// Whether the record is final at once, since nothing more is to be seen.
    is_at_once: bool,
}

impl Decision {
    fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into(), overrides: None, is_at_once: false }
    }

    fn for_all(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { overrides: Some(outcome), ..Self::new(outcome, reason) }
    }
}

fn decide(evidence: &Evidence<'_>, before: &[BeforeHeal], watch: Option<&Watch<'_>>) -> Option<Decision> {
    let broken = match (&evidence.broken, evidence.healed_by) {
        (Some(broken), _) => Some(broken.clone()),
        (None, Some(HealedBy::Lease)) => Some(HarnessFailure::LeaseLapsed),
        (None, Some(HealedBy::Shutdown)) => Some(HarnessFailure::Stopping),
        _ => None,
    };
    let seen = watch.and_then(|watch| watched(evidence, watch));
    match broken {
        // The daemon's end does not hide a verdict that was there.
        None | Some(HarnessFailure::Stopping) if seen.is_some() => {}
        None => {
            watch?;
            evidence.closed_by.as_ref()?;
        }
        Some(broken) => {
            let decision = Decision::for_all(Outcome::HarnessFailed, broken.to_string());
            return Some(Decision { is_at_once: true, ..decision });
        }
    }
    let watch = watch?;
    // From here on the trial is over. The first check that finds a fault gives it its reason.
    if let Some(reason) = harness_failure(evidence) {
        return Some(Decision::for_all(Outcome::HarnessFailed, reason));
    }
    if let Some(reason) = watch.held_up() {
        return Some(Decision::for_all(Outcome::HarnessFailed, reason));
    }
    if let Some((link, holder)) =
        evidence.links.iter().find_map(|link| Some((link, link.still_cut_by.first()?)))
    {
        let reason = format!("{}→{} is still cut by \"{holder}\"", link.src, link.dst);
        return Some(Decision::for_all(Outcome::Unknown, reason));
    }
    let unhealthy = |at: &usize| unhealthy::why(evidence, &evidence.endpoints[*at], before[*at].healthy);
    if let Some(reason) = watch.required.iter().find_map(unhealthy) {
        return Some(Decision::new(Outcome::Unknown, reason));
    }
    Some(seen.unwrap_or_else(|| {
        let by = evidence.closed_by.as_ref().map(|closed| closed.partition.as_str()).unwrap_or_default();
        Decision::new(Outcome::Censored, format!("\"{by}\" cut before the recovery was decided"))
    }))
}

/// The decision by the probes alone, once it is final.
fn watched(evidence: &Evidence<'_>, watch: &Watch<'_>) -> Option<Decision> {
    let Some(cluster) = watch.cluster else {
        let is_over = watch.horizon >= watch.heal + evidence.ready.observe.0;
        return is_over.then(|| Decision::new(Outcome::Unknown, "no required endpoint: nothing decides"));
    };
    match cluster.settling {
        Settling::Open => None,
        Settling::Settled { at, .. } => {
            let (after, observe) = (at.saturating_since(watch.heal), evidence.ready.observe);
            let reason = if !after.is_zero() {
                format!("settled {} after the heal, and served for {observe} from then on", seconds(after))
            } else if watch.never_out() {
                format!("no required endpoint was out, neither while cut nor in the {observe} after the heal")
            } else if let Some(&at) = watch.required.iter().find(|&&at| !watch.is_probed[at]) {
                let name = &evidence.endpoints[at].name;
                format!(
                    "no failure in the {observe} after the heal; what {name} did while cut is not known: probes were not sent, or none ended"
                )
            } else {
                format!("in service at the heal, and for {observe} from then on")
            };
            Some(Decision::new(Outcome::Recovered, reason))
        }
        Settling::Hopeless { last, earliest } => {
            let at = watch.required[last];
            let name = &evidence.endpoints[at].name;
            let deadline = evidence.deadline;
            let relapse = watch.tracks[at].stretches.iter().rev().find_map(|stretch| stretch.end);
            let reason = match relapse {
                _ if earliest <= watch.deadline => format!(
                    "readiness never lasted {} within {} of the first time that all were ready; {name} relapsed last",
                    evidence.ready.observe, evidence.ready.observe_max
                ),
                None => format!("{name} was not ready by the deadline of {deadline}"),
                Some(relapse) => format!(
                    "{name} failed again {} after the heal, and was not ready for good by the deadline of {deadline}",
                    seconds(relapse.saturating_since(watch.heal))
                ),
            };
            Some(Decision::new(Outcome::NotRecovered, reason))
        }
    }
}

fn before(evidence: &Evidence<'_>, endpoint: &EndpointEvidence<'_>, horizon: MonoNs) -> BeforeHeal {
    let heal_begin = evidence.heal.map(|heal| heal.begin_ns);
    BeforeHeal::new(endpoint, evidence.ready.consecutive, evidence.cut, heal_begin, horizon)
}

fn bare(endpoint: &EndpointEvidence<'_>, before: BeforeHeal) -> EndpointRecord {
    EndpointRecord {
        name: endpoint.name.clone(),
        peer: endpoint.peer.clone(),
        address: endpoint.address,
        required: endpoint.required,
        healthy_before: before.healthy,
        failure_rate_before: before.failure_rate,
        impaired: before.impaired,
        first_response_ns: endpoint.first_response,
        first_ok_ns: None,
        ready_ns: None,
        settled_ns: None,
        relapses: 0,
        probes_sent: 0,
        probes_failed: 0,
        outage: None,
        outcome: None,
    }
}

/// The host's figures over the probes from the cut to the end of the watch.
fn host(evidence: &Evidence<'_>, until: MonoNs, horizon: MonoNs) -> HostRecord {
    let Some(cut) = evidence.cut else {
        return HostRecord {
            cpu_pressure: evidence.cpu_pressure,
            io_pressure: evidence.io_pressure,
            ..HostRecord::default()
        };
    };
    let during = |sample: &&Sample| {
        sample.scheduled >= cut.begin_ns && sample.scheduled < until && sample.done <= horizon
    };
    let probes = || evidence.endpoints.iter().flat_map(|endpoint| endpoint.samples).filter(during);
    let span = until.since(cut.begin_ns).filter(|&span| span > 0);
    HostRecord {
        probe_lateness_p99_ns: lateness_p99(probes()),
        probe_rate: span.map(|span| probes().count() as f64 * 1e9 / span as f64),
        cpu_pressure: evidence.cpu_pressure,
        io_pressure: evidence.io_pressure,
    }
}
