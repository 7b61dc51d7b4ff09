//! The data that the page's script draws: as compact as 10,000 trials demand. Times are tenths of a
//! millisecond.

use std::collections::HashMap;
use std::fmt::Write;

use super::groupings;
use super::number::{UNIT, number};
use super::outages::Late;
use super::place::Records;
use crate::api::{Outcome, ProbeView};
use crate::report::escape::script_json;
use crate::report::waited::waited;
use crate::run::Probes;
use crate::run::{Detail, Run};
use crate::stats::summary::{cluster_curve, slowest, thinned};
use crate::stats::survival::Curve;
use crate::stats::trial::{Instant, Trial};

/// Trials whose probes are on the page: the slowest, and some others if there are fewer.
pub const WITH_PROBES: usize = 30;
/// The bytes that details of trials may take; of the slowest first.
const DETAIL_BYTES: usize = 2_600_000;
/// The bytes that probes may take.
const PROBE_BYTES: usize = 1_000_000;
/// Texts of failures that are distinguished.
const FAILURES: usize = 200;
/// Trials on the page that were not made.
const NOT_MADE: usize = 500;
/// The characters of a user's text on the page.
const TEXT: usize = 300;

/// Texts by number.
#[derive(Default)]
struct Texts {
    known: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: &str) -> usize {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        self.texts.push(shortened(text));
        self.known.insert(text.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

/// The trials that were not made: the index and the reason of each.
fn not_made(run: &Run) -> Vec<(u64, String)> {
    run.not_made.iter().take(NOT_MADE).map(|trial| (trial.trial, shortened(&trial.reason))).collect()
}

/// The trials whose probes the page wants: slowest first, then those not decided.
pub fn wanted(trials: &[Trial]) -> Vec<&Trial> {
    let mut order = by_interest(trials);
    order.truncate(WITH_PROBES);
    order
}

fn by_interest(trials: &[Trial]) -> Vec<&Trial> {
    let mut order = slowest(&trials.iter().collect::<Vec<_>>());
    order.extend(trials.iter().filter(|trial| !trial.cluster.is_decided()));
    order
}

/// The page's data as JSON, safe inside a script element.
pub fn json(run: &Run, probes: &Probes, late: &Late, records: &Records) -> String {
    let (mut shapes, mut peers, mut endpoints, mut failures) =
        (Texts::default(), Texts::default(), Texts::default(), Texts::default());
    let mut roles: Vec<&str> = Vec::new();
    for endpoint in run.trials.iter().flat_map(|trial| &trial.endpoints) {
        if endpoints.number(&endpoint.name) == roles.len() {
            roles.push(if endpoint.required { "required" } else { "advisory" });
        }
    }
    let rows: Vec<String> =
        run.trials.iter().map(|trial| row(trial, shapes.number(&trial.resolved))).collect();
    let place: HashMap<u64, usize> = run.trials.iter().enumerate().map(|(at, t)| (t.index, at)).collect();
    let mut details = String::new();
    for trial in by_interest(&run.trials) {
        let text = detail(trial, &run.details[place[&trial.index]], &mut peers, &endpoints);
        if details.len() + text.len() > DETAIL_BYTES {
            break;
        }
        separate(&mut details);
        write(&mut details, format_args!("\"{}\":{text}", trial.index));
    }
    let mut ticks = String::new();
    for trial in wanted(&run.trials) {
        let (Some(probes), Some(heal)) = (probes.get(&trial.index), run.details[place[&trial.index]].heal)
        else {
            continue;
        };
        let text = packed(probes, heal.0, &endpoints, &mut failures);
        if ticks.len() + text.len() > PROBE_BYTES {
            break;
        }
        separate(&mut ticks);
        write(&mut ticks, format_args!("\"{}\":{{{text}}}", trial.index));
    }
    let named: Vec<(&String, &&str)> = endpoints.texts.iter().zip(&roles).collect();
    let medians: Vec<Option<u64>> =
        run.summary.phases.iter().map(|phase| phase.p50_ns.map(|ns| ns / UNIT)).collect();
    format!(
        "{{\"deadline\":{},\"records\":{},\"groupings\":{},\"notMade\":{},\"shapes\":{},\"peers\":{},\"endpoints\":{},\"failures\":{},\"phaseMedians\":{},\
         \"curves\":{},\"trials\":[{}],\"details\":{{{details}}},\"probes\":{{{ticks}}},\"outages\":{}}}",
        number(run.summary.deadline_ns),
        script_json(records),
        script_json(&groupings::of(&run.trials)),
        script_json(&not_made(run)),
        script_json(&shapes.texts),
        script_json(&peers.texts),
        script_json(&named),
        script_json(&failures.texts),
        script_json(&medians),
        curves(run),
        rows.join(","),
        super::outages::json(run, late),
    )
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push(',');
    }
}

fn numbers(times: &[Option<u64>]) -> String {
    times.iter().map(|&ns| number(ns)).collect::<Vec<_>>().join(",")
}

fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Recovered => 0,
        Outcome::NotRecovered => 1,
        Outcome::Censored => 2,
        Outcome::Unknown => 3,
        Outcome::HarnessFailed => 4,
    }
}

fn row(trial: &Trial, shape: usize) -> String {
    format!(
        "[{},{},{},{},{},{shape},{},{}]",
        trial.index,
        trial.attempt,
        code(trial.cluster.outcome),
        number(trial.cluster.settled_ns),
        number(trial.cluster.ready_ns),
        u8::from(trial.starved),
        numbers(&trial.phases_ns)
    )
}

