//! The output of `--json`.

use serde_json::{Value, json};

use super::reservations::Reservations;
use crate::run::Run;
use crate::stats::compare::Comparison;

/// The summary of a run, with notices about it.
pub fn report(run: &Run) -> Value {
    json!({ "path": run.path, "summary": run.summary, "campaign": run.campaign, "notes": run.notes })
}

/// A comparison, and what the verdicts of A and B leave open; null where the runs were not compared.
pub fn compare(
    exit_code: u8,
    incomparable: &[String],
    compared: Option<(&Comparison, &[Reservations; 2])>,
) -> Value {
    json!({
        "exit_code": exit_code,
        "incomparable": incomparable,
        "comparison": compared.map(|(comparison, _)| comparison),
        "reservations": compared.map(|(_, [a, b])| json!({ "a": a, "b": b })),
    })
}
