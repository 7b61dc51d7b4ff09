//! The Kaplan–Meier curve of right-censored times, its band and its quantiles.

use super::product::{AtTime, limits};
use super::{CONFIDENCE, normal_quantile};

/// The fewest observations for which a 99 % quantile is given.
pub const P99_NEEDS: usize = 100;

/// How the watching of one trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The watch ended with the event. It orders first: at equal times events come before censoring.
    Event,
    /// The watch ended before the event.
    Censored,
}

/// A trial's time from the heal, and what ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observation {
    /// Nanoseconds from the heal.
    pub time_ns: u64,
    /// How the watch ended.
    pub end: End,
}

impl Observation {
    /// A time that is known, or a lower bound of it where what it measures had not ended.
    pub fn of(is_open: bool, ns: u64) -> Self {
        if is_open { Self::censored(ns) } else { Self::event(ns) }
    }

    /// The event came at this time.
    pub const fn event(time_ns: u64) -> Self {
        Self { time_ns, end: End::Event }
    }

    /// An observation without the event by this time.
    pub const fn censored(time_ns: u64) -> Self {
        Self { time_ns, end: End::Censored }
    }
}

/// The curve from one event time up to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The event time.
    pub time_ns: u64,
    /// Trials still watched just before it.
    pub at_risk: usize,
    /// Events at it.
    pub events: usize,
    /// The share for which the event comes later.
    pub survival: f64,
    /// Greenwood's standard error of `survival`.
    pub std_error: f64,
    /// The pointwise 95 % band by the log-log transform; `None` where it is undefined (`survival` is 0).
    pub band: Option<[f64; 2]>,
}

/// A quantile with its interval; `None` is "not reached".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantile {
    /// The first time by which at least this share had its event.
    pub estimate: Option<u64>,
    /// The 95 % interval: event times that the quantile is not below, and not above, each with 97.5 %. Without censoring
    /// these are order statistics with their exact coverage (with censoring see [`super::product`]); with so few trials that
    /// none has it, `None`.
    pub ci95: [Option<u64>; 2],
}

/// A Kaplan–Meier estimate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Trials that entered.
    pub n: usize,
    /// A step for each distinct event time, rising in time.
    pub steps: Vec<Step>,
    /// The time up to which anything is known; `None` without trials.
    pub last_ns: Option<u64>,
    /// The trials at each distinct time, rising in time.
    at_times: Vec<AtTime>,
}

/// Equal shares reached by different roundings are equal.
const SLACK: f64 = 1e-9;

impl Curve {
    /// The estimate from observations in any order.
    pub fn estimate(mut observations: Vec<Observation>) -> Self {
        observations.sort_unstable();
        let n = observations.len();
        let z = normal_quantile(f64::midpoint(CONFIDENCE, 1.0));
        let (mut survival, mut greenwood) = (1.0_f64, 0.0_f64);
        let (mut steps, mut at_times) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < n {
            let time_ns = observations[at].time_ns;
            let same = observations[at..].iter().take_while(|o| o.time_ns == time_ns);
            let (ties, events) =
                same.fold((0, 0), |(ties, events), o| (ties + 1, events + usize::from(o.end == End::Event)));
            let at_risk = n - at;
            at += ties;
            at_times.push(AtTime { time_ns, at_risk, events, left: n - at });
            if events == 0 {
                continue;
            }
            let (d, r) = (events as f64, at_risk as f64);
            survival = if events == at_risk { 0.0 } else { survival * (1.0 - d / r) };
            // At survival 0 Greenwood's sum is infinite and the error's limit is 0.
            let std_error = if events == at_risk {
                0.0
            } else {
                greenwood += d / (r * (r - d));
                survival * greenwood.sqrt()
            };
            let band = (survival > 0.0).then(|| {
                let width = z * greenwood.sqrt() / survival.ln().abs();
                [survival.powf(width.exp()), survival.powf((-width).exp())]
            });
            steps.push(Step { time_ns, at_risk, events, survival, std_error, band });
        }
        Self { n, steps, last_ns: observations.last().map(|o| o.time_ns), at_times }
    }

    /// The step in force at a time; `None` before the first event.
    fn step_at(&self, time_ns: u64) -> Option<&Step> {
        let after = self.steps.partition_point(|step| step.time_ns <= time_ns);
        after.checked_sub(1).map(|at| &self.steps[at])
    }

    /// The share with a later event, with its band; `None` where nothing is known: no trials, or all were
    /// censored before.
    pub fn survival_at(&self, time_ns: u64) -> Option<(f64, Option<[f64; 2]>)> {
        let known = self.last_ns.is_some_and(|last| time_ns <= last)
            || self.steps.last().is_some_and(|step| step.survival == 0.0);
        let step = self.step_at(time_ns);
        known.then(|| step.map_or((1.0, None), |step| (step.survival, step.band)))
    }

    /// The time by which a `share` had its event, with its interval.
    pub fn quantile(&self, share: f64) -> Quantile {
        let level = 1.0 - share;
        let reached = self.steps.iter().find(|step| step.survival <= level + SLACK);
        Quantile {
            estimate: reached.map(|step| step.time_ns),
            ci95: limits(self.n, &self.at_times, level, (1.0 - CONFIDENCE) / 2.0),
        }
    }

