//! Peers on this machine: processes that share its addresses, and are distinguished by their sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::Netns;

/// A peer on this machine, and how its sockets are identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// The key that distinguishes its sockets from others'.
    pub by: LocalBy,
    /// The network namespace of its sockets; `None` is the daemon's own.
    pub netns: Option<Netns>,
}

/// The key that distinguishes the sockets of a peer on this machine from others'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalBy {
    /// The ports that its processes listen on.
    Listens(Vec<Listen>),
    /// A process, with what it starts.
    Process(u32),
    /// A cgroup and those below it, by the path from the root of cgroup2, without the first slash.
    Cgroup(PathBuf),
    /// The cgroup of a systemd unit.
    Unit(String),
}

impl std::fmt::Display for LocalBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listens(listens) => {
                let shown: Vec<String> = listens.iter().map(ToString::to_string).collect();
                f.write_str(&shown.join(", "))
            }
            Self::Process(process) => write!(f, "process {process}"),
            Self::Cgroup(path) => write!(f, "cgroup /{}", path.display()),
            Self::Unit(unit) => write!(f, "unit {unit}"),
        }
    }
}

/// Ports that processes of one peer listen on, and nobody else's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// A port of every address.
    Port(u16),
    /// Every port of an address.
    Address(IpAddr),
    /// A port of one address.
    At(IpAddr, u16),
}

impl Listen {
    /// Its address; `None` is every address.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Port(_) => None,
            Self::Address(address) | Self::At(address, _) => Some(address),
        }
    }

    /// Its port; `None` is every port.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Address(_) => None,
            Self::Port(port) | Self::At(_, port) => Some(port),
        }
    }

    /// Whether a socket can be at both.
    pub fn overlaps(self, other: Self) -> bool {
        fn may_be_same<T: PartialEq>(one: Option<T>, two: Option<T>) -> bool {
            one.zip(two).is_none_or(|(one, two)| one == two)
        }
        may_be_same(self.address(), other.address()) && may_be_same(self.port(), other.port())
    }

    /// Whether a socket with this address, `None` for every address, and this port is at it.
    pub fn holds(self, address: Option<IpAddr>, port: u16) -> bool {
        self.address().is_none_or(|own| address == Some(own)) && self.port().is_none_or(|own| own == port)
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Address(address) => write!(f, "every port of {address}"),
            Self::At(address, port) => std::net::SocketAddr::new(*address, *port).fmt(f),
        }
    }
}

impl LocalPeer {
    /// The ports that its processes listen on, if it is known by these.
    pub fn listens(&self) -> &[Listen] {
        match &self.by {
            LocalBy::Listens(listens) => listens,
            LocalBy::Process(_) | LocalBy::Cgroup(_) | LocalBy::Unit(_) => &[],
        }
    }

    /// Where its endpoints are: the first address that it has for itself, else the loopback address.
    pub fn address(&self) -> IpAddr {
        let own = self.listens().iter().find_map(|listen| listen.address());
        own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}
