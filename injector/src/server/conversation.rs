//! One connection from its first request to its end, and what all answers have in common.

use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::conduct::{AnswerBody, Conduct, Watched, hung_up};
use super::drain::{self, Drained};
use super::extract::BODY_TIMEOUT;
use super::problem::ProblemResponse;
use super::refusal::{self, HEAD_LIMIT};
use injector_core::api::Problem;

/// Connections that are refused with an answer; more than these are closed without a word.
pub(super) const REFUSALS: usize = 16;
/// How long the body of a request that is refused whatever it says may take.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a connection's conduct is checked.
pub(super) const WATCH: Duration = Duration::from_millis(500);
/// How long open requests may take to end after the shutdown began.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The answers to a connection's requests.
pub(super) trait Answers: Clone {
    /// The answer to one request.
    fn answer(
        self,
        request: Request<Incoming>,
        conduct: &Conduct,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Answers every request with the same problem, and ends the connection.
#[derive(Clone)]
pub(super) struct Refusal(pub Problem);

impl Answers for Refusal {
    async fn answer(self, request: Request<Incoming>, conduct: &Conduct) -> Response<Body> {
        whole(request, conduct, Then::End, |_| async { ProblemResponse(self.0).into_response() }).await
    }
}

/// The step that follows an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
    GoOn,
    /// The end of the connection.
    End,
}

/// Makes an answer and reads what is left of the request's body: a client that writes its body after its head would not
/// get to read an answer that came before.
pub(super) async fn whole<F: Future<Output = Response<Body>>>(
    request: Request<Incoming>,
    conduct: &Conduct,
    then: Then,
    answer: impl FnOnce(Request<Body>) -> F,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let time = if then == Then::End { REFUSAL_TIMEOUT } else { BODY_TIMEOUT };
    let (body, rest) = drain::lend(body, time);
    let mut response = answer(Request::from_parts(parts, Body::new(body))).await;
    if rest.drain().await == Drained::Part || then == Then::End {
        conduct.ends();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Runs one connection to its end, whichever side ends it.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + AsFd + Unpin,
    conduct: Conduct,
    answerer: impl Answers,
    mut stopping: watch::Receiver<bool>,
) {
    let sentry = rustix::io::fcntl_dupfd_cloexec(&stream, 0).ok();
    // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
    let sentry = sentry.and_then(|fd| unsafe { AsyncFd::register(fd) }.ok());
    let service = service_fn(|request| {
        let (answerer, conduct) = (answerer.clone(), conduct.clone());
        async move {
            let answering = conduct.request();
            let response = if refusal::is_too_large(&request) {
                Refusal(refusal::too_large()).answer(request, &conduct).await
            } else {
                answerer.answer(request, &conduct).await
            };
            Ok::<_, std::convert::Infallible>(response.map(|body| AnswerBody { body, _answering: answering }))
        }
    });
    // A client may shut its own direction down and still read. One that is gone has closed both, which the sentry
    // notices, also while a request is pending.
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_buf_size(HEAD_LIMIT)
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Watched::new(stream, conduct.clone())), service);
    if talk(connection, &conduct, sentry.as_ref(), &mut stopping).await == Ending::Answered
        && conduct.is_ending()
        && let Some(sentry) = &sentry
    {
        drain::linger(sentry).await;
    }
}

/// How a conversation ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The last answer is sent.
    Answered,
    /// The client is gone, or is to go.
    Broken,
}

async fn talk<T, S>(
    connection: hyper::server::conn::http1::Connection<TokioIo<Watched<T>>, S>,
    conduct: &Conduct,
    sentry: Option<&AsyncFd<OwnedFd>>,
    stopping: &mut watch::Receiver<bool>,
) -> Ending
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = AnswerBody>,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    let mut connection = pin!(connection);
    let mut watch = tokio::time::interval(WATCH);
    let mut end: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return Ending::Answered;
            }
            () = gone(sentry) => return Ending::Broken,
            _ = stopping.changed(), if end.is_none() => {
                connection.as_mut().graceful_shutdown();
                end = Some(Instant::now() + GRACE);
            }
            _ = watch.tick() => {
                if let Some(fault) = conduct.fault(Instant::now()) {
                    tracing::debug!(fault, "a connection is closed");
                    return Ending::Broken;
                }
                let is_gone = sentry.is_some_and(|sentry| hung_up(sentry.get_ref()));
                if end.is_some_and(|end| Instant::now() >= end) || is_gone {
                    return Ending::Broken;
                }
            }
        }
    }
}

/// Resolves when the other end has closed both directions.
async fn gone(sentry: Option<&AsyncFd<OwnedFd>>) {
    let Some(sentry) = sentry else { return std::future::pending().await };
    while let Ok(mut guard) = sentry.writable().await {
        if hung_up(sentry.get_ref()) {
            return;
        }
        if guard.ready().is_write_closed() {
            // The descriptor stays ready for good, and the watch checks again.
            break;
        }
        // The next change wakes this again.
        guard.clear_ready();
    }
    std::future::pending::<()>().await;
}
