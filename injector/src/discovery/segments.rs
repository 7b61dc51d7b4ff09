//! The network interfaces between which the active check tries a link: those of the two peers' homes. Pure.

use std::net::IpAddr;

use super::devices::{other_end, usable};
use super::homes::{Home, is_elsewhere};
use super::places::Namespace;
use crate::address::is_link_local;
use crate::netlink::Kind;
use injector_core::config::{Config, Netns};

/// How many pairs of interfaces a link is tried on at most.
const MOST: usize = 4;

/// A network interface of a peer's home.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nic {
    /// The home.
    pub netns: Option<Netns>,
    /// Its index there.
    pub index: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// The interface that frames are sent from, and the one that they are sent to.
pub type NicPair = (Nic, Nic);

/// The pairs of a link's interfaces, those first whose networks say that one is on the other's link.
pub fn pairs(config: &Config, namespaces: &[Namespace], (from, to): (&Home, &Home)) -> Vec<NicPair> {
    let (from, to) = (nics(config, namespaces, from.at), nics(config, namespaces, to.at));
    let mut pairs: Vec<(bool, NicPair)> = Vec::new();
    for (nic, networks, _) in &from {
        for (other, _, addresses) in &to {
            let is_far = !addresses.iter().any(|address| networks.iter().any(|net| net.contains(address)));
            pairs.push((is_far, (nic.clone(), other.clone())));
        }
    }
    // Stable: what is alike stays in the order of the devices.
    pairs.sort_by_key(|(is_far, _)| *is_far);
    pairs.truncate(MOST);
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

/// Addresses by which a packet goes from one of a pair's interfaces to the other, of one IP version: each is one that names its
/// peer, and that the interface has.
pub fn addresses(
    namespaces: &[Namespace],
    (from, to): (&Nic, &Nic),
    names: impl Fn(End, IpAddr) -> bool,
) -> Option<(IpAddr, IpAddr)> {
    let held = |end: End, nic: &Nic| -> Vec<IpAddr> {
        let space = namespaces.iter().find(|space| space.netns == nic.netns);
        let held = space.into_iter().flat_map(|space| &space.facts.addresses);
        let held = held.filter(|(index, address)| *index == nic.index && names(end, *address));
        held.map(|(_, address)| *address).collect()
    };
    let (from, to) = (held(End::Sender, from), held(End::Receiver, to));
    let first = |is_v4: bool| {
        let of = |all: &[IpAddr]| all.iter().copied().find(|address| address.is_ipv4() == is_v4);
        Some((of(&from)?, of(&to)?))
    };
    first(true).or_else(|| first(false))
}

/// An end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end that frames are sent from.
    Sender,
    /// The end that frames are sent to.
    Receiver,
}

/// The interfaces by which a home's own stack sends, each with its networks and its addresses.
fn nics(config: &Config, namespaces: &[Namespace], at: usize) -> Vec<(Nic, Vec<ipnet::IpNet>, Vec<IpAddr>)> {
    let space = &namespaces[at];
    let links = space.facts.links.iter().filter(|link| {
        let far = other_end(namespaces, (at, link));
        // The bridge or bond of a port sends the port's frames.
        link.up
            && usable(link)
            && link.kind != Kind::Loopback
            && link.master.is_none()
            && !is_elsewhere(config, space, &link.name)
            && !far.is_some_and(|(other, end)| is_elsewhere(config, &namespaces[other], &end.name))
    });
    let nic = |link: &crate::netlink::LinkFacts| {
        let held = space.facts.addresses.iter().filter(|(index, _)| *index == link.index);
        let addresses: Vec<IpAddr> = held.map(|(_, address)| *address).collect();
        let networks = space.facts.networks.iter().filter(|(index, _)| *index == link.index);
        let networks = networks.map(|(_, net)| *net).filter(|net| !is_link_local(net.addr())).collect();
        let mac = link.mac.filter(|mac| *mac != [0; 6])?;
        let nic = Nic { netns: space.netns.clone(), index: link.index, mac };
        (!addresses.is_empty()).then_some((nic, networks, addresses))
    };
    links.filter_map(nic).collect()
}

