//! Where a peer may be about which nothing is known. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::devices::{bridge_of, usable};
use super::super::homes::is_elsewhere;
use super::super::places::{DevicePath, Found, Namespace, Place};
use crate::address::is_link_local;
use crate::netlink::Kind;
use injector_core::config::{Config, Peer};
use injector_core::model::PeerId;

/// The most ports among which a silent peer is searched for: on a bridge with more, its own must be named.
const MOST: usize = 16;

/// Adds, for each peer that nothing is known of, the bridge ports behind which unknown MAC addresses were learned.
pub fn add(config: &Config, namespaces: &[Namespace], found: &mut BTreeMap<PeerId, Found>) {
    if found.values().all(|found| !found.paths.is_empty()) {
        return;
    }
    let known = known_macs(config, namespaces);
    for peer in config.peers.iter().filter(|peer| peer.container.is_none()) {
        let Some(found) = found.get_mut(&peer.id).filter(|found| found.paths.is_empty()) else { continue };
        let candidates = candidates(config, namespaces, peer, &known);
        if !candidates.is_empty() && candidates.len() <= MOST {
            found.weak.clone_from(&candidates);
            found.candidates = candidates;
        }
    }
}

/// The MAC addresses whose owner is known.
fn known_macs(config: &Config, namespaces: &[Namespace]) -> BTreeSet<[u8; 6]> {
    let facts = || namespaces.iter().map(|space| &space.facts);
    let devices = facts().flat_map(|facts| &facts.links).filter_map(|link| link.mac);
    let neighbours = facts().flat_map(|facts| &facts.neighbours);
    let routable = neighbours.filter(|(_, address, _)| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    });
    let configured = config.peers.iter().filter_map(|peer| peer.mac);
    devices.chain(routable.map(|(_, _, mac)| *mac)).chain(configured).collect()
}

fn candidates(
    config: &Config,
    namespaces: &[Namespace],
    peer: &Peer,
    known: &BTreeSet<[u8; 6]>,
) -> Vec<DevicePath> {
    let mut paths: Vec<DevicePath> = Vec::new();
    for space in namespaces {
        // A peer on a bridge that has networks of its own has an address in one of them.
        let is_in_reach = |bridge: u32| {
            let mut networks = space.facts.networks.iter().filter(|(index, net)| {
                *index == bridge && config.owner(net.addr()).is_none() && !is_link_local(net.addr())
            });
            let all: Vec<_> = networks.by_ref().collect();
            all.is_empty()
                || peer.addresses.iter().any(|address| all.iter().any(|(_, net)| net.contains(address)))
        };
        for (mac, port) in &space.facts.ports {
            let Some(link) = space.facts.link(*port).filter(|link| usable(link) && link.kind != Kind::Bridge)
            else {
                continue;
            };
            let is_taken = is_worded(config, space, &link.name, peer.id);
            let is_reached = bridge_of(space, link).is_some_and(|bridge| is_in_reach(bridge.index));
            let place = Place {
                netns: space.netns.clone(),
                name: link.name.clone(),
                why: "an unknown MAC address was learned behind this bridge port".to_owned(),
            };
            let is_new = !paths.iter().any(|path| path.places[0].is(&place));
            if is_reached
                && is_new
                && !is_taken
                && !known.contains(mac)
                && !is_elsewhere(config, space, &link.name)
            {
                paths.push(DevicePath { places: vec![place], sure: 1, is_own: false });
            }
        }
    }
    paths
}

/// Whether the config says that another peer is behind a port.
fn is_worded(config: &Config, space: &Namespace, name: &str, peer: PeerId) -> bool {
    let is_tap = |other: &Peer| {
        let tap = other.tap.as_ref().filter(|_| other.id != peer);
        tap.is_some_and(|tap| space.has(tap, name))
    };
    if config.peers.iter().any(is_tap) {
        return true;
    }
    let injector_core::config::Interfaces::Named(named) = &config.interfaces else { return false };
    named.iter().any(|interface| {
        let is_it = interface.name == name && space.is(interface.netns.as_ref());
        is_it && interface.peer.is_some_and(|other| other != peer)
    })
}

/// Why an address was not found, in words.
pub fn missing(namespaces: &[Namespace], address: IpAddr) -> String {
    for space in namespaces {
        let holder = space.facts.addresses.iter().find(|(_, held)| *held == address);
        if let Some(link) = holder.and_then(|(index, _)| space.facts.link(*index)) {
            return format!(
                "{address}: {} has it, whose packets begin with the IP header, so that no hook can judge them there",
                link.name
            );
        }
    }
    for space in namespaces {
        let network = space.facts.networks.iter().find(|(index, net)| {
            net.contains(&address) && space.facts.link(*index).is_some_and(|link| link.up)
        });
        if let Some((index, net)) = network
            && let Some(link) = space.facts.link(*index)
        {
            return format!(
                "{address}: it belongs to the network {} on {}, but has not sent anything there yet",
                net.trunc(),
                link.name
            );
        }
    }
    let has_default = namespaces.iter().any(|space| !space.facts.defaults.is_empty());
    let but = if has_default { " but a default" } else { "" };
    format!("{address}: no interface has it, it is no neighbour, and no route leads to it{but}")
}
