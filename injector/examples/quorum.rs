//! A small cluster service to cut apart: each node answers `GET /` with 200 only while it receives heartbeats
//! of a majority.
//!
//! The leader of a node is the first by name of the nodes whose heartbeats it receives, as long as it has a
//! quorum.
//!
//! Nodes are joined by real TCP connections. Each node dials every other one, after a UDP *knock* that must be
//! answered; over the connection both sides send heartbeats. A node that has been silent for [`SILENCE`] counts as
//! lost: its connections are closed and dialled again, with exponential backoff.
//!
//! Faults can be planted: a delay in one phase of the recovery, answers that fail at random, and nodes that are
//! stuck after some heals. One line per change of state goes to stderr.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::{Parser, ValueEnum};
use injector_core::clock::Span;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, interval, sleep, timeout};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// A node unheard for this long is lost.
const SILENCE: Duration = Duration::from_secs(1);
/// A knock, and then a connect, may take this long.
const DIAL: Duration = Duration::from_millis(500);
/// The first and the longest pause between two attempts to dial.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

#[derive(Parser)]
#[command(about = "One node of a small quorum service, with faults to plant")]
struct Args {
    /// This node's name.
    #[arg(long)]
    node: String,
    /// Its addresses, for clients and for peers.
    #[arg(long, required = true, value_delimiter = ',')]
    listen: Vec<IpAddr>,
    /// The port for clients.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The port for peers, TCP and UDP.
    #[arg(long, default_value_t = 7000)]
    peer_port: u16,
    /// The other nodes.
    #[arg(long, value_delimiter = ',', value_name = "NAME=IP")]
    peers: Vec<Peer>,
    /// The chance of being stuck after quorum was lost and found again.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    stuck_probability: f64,
    /// How long a stuck node fails.
    #[arg(long, default_value = "5s")]
    stuck_for: Span,
    /// The answers that a stuck node still gives before it fails.
    #[arg(long, default_value_t = 0)]
    stuck_after_ok: u32,
    /// How a stuck node fails.
    #[arg(long, value_enum, default_value = "refuse")]
    stuck_mode: StuckMode,
    /// The chance that an answer fails for no reason.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    error_rate: f64,
    /// How long a failing answer is held back.
    #[arg(long, default_value = "0s")]
    hang_for: Span,
    /// The phase of the recovery that --delay lengthens.
    #[arg(long, value_enum)]
    delay_phase: Option<Phase>,
    /// The planted delay.
    #[arg(long, default_value = "0s")]
    delay: Span,
    /// Seeds every choice, together with the node's name.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// `n2=10.99.0.2`
#[derive(Clone)]
struct Peer {
    name: String,
    address: IpAddr,
}

impl std::str::FromStr for Peer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("write a peer as NAME=IP, such as n2=10.99.0.2")?;
        let address = address.parse().map_err(|_| format!("\"{address}\" is not an IP address"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a share from 0 to 1".to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StuckMode {
    /// 503 at once (or after --hang-for).
    Refuse,
    /// No answer until the node is no longer stuck.
    Hang,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Between the answered knock and the dial.
    Reconnect,
    /// Between the connection and its first heartbeat.
    Resync,
    /// Between the quorum and the first 200.
    Response,
}

/// What a node knows and is asked about.
struct Node {
    args: Args,
    state: Mutex<NodeState>,
}

struct NodeState {
    /// When the last heartbeat of each peer came.
    heard: BTreeMap<String, Instant>,
    /// Since when this node has a quorum.
    quorum_since: Option<Instant>,
    /// Whether it ever had one: only a quorum *regained* may leave it stuck.
    had_quorum: bool,
    stuck: Stuck,
    /// Draws stuckness and failing answers.
    faults: ChaCha8Rng,
}

/// The planted fault "ready, but not settled".
#[derive(Clone, Copy)]
enum Stuck {
    No,
    /// So many good answers are left.
    After(u32),
    Until(Instant),
}

impl Node {
    fn new(args: Args) -> Self {
        let state = NodeState {
            heard: BTreeMap::new(),
            quorum_since: None,
            had_quorum: false,
            stuck: Stuck::No,
            faults: rng(args.seed, &args.node, "faults"),
        };
        Self { args, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().expect("no thread panics while it holds the state")
    }

    fn log(&self, what: impl fmt::Display) {
        eprintln!("{}: {what}", self.args.node);
    }

    fn delay_in(&self, phase: Phase) -> Duration {
        if self.args.delay_phase == Some(phase) { self.args.delay.0 } else { Duration::ZERO }
    }

    fn record_message(&self, peer: &str) {
        if self.args.peers.iter().any(|known| known.name == peer)
            && self.state().heard.insert(peer.to_owned(), Instant::now()).is_none()
        {
            self.log(format_args!("hears {peer}"));
        }
        self.review();
    }

    /// Forgets the silent and draws the consequences: quorum lost, quorum found.
    fn review(&self) {
        let mut state = self.state();
        state.heard.retain(|peer, last| {
            let fresh = last.elapsed() < SILENCE;
            if !fresh {
                self.log(format_args!("no longer hears {peer}"));
            }
            fresh
        });
        let nodes = self.args.peers.len() + 1;
        let has_quorum = (state.heard.len() + 1) * 2 > nodes;
        if has_quorum == state.quorum_since.is_some() {
            return;
        }
        state.quorum_since = has_quorum.then(Instant::now);
        self.log(if has_quorum { "has a quorum" } else { "has lost the quorum" });
        state.stuck = Stuck::No;
        if has_quorum && state.had_quorum && state.faults.random_bool(self.args.stuck_probability) {
            self.log("will be stuck");
            state.stuck = Stuck::After(self.args.stuck_after_ok);
        }
        state.had_quorum |= has_quorum;
    }

    /// The first by name of the nodes whose heartbeats this one receives, itself included, while it has a
    /// quorum.
    fn leader(&self) -> Option<String> {
        let state = self.state();
        state.quorum_since?;
        state.heard.keys().chain([&self.args.node]).min().cloned()
    }

    /// Decides one answer: its status, and how long it is held back.
    fn answer(&self) -> (StatusCode, Duration) {
        self.review();
        let refused = (StatusCode::SERVICE_UNAVAILABLE, self.args.hang_for.0);
        let mut state = self.state();
        let Some(since) = state.quorum_since else { return refused };
        if since.elapsed() < self.delay_in(Phase::Response) {
            return refused;
        }
        match state.stuck {
            Stuck::After(0) => {
                self.log("is stuck");
                state.stuck = Stuck::Until(Instant::now() + self.args.stuck_for.0);
            }
            Stuck::After(left) => state.stuck = Stuck::After(left - 1),
            Stuck::Until(end) if end <= Instant::now() => {
                self.log("is no longer stuck");
                state.stuck = Stuck::No;
            }
            Stuck::No | Stuck::Until(_) => {}
        }
        if let Stuck::Until(end) = state.stuck {
            return match self.args.stuck_mode {
                StuckMode::Refuse => refused,
                StuckMode::Hang => (StatusCode::OK, end.saturating_duration_since(Instant::now())),
            };
        }
        if state.faults.random_bool(self.args.error_rate) {
            return (StatusCode::INTERNAL_SERVER_ERROR, self.args.hang_for.0);
        }
        (StatusCode::OK, Duration::ZERO)
    }
}

async fn serve_client(State(node): State<Arc<Node>>) -> (StatusCode, Json<serde_json::Value>) {
    let (status, held_back) = node.answer();
    sleep(held_back).await;
    let leader = node.leader();
    let state = match &leader {
        Some(leader) if *leader == node.args.node => "leader",
        Some(_) => "follower",
        None => "alone",
    };
    let heard: Vec<String> = node.state().heard.keys().cloned().collect();
    let body = serde_json::json!({
        "node": node.args.node, "heard": heard, "ok": status.is_success(), "leader": leader, "state": state,
    });
    (status, Json(body))
}

/// Keeps one connection to a peer, forever.
async fn dial_for_ever(node: Arc<Node>, peer: Peer) {
    let mut jitter = rng(node.args.seed, &node.args.node, &peer.name);
    let mut backoff = BACKOFF.0;
    loop {
        if let Ok(stream) = dial(&node, &peer).await {
            node.log(format_args!("is connected to {}", peer.name));
            backoff = BACKOFF.0;
            let end = converse(&node, stream, node.delay_in(Phase::Resync)).await;
            node.log(format_args!("has lost its connection to {}: {end}", peer.name));
        }
        // Full jitter over the upper half: nodes that were cut together must not dial in step.
        sleep(backoff.mul_f64(jitter.random_range(0.5..1.0))).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// Knocks, waits for the answer, connects.
async fn dial(node: &Node, peer: &Peer) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(peer.address, node.args.peer_port);
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    // Empty: a link carries once payload went both ways, and what this one waits for is the connection.
    socket.send(&[]).await?;
    timeout(DIAL, socket.recv(&mut [0; 16])).await??;
    sleep(node.delay_in(Phase::Reconnect)).await;
    timeout(DIAL, TcpStream::connect(address)).await?
}

/// Sends and receives heartbeats until the other side is silent; says how it ended.
async fn converse(node: &Node, mut stream: TcpStream, delay: Duration) -> String {
    // Closing resets: what was sent to a lost node is not sent again after a heal, as if the connection still served.
    if let Err(error) = stream.set_zero_linger() {
        return error.to_string();
    }
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let heartbeat = format!("{}\n", node.args.node);
    let send = async {
        sleep(delay).await;
        let mut beats = interval(HEARTBEAT);
        loop {
            beats.tick().await;
            if let Err(error) = writer.write_all(heartbeat.as_bytes()).await {
                return error.to_string();
            }
        }
    };
    let hear = async {
        // The planted delay holds back the first heartbeat of both sides, so it must not look like silence.
        let mut patience = SILENCE + delay;
        loop {
            match timeout(patience, lines.next_line()).await {
                Ok(Ok(Some(peer))) => node.record_message(&peer),
                Ok(Ok(None)) => return "closed by the peer".to_owned(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("silent for {patience:?}"),
            }
            patience = SILENCE;
        }
    };
    tokio::select! { end = send => end, end = hear => end }
}

async fn accept_for_ever(node: Arc<Node>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let node = Arc::clone(&node);
            tokio::spawn(async move { converse(&node, stream, node.delay_in(Phase::Resync)).await });
        } else {
            // Out of descriptors, most likely: time heals that.
            sleep(HEARTBEAT).await;
        }
    }
}

async fn answer_knocks(socket: UdpSocket) {
    let mut knock = [0; 16];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut knock).await {
            // A lost answer is the same to the knocker as a lost knock.
            let _ = socket.send_to(&knock[..length], from).await;
        }
    }
}

/// A generator of its own for each purpose, so that how often one is used does not change another's draws.
fn rng(seed: u64, node: &str, purpose: &str) -> ChaCha8Rng {
    // FNV-1a: the standard hasher's values may change between releases.
    let hash =
        node.bytes().chain([0]).chain(purpose.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    ChaCha8Rng::seed_from_u64(seed ^ hash)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let node = Arc::new(Node::new(Args::parse()));
    for &address in &node.args.listen {
        let (client, peer) = ((address, node.args.port), (address, node.args.peer_port));
        let clients = TcpListener::bind(client).await.with_context(|| format!("listening on {client:?}"))?;
        let peers = TcpListener::bind(peer).await.with_context(|| format!("listening on {peer:?}"))?;
        let knocks = UdpSocket::bind(peer).await.with_context(|| format!("listening on {peer:?}/udp"))?;
        let router = Router::new().route("/", get(serve_client)).with_state(Arc::clone(&node));
        tokio::spawn(async move { axum::serve(clients, router).await });
        tokio::spawn(accept_for_ever(Arc::clone(&node), peers));
        tokio::spawn(answer_knocks(knocks));
    }
    for peer in node.args.peers.clone() {
        tokio::spawn(dial_for_ever(Arc::clone(&node), peer));
    }
    let mut reviews = interval(HEARTBEAT);
    loop {
        reviews.tick().await;
        node.review();
    }
}
