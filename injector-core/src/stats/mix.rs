//! Whether the trials of a campaign are alike over the cuts that were drawn: log-rank tests over strata.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::logrank::holm;
use super::survival::{Curve, End, Observation};
use super::trial::{Instant, Trial};

/// Strata with fewer trials take no part.
pub const FEWEST: usize = 5;
/// From this many trials on, p is that of chi-squared: with few trials in a stratum it would give false
/// alarms.
const LARGE: usize = 500;
/// Permutations under that.
const PERMUTATIONS: u32 = 9_999;
/// The permutations' seed: the same trials give the same p.
const SEED: u64 = 7;
/// Below this adjusted p, strata are distinguished.
const ALPHA: f64 = 0.01;
/// And only if the slowest stratum's median is so many times the fastest one's.
pub(super) const RATIO: f64 = 1.5;

/// The factor that divides the trials into strata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// The cell of the campaign.
    Cell,
    /// The directed links that were cut, and the settings of the cut.
    Cut,
    /// The peers cut off from all others.
    Isolated,
}

/// The time that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// The time from heal to settled.
    Settled,
    /// The sum of the required endpoints' outages.
    Outage,
}

/// A log-rank test over strata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrataTest {
    /// The factor that makes the strata.
    pub factor: Factor,
    /// The time that was tested.
    pub of: Measured,
    /// Trials in strata of at least [`FEWEST`].
    pub trials: u64,
    /// Strata.
    pub strata: u64,
    /// Chi-squared with one degree of freedom fewer than strata.
    pub chi_squared: f64,
    /// The probability, by seeded permutation; from 500 trials on that of chi-squared.
    pub p: f64,
    /// Holm-adjusted over all tests of the list.
    pub p_holm: f64,
    /// The largest and the smallest median of a stratum; `null` is "not reached".
    pub p50_ns: [Option<u64>; 2],
}

impl StrataTest {
    /// Whether it distinguishes strata by the rule of the headline.
    fn is_clear(&self) -> bool {
        let far = match self.p50_ns {
            [_, None] => false,
            [None, Some(_)] => true,
            [Some(most), Some(0)] => most > 0,
            [Some(most), Some(least)] => most as f64 >= RATIO * least as f64,
        };
        self.p_holm < ALPHA && far
    }
}

/// The tests over all factors, and what follows for the headline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// Factors that divide the trials alike are tested once.
    pub tests: Vec<StrataTest>,
    /// The test that the headline rests on; `null` where no test distinguishes the strata.
    pub clear: Option<StrataTest>,
}

/// A name of each trial's stratum; `None` where it has none.
fn names(trials: &[&Trial], factor: Factor) -> Vec<Option<String>> {
    let name = |trial: &&Trial| match factor {
        Factor::Cell => Some(trial.cell.to_string()),
        Factor::Cut => Some(trial.stratum.clone()),
        Factor::Isolated => trial.isolated.clone(),
    };
    trials.iter().map(name).collect()
}

/// The positions of the trials in each stratum, in the order of their first trials.
pub fn strata(trials: &[&Trial], factor: Factor) -> Vec<Vec<usize>> {
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (at, name) in names(trials, factor).into_iter().enumerate() {
        let Some(name) = name else { continue };
        let place = *places.entry(name.clone()).or_insert_with(|| {
            found.push((name, Vec::new()));
            found.len() - 1
        });
        found[place].1.push(at);
    }
    found.into_iter().map(|(_, trials)| trials).collect()
}

/// Tests whether settled and the outage differ over strata.
pub fn mix(trials: &[&Trial]) -> Mix {
    let mut divisions: Vec<(Factor, Vec<Vec<usize>>)> = Vec::new();
    for factor in [Factor::Cut, Factor::Cell, Factor::Isolated] {
        let mut division = strata(trials, factor);
        division.retain(|trials| trials.len() >= FEWEST);
        if division.len() >= 2 && divisions.iter().all(|(_, other)| *other != division) {
            divisions.push((factor, division));
        }
    }
    let mut tests = Vec::new();
    for (factor, division) in &divisions {
        for of in [Measured::Settled, Measured::Outage] {
            tests.extend(test(trials, *factor, division, of));
        }
    }
    let adjusted = holm(&tests.iter().map(|test| Some(test.p)).collect::<Vec<_>>());
    for (test, p) in tests.iter_mut().zip(adjusted) {
        test.p_holm = p.unwrap_or(1.0);
    }
    let clear = tests.iter().filter(|test| test.is_clear());
    let clear = clear.min_by(|a, b| a.p_holm.total_cmp(&b.p_holm)).cloned();
    Mix { tests, clear }
}

