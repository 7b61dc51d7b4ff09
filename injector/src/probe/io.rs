//! The operations of every connection of a probe, and a connection that is read in small pieces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The operations of a connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The bytes that one read of [`Pieces`] takes. hyper reads into buffers of 8 KiB and doubles them each time that one is
/// filled; this never fills one.
const PIECE: usize = 4 * 1024;

/// A connection of which no read takes more than [`PIECE`]: so a server that sends without end makes hyper's buffers no larger
/// than they are at first.
pub(super) struct Pieces<S>(pub S);

impl<S: Io> AsyncRead for Pieces<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = into.take(PIECE);
        let begin = piece.filled().as_ptr();
        let polled = Pin::new(&mut self.0).poll_read(context, &mut piece);
        assert_eq!(
            begin,
            piece.filled().as_ptr(),
            "the read has put another buffer into the place of its own"
        );
        let read = piece.filled().len();
        // SAFETY: `piece` is the beginning of the unfilled part of `into`, and the read has initialised so many bytes of it.
        unsafe { into.assume_init(read) };
        into.advance(read);
        polled
    }
}

impl<S: Io> AsyncWrite for Pieces<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
