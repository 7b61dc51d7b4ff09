//! Devices of namespaces: which can be judged, and which are the two ends of one veth. Pure.

use injector_core::config::{Interface, Netns, shown};
use netlink_packet_route::link::LinkLayerType;

use super::places::Namespace;
use crate::netlink::{Kind, LinkFacts};

/// A device, and the number of its namespace.
pub type Spot<'a> = (usize, &'a LinkFacts);

/// A device whose frames can be judged, and that leads somewhere.
pub fn usable(link: &LinkFacts) -> bool {
    link.layer == LinkLayerType::Ether && link.kind != Kind::Loopback
}

/// The other end of a veth, if it is in a namespace that is seen.
pub fn other_end<'a>(namespaces: &'a [Namespace], (at, link): Spot<'_>) -> Option<Spot<'a>> {
    let below = link.below.filter(|_| link.kind == Kind::Veth)?;
    let space = &namespaces[at];
    // The kernel says which namespace it is, where that one was asked for.
    let exact =
        (link.is_below_away && !space.away.is_empty()).then(|| link.away.and_then(|id| space.away.get(&id)));
    if let Some(None) = exact {
        return None;
    }
    let is_end = |other: usize, end: &LinkFacts| {
        end.index == below
            && end.kind == Kind::Veth
            && usable(end)
            && end.below == Some(link.index)
            && (other == at) != link.is_below_away
            && link.is_below_away == end.is_below_away
            && exact.flatten().is_none_or(|netns| namespaces[other].netns == *netns)
    };
    let all = namespaces.iter().enumerate();
    let all = all.flat_map(|(other, space)| space.facts.links.iter().map(move |end| (other, end)));
    let mut ends: Vec<Spot<'a>> = all.filter(|(other, end)| is_end(*other, end)).collect();
    if ends.len() > 1 {
        // Indices are equal in several namespaces: the bridge must have learned the MAC there.
        ends.retain(|(other, _)| {
            let ports = &namespaces[*other].facts.ports;
            ports.iter().any(|(mac, port)| *port == below && link.mac == Some(*mac))
        });
    }
    if let [end] = ends[..] { Some(end) } else { None }
}

/// The devices whose master a device is.
pub fn has_members(space: &Namespace, index: u32) -> bool {
    space.facts.links.iter().any(|link| link.master == Some(index))
}

/// The bridge that a device is a port of, over a bond if need be.
pub fn bridge_of<'a>(space: &'a Namespace, link: &LinkFacts) -> Option<&'a LinkFacts> {
    let mut master = space.facts.link(link.master?)?;
    for _ in 0..4 {
        if master.kind == Kind::Bridge {
            return Some(master);
        }
        master = space.facts.link(master.master?)?;
    }
    None
}

/// A device in words.
pub fn shown_device(name: &str, netns: Option<&Netns>) -> String {
    shown(&Interface::found(name, netns))
}
