//! `peers:` names and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::container::{Named, Selected};
use super::interfaces::{name, place};
use super::names::{Firsts, NAME_REMEDY, is_name};
use super::{container, local};
use crate::config::read::{Node, Report};
use crate::config::{ContainerRef, Device, Peer};
use crate::model::{MAX_PEERS, PeerId, PeerNames, WORLD};

/// The names of all peers, and the peers in which nothing is wrong by id.
pub(super) fn read<'a>(
    node: Option<&Node<'a>>,
    selected: Option<&Selected<'a>>,
    report: &'a Report<'a>,
) -> (PeerNames, Vec<Peer>) {
    let usage = "write it as: { n1: { addresses: [10.0.0.1] }, n2: … }";
    let is_list = node.is_some_and(|node| node.value().is_sequence());
    let list_usage =
        "write the names as keys, without dashes, as in: { n1: { addresses: [10.0.0.1] }, n2: … }";
    let entries = node.map(|node| node.entries(if is_list { list_usage } else { usage })).unwrap_or_default();
    if let Some(node) = node.filter(|_| selected.is_none())
        && node.value().as_mapping().is_some_and(serde_yaml::Mapping::is_empty)
    {
        node.error("there is no peer", usage);
    }
    let found = further(&entries, selected);
    let count = entries.len() + found.len();
    if let Some(node) = node.or(selected.map(|selected| &selected.node)).filter(|_| count > MAX_PEERS) {
        let what = format!("{count} peers are configured, and one host takes {MAX_PEERS}");
        node.error(what, "leave peers out, or join them by a prefix");
    }
    // Ids end with u16, and so far beyond MAX_PEERS nothing comes of this config anyway.
    let known = entries.iter().map(|(name, _)| *name).chain(found.iter().copied());
    let names = PeerNames::new(known.take(usize::from(u16::MAX) - 1).map(str::to_owned));
    let mut firsts = Seen {
        addresses: Firsts::new(report),
        prefixes: Firsts::new(report),
        macs: Firsts::new(report),
        taps: Firsts::new(report),
        containers: Firsts::new(report),
        vips: std::collections::BTreeMap::new(),
    };
    let mut peers = Vec::with_capacity(entries.len());
    let mut locals = Vec::new();
    for (name, node) in &entries {
        if *name == WORLD {
            node.key_error(
                format!("\"{WORLD}\" is the reserved name of everyone who is no configured peer"),
                "choose another name",
            );
        } else if !is_name(name) {
            node.key_error(format!("\"{name}\" can't be the name of a peer"), NAME_REMEDY);
        }
        let faults = node.report().count();
        let peer = peer(name, node, &mut firsts, &mut locals);
        if let Some(mut peer) = peer
            && let Some(id) = names.id(name)
            && node.report().count() == faults
        {
            peer.id = id;
            peers.push(peer);
        }
    }
    for name in found {
        if let Some(id) = names.id(name).filter(|id| *id != PeerId::WORLD) {
            let container = Some(ContainerRef::Name(name.to_owned()));
            peers.push(Peer { id, container, ..nothing_known() });
        }
    }
    for (vip, places) in &firsts.vips {
        let Some(listed) = firsts.addresses.place(vip) else { continue };
        for node in places {
            node.error(
                format!("{vip} is a peer's own address too, at {listed}"),
                "an address is either always one peer's, or a vip that moves: take it out of one of the lists",
            );
        }
    }
    peers.sort_by_key(|peer| peer.id);
    (names, peers)
}

/// The containers that are selected, without those that the table of peers has already.
fn further<'a>(entries: &[(&str, Node<'_>)], selected: Option<&'a Selected<'_>>) -> Vec<&'a str> {
    let Some(Selected { names, node }) = selected else { return Vec::new() };
    let of =
        |peer: &Node<'_>| peer.value().get("container").and_then(|name| name.as_str()).map(str::to_owned);
    let mut found = Vec::new();
    for name in names {
        if entries.iter().any(|(_, peer)| of(peer).as_ref() == Some(name)) {
            continue;
        }
        if name == WORLD || entries.iter().any(|(peer, _)| peer == name) {
            node.error(
                format!("the container {name} is selected, and another peer has its name"),
                "give that peer another name, or name the container itself in peers",
            );
            continue;
        }
        found.push(name.as_str());
    }
    found
}