    /// The 99 % quantile; not given under [`P99_NEEDS`] trials.
    pub fn p99(&self) -> Quantile {
        if self.n < P99_NEEDS { Quantile::default() } else { self.quantile(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::stats::logrank::samples::six_mp;

    #[test]
    fn freireich_6mp_as_published() {
        // Freireich et al. 1963, Blood 21:699; survival and Greenwood errors as in Kleinbaum & Klein, Survival
        // Analysis, ch. 2; the log-log band as Stata's `sts list` and SAS PROC LIFETEST print it.
        let expected = [
            (6, 21, 3, 0.8571, 0.0764, 0.6197, 0.9516),
            (7, 17, 1, 0.8067, 0.0869, 0.5631, 0.9228),
            (10, 15, 1, 0.7529, 0.0963, 0.5032, 0.8894),
            (13, 12, 1, 0.6902, 0.1068, 0.4316, 0.8491),
            (16, 11, 1, 0.6275, 0.1141, 0.3675, 0.8049),
            (22, 7, 1, 0.5378, 0.1282, 0.2678, 0.7468),
            (23, 6, 1, 0.4482, 0.1346, 0.1881, 0.6801),
        ];
        let curve = Curve::estimate(six_mp());
        assert_eq!(curve.steps.len(), expected.len());
        for (step, (time, at_risk, events, survival, error, low, high)) in curve.steps.iter().zip(expected) {
            assert_eq!((step.time_ns, step.at_risk, step.events), (time, at_risk, events));
            let [l, h] = step.band.unwrap();
            for (got, want) in [(step.survival, survival), (step.std_error, error), (l, low), (h, high)] {
                assert!((got - want).abs() < 6e-5, "week {time}: {got} for {want}");
            }
        }
        // SAS: median 23, upper limit not reached; its lower limit is 13, by the log-log band. That at most half survive has a
        // probability of 2.44 % at week 10 and 2.83 % from week 11 on (200,000 draws of the beta variables).
        assert_eq!(curve.quantile(0.5), Quantile { estimate: Some(23), ci95: [Some(10), None] });
        assert_eq!(curve.quantile(0.9).estimate, None);
    }

    #[test]
    fn freireich_placebo_median() {
        // The median as SAS PROC LIFETEST has it. Its limits are the 6th and the 16th of 21: P(B(21, ½) ≤ 5) = 1.3 %; SAS has 4
        // to 11 by the log-log band.
        let curve = Curve::estimate(crate::stats::logrank::samples::placebo());
        assert_eq!(curve.quantile(0.5), Quantile { estimate: Some(8), ci95: [Some(4), Some(12)] });
        assert!(curve.steps.last().unwrap().survival.abs() < 1e-12);
        assert_eq!(curve.steps.last().unwrap().band, None);
        assert_eq!(curve.survival_at(100), Some((0.0, None)));
    }

    #[test]
    fn what_is_not_known_is_none() {
        assert_eq!(Curve::estimate(vec![]).survival_at(0), None);
        assert_eq!(Curve::estimate(vec![]).quantile(0.5), Quantile::default());
        let all_censored = Curve::estimate(vec![Observation::censored(5); 9]);
        assert_eq!(all_censored.survival_at(5), Some((1.0, None)));
        assert_eq!(all_censored.survival_at(6), None);
        assert_eq!(all_censored.quantile(0.5), Quantile::default());
        assert_eq!(Curve::estimate(vec![Observation::event(1); 99]).p99(), Quantile::default());
        assert_eq!(Curve::estimate(vec![Observation::event(1); 100]).p99().estimate, Some(1));
    }

    #[test]
    fn without_censoring_it_is_the_empirical_distribution() {
        let curve = Curve::estimate((1..=10).map(Observation::event).collect());
        for (step, k) in curve.steps.iter().zip(1_u32..) {
            let share = 1.0 - f64::from(k) / 10.0;
            assert!((step.survival - share).abs() < 1e-12);
            assert!((step.std_error - (share * (1.0 - share) / 10.0).sqrt()).abs() < 1e-12);
        }
        assert_eq!(curve.quantile(0.5).estimate, Some(5));
        assert_eq!(curve.quantile(0.9).estimate, Some(9));
    }

    /// 2,500 campaigns of 60 trials: exponential recoveries, a deadline, and some trials cut short. Each of the
    /// band's sides, the quantile's interval and the band as a whole must miss as often as they say.
    #[test]
    fn the_band_covers_the_truth_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(20_250_301);
        let (campaigns, mean, deadline) = (2500, 1000.0_f64, 2500);
        let truth = |t: f64| (-t / mean).exp();
        let (mut below, mut above, mut median_missed) = (0, 0, 0);
        for _ in 0..campaigns {
            let curve = Curve::estimate(
                (0..60)
                    .map(|_| {
                        let event = (-mean * (1.0 - rng.random::<f64>()).ln()) as u64;
                        let cut_short =
                            if rng.random_bool(0.3) { rng.random_range(0..deadline) } else { deadline };
                        if event <= cut_short {
                            Observation::event(event)
                        } else {
                            Observation::censored(cut_short)
                        }
                    })
                    .collect(),
            );
            let [low, high] = curve.survival_at(900).unwrap().1.unwrap();
            below += u32::from(truth(900.0) < low);
            above += u32::from(truth(900.0) > high);
            let [from, to] = curve.quantile(0.5).ci95;
            let median = (mean * 2.0_f64.ln()) as u64;
            let covered = from.is_none_or(|t| t <= median) && to.is_none_or(|t| median <= t);
            median_missed += u32::from(!covered);
        }
        // Both sides are counted: a band that is too wide on one of them would pass by being too narrow on
        // the other.
        let share = |count: u32| f64::from(count) / f64::from(campaigns);
        assert!((0.010..=0.040).contains(&share(below)), "too high in {}", share(below));
        assert!((0.010..=0.040).contains(&share(above)), "too low in {}", share(above));
        // Its limits are events, so that they cover a little more than they say.
        assert!((0.020..=0.055).contains(&share(median_missed)), "median missed in {}", share(median_missed));
    }
}
