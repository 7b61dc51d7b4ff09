//! Namespaces joined by a bridge, with the addresses that every such lab has.

use std::net::IpAddr;

#[allow(unused_imports, reason = "each test program uses a part")]
pub use injector_lab::{AttachPoint, CLIENT, Lab, SWITCH};
use injector_lab::{CLIENT_HOST, Subnet};

/// The address of a host number.
pub fn ipv4(host: u8) -> IpAddr {
    Subnet::SHARED.ipv4(host)
}

/// The address of a host number.
pub fn ipv6(host: u8) -> IpAddr {
    Subnet::SHARED.ipv6(host)
}

/// The addresses of a node or the client, IPv4 first.
pub fn addresses(of: &str) -> [IpAddr; 2] {
    let host = if of == CLIENT { CLIENT_HOST } else { of[1..].parse().unwrap() };
    [ipv4(host), ipv6(host)]
}
