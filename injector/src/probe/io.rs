//! The operations of every connection of a probe.

use tokio::io::{AsyncRead, AsyncWrite};

/// The operations of a connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}
