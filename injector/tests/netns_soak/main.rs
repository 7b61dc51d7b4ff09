//! What wears a daemon down: cuts and heals by the thousand, readers that do not read, floods on cut links, interfaces that
//! come and go. What it takes and how fast it answers must stay as they were. Needs root. The long forms are
//! `cargo xtask soak cycles`, `stalled`, `flood` and `interfaces`.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/crowd.rs"]
mod crowd;
#[path = "../support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "../support/users.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod users;

mod line;
#[expect(dead_code, reason = "each test program uses a part")]
mod usage;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crowd::Crowd;
use injector_lab::needs;
use line::Line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Daemon, Lab, until};
use usage::Soak;
use users::{A_THIRD, ANOTHER, MEMBER};

const CUT: &str = r#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

/// A server that accepts all connections until this is dropped. (With a full backlog, probes would wait until they time out,
/// and more of them would be on their way.)
struct Accepting(TcpListener);

impl Accepting {
    fn start(listener: TcpListener) -> Self {
        let other = listener.try_clone().unwrap();
        std::thread::spawn(move || while other.accept().is_ok() {});
        Self(listener)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// Two peers, and an endpoint on the second one that the first one probes.
fn lab_with_an_endpoint() -> (Lab, Daemon, Accepting) {
    let lab = Lab::switched(2);
    // Others reach the socket.
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Accepting::start(lab.within("n2", || TcpListener::bind((lab.ipv4(2), 8080)).unwrap()));
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let config = format!(
        "socket: {{ group: nogroup }}\n{}interfaces: [{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}]\nendpoints:\n  - {{ name: e, \
         peers: [n2], netns: {n1}, probe: {{ tcp: {{ target: \"{{address}}:8080\" }}, interval: 10ms, timeout: 100ms }} }}\n",
        lab.peers()
    );
    let daemon = Daemon::start(&lab, "d", &config);
    (lab, daemon, server)
}

/// Cuts and heals once; what was dropped is looked at where stock is taken, which is prepared for just before.
fn toggle(
    soak: &mut Soak,
    line: &mut Line,
    (lab, daemon): (&Lab, &Daemon),
    round: usize,
    prepare: impl FnOnce(),
) {
    let (_, took) = line.call("PUT", "/v1/partitions/p", CUT);
    soak.applied(took);
    let is_due = soak.is_due(round);
    if is_due {
        assert!(!lab.reaches(1, 2), "round {round} cut nothing");
    }
    let (_, took) = line.call("DELETE", "/v1/partitions/p", "");
    soak.healed(took);
    if is_due {
        assert!(lab.reaches_soon(1, 2), "round {round} healed nothing");
        prepare();
        soak.take_stock(round, daemon.pid());
    }
}

#[test]
#[needs(root)]
fn cuts_and_heals_by_the_thousand_wear_nothing_down() {
    let cycles = number("INJECTOR_SOAK_CYCLES", 40);
    let (lab, daemon, _server) = lab_with_an_endpoint();
    let mut line = Line::open(daemon.socket());
    let mut soak = Soak::new("cycles", cycles);
    for round in 1..=cycles {
        toggle(&mut soak, &mut line, (&lab, &daemon), round, || ());
    }
    soak.end("An endpoint is probed every 10 ms meanwhile, and each record is kept as long as the daemon keeps records.");
}

/// How many readers stall at a time: of three users, each of whom may have half of what the two others leave of 64.
const STALLED: usize = 48;

/// Connections whose answers nobody reads.
fn stall(socket: &Path) -> Vec<UnixStream> {
    let paths = ["/v1/events", "/v1/events", "/v1/partitions", "/v1/partitions/p/probes"];
    let open = |at: usize| {
        let mut stream = users::connect(socket, [MEMBER, ANOTHER, A_THIRD][at / 4 % 3]);
        // A list that is asked for many times fills the socket.
        let request = format!("GET {} HTTP/1.1\r\nHost: i\r\n\r\n", paths[at % 4]).repeat(64);
        // The daemon may have refused it by now.
        let _ = stream.write_all(request.as_bytes());
        stream
    };
    (0..STALLED).map(open).collect()
}

/// How many connections the daemon of a lab has accepted and not closed: they have the name with which its socket
/// was made.
fn connections(lab: &Lab) -> usize {
    let sockets = std::fs::read("/proc/net/unix").unwrap();
    let (sockets, folder) = (String::from_utf8_lossy(&sockets), format!("{}/", lab.folder().display()));
    let is_accepted = |line: &&str| line.contains(&folder) && line.split_whitespace().nth(5) == Some("03");
    sockets.lines().filter(is_accepted).count()
}

/// Readers that stall, as many as there may be at a time. The daemon closes them after 10 s.
struct Stalled<'a> {
    lab: &'a Lab,
    socket: &'a Path,
    streams: Vec<UnixStream>,
    since: Instant,
    /// How many there have been.
    opened: usize,
}

impl<'a> Stalled<'a> {
    fn new(lab: &'a Lab, socket: &'a Path) -> Self {
        let mut stalled = Self { lab, socket, streams: Vec::new(), since: Instant::now(), opened: 0 };
        stalled.renew();
        stalled
    }

