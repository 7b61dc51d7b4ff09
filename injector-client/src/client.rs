//! The API's client: one typed method a call, over one connection.
//!
//! A partition with `owner: connection` lives as long as the [`Client`] that applied it.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use injector_core::api::{
    Code, EnableRequest, EndpointAnswer, Event, HealAnswer, Healed, MarkRequest, Owner, PartitionRequest,
    PartitionView, ProbeView, Problem, RecoveryRecord, Status, partition_name,
};
use injector_core::clock::Span;

use crate::transport::{self, Address, Carrier};
use crate::version;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon answers there.
    #[error("the daemon at {at} can't be reached: {source}; {}", how_to_reach(.at))]
    Unreachable {
        /// The socket or host.
        at: String,
        /// The system's error.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("{at}: not permitted; use sudo, or join the group that owns the socket")]
    NotPermitted {
        /// The socket or host.
        at: String,
    },
    /// This user may use the socket, but not for this.
    #[error(transparent)]
    Refused(Problem),
    /// The connection ended before the answer.
    #[error("the connection to the daemon at {at} broke: {why}; look at `injector status`")]
    Broken {
        /// The socket or host.
        at: String,
        /// The reason, in words.
        why: String,
    },
    /// The daemon took the request, or the connection, and did not answer in time.
    #[error("the daemon at {at}{} did not answer within {within}, and may still do what was asked; {}", of_pid(*.pid), what_to_do(*.pid))]
    NoAnswer {
        /// The socket or host.
        at: String,
        /// How long it was waited for.
        within: Span,
        /// The process that listens on the socket, if it is on this host and its pid namespace is seen.
        pid: Option<u32>,
    },
    /// The daemon said no.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The answer is not what this version expects.
    #[error(
        "{call}: the daemon's answer is not understood: {why}; is it of another version? This is {}",
        env!("CARGO_PKG_VERSION")
    )]
    Protocol {
        /// Method and path.
        call: String,
        /// The fault of the answer.
        why: String,
    },
}

/// By ssh, the reason may be the way there as well as the daemon; ssh has written it to standard error.
fn how_to_reach(at: &str) -> String {
    if at.starts_with("ssh://") {
        format!("what ssh wrote says why; `ssh {at} injector status` tries both the way and the daemon")
    } else {
        "is it running? Start it with: sudo injector start --config lab.yaml".to_owned()
    }
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn what_to_do(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!(
            "`ps -o stat,pcpu -p {pid}` says whether it is stopped (T) or busy, and its log what it does; `sudo kill -CONT {pid}` \
             resumes a process that is stopped"
        ),
        None => "see on its host whether the process is stopped or busy, and what its log says".to_owned(),
    }
}

/// How much longer an answer may take by ssh: it may ask its user for a passphrase first.
const BY_SSH: Duration = Duration::from_mins(1);

/// How much longer [`Client::probe_once`] may take: as long as the slowest endpoint's timeout.
const PROBING: Duration = Duration::from_mins(1);

/// A connection to the daemon.
pub struct Client {
    address: Address,
    line: Line,
    owns: bool,
    limit: Option<Duration>,
}

