//! The `tcp` probe: a connect is a success.

use tokio::net::TcpStream;

use super::failure::Failure;
use super::fill::{Values, socket_address};

pub(super) async fn probe(target: &str, values: &Values<'_>) -> Result<(), Failure> {
    connect(&values.fill_authority(target), None).await.map(drop)
}

/// Connects to a filled `host:port` on the calling thread.
pub(super) async fn connect(authority: &str, default_port: Option<u16>) -> Result<TcpStream, Failure> {
    let address = socket_address(authority, default_port)?;
    let stream = TcpStream::connect(address).await.map_err(|error| Failure::connect(&error))?;
    // A request in two writes must not wait for the peer's delayed ACK.
    stream.set_nodelay(true).map_err(|error| Failure::connect(&error))?;
    Ok(stream)
}