/// A peer about which nothing is known.
fn nothing_known() -> Peer {
    Peer {
        id: PeerId::WORLD,
        addresses: Vec::new(),
        prefixes: Vec::new(),
        mac: None,
        vip: Vec::new(),
        tap: None,
        forwards: false,
        local: None,
        container: None,
        found: Vec::new(),
    }
}

struct Seen<'a> {
    addresses: Firsts<'a, IpAddr>,
    prefixes: Firsts<'a, IpNet>,
    macs: Firsts<'a, [u8; 6]>,
    taps: Firsts<'a, Device>,
    containers: Firsts<'a, ContainerRef>,
    /// Where each `vip` is given; several peers may have the same.
    vips: std::collections::BTreeMap<IpAddr, Vec<Node<'a>>>,
}

fn peer<'a>(
    name: &str,
    node: &Node<'a>,
    seen: &mut Seen<'a>,
    locals: &mut Vec<(String, local::Local<'a>)>,
) -> Option<Peer> {
    let usage = "write it as: { addresses: [10.0.0.1, \"fd00::1\"] }, or with mac: \"52:54:00:00:00:02\"";
    if node.value().is_null() {
        node.key_error("the peer has neither an address nor a mac", usage);
        return None;
    }
    let table = node.table(usage)?;
    let mut peer = nothing_known();
    let local = local::read(&table);
    if local::is_named(node) {
        table.finish();
        let local = local?;
        peer.local = Some(local.peer.clone());
        local::overlaps(locals, name, local);
        return Some(peer);
    }
    match container::read(&table, &mut seen.containers) {
        Named::Nothing => {}
        Named::Wrong => {
            table.finish();
            return None;
        }
        Named::As(container) => {
            peer.container = Some(container);
            table.finish();
            return Some(peer);
        }
    }
    let addresses = table.get("addresses");
    let items = addresses.as_ref().map(|node| node.items("write a list, such as: [10.0.0.1]"));
    let mac_node = table.get("mac");
    let nothing_given = match &addresses {
        None => true,
        Some(node) => node.value().as_sequence().is_some_and(Vec::is_empty),
    };
    let vm = table.get("vm");
    if nothing_given && mac_node.is_none() && vm.is_none() {
        node.key_error("the peer has neither an address nor a mac", usage);
    }
    for item in items.iter().flatten() {
        let usage = "write an address or a prefix, such as 10.0.0.1, 10.2.0.0/16 or \"fd00::1\"";
        let Some(text) = item.text(usage) else { continue };
        let Some(found) = parse(text) else {
            item.error(format!("\"{text}\" is not an IP address or prefix"), usage);
            continue;
        };
        address(item, found, &mut peer, seen);
    }
    if let Some(node) = mac_node {
        peer.mac = mac(&node, seen);
    }
    if let Some(node) = vm {
        peer.tap = tap(&node, seen);
    }
    if let Some(node) = table.get("vip") {
        vips(&node, &mut peer, seen);
    }
    if let Some(node) = table.get("forwards") {
        match node.value().as_bool() {
            Some(forwards) => peer.forwards = forwards,
            None => node.error(
                "this is neither true nor false",
                "write forwards: true for a peer that passes on what others send, such as a router",
            ),
        }
    }
    table.finish();
    Some(peer)
}

/// Parses an address or a prefix; a single address becomes the prefix that holds it alone.
fn parse(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().ok().map(IpNet::from).or_else(|| text.parse().ok())
}

fn address(node: &Node<'_>, found: IpNet, peer: &mut Peer, seen: &mut Seen<'_>) {
    if let Some((what, remedy)) = unusable(found).or_else(|| link_local(found)) {
        node.error(what, remedy);
        return;
    }
    if found.prefix_len() == found.max_prefix_len() {
        let address = found.addr();
        match seen.addresses.earlier(address, node) {
            Some(first) => node.error(
                format!("address {address} is given twice, first at {first}"),
                "an address identifies one peer; keep one of the two",
            ),
            None => peer.addresses.push(address),
        }
    } else {
        match seen.prefixes.earlier(found, node) {
            Some(first) => node.error(
                format!("prefix {found} is given twice, first at {first}"),
                "a prefix identifies one peer; keep one of the two, or make one of them longer",
            ),
            None => peer.prefixes.push(found),
        }
    }
}

