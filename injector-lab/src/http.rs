//! Just enough HTTP to see whether a lab is up, and to send a daemon what no client would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::PATIENCE;
use crate::error::Error;

/// How long a service of a lab may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path, from `/` on.
    pub path: &'a str,
    /// A JSON body; empty is none.
    pub json: &'a [u8],
}

impl<'a> Request<'a> {
    /// A GET of a path.
    pub const fn get(path: &'a str) -> Self {
        Self { method: "GET", path, json: b"" }
    }
}

/// Sends a request by TCP; returns the status, and all that follows the status line.
///
/// # Errors
/// No answer came within 5 s.
pub fn over_tcp(to: SocketAddr, request: &Request<'_>) -> Result<(u16, String), Error> {
    let stream = TcpStream::connect_timeout(&to, LIMIT).map_err(Error::io(to.to_string()))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(Error::io("setting a time limit"))?;
    exchange(stream, &to.to_string(), request)
}

/// Sends a request to a Unix socket; returns the status, and all that follows the status line.
///
/// # Errors
/// No answer came within a minute.
pub fn over_unix(socket: &Path, request: &Request<'_>) -> Result<(u16, String), Error> {
    let to = socket.display().to_string();
    let stream = UnixStream::connect(socket).map_err(Error::io(&*to))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(Error::io("setting a time limit"))?;
    exchange(stream, &to, request)
}

/// The body in what follows a status line; empty if the headers have no end.
pub fn body(rest: &str) -> &str {
    rest.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn exchange(mut stream: impl Read + Write, to: &str, request: &Request<'_>) -> Result<(u16, String), Error> {
    let Request { method, path, json } = request;
    // A handler without arguments refuses a body's type even if the body is empty.
    let about = if json.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", json.len())
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n{about}\r\n");
    stream.write_all(head.as_bytes()).map_err(Error::io(format!("sending to {to}")))?;
    // A server that refuses a body by its length need not read it.
    let _ = stream.write_all(json);
    let mut answer = Vec::new();
    // The bytes before an error may be a whole answer.
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let Some((line, rest)) = answer.split_once("\r\n") else {
        read.map_err(Error::io(format!("reading from {to}")))?;
        return Err(Error::Answer(format!("{to} sent no status line: {answer:?}")));
    };
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::Answer(format!("{to} sent {line:?}")))?;
    Ok((status, in_one_piece(rest)))
}

/// What follows a status line, with the chunks of a body joined.
fn in_one_piece(rest: &str) -> String {
    let chunked = rest
        .split_once("\r\n\r\n")
        .filter(|(headers, _)| headers.to_ascii_lowercase().contains("transfer-encoding: chunked"));
    let Some((headers, mut chunks)) = chunked else { return rest.to_owned() };
    let mut whole = format!("{headers}\r\n\r\n");
    // A body that was cut short ends where it does.
    while let Some((length, after)) = chunks.split_once("\r\n") {
        let Ok(length @ 1..) = usize::from_str_radix(length.trim(), 16) else { break };
        whole.push_str(after.get(..length).unwrap_or(after));
        chunks = after.get(length..).unwrap_or_default().trim_start_matches("\r\n");
    }
    whole
}
