//! Where addresses live: what one namespace knows of links, addresses, neighbours, routes and bridge ports.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{LinkFacts, addresses, links};

/// What one namespace knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its interfaces.
    pub links: Vec<LinkFacts>,
    /// Local addresses, by interface index.
    pub addresses: Vec<(u32, IpAddr)>,
    /// Neighbours: the interface index, the address, its MAC.
    pub neighbours: Vec<(u32, IpAddr, [u8; 6])>,
    /// Routes with an outgoing interface; default routes are left out, since they say nothing of any one address.
    pub routes: Vec<(IpNet, u32)>,
    /// Bridge ports, by the MAC addresses behind them.
    pub ports: Vec<([u8; 6], u32)>,
}

impl Facts {
    /// Asks the calling thread's namespace.
    pub async fn ask(handle: &Handle) -> Result<Self, rtnetlink::Error> {
        let mut facts =
            Self { links: links(handle).await?, addresses: addresses(handle).await?, ..Self::default() };
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let found: Vec<NeighbourMessage> =
                handle.neighbours().get().set_address_family(family).execute().try_collect().await?;
            facts.neighbours.extend(found.iter().filter_map(neighbour));
        }
        let found: Vec<NeighbourMessage> = handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Bridge)
            .execute()
            .try_collect()
            .await?;
        facts.ports.extend(found.iter().filter_map(|entry| Some((mac(entry)?, entry.header.ifindex))));
        // A bridge's own addresses are listed as entries of its ports: they tell of the port, not of a peer.
        let own: Vec<[u8; 6]> = facts.links.iter().filter_map(|link| link.mac).collect();
        facts.ports.retain(|(mac, _)| !own.contains(mac));
        let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for request in [v4, v6] {
            let found: Vec<RouteMessage> = handle.route().get(request).execute().try_collect().await?;
            facts.routes.extend(found.iter().filter_map(route));
        }
        Ok(facts)
    }

    /// An interface by its index.
    pub fn link(&self, index: u32) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.index == index)
    }
}

fn mac(entry: &NeighbourMessage) -> Option<[u8; 6]> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

fn neighbour(entry: &NeighbourMessage) -> Option<(u32, IpAddr, [u8; 6])> {
    let address = entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    Some((entry.header.ifindex, address, mac(entry)?))
}

fn route(route: &RouteMessage) -> Option<(IpNet, u32)> {
    let mut destination = None;
    let mut out = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::V6(*address));
            }
            RouteAttribute::Oif(index) => out = Some(*index),
            _ => {}
        }
    }
    let net = IpNet::new(destination?, route.header.destination_prefix_length).ok()?;
    (net.prefix_len() > 0).then_some((net, out?))
}