/// Addresses that move between peers.
fn vips<'a>(node: &Node<'a>, peer: &mut Peer, seen: &mut Seen<'a>) {
    let usage = "write a list of addresses, such as: vip: [10.0.0.100]";
    for item in node.items(usage) {
        let Some(text) = item.text(usage) else { continue };
        let Ok(address) = text.parse::<IpAddr>() else {
            item.error(format!("\"{text}\" is not an IP address"), usage);
            continue;
        };
        if let Some((what, remedy)) = unusable(address.into()) {
            item.error(what, remedy);
        } else if peer.vip.contains(&address) {
            item.error(format!("{address} is given twice for this peer"), "keep one of the two");
        } else {
            peer.vip.push(address);
            seen.vips.entry(address).or_default().push(item);
        }
    }
}

/// Why an address can't be a peer's, and the remedy.
fn unusable(found: IpNet) -> Option<(String, String)> {
    let single = found.prefix_len() == found.max_prefix_len();
    let remedy = "give the address that the peer sends from".to_owned();
    if !single && found != found.trunc() {
        let what = format!("{found} has host bits set");
        return Some((
            what,
            format!("write the address {} alone, or {} for all of them", found.addr(), found.trunc()),
        ));
    }
    if found.prefix_len() == 0 {
        let what = format!("{found} is everyone");
        return Some((what, format!("everyone who is no other peer is {WORLD} already; leave it out")));
    }
    let address = found.addr();
    if single && address.is_unspecified() {
        return Some((format!("{address} is the unspecified address"), remedy));
    }
    let multicast: [IpNet; 2] = [
        Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4).into(),
        Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).into(),
    ];
    if multicast.iter().any(|net| net.contains(&found)) {
        return Some((format!("{} is multicast", shown(found)), remedy));
    }
    if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some((format!("{address} is the broadcast address"), remedy));
    }
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let what = format!("{} is an IPv4-mapped address, which no packet carries", shown(found));
        let remedy = if single { format!("write {v4}") } else { "write the IPv4 prefix".to_owned() };
        return Some((what, remedy));
    }
    None
}

/// Why a link-local address of IPv6 is none of a peer's, and the remedy: another host may have the same one on each other link.
fn link_local(found: IpNet) -> Option<(String, String)> {
    let all = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    let what = format!("{} is link-local, and on another link it is someone else's", shown(found));
    let remedy = "leave it out: a cut drops what a peer sends from its link-local addresses, too; a peer that has no other \
                  address is named by mac:";
    IpNet::from(all).contains(&found).then(|| (what, remedy.to_owned()))
}

fn shown(found: IpNet) -> String {
    if found.prefix_len() == found.max_prefix_len() { found.addr().to_string() } else { found.to_string() }
}

/// The interface of the host that a virtual machine is behind.
fn tap<'a>(node: &Node<'a>, seen: &mut Seen<'a>) -> Option<Device> {
    let usage = "write it as: vm: { interface: tap1 }, or vm: { interface: { name: tap1, netns: host } }";
    let table = node.table(usage)?;
    let interface = table.require("interface", usage);
    table.finish();
    let node = interface?;
    let device = if node.value().is_mapping() {
        let table = node.table(usage)?;
        let place = place(&table);
        table.finish();
        place
    } else {
        name(&node).map(|name| (name, None))
    };
    let (name, netns) = device?;
    let device = Device { name, netns };
    if let Some(first) = seen.taps.earlier(device.clone(), &node) {
        let what = format!("interface {} is another peer's too, at {first}", device.name);
        node.error(what, "one peer is behind it: keep one of the two");
    }
    Some(device)
}

fn mac(node: &Node<'_>, seen: &mut Seen<'_>) -> Option<[u8; 6]> {
    let usage = "write six bytes in quotes, such as \"52:54:00:00:00:02\"";
    let text = node.text(usage)?;
    let Some(mac) = parse_mac(text) else {
        node.error(format!("\"{text}\" is not a MAC address"), usage);
        return None;
    };
    let remedy = "give the address of the peer's own interface";
    if mac == [0; 6] {
        node.error(format!("{text} is no interface's address"), remedy);
    } else if mac[0] & 1 == 1 {
        node.error(format!("{text} is a multicast or broadcast MAC address"), remedy);
    } else if let Some(first) = seen.macs.earlier(mac, node) {
        node.error(
            format!("MAC address {text} is given twice, first at {first}"),
            "a MAC address identifies one peer; keep one of the two",
        );
    }
    Some(mac)
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}
