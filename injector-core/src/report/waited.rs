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
    Some(format!("It waited {}.{}{stuck}", parts.join(", then "), apart(trial)))
}

/// The links that no phase waits for: they carried again after settled, or not at all.
fn apart(trial: &Trial) -> String {
    let mut text = String::new();
    if !trial.lost_links.is_empty() {
        let links = listed(trial.lost_links.iter().cloned());
        text = format!(" While it was watched, {links} did not carry again.");
    }
    if !trial.late_links.is_empty() {
        let links = listed(trial.late_links.iter().map(|(link, ns)| format!("{link} ({})", time(*ns))));
        text = format!("{text} After it had settled, {links} carried again.");
    }
    text
}

/// The links that a sentence names.
const NAMED: usize = 4;

fn listed(links: impl ExactSizeIterator<Item = String>) -> String {
    let more = links.len().saturating_sub(NAMED);
    let named = links.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

fn phases(trial: &Trial) -> Vec<String> {
    let whole: u64 = trial.phases_ns.iter().flatten().sum();
    let named = |link: &'_ Option<String>| link.clone().unwrap_or_else(|| "the last link".to_owned());
    let what = [
        format!("until a packet was sent on {}", named(&trial.last_link)),
        format!("until a packet came through on {}", named(&trial.last_carrier)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{LinkRecord, RecoveryRecord};
    use crate::clock::MonoNs;
    use crate::measure::again::upgraded;

    /// The sentence about a trial that settled 2 s after the heal; links are (src, dst, first packet, carries) in ms.
    fn sentence(links: &[(&str, &str, u64, Option<u64>)]) -> String {
        let mut record: RecoveryRecord =
            serde_json::from_str(include_str!("../../tests/data/golden/record.json")).unwrap();
        let heal = record.heal.unwrap().end_ns;
        let healed = |ms: u64| MonoNs(heal.0 + ms * 1_000_000);
        record.links = links
            .iter()
            .map(|&(src, dst, packet, carries)| LinkRecord {
                src: src.to_owned(),
                dst: dst.to_owned(),
                dropped_packets: Some(3),
                first_packet_ns: Some(healed(packet)),
                first_synack_ns: carries.map(healed),
                ..LinkRecord::default()
            })
            .collect();
        (record.heal_to_ready_ns, record.heal_to_settled_ns) = (Some(2_000_000_000), Some(2_000_000_000));
        let record = upgraded(&record);
        waited(&Trial::new(0, &record), &Detail::new(&record, 1)).unwrap()
    }

    #[test]
    fn each_phase_names_the_link_that_ended_it() {
        let text = sentence(&[("n1", "n2", 300, Some(310)), ("n1", "n3", 100, Some(1500))]);
        assert!(text.contains("300 ms until a packet was sent on n1→n2"), "{text}");
        assert!(text.contains("1.20 s until a packet came through on n1→n3"), "{text}");
    }

    #[test]
    fn links_that_nothing_waited_for_are_named_apart() {
        let text = sentence(&[("n1", "n2", 300, Some(800)), ("n1", "n3", 100, None)]);
        assert!(!text.contains("came through"), "the last link is not known: {text}");
        assert!(text.contains(". While it was watched, n1→n3 did not carry again."), "{text}");
        let text = sentence(&[("n1", "n2", 300, Some(800)), ("n1", "n3", 100, Some(6000))]);
        assert!(text.contains("500 ms until a packet came through on n1→n2"), "{text}");
        assert!(text.ends_with(". After it had settled, n1→n3 (6.00 s) carried again."), "{text}");
    }
}
