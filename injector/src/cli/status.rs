//! `injector status`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use super::args::{Common, Status as Args};
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use super::human::{NONE, Table, after, or_none, span, wall, word, yes_no};
use super::output::{Reader, print_raw, show};
use injector_core::api::{PartitionState, Status, role_suffix};
use injector_core::figures::counted;

pub(super) async fn run(common: &Common, args: Args) -> Result<Exit, Failure> {
    let mut client = connected(common).await?;
    loop {
        let status = client.status().await?;
        if args.watch && !common.json && std::io::stdout().is_terminal() {
            // Home, then clear: on a terminal each status takes the place of the last one.
            print_raw("\x1b[H\x1b[2J")?;
        }
        let reader = show(common, &status, || describe(&status))?;
        if !args.watch || reader == Reader::Gone {
            return Ok(Exit::OK);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!(
        "injector {} (abi {}), pid {}, kernel {}, config {}, {}, {} lost\n",
        status.version,
        status.abi,
        status.pid,
        status.kernel,
        status.config_number,
        counted(status.peers.len(), "peer"),
        status
            .lost_events
            .map_or_else(|| "unknown whether events were".to_owned(), |lost| counted(lost, "event"))
    );
    if let Some(refused) = &status.refused_config {
        let _ = writeln!(
            text,
            "WARNING: the reload of {} was not put in force ({}), config {} still is: {}",
            wall(refused.wall),
            refused.outcome.words(),
            status.config_number,
            refused.what
        );
    }
    if status.lost_log_lines > 0 {
        let _ = writeln!(
            text,
            "the daemon's log lost {}: its output is full, gone or too slow",
            counted(status.lost_log_lines, "line")
        );
    }
    if !status.attachments.is_empty() {
        let mut table = Table::new(["interface", "netns", "hook", "others", "why"]);
        for found in &status.attachments {
            table.row([
                found.interface.clone(),
                or_none(found.netns.as_deref()),
                or_none(found.hook.as_deref()),
                if found.others.is_empty() { NONE.to_owned() } else { found.others.join(", ") },
                found.why.clone(),
            ]);
        }
        let _ = write!(text, "\n{table}");
    }
    if let Some(coverage) = &status.coverage
        && coverage.unknown + coverage.partly + coverage.not > 0
    {
        let _ = writeln!(text, "\ncoverage: {coverage}");
    }
    if status.partitions.is_empty() {
        text.push_str("\nnothing is cut\n");
    } else {
        let mut table =
            Table::new(["partition", "gen", "state", "shape", "since", "ends in", "links", "dropped"]);
        for view in &status.partitions {
            let running = matches!(view.state, PartitionState::Active | PartitionState::Scheduled);
            let since = view.effective.map(|cut| cut.end_ns);
            let ends = view.ends_at_ns.filter(|_| running);
            table.row([
                view.name.clone(),
                view.generation.to_string(),
                word(&view.state),
                format!("{}{}{}", view.resolved, role_suffix(&view.roles), view.request.traffic.suffix()),
                after(since, Some(status.now_ns)),
                after(Some(status.now_ns), ends),
                view.totals.links.to_string(),
                view.totals.dropped_packets.map_or_else(|| NONE.to_owned(), |dropped| dropped.to_string()),
            ]);
        }
        let _ = write!(text, "\n{table}");
        for view in &status.partitions {
            for warning in &view.warnings {
                let _ = writeln!(text, "warning: {}: {warning}", view.name);
            }
        }
    }
    if !status.endpoints.is_empty() {
        let mut table = Table::new(["endpoint", "role", "healthy", "last error"]);
        for endpoint in &status.endpoints {
            table.row([
                endpoint.name.clone(),
                if endpoint.required { "required" } else { "advisory" }.to_owned(),
                yes_no(endpoint.healthy),
                // Of one that is healthy again, it would be an error of some time ago.
                or_none(endpoint.last_error.as_deref().filter(|_| endpoint.healthy != Some(true))),
            ]);
        }
        let _ = write!(text, "\n{table}");
    }
    let _ = writeln!(text, "\ndaemon clock {}", span(status.now_ns.0));
    text
}
