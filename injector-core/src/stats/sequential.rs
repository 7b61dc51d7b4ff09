//! Wald's sequential probability ratio test of a failure rate: stop as soon as the evidence suffices.

use serde::{Deserialize, Serialize};

/// The decision of the test after a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on.
    Undecided,
    /// The rate is `p0` rather than `p1`.
    AcceptP0,
    /// The rate is `p1` rather than `p0`.
    AcceptP1,
}

/// Why two rates can't be distinguished.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("p0 = {p0} and p1 = {p1} are not testable; write rates with 0 < p0 < p1 < 1, as in p0=0.01,p1=0.05")]
pub struct RatesError {
    p0: f64,
    p1: f64,
}

/// The running test of rate `p0` against `p1`, with α = β = [`super::ALPHA`].
///
/// Trials that were not decided are no evidence for a failure, but each of them may have been one: `p0` is accepted only
/// if the test accepts it with all of them counted as failures too.
#[derive(Clone, Debug, PartialEq)]
pub struct Sprt {
    failure_weight: f64,
    success_weight: f64,
    bound: f64,
    log_ratio: f64,
    trials: u64,
    undecided: u64,
    decision: Decision,
}

impl Sprt {
    /// The test before its first trial.
    pub fn new(p0: f64, p1: f64) -> Result<Self, RatesError> {
        if !(0.0 < p0 && p0 < p1 && p1 < 1.0) {
            return Err(RatesError { p0, p1 });
        }
        Ok(Self {
            failure_weight: (p1 / p0).ln(),
            success_weight: ((1.0 - p1) / (1.0 - p0)).ln(),
            // α = β makes Wald's two bounds mirror images.
            bound: ((1.0 - super::ALPHA) / super::ALPHA).ln(),
            log_ratio: 0.0,
            trials: 0,
            undecided: 0,
            decision: Decision::Undecided,
        })
    }

    /// Counts a trial: `Some(true)` if it was beyond the deadline, `None` if it was not decided. After a decision no decided
    /// trial counts; an undecided one can still take an acceptance of `p0` back.
    pub fn count(&mut self, failed: Option<bool>) -> Decision {
        match (failed, self.decision) {
            (Some(failed), Decision::Undecided) => {
                self.trials += 1;
                self.log_ratio += if failed { self.failure_weight } else { self.success_weight };
            }
            (None, Decision::Undecided | Decision::AcceptP0) => self.undecided += 1,
            (Some(_), _) | (None, Decision::AcceptP1) => return self.decision,
        }
        self.decision = if self.log_ratio >= self.bound {
            Decision::AcceptP1
        } else if self.log_ratio + self.undecided as f64 * self.failure_weight <= -self.bound {
            Decision::AcceptP0
        } else {
            Decision::Undecided
        };
        self.decision
    }

    /// The decision so far.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// The decided trials that it took (so far).
    pub fn trials(&self) -> u64 {
        self.trials
    }

    /// The undecided trials among those that were counted.
    pub fn undecided(&self) -> u64 {
        self.undecided
    }

    /// Whether nothing but the undecided trials keeps the test from accepting `p0`.
    pub fn is_kept_open(&self) -> bool {
        self.decision == Decision::Undecided && self.log_ratio <= -self.bound
    }

    /// The logarithm of the likelihood ratio of `p1` to `p0`.
    pub fn log_ratio(&self) -> f64 {
        self.log_ratio
    }

    /// Wald's approximation of the trials that the test takes if the rate is `rate` and equals one of the two
    /// that it tests, with the probability `accept_p1` of deciding for `p1`.
    pub fn expected_trials(&self, rate: f64, accept_p1: f64) -> f64 {
        let drift = rate * self.failure_weight + (1.0 - rate) * self.success_weight;
        (accept_p1 * self.bound - (1.0 - accept_p1) * self.bound) / drift
    }

