//! `probe:` what is sent and expected, and when.

use crate::clock::Span;
use crate::config::Probe;
use crate::config::probe_kinds::texts::{Instance, Texts};
use crate::config::probe_kinds::{self, KINDS, KindInfo};
use crate::config::read::{Fields, Node};
use crate::model::{Connection, ProbeOptions};

/// The shortest interval: a schedule below it would only be late.
const MIN_INTERVAL: Span = Span::millis(1);
/// Probes of one endpoint instance that can be under way at once.
const MAX_IN_FLIGHT: u128 = 1_000;

/// Reads a probe; texts are tried with every instance, `None` for an endpoint without peers.
pub(super) fn read(node: &Node<'_>, instances: Option<&[Instance<'_>]>) -> Option<Probe> {
    let usage = format!(
        "write one of {}, as in: {{ http: {{ url: \"http://{{address}}:8080/\" }} }}",
        listed("or", |_| true)
    );
    let table = node.table(&usage)?;
    let found = probe_kinds::read(&table, &Texts { instances });
    if found.is_empty() {
        node.error("the probe has no kind", usage);
    }
    for second in found.iter().skip(1) {
        second.node.key_error("the probe has two kinds", "keep one, and make another endpoint of the other");
    }
    let info = found.first().map(|found| found.info);
    let (interval, timeout) = schedule(&table, info.map_or(probe_kinds::INTERVAL, |info| info.interval));
    let connection = table.get("connection");
    let pooled = connection.as_ref().and_then(self::connection);
    if let Some(node) = &connection
        && pooled == Some(Connection::Pooled)
        && info.is_some_and(|info| !info.shares_connections)
    {
        let kinds = listed("and", |info| info.shares_connections);
        node.error(format!("only {kinds} probes can share a connection"), "leave connection out");
    }
    table.finish();
    let connection = if connection.is_some() { pooled? } else { Connection::Fresh };
    let kind = found.into_iter().next()?.kind?;
    Some(Probe { kind, options: ProbeOptions { interval, timeout, connection } })
}

/// The words of some kinds, as a list in a sentence.
fn listed(last: &str, is_wanted: fn(&KindInfo) -> bool) -> String {
    let words: Vec<&str> = KINDS.iter().filter(|info| is_wanted(info)).map(|info| info.word).collect();
    match words.split_last() {
        Some((word, [])) => (*word).to_owned(),
        Some((word, before)) => format!("{} {last} {word}", before.join(", ")),
        None => String::new(),
    }
}

fn schedule(table: &Fields<'_>, default: Span) -> (Span, Span) {
    let interval_node = table.get("interval");
    let interval = interval_node.as_ref().and_then(|node| node.span(MIN_INTERVAL)).unwrap_or(default);
    let timeout_node = table.get("timeout");
    let timeout = timeout_node.as_ref().and_then(|node| node.span(MIN_INTERVAL)).unwrap_or(Span::secs(1));
    let in_flight = timeout.0.as_nanos() / interval.0.as_nanos();
    if in_flight > MAX_IN_FLIGHT {
        let node = timeout_node.or(interval_node).unwrap_or_else(|| table.node.clone());
        node.error(
            format!("a timeout of {timeout} every {interval} leaves {in_flight} probes under way at once"),
            format!("shorten the timeout or lengthen the interval: at most {MAX_IN_FLIGHT}"),
        );
    }
    (interval, timeout)
}

fn connection(node: &Node<'_>) -> Option<Connection> {
    let usage = "write fresh or pooled";
    match node.text(usage)? {
        "fresh" => Some(Connection::Fresh),
        "pooled" => Some(Connection::Pooled),
        other => {
            node.error(format!("unknown connection \"{other}\""), usage);
            None
        }
    }
}
