//! Reads facts about interfaces by rtnetlink, from inside their namespace.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use rtnetlink::Handle;

pub mod conntrack;
mod dump;
pub mod facts;
pub mod filters;
pub mod nat;
mod nat_elsewhere;
pub mod news;
mod nexthops;
pub mod nft;
mod nft_message;
pub mod nft_rule;
pub mod nft_walk;
pub mod nsid;
mod raw;
pub mod sockets;

/// The facts about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The link-layer header of its frames.
    pub layer: LinkLayerType,
    /// Its MAC address, where it has one.
    pub mac: Option<[u8; 6]>,
    /// Whether it is up.
    pub up: bool,
    /// The bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// The interface below it, or a veth's other end, in whichever namespace that is.
    pub below: Option<u32>,
    /// Whether that is in another namespace.
    pub is_below_away: bool,
    /// The namespace of its other end, by the id that this namespace has for it.
    pub away: Option<i32>,
    /// What kind of device it is.
    pub kind: Kind,
    /// The id of the XDP program on it, ours or another's.
    pub xdp: Option<u32>,
}

/// The kinds of devices between which discovery chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An end of a pair.
    Veth,
    /// A bridge: its own hooks see what its host sends and receives, not what it forwards between ports.
    Bridge,
    /// Sees every frame of the device below it that has its tag; that device sees them too.
    Vlan,
    /// Shares the device below it with others: that device's hooks do not see what these say to each other.
    Macvlan,
    /// Wraps its frames or packets into others: a hook on the device that carries those sees the outer addresses.
    Tunnel,
    /// A process is at the other end: a virtual machine, or a VPN.
    Tap,
    /// Sends and receives by the devices whose master it is.
    Bond,
    /// Holds addresses and carries nothing: the loopback device, or a dummy.
    Loopback,
    /// Anything else.
    #[default]
    Other,
}

impl Kind {
    fn of(kind: &InfoKind) -> Option<Self> {
        Some(match kind {
            InfoKind::Veth => Self::Veth,
            InfoKind::Bridge => Self::Bridge,
            InfoKind::Vlan => Self::Vlan,
            // A VRF is a master too, and its frames are those of its members.
            InfoKind::Dummy | InfoKind::Ifb | InfoKind::Nlmon | InfoKind::Vrf => Self::Loopback,
            InfoKind::MacVlan | InfoKind::IpVlan => Self::Macvlan,
            InfoKind::Tun | InfoKind::MacVtap | InfoKind::IpVtap => Self::Tap,
            InfoKind::Bond | InfoKind::Team => Self::Bond,
            InfoKind::Vxlan
            | InfoKind::Geneve
            | InfoKind::GreTap
            | InfoKind::GreTap6
            | InfoKind::GreTun
            | InfoKind::GreTun6
            | InfoKind::ErSpan
            | InfoKind::Ip6ErSpan
            | InfoKind::IpIp
            | InfoKind::Ip6Tnl
            | InfoKind::SitTun
            | InfoKind::Vti
            | InfoKind::Vti6
            | InfoKind::Gtp
            | InfoKind::BareUdp
            | InfoKind::Wireguard
            | InfoKind::Xfrm
            | InfoKind::MacSec => Self::Tunnel,
            _ => return None,
        })
    }
}

impl LinkFacts {
    /// Reads a link message of a dump or a notification.
    pub fn of(message: &LinkMessage) -> Option<Self> {
        let mut facts = Self {
            index: message.header.index,
            name: String::new(),
            layer: message.header.link_layer_type,
            mac: None,
            up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            below: None,
            is_below_away: false,
            away: None,
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
                LinkAttribute::LinkNetNsId(id) => {
                    facts.is_below_away = true;
                    facts.away = Some(*id);
                }
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            facts.kind = Kind::of(kind).unwrap_or(facts.kind);
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
pub fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Finds an interface by its name; `None` if there is none.
pub async fn find(name: &str) -> io::Result<Option<LinkFacts>> {
    // A dump, not a request by name: a missing interface is then an empty answer, not an error to interpret.
    Ok(links().await?.into_iter().find(|facts| facts.name == name))
}

/// Every interface of the namespace.
pub async fn links() -> io::Result<Vec<LinkFacts>> {
    let mut question = LinkMessage::default();
    // Counters are most of the answer.
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    dump::read(RouteNetlinkMessage::GetLink(question), |message| match message {
        RouteNetlinkMessage::NewLink(link) => LinkFacts::of(&link),
        _ => None,
    })
    .await
}

/// The interface index and address of every local address of the namespace.
pub async fn addresses() -> io::Result<Vec<(u32, IpAddr)>> {
    Ok(networks().await?.into_iter().map(|(index, net)| (index, net.addr())).collect())
}

/// The interface index, address and prefix length of every local address of the namespace.
pub async fn networks() -> io::Result<Vec<(u32, IpNet)>> {
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    dump::read(question, |message| match message {
        RouteNetlinkMessage::NewAddress(address) => network(&address),
        _ => None,
    })
    .await
}

/// The interface index and the address of a message, with the length of its prefix.
fn network(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let net = IpNet::new(local.or(any)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}
