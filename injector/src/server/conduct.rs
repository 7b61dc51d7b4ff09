//! How a connection behaves in time: slow heads, idleness, readers that do not read.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::refusal;

/// The longest time from the first byte of a request to the end of its head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time without any request.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest time with bytes to write and a peer that takes none.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Some bytes of a head have come.
    Head,
    /// A request is answered.
    Busy,
}

#[derive(Debug)]
struct ConnectionState {
    phase: Phase,
    since: Instant,
    stalled_since: Option<Instant>,
    owns: bool,
    is_ending: bool,
    /// The client's end, to ask whether it is closed.
    client: Option<OwnedFd>,
}

/// The state of one connection that its stream, its handlers and its watchdog share.
#[derive(Clone, Debug)]
pub(super) struct Conduct(Arc<Mutex<ConnectionState>>);

impl Conduct {
    pub fn new() -> Self {
        let (phase, since) = (Phase::Idle, Instant::now());
        let state = ConnectionState {
            phase,
            since,
            stalled_since: None,
            owns: false,
            is_ending: false,
            client: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The conduct of a client that can be asked whether it is still there.
    pub fn of(stream: &UnixStream) -> Self {
        let conduct = Self::new();
        conduct.change(|state| state.client = rustix::io::fcntl_dupfd_cloexec(stream, 0).ok());
        conduct
    }

    /// Whether the client has closed its end: what it asked for can't be answered any more.
    pub fn is_gone(&self) -> bool {
        let mut is_gone = false;
        self.change(|state| is_gone = state.client.as_ref().is_some_and(hung_up));
        is_gone
    }

    /// The connection ends with this answer, though the client may still write.
    pub fn ends(&self) {
        self.change(|state| state.is_ending = true);
    }

    /// Whether it does.
    pub fn is_ending(&self) -> bool {
        let mut is_ending = false;
        self.change(|state| is_ending = state.is_ending);
        is_ending
    }

    fn change(&self, change: impl FnOnce(&mut ConnectionState)) {
        // Every change is one assignment or two: a poisoned state is still a whole one.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn enter(&self, phase: Phase) {
        self.change(|state| (state.phase, state.since) = (phase, Instant::now()));
    }

    /// A request's head is complete; the connection is busy until the guard is dropped.
    pub fn request(&self) -> Answering {
        self.enter(Phase::Busy);
        Answering(self.clone())
    }

    /// A partition hangs on this connection: idleness must not end it.
    pub fn owns_a_partition(&self) {
        self.change(|state| state.owns = true);
    }

    /// Why the connection must end now, if it must.
    pub fn fault(&self, now: Instant) -> Option<&'static str> {
        let mut fault = None;
        self.change(|state| {
            let age = now.saturating_duration_since(state.since);
            fault = match state.phase {
                _ if state
                    .stalled_since
                    .is_some_and(|since| now.saturating_duration_since(since) >= STALL_TIMEOUT) =>
                {
                    Some("the client does not read")
                }
                Phase::Head if age >= HEAD_TIMEOUT => Some("the request's head did not come in time"),
                Phase::Idle if age >= IDLE_TIMEOUT && !state.owns => Some("idle"),
                _ => None,
            };
        });
        fault
    }
}

/// Held while a request is answered.
pub(super) struct Answering(Conduct);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// A stream that reports to a [`Conduct`] what goes over it, and sends a problem where the HTTP library refuses a head.
pub(super) struct Watched<S> {
    stream: S,
    conduct: Conduct,
    /// The problem that is sent in place of the library's refusal, and how much of it was sent.
    refusal: Option<(Vec<u8>, usize)>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, conduct: Conduct) -> Self {
        Self { stream, conduct, refusal: None }
    }

    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        let pending = result.is_pending();
        self.conduct.change(|state| {
            state.stalled_since =
                if pending { Some(state.stalled_since.unwrap_or_else(Instant::now)) } else { None };
        });
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.conduct.change(|state| {
                if state.phase == Phase::Idle {
                    (state.phase, state.since) = (Phase::Head, Instant::now());
                }
            });
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() {
            self.refusal = refusal::instead_of(bytes).map(|answer| (answer, 0));
        }
        let Self { stream, conduct, refusal } = &mut *self;
        let Some((answer, sent)) = refusal else {
            let result = Pin::new(stream).poll_write(cx, bytes);
            return self.wrote(result);
        };
        conduct.ends();
        while *sent < answer.len() {
            match Pin::new(&mut *stream).poll_write(cx, &answer[*sent..]) {
                Poll::Ready(Ok(count @ 1..)) => *sent += count,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                result => return self.wrote(result),
            }
        }
        *refusal = None;
        self.wrote(Poll::Ready(Ok(bytes.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body; the connection is busy until it is sent.
pub(super) struct AnswerBody {
    pub body: axum::body::Body,
    pub _answering: Answering,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether the other end is closed. Bytes that a client sent ahead of an answer hide the end from a read.
pub(super) fn hung_up(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let polled = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_ends_unless_a_partition_hangs_on_it() {
        let conduct = Conduct::new();
        let later = Instant::now() + IDLE_TIMEOUT + Duration::from_secs(1);
        assert_eq!(conduct.fault(Instant::now()), None);
        assert_eq!(conduct.fault(later), Some("idle"));
        conduct.owns_a_partition();
        assert_eq!(conduct.fault(later), None);
    }

    #[test]
    fn a_long_answer_is_not_idleness_but_its_end_begins_it() {
        let conduct = Conduct::new();
        let answering = conduct.request();
        let later = Instant::now() + IDLE_TIMEOUT * 3;
        assert_eq!(conduct.fault(later), None);
        drop(answering);
        assert_eq!(conduct.fault(later), Some("idle"));
    }

    #[tokio::test]
    async fn a_slow_head_and_a_stalled_reader_are_faults() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (ours, mut theirs) = tokio::io::duplex(16);
        let conduct = Conduct::new();
        let mut watched = Watched::new(ours, conduct.clone());
        theirs.write_all(b"GET").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(
            conduct.fault(Instant::now() + HEAD_TIMEOUT),
            Some("the request's head did not come in time")
        );
        let _answering = conduct.request();
        assert_eq!(conduct.fault(Instant::now() + HEAD_TIMEOUT), None);
        let stalled = tokio::time::timeout(Duration::from_millis(20), watched.write_all(&[0; 64])).await;
        assert!(stalled.is_err(), "the pipe holds 16 bytes only");
        assert_eq!(conduct.fault(Instant::now() + STALL_TIMEOUT), Some("the client does not read"));
    }
}
