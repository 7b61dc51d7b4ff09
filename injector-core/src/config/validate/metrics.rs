//! `metrics:` the TCP address where metrics are read.

use std::net::{IpAddr, SocketAddr};

use crate::config::read::Node;

const USAGE: &str = "write it as: metrics: { listen: \"127.0.0.1:9464\" }";

/// The address; `None` if there is none, or a fault.
pub(super) fn read(node: &Node<'_>) -> Option<SocketAddr> {
    let table = node.table(USAGE)?;
    let listen = table.require("listen", USAGE).and_then(|node| listen(&node));
    table.finish();
    listen
}

fn listen(node: &Node<'_>) -> Option<SocketAddr> {
    let text =
        node.text("write an address and a port in quotes, such as \"127.0.0.1:9464\" or \"[::1]:9464\"")?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            node.error(
                format!("\"{text}\" leaves the port to the kernel, so that nobody knows where to read"),
                "name a port, such as 9464",
            );
            None
        }
        Ok(address) => Some(address),
        Err(_) => {
            let remedy = match text.parse::<IpAddr>() {
                Ok(IpAddr::V6(address)) => format!("add a port: \"[{address}]:9464\""),
                Ok(IpAddr::V4(address)) => format!("add a port: \"{address}:9464\""),
                Err(_) => {
                    "write an address and a port, such as \"127.0.0.1:9464\" or \"[::1]:9464\"; a host \
                           name is not resolved here"
                        .to_owned()
                }
            };
            node.error(format!("\"{text}\" is not an address with a port"), remedy);
            None
        }
    }
}