/// An HTTP connection and the task that drives it, which ends when this is dropped.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    carrier: Carrier,
    pid: Option<u32>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Connects to the daemon's socket on this host.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        Self::open(&Address::Socket(socket.to_owned())).await
    }

    /// Connects to a daemon here or elsewhere.
    pub async fn open(address: &Address) -> Result<Self, ClientError> {
        Ok(Self { address: address.clone(), line: Line::open(address).await?, owns: false, limit: None })
    }

    /// From now on, a call fails with [`ClientError::NoAnswer`] if its answer takes longer than this, beside what it may take by
    /// what it is: a [`Client::recovery`] its `wait`, a [`Client::probe_once`] a minute. By ssh, a minute is added, for its user may
    /// have to type a passphrase. Of [`Client::events`] it is about the head alone. By default, a call waits for as long as it takes.
    #[must_use]
    pub fn give_up_after(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// `GET /v1/status`.
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// `PUT /v1/partitions/{name}`: cuts, and answers when the cut is in force (or scheduled).
    pub async fn apply(
        &mut self,
        name: &str,
        request: &PartitionRequest,
    ) -> Result<PartitionView, ClientError> {
        self.owns |= request.owner == Owner::Connection;
        self.call(Method::PUT, &partition(name, "")?, Some(request)).await
    }

    /// The links that [`Client::apply`] would cut; nothing changes.
    pub async fn dry_run(
        &mut self,
        name: &str,
        request: &PartitionRequest,
    ) -> Result<PartitionView, ClientError> {
        self.call(Method::PUT, &partition(name, "?dry_run=true")?, Some(request)).await
    }

    /// The same, with up to [`MOST_LISTED`](injector_core::api::MOST_LISTED) of the links from one of them on, counted from 0.
    pub async fn dry_run_from(
        &mut self,
        name: &str,
        request: &PartitionRequest,
        from: usize,
    ) -> Result<PartitionView, ClientError> {
        let query = format!("?dry_run=true&links_from={from}");
        self.call(Method::PUT, &partition(name, &query)?, Some(request)).await
    }

    /// `POST …/prepare`: everything but the cut.
    pub async fn prepare(
        &mut self,
        name: &str,
        request: &PartitionRequest,
    ) -> Result<PartitionView, ClientError> {
        self.owns |= request.owner == Owner::Connection;
        self.call(Method::POST, &partition(name, "/prepare")?, Some(request)).await
    }

    /// `POST …/enable`: cuts what was prepared.
    pub async fn enable(
        &mut self,
        name: &str,
        request: &EnableRequest,
    ) -> Result<PartitionView, ClientError> {
        self.owns |= request.owner == Some(Owner::Connection);
        self.call(Method::POST, &partition(name, "/enable")?, Some(request)).await
    }

    /// `GET /v1/partitions`.
    pub async fn partitions(&mut self) -> Result<Vec<PartitionView>, ClientError> {
        self.get("/v1/partitions").await
    }

    /// `GET /v1/partitions/{name}`.
    pub async fn partition(&mut self, name: &str) -> Result<PartitionView, ClientError> {
        self.get(&partition(name, "")?).await
    }

    /// The same, with up to [`MOST_LISTED`](injector_core::api::MOST_LISTED) of its links from one of them on, counted from 0:
    /// of more links, a view lists none unasked.
    pub async fn partition_from(&mut self, name: &str, from: usize) -> Result<PartitionView, ClientError> {
        self.get(&partition(name, &format!("?links_from={from}"))?).await
    }

    /// `DELETE /v1/partitions/{name}`.
    pub async fn heal(&mut self, name: &str) -> Result<Healed, ClientError> {
        let answer: HealAnswer<Healed> =
            self.call(Method::DELETE, &partition(name, "")?, None::<&()>).await?;
        Ok(answer.healed)
    }

    /// `DELETE /v1/partitions`.
    pub async fn heal_all(&mut self) -> Result<Vec<Healed>, ClientError> {
        let answer: HealAnswer<Vec<Healed>> =
            self.call(Method::DELETE, "/v1/partitions", None::<&()>).await?;
        Ok(answer.healed)
    }

    /// `GET …/recovery`: the record when it is final, or as it is after `wait` (at most 10 minutes).
    pub async fn recovery(
        &mut self,
        name: &str,
        generation: Option<u32>,
        wait: Duration,
    ) -> Result<RecoveryRecord, ClientError> {
        // The query's durations are written without blanks.
        let text = Span(wait).to_string().replace(' ', "");
        let generation = generation.map(|generation| format!("&generation={generation}")).unwrap_or_default();
        let path = partition(name, &format!("/recovery?wait={text}{generation}"))?;
        self.call_for(wait, Method::GET, &path, None::<&()>).await
    }

    /// `GET …/probes`.
    pub async fn probes(
        &mut self,
        name: &str,
        generation: Option<u32>,
    ) -> Result<Vec<ProbeView>, ClientError> {
        let query = generation.map(|generation| format!("?generation={generation}")).unwrap_or_default();
        self.get(&partition(name, &format!("/probes{query}"))?).await
    }

    /// `POST /v1/probes`: runs every endpoint once.
    pub async fn probe_once(&mut self) -> Result<Vec<EndpointAnswer>, ClientError> {
        self.call_for(PROBING, Method::POST, "/v1/probes", None::<&()>).await
    }

    /// `POST /v1/marks`.
    pub async fn mark(&mut self, text: &str) -> Result<Event, ClientError> {
        self.call(Method::POST, "/v1/marks", Some(&MarkRequest { text: text.to_owned() })).await
    }

    /// `GET /v1/events`: the connection belongs to the stream from now on.
    pub async fn events(mut self, since: u64, follow: bool) -> Result<Events, ClientError> {
        let path = format!("/v1/events?since={since}&follow={follow}");
        let limit = self.limit_of(Duration::ZERO);
        let response = match in_time(limit, self.send(Method::GET, &path, Bytes::new())).await {
            Some(response) => response?,
            None => return Err(self.no_answer(limit)),
        };
        if !response.status().is_success() {
            return Err(self.refusal(&format!("GET {path}"), response).await);
        }
        Ok(Events { body: response.into_body(), buffer: BytesMut::new(), client: self })
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.call_for(Duration::ZERO, method, path, body).await
    }

    /// A call whose answer may take so long by what it is.
    async fn call_for<T: DeserializeOwned>(
        &mut self,
        takes: Duration,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let limit = self.limit_of(takes);
        match in_time(limit, self.exchange(method, path, body)).await {
            Some(answer) => answer,
            None => Err(self.no_answer(limit)),
        }
    }

    fn limit_of(&self, takes: Duration) -> Option<Duration> {
        let by_ssh = self.line.carrier.0.as_ref().map_or(Duration::ZERO, |_| BY_SSH);
        self.limit.map(|limit| limit.saturating_add(takes).saturating_add(by_ssh))
    }

    fn no_answer(&self, limit: Option<Duration>) -> ClientError {
        let within = Span(limit.unwrap_or_default());
        ClientError::NoAnswer { at: self.address.to_string(), within, pid: self.line.pid }
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let call = format!("{method} {path}");
        let not_understood = |why: String| ClientError::Protocol { call: call.clone(), why };
        let body = match body {
            None => Bytes::new(),
            Some(body) => serde_json::to_vec(body).map_err(|error| not_understood(error.to_string()))?.into(),
        };
        let response = self.send(method, path, body).await?;
        if !response.status().is_success() {
            return Err(self.refusal(&call, response).await);
        }
        let bytes = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(self.broken(&error).await),
        };
        serde_json::from_slice(&bytes).map_err(|error| not_understood(error.to_string()))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        if self.line.sender.ready().await.is_err() && self.may_reopen() {
            self.line = Line::open(&self.address).await?;
        }
        let sent = match self.line.sender.try_send_request(request(&method, path, &body)?).await {
            Ok(response) => return Ok(response),
            Err(sent) => sent,
        };
        if !(was_never_sent(&sent) && self.may_reopen()) {
            return Err(self.broken(sent.error()).await);
        }
        self.line = Line::open(&self.address).await?;
        match self.line.sender.send_request(request(&method, path, &body)?).await {
            Ok(response) => Ok(response),
            Err(error) => Err(self.broken(&error).await),
        }
    }

    /// The daemon closes idle connections. One that owns a partition is never idle to it; if that one is closed, the
    /// partition is healed, and a new connection would hide it.
    fn may_reopen(&self) -> bool {
        !self.owns && self.line.carrier.0.is_none()
    }

    async fn refusal(&mut self, call: &str, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let bytes = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return self.broken(&error).await,
        };
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if problem.code == Code::NotPermitted => ClientError::Refused(problem),
            Ok(problem) => ClientError::Problem(self.with_versions(problem).await),
            Err(_) => ClientError::Protocol { call: call.to_owned(), why: unread(status, &bytes) },
        }
    }

    /// The problem, with the versions beside it if the daemon may have refused because they differ.
    async fn with_versions(&mut self, problem: Problem) -> Problem {
        if !version::may_be_why(problem.code) {
            return problem;
        }
        match self.daemon_version().await {
            Some(daemon) => version::beside(problem, &daemon),
            None => problem,
        }
    }

    /// The daemon's version; of another version's status nothing else is known.
    async fn daemon_version(&mut self) -> Option<String> {
        let response = self.send(Method::GET, "/v1/status", Bytes::new()).await.ok()?;
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        status["version"].as_str().map(str::to_owned)
    }

    async fn broken(&mut self, error: &hyper::Error) -> ClientError {
        let at = self.address.to_string();
        match self.line.carrier.ended().await.map(|status| (status.code(), status)) {
            Some((Some(77), _)) => ClientError::NotPermitted { at },
            Some((_, status)) if !status.success() => ClientError::Unreachable {
                at,
                source: io::Error::other(format!("ssh, or injector dial-stdio there, ended with {status}")),
            },
            _ => ClientError::Broken { at, why: reason(error) },
        }
    }
}

