//! `lab.yaml`: the validated [`Config`], and how it comes from text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::clock::Span;
use crate::model::{PeerId, PeerNames, ProbeOptions, Ready, Scope, Shape};

mod container;
mod error;
mod hook;
mod load;
mod local;
mod netns;
mod probe;
mod probe_kinds;
mod read;
mod role;
pub mod schema;
mod secret;
pub mod text;
mod text_position;
mod validate;

pub use container::{ContainerRef, ENGINE_SOCKETS, Engine, Select, Selector};
pub use error::{ConfigError, ConfigErrors, SHOWN};
pub use hook::Hook;
pub(crate) use load::{check_form, place_of, unread};
pub use local::{Listen, LocalBy, LocalPeer};
pub use netns::Netns;
pub use probe::{
    Exchange, ExecCommand, Family, Hosts, HttpExpect, HttpRequest, Identity, JsonError, JsonValue, PemFile,
    Status, Statuses, Target, Tls, Trust, host_name, host_of,
};
// All of them: a new kind changes nothing here.
pub use probe_kinds::*;
pub use role::{AskedPeer, RoleAnswer, RoleKind, RoleMeaning, RoleRequest, RoleSource};
pub use secret::{Text, digest, without_secrets};

/// The longest deadline and observation: every probe until then is kept in memory.
pub const LONGEST_DEADLINE: Span = Span::secs(3600);
/// The longest `max_for`.
pub const LONGEST_FOR: Span = Span::secs(24 * 3600);

/// A validated configuration: every name resolved, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the API listens.
    pub socket: Socket,
    /// The TCP address where metrics are read too; `None` is the default.
    pub metrics: Option<SocketAddr>,
    /// The peers' names by id.
    pub names: PeerNames,
    /// The peers by id, in the order of `names.peers()` (index 0 is peer id 1).
    pub peers: Vec<Peer>,
    /// The interfaces to attach to.
    pub interfaces: Interfaces,
    /// The endpoints, one for each peer that an endpoint names.
    pub endpoints: Vec<Endpoint>,
    /// When an endpoint counts as ready and settled.
    pub ready: Ready,
    /// How long after the heal the cluster may take.
    pub deadline: Span,
    /// Never dropped.
    pub protect: Vec<Protect>,
    /// How long a partition without `for` lives, and the longest `for`.
    pub max_for: Span,
    /// Named shapes.
    pub presets: BTreeMap<String, Shape>,
    /// The sources of roles, by the role's name.
    pub roles: BTreeMap<String, RoleSource>,
    /// The peers whose links this daemon cuts, sorted; `None` is all of them. A link with neither end here is left to
    /// the daemons of other hosts.
    pub here: Option<Vec<PeerId>>,
    /// Devices that lead nowhere that matters, such as a management NIC: they are no peer's exit.
    pub elsewhere: Vec<Device>,
    /// Where containers are asked about.
    pub engine: Engine,
}

impl Config {
    /// Whether this daemon cuts a peer's links.
    pub fn is_here(&self, peer: PeerId) -> bool {
        peer != PeerId::WORLD && self.here.as_ref().is_none_or(|here| here.contains(&peer))
    }

