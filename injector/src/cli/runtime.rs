//! What asynchronous commands run on.

use std::future::Future;

use super::failure::{Exit, Failure};

/// Runs a command to its end.
pub(super) fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::UNDECIDED, format!("the runtime can't be made: {error}")))?;
    runtime.block_on(work)
}
