//! The API's server on a socket of its own, over a stand-in for the daemon that answers from a script and reports what
//! it was asked. (The real daemon behind the API is tested with the data plane.)

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use injector::server::command::{
    Command, CommandReceiver, EventFeed, Handle, ProbeList, PutMode, Record, Views,
};
use injector::server::{ApiSocket, serve};
use injector_core::api::{
    Code, EndpointAnswer, Event, EventKind, Healed, HealedBy, HostRecord, LinkCounters, LinkTotals, Outcome,
    PartitionRequest, PartitionState, PartitionView, Phases, Problem, RECORD_SCHEMA, RecoveryRecord,
    ShapePair, Stamped, Status, WireSight,
};
use injector_core::clock::{MonoNs, WallNs};
use injector_core::config;
use injector_core::metrics::Reading;
use injector_core::model::{Direction, Shape, Traffic};
use tokio::sync::{broadcast, oneshot};

/// What the stand-in was asked, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Apply { name: String, request: Box<PartitionRequest>, step: &'static str, connection: u64 },
    Heal(String),
    HealAll,
    Recovery { name: String, generation: Option<u32>, wait: Duration },
    Mark(String),
    Disconnected(u64),
    Other,
}

/// A server with its stand-in; stopped, and the socket removed, when dropped.
pub struct Served {
    pub path: PathBuf,
    pub asked: Receiver<Asked>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

pub fn socket_in(directory: &tempfile::TempDir) -> config::Socket {
    config::Socket {
        path: directory.path().join("api.sock"),
        group: "no-such-group-here".to_owned(),
        mode: 0o660,
        readers: None,
    }
}

impl Served {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = ApiSocket::bind(&socket_in(&directory)).unwrap();
        let path = socket.path().to_owned();
        let (sender, asked) = channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (handle, commands) = Handle::channel(8);
                tokio::spawn(answer(commands, sender));
                serve(socket, handle, async { stopped.await.unwrap_or(()) }).await.unwrap();
            });
        });
        Self { path, asked, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// The first thing asked that the test is looking for; the generous limit is for loaded machines.
    pub fn wait_for(&self, what: impl Fn(&Asked) -> bool) -> Asked {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.asked.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(asked) if what(&asked) => return asked,
                Ok(_) => {}
                Err(error @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("the daemon was never asked: {error}")
                }
            }
        }
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// One request on a connection of its own, as curl would send it.
    pub fn call(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        let mut stream = self.connect();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        HttpResponse::read(&mut stream)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// An HTTP answer, taken apart by hand.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    pub fn read(stream: &mut UnixStream) -> Self {
        let mut bytes = Vec::new();
        // The server may have closed before it read everything: what it said comes first all the same.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// The request of what nobody has applied.
fn some_request() -> PartitionRequest {
    PartitionRequest::new(Shape::Isolate(vec!["n1".into()]))
}

/// Answers by the request's own body where one was applied: by its id a client knows its own partition.
async fn answer(mut commands: CommandReceiver, sender: Sender<Asked>) {
    let mut held = Vec::new();
    let mut applied: BTreeMap<String, PartitionRequest> = BTreeMap::new();
    let (events, _) = broadcast::channel(16);
    while let Some(command) = commands.recv().await {
        let reported = match command {
            Command::Status(reply) => {
                let _ = reply.send(status());
                Asked::Other
            }
            Command::Metrics(reply) => {
                let reading = Reading { version: "9.9.9".to_owned(), ..Reading::default() };
                let _ = reply.send(Box::new(reading));
                Asked::Other
            }
            Command::Apply { name, request, step, whose, reply, .. } => {
                let answer = if name == "taken" {
                    Err(Problem::new(Code::NameTaken, "taken is live with another body").field("name"))
                } else {
                    applied.insert(name.clone(), (*request).clone());
                    Ok(view(&name, PartitionState::Active, &request))
                };
                let _ = reply.send(answer);
                let step = match step {
                    PutMode::Apply => "apply",
                    PutMode::Prepare => "prepare",
                    PutMode::DryRun => "dry-run",
                };
                Asked::Apply { name, request, step, connection: whose.connection.0 }
            }
            Command::Heal { name, reply } => {
                let unknown = Problem::new(Code::UnknownPartition, format!("no partition was named {name}"));
                let _ = reply.send(if name == "ghost" { Err(unknown) } else { Ok(healed(&name)) });
                Asked::Heal(name)
            }
            Command::HealAll(reply) => {
                let _ = reply.send(Ok(vec![healed("a"), healed("b")]));
                Asked::HealAll
            }
            Command::Partitions(reply) => {
                let request = some_request();
                let _ = reply.send(Views(vec![
                    Arc::new(view("recovered", PartitionState::Watched, &request)),
                    Arc::new(view("old", PartitionState::Closed, &request)),
                ]));
                Asked::Other
            }
            Command::Enable { name, reply, .. } | Command::Partition { name, reply, .. } => {
                let request = applied.get(&name).cloned().unwrap_or_else(some_request);
                let _ = reply.send(Ok(view(&name, PartitionState::Active, &request)));
                Asked::Other
            }
            Command::Recovery { name, generation, wait, reply } => {
                match name.as_str() {
                    "pending" => held.push(reply),
                    "ghost" => {
                        let _ = reply
                            .send(Err(Problem::new(Code::UnknownPartition, "no partition was named ghost")));
                    }
                    name => {
                        let _ = reply.send(Ok(Record(Arc::new(record(name)))));
                    }
                }
                Asked::Recovery { name, generation, wait }
            }
            Command::Probes { reply, .. } => {
                let _ = reply.send(Ok(ProbeList::Closed(Arc::default())));
                Asked::Other
            }
            // Of a list that is open alone.
            Command::ProbesPart { reply, .. } => {
                let _ = reply.send(Ok(Vec::new()));
                Asked::Other
            }
            Command::ProbeOnce(reply) => {
                let answer = EndpointAnswer {
                    name: "ingress@n1".to_owned(),
                    scheduled_ns: MonoNs(1_000),
                    done_ns: MonoNs(2_001_000),
                    error: None,
                    wire: Some(WireSight::Seen),
                    wire_seen_ns: Some(MonoNs(1_501_000)),
                };
                let _ = reply.send(vec![answer]);
                Asked::Other
            }
            Command::Mark { text, reply } => {
                let _ = reply.send(mark(9, &text));
                Asked::Mark(text)
            }
            Command::Events { since, reply } => {
                let page = (1..=3).filter(|id| *id > since).map(|id| Arc::new(mark(id, "old"))).collect();
                let _ = reply.send(EventFeed { page, is_more: false, live: events.subscribe() });
                let _ = events.send(Arc::new(mark(4, "new")));
                Asked::Other
            }
            Command::Disconnected(id) => Asked::Disconnected(id.0),
        };
        let _ = sender.send(reported);
    }
}

fn stamped(ns: u64) -> Stamped {
    Stamped { begin_ns: MonoNs(ns), end_ns: MonoNs(ns), wall: WallNs(ns.cast_signed()) }
}

fn healed(name: &str) -> Healed {
    Healed { name: name.to_owned(), generation: 7, at: stamped(6_000_000_000), healed_by: HealedBy::Request }
}

fn mark(id: u64, text: &str) -> Event {
    let kind = EventKind::Mark { text: text.to_owned() };
    Event { id, at_ns: MonoNs(id), wall: WallNs(0), kind }
}

fn view(name: &str, state: PartitionState, request: &PartitionRequest) -> PartitionView {
    let link = |src: &str, dst: &str| LinkCounters {
        src: src.to_owned(),
        dst: dst.to_owned(),
        dropped_packets: Some(3),
        dropped_bytes: Some(300),
    };
    PartitionView {
        name: name.to_owned(),
        generation: 7,
        state,
        request: request.clone(),
        resolved: Shape::Isolate(vec!["n1".into()]),
        roles: BTreeMap::new(),
        seed: None,
        totals: LinkTotals { links: 2, not_here: 0, dropped_packets: Some(6), dropped_bytes: Some(600) },
        links: Some(vec![link("n1", "n2"), link("n2", "n1")]),
        effective: Some(stamped(1_000_000_000)),
        ends_at_ns: Some(MonoNs(6_000_000_000)),
        healed: None,
        coverage: Some(Vec::new()),
        not_here: Some(Vec::new()),
        not_healthy: Some(Vec::new()),
        warnings: Vec::new(),
    }
}

/// A record whose outcome is its name's.
fn record(name: &str) -> RecoveryRecord {
    let outcome = match name {
        "recovered" => Some(Outcome::Recovered),
        "slow" => Some(Outcome::NotRecovered),
        "failed" => Some(Outcome::HarnessFailed),
        _ => None,
    };
    RecoveryRecord {
        schema: RECORD_SCHEMA,
        name: name.to_owned(),
        generation: 7,
        clock: None,
        trial: None,
        attempt: None,
        shape: ShapePair {
            asked: Shape::Isolate(vec!["n1".into()]),
            resolved: Some(Shape::Isolate(vec!["n1".into()])),
            direction: Direction::Both,
            roles: BTreeMap::new(),
        },
        traffic: Some(Traffic::default()),
        seed: None,
        hold_ns: Some(5_000_000_000),
        deadline_ns: 20_000_000_000,
        observe_ns: 12_000_000_000,
        cut: Some(stamped(1_000_000_000)),
        heal: Some(stamped(6_000_000_000)),
        healed_by: Some(HealedBy::Deadline),
        links: Vec::new(),
        endpoints: Vec::new(),
        phases: Phases::default(),
        outage: None,
        heal_to_ready_ns: Some(1_200_000_000),
        heal_to_settled_ns: outcome.filter(|outcome| *outcome == Outcome::Recovered).map(|_| 1_234_000_000),
        host: HostRecord::default(),
        starved: false,
        warnings: Vec::new(),
        lost_events: Some(0),
        proved: true,
        is_final: outcome.is_some(),
        outcome,
        outcome_reason: None,
        closed_by: None,
        observed_until_ns: None,
    }
}

fn status() -> Status {
    Status {
        version: "9.9.9".to_owned(),
        abi: 1,
        kernel: "6.18".to_owned(),
        pid: 1,
        now_ns: MonoNs(2_000_000_000),
        clock: injector_core::clock::HostClock::default(),
        attachments: Vec::new(),
        peers: BTreeMap::new(),
        coverage: None,
        partitions: Vec::new(),
        rules: injector_core::api::Rules::default(),
        endpoints: Vec::new(),
        lost_events: Some(0),
        lost_log_lines: 0,
        config_number: 1,
        refused_config: None,
        counters: BTreeMap::new(),
    }
}