    /// A peer by its id; `None` for `world`.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(usize::from(id.0).checked_sub(1)?)
    }

    /// The peers on this machine.
    pub fn local_peers(&self) -> impl Iterator<Item = (PeerId, &LocalPeer)> {
        self.peers.iter().filter_map(|peer| Some((peer.id, peer.local.as_ref()?)))
    }

    /// The peers that are containers.
    pub fn containers(&self) -> impl Iterator<Item = (PeerId, &ContainerRef)> {
        self.peers.iter().filter_map(|peer| Some((peer.id, peer.container.as_ref()?)))
    }

    /// Every container that the config names: peers, and where probes start from, roles are asked and peers on this machine
    /// are.
    pub fn followed(&self) -> BTreeSet<ContainerRef> {
        let endpoints = self.endpoints.iter().map(|endpoint| &endpoint.netns);
        let netns = endpoints.chain(self.roles.values().map(|role| &role.netns));
        let netns = netns.chain(self.local_peers().map(|(_, local)| &local.netns));
        let named = netns.filter_map(|netns| match netns {
            Some(Netns::Container(container)) => Some(container),
            _ => None,
        });
        self.containers().map(|(_, container)| container).chain(named).cloned().collect()
    }

    /// Gives the peers that are containers, their endpoints and roles the addresses that they have now. A peer without any
    /// keeps what it had: its probes fail until it is back. Whether an endpoint or a role has another address.
    pub fn place(&mut self, found: &BTreeMap<PeerId, Vec<IpAddr>>) -> bool {
        let first = |peer: PeerId, family: Option<Family>| {
            let mut addresses = found.get(&peer)?.iter().copied();
            addresses.find(|address| family.is_none_or(|family| family.has(*address)))
        };
        for peer in &mut self.peers {
            if let Some(addresses) = found.get(&peer.id).filter(|addresses| !addresses.is_empty()) {
                peer.found.clone_from(addresses);
            }
        }
        let mut has_changed = false;
        let mut set = |place: &mut Option<IpAddr>, new: Option<IpAddr>| {
            if new.is_some() && *place != new {
                *place = new;
                has_changed = true;
            }
        };
        for endpoint in &mut self.endpoints {
            if let Some(peer) = endpoint.peer {
                set(&mut endpoint.address, first(peer, endpoint.family));
            }
        }
        for role in self.roles.values_mut() {
            if let RoleKind::Http { request, .. } = &mut role.kind {
                for peer in &mut request.peers {
                    set(&mut peer.address, first(peer.id, None));
                }
            }
        }
        has_changed
    }

    /// The network namespaces of peers on this machine.
    pub fn local_spaces(&self) -> BTreeSet<Option<Netns>> {
        self.local_peers().map(|(_, local)| local.netns.clone()).collect()
    }

    /// The peer that an address belongs to; see [`owner`].
    pub fn owner(&self, address: IpAddr) -> Option<PeerId> {
        owner(&self.peers, address)
    }
}

/// The API's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// The group that may use it.
    pub group: String,
    /// Its mode, such as 0o660.
    pub mode: u32,
    /// The group whose members may read, and change nothing.
    pub readers: Option<String>,
}

/// The peer that an address belongs to: a listed address comes first, then the longest prefix, as in the
/// programs' maps. `None` if no peer has the address.
pub fn owner(peers: &[Peer], address: IpAddr) -> Option<PeerId> {
    let exact = peers.iter().find(|peer| peer.addresses.contains(&address));
    let by_prefix = || {
        let all = peers.iter().flat_map(|peer| peer.prefixes.iter().map(move |prefix| (peer, prefix)));
        let holding = all.filter(|(_, prefix)| prefix.contains(&address));
        holding.max_by_key(|(_, prefix)| prefix.prefix_len()).map(|(peer, _)| peer)
    };
    exact.or_else(by_prefix).map(|peer| peer.id)
}

/// A peer's identity on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Single addresses.
    pub addresses: Vec<IpAddr>,
    /// Prefixes, host bits zero.
    pub prefixes: Vec<IpNet>,
    /// Its MAC address, used where no IP matches.
    pub mac: Option<[u8; 6]>,
    /// Addresses that it may hold and another peer may take over.
    pub vip: Vec<IpAddr>,
    /// The host's end of its virtual machine's network interface: nothing else is behind it.
    pub tap: Option<Device>,
    /// Whether it passes on what others send, so that its port and its MAC address do not say whose a packet is.
    pub forwards: bool,
    /// The key that identifies its sockets, if it is made of processes on this machine: then it has none of
    /// the above.
    pub local: Option<LocalPeer>,
    /// The container that it is, if it is one: then its addresses and its interfaces are found in it.
    pub container: Option<ContainerRef>,
    /// The addresses that are found in its container; empty until the container was inspected.
    pub found: Vec<IpAddr>,
}

impl Peer {
    /// Whether an address is the peer's: listed, in one of its prefixes, or found in its container.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || self.found.contains(&address)
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// Where its endpoints are: its first single address.
    pub fn service_address(&self) -> Option<IpAddr> {
        self.addresses.first().copied().or_else(|| self.local.as_ref().map(LocalPeer::address))
    }
}

/// A device by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Its name in its namespace.
    pub name: String,
    /// Its namespace; `None` is the daemon's own.
    pub netns: Option<Netns>,
}

/// The interfaces to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// Where the peers' addresses live.
    Auto,
    /// The interfaces of the list.
    Named(Vec<Interface>),
}

/// An interface that programs are attached to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its namespace; `None` is the daemon's own.
    pub netns: Option<Netns>,
    /// The hook to use.
    pub hook: Hook,
    /// The peer that is behind it, and no other: the config's word.
    pub peer: Option<PeerId>,
}

