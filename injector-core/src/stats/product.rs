//! Confidence limits of a quantile of right-censored times: the beta product procedure of Fay, Brittain and Proschan
//! (2013, Biostatistics 14:723), inverted.
//!
//! Without censoring it is the exact binomial interval, whose limits are order statistics. A normal band, which it replaces
//! here, gives limits for any number of trials, a single one included.

use statrs::distribution::{Beta, ContinuousCDF};

/// The trials at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtTime {
    /// The time.
    pub time_ns: u64,
    /// Trials still watched just before it.
    pub at_risk: usize,
    /// Events at it.
    pub events: usize,
    /// Trials still watched after it.
    pub left: usize,
}

/// The limits of the time by which all but a share `level` had their event, each missed with probability `miss` at most.
/// They are times of events; `None` where no event is a limit.
pub(super) fn limits(n: usize, times: &[AtTime], level: f64, miss: f64) -> [Option<u64>; 2] {
    let (mut product, mut event) = (Product::default(), None);
    // From each of these times on: the survival, reckoned in favour of few events, and the last event until then.
    let mut known = vec![(product, n, event)];
    known.extend(times.iter().map(|at| {
        if at.events > 0 {
            product = product.and(at.at_risk + 1 - at.events, at.events);
            event = Some(at.time_ns);
        }
        (product, at.left, event)
    }));
    // In favour of many events, the next trial has its own at once. Survival only falls, so that halving finds both limits.
    let lower = known.partition_point(|(product, left, _)| product.and(*left, 1).at_most(level) < miss);
    let upper = known.partition_point(|(product, ..)| product.at_most(level) < 1.0 - miss);
    [lower, upper].map(|at| known.get(at).and_then(|(.., event)| *event))
}

/// The product of independent beta variables, by its first two moments. For those of consecutive order statistics, which have
/// no censoring between them, it is a beta variable itself.
#[derive(Clone, Copy)]
struct Product {
    mean: f64,
    square: f64,
}

impl Default for Product {
    /// The product of none: 1.
    fn default() -> Self {
        Self { mean: 1.0, square: 1.0 }
    }
}

impl Product {
    /// The product with a variable of these parameters; with `a` 0 that variable is 0.
    fn and(self, a: usize, b: usize) -> Self {
        let (a, sum) = (a as f64, (a + b) as f64);
        Self { mean: self.mean * a / sum, square: self.square * (a * (a + 1.0)) / (sum * (sum + 1.0)) }
    }

    /// The probability that it is at most `level`.
    fn at_most(self, level: f64) -> f64 {
        let variance = self.square - self.mean * self.mean;
        if self.mean <= 0.0 {
            return 1.0;
        }
        if variance <= 0.0 {
            return f64::from(u8::from(self.mean <= level));
        }
        let weight = self.mean * (1.0 - self.mean) / variance - 1.0;
        let beta = Beta::new(self.mean * weight, (1.0 - self.mean) * weight);
        beta.map_or(f64::NAN, |beta| beta.cdf(level))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use statrs::distribution::{Binomial, DiscreteCDF};

    use crate::stats::survival::{Curve, Observation};

    /// The order statistics whose coverage is what it must be, from the binomial distribution.
    fn order_statistics(n: u64, share: f64) -> [Option<u64>; 2] {
        let below = Binomial::new(share, n).unwrap();
        // The k-th is not above the quantile if at least k trials are at or below it, and not below it if fewer are.
        let not_above = |k: &u64| below.sf(k - 1) >= 0.975;
        let not_below = |k: &u64| below.cdf(k - 1) >= 0.975;
        [(1..=n).rev().find(not_above), (1..=n).find(not_below)]
    }

    #[test]
    fn without_censoring_limits_are_order_statistics_with_their_exact_coverage() {
        for n in 1..=150 {
            let curve = Curve::estimate((1..=n).map(Observation::event).collect());
            for share in [0.5, 0.9, 0.99] {
                assert_eq!(curve.quantile(share).ci95, order_statistics(n, share), "{share} of {n}");
            }
        }
        // By hand: 1 - 0.5^n reaches 0.975 with six trials, 1 - 0.9^n with 36.
        let limits =
            |n, share| Curve::estimate((1..=n).map(Observation::event).collect()).quantile(share).ci95;
        assert_eq!(limits(1, 0.5), [None, None], "one trial covers half of all medians");
        assert_eq!((limits(5, 0.5), limits(6, 0.5)), ([None, None], [Some(1), Some(6)]));
        assert_eq!((limits(1, 0.9), limits(2, 0.9)), ([None, None], [Some(1), None]));
        assert_eq!((limits(35, 0.9)[1], limits(36, 0.9)[1]), (None, Some(36)));
    }

    #[test]
    fn ties_are_as_many_trials() {
        let tied = Curve::estimate([3, 3, 3, 3, 3, 7].map(Observation::event).to_vec());
        assert_eq!(tied.quantile(0.5).ci95, [Some(3), Some(7)]);
        assert_eq!(Curve::estimate(vec![Observation::event(4); 9]).quantile(0.5).ci95, [Some(4), Some(4)]);
    }

    /// Each side may miss in 2.5 % of all campaigns, however few their trials are and however many are censored.
    #[test]
    fn few_and_censored_trials_keep_the_coverage() {
        let mut rng = ChaCha8Rng::seed_from_u64(20_260_101);
        let campaigns = 3000;
        for (n, cut_short) in [(1, 0.0), (3, 0.3), (6, 0.0), (7, 0.5), (12, 0.4), (40, 0.3)] {
            for share in [0.5, 0.9] {
                let truth = (-1e6 * (1.0_f64 - share).ln()) as u64;
                let (mut above, mut below) = (0_u32, 0_u32);
                for _ in 0..campaigns {
                    let mut observation = || {
                        let event = (-1e6 * (1.0 - rng.random::<f64>()).ln()) as u64;
                        let until = if rng.random_bool(cut_short) {
                            rng.random_range(0..2_500_000)
                        } else {
                            u64::MAX
                        };
                        Observation::of(until < event, event.min(until))
                    };
                    let curve = Curve::estimate((0..n).map(|_| observation()).collect());
                    let [low, high] = curve.quantile(share).ci95;
                    above += u32::from(low.is_some_and(|low| low > truth));
                    below += u32::from(high.is_some_and(|high| high < truth));
                }
                // 2.5 % and three standard errors of the simulation.
                let most = f64::from(campaigns) * 0.0336;
                assert!(f64::from(above) <= most, "{share} of {n}: lower limit too high in {above}");
                assert!(f64::from(below) <= most, "{share} of {n}: upper limit too low in {below}");
            }
        }
    }
}
