//! Answers that are large: what waits to be read has a bound, whoever does not read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::ProblemResponse;
use injector_core::api::{Code, Problem};

/// Answers up to this are not counted: each connection has one at most.
const SMALL: usize = 256 * 1024;
/// What is counted at once.
const UNIT: usize = 1024;
/// How much of large answers may wait to be read, in all.
const WAITING_MIB: usize = 16;
/// What is handed to a connection at a time.
const PIECE: usize = 64 * 1024;
/// How long a request waits for its turn where one alone is served at a time.
const TURN: Duration = Duration::from_secs(5);

/// What large and costly answers share.
#[derive(Clone)]
pub(super) struct Budget {
    waiting: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    rounds: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new((WAITING_MIB << 20) / UNIT)),
            probes: Arc::new(Semaphore::new(1)),
            rounds: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Budget {
    /// The value as JSON; a problem if too much waits already.
    pub fn json(&self, value: &impl Serialize) -> Result<Response, ProblemResponse> {
        let mut bytes = serde_json::to_vec(value)
            .map_err(|error| Problem::new(Code::DataPlane, format!("the answer is not JSON: {error}")))?;
        bytes.push(b'\n');
        let length = bytes.len();
        let body = if length <= SMALL {
            Body::from(bytes)
        } else {
            self.pieces(bytes.into()).ok_or_else(|| {
                Problem::new(Code::TooBusy, format!("answers of {WAITING_MIB} MiB wait for their readers"))
                    .remedy("read what was asked for, or try again later")
            })?
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, length.into());
        Ok(response)
    }

    /// The same, made on another thread: what may be large would hold up this one, which also heals.
    pub async fn json_aside(
        &self,
        value: impl Serialize + Send + 'static,
    ) -> Result<Response, ProblemResponse> {
        let budget = self.clone();
        let made = tokio::task::spawn_blocking(move || budget.json(&value)).await;
        made.map_err(|_| Problem::new(Code::Stopping, "the daemon is stopping"))?
    }

    /// A body that is handed over as it is read, and counted until its last piece was taken.
    fn pieces(&self, bytes: Bytes) -> Option<Body> {
        // One that is larger than all of it has to itself what there is.
        let units = bytes.len().div_ceil(UNIT).min((WAITING_MIB << 20) / UNIT);
        let permit = Arc::clone(&self.waiting).try_acquire_many_owned(u32::try_from(units).ok()?).ok()?;
        let pieces = stream::unfold((bytes, permit), |(mut rest, permit)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE));
            Some((Ok::<_, std::convert::Infallible>(piece), (rest, permit)))
        });
        Some(Body::from_stream(pieces))
    }

    /// The turn to have a record's probes listed.
    pub async fn turn_for_probes(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.probes, "lists of probes are").await
    }

    /// The turn to have every endpoint probed once, which starts commands.
    pub async fn turn_for_round(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.rounds, "rounds of probes are").await
    }
}

async fn turn(of: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    let busy = || {
        let detail =
            format!("{what} made one at a time, and the turn did not come within {} s", TURN.as_secs());
        Problem::new(Code::TooBusy, detail).remedy("try again later")
    };
    let turn = tokio::time::timeout(TURN, Arc::clone(of).acquire_owned()).await.map_err(|_| busy())?;
    turn.map_err(|_| busy())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_nobody_reads_is_bounded_and_what_is_read_makes_room() {
        let budget = Budget::default();
        let large = "x".repeat(5 << 20);
        let mut unread: Vec<Response> = std::iter::from_fn(|| budget.json(&large).ok()).take(10).collect();
        assert_eq!(unread.len(), 3, "three of 5 MiB are under 16 MiB");
        let problem = budget.json(&large).unwrap_err();
        assert_eq!(problem.0.code, Code::TooBusy);
        assert!(problem.0.detail.contains("16 MiB"), "{problem:?}");
        assert!(budget.json(&"small").is_ok(), "small answers are not counted");
        let read = unread.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), large.len() + 3);
        assert!(budget.json(&large).is_ok());
        drop(unread);
        let larger = "x".repeat(40 << 20);
        assert!(budget.json(&larger).is_ok(), "one that is larger than all of it is answered alone");
    }
}
