//! Two campaigns against each other: is B worse, surely not much worse, or is that undecided yet?

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::binomial::clopper_pearson;
use super::cuts::named;
use super::logrank::{holm, log_rank};
use super::medians::{self, TimeTest};
use super::power::{POWER, trials_per_arm, trials_to_rule_out};
use super::strata::{Arm, Stratum, difference, exact_p};
use super::survival::{Curve, Observation, Quantile};
use super::trial::{Instant, Times, Trial, base};
pub use super::uncompared::Uncompared;
use super::uncompared::{Counted, Cut, Uncertain, not_made, uncertain};
use super::{ALPHA, CONFIDENCE};
use crate::api::ClusterOutage;
use crate::figures::{Bound, counted};

/// The margin that is used if none is asked for: 5 points.
pub const MARGIN: f64 = 0.05;

/// The finding of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// B fails more often than A.
    Worse,
    /// B fails at most by less than the margin more often.
    NotWorse,
    /// Neither can be said.
    Undecided,
}

impl Finding {
    /// The exit code of `compare`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotWorse => 0,
            Self::Worse => 1,
            Self::Undecided => 2,
        }
    }
}

/// An arm's share beyond the common deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmFigures {
    /// Decided trials.
    pub n: u64,
    /// Decided trials beyond the deadline.
    pub beyond_deadline: u64,
    /// The share.
    pub rate: Option<f64>,
    /// Its exact 95 % interval.
    pub rate_ci95: Option<[f64; 2]>,
    /// Trials that were not decided.
    pub undetermined: u64,
    /// Trials, decided or not, in which the host starved the instrument.
    pub starved: u64,
    /// Trials, decided or not, whose cut is not proved.
    pub unproved: u64,
}

impl ArmFigures {
    /// Whether nothing shows that any of its cuts was in force: then its outcomes say nothing of them.
    fn is_unproved(&self) -> bool {
        self.unproved > 0 && self.unproved == self.n + self.undetermined
    }
}

/// The figures of both arms where the same links were cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StratumFigures {
    /// The resolved shape.
    pub shape: String,
    /// A.
    pub a: ArmFigures,
    /// B.
    pub b: ArmFigures,
}

/// A comparison of B with A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The finding.
    pub finding: Finding,
    /// The finding in a sentence.
    pub sentence: String,
    /// How the medians from heal to settled differ, and whether the times can be told apart, in a sentence. It takes no
    /// part in the finding. `None` where a median was not reached.
    #[serde(default)]
    pub times_sentence: Option<String>,
    /// The deadline that both are judged by.
    pub deadline_ns: Option<u64>,
    /// A, all strata.
    pub a: ArmFigures,
    /// B, all strata.
    pub b: ArmFigures,
    /// The figures by resolved shape.
    pub strata: Vec<StratumFigures>,
    /// Trials of cuts that not both have decided: they take no part in the test and the bound.
    pub unmatched: u64,
    /// Which of them the worst case counts against B.
    pub uncompared: Uncompared,
    /// The one-sided probability of B's failures if B were like A (exact, stratified).
    pub p_worse: Option<f64>,
    /// B's rate minus A's, over strata.
    pub difference: Option<f64>,
    /// Its one-sided 95 % upper bound.
    pub difference_upper95: Option<f64>,
    /// [`Self::difference_upper95`] in the worst case for B: its undecided trials and cuts that it never made beyond the deadline, A's
    /// undecided trials and cuts that A has not decided within it.
    pub difference_upper95_worst: Option<f64>,
    /// The margin.
    pub margin: f64,
    /// If undecided, about the trials an arm that would show with 80 % that B is worse, if the rates are those seen.
    pub trials_to_show_worse: Option<u64>,
    /// If undecided, about the trials an arm that would rule the margin out with 80 %, if the rates are those seen.
    pub trials_to_rule_out: Option<u64>,
    /// Descriptive.
    pub times: Vec<TimeTest>,
}

/// The figures of both arms in a row of the table of rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// The cut, or all of them, and whether it takes no part.
    pub name: String,
    /// A.
    pub a: &'a ArmFigures,
    /// B.
    pub b: &'a ArmFigures,
}