/// Why a link can't be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPair {
    /// This peer is a process on this host: nobody else can send from its sockets.
    Process(injector_core::model::PeerId),
    /// The namespace of this peer is not seen.
    NoHome(injector_core::model::PeerId),
    /// Both peers live in one namespace.
    OneHome,
    /// A peer of the two has no Ethernet interface with an address.
    NoNic,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::homes::homes;
    use super::super::test_topologies::{config, device, facts, space, switched};
    use super::*;
    use injector_core::model::PeerId;

    fn shown(more: &str, namespaces: &[Namespace], peers: (u16, u16)) -> Vec<(u32, u32)> {
        let config = config(more);
        let homes = homes(&config, namespaces, &BTreeMap::new());
        let (from, to) = (&homes[&PeerId(peers.0)], &homes[&PeerId(peers.1)]);
        pairs(&config, namespaces, (from, to)).iter().map(|(from, to)| (from.index, to.index)).collect()
    }

    #[test]
    fn a_stack_sends_by_its_bridge_and_not_by_the_ports() {
        let namespaces = switched();
        assert_eq!(shown("", &namespaces, (1, 2)), [(2, 3)]);
        // The third peer is the host of the bridge.
        let mut hosted = namespaces;
        hosted[0].facts.addresses.push((9, "10.0.0.3".parse().unwrap()));
        assert_eq!(shown("", &hosted, (3, 1)), [(9, 2)]);
    }

    #[test]
    fn addresses_are_of_one_ip_version_and_of_their_peers() {
        let mut namespaces = switched();
        let config = config("");
        let homes = homes(&config, &namespaces, &BTreeMap::new());
        let all = pairs(&config, &namespaces, (&homes[&PeerId(1)], &homes[&PeerId(2)]));
        let (from, to) = &all[0];
        let shown = |namespaces: &[Namespace], names: &dyn Fn(End, IpAddr) -> bool| {
            addresses(namespaces, (from, to), names).map(|(from, to)| format!("{from} {to}"))
        };
        assert_eq!(shown(&namespaces, &|_, _| true).as_deref(), Some("10.0.0.1 10.0.0.2"));
        let named =
            |end, address| config.owner(address) == Some(PeerId(if end == End::Sender { 1 } else { 2 }));
        assert_eq!(shown(&namespaces, &named).as_deref(), Some("10.0.0.1 10.0.0.2"));
        assert_eq!(shown(&namespaces, &|end, _| end == End::Sender), None);
        namespaces[2].facts.addresses = vec![(3, "fd00::2".parse().unwrap())];
        assert_eq!(shown(&namespaces, &|_, _| true), None, "of two versions");
        namespaces[1].facts.addresses.push((2, "fd00::1".parse().unwrap()));
        assert_eq!(shown(&namespaces, &|_, _| true).as_deref(), Some("fd00::1 fd00::2"));
    }

    #[test]
    fn pairs_on_one_network_come_first_and_what_is_elsewhere_is_left_out() {
        let mut spaces = vec![space("", facts(Vec::new(), &[]))];
        for (at, (name, address)) in [("a", "10.0.0.1"), ("b", "10.0.0.2")].into_iter().enumerate() {
            let number = at as u8 + 1;
            let nic = |index, name| device(number, index, name, Kind::Other);
            let other = format!("192.0.2.{number}");
            let links = vec![nic(2, "eth0"), nic(3, "eth1"), nic(4, "bare")];
            let mut facts = facts(links, &[(2, other.as_str()), (3, address)]);
            facts.networks.push((3, "10.0.0.0/24".parse().unwrap()));
            spaces.push(space(name, facts));
        }
        assert_eq!(shown("", &spaces, (1, 2)), [(3, 3), (2, 2), (2, 3), (3, 2)]);
        let elsewhere = "elsewhere: [{ name: eth0, netns: a }]";
        assert_eq!(shown(elsewhere, &spaces, (1, 2)), [(3, 3), (3, 2)]);
    }
}
