//! The plan of a campaign, and the figures that its verdict is about.

use serde::{Deserialize, Serialize};

/// The campaign's settings that its summary needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Why the campaign was given up, if it was.
    pub given_up: Option<String>,
    /// Trials that were to be made; `None` if that is not known.
    pub trials: Option<u64>,
    /// The nominal holds of the cells.
    pub holds_ns: Vec<u64>,
    /// The share beyond the deadline up to which the campaign passes.
    pub max_rate: f64,
    /// Whether the verdict is switched off.
    pub no_gate: bool,
    /// The rates of the sequential test, if one was asked for.
    pub stop_when: Option<(f64, f64)>,
}

/// Figures of one instant (settled or ready) over some trials. `null` is "not known" or "not reached".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Decided trials: those in the rate.
    pub n: u64,
    /// Decided trials beyond the deadline.
    pub beyond_deadline: u64,
    /// The share beyond the deadline.
    pub rate: Option<f64>,
    /// Its exact (Clopper–Pearson) 95 % interval.
    pub rate_ci95: Option<[f64; 2]>,
    /// Trials that were not decided (censored, unknown, harness failed).
    pub undetermined: u64,
    /// The rate if all undetermined trials had been good, and if all had been beyond the deadline.
    pub rate_bounds: Option<[f64; 2]>,
    /// Trials in the survival curve.
    pub in_curve: u64,
    /// The curve's share beyond the deadline: uses censored trials, where the rate leaves them out.
    pub survival_at_deadline: Option<f64>,
    /// Its pointwise 95 % band.
    pub survival_at_deadline_ci95: Option<[f64; 2]>,
    /// The median.
    pub p50_ns: Option<u64>,
    /// Its 95 % interval; an end that is not reached, or that too few trials have the coverage for, is `null`.
    pub p50_ci95_ns: [Option<u64>; 2],
    /// The 90 % quantile.
    pub p90_ns: Option<u64>,
    /// Its interval.
    pub p90_ci95_ns: [Option<u64>; 2],
    /// The 99 % quantile; `null` under 100 trials.
    pub p99_ns: Option<u64>,
    /// Its interval.
    pub p99_ci95_ns: [Option<u64>; 2],
    /// Failures after ready, over the trials in the curve; `null` without any.
    pub relapses: Option<u64>,
}

/// Figures of settled, and the same of ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Figures of the time from heal to settled.
    #[serde(flatten)]
    pub settled: Figures,
    /// Figures of the time from heal to ready.
    pub ready: Figures,
}
