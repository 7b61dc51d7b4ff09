//! Whether trials appear independent: effects of one trial on the next, and drift over the campaign.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::mix::{Factor, Mix, RATIO};
use super::normal_tail;
use crate::figures::probability_words;

/// Under this many trials nothing is said about dependence.
pub const NEEDS: usize = 10;

/// Below this p, the assumption is said to be violated.
const VIOLATED: f64 = 0.01;

/// Below this p, the report does not say that nothing speaks against the assumption.
const DOUBTFUL: f64 = 0.05;

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
    within(times, &[(0..times.len()).collect()], &Mix::default())
}

/// Judges times in the order of their trials, by their ranks within `strata` (positions in `times`), so that
/// differences between strata are not taken for dependence or for a trend. `mix` has the tests of these strata.
pub fn within(times: &[u64], strata: &[Vec<usize>], mix: &Mix) -> Dependence {
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
    let neighbours = match lag1 {
        Some(..0.0) => "slow and fast trials alternate",
        _ => "neighbouring trials resemble each other",
    };
    let signs = [(lag1_p, neighbours), (trend_p, "times drift over the campaign")];
    let seen: Vec<&str> =
        signs.into_iter().filter(|(p, _)| p.is_some_and(|p| p < VIOLATED)).map(|(_, text)| text).collect();
    let is_mixed = mix.clear.is_some();
    let doubts = doubts(&signs, mix);
    let mixed = "the trials are not alike: what was cut makes a difference";
    let sentence = if is_mixed && seen.is_empty() {
        format!("{ASSUMPTION} Here {mixed}; read the strata each by itself.")
    } else if is_mixed {
        format!(
            "{ASSUMPTION} Here {mixed}, and within strata {}: take them as too narrow, or cool down longer.",
            seen.join(" and ")
        )
    } else if !seen.is_empty() {
        format!("{ASSUMPTION} Here {}: take them as too narrow, or cool down longer.", seen.join(" and "))
    } else if !doubts.is_empty() {
        format!("{ASSUMPTION} Signs against it: {}.", doubts.join("; "))
    } else if lag1.is_none() && trend.is_none() {
        format!("{ASSUMPTION} There is too little here to check that.")
    } else {
        format!("{ASSUMPTION} Nothing here speaks against it.")
    };
    Dependence { n, lag1, lag1_p, trend, trend_p, sentence }
}

/// What speaks against the assumption, but not clearly enough to call it violated, each sign with its p.
fn doubts(signs: &[(Option<f64>, &str)], mix: &Mix) -> Vec<String> {
    let is_doubtful = |p: &f64| *p < DOUBTFUL;
    let chance = |p: f64, text: &str| {
        format!("{text} (p {}), which may be chance: more trials would tell", probability_words(p))
    };
    let mut doubts: Vec<String> =
        signs.iter().filter_map(|(p, text)| Some(chance(p.filter(is_doubtful)?, text))).collect();
    let strongest = mix.tests.iter().min_by(|a, b| a.p_holm.total_cmp(&b.p_holm));
    if let Some(test) = strongest.filter(|test| is_doubtful(&test.p_holm)) {
        let what = match test.factor {
            Factor::Cut => "what was cut",
            Factor::Cell => "the cell of the campaign",
            Factor::Isolated => "which peer was isolated",
        };
        let p = format!("(log-rank test: p {}, adjusted)", probability_words(test.p_holm));
        doubts.push(match test.p50_ns {
            _ if test.p_holm >= VIOLATED => {
                format!("{what} seems to make a difference {p}, which may be chance: more trials would tell")
            }
            [_, None] => {
                format!("{what} makes a difference {p}, but too few trials settled to say how large")
            }
            _ => format!("{what} makes a difference {p}, but the medians differ by less than {RATIO} times"),
        });
    }
    doubts
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

    use super::super::mix::{Measured, StrataTest};
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
    fn signs_below_the_threshold_are_named_with_their_p() {
        // Slow and fast alternate almost strictly.
        let alternating = [24, 21, 28, 10, 26, 11, 27, 12, 25, 13, 14];
        let found = dependence(&alternating);
        assert!(found.lag1.unwrap() < 0.0, "{found:?}");
        let p = found.lag1_p.unwrap();
        assert!((VIOLATED..DOUBTFUL).contains(&p), "{p}");
        assert!(
            found
                .sentence
                .contains(&format!("Signs against it: slow and fast trials alternate (p = {p:.4})")),
            "{}",
            found.sentence
        );
        // The same times where their own order says nothing: the mix does.
        let calm = [25, 28, 13, 12, 24, 21, 11, 10, 27, 14, 26];
        assert!(dependence(&calm).sentence.ends_with("Nothing here speaks against it."));
        let with = |p_holm| {
            let test = StrataTest {
                factor: Factor::Isolated,
                of: Measured::Settled,
                trials: 11,
                strata: 2,
                chi_squared: 7.0,
                p: p_holm / 2.0,
                p_holm,
                p50_ns: [Some(28), Some(24)],
            };
            let mix = Mix { tests: vec![test], clear: None };
            within(&calm, &[(0..calm.len()).collect()], &mix).sentence
        };
        let sentence = with(0.014);
        assert!(
            sentence
                .contains("which peer was isolated seems to make a difference (log-rank test: p = 0.0140")
        );
        assert!(sentence.contains("may be chance"), "{sentence}");
        let sentence = with(0.0004);
        assert!(
            sentence.contains("p = 0.0004, adjusted), but the medians differ by less than 1.5 times"),
            "{sentence}"
        );
        assert!(!sentence.contains("chance"), "{sentence}");
        assert!(with(0.06).ends_with("Nothing here speaks against it."));
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
