//! What rtnetlink says of interfaces, asked from inside their namespace.

use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, MulticastGroup};

pub mod facts;
pub mod filters;
pub mod sockets;

/// What is known of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What its frames begin with.
    pub layer: LinkLayerType,
    /// Its MAC address, where it has one.
    pub mac: Option<[u8; 6]>,
    /// Whether it is up.
    pub up: bool,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// The interface below it, or a veth's other end, in whichever namespace that is.
    pub below: Option<u32>,
    /// What kind of device it is.
    pub kind: Kind,
    /// The id of the XDP program on it, ours or another's.
    pub xdp: Option<u32>,
}

/// The kinds of devices between which discovery chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// One end of a pair.
    Veth,
    /// A bridge: its own hooks see what its host sends and receives, not what it forwards between ports.
    Bridge,
    /// The loopback device.
    Loopback,
    /// Anything else.
    #[default]
    Other,
}

impl LinkFacts {
    /// From a link message of a dump or a notification.
    pub fn of(message: &LinkMessage) -> Option<Self> {
        let mut facts = Self {
            index: message.header.index,
            name: String::new(),
            layer: message.header.link_layer_type,
            mac: None,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            below: None,
            kind: Kind::default(),
            xdp: None,
        };
        if message.header.flags.contains(LinkFlags::Loopback) {
            facts.kind = Kind::Loopback;
        }
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => facts.name.clone_from(name),
                LinkAttribute::Address(mac) => facts.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::Controller(master) => facts.master = Some(*master),
                LinkAttribute::Link(below) => facts.below = Some(*below),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(InfoKind::Veth) => facts.kind = Kind::Veth,
                            LinkInfo::Kind(InfoKind::Bridge) => facts.kind = Kind::Bridge,
                            _ => {}
                        }
                    }
                }
                LinkAttribute::Xdp(xdp) => {
                    facts.xdp = xdp.iter().find_map(|xdp| match xdp {
                        LinkXdp::ProgId(id) if *id != 0 => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        (!facts.name.is_empty()).then_some(facts)
    }
}

/// A netlink socket of the calling thread's namespace; its driver runs on the thread's runtime.
pub fn connect() -> std::io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// What a subscription to the interfaces of a namespace tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// An interface is new, or changed.
    Link(LinkFacts),
    /// An interface is gone, by its index.
    Gone(u32),
    /// Notifications were lost: everything has to be looked at.
    Overrun,
}

/// Subscribes to the interfaces of the calling thread's namespace. `tell` answers whether to go on.
pub fn subscribe(mut tell: impl FnMut(LinkNews) -> bool + 'static) -> std::io::Result<()> {
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
    tokio::spawn(connection);
    tokio::task::spawn_local(async move {
        // The connection ends with its last handle.
        let _handle = handle;
        while let Some((message, _)) = messages.next().await {
            let news = match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    LinkFacts::of(&link).map(LinkNews::Link)
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                    Some(LinkNews::Gone(link.header.index))
                }
                NetlinkPayload::Overrun(_) => Some(LinkNews::Overrun),
                _ => None,
            };
            if news.is_some_and(|news| !tell(news)) {
                return;
            }
        }
    });
    Ok(())
}

/// Looks an interface up by its name; `None` if there is none.
pub async fn find(handle: &Handle, name: &str) -> Result<Option<LinkFacts>, rtnetlink::Error> {
    // A dump, not a request by name: a missing interface is then an empty answer, not an error to interpret.
    Ok(links(handle).await?.into_iter().find(|facts| facts.name == name))
}

/// Every interface of the namespace.
pub async fn links(handle: &Handle) -> Result<Vec<LinkFacts>, rtnetlink::Error> {
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    Ok(messages.iter().filter_map(LinkFacts::of).collect())
}

/// The interface index and address of every local address of the namespace.
pub async fn addresses(handle: &Handle) -> Result<Vec<(u32, std::net::IpAddr)>, rtnetlink::Error> {
    use netlink_packet_route::address::{AddressAttribute, AddressMessage};
    let messages: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
    let of = |message: &AddressMessage| {
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let any = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        local.or(any).map(|address| (message.header.index, address))
    };
    Ok(messages.iter().filter_map(of).collect())
}
