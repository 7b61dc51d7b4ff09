//! The API's server: HTTP/1.1 on a Unix socket, each request one command to the daemon.
//!
//! A connection is an id that partitions can hang on; however it ends (a close, a kill, a shutdown, a fault), the
//! daemon gets [`Command::Disconnected`] once, after every command that came by it.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use tokio::net::UnixListener;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service as _;

use self::answer::{Budget, Budgets};
use self::caller::Caller;
use self::conduct::Conduct;
use self::conversation::{Answers, GRACE, REFUSAL_TIMEOUT, REFUSALS, Refusal, Then, WATCH, converse, whole};
use self::permits::{Class, Permits};
use self::problem::ProblemResponse;
use crate::server::command::{Command, ConnectionId, Handle, Origin, Requester};
use injector_core::api::{Code, Problem};

mod answer;
mod ask;
mod caller;
pub mod command;
mod conduct;
mod conversation;
mod drain;
mod events;
mod extract;
mod metrics;
mod openapi;
mod permits;
mod probes;
mod problem;
mod refusal;
mod route;
mod routes;
mod scrape;
mod socket;

pub use scrape::{MetricsListener, MetricsServer, RefusedListen};
pub use socket::{Access, ApiSocket, SocketError};
pub(crate) use socket::{make_directory, make_safe_directory};

/// How long a connection may last that is there for a heal alone.
const HEAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Connection ids are never used again within one daemon.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Serves until `shutdown` resolves, then removes the socket and lets open requests end within a second.
///
/// Errors only if the listener can't be handed to the runtime.
pub async fn serve(socket: ApiSocket, handle: Handle, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let (listener, access, socket_file) = socket.into_parts();
    let listener = UnixListener::from_std(listener)?;
    let router = routes::router(handle.clone());
    let permits = Permits::default();
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
                Ok((stream, _)) => {
                    crate::fault::here("api/accept");
                    stream
                }
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
            let (permit, limit) = permits.take(class, caller.uid).map_err(busy)?;
            let by = match class {
                Class::Privileged => Requester::Privileged,
                Class::Member | Class::Reader => Requester::Member(caller.uid),
            };
            let budget = budgets.of(class, caller.uid);
            Ok((caller, by, budget, permit, limit.map(busy)))
        });
        match admission {
            Ok((caller, by, budget, permit, limit)) => {
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
                    let _permit = permit;
                    let _farewell = DisconnectGuard { id, handle };
                    let conduct = Conduct::of(&stream);
                    let lasts = limit.as_ref().map(|_| HEAL_TIMEOUT);
                    let whose = Origin { connection: id, by };
                    let answer = Answerer::Routes { router, whose, budget, conduct: conduct.clone(), limit };
                    let served = converse(stream, conduct, answer, stopping);
                    match lasts {
                        Some(time) => drop(tokio::time::timeout(time, served).await),
                        None => served.await,
                    }
                });
            }
            Err(problem) => {
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    let stopping = stopping.clone();
                    connections.spawn(async move {
                        let _permit = permit;
                        let refused =
                            converse(stream, Conduct::new(), Answerer::Refusal(Refusal(problem)), stopping);
                        let _ = tokio::time::timeout(REFUSAL_TIMEOUT * 2, refused).await;
                    });
                }
            }
        }
    }
    drop(socket_file);
    drop(listener);
    let _ = stop.send(true);
    let _ =
        tokio::time::timeout(GRACE + WATCH, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Notifies the daemon that a connection ended, also when its task panicked.
struct DisconnectGuard {
    id: ConnectionId,
    handle: Handle,
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        tracing::debug!(connection = self.id.0, "closed");
        // A closed channel means that the daemon is gone, and its partitions with it.
        if let Err(TrySendError::Full(command)) = self.handle.try_send(Command::Disconnected(self.id)) {
            let handle = self.handle.clone();
            tokio::spawn(async move { handle.send(command).await });
        }
    }
}

/// The answers to a connection's requests.
#[derive(Clone)]
enum Answerer {
    /// The API; with a `limit`, its heals alone, and that to everything else.
    Routes { router: Router, whose: Origin, budget: Budget, conduct: Conduct, limit: Option<Problem> },
    /// The same problem, whatever was asked, and the end of the connection.
    Refusal(Refusal),
}

impl Answers for Answerer {
    async fn answer(self, request: Request<Incoming>, conduct: &Conduct) -> Response<Body> {
        let is_heal = request.method() == Method::DELETE;
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match self {
            Self::Routes { limit: Some(problem), .. } if !is_heal => {
                Refusal(problem).answer(request, conduct).await
            }
            Self::Routes { budget, .. } if budget.class() == Class::Reader && !is_read => {
                let problem = readers_read(request.method());
                whole(request, conduct, Then::GoOn, |_| async { ProblemResponse(problem).into_response() })
                    .await
            }
            Self::Routes { mut router, whose, budget, conduct: of_client, limit: _ } => {
                let route = |mut request: Request<Body>| async move {
                    request.extensions_mut().insert(whose);
                    request.extensions_mut().insert(budget);
                    request.extensions_mut().insert(of_client);
                    match router.call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    }
                };
                whole(request, conduct, Then::GoOn, route).await
            }
            Self::Refusal(refusal) => refusal.answer(request, conduct).await,
        }
    }
}

fn readers_read(method: &Method) -> Problem {
    let what =
        format!("the group that socket.readers names may read (GET), and nothing else; this is a {method}");
    Problem::new(Code::NotPermitted, what).remedy("use sudo, or join the group that owns the socket")
}
