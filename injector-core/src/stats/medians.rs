//! How far apart the medians of two arms are, and whether their times can be told apart.

use serde::{Deserialize, Serialize};

use super::ALPHA;
use super::survival::Quantile;
use crate::figures::{Bound, MISSING, probability_words, time};

/// A descriptive test of times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeTest {
    /// `cluster`, or an endpoint (all of its instances).
    pub name: String,
    /// `settled` or `ready`; of outages `outage`, `all out`, `some out after the heal`.
    pub instant: String,
    /// A's median.
    pub a_p50_ns: Option<u64>,
    /// B's median.
    pub b_p50_ns: Option<u64>,
    /// B's median minus A's; `None` where one was not reached.
    #[serde(default)]
    pub p50_difference_ns: Option<i64>,
    /// Its 95 % interval, made of those of the medians; an end that was not reached is `None`.
    #[serde(default)]
    pub p50_difference_ci95_ns: [Option<i64>; 2],
    /// A's share beyond the deadline.
    pub a_rate: Option<f64>,
    /// B's.
    pub b_rate: Option<f64>,
    /// The log-rank test's two-sided probability, stratified by resolved shape.
    pub p: Option<f64>,
    /// `p` after Holm's correction, over all tests of this list.
    pub p_holm: Option<f64>,
}

/// B's median minus A's, in nanoseconds, and its 95 % interval; `None` where a median, or an end of its interval, was
/// not reached.
///
/// The interval is made of those of the two medians (MOVER: Zou and Donner, Statistics in Medicine 2008, 27:1693): they
/// may be skewed, and the arms are independent.
pub fn difference(a: Quantile, b: Quantile) -> (Option<i64>, [Option<i64>; 2]) {
    let (Some(median_a), Some(median_b)) = (a.estimate, b.estimate) else { return (None, [None; 2]) };
    let estimate = median_b as f64 - median_a as f64;
    // How far an end of an interval is from its median.
    let reach = |median: u64, end: Option<u64>| end.map(|end| median.abs_diff(end) as f64);
    let [below_a, above_a] = a.ci95.map(|end| reach(median_a, end));
    let [below_b, above_b] = b.ci95.map(|end| reach(median_b, end));
    let low = below_b.zip(above_a).map(|(b, a)| estimate - b.hypot(a));
    let high = above_b.zip(below_a).map(|(b, a)| estimate + b.hypot(a));
    (Some(estimate as i64), [low, high].map(|end| end.map(|end| end as i64)))
}

/// A sentence about a test of times; `None` where a median was not reached, or nothing distinguishes the arms.
pub fn sentence(test: &TimeTest) -> Option<String> {
    let (a, b) = (test.a_p50_ns?, test.b_p50_ns?);
    let p = test.p_holm?;
    let difference = test.p50_difference_ns?;
    let medians = format!("A's median is {}, B's {}", time(a), time(b));
    let ci95 = test.p50_difference_ci95_ns;
    let by = time(difference.unsigned_abs());
    let how = match ci95 {
        _ if difference == 0 => "they do not differ".to_owned(),
        // Only an interval on one side of 0 says who is slower.
        [Some(1..), Some(_)] => format!("B is slower by {by}"),
        [Some(_), Some(..=-1)] => format!("B is faster by {by}"),
        [Some(_), Some(_)] => format!("they differ by {}, which may be chance", signed(difference)),
        _ => format!("they differ by {}", signed(difference)),
    };
    let interval = match ci95 {
        [Some(_), Some(_)] => format!(" (95 % interval: {})", interval(ci95)),
        _ => " (too few trials for an interval)".to_owned(),
    };
    let apart = if p <= ALPHA { "differ" } else { "can't be told apart" };
    Some(format!(
        "From heal to {}: {medians}: {how}{interval}. By a log-rank test the times {apart} (p {}, adjusted); this decides \
         nothing.",
        test.instant,
        probability_words(p)
    ))
}

/// A time with its sign.
pub fn signed(ns: i64) -> String {
    with_sign(ns, &time(ns.unsigned_abs()))
}

/// `size` with the sign of `ns`; what is rounded to 0 has none.
fn with_sign(ns: i64, size: &str) -> String {
    let sign = match ns {
        _ if size == "0" => "",
        0.. => "+",
        _ => "−",
    };
    format!("{sign}{size}")
}

/// A bound of a difference, rounded so that it is one too: below 0, the lower bound is the larger size.
fn bound(bound: Bound, ns: Option<i64>) -> String {
    let Some(ns) = ns else { return MISSING.to_owned() };
    let of_size = match (bound, ns < 0) {
        (Bound::Lower, false) | (Bound::Upper, true) => Bound::Lower,
        (Bound::Lower, true) | (Bound::Upper, false) => Bound::Upper,
    };
    with_sign(ns, &of_size.time(ns.unsigned_abs()))
}

/// A difference, or a dash.
pub fn maybe_signed(ns: Option<i64>) -> String {
    ns.map_or_else(|| MISSING.to_owned(), signed)
}

/// The interval of a difference; an end that was not reached is a dash.
pub fn interval([low, high]: [Option<i64>; 2]) -> String {
    match (low, high) {
        (None, None) => MISSING.to_owned(),
        _ => format!("{} to {}", bound(Bound::Lower, low), bound(Bound::Upper, high)),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::survival::{Curve, Observation};
    use super::*;

    #[test]
    fn what_is_not_reached_has_no_difference() {
        let known = Quantile { estimate: Some(20), ci95: [Some(17), Some(24)] };
        let open = Quantile { estimate: Some(30), ci95: [Some(26), None] };
        // By hand: 10 − √(4² + 4²), and B's upper end is not reached.
        assert_eq!(difference(known, open), (Some(10), [Some(4), None]));
        assert_eq!(difference(open, known), (Some(-10), [None, Some(-4)]));
        assert_eq!(difference(known, Quantile::default()), (None, [None; 2]));
        assert_eq!([signed(-2_000_000), signed(0), signed(1_500_000_000)], ["−2 ms", "0", "+1.50 s"]);
        assert_eq!(interval([Some(-13_400_000), Some(13_400_000)]), "−14 ms to +14 ms");
        assert_eq!(interval([Some(13_400_000), Some(999_000_001)]), "+13 ms to +1.00 s");
        assert_eq!(interval([Some(-13_400_000), Some(-400)]), "−14 ms to 0");
    }

    /// Exponential recoveries with another mean in each arm: the interval must miss about as often as it says.
    #[test]
    fn the_interval_covers_the_true_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(20_250_302);
        let (campaigns, means) = (2000, [1e6_f64, 1.6e6]);
        let truth = ((means[1] - means[0]) * 2.0_f64.ln()) as i64;
        let missed = (0..campaigns)
            .filter(|_| {
                let [a, b] = means.map(|mean| {
                    let times = (0..60).map(|_| (-mean * (1.0 - rng.random::<f64>()).ln()) as u64);
                    Curve::estimate(times.map(Observation::event).collect()).quantile(0.5)
                });
                let (_, [low, high]) = difference(a, b);
                low.is_none_or(|low| truth < low) || high.is_none_or(|high| high < truth)
            })
            .count();
        let share = missed as f64 / f64::from(campaigns);
        // The ends of the medians' intervals are trials, so that these cover a little more than they say.
        assert!((0.01..=0.055).contains(&share), "missed in {share}");
    }
}
