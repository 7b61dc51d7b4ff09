//! Attacks by members of the group, on the socket of the API.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::polite::cut;
use crate::scene::{Attack, Attackers, Scene, Setting};
use crate::users::{ANOTHER, MEMBER, User, as_user, hold_streams, try_connect};

pub const ATTACKS: [Attack; 7] = [
    Attack {
        name: "event streams that nobody reads",
        unit: "streams",
        least: 40,
        prepare: |_, _| {
            begin(|scene, attackers| {
                let held: Vec<UnixStream> = [MEMBER, ANOTHER]
                    .iter()
                    .flat_map(|user| hold_streams(scene.daemon.socket(), *user))
                    .collect();
                let mut count = Some(held.len() as u64);
                attackers.hold(held);
                attackers.repeat(move || {
                    std::thread::sleep(Duration::from_millis(10));
                    count.take().unwrap_or_default()
                });
            })
        },
    },
    Attack { name: "heads that do not end", unit: "bytes", least: 100, prepare: |_, _| begin(slow_heads) },
    Attack { name: "long polls", unit: "waiting looks", least: 40, prepare: |_, _| begin(long_polls) },
    Attack {
        name: "60 clients that ask for probes at once",
        unit: "answers",
        least: 20,
        prepare: |_, _| {
            Setting {
        endpoints: "  - { name: e, role: advisory, probe: { exec: { command: [sleep, \"0.02\"] }, interval: 1h, timeout: 5s } }\n".to_owned(),
        ..begin(|scene, attackers| {
            flood(scene, attackers, 60, |_| b"POST /v1/probes HTTP/1.1\r\nHost: i\r\nContent-Length: 0\r\n\r\n".to_vec());
        })
    }
        },
    },
    Attack {
        name: "large bodies, heads and ids",
        unit: "refusals",
        least: 20,
        prepare: |_, _| {
            begin(|scene, attackers| {
                flood(scene, attackers, 8, large);
            })
        },
    },
    Attack {
        name: "one member's 30 clients",
        unit: "answers",
        least: 100,
        prepare: |_, _| {
            begin(|scene, attackers| {
                flood_of(&[MEMBER], scene, attackers, 30, |turn| match turn % 3 {
                    0 => b"GET /v1/partitions HTTP/1.1\r\nHost: i\r\n\r\n".to_vec(),
                    1 => b"GET /v1/status HTTP/1.1\r\nHost: i\r\n\r\n".to_vec(),
                    _ => put("many?dry_run=true", r#"{"shape": {"isolate": ["n2"]}, "for": "60s"}"#),
                });
            })
        },
    },
    Attack {
        name: "lists of probes that nobody reads",
        unit: "requests",
        least: 64,
        prepare: |lab, _| {
            Setting {
        endpoints: ["a", "b", "c", "d"].map(|name| format!(
            "  - {{ name: {name}, role: advisory, peers: [n2], netns: {}, probe: {{ tcp: {{ target: \"{{address}}:81\" }}, interval: 1ms, \
             timeout: 100ms }} }}\n", lab.netns("n1"))).concat(),
        ..begin(unread_lists)
    }
        },
    },
];

fn begin(begin: impl FnOnce(&Scene, &mut Attackers) + 'static) -> Setting {
    Setting { begin: Box::new(begin), ..Setting::default() }
}

fn put(name: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("PUT /v1/partitions/{name} HTTP/1.1\r\nHost: i\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

/// Requests that are too large in one way each.
fn large(turn: u64) -> Vec<u8> {
    let long = "x".repeat(60_000);
    match turn % 4 {
        0 => put("p", &format!(r#"{{"shape": {{"isolate": ["n2"]}}, "request_id": "{long}"}}"#)),
        1 => put("p", &format!(r#"{{"shape": {{"isolate": ["{long}{long}"]}}}}"#)),
        2 => put(&long, "{}"),
        _ => format!("GET /v1/status HTTP/1.1\r\nHost: i\r\nX-Long: {long}{long}\r\n\r\n").into(),
    }
}

/// An impolite client's connection, which is opened again where it was closed.
struct Client {
    socket: PathBuf,
    user: User,
    stream: Option<UnixStream>,
}

impl Client {
    /// How many answers came: one or none.
    fn send(&mut self, request: &[u8]) -> u64 {
        let answered = self.try_send(request);
        if answered.is_err() {
            self.stream = None;
            std::thread::sleep(Duration::from_millis(5));
        }
        answered.is_ok().into()
    }

    fn try_send(&mut self, request: &[u8]) -> io::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = as_user(self.user, || UnixStream::connect(&self.socket))?;
                stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                stream.set_write_timeout(Some(Duration::from_secs(2)))?;
                none.insert(stream)
            }
        };
        // What is refused before it was sent is answered all the same.
        let sent = stream.write_all(request);
        answer(stream)?;
        sent
    }
}

/// Reads one answer.
pub fn answer(stream: &mut impl Read) -> io::Result<()> {
    let mut read = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&piece[..count]);
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if read.len() >= end + 4 + length.unwrap_or(0) {
            return Ok(());
        }
    }
}

/// So many clients of two members, each of which sends what `request` makes of a number.
fn flood(scene: &Scene, attackers: &mut Attackers, clients: u64, request: fn(u64) -> Vec<u8>) {
    flood_of(&[MEMBER, ANOTHER], scene, attackers, clients, request);
}

fn flood_of(
    users: &[User],
    scene: &Scene,
    attackers: &mut Attackers,
    clients: u64,
    request: fn(u64) -> Vec<u8>,
) {
    for (number, user) in (0..clients).zip(users.iter().cycle()) {
        let socket = scene.daemon.socket().to_owned();
        let mut client = Client { socket, user: *user, stream: None };
        let mut turn = number;
        attackers.repeat(move || {
            turn += 1;
            client.send(&request(turn))
        });
    }
}

/// Connections of two members, each asked for what `ask` sends.
fn open(scene: &Scene, count: usize) -> Vec<UnixStream> {
    let users = [MEMBER, ANOTHER].into_iter().cycle().take(count);
    let streams = users.filter_map(|user| try_connect(scene.daemon.socket(), user).ok());
    streams.inspect(|stream| stream.set_nonblocking(true).unwrap()).collect()
}

fn slow_heads(scene: &Scene, attackers: &mut Attackers) {
    let mut streams = open(scene, 64);
    for stream in &mut streams {
        let _ = stream.write_all(b"DELETE /v1/partitions/");
    }
    attackers.repeat(move || {
        std::thread::sleep(Duration::from_millis(20));
        streams.iter_mut().filter_map(|stream| stream.write(b"a").ok()).sum::<usize>() as u64
    });
}

fn long_polls(scene: &Scene, attackers: &mut Attackers) {
    cut(scene.daemon.socket(), "held", r#"{"isolate": ["n3"]}"#);
    let mut streams = open(scene, 64);
    for stream in &mut streams {
        let _ = stream.write_all(b"GET /v1/partitions/held/recovery?wait=60s HTTP/1.1\r\nHost: i\r\n\r\n");
    }
    attackers.repeat(move || {
        std::thread::sleep(Duration::from_millis(100));
        // Those that were refused have an answer, or an end.
        streams.retain_mut(|stream| {
            matches!(stream.read(&mut [0; 1024]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        });
        streams.len() as u64
    });
}

fn unread_lists(scene: &Scene, attackers: &mut Attackers) {
    cut(scene.daemon.socket(), "held", r#"{"isolate": ["n3"]}"#);
    // There is something to list.
    std::thread::sleep(Duration::from_millis(500));
    let request = "GET /v1/partitions/held/probes HTTP/1.1\r\nHost: i\r\n\r\n".repeat(64);
    let socket = scene.daemon.socket().to_owned();
    let (mut streams, mut rounds) = (Vec::new(), 0_u64);
    attackers.repeat(move || {
        std::thread::sleep(Duration::from_millis(50));
        rounds += 1;
        // The daemon closes them after a while.
        if rounds % 100 == 1 {
            streams.clear();
        }
        if streams.len() >= 48 {
            return 0;
        }
        let opened = (0..8).filter_map(|at| {
            let mut stream = try_connect(&socket, [MEMBER, ANOTHER][at % 2]).ok()?;
            stream.set_nonblocking(true).ok()?;
            // As much of it as the socket takes.
            let _ = stream.write(request.as_bytes()).ok()?;
            Some(stream)
        });
        let before = streams.len();
        streams.extend(opened);
        64 * (streams.len() - before) as u64
    });
}
