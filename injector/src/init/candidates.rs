//! Candidates for peers on a host: namespaces with an address of their own, guests behind taps, hosts behind
//! other ports of bridges, processes of one program. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::link::LinkLayerType;

use super::Host;
use super::processes::{Server, servers};
use crate::address::is_link_local;
use crate::discovery::places::Namespace;
use crate::netlink::{Kind, LinkFacts};
use injector_core::config::{Listen, Netns};

/// The home of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// The candidate is in this namespace.
    Space(Netns),
    /// The candidate is alone behind this tap of the caller's namespace.
    Guest(String),
    /// The candidate is behind this port of the caller's namespace.
    Port(String),
    /// A process of the caller's namespace that listens on these.
    Process(Vec<Listen>),
    /// The user says so.
    Named,
}

/// A candidate for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// A name that a config takes.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address, where no address is known.
    pub mac: Option<[u8; 6]>,
    /// Where it is.
    pub home: Home,
    /// How that was found, in words.
    pub why: String,
    /// The TCP ports that listen on its addresses; `None` where that can't be seen.
    pub ports: Option<BTreeSet<u16>>,
    /// Why it is probably no peer; `None` if nothing speaks against it.
    pub doubt: Option<String>,
}

/// The candidates that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The candidates in the order of their names.
    pub candidates: Vec<Candidate>,
    /// Things that exist and can't be written to a config, with what to do.
    pub notes: Vec<String>,
}

/// The candidates of a host.
pub fn candidates(host: &Host) -> Found {
    let mut found = Found::default();
    for space in &host.spaces {
        if let Some(netns) = &space.netns {
            found.candidates.extend(inside(host, space, netns));
        }
    }
    if let Some(own) = host.spaces.iter().find(|space| space.netns.is_none()) {
        behind(own, &mut found);
    }
    found.candidates.extend(servers(&host.serving).into_iter().map(process));
    doubt_other_kinds(&mut found.candidates);
    doubt_clients(&mut found.candidates);
    doubt_processes(&mut found.candidates);
    doubt_twins(&mut found.candidates);
    name(&mut found.candidates);
    found
}

