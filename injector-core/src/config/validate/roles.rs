//! `roles:` who leads, who follows: where the daemon asks.

use std::collections::BTreeMap;

use super::instance::instances;
use super::names::{NAME_REMEDY, is_name, peer_named};
use super::netns;
use crate::config::probe_kinds::exec::{command, command_table};
use crate::config::probe_kinds::http;
use crate::config::probe_kinds::texts::{Instance, Texts, pointer, scalar};
use crate::config::read::{ABOVE_ZERO, Fields, Node};
use crate::config::role::{LONGEST_ROLE_TIMEOUT, MOST_ASKED, ROLE_TIMEOUT};
use crate::config::{
    AskedPeer, ExecCommand, Hosts, Peer, RoleAnswer, RoleKind, RoleMeaning, RoleRequest, RoleSource,
};
use crate::model::{PeerId, PeerNames};

const USAGE: &str =
    "write it as: leader: { exec: [./who-leads] }, or leader: { http: { url: …, pointer: /leader } }";

/// Every role, by its name.
pub(super) fn read(node: &Node<'_>, names: &PeerNames, peers: &[Peer]) -> BTreeMap<String, RoleSource> {
    let mut roles = BTreeMap::new();
    for (name, node) in node.entries(USAGE) {
        if !is_name(name) {
            let remedy = if name.starts_with('@') {
                "leave out the @, which is written in shapes only"
            } else {
                NAME_REMEDY
            };
            node.key_error(format!("\"{name}\" can't be the name of a role"), remedy);
        }
        let Some(source) = role(name, &node, names, peers) else { continue };
        roles.insert(name.to_owned(), source);
    }
    roles
}

fn role(name: &str, node: &Node<'_>, names: &PeerNames, peers: &[Peer]) -> Option<RoleSource> {
    let table = node.table(USAGE)?;
    let (exec, http) = (table.get("exec"), table.get("http"));
    let kind = match (&exec, &http) {
        (Some(_), Some(second)) => {
            second.key_error("the role has two sources", "keep one, and give the other a name of its own");
            None
        }
        (None, None) => {
            node.error("the role has no source", USAGE);
            None
        }
        (Some(node), None) => self::exec(node),
        (None, Some(node)) => self::http(node, names, peers),
    };
    let timeout = table.get("timeout");
    let timeout =
        timeout.map_or(Some(ROLE_TIMEOUT), |node| node.span_within(ABOVE_ZERO, LONGEST_ROLE_TIMEOUT));
    let netns = table.get("netns").map(|node| netns::read(&node));
    table.finish();
    Some(RoleSource {
        name: name.to_owned(),
        kind: kind?,
        timeout: timeout?,
        netns: netns.flatten(),
        hosts: Hosts::new(),
    })
}

fn exec(node: &Node<'_>) -> Option<RoleKind> {
    let texts = Texts { instances: None };
    let exec = if node.value().is_sequence() {
        ExecCommand { command: command(node, &texts)?, user: None, env: BTreeMap::new() }
    } else {
        command_table(node, &texts)?
    };
    Some(RoleKind::Exec(exec))
}

fn http(node: &Node<'_>, names: &PeerNames, peers: &[Peer]) -> Option<RoleKind> {
    let table = node.table("write it as: { url: \"http://10.0.0.1:8080/cluster\", pointer: /leader }")?;
    let is_for_each = |key: &str| {
        let text = node.value().get(key).and_then(|value| value.as_str()).unwrap_or_default();
        text.contains("{peer}") || text.contains("{address}")
    };
    let asked = table.get("peers");
    let asked = match &asked {
        Some(node) => Some(instances(node, names, peers)),
        None if is_for_each("url") || is_for_each("body") => Some(everyone(names, peers)),
        None => None,
    };
    if let Some(asked) = asked.as_ref().filter(|asked| asked.len() > MOST_ASKED) {
        let what = format!("{} peers would be asked, and {MOST_ASKED} are at most", asked.len());
        node.error(what, "name some of them, as in: peers: [n1, n2, n3]");
    }
    let request = http::request(&table, &Texts { instances: asked.as_deref() });
    let answer = answer(&table, names, asked.is_some());
    table.finish();
    let http = request?;
    let peer =
        |peer: Instance<'_>| AskedPeer { id: peer.id, name: peer.name.to_owned(), address: peer.address };
    let peers = asked.into_iter().flatten().map(peer).collect();
    Some(RoleKind::Http { request: Box::new(RoleRequest { http, peers }), answer: answer? })
}

fn everyone<'a>(names: &'a PeerNames, peers: &[Peer]) -> Vec<Instance<'a>> {
    let instance = |id: PeerId| {
        let peer = peers.iter().find(|peer| peer.id == id);
        let address = peer.and_then(|peer| peer.addresses.first().copied());
        Instance {
            id,
            name: names.name(id),
            address,
            sound: peer.is_some_and(|peer| peer.container.is_none()),
        }
    };
    names.peers().map(instance).collect()
}

fn answer(table: &Fields<'_>, names: &PeerNames, is_for_each: bool) -> Option<RoleAnswer> {
    let usage = "write a JSON pointer, as in: pointer: /leader";
    let at = table.require("pointer", usage).and_then(|node| pointer(&node));
    let (words, equals, same_as) = (table.get("names"), table.get("equals"), table.get("same_as"));
    let given = [&words, &equals, &same_as].into_iter().flatten().collect::<Vec<_>>();
    if let Some(second) = given.get(1) {
        second.key_error("the answer has two meanings", "keep one of names, equals and same_as");
    }
    for node in [&equals, &same_as].into_iter().flatten() {
        if !is_for_each {
            node.key_error(
                "no peer is asked that could speak for itself",
                "write {address} in the URL, or name the peers to ask",
            );
        }
    }
    let meaning = if let Some(node) = equals {
        scalar(&node, "write the value of a peer that has the role").map(RoleMeaning::Equals)
    } else if let Some(node) = same_as {
        pointer(&node).map(RoleMeaning::SameAs)
    } else {
        let mut known = BTreeMap::new();
        let usage = "write what the answer says and which peer it is, as in: { 8e9e05c52164694d: n1 }";
        for (word, node) in words.map(|node| node.entries(usage)).unwrap_or_default() {
            if let Some(id) = peer_named(&node, names, usage) {
                known.insert(word.to_owned(), id);
            }
        }
        Some(RoleMeaning::Names(known))
    };
    Some(RoleAnswer { pointer: at?, meaning: meaning? })
}
