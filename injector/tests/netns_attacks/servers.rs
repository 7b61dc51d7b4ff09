//! Attacks by what the daemon probes: servers that answer too much, or never.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::scene::{Attack, Attackers, Setting};
use crate::support::Lab;
use crate::web::{Reply, serve};

/// The port of the servers, which are on the second node.
const PORT: u16 = 8080;
const GRPC: &str = "grpc: { target: \"{address}:8080\", method: lab.Large/Get }";

pub const ATTACKS: [Attack; 7] = [
    Attack {
        name: "gRPC messages of 13 KB",
        unit: "calls",
        least: 100,
        prepare: |lab, attackers| grpc(lab, attackers, Reply::Message),
    },
    Attack {
        name: "gRPC errors of 12 KB",
        unit: "calls",
        least: 100,
        prepare: |lab, attackers| grpc(lab, attackers, Reply::Error),
    },
    Attack {
        name: "gRPC streams without end",
        unit: "calls",
        least: 20,
        prepare: |lab, attackers| grpc(lab, attackers, Reply::Endless),
    },
    Attack { name: "gRPC headers without end", unit: "calls", least: 20, prepare: endless_headers },
    Attack { name: "HTTP bodies without end", unit: "calls", least: 5, prepare: endless_bodies },
    Attack {
        name: "TLS servers that stall in the handshake",
        unit: "connections",
        least: 20,
        prepare: stalled_tls,
    },
    Attack {
        name: "commands that print without end",
        unit: "dry runs by a role",
        least: 2,
        prepare: crate::host::endless_output,
    },
];

pub fn listen(lab: &Arc<Lab>) -> TcpListener {
    lab.within("n2", || TcpListener::bind((lab.ipv4(2), PORT)).unwrap())
}

/// So many endpoints that are probed in one way. The server's node is never cut, so that its answers get through.
pub fn endpoints(lab: &Arc<Lab>, kind: &str, interval: &str, timeout: &str, count: usize) -> Setting {
    let netns = lab.netns("n3");
    let endpoint = |at| {
        // Every other one on a connection that it keeps.
        let connection = if at % 2 == 1 && !kind.starts_with("tcp") { ", connection: pooled" } else { "" };
        format!(
            "  - {{ name: e{at}, role: advisory, peers: [n2], netns: {netns}, probe: {{ {kind}, interval: {interval}, timeout: \
             {timeout}{connection} }} }}\n"
        )
    };
    Setting { endpoints: (0..count).map(endpoint).collect(), ..Setting::default() }
}

/// Four endpoints of one gRPC server, with the interval and the timeout that are the default.
pub fn grpc(lab: &Arc<Lab>, attackers: &mut Attackers, reply: Reply) -> Setting {
    serve(listen(lab), true, reply, attackers);
    endpoints(lab, GRPC, "10ms", "1s", 4)
}

/// Two endpoints, which keep 500 connections open: timeout ÷ interval of each.
pub fn endless_bodies(lab: &Arc<Lab>, attackers: &mut Attackers) -> Setting {
    serve(listen(lab), false, Reply::Endless, attackers);
    let kind = "http: { url: \"http://{address}:8080/\", expect: { body_contains: never } }";
    endpoints(lab, kind, "20ms", "5s", 2)
}

/// Handles each connection on a thread of its own, until it has ended.
fn each_connection(listener: TcpListener, attackers: &mut Attackers, handle: fn(TcpStream)) {
    listener.set_nonblocking(true).unwrap();
    attackers.repeat(move || {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(1));
            return 0;
        };
        stream.set_nonblocking(false).unwrap();
        // The daemon gives up after its timeout.
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        std::thread::spawn(move || handle(stream));
        1
    });
}

/// A server of HTTP/2 whose headers go on in one CONTINUATION after another.
fn endless_headers(lab: &Arc<Lab>, attackers: &mut Attackers) -> Setting {
    each_connection(listen(lab), attackers, |mut stream| {
        let frame = |kind: u8, flags: u8, id: u32, body: &[u8]| {
            let length = (body.len() as u32).to_be_bytes();
            [&length[1..], &[kind, flags], &id.to_be_bytes(), body].concat()
        };
        let (settings, headers, continuation) = (4, 1, 9);
        let _ = stream.read(&mut [0; 4096]);
        let mut begin = frame(settings, 0, 0, &[]);
        begin.extend(frame(settings, 1, 0, &[]));
        // `:status: 200`, and no END_HEADERS.
        begin.extend(frame(headers, 0, 1, &[0x88]));
        // A field without an index: its name and its value have 20 and 4,000 bytes.
        let mut field = vec![0, 20];
        field.extend([b'n'; 20]);
        field.extend([0x7f, 0xa1, 0x1e]);
        field.extend([b'v'; 4000]);
        let more = frame(continuation, 0, 1, &field).repeat(8);
        if stream.write_all(&begin).is_ok() {
            while stream.write_all(&more).is_ok() {}
        }
    });
    endpoints(lab, GRPC, "10ms", "1s", 4)
}

/// A server that takes the client's greeting, and begins an answer that it never completes.
fn stalled_tls(lab: &Arc<Lab>, attackers: &mut Attackers) -> Setting {
    each_connection(listen(lab), attackers, |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        // A handshake record of 16 KiB.
        let _ = stream.write_all(&[22, 3, 3, 0x40, 0]);
        while stream.write_all(&[2]).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    endpoints(lab, "tcp: { target: \"{address}:8080\", tls: {} }", "5ms", "500ms", 2)
}
