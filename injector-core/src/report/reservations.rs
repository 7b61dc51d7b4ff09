//! What a run's verdict leaves open, for whoever reads the verdict alone.

use serde::Serialize;

use crate::figures::counted;
use crate::measure::STARVED_REMEDY;
use crate::stats::summary::Summary;

/// What a run's verdict leaves open. Reports and comparisons show the sentences beside the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reservations {
    /// Trials that were measured while the host was too busy to send probes in time.
    pub starved: u64,
    /// Trials whose cut is not proved.
    pub unproved: u64,
    /// Trials with links whose coverage is unknown.
    pub unknown_coverage: u64,
    /// Trials with links that are not covered and were left out on purpose.
    pub left_out: u64,
    /// `exact`, or `nominal` if what was found stopped the campaign.
    pub intervals: String,
    /// Why the campaign was given up; `null` if it was not.
    pub given_up: Option<String>,
    /// The same in sentences; none where nothing is left open.
    pub sentences: Vec<String>,
}

impl Reservations {
    /// Those of a run with this summary.
    pub fn of(s: &Summary) -> Self {
        let mut sentences = Vec::new();
        // What makes every figure doubtful comes first, with what to do.
        if s.starved > 0 {
            let is = if s.starved == 1 { "is" } else { "are" };
            sentences.push(format!(
                "{} of {} {is} starved: the host was too busy to measure well; {STARVED_REMEDY}.",
                s.starved,
                counted(s.trials, "trial")
            ));
        }
        if let Some(why) = &s.given_up {
            sentences.push(format!("The campaign was given up: {why}."));
        }
        if s.unproved > 0 {
            sentences.push(format!(
                "{} of a cut that is not proved: it was not in force, or no packet was dropped on its links.",
                trials(s.unproved)
            ));
        }
        if s.left_out > 0 {
            sentences.push(format!(
                "Links of {} are not covered and were left out on purpose: they take no part in the verdict.",
                counted(s.left_out, "trial")
            ));
        }
        if s.unknown_coverage > 0 {
            sentences.push(format!(
                "Coverage is unknown for links of {}: all their known paths pass hooks, but not all devices of either \
                 peer are known.",
                counted(s.unknown_coverage, "trial")
            ));
        }
        if s.intervals == "nominal" {
            sentences
                .push("The campaign was stopped by what it found: its intervals are nominal.".to_owned());
        }
        Self {
            starved: s.starved,
            unproved: s.unproved,
            unknown_coverage: s.unknown_coverage,
            left_out: s.left_out,
            intervals: s.intervals.clone(),
            given_up: s.given_up.clone(),
            sentences,
        }
    }
}

/// `1 trial is`, `2 trials are`.
pub(super) fn trials(n: u64) -> String {
    if n == 1 { "1 trial is".to_owned() } else { format!("{n} trials are") }
}
