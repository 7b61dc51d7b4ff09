//! The API's server: HTTP/1.1 on a Unix socket, each request one command to the daemon.
//!
//! A connection is an id that partitions can hang on; however it ends (a close, a kill, a shutdown, a fault), the
//! daemon hears [`Command::Disconnected`] once, after every command that came by it.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service as _;

use self::answer::{Budget, Budgets};
use self::caller::Caller;
use self::conduct::{AnswerBody, Conduct, Watched, hung_up};
use self::drain::Drained;
use self::extract::BODY_TIMEOUT;
use self::places::{Class, Places};
use self::problem::ProblemResponse;
use self::refusal::HEAD_LIMIT;
use crate::server::command::{By, Command, ConnectionId, Handle, Whose};
use injector_core::api::{Code, Problem};

mod answer;
mod caller;
pub mod command;
mod conduct;
mod drain;
mod events;
mod extract;
mod metrics;
mod openapi;
mod places;
mod problem;
mod refusal;
mod route;
mod routes;
mod socket;

pub use socket::{Access, ApiSocket, SocketError};
pub(crate) use socket::{make_directory, make_safe_directory};

/// How long a connection may last that is there for a heal alone.
const HEAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are told at once that they are not; more than these are closed without a word.
const REFUSALS: usize = 16;
/// How long the body of a request that is refused whatever it says may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a connection's conduct is looked at.
const WATCH: Duration = Duration::from_millis(500);
/// How long open requests may take to end after the shutdown began.
const GRACE: Duration = Duration::from_secs(1);

/// Connection ids are never used again within one daemon.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Serves until `shutdown` resolves, then removes the socket and lets open requests end within a second.
///
/// Errors only if the listener can't be handed to the runtime.
pub async fn serve(socket: ApiSocket, handle: Handle, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (listener, access, place) = socket.into_parts();
    let listener = UnixListener::from_std(listener)?;
    let router = routes::router(handle.clone());
    let places = Places::default();
    let budgets = Budgets::default();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (stop, stopping) = watch::channel(false);
    let own_uid = rustix::process::geteuid().as_raw();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Mostly out of file descriptors: it ends when connections do.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let admission = match Caller::of(&stream).map(|caller| (caller.class(access, own_uid), caller)) {
            Ok((Some(class), caller)) => Ok((caller, class)),
            Ok((None, caller)) => {
                tracing::warn!(uid = caller.uid, gid = caller.gid, pid = caller.pid, "a caller was refused");
                Err(Problem::new(Code::NotPermitted, format!("uid {} may not use this socket", caller.uid))
                    .remedy("use sudo, or join the group that owns the socket"))
            }
            Err(error) => {
                tracing::warn!(%error, "a caller without credentials was refused");
                Err(Problem::new(Code::NotPermitted, "the caller's credentials can't be read"))
            }
        };
        let admission = admission.and_then(|(caller, class)| {
            let remedy = match class {
                Class::Reader => "close some, or try again later",
                _ => "close some, or try again later; a heal is answered all the same",
            };
            let busy = |limit: String| Problem::new(Code::TooBusy, limit).remedy(remedy);
            let (place, limit) = places.take(class, caller.uid).map_err(busy)?;
            let by = match class {
                Class::Privileged => By::Privileged,
                Class::Member | Class::Reader => By::Member(caller.uid),
            };
            let budget = budgets.of(class, caller.uid);
            Ok((caller, by, budget, place, limit.map(busy)))
        });
        match admission {
            Ok((caller, by, budget, place, limit)) => {
                let id = ConnectionId(NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed));
                tracing::debug!(
                    connection = id.0,
                    uid = caller.uid,
                    gid = caller.gid,
                    pid = caller.pid,
                    "open"
                );
                let (router, handle, stopping) = (router.clone(), handle.clone(), stopping.clone());
                connections.spawn(async move {
                    let _place = place;
                    let _farewell = Farewell { id, handle };
                    let conduct = Conduct::of(&stream);
                    let lasts = limit.as_ref().map(|_| HEAL_TIMEOUT);
                    let whose = Whose { connection: id, by };
                    let answer = Answerer::Routes { router, whose, budget, conduct: conduct.clone(), limit };
                    let served = converse(stream, conduct, answer, stopping);
                    match lasts {
                        Some(time) => drop(tokio::time::timeout(time, served).await),
                        None => served.await,
                    }
                });
            }
            Err(problem) => {
                if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                    let stopping = stopping.clone();
                    connections.spawn(async move {
                        let _place = place;
                        let refused = converse(stream, Conduct::new(), Answerer::Refusal(problem), stopping);
                        let _ = tokio::time::timeout(REFUSAL_TIMEOUT * 2, refused).await;
                    });
                }
            }
        }
    }
    drop(place);
    drop(listener);
    let _ = stop.send(true);
    let _ =
        tokio::time::timeout(GRACE + WATCH, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Tells the daemon that a connection ended, also when its task panicked.
struct Farewell {
    id: ConnectionId,
    handle: Handle,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        tracing::debug!(connection = self.id.0, "closed");
        // A closed channel means that the daemon is gone, and its partitions with it.
        if let Err(TrySendError::Full(command)) = self.handle.try_send(Command::Disconnected(self.id)) {
            let handle = self.handle.clone();
            tokio::spawn(async move { handle.send(command).await });
        }
    }
}