    /// The fewest trials after which a run without failure is accepted as `p0`.
    pub fn fewest_without_failure(&self) -> u64 {
        (self.bound / -self.success_weight).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::stats::ALPHA;

    #[test]
    fn walds_figures_for_one_against_five_percent() {
        let test = Sprt::new(0.01, 0.05).unwrap();
        // Computed by hand: ln 19 / ln(0.99 / 0.95) = 71.4.
        assert_eq!(test.fewest_without_failure(), 72);
        // Wald 1945, (3.57): drift −0.0247298 at 1 % and 0.0412895 at 5 %, numerator 0.9·ln 19 = 2.65000.
        assert!((test.expected_trials(0.01, ALPHA) - 107.2).abs() < 0.1);
        assert!((test.expected_trials(0.05, 1.0 - ALPHA) - 63.0).abs() < 1.5);
    }

    #[test]
    fn decides_at_the_bound_and_stays() {
        let mut test = Sprt::new(0.01, 0.05).unwrap();
        assert_eq!((0..71).map(|_| test.count(Some(false))).last(), Some(Decision::Undecided));
        assert_eq!(test.count(Some(false)), Decision::AcceptP0);
        assert_eq!((test.count(Some(true)), test.trials()), (Decision::AcceptP0, 72));
        let mut failing = Sprt::new(0.01, 0.05).unwrap();
        assert_eq!(
            [failing.count(Some(true)), failing.count(Some(true))],
            [Decision::Undecided, Decision::AcceptP1]
        );
    }

    #[test]
    fn an_undecided_trial_may_have_failed() {
        let good = |test: &mut Sprt, n: u64| (0..n).map(|_| test.count(Some(false))).last();
        let mut test = Sprt::new(0.01, 0.05).unwrap();
        assert_eq!(test.count(None), Decision::Undecided);
        assert_eq!(good(&mut test, 72), Some(Decision::Undecided));
        assert!(test.is_kept_open());
        // By hand: (ln 19 + ln 5) / ln(0.99 / 0.95) = 110.4.
        assert_eq!(good(&mut test, 110 - 72), Some(Decision::Undecided));
        assert_eq!(test.count(Some(false)), Decision::AcceptP0);
        assert!(!test.is_kept_open());
        assert_eq!((test.trials(), test.undecided()), (111, 1));
        assert_eq!(test.count(None), Decision::Undecided, "two of them may be too many");
        // What was seen to fail suffices whatever the others were.
        let mut failing = Sprt::new(0.01, 0.05).unwrap();
        assert_eq!(failing.count(None), Decision::Undecided);
        assert_eq!([true, true].map(|failed| failing.count(Some(failed))).last(), Some(&Decision::AcceptP1));
        assert_eq!((failing.count(None), failing.undecided()), (Decision::AcceptP1, 1));
    }

    #[test]
    fn rates_that_cannot_be_told_apart_are_refused() {
        for (p0, p1) in [(0.0, 0.5), (0.5, 0.5), (0.2, 0.1), (0.1, 1.0), (f64::NAN, 0.5)] {
            assert!(Sprt::new(p0, p1).unwrap_err().to_string().contains("p0 < p1"));
        }
    }

    /// Wald: error rates at most α/(1−β) and about α; expected sizes near his approximation, which ignores the
    /// overshoot and is therefore low.
    #[test]
    fn error_rates_and_sizes_agree_with_wald() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let campaigns = 4000;
        for (rate, wrong) in [(0.01, Decision::AcceptP1), (0.05, Decision::AcceptP0)] {
            let (mut errors, mut trials) = (0_u32, 0_u64);
            for _ in 0..campaigns {
                let mut test = Sprt::new(0.01, 0.05).unwrap();
                while test.count(Some(rng.random_bool(rate))) == Decision::Undecided {}
                errors += u32::from(test.decision() == wrong);
                trials += test.trials();
            }
            let error = f64::from(errors) / f64::from(campaigns);
            assert!((0.015..=ALPHA / (1.0 - ALPHA) + 0.007).contains(&error), "at {rate}: {error}");
            let mean = trials as f64 / f64::from(campaigns);
            let accept_p1 = if wrong == Decision::AcceptP1 { error } else { 1.0 - error };
            let wald = Sprt::new(0.01, 0.05).unwrap().expected_trials(rate, accept_p1);
            assert!((0.95..=1.35).contains(&(mean / wald)), "at {rate}: {mean} for Wald's {wald}");
        }
    }
}
