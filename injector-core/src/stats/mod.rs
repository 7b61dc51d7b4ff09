//! Statistics of campaigns: right for censored data, exact where an exact method exists. No I/O.
//!
//! A [`trial::Trial`] is what one recovery record says to statistics; [`summary::summarize`] and
//! [`compare::compare`] turn many of them into what `summary.json` and `compare` show. What was not reached or
//! not seen is `None`, never zero.

pub mod binomial;
pub mod compare;
pub mod cuts;
pub mod dependence;
pub mod labels;
pub mod logrank;
pub mod medians;
pub mod mix;
pub mod outages;
pub mod power;
mod product;
pub mod sequential;
mod series;
pub mod sides;
pub mod strata;
pub mod summary;
pub mod survival;
pub mod trial;
mod uncompared;
pub mod undecided;
pub mod verdict;

use statrs::distribution::{ContinuousCDF, Normal};

/// The confidence of every two-sided interval that is shown.
pub const CONFIDENCE: f64 = 0.95;

/// The one-sided error that `compare` and the sequential test keep.
pub const ALPHA: f64 = 0.05;

/// The standard normal's quantile of `probability`.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability)
}

/// The standard normal's upper tail beyond `z`.
pub(crate) fn normal_tail(z: f64) -> f64 {
    Normal::standard().sf(z)
}
