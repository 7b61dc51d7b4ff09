//! Reads `here:` and `elsewhere:`, which say whose links this daemon cuts and which devices are no exits.

use super::interfaces::{name, place};
use super::names::{Firsts, peer_named};
use crate::config::Device;
use crate::config::read::Node;
use crate::model::{PeerId, PeerNames};

/// The peers on this host.
pub(super) fn here(node: &Node<'_>, names: &PeerNames) -> Vec<PeerId> {
    let usage = "name the peers on this host, as in: here: [n1]";
    let items = node.items(usage);
    if items.is_empty() && node.value().is_sequence() {
        node.error("no peer is here, so that this daemon would cut nothing", usage);
    }
    let mut firsts = Firsts::new(node.report());
    let mut here = Vec::new();
    for node in items {
        let Some(id) = peer_named(&node, names, usage) else { continue };
        if let Some(first) = firsts.earlier(id, &node) {
            node.error(format!("peer \"{}\" is given twice, first at {first}", names.name(id)), "keep one");
        }
        here.push(id);
    }
    here.sort_unstable();
    here
}

/// The devices that are left out.
pub(super) fn elsewhere(node: &Node<'_>) -> Vec<Device> {
    let usage = "write a list, such as: elsewhere: [eth1], or [{ name: eth1, netns: n1 }]";
    let mut firsts = Firsts::new(node.report());
    let mut devices = Vec::new();
    for node in node.items(usage) {
        let device = if node.value().is_mapping() {
            let Some(table) = node.table(usage) else { continue };
            let device = place(&table);
            table.finish();
            device.map(|(name, netns)| Device { name, netns })
        } else {
            name(&node).map(|name| Device { name, netns: None })
        };
        let Some(device) = device else { continue };
        if let Some(first) = firsts.earlier(device.clone(), &node) {
            node.error(format!("device {} is given twice, first at {first}", device.name), "keep one");
        }
        devices.push(device);
    }
    devices
}