impl Interface {
    /// An interface that discovery found.
    pub fn found(name: &str, netns: Option<&Netns>) -> Self {
        Self { name: name.to_owned(), netns: netns.cloned(), hook: Hook::Auto, peer: None }
    }

    /// Whether it is the interface of that name in that namespace.
    pub fn is(&self, name: &str, netns: Option<&Netns>) -> bool {
        self.name == name && self.netns.as_ref() == netns
    }
}

/// Whether an endpoint gates the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The endpoint gates the verdict.
    Required,
    /// The endpoint is only reported.
    Advisory,
}

/// An instance of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `ingress@n1`, or the bare name if it has no peer.
    pub name: String,
    /// The name without the peer.
    pub base: String,
    /// The peer it runs on.
    pub peer: Option<PeerId>,
    /// The peer's first single address (of [`Self::family`]), if it has a peer.
    pub address: Option<IpAddr>,
    /// The addresses that are wanted, where there are several.
    pub family: Option<Family>,
    /// Its role.
    pub role: Role,
    /// Its stimulus.
    pub probe: Probe,
    /// The payload that the kernel takes as a successful response.
    pub wire: Option<Wire>,
    /// Where the probe starts from; `None` is the daemon's own namespace.
    pub netns: Option<Netns>,
    /// The addresses of its host name; empty until the name was resolved, and without a host name.
    pub hosts: Hosts,
}

impl Endpoint {
    /// The host name that its probes connect to; at most one.
    pub fn host_names(&self, names: &PeerNames) -> BTreeSet<String> {
        let Some(authority) = self.probe.kind.authority() else { return BTreeSet::new() };
        probe::host_names(authority, [(self.peer.map_or("", |peer| names.name(peer)), self.address)])
    }

    /// The address that its packets go to: what the config says, or what a host name was resolved to; `None` for commands
    /// and Unix sockets. `peer` is its peer's name.
    pub fn destination(&self, peer: Option<&str>) -> Option<IpAddr> {
        let filled = probe::fill(
            self.probe.kind.authority()?,
            peer.unwrap_or_default(),
            self.address.unwrap_or(NOWHERE),
        );
        self.address_of(host_of(&filled)).filter(|address| *address != NOWHERE)
    }

    /// The port that its packets go to; `None` for commands and Unix sockets, and where the config leaves it to the scheme.
    pub fn port(&self) -> Option<u16> {
        let authority = self.probe.kind.authority()?;
        authority.rsplit_once(':')?.1.parse().ok()
    }

    /// Whether the probe has a place for the address of its peer, and that is not known: of a container that does not run.
    pub fn lacks_address(&self) -> bool {
        const PLACE: &str = "{address}";
        let kind = &self.probe.kind;
        let words = kind.command().into_iter().flat_map(|command| command.command.iter().map(String::as_str));
        self.address.is_none() && kind.authority().into_iter().chain(words).any(|text| text.contains(PLACE))
    }

    /// The address of a filled target's host, without brackets; `None` if it is a name that was not resolved.
    fn address_of(&self, host: &str) -> Option<IpAddr> {
        match host {
            "localhost" if self.family == Some(Family::Ipv6) => Some(Ipv6Addr::LOCALHOST.into()),
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => self.hosts.get(host).copied().or_else(|| host.parse().ok()),
        }
    }
}

/// A placeholder for a missing address.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A probe's settings; `{seq}`, `{peer}` and `{address}` are filled in at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The request, and which answer is expected.
    pub kind: ProbeKind,
    /// Schedule, timeout and connections.
    pub options: ProbeOptions,
}

/// The payload that the kernel takes as a successful response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The endpoint's TCP port.
    pub port: u16,
    /// The pattern.
    pub success: WireSuccess,
}

/// The pattern of a successful response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireSuccess {
    /// An HTTP/1 status line with 2xx.
    Http,
    /// HTTP/2 HEADERS with `:status 200` followed by DATA.
    Grpc,
    /// Any payload.
    Payload,
    /// A payload that begins with these bytes (at most 16).
    Prefix(Vec<u8>),
}

/// Traffic that is never dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protect {
    /// Ports of a protocol, either side.
    Scope(Scope),
    /// All traffic from and to an address.
    Address(IpAddr),
}

/// The name of an interface with its namespace, for people.
pub fn shown(interface: &Interface) -> String {
    match &interface.netns {
        None => interface.name.clone(),
        Some(netns) => format!("{} in netns {netns}", interface.name),
    }
}

#[cfg(test)]
mod tests;
