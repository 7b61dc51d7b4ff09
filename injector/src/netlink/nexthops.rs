//! Next hops that are objects of their own (`ip nexthop`). Where `net.ipv4.nexthop_compat_mode` is 0, the kernel gives a route that
//! uses one the object's id, and neither device nor gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_core::Nla as _;

use super::raw::{RawSocket, attributes, u32_at};

const NEW: u16 = 104;
const GET: u16 = 106;
/// How long `struct nhmsg` is.
const HEADER: usize = 8;

const ID: u16 = 1;
const GROUP: u16 = 2;
const DEVICE: u16 = 5;
const GATEWAY: u16 = 6;
/// How long a member of a group is: its id, and what is not needed here.
const MEMBER: usize = 8;

/// The attribute of a route that names the object which it uses.
const OF_ROUTE: u16 = 30;

/// The device of a next hop, and its gateway if the destination is not on the device's link.
pub type Hop = (u32, Option<IpAddr>);

/// The next hops of a namespace that are objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    hops: BTreeMap<u32, Hop>,
    groups: BTreeMap<u32, BTreeSet<u32>>,
}

impl NextHops {
    /// Reads the next hops of the calling thread's namespace.
    pub fn read() -> io::Result<Self> {
        let socket = RawSocket::open(libc::NETLINK_ROUTE)?;
        socket.dump(GET, &[0; HEADER], |found: &mut Self, kind, body| {
            if kind == NEW {
                found.take(body);
            }
        })
    }

    /// Takes in what the kernel says of one.
    fn take(&mut self, body: &[u8]) {
        let Some(body) = body.get(HEADER..) else { return };
        let (mut id, mut device, mut gateway, mut group) = (None, None, None, None);
        for (kind, value) in attributes(body) {
            match kind {
                ID => id = u32_at(value, 0),
                DEVICE => device = u32_at(value, 0),
                GATEWAY => gateway = address(value),
                GROUP => group = Some(value.chunks_exact(MEMBER).filter_map(|member| u32_at(member, 0))),
                _ => {}
            }
        }
        let Some(id) = id else { return };
        if let Some(group) = group {
            self.groups.insert(id, group.collect());
        } else if let Some(device) = device {
            self.hops.insert(id, (device, gateway));
        }
    }

    /// The ways of an object: of a group, those of its members.
    pub fn of(&self, id: u32) -> impl Iterator<Item = Hop> {
        let members = self.groups.get(&id).into_iter().flatten();
        members.copied().chain([id]).filter_map(|id| self.hops.get(&id).copied())
    }
}

/// The object of a route that says nothing else of its way.
pub fn object_of(route: &RouteMessage) -> Option<u32> {
    let says_way =
        |said: &RouteAttribute| matches!(said, RouteAttribute::Oif(_) | RouteAttribute::MultiPath(_));
    if route.attributes.iter().any(says_way) {
        return None;
    }
    let object = route.attributes.iter().find(|said| said.kind() == OF_ROUTE)?;
    let mut value = vec![0; object.value_len()];
    object.emit_value(&mut value);
    u32_at(&value, 0)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
