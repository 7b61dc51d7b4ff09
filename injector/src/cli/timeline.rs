//! `injector timeline`: what happened, one line an event.

use super::args::{Common, Timeline};
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use super::human::{wall, word};
use super::output::{Reader, heading, line_of, print};
use injector_core::api::{Event, EventKind};
use injector_core::figures::counted;

pub(super) async fn run(common: &Common, args: Timeline) -> Result<Exit, Failure> {
    let mut events = connected(common).await?.events(args.since, args.follow).await?;
    if let Some(host) = common.one_of_several.as_ref().filter(|_| !common.json) {
        print(&heading(host))?;
    }
    while let Some(event) = events.next().await {
        let event = event?;
        let text = match &common.one_of_several {
            Some(host) if common.json => line_of(host, &event)?,
            None if common.json => {
                let json = serde_json::to_string(&event)
                    .map_err(|error| Failure::new(Exit::UNDECIDED, error.to_string()))?;
                format!("{json}\n")
            }
            _ => line(&event),
        };
        if print(&text)? == Reader::Gone {
            break;
        }
    }
    Ok(Exit::OK)
}

/// One event, one line.
pub(super) fn line(event: &Event) -> String {
    let what = match &event.kind {
        EventKind::Cut { name, generation, .. } => format!("cut        {name} (generation {generation})"),
        EventKind::Heal { healed } => format!("heal       {} by {}", healed.name, word(&healed.healed_by)),
        EventKind::First { name, what, subject, .. } => format!("first      {what} {subject} ({name})"),
        EventKind::Health { endpoint, healthy: true, .. } => format!("healthy    {endpoint}"),
        EventKind::Health { endpoint, error, .. } => {
            let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("unhealthy  {endpoint}{why}")
        }
        EventKind::Record { name, outcome, .. } => format!("record     {name}: {}", word(outcome)),
        EventKind::Interface { interface, what } => format!("interface  {interface}: {what}"),
        EventKind::Config { outcome, number, what } => {
            format!("config     {}: {what} (number {number})", outcome.words())
        }
        EventKind::Mark { text } => format!("mark       {text}"),
        EventKind::LeaseLapsed => "lease      it ran out: everything was healed".to_owned(),
        EventKind::Lost { count } => format!("lost       {}", counted(*count, "event")),
    };
    // A mark's text may hold line breaks and control characters of somebody else.
    let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{:>6}  {}  {what}\n", event.id, wall(event.wall))
}
