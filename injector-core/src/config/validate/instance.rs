//! The peers that an endpoint runs on, or that are asked for a role.

use super::names::{Firsts, unknown_peer};
use crate::config::Peer;
use crate::config::probe_kinds::texts::Instance;
use crate::config::read::Node;
use crate::model::{PeerId, PeerNames, WORLD};

/// The peers that a list, or the word `all`, names.
pub(super) fn instances<'a>(node: &Node<'a>, names: &'a PeerNames, peers: &[Peer]) -> Vec<Instance<'a>> {
    let usage = "name the peers that it runs on, as in: [n1, n2], or write the word all";
    if node.value().as_str() == Some("all") {
        return all(names, peers);
    }
    let items = node.items(usage);
    if items.is_empty() && node.value().is_sequence() {
        node.error("the list of peers is empty", "name at least one, or leave peers out");
    }
    let mut firsts = Firsts::new(node.report());
    let mut instances = Vec::new();
    for node in items {
        let Some(name) = node.text(usage) else { continue };
        let id = match names.id(name) {
            Some(PeerId::WORLD) => {
                node.error(format!("no endpoint runs on \"{WORLD}\""), "leave peers out of this endpoint");
                continue;
            }
            Some(id) => id,
            None => {
                unknown_peer(&node, name, names);
                continue;
            }
        };
        if let Some(first) = firsts.earlier(id, &node) {
            node.error(format!("peer \"{name}\" is given twice, first at {first}"), "keep one of the two");
            continue;
        }
        let peer = peers.iter().find(|peer| peer.id == id);
        let address = peer.and_then(Peer::service_address);
        instances.push(Instance {
            id,
            name,
            address,
            sound: peer.is_some_and(|peer| peer.container.is_none()),
        });
    }
    instances
}

/// All peers.
fn all<'a>(names: &'a PeerNames, peers: &[Peer]) -> Vec<Instance<'a>> {
    let instance = |id: PeerId| {
        let peer = peers.iter().find(|peer| peer.id == id);
        let address = peer.and_then(Peer::service_address);
        Instance {
            id,
            name: names.name(id),
            address,
            sound: peer.is_some_and(|peer| peer.container.is_none()),
        }
    };
    names.peers().map(instance).collect()
}
