//! The output of `--json`.

use serde_json::{Value, json};

use super::reservations::Reservations;
use crate::run::Run;
use crate::stats::compare::Comparison;

/// The summary of a run, with notices about it.
pub fn report(run: &Run) -> Value {
    json!({ "path": run.path, "summary": run.summary, "campaign": run.campaign, "notes": run.notes })
}

/// A comparison, what the verdicts of A and B leave open, and whether A and B are one run; null where the runs were not compared.
pub fn compare(
    exit_code: u8,
    incomparable: &[String],
    compared: Option<(&Comparison, &[Reservations; 2], bool)>,
) -> Value {
    json!({
        "exit_code": exit_code,
        "incomparable": incomparable,
        "comparison": compared.map(|(comparison, ..)| comparison),
        "reservations": compared.map(|(_, [a, b], _)| json!({ "a": a, "b": b })),
        "same_run": compared.map(|(.., same_run)| same_run),
    })
}
