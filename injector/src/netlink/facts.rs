//! Where addresses live: what one namespace knows of links, addresses, neighbours, routes and bridge ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::RouteMessageBuilder;

use super::nat::Nat;
use super::{LinkFacts, dump, links, networks};

/// What one namespace knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its interfaces.
    pub links: Vec<LinkFacts>,
    /// Local addresses, by interface index.
    pub addresses: Vec<(u32, IpAddr)>,
    /// The networks of these addresses, by interface index: what is on the link there.
    pub networks: Vec<(u32, IpNet)>,
    /// Neighbours: the interface index, the address, its MAC.
    pub neighbours: Vec<(u32, IpAddr, [u8; 6])>,
    /// Routes with an outgoing interface; default routes are left out, since they say nothing of any one address.
    pub routes: Vec<Route>,
    /// Default routes.
    pub defaults: Vec<Route>,
    /// Bridge ports, by the MAC addresses behind them.
    pub ports: Vec<([u8; 6], u32)>,
    /// Whether it passes others' packets on.
    pub forwards: bool,
    /// What its rules do to the addresses of packets. They are read apart: see [`super::nat::read`].
    pub nat: Arc<Nat>,
}

/// A way out of a namespace; a route over several ways is several of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub net: IpNet,
    /// Through which interface.
    pub index: u32,
    /// Over which next hop; `None` if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
}

impl Facts {
    /// Asks the calling thread's namespace.
    pub async fn ask() -> io::Result<Self> {
        let networks = networks().await?;
        let mut facts = Self {
            links: links().await?,
            addresses: networks.iter().map(|(index, net)| (*index, net.addr())).collect(),
            networks,
            ..Self::default()
        };
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            facts.neighbours.extend(neighbours(family, neighbour).await?);
        }
        facts.ports = neighbours(AddressFamily::Bridge, port).await?;
        // A bridge's own addresses are listed as entries of its ports: they are about the port, not of a peer.
        let own: Vec<[u8; 6]> = facts.links.iter().filter_map(|link| link.mac).collect();
        facts.ports.retain(|(mac, _)| !own.contains(mac));
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for request in [v4, v6] {
            let found = dump::read(RouteNetlinkMessage::GetRoute(request), |message| match message {
                RouteNetlinkMessage::NewRoute(route) => routes(&route),
                _ => Vec::new(),
            });
            let (defaults, others): (Vec<Route>, Vec<Route>) =
                found.await?.into_iter().partition(|route| route.net.prefix_len() == 0);
            facts.routes.extend(others);
            facts.defaults.extend(defaults);
        }
        // The file of the calling thread's namespace; IPv6 may be absent.
        facts.forwards = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].iter().any(|of| {
            std::fs::read_to_string(format!("/proc/sys/net/{of}")).is_ok_and(|value| value.trim() != "0")
        });
        Ok(facts)
    }

    /// An interface by its index.
    pub fn link(&self, index: u32) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// What is kept of the neighbours of a family, or of the entries of bridges.
async fn neighbours<T>(
    family: AddressFamily,
    keep: impl Fn(&NeighbourMessage) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut question = NeighbourMessage::default();
    question.header.family = family;
    dump::read(RouteNetlinkMessage::GetNeighbour(question), |message| match message {
        RouteNetlinkMessage::NewNeighbour(entry) => keep(&entry),
        _ => None,
    })
    .await
}

pub(super) fn mac(entry: &NeighbourMessage) -> Option<[u8; 6]> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

/// A MAC address of one device, and the bridge port behind which it was learned. What a device takes in by itself, such
/// as groups or the addresses of macvlans on it, is listed too, without a bridge.
pub(super) fn port(entry: &NeighbourMessage) -> Option<([u8; 6], u32)> {
    let is_bridged =
        entry.attributes.iter().any(|attribute| matches!(attribute, NeighbourAttribute::Controller(_)));
    let mac = mac(entry).filter(|mac| is_bridged && mac[0] & 1 == 0)?;
    Some((mac, entry.header.ifindex))
}

pub(super) fn neighbour(entry: &NeighbourMessage) -> Option<(u32, IpAddr, [u8; 6])> {
    let address = entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    Some((entry.header.ifindex, address, mac(entry)?))
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => address(gateway),
        RouteAttribute::Via(RouteVia::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
        _ => None,
    })
}

/// The ways of a route, a default route included.
pub(super) fn routes(message: &RouteMessage) -> Vec<Route> {
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(destination) => address(destination),
        _ => None,
    });
    // A default route says no destination.
    let destination = destination.or(match message.header.address_family {
        AddressFamily::Inet => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AddressFamily::Inet6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    });
    let net = destination
        .and_then(|destination| IpNet::new(destination, message.header.destination_prefix_length).ok());
    let Some(net) = net else { return Vec::new() };
    let mut found = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                found.push(Route { net, index: *index, gateway: gateway(&message.attributes) });
            }
            RouteAttribute::MultiPath(hops) => found.extend(hops.iter().map(|hop| Route {
                net,
                index: hop.interface_index,
                gateway: gateway(&hop.attributes),
            })),
            _ => {}
        }
    }
    found
}
