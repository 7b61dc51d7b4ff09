//! `interfaces:` what to attach to.

use super::names::{Firsts, peer_named};
use super::netns;
use crate::config::read::{Fields, Node, Report};
use crate::config::{Device, Hook, Interface, Interfaces, Netns, Peer};
use crate::model::PeerNames;

/// The kernel's IFNAMSIZ, less its final zero.
const MAX_NAME: usize = 15;

pub(super) fn read(node: &Node<'_>, names: &PeerNames) -> Interfaces {
    let usage = "write the word auto, or a list such as: [{ name: eth0, netns: n1 }]";
    if node.value().as_str() == Some("auto") {
        return Interfaces::Auto;
    }
    let items = node.items(usage);
    if items.is_empty() && node.value().is_sequence() {
        node.error("the list of interfaces is empty", "name at least one, or write the word auto");
    }
    let mut firsts = Firsts::new(node.report());
    let mut interfaces = Vec::new();
    for node in items {
        let Some(interface) = interface(&node, names) else { continue };
        if let Some(first) = firsts.earlier((interface.name.clone(), interface.netns.clone()), &node) {
            let place = interface.netns.as_ref().map_or_else(String::new, |netns| format!(" in {netns}"));
            let what = format!("interface {}{place} is given twice, first at {first}", interface.name);
            node.error(what, "keep one of the two");
        }
        interfaces.push(interface);
    }
    Interfaces::Named(interfaces)
}

/// Adds the interfaces that peers are behind by their `vm:` to a list of interfaces. Under `auto` they are found by it.
pub(super) fn add_taps(interfaces: &mut Interfaces, names: &PeerNames, peers: &[Peer], report: &Report<'_>) {
    let Interfaces::Named(list) = interfaces else { return };
    for peer in peers {
        let Some(Device { name, netns }) = &peer.tap else { continue };
        let Some(listed) = list.iter_mut().find(|interface| interface.is(name, netns.as_ref())) else {
            let (name, netns, peer) = (name.clone(), netns.clone(), Some(peer.id));
            list.push(Interface { name, netns, hook: Hook::Auto, peer });
            continue;
        };
        match listed.peer {
            Some(other) if other != peer.id => {
                let (path, other) =
                    (format!("peers.{}.vm.interface", names.name(peer.id)), names.name(other));
                let what = format!("interface {name} is {other}'s in interfaces");
                report.at_value(&path, what, "one peer is behind it: keep one of the two");
            }
            _ => listed.peer = Some(peer.id),
        }
    }
}

fn interface(node: &Node<'_>, names: &PeerNames) -> Option<Interface> {
    let table = node.table("write it as: { name: eth0 }, with netns, hook and peer as needed")?;
    let place = place(&table);
    let hook = table.get("hook").map_or(Some(Hook::Auto), |node| hook(&node));
    let usage = "name the one peer that is behind this interface, as in: { name: tap1, peer: n1 }";
    let peer = table.get("peer").map(|node| peer_named(&node, names, usage));
    table.finish();
    // A peer that is given and wrong must not be read as one that is left out.
    let peer = match peer {
        None => None,
        Some(peer) => Some(peer?),
    };
    let (name, netns) = place?;
    Some(Interface { name, netns, hook: hook?, peer })
}

/// `name` and `netns` of a table.
pub(super) fn place(table: &Fields<'_>) -> Option<(String, Option<Netns>)> {
    let name = table
        .require("name", "write the interface's name, as in: { name: eth0 }")
        .and_then(|node| name(&node));
    let netns = table.get("netns").as_ref().map(netns::read);
    // A namespace that was given and is wrong must not turn into the daemon's own.
    let netns = match netns {
        None => None,
        Some(netns) => Some(netns?),
    };
    Some((name?, netns))
}

pub(super) fn name(node: &Node<'_>) -> Option<String> {
    let name = node.some_text("write the interface's name, such as eth0")?;
    if name.len() > MAX_NAME {
        let what =
            format!("\"{name}\" has {} bytes, and interface names have at most {MAX_NAME}", name.len());
        node.error(what, "write the name as `ip link` shows it");
        return None;
    }
    if name == "lo" {
        node.error(
            "lo carries what a host sends to itself, and no packet between peers on different hosts or namespaces",
            "name the interface that leads to the peers, or write interfaces: auto; for peers on this machine (listens, \
             pid, cgroup or unit), lo is attached to without being named",
        );
        return None;
    }
    // Names that dev_valid_name() of the kernel refuses.
    if name == "." || name == ".." || name.contains(['/', ':']) || name.contains(char::is_whitespace) {
        node.error(
            format!("\"{name}\" can't be the name of an interface"),
            "write the name as `ip link` shows it, without what follows '@' or ':'",
        );
        return None;
    }
    Some(name.to_owned())
}

fn hook(node: &Node<'_>) -> Option<Hook> {
    let words = Hook::WORDS.map(|(word, _)| word);
    let usage = format!("write {} or {}", words[..words.len() - 1].join(", "), words[words.len() - 1]);
    let text = node.text(&usage)?;
    let found = Hook::WORDS.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        node.error(format!("unknown hook \"{text}\""), usage);
    }
    found.map(|(_, hook)| *hook)
}
