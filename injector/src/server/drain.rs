//! Drains the rest of a request's body when its answer is ready: it is read first, so that a client that
//! still writes can continue to read, and the connection stays usable.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// The most bytes that are read for nothing before an answer.
const MOST: usize = 16 * 1024 * 1024;
/// The time that remains for this where the body's own is over.
const LEAST_TIME: Duration = Duration::from_millis(200);
/// How long a connection that ends is still read from, and
const LINGER: Duration = Duration::from_secs(2);
/// how many bytes.
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A body that its handler reads as far as it wants.
pub(super) struct BorrowedBody(Arc<Mutex<Incoming>>);

/// The body of a [`BorrowedBody`], for what the handler has left.
pub(super) struct RestOfBody {
    body: Arc<Mutex<Incoming>>,
    until: Instant,
}

/// Whether anything of the body is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Nothing is left: the next request can follow.
    Whole,
    /// Some of it is left: the connection ends with this answer.
    Part,
}

/// Lends a body to a handler. Its time begins now.
pub(super) fn lend(body: Incoming, time: Duration) -> (BorrowedBody, RestOfBody) {
    let body = Arc::new(Mutex::new(body));
    (BorrowedBody(Arc::clone(&body)), RestOfBody { body, until: Instant::now() + time })
}

fn poll_frame(
    body: &Mutex<Incoming>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    // No code panics while the body is locked.
    Pin::new(&mut *body.lock().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx)
}

impl Body for BorrowedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        poll_frame(&self.0, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

impl RestOfBody {
    /// Reads what is left, up to a number of bytes and a time.
    pub async fn drain(self) -> Drained {
        let until = self.until.max(Instant::now() + LEAST_TIME);
        let reading = async {
            let mut left = MOST;
            loop {
                match poll_fn(|cx| poll_frame(&self.body, cx)).await {
                    None => return Drained::Whole,
                    Some(Err(_)) => return Drained::Part,
                    Some(Ok(frame)) => {
                        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                            return Drained::Part;
                        };
                        left = rest;
                    }
                }
            }
        };
        tokio::time::timeout_at(until, reading).await.unwrap_or(Drained::Part)
    }
}

/// Reads on from a connection after its last answer, until its client closes it: a socket that is closed with unread
/// bytes breaks the client's write, before it has read the answer.
pub(super) async fn linger(socket: &AsyncFd<std::os::fd::OwnedFd>) {
    let reading = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut left = LINGER_BYTES;
        while let Ok(mut guard) = socket.readable().await {
            let read = guard.try_io(|socket| Ok(rustix::io::read(socket, &mut buffer)?));
            match read {
                Ok(Ok(count @ 1..)) if count <= left => left -= count,
                Err(_would_block) => {}
                Ok(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
}
