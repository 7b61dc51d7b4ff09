//! The stratified log-rank test of two arms, and Holm's adjustment of several tests.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::survival::{End, Observation};

/// The result of a log-rank test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRank {
    /// Events in the second arm minus those expected if both were alike: above 0, the second arm is faster.
    pub excess: f64,
    /// Chi-squared with one degree of freedom.
    pub chi_squared: f64,
    /// Two-sided.
    pub p: f64,
}

/// Tests whether two arms' times come from one distribution, within strata of (first arm, second arm); `None`
/// where no stratum distinguishes the arms.
pub fn log_rank(strata: Vec<[Vec<Observation>; 2]>) -> Option<LogRank> {
    let (mut excess, mut variance) = (0.0, 0.0);
    for arms in strata {
        let mut pooled: Vec<(Observation, usize)> = arms
            .into_iter()
            .enumerate()
            .flat_map(|(arm, times)| times.into_iter().map(move |t| (t, arm)))
            .collect();
        pooled.sort_unstable();
        let mut at_risk = [0_usize; 2];
        for (_, arm) in &pooled {
            at_risk[*arm] += 1;
        }
        for ties in pooled.chunk_by(|a, b| a.0.time_ns == b.0.time_ns) {
            let events =
                |of: usize| ties.iter().filter(|(o, arm)| o.end == End::Event && *arm == of).count() as f64;
            let (all, risk, risk_b) =
                (events(0) + events(1), (at_risk[0] + at_risk[1]) as f64, at_risk[1] as f64);
            excess += events(1) - all * risk_b / risk;
            if risk > 1.0 {
                variance += all * (risk_b / risk) * (1.0 - risk_b / risk) * (risk - all) / (risk - 1.0);
            }
            for (_, arm) in ties {
                at_risk[*arm] -= 1;
            }
        }
    }
    if variance <= 0.0 {
        return None;
    }
    let chi_squared = excess * excess / variance;
    Some(LogRank { excess, chi_squared, p: ChiSquared::new(1.0).ok()?.sf(chi_squared) })
}

/// Holm's step-down adjustment; tests that could not be made (`None`) do not count.
pub fn holm(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> = p.iter().enumerate().filter_map(|(at, p)| Some((at, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let tests = order.len();
    let mut adjusted = vec![None; p.len()];
    let mut running = 0.0_f64;
    for (rank, (at, p)) in order.into_iter().enumerate() {
        running = running.max((p * (tests - rank) as f64).min(1.0));
        adjusted[at] = Some(running);
    }
    adjusted
}

#[cfg(test)]
pub(crate) mod samples {
    //! Freireich et al. 1963, Blood 21:699: weeks in remission of two arms of 21 children.
    use super::Observation;

    pub fn six_mp() -> Vec<Observation> {
        let events = [6, 6, 6, 7, 10, 13, 16, 22, 23].map(Observation::event);
        let censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35].map(Observation::censored);
        [&events[..], &censored[..]].concat()
    }

    pub fn placebo() -> Vec<Observation> {
        [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
            .map(Observation::event)
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{placebo, six_mp};
    use super::*;

    #[test]
    fn freireich_as_published() {
        // Kleinbaum & Klein, ch. 2: log-rank 16.79, expected events 19.25 (6-MP, 9 seen) and 10.75 (placebo, 21).
        let test = log_rank(vec![[six_mp(), placebo()]]).unwrap();
        assert!((test.chi_squared - 16.79).abs() < 0.005, "{test:?}");
        assert!((test.excess - (21.0 - 10.75)).abs() < 0.005, "{test:?}");
        assert!((test.p - 4.17e-5).abs() < 1e-6, "{test:?}");
        let swapped = log_rank(vec![[placebo(), six_mp()]]).unwrap();
        assert!((swapped.chi_squared - test.chi_squared).abs() < 1e-9 && swapped.excess < 0.0);
    }

    #[test]
    fn strata_add_up() {
        let one = log_rank(vec![[six_mp(), placebo()]]).unwrap();
        let two = log_rank(vec![[six_mp(), placebo()], [six_mp(), placebo()]]).unwrap();
        assert!((two.chi_squared - 2.0 * one.chi_squared).abs() < 1e-9);
        assert_eq!(log_rank(vec![[six_mp(), vec![]]]), None);
        assert_eq!(log_rank(vec![]), None);
    }

    #[test]
    fn holm_by_hand() {
        // 0.01·4, 0.02·3, 0.03·2, 0.04·1, made monotone: R, p.adjust(c(.01,.04,.03,.02), "holm").
        let adjusted = holm(&[Some(0.01), Some(0.04), None, Some(0.03), Some(0.02)]);
        for (got, want) in adjusted.iter().zip([Some(0.04), Some(0.06), None, Some(0.06), Some(0.06)]) {
            assert_eq!(got.is_some(), want.is_some());
            assert!(got.zip(want).is_none_or(|(g, w): (f64, f64)| (g - w).abs() < 1e-12), "{adjusted:?}");
        }
        assert_eq!(holm(&[Some(0.7), Some(0.9)]), [Some(1.0), Some(1.0)]);
    }
}
