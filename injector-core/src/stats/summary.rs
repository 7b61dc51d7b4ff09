//! The summary of a campaign: `summary.json`.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::api::Outcome;

use super::CONFIDENCE;
use super::binomial::clopper_pearson;
use super::cuts::{NamedCut, named};
use super::dependence::{Dependence, within};
use super::mix::{Factor, Mix, mix, strata};
use super::outages::{OutageFigures, by_cut};
use super::power;
use super::sequential::Decision;
pub use super::series::{Figures, Plan, Series};
use super::survival::{Curve, Observation, Quantile};
use super::trial::{Instant, PHASES, Times, Trial, base};
use super::undecided::{Undecided, undecided};
pub use super::verdict::{Sequential, Verdict};
use super::verdict::{sequential, verdict};

/// The version of [`Summary`]'s layout.
pub const SUMMARY_SCHEMA: u32 = 2;
/// The slowest trials that the summary names.
const SLOWEST: usize = 10;
/// The points of a curve in the summary, at most.
const CURVE_POINTS: usize = 400;

/// Trials by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Settled by the deadline.
    pub recovered: u64,
    /// Trials that did not settle by the deadline.
    pub not_recovered: u64,
    /// Closed early by another cut.
    pub censored: u64,
    /// Trials about which nothing can be said.
    pub unknown: u64,
    /// The instrument's own failures.
    pub harness_failed: u64,
}

impl Outcomes {
    fn count(trials: &[Trial]) -> Self {
        let mut outcomes = Self::default();
        for trial in trials {
            *match trial.cluster.outcome {
                Outcome::Recovered => &mut outcomes.recovered,
                Outcome::NotRecovered => &mut outcomes.not_recovered,
                Outcome::Censored => &mut outcomes.censored,
                Outcome::Unknown => &mut outcomes.unknown,
                Outcome::HarnessFailed => &mut outcomes.harness_failed,
            } += 1;
        }
        outcomes
    }
}

/// The series of an endpoint, or of all its instances together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSeries {
    /// `ingress@n1`, or `ingress` for all of its instances.
    pub name: String,
    /// `required` or `advisory`.
    pub role: String,
    /// How many instances there are, where the last one counts; 1 for an endpoint itself.
    pub instances: u64,
    /// Decided trials in which neither the cut nor the heal was felt (it settles at 0 there).
    pub not_impaired: u64,
    /// Its figures.
    #[serde(flatten)]
    pub series: Series,
}

/// The trials of one shape, peer or hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapeSeries {
    /// The shape, the peers or the hold, in words.
    pub shape: String,
    /// The figures of these trials.
    #[serde(flatten)]
    pub series: Series,
}

/// A phase over the trials in which both of its ends were seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseFigures {
    /// Its name.
    pub phase: String,
    /// Trials in which it was seen.
    pub n: u64,
    /// The phase's median.
    pub p50_ns: Option<u64>,
    /// The phase's 90 % quantile.
    pub p90_ns: Option<u64>,
}

/// A trial among the slowest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowTrial {
    /// Its index.
    pub trial: u64,
    /// Its attempt.
    pub attempt: u32,
    /// Its outcome.
    pub outcome: Outcome,
    /// The time from heal to settled.
    pub settled_ns: Option<u64>,
    /// The time from heal to ready.
    pub ready_ns: Option<u64>,
    /// The resolved shape that was cut.
    pub resolved: String,
    /// The peers of the shape's roles, in words; `null` if it has none.
    #[serde(default)]
    pub roles: Option<String>,
    /// The link whose first packet came last.
    pub last_link: Option<String>,
    /// Whether the host starved the instrument.
    pub starved: bool,
}

impl SlowTrial {
    /// What was cut, with the roles that the shape named.
    pub fn cut(&self) -> String {
        match &self.roles {
            Some(roles) => format!("{} ({roles})", self.resolved),
            None => self.resolved.clone(),
        }
    }
}

