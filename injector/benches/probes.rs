//! What a probe costs: processor time of the prober's thread for each answer, by kind, with the real scheduler and real
//! servers in namespaces. Times depend on who else is busy, so the kinds take turns, and each round gives ratios to its
//! own run of `tcp`.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/support/authority.rs"]
#[expect(dead_code, reason = "each program uses a part")]
mod authority;
#[path = "support/result.rs"]
mod result;
#[path = "../tests/support/web_server.rs"]
mod web_server;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use authority::Authority;
use injector::probe::{Rate, prepare, run};
use injector_core::config::Config;
use injector_core::sample::EndpointId;
use injector_lab::Lab;
use result::Run;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use web_server::WebServer;

const ROUNDS: usize = 5;
/// How long a kind is probed before and while it is measured.
const WARM: Duration = Duration::from_millis(200);
const SPAN: Duration = Duration::from_millis(800);

/// A kind of probe: its name, and how the config writes it. `CA` is a path.
const KINDS: [(&str, &str); 11] = [
    ("tcp", "{ tcp: { target: \"{address}:1\" }, interval: 5ms }"),
    (
        "tcp, send and expect",
        "{ tcp: { target: \"{address}:1\", send: \"PING\\r\\n\", expect: \"+PONG\" }, interval: 5ms }",
    ),
    ("http", "{ http: { url: \"http://{address}:2/\" }, interval: 5ms }"),
    ("http, pooled", "{ http: { url: \"http://{address}:2/\" }, interval: 5ms, connection: pooled }"),
    (
        "http, pooled, json",
        "{ http: { url: \"http://{address}:2/\", expect: { json: { pointer: /status, equals: ok } } }, interval: 5ms, connection: pooled }",
    ),
    ("grpc", "{ grpc: { target: \"{address}:3\" }, interval: 5ms }"),
    ("grpc, pooled", "{ grpc: { target: \"{address}:3\" }, interval: 5ms, connection: pooled }"),
    ("https", "{ http: { url: \"https://{address}:4/\", tls: { ca: CA } }, interval: 5ms }"),
    (
        "https, pooled",
        "{ http: { url: \"https://{address}:4/\", tls: { ca: CA } }, interval: 5ms, connection: pooled }",
    ),
    ("grpc over TLS", "{ grpc: { target: \"{address}:4\", tls: { ca: CA } }, interval: 5ms }"),
    (
        "grpc over TLS, pooled",
        "{ grpc: { target: \"{address}:4\", tls: { ca: CA } }, interval: 5ms, connection: pooled }",
    ),
];

fn main() {
    let mut results = Run::begin("probes");
    let lab = Lab::new(2);
    let address = lab.ipv4(1);
    let authority = Authority::new(lab.folder(), "ca");
    let signed = authority.sign("n1", &[&address.to_string()]);
    let listen = |port: u16| lab.within("n1", || TcpListener::bind((address, port)).unwrap());
    answer_pings(listen(1));
    let _servers = [
        WebServer::in_cleartext(listen(2), false),
        WebServer::in_cleartext(listen(3), true),
        WebServer::start(listen(4), &signed),
    ];
    let ca = authority.pem().display().to_string();
    let mut rounds: Vec<Vec<f64>> = KINDS.map(|_| Vec::new()).to_vec();
    for _ in 0..ROUNDS {
        for ((_, probe), samples) in KINDS.iter().zip(&mut rounds) {
            let config = config(&lab.peers(), &probe.replace("CA", &ca));
            samples.push(lab.within("n2", || cost(&config)));
        }
    }
    for ((name, _), samples) in KINDS.iter().zip(&rounds) {
        results.add(format!("probe: {name}"), "µs of processor time an answer", samples.clone());
    }
    let base = rounds[0].clone();
    for ((name, _), samples) in KINDS.iter().zip(&rounds) {
        let ratios = samples.iter().zip(&base).map(|(it, base)| it / base).collect();
        results.add(format!("probe: {name}, to tcp"), "times", ratios);
    }
    results.end();
}

fn config(peers: &str, probe: &str) -> Config {
    let text = format!("{peers}interfaces: auto\nendpoints: [{{ name: e, peers: [n1], probe: {probe} }}]\n");
    let mut config = Config::parse(&text, "bench").unwrap_or_else(|errors| panic!("{errors}"));
    prepare(&mut config, "bench").unwrap_or_else(|errors| panic!("{errors}"));
    config
}

/// Answers each line with `+PONG`, as Redis does to `PING`.
fn answer_pings(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut piece = [0; 64];
                while let Ok(1..) = stream.read(&mut piece) {
                    if stream.write_all(b"+PONG\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Microseconds of this thread's processor time for each answer.
fn cost(config: &Config) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (rate, rates) = watch::channel(Rate::Full);
        let (sink, mut samples) = mpsc::unbounded_channel();
        let peer = Some("n1".to_owned());
        let task =
            tokio::task::spawn_local(run(EndpointId(0), config.endpoints[0].clone(), peer, rates, sink));
        tokio::time::sleep(WARM).await;
        while samples.try_recv().is_ok() {}
        let before = thread_time();
        tokio::time::sleep(SPAN).await;
        let spent = thread_time() - before;
        let mut answers = 0_u32;
        while let Ok(sample) = samples.try_recv() {
            // On a busy machine the prober falls behind: what was never sent costs nothing.
            if !sample.is_unsent() {
                assert_eq!(sample.failure, None, "{:?}", config.endpoints[0].probe.kind);
                answers += 1;
            }
        }
        drop(rate);
        task.await.unwrap();
        spent * 1e6 / f64::from(answers)
    })
}

/// Seconds that this thread has spent, in user space and in the kernel.
fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
