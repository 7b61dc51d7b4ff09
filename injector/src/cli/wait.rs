//! `injector wait`: until the outcome is decided.

use std::time::{Duration, Instant};

use super::args::{Common, Wait};
use super::failure::{Exit, Failure};
use super::output::show;
use super::render_record;
use injector_client::Client;
use injector_core::api::PartitionState;

/// One long poll. An outcome that is decided before the record is final is seen at the end of a slice at the latest.
const SLICE: Duration = Duration::from_secs(2);

pub(super) async fn run(common: &Common, args: Wait) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut client = Client::open(&common.address()).await?;
    let (name, mut generation) = match args.name {
        Some(name) => (name, None),
        None => only_unfinished(&mut client).await?,
    };
    loop {
        let left = args.timeout.map(|timeout| timeout.0.saturating_sub(begun.elapsed()));
        let record = client.recovery(&name, generation, left.map_or(SLICE, |left| left.min(SLICE))).await?;
        // The name may be used anew while we wait.
        generation = Some(record.generation);
        if !record.is_final && record.outcome.is_none() && left.is_none_or(|left| !left.is_zero()) {
            continue;
        }
        show(common, &record, || render_record::text(&record))?;
        return Ok(record.outcome.map_or(Exit::UNDECIDED, Exit::of));
    }
}

async fn only_unfinished(client: &mut Client) -> Result<(String, Option<u32>), Failure> {
    let partitions = client.partitions().await?;
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
