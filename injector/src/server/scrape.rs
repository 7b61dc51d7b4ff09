//! `GET /metrics` by TCP, for a Prometheus that can't reach the Unix socket.
//!
//! A thread of its own accepts, reads and writes, so that a client that connects here takes nothing from the thread that answers
//! heals. The daemon is asked for one reading at a time, and only where the last one is old.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, Uri, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::ask::{ANSWER_TIMEOUT, ask_at_once};
use super::command::{Command, Handle};
use super::conduct::Conduct;
use super::conversation::{Answers, GRACE, REFUSAL_TIMEOUT, REFUSALS, Refusal, Then, WATCH, converse, whole};
use super::metrics::{self, PROMETHEUS};
use super::problem::ProblemResponse;
use super::routes::not_with;
use crate::rights;
use injector_core::api::{Code, Problem};

/// Connections that are answered at a time,
const CONNECTIONS: usize = 32;
/// and of these, those of one address.
const OF_ADDRESS: usize = 8;
/// The greatest age of a reading that is given again.
const FRESH: Duration = Duration::from_millis(250);
/// The one path that is answered.
const PATH: &str = "/metrics";

/// Why nothing can listen at the address. It stops the start.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen: {address}: {source}; {remedy}")]
pub struct RefusedListen {
    address: SocketAddr,
    source: io::Error,
    remedy: &'static str,
}

/// An address that is listened at, and where nothing is answered yet.
#[derive(Debug)]
pub struct MetricsListener {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

/// The thread that answers; dropping it ends it, and waits for a second at most.
#[derive(Debug)]
pub struct MetricsServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsListener {
    /// Listens at the address.
    ///
    /// # Errors
    /// The address is in use, or none of this host's.
    pub fn bind(address: SocketAddr) -> Result<Self, RefusedListen> {
        let listener = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => Ok(Self { listener, address }),
            Err(source) => Err(RefusedListen { address, remedy: remedy(&source), source }),
        }
    }

    /// Answers there, on a thread that has no rights.
    ///
    /// # Errors
    /// If there can't be one more thread.
    pub fn serve(self, handle: Handle) -> io::Result<MetricsServer> {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            if let Err(error) = rights::take_none() {
                tracing::error!(%error, "the metrics' thread keeps rights that it does not need");
            }
            if let Err(error) = run(self.listener, handle, stopped) {
                tracing::error!(%error, address = %self.address, "metrics are not answered");
            }
        })?;
        Ok(MetricsServer { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::warn!("the metrics' thread ended badly");
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "end the program that listens there (`ss -ltnp` names it), or name another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "name an address of this host, in the daemon's own network namespace (`ip address` lists them)"
        }
        io::ErrorKind::PermissionDenied => {
            "name a port from 1024 on, or give the daemon CAP_NET_BIND_SERVICE"
        }
        _ => "name another address, or leave metrics out",
    }
}

fn run(listener: std::net::TcpListener, handle: Handle, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        accept(TcpListener::from_std(listener)?, Scrapes::new(handle), stopped).await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, scrapes: Scrapes, mut stopped: oneshot::Receiver<()>) {
    let permits = Permits::default();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        let (stream, from) = tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let stopping = stopping.clone();
        match permits.take(from.ip()) {
            Ok(permit) => {
                let scrapes = scrapes.clone();
                connections.spawn(async move {
                    let _seat = permit;
                    converse(stream, Conduct::new(), scrapes, stopping).await;
                });
            }
            Err(limit) => {
                if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                    let problem = Problem::new(Code::TooBusy, limit).remedy("close some, or try again later");
                    connections.spawn(async move {
                        let _place = place;
                        let refused = converse(stream, Conduct::new(), Refusal(problem), stopping);
                        let _ = tokio::time::timeout(REFUSAL_TIMEOUT * 2, refused).await;
                    });
                }
            }
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let _ =
        tokio::time::timeout(GRACE + WATCH, async { while connections.join_next().await.is_some() {} }).await;
}

