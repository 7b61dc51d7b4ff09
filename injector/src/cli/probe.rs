//! `injector probe`: every endpoint once.

use super::args::Common;
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use super::human::{NONE, Table, after};
use super::output::show;
use injector_core::api::{EndpointAnswer, WireSight};

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    let answers = connected(common).await?.probe_once().await?;
    show(common, &answers, || {
        if answers.is_empty() {
            return "the config has no endpoints\n".to_owned();
        }
        let mut table = Table::new(["endpoint", "took", "on the wire", "answer"]);
        for answer in &answers {
            let what = answer.error.clone().unwrap_or_else(|| "ok".to_owned());
            table.row([
                answer.name.clone(),
                after(Some(answer.scheduled_ns), Some(answer.done_ns)),
                on_the_wire(answer),
                what,
            ]);
        }
        let mut text = table.to_string();
        if answers.iter().any(|answer| answer.error.is_none() && answer.wire == Some(WireSight::NotSeen)) {
            text.push_str(
                "not seen: the answer passes no attached interface, or the endpoint's `wire` (port, success) does \
                 not fit it; its first response will be missing from records\n",
            );
        }
        text
    })?;
    Ok(if answers.iter().all(|answer| answer.error.is_none()) { Exit::OK } else { Exit::NOT_RECOVERED })
}

fn on_the_wire(answer: &EndpointAnswer) -> String {
    match answer.wire {
        None => NONE.to_owned(),
        Some(WireSight::Seen) => {
            format!("seen after {}", after(Some(answer.scheduled_ns), answer.wire_seen_ns))
        }
        Some(WireSight::NotSeen) => "not seen".to_owned(),
        Some(WireSight::NotLooked) => "not looked at: every slot is in use".to_owned(),
    }
}
