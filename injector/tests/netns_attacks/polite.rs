//! A client that asks for nothing unusual, and what the daemon takes while it serves it.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::line::Line;
use crate::usage::{Times, Usage, peak_kib, reset_peak};
use crate::users::{A_THIRD, ROOT, as_user, connect};

const CUT: &str = r#"{"shape": {"isolate": ["n1"]}, "for": "60s"}"#;
/// How many calls there must be at least, or there is no 99th percentile.
const CALLS: usize = 100;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(5);

/// What a polite client saw, and what the daemon took meanwhile.
pub struct Measured {
    pub calls: Times,
    pub heals: Times,
    pub count: usize,
    /// The most that it took,
    pub peak_kib: u64,
    /// and without pages of files, which do not change meanwhile.
    pub own_kib: u64,
}

/// One line of a client: cut, status and heal, by the name that it has for its partition.
fn round(name: &str, mut call: impl FnMut(&str, &str, &str) -> Duration, measured: &mut Measured) {
    let path = format!("/v1/partitions/{name}");
    for (method, path, body) in
        [("PUT", path.as_str(), CUT), ("GET", "/v1/status", ""), ("DELETE", &path, "")]
    {
        let took = call(method, path, body);
        measured.calls.add(took);
        measured.count += 1;
        if method == "DELETE" {
            measured.heals.add(took);
        }
    }
}

/// Cuts, asks and heals for so long, and until there was enough of the attack, on a connection that stays open and on one for
/// each call.
pub fn measure(socket: &Path, pid: u32, time: Duration, is_enough: impl Fn() -> bool) -> Measured {
    let mut measured =
        Measured { calls: Times::default(), heals: Times::default(), count: 0, peak_kib: 0, own_kib: 0 };
    let mut kept = Line::open(socket);
    reset_peak(pid);
    let begun = Instant::now();
    while begun.elapsed() < time
        || measured.count < CALLS
        || (!is_enough() && begun.elapsed() < injector_lab::PATIENCE)
    {
        round("kept", |method, path, body| kept.call(method, path, body).1, &mut measured);
        let fresh = |method: &str, path: &str, body: &str| {
            // Of two members who hold all places but those for root and for heals, a third one has the latter.
            let user = if method == "DELETE" { A_THIRD } else { ROOT };
            // Becoming that user is not the daemon's work.
            let (stream, asked) = as_user(user, || {
                let asked = Instant::now();
                (UnixStream::connect(socket).unwrap(), asked)
            });
            Line::on(stream).call(method, path, body);
            asked.elapsed()
        };
        round("fresh", fresh, &mut measured);
        std::thread::sleep(PAUSE);
    }
    let now = Usage::of(pid);
    measured.peak_kib = peak_kib(pid);
    measured.own_kib = measured.peak_kib.saturating_sub(now.memory_kib - now.own_kib);
    measured
}

/// A cut on a connection of its own.
pub fn cut(socket: &Path, name: &str, shape: &str) {
    let body = format!("{{\"shape\": {shape}, \"for\": \"10m\"}}");
    Line::open(socket).call("PUT", &format!("/v1/partitions/{name}"), &body);
}

/// A heal as well.
pub fn heal(socket: &Path, name: &str) {
    Line::on(connect(socket, A_THIRD)).call("DELETE", &format!("/v1/partitions/{name}"), "");
}
