//! Two arms' failure counts in strata: the exact conditional test and the bound of the difference of rates.

use statrs::function::factorial::ln_binomial;

use super::binomial::{lower_limit, upper_limit};
use super::{ALPHA, normal_quantile};

/// The counts of an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    /// Trials beyond the deadline.
    pub beyond: u64,
    /// Decided trials.
    pub n: u64,
}

impl Arm {
    /// The share; `None` without trials.
    pub fn rate(self) -> Option<f64> {
        (self.n > 0).then(|| self.beyond as f64 / self.n as f64)
    }
}

/// The counts of both arms where the same links were cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stratum {
    /// The arm compared with.
    pub a: Arm,
    /// The arm in question.
    pub b: Arm,
}

impl Stratum {
    /// Whether both arms have trials: only then does it compare anything.
    pub fn compares(&self) -> bool {
        self.a.n > 0 && self.b.n > 0
    }
}

/// Given the margins, the number of B's failures if the arms were alike: the smallest possible number, and the
/// probability of it and each larger one.
pub fn null_distribution(strata: &[Stratum]) -> (u64, Vec<f64>) {
    strata.iter().filter(|stratum| stratum.compares()).fold((0, vec![1.0]), |(least, sum), stratum| {
        let (first, own) = hypergeometric(stratum);
        let mut folded = vec![0.0; sum.len() + own.len() - 1];
        for (i, p) in sum.iter().enumerate() {
            for (j, q) in own.iter().enumerate() {
                folded[i + j] += p * q;
            }
        }
        (least + first, folded)
    })
}

fn hypergeometric(stratum: &Stratum) -> (u64, Vec<f64>) {
    let (a, b) = (stratum.a, stratum.b);
    let failures = a.beyond + b.beyond;
    let first = failures.saturating_sub(a.n);
    let all = ln_binomial(a.n + b.n, failures);
    let own = (first..=failures.min(b.n))
        .map(|k| (ln_binomial(b.n, k) + ln_binomial(a.n, failures - k) - all).exp())
        .collect();
    (first, own)
}

/// The one-sided probability of at least as many failures in B, if both arms were alike: Fisher's exact test with
/// one stratum, the exact conditional (Mantel–Haenszel) test with several. `None` if no stratum has both arms.
pub fn exact_p(strata: &[Stratum]) -> Option<f64> {
    strata.iter().any(Stratum::compares).then(|| {
        let seen: u64 = strata.iter().filter(|s| s.compares()).map(|s| s.b.beyond).sum();
        let (least, probabilities) = null_distribution(strata);
        probabilities[(seen - least) as usize..].iter().sum::<f64>().min(1.0)
    })
}

/// The difference of the failure rates, B minus A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The mean over strata, weighted as Mantel and Haenszel do.
    pub estimate: f64,
    /// The one-sided 95 % upper bound.
    pub upper95: f64,
}

/// The difference and its upper bound; `None` if no stratum has both arms.
///
/// The bound is the larger of two: Miettinen and Nurminen's stratified score bound (1985), which respects the
/// strata but is too low where hardly anything fails, and the pooled bound from exact limits of both rates
/// (Newcombe's square-and-add with Clopper–Pearson limits), which is not.
pub fn difference(strata: &[Stratum]) -> Option<Difference> {
    let strata: Vec<Stratum> = strata.iter().copied().filter(Stratum::compares).collect();
    let score = ScoreBound::new(&strata)?;
    let upper95 = score.upper(ALPHA).max(exact_pooled_bound(&strata)?);
    Some(Difference { estimate: score.estimate, upper95: upper95.min(1.0) })
}

fn exact_pooled_bound(strata: &[Stratum]) -> Option<f64> {
    let sum = |arm: fn(&Stratum) -> Arm| {
        strata.iter().map(arm).fold(Arm::default(), |x, y| Arm { beyond: x.beyond + y.beyond, n: x.n + y.n })
    };
    let (a, b) = (sum(|s| s.a), sum(|s| s.b));
    let (rate_a, rate_b) = (a.rate()?, b.rate()?);
    let above_b = upper_limit(b.beyond, b.n, 1.0 - ALPHA)? - rate_b;
    let below_a = rate_a - lower_limit(a.beyond, a.n, 1.0 - ALPHA)?;
    Some(rate_b - rate_a + above_b.hypot(below_a))
}

struct ScoreBound<'a> {
    strata: &'a [Stratum],
    weights: Vec<f64>,
    estimate: f64,
}

impl<'a> ScoreBound<'a> {
    fn new(strata: &'a [Stratum]) -> Option<Self> {
        let weight = |s: &Stratum| s.a.n as f64 * s.b.n as f64 / (s.a.n + s.b.n) as f64;
        let total: f64 = strata.iter().map(weight).sum();
        let weights: Vec<f64> = strata.iter().map(|s| weight(s) / total).collect();
        let estimate = strata
            .iter()
            .zip(&weights)
            .map(|(s, w)| Some(w * (s.b.rate()? - s.a.rate()?)))
            .sum::<Option<f64>>()?;
        (!strata.is_empty()).then_some(Self { strata, weights, estimate })
    }

    /// How many standard errors the estimate lies above a true difference of `delta`.
    fn z(&self, delta: f64) -> f64 {
        let variance: f64 =
            self.strata.iter().zip(&self.weights).map(|(s, w)| w * w * variance(s, delta)).sum();
        (self.estimate - delta) / variance.sqrt().max(f64::MIN_POSITIVE)
    }

