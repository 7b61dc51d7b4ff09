//! A connection to the daemon that stays open.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

pub struct Line(BufReader<UnixStream>);

impl Line {
    pub fn open(socket: &Path) -> Self {
        Self::on(UnixStream::connect(socket).unwrap())
    }

    /// The same on a connection that is there.
    pub fn on(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(injector_lab::PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// One call that must succeed: its answer, and how long it took.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> (Value, Duration) {
        let asked = Instant::now();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: i\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if status.is_empty() {
                status.clone_from(&line);
            }
            let line = line.trim_end().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).unwrap();
        let took = asked.elapsed();
        let text = String::from_utf8(answer).unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{method} {path}: {status}{text}");
        (serde_json::from_str(&text).unwrap(), took)
    }
}