/// What a connection's requests are answered with.
#[derive(Clone)]
enum Answerer {
    /// The API; with a `limit`, its heals alone, and that to everything else.
    Routes { router: Router, whose: Whose, budget: Budget, conduct: Conduct, limit: Option<Problem> },
    /// One problem, whatever was asked, and the end of the connection.
    Refusal(Problem),
}

impl Answerer {
    async fn answer(self, request: Request<Incoming>, conduct: &Conduct) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let is_heal = parts.method == Method::DELETE;
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        let this = match self {
            Self::Routes { limit: Some(problem), .. } if !is_heal => Self::Refusal(problem),
            this => this,
        };
        let is_last = matches!(this, Self::Refusal(_));
        let this = match this {
            Self::Routes { budget, .. } if budget.class() == Class::Reader && !is_read => {
                Self::Refusal(readers_read(&parts.method))
            }
            this => this,
        };
        let (body, rest) = drain::lend(body, if is_last { REFUSAL_TIMEOUT } else { BODY_TIMEOUT });
        let mut request = Request::from_parts(parts, Body::new(body));
        let mut response = match this {
            Self::Refusal(problem) => ProblemResponse(problem).into_response(),
            Self::Routes { mut router, whose, budget, conduct, limit: _ } => {
                request.extensions_mut().insert(whose);
                request.extensions_mut().insert(budget);
                request.extensions_mut().insert(conduct);
                match router.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        };
        // A client that writes its body after its head would not get to read an answer that came before.
        if rest.drain().await == Drained::Part || is_last {
            conduct.ends();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn readers_read(method: &Method) -> Problem {
    let what =
        format!("the group that socket.readers names may read (GET), and nothing else; this is a {method}");
    Problem::new(Code::NotPermitted, what).remedy("use sudo, or join the group that owns the socket")
}

/// Runs one connection to its end, whichever side ends it.
async fn converse(
    stream: UnixStream,
    conduct: Conduct,
    answerer: Answerer,
    mut stopping: watch::Receiver<bool>,
) {
    let sentry = rustix::io::fcntl_dupfd_cloexec(&stream, 0).ok();
    // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
    let sentry = sentry.and_then(|fd| unsafe { AsyncFd::register(fd) }.ok());
    let service = service_fn(|request| {
        let (answerer, conduct) = (answerer.clone(), conduct.clone());
        async move {
            let answering = conduct.request();
            let response = answerer.answer(request, &conduct).await;
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

async fn talk<S>(
    connection: hyper::server::conn::http1::Connection<TokioIo<Watched<UnixStream>>, S>,
    conduct: &Conduct,
    sentry: Option<&AsyncFd<OwnedFd>>,
    stopping: &mut watch::Receiver<bool>,
) -> Ending
where
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
            // It stays ready for good, and the watch looks again.
            break;
        }
        // The next change wakes this again.
        guard.clear_ready();
    }
    std::future::pending::<()>().await;
}
