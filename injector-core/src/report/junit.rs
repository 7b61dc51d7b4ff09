//! `JUnit` XML, as CI servers read it: the verdict is one test, each trial another.

use std::fmt::Write;

use super::escape::Escaped;
use crate::api::{ClusterOutage, Outcome};
use crate::figures::{maybe_time, outcome};
use crate::run::Run;
use crate::stats::survival::End;
use crate::stats::trial::Trial;

/// How every file begins.
pub(super) const OPENING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite ";

/// The report of a run. A trial beyond the deadline fails only if the verdict does, so that neither a rate that is allowed nor
/// a campaign that is not decided breaks a build.
pub fn report(run: &Run) -> String {
    let s = &run.summary;
    let tolerated = s.verdict.exit_code != 1;
    let failing = |trial: &&Trial| trial.cluster.outcome == Outcome::NotRecovered && !tolerated;
    let failures = run.trials.iter().filter(failing).count() + usize::from(s.verdict.exit_code == 1);
    let skipped = s.outcomes.censored + s.outcomes.unknown + u64::from(s.verdict.exit_code == 2);
    let name = run.path.display().to_string();
    let mut out = String::from(OPENING);
    let line = |out: &mut String, text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("writing to a String cannot fail");
        out.push('\n');
    };
    line(
        &mut out,
        format_args!(
            "name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{}\" skipped=\"{skipped}\">",
            Escaped(&name),
            s.trials + 1,
            s.outcomes.harness_failed,
        ),
    );
    let body = match s.verdict.exit_code {
        0 => format!("<system-out>{}</system-out>", Escaped(&s.verdict.sentence)),
        1 => format!("<failure message=\"{}\"/>", Escaped(&s.verdict.sentence)),
        _ => format!("<skipped message=\"{}\"/>", Escaped(&s.verdict.sentence)),
    };
    line(&mut out, format_args!("  <testcase classname=\"campaign\" name=\"verdict\">{body}</testcase>"));
    for trial in &run.trials {
        line(
            &mut out,
            format_args!(
                "  <testcase classname=\"{}\" name=\"trial {}\"{}>{}</testcase>",
                Escaped(&trial.resolved),
                trial.index,
                trial
                    .cluster
                    .settled_ns
                    .map_or_else(String::new, |ns| format!(" time=\"{:.6}\"", ns as f64 / 1e9)),
                trial_body(trial, tolerated),
            ),
        );
    }
    out.push_str("</testsuite>\n");
    out
}

fn some_after_heal(trial: &Trial, outage: &ClusterOutage) -> String {
    let seen = trial.some_after_heal(outage);
    let lower = if seen.end == End::Censored { "at least " } else { "" };
    format!("{lower}{}", maybe_time(Some(seen.time_ns)))
}

/// The outages of a trial, if they are known.
fn outages(trial: &Trial) -> String {
    let lines: Vec<String> = trial
        .outages
        .iter()
        .map(|outage| {
            let lower = if outage.open { "at least " } else { "" };
            let time = |ns: Option<u64>| match ns {
                Some(_) => format!("{lower}{}", maybe_time(ns)),
                None => maybe_time(ns),
            };
            format!(
                "{}: all out {}, some out after the heal {}, mean outage {}",
                outage.name,
                time(outage.all_ns),
                some_after_heal(trial, outage),
                time(outage.share_ns)
            )
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("<system-out>{}</system-out>", Escaped(lines.join("\n")))
}

fn trial_body(trial: &Trial, tolerated: bool) -> String {
    let mut message = outcome(trial.cluster.outcome).to_owned();
    if let Some(reason) = &trial.reason {
        write!(message, ": {reason}").expect("writing to a String cannot fail");
    }
    let message = Escaped(&message);
    match trial.cluster.outcome {
        Outcome::Recovered => outages(trial),
        Outcome::NotRecovered if tolerated => format!("<system-out>{message}</system-out>"),
        Outcome::NotRecovered => format!(
            "<failure message=\"{message}\">deadline {}, ready {}, settled {}</failure>",
            maybe_time(Some(trial.deadline_ns)),
            maybe_time(trial.cluster.ready_ns),
            maybe_time(trial.cluster.settled_ns)
        ),
        Outcome::Censored | Outcome::Unknown => format!("<skipped message=\"{message}\"/>"),
        Outcome::HarnessFailed => format!("<error message=\"{message}\"/>"),
    }
}