/// Whether an address names a node: loopback and link-local ones do not.
fn is_node(address: IpAddr) -> bool {
    !(is_link_local(address) || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// A process as a peer.
fn process(server: Server) -> Candidate {
    let ports = server.listens.iter().filter_map(|listen| listen.port()).collect();
    Candidate {
        name: server.name,
        addresses: Vec::new(),
        mac: None,
        home: Home::Process(server.listens),
        why: server.why,
        ports: Some(ports),
        doubt: server.doubt,
    }
}

/// A namespace as one peer.
fn inside(host: &Host, space: &Namespace, netns: &Netns) -> Option<Candidate> {
    let on = |index: u32| space.facts.link(index).filter(|link| link.kind != Kind::Loopback);
    let held: Vec<(&LinkFacts, IpAddr)> = space
        .facts
        .addresses
        .iter()
        .filter(|(_, address)| is_node(*address))
        .filter_map(|(index, address)| Some((on(*index)?, *address)))
        .collect();
    let devices: BTreeSet<&str> = held.iter().map(|(link, _)| link.name.as_str()).collect();
    let addresses: Vec<IpAddr> = held.iter().map(|(_, address)| *address).collect();
    if addresses.is_empty() {
        return None;
    }
    let listeners = host.listeners.get(&space.netns);
    let ports = listeners.map(|all| {
        let all = all.iter().filter(|one| one.address.is_unspecified() || addresses.contains(&one.address));
        all.map(|one| one.port).collect()
    });
    // Where the host itself passes packets on, as one with containers does, each of its namespaces is made with that setting. One
    // with a single device has nowhere to pass them to.
    let is_router = space.facts.forwards && devices.len() > 1;
    let is_switch = space.facts.links.iter().any(|link| link.kind == Kind::Bridge);
    let doubt = if is_switch {
        Some("it has a bridge: it connects others".to_owned())
    } else if is_router {
        Some("it passes on what others send; if it is a peer, write `forwards: true`".to_owned())
    } else {
        None
    };
    let devices = devices.into_iter().collect::<Vec<_>>().join(", ");
    let (label, place) = match (netns, host.labels.get(netns)) {
        (Netns::Container(container), _) => (container.to_string(), format!("container {container}")),
        (Netns::Pid(pid), Some(label)) => (label.clone(), format!("network namespace of process {pid}")),
        (other, _) => (other.to_string(), format!("network namespace {other}")),
    };
    Some(Candidate {
        name: label,
        addresses,
        mac: None,
        home: Home::Space(netns.clone()),
        why: format!("{place}, {devices}"),
        ports,
        doubt,
    })
}

/// Adds the candidates behind taps and bridge ports of the caller's own namespace, unless they are in a
/// namespace that was read.
fn behind(own: &Namespace, found: &mut Found) {
    let known: BTreeSet<IpAddr> =
        found.candidates.iter().flat_map(|candidate| &candidate.addresses).copied().collect();
    let facts = &own.facts;
    for link in &facts.links {
        let is_guest = link.kind == Kind::Tap && link.layer == LinkLayerType::Ether;
        let is_seen = link.away.is_some_and(|id| own.away.contains_key(&id));
        let is_bridged = link
            .master
            .and_then(|master| facts.link(master))
            .is_some_and(|master| master.kind == Kind::Bridge);
        let is_port = link.kind == Kind::Veth && link.is_below_away && !is_seen;
        if !(is_guest || is_port) {
            continue;
        }
        let learned = facts.ports.iter().filter(|(_, port)| *port == link.index).map(|(mac, _)| *mac);
        let direct =
            facts.neighbours.iter().filter(|(index, ..)| *index == link.index).map(|(_, _, mac)| *mac);
        let macs: BTreeSet<[u8; 6]> = if is_bridged { learned.collect() } else { direct.collect() };
        let heard =
            facts.neighbours.iter().filter(|(_, address, mac)| macs.contains(mac) && is_node(*address));
        let addresses: BTreeSet<IpAddr> = heard.map(|(_, address, _)| *address).collect();
        if addresses.iter().any(|address| known.contains(address)) {
            continue;
        }
        let what = if is_guest { "tap" } else { "veth" };
        let bridge = link
            .master
            .and_then(|master| facts.link(master))
            .map(|bridge| format!(", a port of {}", bridge.name));
        let bridge = bridge.unwrap_or_default();
        if macs.is_empty() {
            found.notes.push(format!(
                "behind {what} {}{bridge}: nothing has been received yet; let it send something and run `injector init` again, or add it by hand",
                link.name
            ));
            continue;
        }
        let doubt = (macs.len() > 1)
            .then(|| format!("{} MAC addresses are behind it: several nodes, or a router", macs.len()));
        let home = if is_guest { Home::Guest(link.name.clone()) } else { Home::Port(link.name.clone()) };
        found.candidates.push(Candidate {
            name: link.name.clone(),
            mac: macs.first().copied().filter(|_| addresses.is_empty()),
            addresses: addresses.into_iter().collect(),
            home,
            why: format!("behind {what} {}{bridge}", link.name),
            ports: None,
            doubt,
        });
    }
    neighbours(own, found);
}

/// Hosts on the networks of this host's own devices: named, but not taken as peers.
fn neighbours(own: &Namespace, found: &mut Found) {
    const MOST: usize = 16;
    let nic = |index: u32| {
        own.facts.link(index).filter(|link| matches!(link.kind, Kind::Other | Kind::Bond | Kind::Vlan))
    };
    let mut lines: Vec<String> = own
        .facts
        .neighbours
        .iter()
        .filter(|(_, address, _)| is_node(*address))
        .filter_map(|(index, address, _)| Some(format!("{address} (a neighbour on {})", nic(*index)?.name)))
        .collect();
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("{more} more"));
    }
    if !lines.is_empty() {
        found.notes.push(format!("seen on this host's own network: {}", lines.join(", ")));
    }
}

