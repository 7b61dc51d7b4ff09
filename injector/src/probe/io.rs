//! The operations of every connection of a probe, and a connection that is read in small pieces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::in_flight::ALL;

/// The operations of a connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The bytes that one read of each probe under way may take, together,
const PIECES: usize = 1024 * 1024;
/// the most of one,
const LARGEST_PIECE: usize = 32 * 1024;
/// and the least. hyper reads into buffers of 8 KiB and doubles them each time that one is filled; this never fills one.
const SMALLEST_PIECE: usize = 4 * 1024;

/// A connection that is read in small pieces while many probes are under way: so servers that send without end make hyper's
/// buffers no larger than they are at first. Up to 32 probes read as much at a time as they can.
pub(super) struct Pieces<S>(pub S);

/// How much a read takes now.
fn piece() -> usize {
    ALL.share_of(PIECES).clamp(SMALLEST_PIECE, LARGEST_PIECE)
}

impl<S: Io> AsyncRead for Pieces<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = into.take(piece());
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