impl Comparison {
    /// All trials, then each cut. A cut with decided trials in only one of the runs is marked: the verdict leaves it out.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let all = match self.unmatched {
            0 => "all".to_owned(),
            n => format!("all, with {n} that take no part"),
        };
        let cuts = self.strata.iter().map(|StratumFigures { shape, a, b }| {
            let is_compared = a.n > 0 && b.n > 0;
            let name = if is_compared { shape.clone() } else { format!("{shape}, takes no part") };
            Row { name, a, b }
        });
        std::iter::once(Row { name: all, a: &self.a, b: &self.b }).chain(cuts)
    }

    /// What the table of rates contains that the verdict leaves out; `None` where both have decided trials of each cut.
    pub fn without_part(&self) -> Option<String> {
        let trials = counted(self.unmatched, "trial");
        let take = if self.unmatched == 1 { "takes" } else { "take" };
        (self.unmatched > 0).then(|| {
            format!(
                "{trials} of cuts that not both runs have decided {take} no part in the verdict. The first row counts them."
            )
        })
    }
}

/// Compares B's trials with A's by the rate at their common deadline; `margin` is a share.
pub fn compare(a: &[Trial], b: &[Trial], margin: f64) -> Comparison {
    let deadline_ns = a.iter().chain(b).map(|trial| trial.deadline_ns).min();
    let deadline = deadline_ns.unwrap_or(0);
    let [arms_a, arms_b] = [a, b].map(|trials| by_shape(trials, deadline));
    let names = named(a.iter().chain(b));
    let shapes: BTreeSet<&String> = arms_a.keys().chain(arms_b.keys()).collect();
    let cuts: Vec<Cut<'_>> = shapes
        .into_iter()
        .map(|stratum| Cut {
            stratum,
            label: names.get(stratum.as_str()).map_or(stratum.as_str(), |cut| &cut.label),
            a: arms_a.get(stratum).copied().unwrap_or_default(),
            b: arms_b.get(stratum).copied().unwrap_or_default(),
        })
        .collect();
    let strata: Vec<Stratum> = cuts.iter().map(Cut::decided).collect();
    let (p_worse, gap) = (exact_p(&strata), difference(&strata));
    let Uncertain { unmatched, uncompared, worst } = uncertain(&cuts, &not_made(a, b, deadline));
    let worst = difference(&worst);
    let total = |arms: &BTreeMap<String, Counted>| arm_figures(arms.values().copied().sum());
    let (total_a, total_b) = (total(&arms_a), total(&arms_b));
    let finding = match (p_worse, gap, worst) {
        _ if total_a.is_unproved() || total_b.is_unproved() => Finding::Undecided,
        (Some(p), _, _) if p <= ALPHA => Finding::Worse,
        (_, Some(gap), Some(worst)) if gap.upper95.max(worst.upper95) < margin => Finding::NotWorse,
        _ => Finding::Undecided,
    };
    let (mut to_show_worse, mut to_rule_out) = (None, None);
    if let (Finding::Undecided, Some(rate_a), Some(rate_b)) = (finding, total_a.rate, total_b.rate) {
        to_show_worse = trials_per_arm(rate_a, rate_b, POWER);
        to_rule_out = trials_to_rule_out(&strata, margin, POWER);
    }
    let mut comparison = Comparison {
        finding,
        sentence: String::new(),
        times_sentence: None,
        deadline_ns,
        a: total_a,
        b: total_b,
        strata: cuts
            .iter()
            .map(|cut| StratumFigures {
                shape: cut.label.to_owned(),
                a: arm_figures(cut.a),
                b: arm_figures(cut.b),
            })
            .collect(),
        unmatched,
        uncompared,
        p_worse,
        difference: gap.map(|gap| gap.estimate),
        difference_upper95: gap.map(|gap| gap.upper95),
        difference_upper95_worst: worst.map(|worst| worst.upper95),
        margin,
        trials_to_show_worse: to_show_worse,
        trials_to_rule_out: to_rule_out,
        times: time_tests(a, b, deadline),
    };
    comparison.sentence = sentence(&comparison);
    comparison.times_sentence = comparison.times.first().and_then(medians::sentence);
    comparison
}

fn arm_figures(counted: Counted) -> ArmFigures {
    let Counted { arm, undetermined, starved, unproved } = counted;
    ArmFigures {
        n: arm.n,
        beyond_deadline: arm.beyond,
        rate: arm.rate(),
        rate_ci95: clopper_pearson(arm.beyond, arm.n, CONFIDENCE),
        undetermined,
        starved,
        unproved,
    }
}

