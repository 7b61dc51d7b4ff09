//! Asking the daemon's task, from the tasks of connections.

use std::time::Duration;

use tokio::sync::oneshot;

use super::answer::Budget;
use crate::server::command::{Command, Handle, Reply};
use injector_core::api::{Code, Problem};

/// How long the daemon may take for an answer that waits for nothing.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the daemon, in this user's turn.
pub(super) async fn ask<T>(
    handle: &Handle,
    budget: &Budget,
    limit: Duration,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, Problem> {
    let exchange = async {
        let _turn = budget.turn_for_command().await?;
        ask_at_once(handle, Duration::MAX, command).await
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| Err(no_answer(limit)))
}

fn no_answer(limit: Duration) -> Problem {
    Problem::new(Code::NoAnswer, format!("no answer from the daemon within {} s", limit.as_secs()))
        .remedy("the request may still take effect: look at GET /v1/partitions")
}

/// Asks the daemon without waiting for a turn: for heals, and for calls that do not wait for the daemon's
/// task.
pub(super) async fn ask_at_once<T>(
    handle: &Handle,
    limit: Duration,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, Problem> {
    let stopping = || Problem::new(Code::Stopping, "the daemon is stopping").remedy("start it again");
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        handle.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| Err(no_answer(limit)))
}
