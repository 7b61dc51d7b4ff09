//! Whether news may change where a peer lives: most neighbours are refreshed all the time. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::survey::Namespace;
use crate::config::Config;
use crate::netlink::facts::Route;
use crate::netlink::news::News;

/// Whether a survey could find something else than it did, for this news from one of the namespaces. `None` is a
/// namespace that the last survey did not see.
pub fn concerns(config: &Config, all: &[Namespace], space: Option<&Namespace>, news: &News) -> bool {
    let Some(facts) = space.map(|space| &space.facts) else { return true };
    match news {
        News::Overrun => true,
        News::Gone(index) => facts.link(*index).is_some(),
        News::Link(link) => facts.link(link.index).is_none_or(|known| {
            // Not its kind: a bridge tells of its ports without it.
            (&known.name, known.up, known.mac) != (&link.name, link.up, link.mac)
                || link.master.is_some() && known.master != link.master
        }),
        News::Neighbour(index, address, mac) => {
            let is_mine = is_peers(config, *address)
                || config.peers.iter().any(|peer| peer.mac == Some(*mac))
                || facts.routes.iter().any(|route| route.gateway == Some(*address));
            is_mine && !facts.neighbours.contains(&(*index, *address, *mac))
        }
        News::Port(mac, port) => {
            let is_mine = config.peers.iter().any(|peer| peer.mac == Some(*mac))
                || all.iter().flat_map(|space| &space.facts.neighbours).any(|(_, _, known)| known == mac);
            is_mine && !facts.ports.contains(&(*mac, *port))
        }
        News::Routes(routes) => routes.iter().any(|route| leads_to_peer(config, route)),
        News::Address(address) => is_peers(config, *address),
    }
}

fn is_peers(config: &Config, address: IpAddr) -> bool {
    config.peers.iter().any(|peer| {
        peer.addresses.contains(&address) || peer.prefixes.iter().any(|prefix| prefix.contains(&address))
    })
}

fn leads_to_peer(config: &Config, route: &Route) -> bool {
    let overlaps = |prefix: &IpNet| prefix.contains(&route.net) || route.net.contains(prefix);
    config.peers.iter().any(|peer| {
        peer.addresses.iter().any(|address| route.net.contains(address)) || peer.prefixes.iter().any(overlaps)
    })
}