    fn upper(&self, alpha: f64) -> f64 {
        let z = -normal_quantile(1.0 - alpha);
        let (mut low, mut high) = (self.estimate, 1.0);
        while high - low > 1e-10 {
            let middle = f64::midpoint(low, high);
            if self.z(middle) > z {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// The variance of the difference of two rates whose true difference is `delta`, at the most likely rates given
/// that (Miettinen & Nurminen 1985, Statistics in Medicine 4:213; Farrington & Manning's closed form).
fn variance(stratum: &Stratum, delta: f64) -> f64 {
    let (n1, x1) = (stratum.b.n as f64, stratum.b.beyond as f64);
    let (n2, x2) = (stratum.a.n as f64, stratum.a.beyond as f64);
    let (n, x) = (n1 + n2, x1 + x2);
    let l2 = (n1 + 2.0 * n2) * delta - n - x;
    let l1 = (n2 * delta - n - 2.0 * x2) * delta + x;
    let l0 = x2 * delta * (1.0 - delta);
    let half = (l2 / (3.0 * n)).powi(3) - l1 * l2 / (6.0 * n * n) + l0 / (2.0 * n);
    let root = ((l2 / (3.0 * n)).powi(2) - l1 / (3.0 * n)).max(0.0).sqrt().copysign(half);
    let cosine = if root == 0.0 { 0.0 } else { (half / root.powi(3)).clamp(-1.0, 1.0) };
    let angle = (std::f64::consts::PI + cosine.acos()) / 3.0;
    let p2 = (2.0 * root * angle.cos() - l2 / (3.0 * n)).clamp((-delta).max(0.0), (1.0 - delta).min(1.0));
    let p1 = (p2 + delta).clamp(0.0, 1.0);
    (p1 * (1.0 - p1) / n1 + p2 * (1.0 - p2) / n2) * n / (n - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stratum(b: (u64, u64), a: (u64, u64)) -> Stratum {
        Stratum { a: Arm { beyond: a.0, n: a.1 }, b: Arm { beyond: b.0, n: b.1 } }
    }

    #[test]
    fn fishers_tea() {
        // Fisher 1935: three of four cups right, one-sided p = 17/70.
        let p = exact_p(&[stratum((3, 4), (1, 4))]).unwrap();
        assert!((p - 17.0 / 70.0).abs() < 1e-12);
        // Agresti, Categorical Data Analysis: all four right, p = 1/70.
        assert!((exact_p(&[stratum((4, 4), (0, 4))]).unwrap() - 1.0 / 70.0).abs() < 1e-12);
    }

    /// Mantel's penicillin rabbits, as in R: `mantelhaen.test(Rabbits, exact = TRUE)` says S = 16, two-sided
    /// p = 0.03994.
    #[test]
    fn penicillin_rabbits() {
        let strata = [
            stratum((0, 6), (0, 5)),
            stratum((3, 6), (0, 6)),
            stratum((6, 6), (2, 6)),
            stratum((5, 6), (6, 6)),
            stratum((2, 2), (5, 5)),
        ];
        let (least, probabilities) = null_distribution(&strata);
        let seen = probabilities[16 - least as usize];
        let two_sided: f64 = probabilities.iter().filter(|&&p| p <= seen * (1.0 + 1e-7)).sum();
        assert!((two_sided - 0.03994).abs() < 5e-6, "{two_sided}");
        let one_sided: f64 = probabilities[16 - least as usize..].iter().sum();
        assert!((exact_p(&strata).unwrap() - one_sided).abs() < 1e-12);
    }

    /// An independent way: give out the labels in every possible way and count.
    #[test]
    fn agrees_with_enumeration() {
        let strata = [stratum((2, 3), (1, 4)), stratum((1, 2), (0, 3))];
        let ways = |s: &Stratum| -> Vec<u32> {
            let (n, failures) = (s.a.n + s.b.n, s.a.beyond + s.b.beyond);
            (0_u32..1 << n)
                .filter(|labels| u64::from(labels.count_ones()) == s.b.n)
                .map(|labels| (labels & ((1 << failures) - 1)).count_ones())
                .collect()
        };
        let (first, second) = (ways(&strata[0]), ways(&strata[1]));
        let reached =
            first.iter().flat_map(|x| second.iter().map(move |y| x + y)).filter(|&sum| sum >= 3).count();
        let p = reached as f64 / (first.len() * second.len()) as f64;
        assert!((exact_p(&strata).unwrap() - p).abs() < 1e-12);
    }

    #[test]
    fn score_bounds_as_published() {
        // Newcombe 1998, Statistics in Medicine 17:873, table II, method 6 (Miettinen–Nurminen), two-sided 95 %.
        for (b, a, upper) in
            [((56, 70), (48, 80), 0.3382), ((9, 10), (3, 10), 0.8406), ((5, 56), (0, 29), 0.1933)]
        {
            let strata = [stratum(b, a)];
            let found = ScoreBound::new(&strata).unwrap().upper(0.025);
            assert!((found - upper).abs() < 6e-5, "{b:?} {a:?}: {found}");
        }
    }

    #[test]
    fn nothing_failing_gives_the_exact_bound() {
        let bound = |n| difference(&[stratum((0, n), (0, n))]).unwrap().upper95;
        assert!(bound(59) < 0.05 && bound(58) > 0.05, "{} {}", bound(59), bound(58));
    }

    #[test]
    fn arms_without_a_partner_compare_nothing() {
        let lonely = [stratum((3, 5), (0, 0))];
        assert_eq!((exact_p(&lonely), difference(&lonely)), (None, None));
        assert_eq!((exact_p(&[]), difference(&[])), (None, None));
        let with_partner = [stratum((3, 5), (0, 0)), stratum((3, 4), (1, 4))];
        assert!((exact_p(&with_partner).unwrap() - 17.0 / 70.0).abs() < 1e-12);
    }
}