fn detail(trial: &Trial, detail: &Detail, peers: &mut Texts, names: &Texts) -> String {
    let endpoints: Vec<String> = trial
        .endpoints
        .iter()
        .map(|e| {
            let times = [e.first_ok_ns, e.times.ready_ns, e.times.settled_ns];
            format!("[{},{},{}]", names.known[&e.name], numbers(&times), e.times.relapses)
        })
        .collect();
    let links: Vec<String> = detail
        .links
        .iter()
        .map(|link| {
            let (src, dst) = (peers.number(&link.src), peers.number(&link.dst));
            format!("[{src},{dst},{},{}]", number(link.dropped), numbers(&link.firsts_ns))
        })
        .collect();
    let reason: Option<String> = trial.reason.as_ref().map(|reason| shortened(reason));
    let waited = waited(trial, detail);
    format!(
        "{{\"cut\":{},\"observed\":{},\"line\":{},\"reason\":{},\"waited\":{},\"more\":{},\"stuck\":{},\"endpoints\":[{}],\"links\":[{}]}}",
        number(detail.cut_before_ns),
        number(trial.observed_ns),
        detail.line,
        script_json(&reason),
        script_json(&waited),
        detail.links_left_out,
        script_json(&detail.stuck),
        endpoints.join(","),
        links.join(",")
    )
}

/// A stretch of probes at one interval: begin, interval, and runs of (how many, which failure or −1).
struct Stretch {
    begin: f64,
    step: Option<f64>,
    count: u64,
    runs: Vec<(u64, i64)>,
}

impl Stretch {
    fn new(begin: f64, failure: i64) -> Self {
        Self { begin, step: None, count: 1, runs: vec![(1, failure)] }
    }

    /// Takes a probe in if it is due where this stretch's interval says.
    fn take(&mut self, at: f64, failure: i64) -> bool {
        let step = *self.step.get_or_insert(at - self.begin);
        if step <= 0.0 || (self.begin + self.count as f64 * step - at).abs() > step / 4.0 {
            return false;
        }
        self.count += 1;
        match self.runs.last_mut() {
            Some((count, same)) if *same == failure => *count += 1,
            _ => self.runs.push((1, failure)),
        }
        true
    }
}

fn packed(probes: &[ProbeView], heal: u64, endpoints: &Texts, failures: &mut Texts) -> String {
    let mut by_endpoint: Vec<Vec<Stretch>> = (0..endpoints.texts.len()).map(|_| Vec::new()).collect();
    for probe in probes {
        let Some(&endpoint) = endpoints.known.get(&probe.endpoint) else { continue };
        let at = (probe.scheduled_ns.0 as f64 - heal as f64) / UNIT as f64;
        let failure = probe.error.as_ref().map_or(-1, |error| {
            let text = if failures.texts.len() < FAILURES { error.as_str() } else { "failed" };
            i64::try_from(failures.number(text)).expect("at most FAILURES + 1 texts")
        });
        let stretches = &mut by_endpoint[endpoint];
        if !stretches.last_mut().is_some_and(|last| last.take(at, failure)) {
            stretches.push(Stretch::new(at, failure));
        }
    }
    let mut out = String::new();
    for (endpoint, stretches) in by_endpoint.iter().enumerate().filter(|(_, stretches)| !stretches.is_empty())
    {
        separate(&mut out);
        let stretches: Vec<String> = stretches
            .iter()
            .map(|s| {
                let runs: Vec<String> =
                    s.runs.iter().map(|(count, failure)| format!("{count},{failure}")).collect();
                format!("[{:.0},{:.2},[{}]]", s.begin, s.step.unwrap_or(0.0), runs.join(","))
            })
            .collect();
        write(&mut out, format_args!("\"{endpoint}\":[{}]", stretches.join(",")));
    }
    out
}

/// A curve for the page: its points, and the time up to which anything is known.
pub fn curve_json(curve: &Curve) -> String {
    let share = |share: Option<f64>| share.map_or_else(|| "null".to_owned(), |share| format!("{share:.4}"));
    let points: Vec<String> = thinned(curve)
        .iter()
        .map(|&(time, survival, low, high)| {
            format!("[{},{survival:.4},{},{}]", time / UNIT, share(low), share(high))
        })
        .collect();
    format!("{{\"points\":[{}],\"until\":{}}}", points.join(","), number(curve.last_ns))
}

/// The names of the curves of a run: the cluster, then each endpoint by its base name.
pub fn curve_names(run: &Run) -> Vec<String> {
    let mut names = vec!["cluster".to_owned()];
    names.extend(run.summary.endpoint_groups.iter().map(|group| group.name.clone()));
    names.extend(run.summary.endpoints.iter().map(|endpoint| endpoint.name.clone()));
    // A hundred endpoints would make the page heavy and its menu useless.
    names.truncate(40);
    names
}

fn curves(run: &Run) -> String {
    let names = curve_names(run);
    let all: Vec<&Trial> = run.trials.iter().collect();
    let of = |instant| {
        let curves: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let curve =
                    if at == 0 { cluster_curve(&all, instant) } else { endpoint_curve(&all, name, instant) };
                format!("{}:{}", script_json(name), curve_json(&curve))
            })
            .collect();
        curves.join(",")
    };
    format!("{{\"settled\":{{{}}},\"ready\":{{{}}}}}", of(Instant::Settled), of(Instant::Ready))
}

/// The survival curve of an endpoint, or of the last of its instances.
pub fn endpoint_curve(trials: &[&Trial], name: &str, instant: Instant) -> Curve {
    let observation = |t: &&Trial| t.observation(&t.endpoint(name)?, instant, t.deadline_ns);
    Curve::estimate(trials.iter().filter_map(observation).collect())
}