impl Line {
    async fn open(address: &Address) -> Result<Self, ClientError> {
        let at = address.to_string();
        let (stream, carrier) = match transport::open(address).await {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ClientError::NotPermitted { at });
            }
            Err(source) => return Err(ClientError::Unreachable { at, source }),
        };
        let pid = stream.listener();
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::Broken { at, why: reason(&error) })?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the daemon ended");
            }
        });
        Ok(Self { sender, driver, carrier, pid })
    }
}

/// The output of work that ends within the limit, if there is one.
async fn in_time<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

fn request(method: &Method, path: &str, body: &Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "injector")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.clone()))
        .map_err(|error| ClientError::Protocol { call: path.to_owned(), why: error.to_string() })
}

/// Whether a request met a connection that the daemon had closed before: it can't have taken effect, and may be sent again.
/// Either it was not written at all, or the write found nobody: a Unix socket takes no byte for an end that is closed.
fn was_never_sent(sent: &TrySendError<Request<Full<Bytes>>>) -> bool {
    let is_broken_pipe = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    sent.message().is_some() || std::error::Error::source(sent.error()).is_some_and(is_broken_pipe)
}

/// The text of a refusal that is no problem which this client knows: a later daemon may have other codes.
fn unread(status: StatusCode, body: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match document.as_ref().and_then(|document| document["detail"].as_str()) {
        Some(detail) => format!("status {status}: {detail}"),
        None => format!("status {status}"),
    }
}

fn reason(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Names go into the path as they are; one that the server would refuse could also mean another path.
fn partition(name: &str, rest: &str) -> Result<String, Problem> {
    partition_name(name)?;
    Ok(format!("/v1/partitions/{name}{rest}"))
}

/// The timeline as it comes.
pub struct Events {
    body: Incoming,
    buffer: BytesMut,
    client: Client,
}

impl Events {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).map_err(|error| ClientError::Protocol {
                    call: "GET /v1/events".to_owned(),
                    why: error.to_string(),
                }));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Err(error) => return Some(Err(self.client.broken(&error).await)),
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests;
