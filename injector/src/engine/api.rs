//! Requests to the engine over its Unix socket. Each has a connection of its own and a time limit; the answers are bounded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::model::{Event, Inspection, ListItem, Message};
use injector_core::config::Engine;
use injector_core::containers::{Inspected, Listed};

/// How long a connection may take, and an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer: a host with thousands of containers lists some megabytes.
const MOST_BYTES: usize = 32 << 20;
/// The longest event.
const MOST_EVENT_BYTES: usize = 1 << 20;

/// Why the engine says nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no socket, or nobody listens there.
    #[error("no container engine answers: {0}")]
    Nobody(String),
    /// The engine took too long.
    #[error("the container engine at {} does not answer within {:?}", .0.display(), PATIENCE)]
    Late(PathBuf),
    /// The exchange broke off.
    #[error("the container engine at {} broke the exchange off: {source}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// The fault that this end has seen.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine refuses the request.
    #[error("the container engine at {} answers {status} to {what}: {message}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// The request.
        what: String,
        /// Its status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// The engine's answer is not of the form that its API has.
    #[error("the container engine at {} answers {what} with something else than expected: {source}", socket.display())]
    Unreadable {
        /// The socket.
        socket: PathBuf,
        /// The request.
        what: String,
        /// The parser's error.
        source: serde_json::Error,
    },
}

impl EngineError {
    /// The remedy.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Nobody(_) => {
                "start the engine (`systemctl start docker`, or `systemctl start podman.socket`), or name its socket, as \
                 in: engine: /run/podman/podman.sock"
            }
            _ => "see the engine's own log",
        }
    }
}

/// An engine that has answered.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// The first of a config's engines that is there.
    pub async fn find(engine: &Engine) -> Result<Self, EngineError> {
        let mut refusals = Vec::new();
        for socket in engine.sockets() {
            match timeout(PATIENCE, UnixStream::connect(socket)).await {
                Ok(Ok(_)) => return Ok(Self { socket: socket.to_owned() }),
                Ok(Err(error)) => refusals.push(format!("{}: {error}", socket.display())),
                Err(_) => refusals.push(format!("{}: it does not accept connections", socket.display())),
            }
        }
        Err(EngineError::Nobody(refusals.join("; ")))
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All containers, those that do not run too.
    pub async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        let items: Vec<ListItem> = self.get("/containers/json?all=true").await?;
        Ok(items.into_iter().map(Listed::from).collect())
    }

    /// Inspects a container; `None` if there is none of that id any more.
    pub async fn inspect(&self, id: &str) -> Result<Option<Inspected>, EngineError> {
        match self.get::<Inspection>(&format!("/containers/{id}/json")).await {
            Ok(inspection) => Ok(Some(inspection.into())),
            Err(EngineError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to listen to what happens to containers, from a time of the host's clock on.
    pub async fn events(&self, since_s: u64) -> Result<Events, EngineError> {
        // {"type":["container"]}
        let path = format!("/events?since={since_s}&filters=%7B%22type%22%3A%5B%22container%22%5D%7D");
        let mut sender = self.connect().await?;
        let request = request(&path);
        let api = self.clone();
        let answer = tokio::spawn(async move {
            // Podman sends the head of its answer with the first event: there is no time limit.
            let answer = sender.send_request(request).await.map_err(|error| api.broken(error))?;
            Ok((api.accepted(answer, &path).await?.into_body(), sender))
        });
        Ok(Events { api: self.clone(), answer: Some(answer), body: None, left: Vec::new() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let exchange = async {
            let mut sender = self.connect().await?;
            let answer = sender.send_request(request(path)).await.map_err(|error| self.broken(error))?;
            let answer = self.accepted(answer, path).await?;
            self.body(answer).await
        };
        let body =
            timeout(PATIENCE, exchange).await.map_err(|_| EngineError::Late(self.socket.clone()))??;
        let unreadable = |source| EngineError::Unreadable {
            socket: self.socket.clone(),
            what: format!("GET {path}"),
            source,
        };
        serde_json::from_slice(&body).map_err(unreadable)
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, EngineError> {
        let connect = async {
            let nobody = |error| EngineError::Nobody(format!("{}: {error}", self.socket.display()));
            let stream = UnixStream::connect(&self.socket).await.map_err(nobody)?;
            let (sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
            tokio::spawn(connection);
            Ok(sender)
        };
        timeout(PATIENCE, connect).await.map_err(|_| EngineError::Late(self.socket.clone()))?
    }

    async fn accepted(
        &self,
        answer: Response<Incoming>,
        path: &str,
    ) -> Result<Response<Incoming>, EngineError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(answer).await?;
        let message = serde_json::from_slice(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned(), |Message { message }| message);
        Err(EngineError::Refused {
            socket: self.socket.clone(),
            what: format!("GET {path}"),
            status,
            message,
        })
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, EngineError> {
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        Ok(body.map_err(|source| EngineError::Broken { socket: self.socket.clone(), source })?.to_bytes())
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
        EngineError::Broken { socket: self.socket.clone(), source: source.into() }
    }
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(path).header(hyper::header::HOST, "localhost");
    request.body(Empty::new()).expect("a path of ours and a host are a request")
}

/// The body of an answer, and what keeps its connection.
type Stream = (Incoming, SendRequest<Empty<Bytes>>);

/// The stream of containers' events.
pub struct Events {
    api: Api,
    /// The head of the answer, on its way.
    answer: Option<tokio::task::JoinHandle<Result<Stream, EngineError>>>,
    body: Option<Stream>,
    /// The beginning of an event whose end has not come.
    left: Vec<u8>,
}

impl Events {
    /// Waits for events; what came at once is answered at once.
    ///
    /// # Errors
    /// The stream has ended, as it does when the engine ends.
    pub async fn next(&mut self) -> Result<Vec<Event>, EngineError> {
        if let Some(answer) = &mut self.answer {
            let answer = answer.await;
            self.answer = None;
            let answer = answer.map_err(|error| self.api.broken(error))??;
            self.body = Some(answer);
        }
        let Some((body, _)) = &mut self.body else { return Err(self.api.broken("its events have ended")) };
        loop {
            let Some(frame) = body.frame().await else {
                return Err(self.api.broken("its events have ended"));
            };
            let frame = frame.map_err(|error| self.api.broken(error))?;
            let Ok(data) = frame.into_data() else { continue };
            self.left.extend_from_slice(&data);
            if self.left.len() > MOST_EVENT_BYTES {
                return Err(self.api.broken("it sends an event without an end"));
            }
            let Some(end) = self.left.iter().rposition(|byte| *byte == b'\n') else { continue };
            let whole: Vec<u8> = self.left.drain(..=end).collect();
            let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            let what = "GET /events";
            let read = |line| {
                serde_json::from_slice(line).map_err(|source| EngineError::Unreadable {
                    socket: self.api.socket.clone(),
                    what: what.to_owned(),
                    source,
                })
            };
            return lines.map(read).collect();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            answer.abort();
        }
    }
}
