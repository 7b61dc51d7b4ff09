//! The kernel's notifications about a namespace.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::LocalBoxStream;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;

use super::LinkFacts;
use super::facts::{Route, neighbour, port, routes};
use super::nexthops;
use super::nft::{Change, ChangeStream, EgressChain};
use injector_core::clock::MonoNs;

/// How long after its notifications have ended a topic is subscribed to again.
const AGAIN: Duration = Duration::from_secs(1);

/// A report of a subscription to a namespace.
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
    /// Notifications were lost: everything has to be read again.
    Overrun,
    /// There are no notifications any more, and why: changes are not noticed until they come again, which is an overrun.
    Ended(String),
}

/// The subject of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Interfaces, and the queueing disciplines and filters on them.
    Links,
    /// Where addresses live: neighbours, bridge ports, routes, local addresses.
    Places,
    /// Facts that show that something of a peer's is elsewhere too: interfaces with their MAC addresses,
    /// routes, local addresses.
    Others,
    /// The facts about interfaces that [`Topic::Others`] leaves out.
    Filters,
    /// The facts about where addresses live that [`Topic::Others`] leaves out.
    Neighbours,
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
            Self::Others => &[
                MulticastGroup::Link,
                MulticastGroup::Ipv4Route,
                MulticastGroup::Ipv6Route,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
            ],
            Self::Filters => &[MulticastGroup::Tc],
            Self::Neighbours => &[MulticastGroup::Neigh],
            Self::Chains => &[],
        }
    }
}

/// Follows a topic of the calling thread's namespace, on a socket of its own: many neighbours must not crowd out an interface.
/// `report` is called with each news and since when it may be so, and answers whether to continue.
///
/// What ends the notifications is news itself, and so is that they have come back.
pub fn follow(topic: Topic, mut report: impl FnMut(MonoNs, News) -> bool + 'static) {
    let mut subscribed = Subscription::to(topic);
    tokio::task::spawn_local(async move {
        loop {
            let ended = match subscribed {
                Ok(subscription) => subscription.follow(&mut report).await,
                Err(error) => Ended::Failed(error.to_string()),
            };
            let Ended::Failed(why) = ended else { return };
            let since = MonoNs::now();
            tracing::error!(?topic, why, "changes are not noticed: the kernel does not notify of them");
            if !report(since, News::Ended(why)) {
                return;
            }
            subscribed = loop {
                tokio::time::sleep(AGAIN).await;
                if let Ok(subscription) = Subscription::to(topic) {
                    break Ok(subscription);
                }
            };
            tracing::info!(?topic, "changes are noticed again");
            // A change that is found now may have happened at any time since.
            if !report(since, News::Overrun) {
                return;
            }
        }
    });
}

/// Why a topic is not followed any more.
enum Ended {
    /// The receiver of the news is gone.
    Unwanted,
    /// There are no more notifications.
    Failed(String),
}

/// A subscription to one topic.
enum Subscription {
    /// The connection ends with its last handle.
    Route(rtnetlink::Handle, LocalBoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>),
    Chains(ChangeStream),
}

impl Subscription {
    fn to(topic: Topic) -> io::Result<Self> {
        crate::fault::at("follow/subscribe")?;
        if topic == Topic::Chains {
            return Ok(Self::Chains(ChangeStream::open()?));
        }
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(topic.groups())?;
        tokio::spawn(connection);
        Ok(Self::Route(handle, messages.map(|(message, _)| message.payload).boxed_local()))
    }

    async fn follow(self, report: &mut impl FnMut(MonoNs, News) -> bool) -> Ended {
        match self {
            Self::Route(_handle, mut messages) => {
                while let Some(payload) = messages.next().await {
                    crate::fault::here("follow/news");
                    let news = match payload {
                        NetlinkPayload::InnerMessage(message) => news(&message),
                        NetlinkPayload::Overrun(_) => Some(News::Overrun),
                        _ => None,
                    };
                    if news.is_some_and(|news| !report(MonoNs::now(), news)) {
                        return Ended::Unwanted;
                    }
                }
                Ended::Failed("its socket was closed".to_owned())
            }
            Self::Chains(changes) => {
                let report = |change| {
                    let news = match change {
                        Change::Egress(chain) => News::EgressChain(chain),
                        Change::Chains => News::Chains,
                        Change::Nat => News::Nat,
                    };
                    report(MonoNs::now(), news)
                };
                match changes.follow(report).await {
                    Ok(()) => Ended::Unwanted,
                    Err(error) => Ended::Failed(error.to_string()),
                }
            }
        }
    }
}

fn news(message: &RouteNetlinkMessage) -> Option<News> {
    Some(match message {
        RouteNetlinkMessage::NewLink(link) => News::Link(LinkFacts::of(link)?),
        // A port that leaves its bridge is still there.
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Bridge => {
            return None;
        }
        RouteNetlinkMessage::DelLink(link) => News::Gone(link.header.index),
        RouteNetlinkMessage::NewNeighbour(entry) if entry.header.family == AddressFamily::Bridge => {
            let (mac, index) = port(entry)?;
            News::Port(mac, index)
        }
        RouteNetlinkMessage::NewNeighbour(entry) => {
            let (index, address, mac) = neighbour(entry)?;
            News::Neighbour(index, address, mac)
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)
            if nexthops::object_of(route).is_some() =>
        {
            News::Overrun
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

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    /// The kernel says so of a port that leaves its bridge, as `ip link set v0 nomaster` has it, by a message of the bridges' family.
    #[test]
    fn a_port_that_leaves_its_bridge_is_not_gone() {
        let mut link = LinkMessage::default();
        link.header.index = 7;
        assert_eq!(news(&RouteNetlinkMessage::DelLink(link.clone())), Some(News::Gone(7)));
        link.header.interface_family = AddressFamily::Bridge;
        assert_eq!(news(&RouteNetlinkMessage::DelLink(link)), None);
    }
}