/// Where most namespaces have a service in common, one that has no service is more likely a client.
fn doubt_clients(candidates: &mut [Candidate]) {
    let has_ports = |candidate: &Candidate| candidate.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let serving =
        candidates.iter().filter(|candidate| candidate.doubt.is_none() && has_ports(candidate)).count();
    if serving < 2 {
        return;
    }
    for candidate in candidates {
        if candidate.doubt.is_none() && candidate.ports.as_ref().is_some_and(BTreeSet::is_empty) {
            candidate.doubt = Some("nothing listens there: a client?".to_owned());
        }
    }
}

/// Where named namespaces form a likely cluster, candidates of another kind are probably no part of it.
fn doubt_other_kinds(candidates: &mut [Candidate]) {
    let is_named =
        |candidate: &Candidate| matches!(candidate.home, Home::Space(Netns::Name(_) | Netns::Container(_)));
    let named =
        candidates.iter().filter(|candidate| candidate.doubt.is_none() && is_named(candidate)).count();
    if named < 2 {
        return;
    }
    for candidate in candidates {
        if candidate.doubt.is_none() && !is_named(candidate) {
            candidate.doubt = Some("the others are named namespaces, or containers".to_owned());
        }
    }
}

/// Doubts processes that are known by their ports where other candidates have addresses of their own: the two
/// can't be cut from each other.
fn doubt_processes(candidates: &mut [Candidate]) {
    let is_process = |candidate: &Candidate| matches!(candidate.home, Home::Process(_));
    let others =
        candidates.iter().filter(|candidate| candidate.doubt.is_none() && !is_process(candidate)).count();
    if others < 2 {
        return;
    }
    for candidate in candidates.iter_mut().filter(|candidate| is_process(candidate)) {
        candidate.doubt.get_or_insert_with(|| "the others have addresses of their own".to_owned());
    }
}

/// An address that two likely candidates have can name neither.
fn doubt_twins(candidates: &mut [Candidate]) {
    let mut holders: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.doubt.is_none()) {
        for address in &candidate.addresses {
            holders.entry(*address).or_default().push(at);
        }
    }
    for (address, all) in holders.into_iter().filter(|(_, all)| all.len() > 1) {
        for at in all {
            candidates[at].doubt.get_or_insert(format!("another one has the address {address} too"));
        }
    }
}

/// Makes names that a config takes: without the common beginning of all likely peers' names, and each once.
fn name(candidates: &mut [Candidate]) {
    let likely: Vec<&str> = candidates
        .iter()
        .filter(|candidate| {
            candidate.doubt.is_none() && matches!(candidate.home, Home::Space(Netns::Name(_)))
        })
        .map(|candidate| candidate.name.as_str())
        .collect();
    let shared = if likely.len() > 1 { common(&likely).to_owned() } else { String::new() };
    let mut taken = BTreeSet::new();
    for candidate in candidates.iter_mut() {
        let short = candidate.name.strip_prefix(&shared).unwrap_or(&candidate.name);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let short: String = short.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        let short = short.trim_start_matches('-');
        let base =
            if short.is_empty() || short == "world" { format!("node-{short}") } else { short.to_owned() };
        let mut name = base.clone();
        let mut count = 2;
        while !taken.insert(name.clone()) {
            name = format!("{base}-{count}");
            count += 1;
        }
        candidate.name = name;
    }
    candidates.sort_by(|a, b| injector_core::model::natural(&a.name, &b.name));
}

/// The common beginning of all names, up to the last separator in it.
fn common<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, rest)) = names.split_first() else { return "" };
    let mut end = first.len();
    for other in rest {
        let same = first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        end = end.min(same);
    }
    let end = first.get(..end).and_then(|shared| shared.rfind(['-', '_', '.'])).map_or(0, |at| at + 1);
    &first[..end]
}

#[cfg(test)]
mod tests;
