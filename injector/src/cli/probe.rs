//! `injector probe`: every endpoint once.

use super::args::Common;
use super::failure::{Exit, Failure};
use super::human::{Table, after};
use super::show;
use crate::api::client::Client;

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    let answers = Client::open(&common.address()).await?.probe_once().await?;
    show(common, &answers, || {
        if answers.is_empty() {
            return "the config has no endpoints\n".to_owned();
        }
        let mut table = Table::new(["endpoint", "took", "answer"]);
        for answer in &answers {
            let what = answer.error.clone().unwrap_or_else(|| "ok".to_owned());
            table.row([
                answer.endpoint.clone(),
                after(Some(answer.scheduled_ns), Some(answer.done_ns)),
                what,
            ]);
        }
        table.to_string()
    })?;
    Ok(if answers.iter().all(|answer| answer.error.is_none()) { Exit::OK } else { Exit::NOT_RECOVERED })
}
