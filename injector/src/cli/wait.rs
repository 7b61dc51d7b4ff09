//! `injector wait`: until the outcome is decided, or the endpoints are healthy.

use std::time::{Duration, Instant};

use super::args::{Common, Wait};
use super::failure::{Exit, Failure};
use super::hosts::limit::{answered, connected};
use super::output::show;
use super::render_record;
use injector_client::{Client, trial};
use injector_core::api::{PartitionState, RecoveryRecord};
use injector_core::clock::Span;
use injector_core::figures::counted;

/// One long poll. An outcome that is decided before the record is final is seen at the end of a slice at the latest.
const SLICE: Duration = Duration::from_secs(2);

/// Between two looks at the endpoints.
const POLL: Duration = Duration::from_millis(100);

/// How long endpoints may take to become healthy, unless the user says.
const HEALTHY: Span = Span::secs(60);

pub(super) async fn run(common: &Common, args: Wait) -> Result<Exit, Failure> {
    if args.healthy {
        return healthy(common, args.timeout.unwrap_or(HEALTHY)).await;
    }
    let begun = Instant::now();
    let mut client = connected(common).await?;
    let (name, generation) = match args.name {
        Some(name) => (name, None),
        None => only_unfinished(common, &mut client).await?,
    };
    let left = args.timeout.map(|timeout| timeout.0.saturating_sub(begun.elapsed()));
    let record = decided(common, &mut client, &name, generation, left).await?;
    show(common, &record, || render_record::text(&record))?;
    Ok(record.outcome.map_or(Exit::UNDECIDED, Exit::of))
}

/// The record of a partition once its outcome is decided, or as it is when the time-out ends.
pub(super) async fn decided(
    common: &Common,
    client: &mut Client,
    name: &str,
    mut generation: Option<u32>,
    timeout: Option<Duration>,
) -> Result<RecoveryRecord, Failure> {
    let begun = Instant::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let slice = left.map_or(SLICE, |left| left.min(SLICE));
        let record = answered(common, slice, client.recovery(name, generation, slice)).await?;
        // The name may be reused while we wait.
        generation = Some(record.generation);
        if record.is_final || record.outcome.is_some() || left.is_some_and(|left| left.is_zero()) {
            return Ok(record);
        }
    }
}

/// Waits until every required endpoint is healthy.
async fn healthy(common: &Common, timeout: Span) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut client = connected(common).await?;
    loop {
        let status = answered(common, Duration::ZERO, client.status()).await?;
        if !status.endpoints.iter().any(|endpoint| endpoint.required) {
            return Err(Failure::usage(
                "the daemon's config has no required endpoint to wait for; add endpoints: to the config",
            ));
        }
        let sick = trial::unhealthy(&status, &[]);
        if sick.is_empty() {
            show(common, &status.endpoints, || "Every required endpoint is healthy.\n".to_owned())?;
            return Ok(Exit::OK);
        }
        if begun.elapsed() >= timeout.0 {
            return Err(Failure::new(Exit::UNDECIDED, still_unhealthy(timeout, &sick)));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Why the wait ended, with a line for each endpoint where there are several.
fn still_unhealthy(timeout: Span, sick: &[String]) -> String {
    if let [only] = sick {
        return format!("not healthy within {timeout}: {only}");
    }
    let first = format!("not healthy within {timeout}: {}", counted(sick.len(), "endpoint"));
    sick.iter().fold(first, |text, endpoint| text + "\n  " + endpoint)
}

async fn only_unfinished(common: &Common, client: &mut Client) -> Result<(String, Option<u32>), Failure> {
    let partitions = answered(common, Duration::ZERO, client.partitions()).await?;
    let mut open: Vec<_> =
        partitions.into_iter().filter(|view| view.state != PartitionState::Closed).collect();
    match open.len() {
        1 => {
            let view = open.remove(0);
            Ok((view.name, Some(view.generation)))
        }
        0 => Err(Failure::usage("no partition is unfinished; name the one whose record you want")),
        _ => {
            let names: Vec<_> = open.iter().map(|view| view.name.as_str()).collect();
            Err(Failure::usage(format!(
                "{} partitions are unfinished; name one of {}",
                names.len(),
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_endpoints_have_a_line_each() {
        let sick = ["ingress@n1: refused", "ingress@n2: too few probes yet"].map(str::to_owned);
        assert_eq!(still_unhealthy(HEALTHY, &sick[..1]), "not healthy within 1m: ingress@n1: refused");
        assert_eq!(
            still_unhealthy(HEALTHY, &sick),
            "not healthy within 1m: 2 endpoints\n  ingress@n1: refused\n  ingress@n2: too few probes yet"
        );
    }
}
