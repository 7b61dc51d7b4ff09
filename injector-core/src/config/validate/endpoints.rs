//! `endpoints:` who is probed, from where, and what the kernel takes as a response.

use super::instance::instances;
use super::names::{Firsts, NAME_REMEDY, is_name};
use super::netns;
use crate::config::probe_kinds::texts::Instance;
use crate::config::read::Node;
use crate::config::{Endpoint, Family, Hosts, Peer, ProbeKind, Role, Wire, WireSuccess};
use crate::model::PeerNames;

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
    let mut instances = peers_node.as_ref().map(|node| instances(node, names, peers));
    let family = table.get("family").and_then(|node| {
        let family = family(&node)?;
        for instance in instances.iter_mut().flatten() {
            choose(instance, family, peers, &node);
        }
        Some(family)
    });
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
    if let (Some(node), Some(Some(wire)), Some(probe)) = (&wire_node, &wire, &probe) {
        readable(node, wire, &probe.kind);
    }
    let netns = table.get("netns").map(|node| netns::read(&node));
    table.finish();
    // A part that is given and wrong has been reported: there will be no config, so no endpoint is made.
    let (Some(base), Some(role), Some(probe)) = (base, role, probe) else { return };
    let one = |name: String, peer: Option<&Instance<'_>>| Endpoint {
        name,
        base: base.clone(),
        peer: peer.map(|peer| peer.id),
        address: peer.and_then(|peer| peer.address),
        family,
        role,
        probe: probe.clone(),
        wire: wire.clone().flatten(),
        netns: netns.clone().flatten(),
        hosts: Hosts::new(),
    };
    match instances {
        None => endpoints.push(one(base.clone(), None)),
        Some(instances) => {
            let made: Vec<Endpoint> =
                instances.iter().map(|peer| one(format!("{base}@{}", peer.name), Some(peer))).collect();
            if let Some(what) = made.iter().find_map(|endpoint| elsewhere(endpoint, names, peers)) {
                node.error(what, "write {address} in its place, name the other peer, or leave peers out");
            }
            endpoints.extend(made);
        }
    }
}

fn family(node: &Node<'_>) -> Option<Family> {
    let usage = "write ipv4 or ipv6";
    match node.text(usage)? {
        "ipv4" => Some(Family::Ipv4),
        "ipv6" => Some(Family::Ipv6),
        other => {
            node.error(format!("unknown family \"{other}\""), usage);
            None
        }
    }
}

/// Takes the first address of a family for a peer's.
fn choose(instance: &mut Instance<'_>, family: Family, peers: &[Peer], node: &Node<'_>) {
    let Some(peer) = peers.iter().find(|peer| peer.id == instance.id) else { return };
    let mut addresses = peer.addresses.iter().copied().chain(peer.service_address());
    instance.address = addresses.find(|address| family.has(*address));
    if instance.address.is_none() && peer.container.is_none() {
        node.error(
            format!("peer \"{}\" has no single address of {family}", instance.name),
            format!("add one to peers.{}.addresses, or leave family out", instance.name),
        );
        // A single fault is enough: a text with {address} reports no second one.
        instance.sound = false;
    }
}

/// Refuses what the programs would never find: they see no text in TLS.
fn readable(node: &Node<'_>, wire: &Wire, kind: &ProbeKind) {
    if kind.tls().is_some() && matches!(wire.success, WireSuccess::Http | WireSuccess::Grpc) {
        node.error(
            "the endpoint speaks TLS, in which the programs can't read a response",
            "leave wire out (first_ok_ns has the first success of a probe), or write success: payload, which takes the \
             first payload of the server, also of the handshake",
        );
    }
}

/// Says where the probe of an endpoint goes, if that is another peer's: its outages would be taken for those of its own peer.
fn elsewhere(endpoint: &Endpoint, names: &PeerNames, peers: &[Peer]) -> Option<String> {
    let own = endpoint.peer?;
    let destination = endpoint.destination(Some(names.name(own)))?;
    let has = |peer: &&Peer| peer.addresses.contains(&destination);
    let other = peers.iter().find(has).filter(|other| other.id != own)?;
    let is_shared = peers.iter().filter(has).any(|peer| peer.id == own);
    (!is_shared).then(|| {
        format!(
            "the probe of \"{}\" goes to {destination}, which is the address of peer \"{}\"",
            endpoint.name,
            names.name(other.id)
        )
    })
}

/// An endpoint that expects another success at the same address and port.
fn seen_otherwise<'a>(endpoints: &'a [Endpoint], peer: &Instance<'_>, wire: &Wire) -> Option<&'a str> {
    let address = peer.address?;
    let is_other = |other: &&Endpoint| {
        other.address == Some(address)
            && other.wire.as_ref().is_some_and(|it| it.port == wire.port && it.success != wire.success)
    };
    endpoints.iter().find(is_other).map(|other| other.name.as_str())
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
