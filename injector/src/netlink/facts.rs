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
use super::nexthops::{self, NextHops};
use super::{LinkFacts, dump, links, networks};

/// The facts about one namespace.
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
    /// The effect of its rules on the addresses of packets. They are read apart: see [`super::nat::read`].
    pub nat: Arc<Nat>,
}

/// A way out of a namespace; a route over several ways is several of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub net: IpNet,
    /// The interface, by its index.
    pub index: u32,
    /// The next hop; `None` if the destination is on the link itself.
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
        Stations { neighbours: facts.neighbours, ports: facts.ports } = Stations::ask().await?;
        // A bridge's own addresses are listed as entries of its ports: they are about the port, not of a peer.
        let own: Vec<[u8; 6]> = facts.links.iter().filter_map(|link| link.mac).collect();
        facts.ports.retain(|(mac, _)| !own.contains(mac));
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut by_object = Vec::new();
        for request in [v4, v6] {
            let found = dump::read(RouteNetlinkMessage::GetRoute(request), |message| match message {
                RouteNetlinkMessage::NewRoute(route) => listed(&route),
                _ => Vec::new(),
            });
            for listed in found.await? {
                match listed {
                    Listed::Route(route) => facts.routes.push(route),
                    Listed::ByObject(net, object) => by_object.push((net, object)),
                }
            }
        }
        if !by_object.is_empty() {
            let objects = NextHops::read()?;
            let hops = by_object.iter().flat_map(|(net, object)| objects.of(*object).map(|hop| (*net, hop)));
            facts.routes.extend(hops.map(|(net, (index, gateway))| Route { net, index, gateway }));
        }
        let (defaults, others) = facts.routes.into_iter().partition(|route| route.net.prefix_len() == 0);
        (facts.defaults, facts.routes) = (defaults, others);
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

/// The MAC addresses that a namespace has learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stations {
    /// As [`Facts::neighbours`].
    pub neighbours: Vec<(u32, IpAddr, [u8; 6])>,
    /// As [`Facts::ports`], with the bridges' own MAC addresses.
    pub ports: Vec<([u8; 6], u32)>,
}

impl Stations {
    /// Asks the calling thread's namespace.
    pub async fn ask() -> io::Result<Self> {
        let mut found = Self::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            found.neighbours.extend(neighbours(family, neighbour).await?);
        }
        found.ports = neighbours(AddressFamily::Bridge, port).await?;
        Ok(found)
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

/// A way of a route, or the destination and the next-hop object of one that says nothing else.
enum Listed {
    Route(Route),
    ByObject(IpNet, u32),
}

/// What a list says of one route.
fn listed(message: &RouteMessage) -> Vec<Listed> {
    match (destination(message), nexthops::object_of(message)) {
        (Some(net), Some(object)) => vec![Listed::ByObject(net, object)],
        _ => routes(message).into_iter().map(Listed::Route).collect(),
    }
}

/// Where a route leads; `None` for one that is not for unicast.
fn destination(message: &RouteMessage) -> Option<IpNet> {
    if message.header.kind != RouteType::Unicast {
        return None;
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
    IpNet::new(destination?, message.header.destination_prefix_length).ok()
}

/// The ways of a route, a default route included; none where it names a next-hop object alone.
pub(super) fn routes(message: &RouteMessage) -> Vec<Route> {
    let Some(net) = destination(message) else { return Vec::new() };
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
