//! `endpoints:` who is probed, from where, and what the kernel takes as a response.

use std::net::IpAddr;

use super::{Firsts, NAME_REMEDY, is_name, netns};
use crate::config::read::Node;
use crate::config::{Endpoint, Peer, Role, Wire, WireSuccess};
use crate::model::{PeerId, PeerNames, WORLD};

mod probe;

/// The instances of every endpoint, in the order of the text.
pub(super) fn read(node: &Node<'_>, names: &PeerNames, peers: &[Peer]) -> Vec<Endpoint> {
    let mut firsts = Firsts::new(node.report());
    let mut endpoints = Vec::new();
    for node in node.items("write a list, such as: [{ name: ingress, peers: [n1], probe: … }]") {
        endpoint(&node, names, peers, &mut firsts, &mut endpoints);
    }
    endpoints
}

/// One peer that an endpoint runs on.
struct Instance<'a> {
    id: PeerId,
    name: &'a str,
    /// Its first single address.
    address: Option<IpAddr>,
    /// Whether nothing is wrong with the peer itself, so that a missing address is worth a word.
    sound: bool,
}

fn endpoint(
    node: &Node<'_>,
    names: &PeerNames,
    peers: &[Peer],
    firsts: &mut Firsts<'_, String>,
    endpoints: &mut Vec<Endpoint>,
) {
    let usage = "write it as: { name: ingress, peers: [n1], probe: { http: { url: … } } }";
    let Some(table) = node.table(usage) else { return };
    let base = table.require("name", "name the endpoint, as in: name: ingress");
    let base = base.and_then(|node| {
        let name = node.some_text("write a name, such as ingress")?;
        if !is_name(name) {
            node.error(format!("\"{name}\" can't be the name of an endpoint"), NAME_REMEDY);
        } else if let Some(first) = firsts.earlier(name.to_owned(), &node) {
            let what = format!("endpoint \"{name}\" is given twice, first at {first}");
            node.error(what, "choose another name, or add its peers to the first");
        }
        Some(name.to_owned())
    });
    let peers_node = table.get("peers");
    let instances = peers_node.as_ref().map(|node| instances(node, names, peers));
    let role = table.get("role").map_or(Some(Role::Required), |node| role(&node));
    let probe = table
        .require("probe", "say how it is probed, as in: probe: { http: { url: \"http://{address}:8080/\" } }")
        .and_then(|node| probe::read(&node, instances.as_deref()));
    let wire_node = table.get("wire");
    if let Some(node) = &wire_node
        && peers_node.is_none()
    {
        node.key_error(
            "an endpoint without peers has no address that a response could come from",
            "name its peers, or leave wire out",
        );
    }
    let wire = wire_node.as_ref().map(wire);
    if let (Some(node), Some(Some(wire)), Some(instances)) = (&wire_node, &wire, &instances)
        && let Some(other) = instances.iter().find_map(|peer| seen_otherwise(endpoints, peer, wire))
    {
        node.error(
            format!("endpoint \"{other}\" takes something else as a success from port {} there", wire.port),
            "give both the same success: the programs look at a port in one way",
        );
    }
    let netns = table.get("netns").map(|node| netns(&node));
    table.finish();
    // What was given and is wrong has been reported: there will be no config, and no endpoint is needed.
    let (Some(base), Some(role), Some(probe)) = (base, role, probe) else { return };
    let one = |name: String, peer: Option<&Instance<'_>>| Endpoint {
        name,
        base: base.clone(),
        peer: peer.map(|peer| peer.id),
        address: peer.and_then(|peer| peer.address),
        role,
        probe: probe.clone(),
        wire: wire.clone().flatten(),
        netns: netns.clone().flatten(),
    };
    match instances {
        None => endpoints.push(one(base.clone(), None)),
        Some(instances) => {
            endpoints.extend(instances.iter().map(|peer| one(format!("{base}@{}", peer.name), Some(peer))));
        }
    }
}

/// An endpoint that looks at the same address and port for another success.
fn seen_otherwise<'a>(endpoints: &'a [Endpoint], peer: &Instance<'_>, wire: &Wire) -> Option<&'a str> {
    let address = peer.address?;
    let is_other = |other: &&Endpoint| {
        other.address == Some(address)
            && other.wire.as_ref().is_some_and(|it| it.port == wire.port && it.success != wire.success)
    };
    endpoints.iter().find(is_other).map(|other| other.name.as_str())
}

fn instances<'a>(node: &Node<'a>, names: &PeerNames, peers: &[Peer]) -> Vec<Instance<'a>> {
    let usage = "name the peers that it runs on, as in: [n1, n2]";
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
                let known: Vec<_> = names.peers().take(12).map(|id| names.name(id)).collect();
                let more = if names.len() > 13 { ", …" } else { "" };
                node.error(
                    format!("unknown peer \"{name}\""),
                    format!("known peers: {}{more}", known.join(", ")),
                );
                continue;
            }
        };
        if let Some(first) = firsts.earlier(id, &node) {
            node.error(format!("peer \"{name}\" is given twice, first at {first}"), "keep one of the two");
            continue;
        }
        let peer = peers.iter().find(|peer| peer.id == id);
        let address = peer.and_then(|peer| peer.addresses.first().copied());
        instances.push(Instance { id, name, address, sound: peer.is_some() });
    }
    instances
}

fn role(node: &Node<'_>) -> Option<Role> {
    let usage = "write required or advisory";
    match node.text(usage)? {
        "required" => Some(Role::Required),
        "advisory" => Some(Role::Advisory),
        other => {
            node.error(format!("unknown role \"{other}\""), usage);
            None
        }
    }
}

/// The most bytes that the kernel side compares.
const MAX_PREFIX: usize = 16;

fn wire(node: &Node<'_>) -> Option<Wire> {
    let table = node.table("write it as: { port: 8080, success: http }")?;
    let port = table.require("port", "write the endpoint's TCP port");
    let port = port.and_then(|node| node.number(1, u16::MAX.into())).map(|port| port as u16);
    let usage = "write http, grpc, payload or { prefix: \"+PONG\" }";
    let success = table.require("success", usage).and_then(|node| success(&node, usage));
    table.finish();
    Some(Wire { port: port?, success: success? })
}

fn success(node: &Node<'_>, usage: &str) -> Option<WireSuccess> {
    if node.value().is_mapping() {
        let table = node.table(usage)?;
        let prefix = table.require("prefix", "write it as: { prefix: \"+PONG\" }");
        let prefix = prefix.and_then(|node| {
            let text = node.some_text("write what the response begins with; payload takes any response")?;
            if text.len() > MAX_PREFIX {
                let what = format!("the prefix has {} bytes, and {MAX_PREFIX} are compared", text.len());
                node.error(what, format!("write its first {MAX_PREFIX} bytes or fewer"));
                return None;
            }
            Some(WireSuccess::Prefix(text.as_bytes().to_vec()))
        });
        table.finish();
        return prefix;
    }
    match node.text(usage)? {
        "http" => Some(WireSuccess::Http),
        "grpc" => Some(WireSuccess::Grpc),
        "payload" => Some(WireSuccess::Payload),
        other => {
            node.error(format!("unknown success \"{other}\""), usage);
            None
        }
    }
}