fn test(trials: &[&Trial], factor: Factor, division: &[Vec<usize>], of: Measured) -> Option<StrataTest> {
    let observation = |trial: &Trial| match of {
        Measured::Settled => trial.observation(&trial.cluster, Instant::Settled, trial.deadline_ns),
        Measured::Outage => trial.total_outage(),
    };
    let groups: Vec<Vec<Observation>> = division
        .iter()
        .map(|stratum| stratum.iter().filter_map(|&at| observation(trials[at])).collect::<Vec<_>>())
        .filter(|group| group.len() >= FEWEST)
        .collect();
    if groups.len() < 2 {
        return None;
    }
    let medians = groups.iter().map(|group| Curve::estimate(group.clone()).quantile(0.5).estimate);
    // A median that is not reached counts as the slowest.
    let mut medians: Vec<u64> = medians.map(|median| median.unwrap_or(u64::MAX)).collect();
    medians.sort_unstable();
    let reached = |ns: u64| Some(ns).filter(|&ns| ns < u64::MAX);
    let chi_squared = chi_squared(&groups)?;
    let n: usize = groups.iter().map(Vec::len).sum();
    let p = if n >= LARGE {
        ChiSquared::new((groups.len() - 1) as f64).ok()?.sf(chi_squared)
    } else {
        permuted(&groups)
    };
    Some(StrataTest {
        factor,
        of,
        trials: n as u64,
        strata: groups.len() as u64,
        chi_squared,
        p,
        p_holm: p,
        p50_ns: [reached(medians[medians.len() - 1]), reached(medians[0])],
    })
}

/// The log-rank statistic of several groups; `None` where no time distinguishes them.
fn chi_squared(groups: &[Vec<Observation>]) -> Option<f64> {
    let k = groups.len();
    let mut pooled: Vec<(Observation, usize)> = groups
        .iter()
        .enumerate()
        .flat_map(|(group, times)| times.iter().map(move |time| (*time, group)))
        .collect();
    pooled.sort_unstable();
    let mut at_risk: Vec<f64> = groups.iter().map(|group| group.len() as f64).collect();
    let (mut excess, mut variance) = (vec![0.0; k], vec![vec![0.0; k]; k]);
    for ties in pooled.chunk_by(|a, b| a.0.time_ns == b.0.time_ns) {
        let risk: f64 = at_risk.iter().sum();
        let events = ties.iter().filter(|(seen, _)| seen.end == End::Event).count() as f64;
        for (seen, group) in ties {
            excess[*group] += f64::from(u8::from(seen.end == End::Event));
        }
        let factor = if risk > 1.0 { events * (risk - events) / (risk - 1.0) } else { 0.0 };
        for i in 0..k {
            let share = at_risk[i] / risk;
            excess[i] -= events * share;
            for j in 0..k {
                let same = f64::from(u8::from(i == j));
                variance[i][j] += factor * share * (same - at_risk[j] / risk);
            }
        }
        for (_, group) in ties {
            at_risk[*group] -= 1.0;
        }
    }
    // The groups' excesses add up to 0: one of them is redundant.
    solved(variance, &excess, k - 1)
}

