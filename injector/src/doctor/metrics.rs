//! Whether a start could listen at the config's address for metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::check::{Check, CheckResult};
use crate::server::MetricsListener;

/// How long the program that listens there already may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tries the address.
pub(super) fn check(address: SocketAddr) -> Check {
    let check = |verdict, found, remedy| Check { what: "metrics", verdict, found, remedy };
    match MetricsListener::bind(address) {
        Ok(_) if address.ip().is_loopback() => check(CheckResult::Fine, format!("{address} is free"), None),
        Ok(_) => {
            let found = format!(
                "{address} is free, and anyone who reaches it may read the names of peers, endpoints and partitions"
            );
            check(
                CheckResult::Note,
                found,
                Some("name a loopback address if they should not be read from elsewhere"),
            )
        }
        Err(_) if is_a_daemons(address) => {
            check(CheckResult::Fine, format!("a daemon answers at {address}"), None)
        }
        Err(refused) => check(CheckResult::Prevents, refused.to_string(), None),
    }
}

/// Whether a daemon of this kind answers there.
fn is_a_daemons(address: SocketAddr) -> bool {
    let read = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut head = vec![0; 1024];
        let count = stream.read(&mut head)?;
        Ok(String::from_utf8_lossy(&head[..count]).into_owned())
    };
    read().is_ok_and(|text| text.contains("injector_build_info"))
}
