//! What came of each point.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::process::Plan;

/// One point.
#[derive(Debug)]
pub struct Row {
    pub plan: Plan,
    pub was_injected: bool,
    /// What the daemon did then, in a word.
    pub end: &'static str,
    /// How long after that traffic flowed both ways.
    pub flowed: Duration,
    pub failure: Option<String>,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { plan, was_injected, end, flowed, failure } = self;
        let reached = if *was_injected { "" } else { " (not reached)" };
        write!(f, "{plan}{reached}: {end}, flows after {} ms", flowed.as_millis())?;
        failure.as_ref().map_or(Ok(()), |failure| write!(f, ": FAILED: {failure}"))
    }
}

/// Writes them where `INJECTOR_SOAK_RESULTS` says, as Markdown: a line for each hook and kind, and the points.
pub fn store(seed: u64, rows: &[Row]) {
    let mut sums: BTreeMap<(String, &str), (usize, Duration)> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.was_injected) {
        let sum = sums.entry((row.plan.hook.to_string(), &row.plan.kind)).or_default();
        *sum = (sum.0 + 1, sum.1.max(row.flowed));
    }
    let mut text = format!(
        "Seed {seed}.\n\n| hook | fault | points | traffic flows after at most |\n|---|---|---|---|\n"
    );
    for ((hook, kind), (count, worst)) in sums {
        let _ = writeln!(text, "| {hook} | {kind} | {count} | {} ms |", worst.as_millis());
    }
    text += "\n| point | the daemon | traffic flows after |\n|---|---|---|\n";
    let mut rows: Vec<&Row> = rows.iter().filter(|row| row.was_injected).collect();
    rows.sort_by_key(|row| row.plan.to_string());
    for row in rows {
        let _ = writeln!(text, "| `{}` | {} | {} ms |", row.plan, row.end, row.flowed.as_millis());
    }
    match std::env::var_os("INJECTOR_SOAK_RESULTS") {
        Some(path) => std::fs::write(path, text).unwrap(),
        None => println!("{text}"),
    }
}
