//! How many trials it takes to see a fault, and to distinguish two rates.

use statrs::distribution::{Binomial, Discrete};

use super::strata::{Arm, Stratum, difference, null_distribution};
use super::{ALPHA, normal_quantile};

/// The power that a comparison is planned for.
pub const POWER: f64 = 0.8;
/// Beyond this many trials an arm the exact power is replaced by the normal approximation.
const EXACT_UP_TO: u64 = 400;

/// The fewest trials that show a fault of this rate at least once with this probability: 59 for 5 % and 0.95.
/// `None` unless both lie strictly between 0 and 1.
pub fn trials_to_see(rate: f64, probability: f64) -> Option<u64> {
    let inside = |share: f64| 0.0 < share && share < 1.0;
    // The slack keeps an exact whole number from being rounded up past itself.
    (inside(rate) && inside(probability))
        .then(|| ((1.0 - probability).ln() / (1.0 - rate).ln() - 1e-9).ceil() as u64)
}

/// The probability that `trials` show a fault of this rate at least once.
pub fn chance_to_see(rate: f64, trials: u64) -> f64 {
    1.0 - (1.0 - rate).powf(trials as f64)
}

/// The smallest rate that `trials` show at least once with this probability; `None` without trials.
pub fn smallest_rate_seen(trials: u64, probability: f64) -> Option<f64> {
    (trials > 0).then(|| 1.0 - (1.0 - probability).powf(1.0 / trials as f64))
}

/// The probability that `compare` calls B worse, with `n` trials an arm of one shape and these true rates.
///
/// The test is the one that `compare` makes: exact conditional, one-sided at [`ALPHA`] (Fisher's with one
/// stratum). For 5 % against 0 % it needs five failures in B, which 134 trials an arm bring with 80 %: the "about
/// 140" that planning reckons with. More strata cost a little more.
pub fn comparison_power(n: u64, rate_a: f64, rate_b: f64) -> f64 {
    let (Ok(a), Ok(b)) = (Binomial::new(rate_a, n), Binomial::new(rate_b, n)) else { return 0.0 };
    let mean = n as f64 * (rate_a + rate_b);
    // Ten standard deviations up, nothing is left to sum.
    let most = ((mean + 10.0 * mean.sqrt() + 20.0) as u64).min(2 * n);
    let mut power = 0.0;
    for failures in 1..=most {
        let margins = Stratum {
            a: Arm { beyond: failures.min(n), n },
            b: Arm { beyond: failures - failures.min(n), n },
        };
        let (least, probabilities) = null_distribution(&[margins]);
        let mut tail = 0.0;
        for (at, probability) in probabilities.iter().enumerate().rev() {
            tail += probability;
            if tail > ALPHA {
                break;
            }
            let in_b = least + at as u64;
            power += b.pmf(in_b) * a.pmf(failures - in_b);
        }
    }
    power
}

