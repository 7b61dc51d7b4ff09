//! Finds out who listens at the socket that is already there: a daemon that lives, or one that is about to be
//! gone.
//!
//! A process that is killed keeps its socket open until its last thread has ended, which takes longest for one with many
//! threads. Whoever connects meanwhile gets a connection that ends without an answer.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// How long an answer, or an end, is waited for: the time of a lease.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that ends connections without an answer may take to be gone.
const DYING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The server answers it, whoever asks, and does nothing.
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: injector\r\nConnection: close\r\n\r\n";

/// The listener at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    /// Nobody: the socket is stale.
    None,
    /// A process that answers, or that neither answers nor ends, as one that is stopped.
    Living,
}

/// Finds out whether someone listens at a socket; waits for a listener that is dying to be gone.
pub(super) fn of(path: &Path) -> io::Result<Occupant> {
    let end = Instant::now() + DYING;
    loop {
        let stream = match connected(path)? {
            Connected::Stream(stream) => stream,
            Connected::Full => return Ok(Occupant::Living),
            Connected::Nobody => return Ok(Occupant::None),
        };
        if !ends_without_answer(stream) || Instant::now() >= end {
            return Ok(Occupant::Living);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The result of connecting.
enum Connected {
    /// A connection.
    Stream(UnixStream),
    /// Somebody listens, for whom so many others wait that no connection is made.
    Full,
    /// Nobody listens.
    Nobody,
}

/// Connects, without waiting.
fn connected(path: &Path) -> io::Result<Connected> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(Connected::Stream(socket.into())),
        // A full backlog: a socket that waits would wait for as long as it stays full.
        Err(Errno::AGAIN) => Ok(Connected::Full),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Connected::Nobody),
        Err(error) => Err(error.into()),
    }
}

/// Whether a connection ends without an answer.
fn ends_without_answer(mut stream: UnixStream) -> bool {
    let asked = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .and_then(|()| stream.write_all(QUESTION))
        .and_then(|()| stream.read(&mut [0]));
    match asked {
        Ok(read) => read == 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    struct Socket(PathBuf);

    impl Socket {
        fn listening(name: &str) -> (Self, UnixListener) {
            let path = std::env::temp_dir().join(format!("injector-{name}-{}", std::process::id()));
            let listener = UnixListener::bind(&path).unwrap();
            (Self(path), listener)
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn one_that_is_dying_is_waited_for() {
        let (socket, listener) = Socket::listening("dying");
        let dying = std::thread::spawn(move || {
            let asked = listener.accept().unwrap();
            drop(listener);
            drop(asked);
        });
        assert_eq!(of(&socket.0).unwrap(), Occupant::None);
        dying.join().unwrap();
    }

    #[test]
    fn one_that_answers_lives_and_so_does_one_that_is_stopped() {
        injector_lab::in_time(Duration::from_millis(300), || {
            let (socket, listener) = Socket::listening("living");
            let answering = std::thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
                // The request is read, as a server does: else the connection ends by a reset.
                let _ = stream.read(&mut [0; 256]);
                listener
            });
            let asked = Instant::now();
            assert_eq!(of(&socket.0).unwrap(), Occupant::Living);
            assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
            let listener = answering.join().unwrap();
            assert_eq!(of(&socket.0).unwrap(), Occupant::Living, "it answers no more, and is there");

            // The listener's queue is full: no answer is waited for.
            let mut waiting = Vec::new();
            while let Connected::Stream(stream) = connected(&socket.0).unwrap() {
                waiting.push(stream);
            }
            assert!(!waiting.is_empty());
            let asked = Instant::now();
            assert_eq!(of(&socket.0).unwrap(), Occupant::Living);
            assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
            drop((waiting, listener));
            assert_eq!(of(&socket.0).unwrap(), Occupant::None);
        });
    }
}
