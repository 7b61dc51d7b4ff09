//! Just enough HTTP to see whether a lab is up, from inside a namespace.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

const LIMIT: Duration = Duration::from_secs(5);

/// A request.
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path, from `/` on.
    pub path: &'a str,
    /// A JSON body; empty is none.
    pub json: &'a str,
}

/// Sends a request from the namespace of `netns`; answers the status, and all that follows the status line.
pub fn request(netns: &Path, address: SocketAddr, request: &Request) -> Result<(u16, String)> {
    let netns = File::open(netns).with_context(|| format!("opening {}", netns.display()))?;
    // A thread is in a namespace for good: this one ends with the request.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            // SAFETY: setns changes the calling thread alone, and the descriptor is open.
            let entered = unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) };
            ensure!(entered == 0, "entering a namespace: {}", std::io::Error::last_os_error());
            ask(address, request)
        });
        asked.join().expect("asking does not panic")
    })
}

fn ask(address: SocketAddr, Request { method, path, json }: &Request) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("{address}"))?;
    stream.set_read_timeout(Some(LIMIT)).context("setting a time limit")?;
    // A handler without arguments refuses a body's type even if the body is empty.
    let body = if json.is_empty() {
        "\r\n".to_owned()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}", json.len())
    };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{body}")
        .with_context(|| format!("sending to {address}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("reading from {address}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (line, rest) = answer.split_once("\r\n").with_context(|| format!("{address} sent no status line"))?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("{address} sent \"{line}\""))?, rest.to_owned()))
}