/// About the fewest trials an arm with which `compare` calls B worse with probability `power`; `None` unless
/// `rate_b` is above `rate_a`, or where it takes more than a million.
pub fn trials_per_arm(rate_a: f64, rate_b: f64, power: f64) -> Option<u64> {
    if !(0.0 <= rate_a && rate_a < rate_b && rate_b <= 1.0 && 0.0 < power && power < 1.0) {
        return None;
    }
    let approximate = approximate_trials(rate_a, rate_b, power);
    if approximate > 1e6 {
        return None;
    }
    if approximate as u64 > EXACT_UP_TO {
        return Some(approximate.ceil() as u64);
    }
    let enough = |n: u64| comparison_power(n, rate_a, rate_b) >= power;
    let (mut low, mut high) = (1, approximate.ceil().max(2.0) as u64);
    while !enough(high) {
        low = high;
        high *= 2;
    }
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// Fleiss's normal approximation with continuity correction, which follows the exact conditional test.
fn approximate_trials(rate_a: f64, rate_b: f64, power: f64) -> f64 {
    let (z_alpha, z_beta) = (normal_quantile(1.0 - ALPHA), normal_quantile(power));
    let (mean, gap) = (f64::midpoint(rate_a, rate_b), rate_b - rate_a);
    let spread = |p: f64| p * (1.0 - p);
    let plain = (z_alpha * (2.0 * spread(mean)).sqrt() + z_beta * (spread(rate_a) + spread(rate_b)).sqrt())
        .powi(2)
        / (gap * gap);
    plain / 4.0 * (1.0 + (1.0 + 4.0 / (plain * gap)).sqrt()).powi(2)
}

/// About the trials an arm with which `compare` rules out, with probability `power`, that B is worse by `margin` or more, if
/// the true rates are those of the strata, and the trials are spread over these strata; `None` if the rates themselves lie that
/// far apart, or where it takes more than a million.
///
/// At least as many as `compare` itself wants of counts that are as expected: its bound grows with the number of strata.
pub fn trials_to_rule_out(strata: &[Stratum], margin: f64, power: f64) -> Option<u64> {
    let compared = || strata.iter().filter(|stratum| stratum.compares());
    let sum = |arm: fn(&Stratum) -> Arm| {
        compared().map(arm).fold(Arm::default(), |x, y| Arm { beyond: x.beyond + y.beyond, n: x.n + y.n })
    };
    let (a, b) = (sum(|stratum| stratum.a), sum(|stratum| stratum.b));
    let (rate_a, rate_b) = (a.rate()?, b.rate()?);
    let room = margin - (rate_b - rate_a);
    if room <= 0.0 {
        return None;
    }
    let z = normal_quantile(1.0 - ALPHA) + normal_quantile(power);
    let by_spread = z * z * (rate_a * (1.0 - rate_a) + rate_b * (1.0 - rate_b)) / (room * room);
    // Even without a failure the exact limit needs this many.
    let at_least = trials_to_see(margin, 1.0 - ALPHA)?;
    let expected = |trials: f64| {
        let scaled = |arm: Arm, stratum: &Stratum| {
            let share = (stratum.a.n + stratum.b.n) as f64 / (a.n + b.n) as f64;
            let n = (trials * share).round().max(1.0);
            Arm { beyond: (n * arm.rate().unwrap_or_default()).round() as u64, n: n as u64 }
        };
        compared()
            .map(|stratum| Stratum { a: scaled(stratum.a, stratum), b: scaled(stratum.b, stratum) })
            .collect::<Vec<_>>()
    };
    let mut trials = by_spread.max(at_least as f64).ceil();
    while trials <= 1e6 {
        if difference(&expected(trials)).is_some_and(|difference| difference.upper95 < margin) {
            return Some(trials as u64);
        }
        trials = (trials * 1.02).ceil();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeing_a_fault_once() {
        // The "rule of three" made exact: ln 0.05 / ln(1 − p).
        for (rate, trials) in [(0.05, 59), (0.01, 299), (0.10, 29), (0.5, 5)] {
            assert_eq!(trials_to_see(rate, 0.95), Some(trials));
            assert!(chance_to_see(rate, trials) >= 0.95 && chance_to_see(rate, trials - 1) < 0.95);
        }
        // At 5 %, 20 trials miss it 36 % of the time.
        assert!((1.0 - chance_to_see(0.05, 20) - 0.358).abs() < 1e-3);
        assert!((smallest_rate_seen(59, 0.95).unwrap() - 0.0495).abs() < 1e-4);
        assert_eq!((trials_to_see(0.0, 0.95), smallest_rate_seen(0, 0.95)), (None, None));
        assert_eq!(trials_to_see(0.5, 0.75), Some(2));
    }

    /// With A never failing the test rejects from five failures in B on (C(n,5)/C(2n,5) < 0.05 < C(n,4)/C(2n,4)),
    /// so that the power is a plain binomial tail.
    #[test]
    fn five_percent_against_none_wants_about_140_an_arm() {
        let n = trials_per_arm(0.0, 0.05, POWER).unwrap();
        assert!((128..=142).contains(&n), "{n}");
        let tail = |n: i32| {
            let mut term = 0.95_f64.powi(n);
            let mut sum = term;
            for k in 1..5 {
                term *= f64::from(n - k + 1) / f64::from(k) * 0.05 / 0.95;
                sum += term;
            }
            1.0 - sum
        };
        assert!((comparison_power(140, 0.0, 0.05) - tail(140)).abs() < 1e-9);
        assert!(tail(n as i32) >= POWER && tail(n as i32 - 1) < POWER);
    }

    #[test]
    fn power_of_fishers_test_as_published() {
        // Fleiss, Levin & Paik, Statistical Methods for Rates and Proportions, table A.4: with continuity
        // correction, α = 0.05 one-sided is their two-sided 0.10; 0.05 against 0.10 at power 0.80 needs 381.
        let n = trials_per_arm(0.05, 0.10, POWER).unwrap();
        assert!((340..=381).contains(&n), "{n}");
        // Size: the exact test never rejects more often than α.
        for rate in [0.01, 0.05, 0.3] {
            assert!(comparison_power(100, rate, rate) <= ALPHA);
        }
    }

    #[test]
    fn ruling_out_a_margin() {
        let of = |a: (u64, u64), b: (u64, u64)| Stratum {
            a: Arm { beyond: a.0, n: a.1 },
            b: Arm { beyond: b.0, n: b.1 },
        };
        assert_eq!(trials_to_rule_out(&[of((0, 20), (0, 20))], 0.05, POWER), Some(59));
        assert_eq!(trials_to_rule_out(&[of((0, 50), (3, 50))], 0.05, POWER), None);
        // (1.6449 + 0.8416)² · 2 · 0.05 · 0.95 / 0.05² = 234.9.
        assert_eq!(trials_to_rule_out(&[of((1, 20), (1, 20))], 0.05, POWER), Some(235));
    }

    /// Whoever has seen 63 trials of each run and is undecided must not be told that 59 would do.
    #[test]
    fn a_margin_over_many_cuts_takes_more_trials() {
        let stratum = |n| Stratum { a: Arm { beyond: 0, n }, b: Arm { beyond: 0, n } };
        let seen: Vec<Stratum> = [3; 19].into_iter().chain([2, 2, 1, 1]).map(stratum).collect();
        assert!(difference(&seen).unwrap().upper95 >= 0.05);
        let trials = trials_to_rule_out(&seen, 0.05, POWER).unwrap();
        assert!((64..=84).contains(&trials), "{trials}");
    }

    #[test]
    fn rates_that_do_not_differ_need_no_number() {
        assert_eq!(trials_per_arm(0.05, 0.05, POWER), None);
        assert_eq!(trials_per_arm(0.1, 0.05, POWER), None);
        assert_eq!(trials_per_arm(0.05, 0.050_001, POWER), None);
        assert!(trials_per_arm(0.05, 0.06, POWER).unwrap() > 5000);
    }
}
