//! Answers that wait for a record.

use tokio::time::Instant;

use crate::server::command::{Record, Reply};
use injector_core::api::Problem;

/// An answer that is held back until a record is final, or a time is over.
pub(super) struct Waiter {
    pub(super) generation: u32,
    pub(super) until: Instant,
    pub(super) reply: Reply<Result<Record, Problem>>,
}
