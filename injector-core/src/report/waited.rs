//! The reason why a trial took its time, in a sentence: its longest phases, and who was last in each.

use crate::api::Outcome;
use crate::figures::{counted, time};
use crate::run::Detail;
use crate::stats::trial::{EndpointTimes, Trial};

/// The share of the whole below which a phase is not mentioned.
const WORTH: u64 = 20;

/// The thing that a decided trial waited for; `None` if it is not decided, or waited for nothing that is
/// known.
pub fn waited(trial: &Trial, detail: &Detail) -> Option<String> {
    let is_late = match trial.cluster.outcome {
        Outcome::Recovered => false,
        Outcome::NotRecovered => true,
        Outcome::Censored | Outcome::Unknown | Outcome::HarnessFailed => return None,
    };
    let mut parts = phases(trial);
    if is_late {
        parts.extend(never(trial));
    }
    if parts.is_empty() {
        return None;
    }
    let stuck = match detail.stuck.split_first() {
        None => String::new(),
        Some((first, rest)) => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            format!(" A TCP socket was stuck just before the deadline: {first}{more}.")
        }
    };
    Some(format!("It waited {}.{stuck}", parts.join(", then ")))
}

fn phases(trial: &Trial) -> Vec<String> {
    let whole: u64 = trial.phases_ns.iter().flatten().sum();
    let link = trial.last_link.as_deref().unwrap_or("the last link");
    let what = [
        format!("until a packet was sent on {link}"),
        format!("until a packet came through on {link}"),
        match last(trial, |endpoint| endpoint.times.ready_ns) {
            Some(endpoint) => format!("until {} was ready", endpoint.name),
            None => "until all required endpoints were ready".to_owned(),
        },
        match last(trial, |endpoint| endpoint.times.settled_ns) {
            Some(endpoint) => format!(
                "until {} had settled, with {} after it was ready",
                endpoint.name,
                counted(endpoint.times.relapses, "failure")
            ),
            None => "until all required endpoints had settled".to_owned(),
        },
    ];
    let worth = |ns: &u64| *ns > 0 && ns.saturating_mul(WORTH) >= whole;
    let reported = trial.phases_ns.iter().zip(what);
    reported.filter_map(|(ns, what)| Some(format!("{} {what}", time(ns.filter(worth)?)))).collect()
}

/// The required endpoint that was the last.
fn last(trial: &Trial, at: impl Fn(&EndpointTimes) -> Option<u64>) -> Option<&EndpointTimes> {
    let required = trial.endpoints.iter().filter(|endpoint| endpoint.required);
    required.filter(|endpoint| at(endpoint).is_some()).max_by_key(|endpoint| at(endpoint))
}

/// The thing that a trial which did not settle in time was still waiting for.
fn never(trial: &Trial) -> Option<String> {
    let required = || trial.endpoints.iter().filter(|endpoint| endpoint.required);
    let names = |wanted: &dyn Fn(&&EndpointTimes) -> bool| -> Vec<&str> {
        required().filter(wanted).map(|endpoint| endpoint.name.as_str()).collect()
    };
    let not_ready = names(&|endpoint| endpoint.times.ready_ns.is_none());
    if !not_ready.is_empty() {
        return Some(format!("without success for {} to be ready", not_ready.join(", ")));
    }
    let late = |endpoint: &&EndpointTimes| endpoint.times.settled_ns.is_none_or(|at| at > trial.deadline_ns);
    let not_settled = names(&late);
    (!not_settled.is_empty())
        .then(|| format!("for {} to settle, which was not before the deadline", not_settled.join(", ")))
}
