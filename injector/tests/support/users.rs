//! Users of this host who are not root, and their requests to the daemon's socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Gid, Uid};

/// A user that owns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

pub const ROOT: User = User { uid: 0, gid: 0 };

/// Users of the group `nogroup`.
pub const MEMBER: User = User { uid: 65534, gid: 65534 };
pub const ANOTHER: User = User { uid: 65533, ..MEMBER };
pub const A_THIRD: User = User { uid: 65532, ..MEMBER };

/// Runs a job as another user, on a thread of its own.
pub fn as_user<T: Send>(user: User, job: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_gid(Gid::from_raw(user.gid)).unwrap();
            rustix::thread::set_thread_uid(Uid::from_raw(user.uid)).unwrap();
            job()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A connection of a user, if the kernel lets it through.
pub fn try_connect(socket: &Path, user: User) -> io::Result<UnixStream> {
    let stream = if user == ROOT {
        UnixStream::connect(socket)?
    } else {
        as_user(user, || UnixStream::connect(socket))?
    };
    stream.set_read_timeout(Some(injector_lab::PATIENCE))?;
    Ok(stream)
}

pub fn connect(socket: &Path, user: User) -> UnixStream {
    try_connect(socket, user).unwrap()
}

/// The status of an answer whose head begins to come.
pub fn status(stream: &mut UnixStream) -> String {
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    String::from_utf8_lossy(&begin[9..]).into_owned()
}

/// One request on a connection of its own: the whole answer, and how long it took.
pub fn call(socket: &Path, user: User, method: &str, path: &str) -> (String, Duration) {
    call_with(socket, user, method, path, "")
}

/// The same with a body.
pub fn call_with(socket: &Path, user: User, method: &str, path: &str, body: &str) -> (String, Duration) {
    let asked = Instant::now();
    let mut stream = connect(socket, user);
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: i\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer, asked.elapsed())
}

/// Opens event streams until one is refused.
pub fn hold_streams(socket: &Path, user: User) -> Vec<UnixStream> {
    let mut held = Vec::new();
    loop {
        let mut stream = connect(socket, user);
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: i\r\n\r\n").unwrap();
        if status(&mut stream) != "200" {
            return held;
        }
        held.push(stream);
        assert!(held.len() < 200, "there is no limit");
    }
}