/// The power of the number of trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The smallest rate that as many trials show at least once with 95 %.
    pub smallest_rate_seen_95: Option<f64>,
    /// The probability that as many trials show a 5 % fault at least once.
    pub chance_to_see_5_percent: f64,
    /// Trials that show a 5 % fault at least once with 95 %.
    pub trials_to_see_5_percent: Option<u64>,
    /// Trials an arm with which `compare` distinguishes 5 % from none with 80 %.
    pub trials_per_arm_5_percent_against_0: Option<u64>,
}

/// A point of a survival curve: time, share still to come, lower and upper end of the band.
pub type CurvePoint = (u64, f64, Option<f64>, Option<f64>);

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SUMMARY_SCHEMA`].
    pub schema: u32,
    /// Trials made.
    pub trials: u64,
    /// Trials planned.
    pub planned: Option<u64>,
    /// The deadline; `null` without trials.
    pub deadline_ns: Option<u64>,
    /// Trials by outcome.
    pub outcomes: Outcomes,
    /// Trials in which the host starved the instrument.
    pub starved: u64,
    /// Why trials are undecided; empty if all are decided.
    #[serde(default)]
    pub undecided: Vec<Undecided>,
    /// Why the campaign was given up; `null` if it was not.
    #[serde(default)]
    pub given_up: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the intervals are `nominal`: the campaign was stopped by what it found.
    pub intervals: String,
    /// All required endpoints.
    pub cluster: Series,
    /// The cluster's series without starved trials.
    pub cluster_without_starved: Series,
    /// Each endpoint.
    pub endpoints: Vec<EndpointSeries>,
    /// Endpoints with several instances, the last instance counting.
    pub endpoint_groups: Vec<EndpointSeries>,
    /// The series by shape as asked.
    pub by_shape: Vec<ShapeSeries>,
    /// The series by shape after drawing.
    pub by_resolved: Vec<ShapeSeries>,
    /// The series by the peers that had the shape's roles; empty where no shape has one.
    #[serde(default)]
    pub by_role: Vec<ShapeSeries>,
    /// The series by the peers cut off from all others.
    pub by_isolated: Vec<ShapeSeries>,
    /// The series by nominal hold.
    pub by_hold: Vec<ShapeSeries>,
    /// The phases.
    pub phases: Vec<PhaseFigures>,
    /// The slowest decided trials, slowest first.
    pub slowest: Vec<SlowTrial>,
    /// The Kaplan–Meier curve of settled, thinned.
    pub curve: Vec<CurvePoint>,
    /// The Kaplan–Meier curve of ready, thinned.
    pub ready_curve: Vec<CurvePoint>,
    /// Outages by what was cut, slowest first.
    pub outages: Vec<OutageFigures>,
    /// Whether the strata of the trials differ.
    pub mix: Mix,
    /// Trials whose cut is not proved: it was not in force, or nothing showed that it was.
    pub unproved: u64,
    /// Trials with links whose coverage is unknown.
    #[serde(default)]
    pub unknown_coverage: u64,
    /// Trials with links that are not covered and were left out on purpose.
    #[serde(default)]
    pub left_out: u64,
    /// Whether the trials appear independent.
    pub dependence: Dependence,
    /// The power of the number of trials.
    pub power: Power,
    /// The sequential test, if one was asked for.
    pub sequential: Option<Sequential>,
}

/// Sums up trials, which must come in the order of their indices.
pub fn summarize(trials: &[Trial], plan: &Plan) -> Summary {
    let all: Vec<&Trial> = trials.iter().collect();
    let awake: Vec<&Trial> = trials.iter().filter(|trial| !trial.starved).collect();
    let cluster = cluster_series(&all);
    let cuts = named(trials);
    let sequential = plan.stop_when.and_then(|rates| sequential(trials, rates));
    let stopped = sequential.as_ref().is_some_and(|test| test.decision != Decision::Undecided);
    let mix = mix(&all);
    let undecided = undecided(trials);
    let count = |is: fn(&&Trial) -> bool| trials.iter().filter(is).count() as u64;
    Summary {
        schema: SUMMARY_SCHEMA,
        trials: trials.len() as u64,
        planned: plan.trials,
        deadline_ns: trials.first().map(|trial| trial.deadline_ns),
        outcomes: Outcomes::count(trials),
        starved: (trials.len() - awake.len()) as u64,
        given_up: plan.given_up.clone(),
        verdict: verdict(&cluster.settled, trials, &undecided, plan, sequential.as_ref()),
        undecided,
        intervals: if stopped { "nominal" } else { "exact" }.to_owned(),
        cluster_without_starved: cluster_series(&awake),
        endpoints: endpoints(&all),
        endpoint_groups: endpoint_groups(&all),
        by_shape: grouped(&all, |trial| Some(trial.asked.clone())),
        by_resolved: grouped_by_cut(&all, &cuts),
        by_role: grouped(&all, |trial| trial.roles.clone()),
        by_isolated: grouped(&all, |trial| trial.isolated.clone()),
        by_hold: by_hold(&all, &plan.holds_ns),
        phases: phases(&all),
        slowest: slowest(&all).into_iter().take(SLOWEST).map(slow_trial).collect(),
        curve: thinned(&cluster_curve(&all, Instant::Settled)),
        ready_curve: thinned(&cluster_curve(&all, Instant::Ready)),
        dependence: trial_dependence(&all, &mix),
        outages: by_cut(&all, &cuts),
        mix,
        unproved: count(|trial| !trial.proved),
        unknown_coverage: count(|trial| trial.unknown_links > 0),
        left_out: count(|trial| trial.left_out_links > 0),
        power: Power {
            smallest_rate_seen_95: power::smallest_rate_seen(cluster.settled.n, CONFIDENCE),
            chance_to_see_5_percent: power::chance_to_see(0.05, cluster.settled.n),
            trials_to_see_5_percent: power::trials_to_see(0.05, CONFIDENCE),
            trials_per_arm_5_percent_against_0: power::trials_per_arm(0.0, 0.05, power::POWER),
        },
        sequential,
        cluster,
    }
}

/// The dependence of settled over the decided trials, on ranks within strata.
fn trial_dependence(trials: &[&Trial], mix: &Mix) -> Dependence {
    let time = |trial: &Trial| {
        let beyond = trial.beyond(&trial.cluster, Instant::Settled, trial.deadline_ns)?;
        Some(if beyond { u64::MAX } else { trial.cluster.settled_ns? })
    };
    let (decided, times): (Vec<&Trial>, Vec<u64>) =
        trials.iter().filter_map(|trial| Some((*trial, time(trial)?))).unzip();
    within(&times, &strata(&decided, Factor::Cut), mix)
}

/// The survival curve of the cluster.
pub fn cluster_curve(trials: &[&Trial], instant: Instant) -> Curve {
    Curve::estimate(trials.iter().filter_map(|t| t.observation(&t.cluster, instant, t.deadline_ns)).collect())
}

/// Decided trials, slowest first: those that were never seen to settle, then by time.
pub fn slowest<'a>(trials: &[&'a Trial]) -> Vec<&'a Trial> {
    let mut decided: Vec<(&Trial, u64)> = trials
        .iter()
        .filter_map(|trial| {
            let beyond = trial.beyond(&trial.cluster, Instant::Settled, trial.deadline_ns)?;
            Some((*trial, trial.cluster.settled_ns.or(beyond.then_some(u64::MAX))?))
        })
        .collect();
    decided.sort_by_key(|&(trial, time)| (std::cmp::Reverse(time), trial.index));
    decided.into_iter().map(|(trial, _)| trial).collect()
}

/// Figures of anything that each trial has [`Times`] for.
fn series(parts: &[(&Trial, Times)]) -> Series {
    Series { settled: figures(parts, Instant::Settled), ready: figures(parts, Instant::Ready) }
}

fn cluster_series(trials: &[&Trial]) -> Series {
    series(&trials.iter().map(|trial| (*trial, trial.cluster.clone())).collect::<Vec<_>>())
}

fn figures(parts: &[(&Trial, Times)], instant: Instant) -> Figures {
    let (mut n, mut beyond_deadline) = (0, 0);
    let mut observations: Vec<Observation> = Vec::with_capacity(parts.len());
    let mut relapses = 0;
    for (trial, times) in parts {
        if let Some(beyond) = trial.beyond(times, instant, trial.deadline_ns) {
            n += 1;
            beyond_deadline += u64::from(beyond);
        }
        if let Some(observation) = trial.observation(times, instant, trial.deadline_ns) {
            observations.push(observation);
            relapses += times.relapses;
        }
    }
    let all = parts.len() as u64;
    let undetermined = all - n;
    let share = |hits: u64| hits as f64 / all as f64;
    let curve = Curve::estimate(observations);
    let at_deadline =
        parts.iter().map(|(trial, _)| trial.deadline_ns).max().and_then(|d| curve.survival_at(d));
    let [p50, p90, p99]: [Quantile; 3] = [curve.quantile(0.5), curve.quantile(0.9), curve.p99()];
    Figures {
        n,
        beyond_deadline,
        rate: (n > 0).then(|| beyond_deadline as f64 / n as f64),
        rate_ci95: clopper_pearson(beyond_deadline, n, CONFIDENCE),
        undetermined,
        rate_bounds: (all > 0).then(|| [share(beyond_deadline), share(beyond_deadline + undetermined)]),
        in_curve: curve.n as u64,
        survival_at_deadline: at_deadline.map(|(survival, _)| survival),
        survival_at_deadline_ci95: at_deadline.and_then(|(_, band)| band),
        p50_ns: p50.estimate,
        p50_ci95_ns: p50.ci95,
        p90_ns: p90.estimate,
        p90_ci95_ns: p90.ci95,
        p99_ns: p99.estimate,
        p99_ci95_ns: p99.ci95,
        relapses: (curve.n > 0).then_some(relapses),
    }
}

fn endpoint_series(trials: &[&Trial], name: &str, role: String, instances: u64) -> EndpointSeries {
    let parts: Vec<(&Trial, Times)> =
        trials.iter().filter_map(|trial| Some((*trial, trial.endpoint(name)?))).collect();
    let not_impaired = parts.iter().filter(|(_, times)| times.is_unfelt()).count() as u64;
    EndpointSeries { name: name.to_owned(), role, instances, not_impaired, series: series(&parts) }
}

/// The names of all endpoints with their role, in the order of the records; a role that changed is `mixed`.
fn roles(trials: &[&Trial]) -> Vec<(String, String)> {
    let mut order: Vec<&str> = Vec::new();
    let mut roles: BTreeMap<&str, &str> = BTreeMap::new();
    for endpoint in trials.iter().flat_map(|trial| &trial.endpoints) {
        let role = if endpoint.required { "required" } else { "advisory" };
        match roles.get(endpoint.name.as_str()) {
            None => {
                order.push(&endpoint.name);
                roles.insert(&endpoint.name, role);
            }
            Some(&before) if before != role => {
                roles.insert(&endpoint.name, "mixed");
            }
            Some(_) => {}
        }
    }
    order.into_iter().map(|name| (name.to_owned(), roles[name].to_owned())).collect()
}

fn endpoints(trials: &[&Trial]) -> Vec<EndpointSeries> {
    roles(trials).into_iter().map(|(name, role)| endpoint_series(trials, &name, role, 1)).collect()
}

fn endpoint_groups(trials: &[&Trial]) -> Vec<EndpointSeries> {
    let mut groups: Vec<(String, String, u64)> = Vec::new();
    for (name, role) in roles(trials) {
        match groups.iter_mut().find(|(group, ..)| group == base(&name)) {
            None => groups.push((base(&name).to_owned(), role, 1)),
            Some((_, of_group, instances)) => {
                *instances += 1;
                if *of_group != role {
                    "mixed".clone_into(of_group);
                }
            }
        }
    }
    groups.retain(|&(.., instances)| instances > 1);
    groups
        .into_iter()
        .map(|(name, role, instances)| endpoint_series(trials, &name, role, instances))
        .collect()
}

fn grouped(trials: &[&Trial], key: impl Fn(&Trial) -> Option<String>) -> Vec<ShapeSeries> {
    let mut groups: BTreeMap<String, Vec<&Trial>> = BTreeMap::new();
    for trial in trials {
        if let Some(key) = key(trial) {
            groups.entry(key).or_default().push(trial);
        }
    }
    groups.into_iter().map(|(shape, trials)| ShapeSeries { shape, series: cluster_series(&trials) }).collect()
}

/// The series by the cut itself: the same links under the same settings, however they were named.
fn grouped_by_cut(trials: &[&Trial], cuts: &HashMap<&str, NamedCut<'_>>) -> Vec<ShapeSeries> {
    let mut rows: Vec<ShapeSeries> = strata(trials, Factor::Cut)
        .into_iter()
        .map(|stratum| {
            let own: Vec<&Trial> = stratum.into_iter().map(|at| trials[at]).collect();
            ShapeSeries { shape: cuts[own[0].stratum.as_str()].label.clone(), series: cluster_series(&own) }
        })
        .collect();
    rows.sort_by(|a, b| a.shape.cmp(&b.shape));
    rows
}

/// The series by the nominal hold that lies nearest to the real one.
fn by_hold(trials: &[&Trial], holds_ns: &[u64]) -> Vec<ShapeSeries> {
    let mut holds: Vec<u64> = holds_ns.to_vec();
    holds.sort_unstable();
    holds.dedup();
    holds
        .iter()
        .filter_map(|&hold| {
            let nearest = |real: u64| holds.iter().copied().min_by_key(|nominal| nominal.abs_diff(real));
            let own: Vec<&Trial> =
                trials.iter().copied().filter(|t| t.hold_ns.and_then(nearest) == Some(hold)).collect();
            let shape = format!("hold {}", crate::clock::Span(std::time::Duration::from_nanos(hold)));
            (!own.is_empty()).then(|| ShapeSeries { shape, series: cluster_series(&own) })
        })
        .collect()
}

fn phases(trials: &[&Trial]) -> Vec<PhaseFigures> {
    let decided = || trials.iter().filter(|trial| trial.cluster.is_decided());
    PHASES
        .iter()
        .enumerate()
        .map(|(at, &phase)| {
            let mut seen: Vec<u64> = decided().filter_map(|t| t.phases_ns[at]).collect();
            seen.sort_unstable();
            let quantile = |share: f64| {
                let rank = ((share * seen.len() as f64).ceil() as usize).max(1);
                seen.get(rank - 1).copied()
            };
            PhaseFigures {
                phase: phase.to_owned(),
                n: seen.len() as u64,
                p50_ns: quantile(0.5),
                p90_ns: quantile(0.9),
            }
        })
        .collect()
}

fn slow_trial(trial: &Trial) -> SlowTrial {
    SlowTrial {
        trial: trial.index,
        attempt: trial.attempt,
        outcome: trial.cluster.outcome,
        settled_ns: trial.cluster.settled_ns,
        ready_ns: trial.cluster.ready_ns,
        resolved: trial.resolved.clone(),
        roles: trial.roles.clone(),
        last_link: trial.last_link.clone(),
        starved: trial.starved,
    }
}

/// A curve as points, beginning at (0, 1); with too many steps, every k-th and the last.
pub fn thinned(curve: &Curve) -> Vec<CurvePoint> {
    if curve.n == 0 {
        return Vec::new();
    }
    let every = curve.steps.len().div_ceil(CURVE_POINTS).max(1);
    let last = curve.steps.len().saturating_sub(1);
    let kept =
        curve.steps.iter().enumerate().filter(|(at, _)| at % every == every - 1 || *at == last || *at == 0);
    let point = |step: &super::survival::Step| {
        (step.time_ns, step.survival, step.band.map(|[low, _]| low), step.band.map(|[_, high]| high))
    };
    std::iter::once((0, 1.0, None, None)).chain(kept.map(|(_, step)| point(step))).collect()
}
