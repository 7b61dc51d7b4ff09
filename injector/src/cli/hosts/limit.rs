//! How long an answer is waited for.

use std::future::Future;
use std::time::Duration;

use crate::cli::args::Common;
use crate::cli::failure::{Exit, Failure};
use injector_client::hosts::{HostError, LIMIT};
use injector_client::{Client, ClientError};
use injector_core::clock::Span;

/// How long a daemon that is asked alone may take to answer. It answers within 10 s; a little more is for a host that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer that may take so long. One of several hosts is given up some time later; a daemon that is asked alone is given up
/// by the client of [`connected`].
pub async fn answered<T>(
    common: &Common,
    takes: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Failure> {
    if common.one_of_several.is_none() {
        return Ok(call.await?);
    }
    let limit = takes + LIMIT;
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(HostError::NoAnswer(Span(limit)).into()),
    }
}

/// A connection to the daemon, on which each answer is waited for at most so long.
pub async fn connected(common: &Common) -> Result<Client, Failure> {
    let client = answered(common, Duration::ZERO, Client::open(&common.address())).await?;
    Ok(client.give_up_after(PATIENCE))
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Client(error) => error.into(),
            HostError::NoAnswer(_) => Self::new(Exit::UNREACHABLE, error.to_string()),
            HostError::OtherLinks => Self::usage(error.to_string()),
        }
    }
}