    /// Puts new ones in their places.
    fn renew(&mut self) {
        self.streams.clear();
        // What the daemon has not closed yet counts against its user. One connection is the test's own.
        until("the readers before them are gone", || (connections(self.lab) <= 1).then_some(()));
        self.streams = stall(self.socket);
        (self.since, self.opened) = (Instant::now(), self.opened + STALLED);
        // Then the daemon has all that it needs for them.
        let mut answers: Vec<PollFd<'_>> =
            self.streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        until("each of them has an answer to read", || {
            poll(&mut answers, Some(&Timespec::default())).is_ok_and(|count| count == STALLED).then_some(())
        });
    }
}

#[test]
#[needs(root)]
fn readers_that_stall_wear_nothing_down() {
    let toggles = number("INJECTOR_SOAK_TOGGLES", 40);
    let (lab, daemon, _server) = lab_with_an_endpoint();
    let mut line = Line::open(daemon.socket());
    let mut soak = Soak::new("toggles", toggles);
    let mut stalled = Stalled::new(&lab, daemon.socket());
    for round in 1..=toggles {
        if stalled.since.elapsed() > Duration::from_secs(8) {
            stalled.renew();
        }
        // A look at the network may take longer than the daemon lets them stall: then one stock would count them, and
        // another one would not. The new ones get some events to buffer before the stock is taken.
        toggle(&mut soak, &mut line, (&lab, &daemon), round, || {
            stalled.renew();
            let mut other = Line::open(daemon.socket());
            for _ in 0..10 {
                other.call("PUT", "/v1/partitions/q", CUT);
                other.call("DELETE", "/v1/partitions/q", "");
            }
        });
    }
    let opened = stalled.opened;
    drop(stalled);
    soak.end(&format!("{STALLED} readers at a time read nothing; {opened} in all."));
}

/// Datagrams from one node to another, as many as go.
fn flood(lab: &Lab, from: u8, to: u8, sent: &AtomicU64, stop: &AtomicBool) {
    let socket = lab.within(&format!("n{from}"), || UdpSocket::bind((lab.ipv4(from), 0)).unwrap());
    let to = (lab.ipv4(to), 9);
    while !stop.load(Ordering::Relaxed) {
        // Nobody listens there: some sends return the ICMP error of an earlier one.
        if socket.send_to(&[0; 64], to).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
#[needs(root)]
fn floods_on_cut_links_wear_nothing_down() {
    let toggles = number("INJECTOR_SOAK_FLOODED", 20);
    let (lab, daemon, _server) = lab_with_an_endpoint();
    let mut line = Line::open(daemon.socket());
    let mut soak = Soak::new("toggles", toggles);
    let (sent, stop, mut dropped) = (AtomicU64::new(0), AtomicBool::new(false), 0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (from, to) in [(1, 2), (2, 1)] {
            let (lab, sent, stop) = (&lab, &sent, &stop);
            scope.spawn(move || flood(lab, from, to, sent, stop));
        }
        // A failed check must not leave the flood running.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=toggles {
                let (_, took) = line.call("PUT", "/v1/partitions/p", CUT);
                soak.applied(took);
                // On a busy machine the flood may have no turn for a while.
                let before = sent.load(Ordering::Relaxed);
                until("the flood continues", || (sent.load(Ordering::Relaxed) > before + 100).then_some(()));
                let (_, took) = line.call("DELETE", "/v1/partitions/p", "");
                soak.healed(took);
                let (view, _) = line.call("GET", "/v1/partitions/p", "");
                let packets = view["totals"]["dropped_packets"].as_u64().unwrap();
                assert!(packets > 0, "round {round} dropped nothing: {view}");
                dropped += packets;
                if soak.is_due(round) {
                    soak.take_stock(round, daemon.pid());
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let (sent, seconds) = (sent.into_inner(), begun.elapsed().as_secs_f64());
    let rate = sent as f64 / seconds;
    soak.end(&format!("{sent} datagrams were sent ({rate:.0} a second), and {dropped} packets dropped."));
}

/// How many interfaces come and go at a time.
const CROWD: usize = 20;

#[test]
#[needs(root)]
fn interfaces_that_come_and_go_wear_nothing_down() {
    let rounds = number("INJECTOR_SOAK_INTERFACES", 2 * CROWD).div_ceil(CROWD);
    let lab = Lab::switched(2);
    let mut config = format!("{}interfaces:\n", lab.peers());
    for node in ["n1", "n2"] {
        writeln!(config, "  - {{ name: eth0, netns: {} }}", lab.netns(node)).unwrap();
    }
    let crowd = Crowd::of(&lab, CROWD);
    config += &crowd.entries;
    crowd.make();
    let daemon = Daemon::start(&lab, "d", &config);
    crowd.remove();
    let mut line = Line::open(daemon.socket());
    let attached = |line: &mut Line| {
        let (status, _) = line.call("GET", "/v1/status", "");
        let all = status["attachments"].as_array().unwrap();
        all.iter().filter(|view| view["hook"].is_string()).count()
    };
    line.call("PUT", "/v1/partitions/live", CUT);
    let mut soak = Soak::new("interfaces", rounds);
    for round in 1..=rounds {
        crowd.make();
        until("all are attached", || (attached(&mut line) == CROWD + 2).then_some(()));
        for _ in 0..5 {
            let (_, took) = line.call("PUT", "/v1/partitions/p", CUT);
            soak.applied(took);
            let (_, took) = line.call("DELETE", "/v1/partitions/p", "");
            soak.healed(took);
        }
        crowd.remove();
        until("all are gone", || (attached(&mut line) == 2).then_some(()));
        if soak.is_due(round) {
            assert!(!lab.reaches(1, 2), "the live cut ended");
            // It lasts 60 s at most, and a soak longer.
            line.call("DELETE", "/v1/partitions/live", "");
            assert!(lab.reaches_soon(1, 2));
            soak.take_stock(round * CROWD, daemon.pid());
        }
        line.call("DELETE", "/v1/partitions/live", "");
        line.call("PUT", "/v1/partitions/live", CUT);
    }
    soak.end("Each interface was made, attached to while a cut was live, and removed.");
}
