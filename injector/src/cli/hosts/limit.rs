//! How long one of several hosts is waited for.

use std::future::Future;
use std::time::Duration;

use crate::cli::args::Common;
use crate::cli::failure::{Exit, Failure};
use injector_client::hosts::{HostError, LIMIT};
use injector_client::{Client, ClientError};
use injector_core::clock::Span;

/// An answer that may take so long. One daemon is waited for; one of several hosts is given up some time later.
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

/// The same of a new connection.
pub async fn connected(common: &Common) -> Result<Client, Failure> {
    answered(common, Duration::ZERO, Client::open(&common.address())).await
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