/// The last reading as text, and whom to ask for another one.
#[derive(Clone)]
struct Scrapes {
    handle: Handle,
    last: Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>,
}

impl Scrapes {
    fn new(handle: Handle) -> Self {
        Self { handle, last: Arc::default() }
    }

    async fn respond(&self, method: &Method, uri: &Uri) -> Response<Body> {
        if uri.path() != PATH {
            let what = format!("there is no {method} {} here", uri.path());
            let remedy = "GET /metrics is all that is answered by TCP; the API is on the Unix socket";
            return problem(Problem::new(Code::NoSuchCall, what).remedy(remedy));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = problem(not_with(method, PATH));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
            return response;
        }
        if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
            let what = format!("query: {PATH} takes no parameters, and this has \"{query}\"");
            return problem(Problem::new(Code::BadParameter, what).remedy("leave out what follows the ?"));
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, self.text()).await {
            Ok(Ok(text)) => {
                let mut response = Response::new(Body::from(text));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS));
                response
            }
            Ok(Err(error)) => problem(error),
            Err(_) => problem(Problem::new(
                Code::NoAnswer,
                format!("no answer from the daemon within {} s", ANSWER_TIMEOUT.as_secs()),
            )),
        }
    }

    async fn text(&self) -> Result<Bytes, Problem> {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let reading = ask_at_once(&self.handle, ANSWER_TIMEOUT, Command::Metrics).await?;
        let text = Bytes::from(metrics::render(&reading));
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

/// `GET /metrics`, and a problem to everything else.
impl Answers for Scrapes {
    async fn answer(self, request: Request<Incoming>, conduct: &Conduct) -> Response<Body> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        whole(request, conduct, Then::GoOn, |_| async move { self.respond(&method, &uri).await }).await
    }
}

fn problem(problem: Problem) -> Response<Body> {
    ProblemResponse(problem).into_response()
}

/// The connections that are open, by address.
#[derive(Clone, Default)]
struct Permits(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that counts; it counts no more when dropped.
struct Permit {
    permits: Permits,
    of: IpAddr,
}

impl Permits {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Every change is one number: a poisoned table is still a whole one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, of: IpAddr) -> Result<Permit, String> {
        let mut taken = self.lock();
        if taken.get(&of).is_some_and(|count| *count >= OF_ADDRESS) {
            return Err(format!(
                "{OF_ADDRESS} connections of {of} are open, which is the limit for one address"
            ));
        }
        if taken.values().sum::<usize>() >= CONNECTIONS {
            return Err(format!("{CONNECTIONS} connections are open, which is the limit"));
        }
        *taken.entry(of).or_default() += 1;
        Ok(Permit { permits: self.clone(), of })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.lock();
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_seats_for_others_and_each_is_given_back() {
        let permits = Permits::default();
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let of = |last| std::iter::from_fn(|| permits.take(address(last)).ok()).collect::<Vec<_>>();
        let held: Vec<Vec<Permit>> = (1..9).map(of).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8, 8, 0, 0, 0, 0]);
        let limit = permits.take(address(1)).err().unwrap();
        assert_eq!(limit, "8 connections of 192.0.2.1 are open, which is the limit for one address");
        assert_eq!(permits.take(address(9)).err().unwrap(), "32 connections are open, which is the limit");
        drop(held);
        assert!(permits.lock().is_empty());
    }

    #[test]
    fn an_address_that_is_in_use_or_foreign_is_named_with_a_remedy() {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let error = MetricsListener::bind(address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("metrics.listen: {address}: Address already in use")), "{error}");
        assert!(error.ends_with("or name another port"), "{error}");
        // Kept for documentation (RFC 5737): no host has it.
        let error = MetricsListener::bind("192.0.2.1:9464".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("name an address of this host"), "{error}");
    }
}