fn by_shape(trials: &[Trial], deadline_ns: u64) -> BTreeMap<String, Counted> {
    let mut arms: BTreeMap<String, Counted> = BTreeMap::new();
    for trial in trials {
        let counted = arms.entry(trial.stratum.clone()).or_default();
        counted.starved += u64::from(trial.starved);
        counted.unproved += u64::from(!trial.proved);
        match trial.beyond(&trial.cluster, Instant::Settled, deadline_ns) {
            Some(beyond) => {
                counted.arm.n += 1;
                counted.arm.beyond += u64::from(beyond);
            }
            None => counted.undetermined += 1,
        }
    }
    arms
}

fn sentence(c: &Comparison) -> String {
    let points = |share: f64| format!("{:.1} points", share * 100.0);
    // A reader of the verdict alone must not take trials that nobody could judge for good ones.
    let undecided = |arm: &ArmFigures| match arm.undetermined {
        0 => String::new(),
        n => format!(" ({n} more undecided)"),
    };
    let seen = format!(
        "B is beyond the deadline in {} of {} trials{}, A in {} of {}{}",
        c.b.beyond_deadline,
        c.b.n,
        undecided(&c.b),
        c.a.beyond_deadline,
        c.a.n,
        undecided(&c.a)
    );
    for (name, arm) in [("A", &c.a), ("B", &c.b)] {
        if arm.is_unproved() {
            return format!(
                "Undecided: in none of {name}'s {} was the cut proved: it was not in force, or no packet was dropped on \
                 its links; so nothing can be said. {seen}.",
                counted(arm.unproved, "trial")
            );
        }
    }
    let (Some(p), Some(upper)) = (c.p_worse, c.difference_upper95) else {
        return format!("{seen}; no shape has decided trials in both, so nothing can be compared.");
    };
    let because = c.uncompared.reason().map_or_else(String::new, |reason| format!("{reason}; "));
    let p = if p < 1e-4 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") };
    match c.finding {
        Finding::Worse => format!("B is worse: {seen} ({p}, one-sided)."),
        Finding::NotWorse => format!(
            "B is not worse by {} or more: {seen}; the difference is below {} with 95 %{}.",
            points(c.margin),
            Bound::Upper.points(upper),
            match c.unmatched {
                0 => String::new(),
                n => format!("; {} of cuts that not both have decided take no part", counted(n, "trial")),
            }
        ),
        Finding::Undecided if upper < c.margin => format!(
            "Undecided: {because}{seen}; by these the difference is below {} with 95 %, but {} could lift that to {}.",
            Bound::Upper.points(upper),
            if because.is_empty() {
                "the undecided trials"
            } else {
                "what can't be compared or is undecided"
            },
            c.difference_upper95_worst.map_or_else(|| "any".to_owned(), |upper| Bound::Upper.points(upper))
        ),
        Finding::Undecided => {
            let mut text = format!(
                "Undecided: {because}{seen} ({p}, one-sided); the difference may be as large as {}.",
                Bound::Upper.points(upper)
            );
            let mut needs = Vec::new();
            if let Some(n) = c.trials_to_rule_out {
                needs.push(format!(
                    "about {n} trials in each run would rule out the margin of {}",
                    points(c.margin)
                ));
            }
            if let Some(n) = c.trials_to_show_worse {
                needs.push(format!("about {n} in each would show that B is worse"));
            }
            if !needs.is_empty() {
                text.push_str(" If these rates are the true ones, ");
                text.push_str(&needs.join(", "));
                text.push_str(" (80 % power).");
            }
            text
        }
    }
}

type Part = fn(&Trial, &str) -> Option<Times>;

fn time_tests(a: &[Trial], b: &[Trial], deadline_ns: u64) -> Vec<TimeTest> {
    let names = |trials: &[Trial]| -> BTreeSet<String> {
        trials.iter().flat_map(|trial| &trial.endpoints).map(|e| base(&e.name).to_owned()).collect()
    };
    let cluster: Part = |trial, _| Some(trial.cluster.clone());
    let endpoint: Part = Trial::endpoint;
    let mut tests = vec![
        time_test("cluster", cluster, Instant::Settled, [a, b], deadline_ns),
        time_test("cluster", cluster, Instant::Ready, [a, b], deadline_ns),
    ];
    for name in names(a).intersection(&names(b)) {
        tests.push(time_test(name, endpoint, Instant::Settled, [a, b], deadline_ns));
    }
    tests.extend(outage_tests([a, b]));
    let adjusted = holm(&tests.iter().map(|test| test.p).collect::<Vec<_>>());
    for (test, p_holm) in tests.iter_mut().zip(adjusted) {
        test.p_holm = p_holm;
    }
    tests
}