/// `b' A⁻¹ b` over the first `size` rows; `None` where the matrix is singular.
fn solved(mut a: Vec<Vec<f64>>, excess: &[f64], size: usize) -> Option<f64> {
    let mut b = excess[..size].to_vec();
    for column in 0..size {
        let pivot = (column..size).max_by(|&x, &y| a[x][column].abs().total_cmp(&a[y][column].abs()))?;
        if a[pivot][column].abs() < 1e-9 {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in column + 1..size {
            let factor = a[row][column] / a[column][column];
            let (upper, lower) = a.split_at_mut(row);
            for (value, above) in lower[0][column..size].iter_mut().zip(&upper[column][column..size]) {
                *value -= factor * above;
            }
            b[row] -= factor * b[column];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| a[row][column] * b[column]).sum();
        b[row] = (b[row] - known) / a[row][row];
    }
    Some(b.iter().zip(excess).map(|(x, y)| x * y).sum())
}

/// The share of permutations of the strata over the trials that part them as far: the sums of the log-rank scores,
/// squared and divided by the groups' sizes.
fn permuted(groups: &[Vec<Observation>]) -> f64 {
    permuted_times(groups, PERMUTATIONS)
}

/// [`permuted`] with a given number of permutations.
fn permuted_times(groups: &[Vec<Observation>], permutations: u32) -> f64 {
    let all: Vec<Observation> = groups.concat();
    let mut scores = scores(&all);
    let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
    let statistic = |scores: &[f64]| {
        let mut from = 0;
        let mut sum = 0.0;
        for &size in &sizes {
            let part: f64 = scores[from..from + size].iter().sum();
            sum += part * part / size as f64;
            from += size;
        }
        sum
    };
    let seen = statistic(&scores);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let as_far = (0..permutations)
        .filter(|_| {
            scores.shuffle(&mut rng);
            statistic(&scores) >= seen * (1.0 - 1e-9)
        })
        .count();
    (as_far + 1) as f64 / f64::from(permutations + 1)
}

/// Each observation's part of its group's excess: 1 for an event, minus the cumulative hazard at its time.
fn scores(all: &[Observation]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&at| all[at]);
    let (mut risk, mut hazard) = (all.len() as f64, 0.0);
    let mut scores = vec![0.0; all.len()];
    for ties in order.chunk_by(|&a, &b| all[a].time_ns == all[b].time_ns) {
        let events = ties.iter().filter(|&&at| all[at].end == End::Event).count() as f64;
        hazard += events / risk;
        for &at in ties {
            scores[at] = f64::from(u8::from(all[at].end == End::Event)) - hazard;
        }
        risk -= ties.len() as f64;
    }
    scores
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::super::logrank::log_rank;
    use super::super::logrank::samples::{placebo, six_mp};
    use super::*;

    #[test]
    fn two_groups_are_the_usual_test() {
        let usual = log_rank(vec![[six_mp(), placebo()]]).unwrap();
        let found = chi_squared(&[six_mp(), placebo()]).unwrap();
        assert!((found - usual.chi_squared).abs() < 1e-9, "{found}");
        // The scores of a group add up to its excess.
        let scores = scores(&[six_mp(), placebo()].concat());
        let excess: f64 = scores[21..].iter().sum();
        assert!((excess - usual.excess).abs() < 1e-9, "{excess}");
        let p = permuted(&[six_mp(), placebo()]);
        assert!(p < 0.001, "{p}");
    }

    #[test]
    fn the_order_of_the_groups_changes_nothing() {
        let groups = [six_mp(), placebo(), placebo()[..7].to_vec()];
        let turned = [placebo()[..7].to_vec(), six_mp(), placebo()];
        let (a, b) = (chi_squared(&groups).unwrap(), chi_squared(&turned).unwrap());
        assert!((a - b).abs() < 1e-9 && a > 0.0, "{a} {b}");
        assert_eq!(permuted(&groups).to_bits(), permuted(&groups).to_bits(), "the same trials, the same p");
    }

    #[test]
    fn with_five_trials_a_stratum_false_alarms_stay_as_rare_as_said() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        // A permutation test keeps its level with any number of permutations.
        let (rounds, permutations) = (200, 999);
        let alarms = (0..rounds)
            .filter(|_| {
                let mut group =
                    || (0..5).map(|_| Observation::event(rng.random_range(0..1_000_000))).collect();
                let groups: Vec<Vec<Observation>> = (0..4).map(|_| group()).collect();
                permuted_times(&groups, permutations) < 0.05
            })
            .count();
        // 10 are expected; three standard deviations are 9.2.
        assert!(alarms < 20, "{alarms} of {rounds} at 5 %");
    }

    #[test]
    fn groups_without_events_say_nothing() {
        let censored = vec![Observation::censored(5); 6];
        assert_eq!(chi_squared(&[censored.clone(), censored]), None);
    }
}
