//! The output of `--json`.

use serde_json::{Value, json};

use crate::run::Run;
use crate::stats::compare::Comparison;

/// The summary of a run, with notices about it.
pub fn report(run: &Run) -> Value {
    json!({ "path": run.path, "summary": run.summary, "campaign": run.campaign, "notes": run.notes })
}

/// A comparison; `comparison` is null where the runs were not compared.
pub fn compare(exit_code: u8, incomparable: &[String], comparison: Option<&Comparison>) -> Value {
    json!({ "exit_code": exit_code, "incomparable": incomparable, "comparison": comparison })
}
