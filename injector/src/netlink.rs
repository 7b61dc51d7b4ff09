//! What rtnetlink says of interfaces, asked from inside their namespace.

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp};
use rtnetlink::Handle;

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
    /// The id of the XDP program on it, ours or another's.
    pub xdp: Option<u32>,
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
            xdp: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => facts.name.clone_from(name),
                LinkAttribute::Address(mac) => facts.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::Controller(master) => facts.master = Some(*master),
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
