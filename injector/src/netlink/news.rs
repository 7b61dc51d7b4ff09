//! What the kernel reports about a namespace as it happens.

use std::net::IpAddr;

use futures_util::StreamExt as _;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;

use super::LinkFacts;
use super::facts::{Route, neighbour, port, routes};
use super::nft::{self, Change, EgressChain};

/// What a subscription to a namespace reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An interface is new, or changed.
    Link(LinkFacts),
    /// An interface is gone, by its index.
    Gone(u32),
    /// A neighbour is known: the interface index, its address, its MAC.
    Neighbour(u32, IpAddr, [u8; 6]),
    /// A MAC was learned behind a bridge port.
    Port([u8; 6], u32),
    /// Routes came or went, default routes included.
    Routes(Vec<Route>),
    /// A local address is there, or gone: the interface index, the address, and whether it is there.
    Address(u32, IpAddr, bool),
    /// A queueing discipline or a filter of an interface came or went, by the interface's index.
    Hooks(u32),
    /// A chain of nftables is on the egress of devices now.
    EgressChain(EgressChain),
    /// Chains of nftables on devices came or went.
    Chains,
    /// Rules that give packets another destination came or went.
    Nat,
    /// Notifications were lost: everything has to be looked at.
    Overrun,
}

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Interfaces, and the queueing disciplines and filters on them.
    Links,
    /// Where addresses live: neighbours, bridge ports, routes, local addresses.
    Places,
    /// Local addresses alone.
    Addresses,
    /// Chains of nftables on devices, and rules of NAT.
    Chains,
}

impl Topic {
    fn groups(self) -> &'static [MulticastGroup] {
        match self {
            Self::Links => &[MulticastGroup::Link, MulticastGroup::Tc],
            Self::Places => &[
                MulticastGroup::Neigh,
                MulticastGroup::Ipv4Route,
                MulticastGroup::Ipv6Route,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
            ],
            Self::Chains => &[],
            Self::Addresses => &[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr],
        }
    }
}

/// Subscribes to a topic of the calling thread's namespace, on a socket of its own: many neighbours must not crowd out
/// an interface. `report` answers whether to continue.
pub fn subscribe(topic: Topic, mut report: impl FnMut(News) -> bool + 'static) -> std::io::Result<()> {
    crate::fault::at("follow/subscribe")?;
    if topic == Topic::Chains {
        return nft::subscribe(move |change| {
            report(match change {
                Change::Egress(chain) => News::EgressChain(chain),
                Change::Chains => News::Chains,
                Change::Nat => News::Nat,
            })
        });
    }
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(topic.groups())?;
    tokio::spawn(connection);
    tokio::task::spawn_local(async move {
        // The connection ends with its last handle.
        let _handle = handle;
        while let Some((message, _)) = messages.next().await {
            let news = match message.payload {
                NetlinkPayload::InnerMessage(message) => news(&message),
                NetlinkPayload::Overrun(_) => Some(News::Overrun),
                _ => None,
            };
            if news.is_some_and(|news| !report(news)) {
                return;
            }
        }
        tracing::error!(?topic, "the kernel's notifications ended: changes will not be noticed");
    });
    Ok(())
}

fn news(message: &RouteNetlinkMessage) -> Option<News> {
    Some(match message {
        RouteNetlinkMessage::NewLink(link) => News::Link(LinkFacts::of(link)?),
        RouteNetlinkMessage::DelLink(link) => News::Gone(link.header.index),
        RouteNetlinkMessage::NewNeighbour(entry) if entry.header.family == AddressFamily::Bridge => {
            let (mac, index) = port(entry)?;
            News::Port(mac, index)
        }
        RouteNetlinkMessage::NewNeighbour(entry) => {
            let (index, address, mac) = neighbour(entry)?;
            News::Neighbour(index, address, mac)
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            News::Routes(routes(route))
        }
        RouteNetlinkMessage::NewQueueDiscipline(message)
        | RouteNetlinkMessage::DelQueueDiscipline(message)
        | RouteNetlinkMessage::NewTrafficFilter(message)
        | RouteNetlinkMessage::DelTrafficFilter(message) => {
            News::Hooks(u32::try_from(message.header.index).ok()?)
        }
        RouteNetlinkMessage::NewAddress(message) => address(message, true)?,
        RouteNetlinkMessage::DelAddress(message) => address(message, false)?,
        _ => return None,
    })
}

fn address(message: &AddressMessage, is_there: bool) -> Option<News> {
    let (index, net) = super::network(message)?;
    Some(News::Address(index, net.addr(), is_there))
}
