//! The exact (Clopper–Pearson) interval for a share.

use statrs::distribution::{Beta, ContinuousCDF};

/// The lower limit that a share of `hits` in `n` exceeds with `confidence`, one-sided; `None` if `n` is 0 or
/// `hits` is more than `n`.
pub fn lower_limit(hits: u64, n: u64, confidence: f64) -> Option<f64> {
    if n == 0 || hits > n {
        return None;
    }
    if hits == 0 {
        return Some(0.0);
    }
    beta_quantile(hits as f64, (n - hits + 1) as f64, 1.0 - confidence)
}

/// The upper limit that a share of `hits` in `n` stays under with `confidence`, one-sided; `None` as in
/// [`lower_limit`].
pub fn upper_limit(hits: u64, n: u64, confidence: f64) -> Option<f64> {
    if n == 0 || hits > n {
        return None;
    }
    if hits == n {
        return Some(1.0);
    }
    beta_quantile((hits + 1) as f64, (n - hits) as f64, confidence)
}

/// The two-sided interval: `confidence` 0.95 leaves at most 2.5 % on either side.
pub fn clopper_pearson(hits: u64, n: u64, confidence: f64) -> Option<[f64; 2]> {
    let one_sided = f64::midpoint(confidence, 1.0);
    Some([lower_limit(hits, n, one_sided)?, upper_limit(hits, n, one_sided)?])
}

/// The quantile of a beta distribution, by bisection of its distribution function: the series that `statrs`
/// inverts stops at a few digits where one parameter is large, and these limits decide exit codes.
fn beta_quantile(a: f64, b: f64, probability: f64) -> Option<f64> {
    let beta = Beta::new(a, b).ok()?;
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while high - low > 1e-14 {
        let middle = f64::midpoint(low, high);
        if beta.cdf(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(f64::midpoint(low, high))
}

#[cfg(test)]
mod tests {
    use statrs::function::factorial::ln_binomial;

    use super::*;

    fn probability(hits: u64, n: u64, share: f64) -> f64 {
        (ln_binomial(n, hits) + hits as f64 * share.ln() + (n - hits) as f64 * (1.0 - share).ln()).exp()
    }

    #[test]
    fn published_intervals() {
        // R 4, binom.test(x, n)$conf.int.
        for (hits, n, low, high) in [
            (0, 10, 0.0, 0.308_497_1),
            (1, 10, 0.002_528_579, 0.445_016_1),
            (10, 20, 0.271_957_8, 0.728_042_2),
            (5, 100, 0.016_431_88, 0.112_834_9),
            (10, 100, 0.049_004_69, 0.176_222_6),
        ] {
            let [l, h] = clopper_pearson(hits, n, 0.95).unwrap();
            assert!((l - low).abs() < 1e-6 && (h - high).abs() < 1e-6, "{hits}/{n}: {l} {h}");
        }
        // Newcombe 1998, Statistics in Medicine 17:857, table I, method 5: 81/263, 15/148, 0/20, 1/29.
        for (hits, n, low, high) in [
            (81, 263, 0.2527, 0.3676),
            (15, 148, 0.0578, 0.1617),
            (0, 20, 0.0, 0.1684),
            (1, 29, 0.0009, 0.1776),
        ] {
            let [l, h] = clopper_pearson(hits, n, 0.95).unwrap();
            assert!((l - low).abs() < 6e-5 && (h - high).abs() < 6e-5, "{hits}/{n}: {l} {h}");
        }
    }

    #[test]
    fn no_failure_in_59_trials_excludes_five_percent() {
        let limit = upper_limit(0, 59, 0.95).unwrap();
        assert!((limit - (1.0 - 0.05_f64.powf(1.0 / 59.0))).abs() < 1e-10);
        assert!((limit - 0.0495).abs() < 5e-5);
        assert!(upper_limit(0, 58, 0.95).unwrap() > 0.05);
    }

    #[test]
    fn the_limits_solve_their_defining_tail_sums() {
        for n in [1, 7, 59, 140, 1000] {
            for hits in [0, 1, n / 20, n / 2, n - 1, n] {
                let [low, high] = clopper_pearson(hits, n, 0.95).unwrap();
                if hits > 0 {
                    let tail: f64 = (hits..=n).map(|k| probability(k, n, low)).sum();
                    assert!((tail - 0.025).abs() < 1e-7, "{hits}/{n}: lower tail {tail}");
                }
                if hits < n {
                    let tail: f64 = (0..=hits).map(|k| probability(k, n, high)).sum();
                    assert!((tail - 0.025).abs() < 1e-7, "{hits}/{n}: upper tail {tail}");
                }
            }
        }
    }

    #[test]
    fn coverage_by_exact_summation_is_never_below_the_confidence() {
        for n in [20, 59, 140] {
            let intervals: Vec<_> = (0..=n).map(|hits| clopper_pearson(hits, n, 0.95).unwrap()).collect();
            for step in 1..200 {
                let share = f64::from(step) / 200.0;
                let coverage: f64 = (0..=n)
                    .filter(|&hits| {
                        (intervals[hits as usize][0]..=intervals[hits as usize][1]).contains(&share)
                    })
                    .map(|hits| probability(hits, n, share))
                    .sum();
                assert!(coverage >= 0.95, "n {n}, share {share}: {coverage}");
                // An interval that always answers [0, 1] would pass the line above.
                assert!(coverage < 0.9999 || n as f64 * share.min(1.0 - share) < 5.0, "n {n}, share {share}");
            }
        }
    }

    #[test]
    fn no_trials_give_no_interval() {
        assert_eq!(clopper_pearson(0, 0, 0.95), None);
        assert_eq!(clopper_pearson(3, 2, 0.95), None);
    }
}
