//! Whether trials appear independent: effects of one trial on the next, and drift over the campaign.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::normal_tail;

/// Under this many trials nothing is said about dependence.
pub const NEEDS: usize = 10;

/// Said wherever intervals are shown.
pub const ASSUMPTION: &str = "All intervals assume that trials are independent and alike.";

/// How times follow each other, by ranks (a time that was not reached ranks last).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dependence {
    /// Trials used.
    pub n: usize,
    /// The correlation of each trial's rank with the next one's; `null` under 10 trials or if all are alike.
    pub lag1: Option<f64>,
    /// The two-sided probability of a `lag1` this large in independent trials.
    pub lag1_p: Option<f64>,
    /// Spearman's correlation of the ranks with the order of the trials.
    pub trend: Option<f64>,
    /// The two-sided probability of a `trend` this large without one.
    pub trend_p: Option<f64>,
    /// The assumption of all intervals, and whether these trials appear to keep it.
    pub sentence: String,
}

/// Judges times in the order of their trials, all of one stratum.
pub fn dependence(times: &[u64]) -> Dependence {
    within(times, &[(0..times.len()).collect()], false)
}

/// Judges times in the order of their trials, by their ranks within `strata` (positions in `times`), so that
/// differences between strata are not taken for dependence or for a trend. `is_mixed`: the strata differ.
pub fn within(times: &[u64], strata: &[Vec<usize>], is_mixed: bool) -> Dependence {
    let n = times.len();
    let mut ranks = vec![0.0; n];
    for stratum in strata {
        let own: Vec<u64> = stratum.iter().map(|&at| times[at]).collect();
        // Each stratum's ranks lie evenly around 0.
        let size = own.len() as f64;
        for (&at, rank) in stratum.iter().zip(mid_ranks(&own)) {
            ranks[at] = (rank - f64::midpoint(size, 1.0)) / size;
        }
    }
    let order: Vec<f64> = (0..n).map(|at| at as f64).collect();
    let enough = n >= NEEDS;
    let lag1 = enough.then(|| autocorrelation(&ranks)).flatten();
    // Under independence the mean is −1/n and the variance close to 1/n.
    let lag1_p = lag1.map(|r| {
        let n = n as f64;
        (2.0 * normal_tail((r + 1.0 / n).abs() * n.sqrt())).min(1.0)
    });
    let trend = enough.then(|| correlation(&order, &ranks)).flatten();
    let trend_p = trend.map(|rho| {
        let freedom = n as f64 - 2.0;
        let t = rho.abs() * (freedom / (1.0 - rho * rho).max(f64::MIN_POSITIVE)).sqrt();
        StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |t_distribution| 2.0 * t_distribution.sf(t))
    });
    let signs =
        [(lag1_p, "neighbouring trials resemble each other"), (trend_p, "times drift over the campaign")];
    let seen: Vec<&str> =
        signs.into_iter().filter(|(p, _)| p.is_some_and(|p| p < 0.01)).map(|(_, text)| text).collect();
    let mixed = "the trials are not alike: what was cut makes a difference";
    let sentence = if is_mixed && seen.is_empty() {
        format!("{ASSUMPTION} Here {mixed}; read the strata each by itself.")
    } else if is_mixed {
        format!(
            "{ASSUMPTION} Here {mixed}, and within strata {}: take them as too narrow, or cool down longer.",
            seen.join(" and ")
        )
    } else if lag1.is_none() && trend.is_none() {
        format!("{ASSUMPTION} There is too little here to check that.")
    } else if seen.is_empty() {
        format!("{ASSUMPTION} Nothing here speaks against it.")
    } else {
        format!("{ASSUMPTION} Here {}: take them as too narrow, or cool down longer.", seen.join(" and "))
    };
    Dependence { n, lag1, lag1_p, trend, trend_p, sentence }
}

/// Ranks from 1, ties sharing their middle.
fn mid_ranks(values: &[u64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&at| values[at]);
    let mut ranks = vec![0.0; values.len()];
    let mut next = 1;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = f64::midpoint(next as f64, (next + ties.len() - 1) as f64);
        for &at in ties {
            ranks[at] = rank;
        }
        next += ties.len();
    }
    ranks
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn autocorrelation(values: &[f64]) -> Option<f64> {
    let values = centred(values);
    let spread = dot(&values, &values);
    (spread > 0.0).then(|| dot(&values, &values[1..]) / spread)
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (centred(a), centred(b));
    let spread = (dot(&a, &a) * dot(&b, &b)).sqrt();
    (spread > 0.0).then(|| dot(&a, &b) / spread)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn spearman_as_published() {
        // Wikipedia, "Spearman's rank correlation coefficient": IQ against hours of TV, rho = −29/165, here in
        // the order of IQ. Two-sided p = 0.6272 by the t approximation.
        let by_iq = [2, 20, 28, 27, 50, 29, 7, 17, 6, 12];
        let found = dependence(&by_iq);
        assert!((found.trend.unwrap() + 29.0 / 165.0).abs() < 1e-12, "{found:?}");
        assert!((found.trend_p.unwrap() - 0.6272).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn lag1_by_hand() {
        // Ranks 1..10: Σ d_i d_{i+1} = 57.75, Σ d² = 82.5.
        let rising: Vec<u64> = (0..10).collect();
        let found = dependence(&rising);
        assert!((found.lag1.unwrap() - 57.75 / 82.5).abs() < 1e-12);
        assert!((found.trend.unwrap() - 1.0).abs() < 1e-12);
        assert!(found.sentence.contains("drift"), "{}", found.sentence);
    }

    #[test]
    fn too_little_or_all_alike_says_nothing() {
        for times in [&[][..], &[1, 2, 3][..], &[5; 50][..]] {
            let found = dependence(times);
            assert_eq!((found.lag1, found.lag1_p, found.trend, found.trend_p), (None, None, None, None));
            assert!(found.sentence.contains("too little"));
        }
    }

    #[test]
    fn false_alarms_are_as_rare_as_said_and_real_dependence_is_seen() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut lag, mut trend, mut seen) = (0, 0, 0);
        for _ in 0..2000 {
            let times: Vec<u64> = (0..50).map(|_| rng.random_range(0..1_000_000)).collect();
            let found = dependence(&times);
            lag += u32::from(found.lag1_p.unwrap() < 0.05);
            trend += u32::from(found.trend_p.unwrap() < 0.05);
            let dragged: Vec<u64> = times.windows(2).map(|pair| pair[0] + pair[1]).collect();
            seen += u32::from(dependence(&dragged).lag1_p.unwrap() < 0.05);
        }
        assert!((60..=140).contains(&lag), "{lag} of 2000 at 5 %");
        assert!((60..=140).contains(&trend), "{trend} of 2000 at 5 %");
        assert!(seen > 1600, "{seen} of 2000 dependent series seen");
    }
}