/// The tests of outages: the sum over required endpoints, and of each name what clients see.
fn outage_tests(arms: [&[Trial]; 2]) -> Vec<TimeTest> {
    let names = |trials: &[Trial]| -> BTreeSet<String> {
        trials.iter().flat_map(|trial| &trial.outages).map(|outage| outage.name.clone()).collect()
    };
    let mut tests = vec![outage_test("cluster", "outage", &Trial::total_outage, arms)];
    for name in names(arms[0]).intersection(&names(arms[1])) {
        type Figure = fn(&Trial, &ClusterOutage) -> Option<Observation>;
        let figures: [(&str, Figure); 2] = [
            ("all out", |trial, outage| Some(trial.seen(outage, outage.all_ns?))),
            ("some out after the heal", |trial, outage| Some(trial.some_after_heal(outage))),
        ];
        for (what, figure) in figures {
            let observe = |trial: &Trial| {
                let outage = trial.outages.iter().find(|outage| outage.name == *name)?;
                figure(trial, outage).filter(|_| !trial.injection_in_doubt())
            };
            tests.push(outage_test(name, what, &observe, arms));
        }
    }
    tests.retain(|test| test.a_p50_ns.is_some() || test.b_p50_ns.is_some());
    tests
}

fn outage_test(
    name: &str,
    what: &str,
    observe: &dyn Fn(&Trial) -> Option<Observation>,
    arms: [&[Trial]; 2],
) -> TimeTest {
    let mut strata: BTreeMap<&str, [Vec<Observation>; 2]> = BTreeMap::new();
    for (arm, trials) in arms.into_iter().enumerate() {
        for trial in trials {
            if let Some(observation) = observe(trial) {
                strata.entry(&trial.stratum).or_default()[arm].push(observation);
            }
        }
    }
    let medians = [0, 1].map(|arm: usize| {
        let all = strata.values().flat_map(|arms| &arms[arm]).copied().collect();
        Curve::estimate(all).quantile(0.5)
    });
    tested(name, what, medians, [None; 2], strata)
}

/// A test of the times of two arms, by stratum.
fn tested(
    name: &str,
    what: &str,
    [a, b]: [Quantile; 2],
    [a_rate, b_rate]: [Option<f64>; 2],
    strata: BTreeMap<&str, [Vec<Observation>; 2]>,
) -> TimeTest {
    let (p50_difference_ns, p50_difference_ci95_ns) = medians::difference(a, b);
    TimeTest {
        name: name.to_owned(),
        instant: what.to_owned(),
        a_p50_ns: a.estimate,
        b_p50_ns: b.estimate,
        p50_difference_ns,
        p50_difference_ci95_ns,
        a_rate,
        b_rate,
        p: log_rank(strata.into_values().collect()).map(|test| test.p),
        p_holm: None,
    }
}

fn time_test(name: &str, part: Part, instant: Instant, arms: [&[Trial]; 2], deadline_ns: u64) -> TimeTest {
    let mut strata: BTreeMap<&str, [Vec<Observation>; 2]> = BTreeMap::new();
    let mut medians = [Quantile::default(); 2];
    let mut rates = [None, None];
    for (arm, trials) in arms.into_iter().enumerate() {
        let mut counts = Arm::default();
        let mut observations = Vec::new();
        for trial in trials {
            let Some(times) = part(trial, name) else { continue };
            if let Some(beyond) = trial.beyond(&times, instant, deadline_ns) {
                counts.n += 1;
                counts.beyond += u64::from(beyond);
            }
            if let Some(observation) = trial.observation(&times, instant, deadline_ns) {
                observations.push(observation);
                strata.entry(&trial.stratum).or_default()[arm].push(observation);
            }
        }
        medians[arm] = Curve::estimate(observations).quantile(0.5);
        rates[arm] = counts.rate();
    }
    let what = match instant {
        Instant::Settled => "settled",
        Instant::Ready => "ready",
    };
    tested(name, what, medians, rates, strata)
}
