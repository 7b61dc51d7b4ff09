//! Reads the keys that distinguish peers on this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use super::netns;
use crate::config::read::{Fields, Node};
use crate::config::{Listen, LocalBy, LocalPeer};

const USAGE: &str = "write the ports that this peer alone listens on, as in: listens: [2379, 2380], or with an address, \
                     as in: listens: [\"127.0.0.2:2379\"]";
/// Names of units end with one of these where they have processes.
const UNITS: [&str; 3] = [".service", ".scope", ".slice"];

/// A peer on this machine as its table says it.
pub(super) struct Local<'a> {
    pub peer: LocalPeer,
    /// Each of its ports, with its place.
    listens: Vec<(Listen, Node<'a>)>,
    /// The word that says which processes are the peer's.
    word: Node<'a>,
}

/// The keys that say which processes are a peer's; a peer has at most one of them.
const WORDS: [&str; 4] = ["listens", "pid", "cgroup", "unit"];

/// Whether a peer is processes on this machine.
pub(super) fn is_named(peer: &Node<'_>) -> bool {
    WORDS.iter().any(|word| peer.value().get(word).is_some())
}

/// Reads the keys of a peer's table that are about processes on this machine; `None` if there are none, or
/// one is wrong, which is reported.
pub(super) fn read<'a>(table: &Fields<'a>) -> Option<Local<'a>> {
    let others = ["addresses", "mac", "vm", "vip", "forwards", "container", "compose"]
        .map(|name| (name, table.get(name)));
    let words = WORDS.map(|name| (name, table.get(name)));
    let netns_node = table.get("netns");
    let mut given = words.into_iter().filter_map(|(name, node)| Some((name, node?)));
    let Some((name, word)) = given.next() else {
        if let Some(node) = netns_node {
            node.key_error(
                "only a peer on this machine has a netns of its own",
                "leave it out: the namespaces of other peers are found, or are listed in interfaces",
            );
        }
        return None;
    };
    for (other, node) in given {
        node.key_error(
            format!("{other} and {name} both say which processes are the peer's"),
            "keep one of the two",
        );
    }
    let netns = netns_node.as_ref().and_then(netns::read);
    for (other, node) in others {
        if let Some(node) = node {
            node.key_error(
                format!("{other} names what comes from elsewhere, and {name} processes on this machine"),
                "keep one of the two",
            );
        }
    }
    let mut listens = Vec::new();
    let by = match name {
        "listens" => {
            listens = ports(&word);
            LocalBy::Listens(listens.iter().map(|(listen, _)| *listen).collect())
        }
        "pid" => LocalBy::Process(word.number(1, i32::MAX.unsigned_abs())?),
        "cgroup" => LocalBy::Cgroup(cgroup(&word)?),
        _ => LocalBy::Unit(unit(&word)?),
    };
    Some(Local { peer: LocalPeer { by, netns }, listens, word })
}

fn ports<'a>(node: &Node<'a>) -> Vec<(Listen, Node<'a>)> {
    let items = node.items(USAGE);
    if items.is_empty() && node.value().is_sequence() {
        node.error("the list of ports is empty", USAGE);
    }
    items.into_iter().filter_map(|node| Some((listen(&node)?, node))).collect()
}

fn listen(node: &Node<'_>) -> Option<Listen> {
    if node.value().is_number() {
        return node.number(1, u16::MAX.into()).map(|port| Listen::Port(port as u16));
    }
    let text = node.some_text(USAGE)?;
    let listen = if let Ok(at) = text.parse::<SocketAddr>() {
        Listen::At(at.ip(), at.port())
    } else if let Ok(address) = text.parse::<IpAddr>() {
        Listen::Address(address)
    } else if let Ok(port) = text.parse::<u16>() {
        Listen::Port(port)
    } else {
        node.error(format!("\"{text}\" is neither a port nor an address"), USAGE);
        return None;
    };
    if listen.port() == Some(0) {
        node.error("0 is no port that anybody listens on", USAGE);
        return None;
    }
    let Some(address) = listen.address() else { return Some(listen) };
    if address.is_unspecified() {
        node.error(format!("{address} means every address"), "write the port alone");
    } else if address.is_multicast() {
        node.error(format!("{address} is multicast, and belongs to nobody alone"), USAGE);
    } else if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        node.error(
            format!("{address} is an IPv4-mapped address, which no packet carries"),
            format!("write {v4}"),
        );
    } else {
        return Some(listen);
    }
    None
}

fn cgroup(node: &Node<'_>) -> Option<PathBuf> {
    let usage =
        "write its path from the root of cgroup2, as /proc/PID/cgroup shows it behind 0::, such as /lab/n1";
    let text = node.some_text(usage)?;
    let path = Path::new(text.trim_start_matches('/'));
    if path.as_os_str().is_empty() {
        node.error("the root of all cgroups is everybody's", usage);
        return None;
    }
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        node.error(format!("\"{text}\" is not the path of a cgroup"), usage);
        return None;
    }
    Some(path.components().collect())
}

fn unit(node: &Node<'_>) -> Option<String> {
    let usage = "write the unit's full name, such as etcd@1.service";
    let text = node.some_text(usage)?;
    let is_name =
        UNITS.iter().any(|end| text.len() > end.len() && text.ends_with(end)) && !text.contains('/');
    if !is_name {
        node.error(format!("\"{text}\" is not the name of a unit with processes"), usage);
        return None;
    }
    Some(text.to_owned())
}

/// Reports what two peers would both be known by, or one peer twice.
pub(super) fn overlaps<'a>(all: &mut Vec<(String, Local<'a>)>, name: &str, local: Local<'a>) {
    for (at, (listen, node)) in local.listens.iter().enumerate() {
        if let Some((_, first)) = local.listens[..at].iter().find(|(other, _)| other == listen) {
            node.error(format!("{listen} is given twice, first at {}", place(first)), "keep one of the two");
            continue;
        }
        let same_space = all.iter().filter(|(_, other)| other.peer.netns == local.peer.netns);
        let other = same_space
            .flat_map(|(name, other)| other.listens.iter().map(move |(listen, node)| (name, listen, node)))
            .find(|(_, other, _)| other.overlaps(*listen));
        if let Some((peer, other, first)) = other {
            node.error(
                format!("{listen} is {peer}'s too ({other}, at {})", place(first)),
                "a port identifies one peer: keep one of the two, or write each with its address",
            );
        }
    }
    for (peer, other) in all.iter() {
        let (mine, theirs) = (&local.peer.by, &other.peer.by);
        let what = match (mine, theirs) {
            (LocalBy::Listens(_), _) => None,
            (LocalBy::Cgroup(mine), LocalBy::Cgroup(theirs)) if mine != theirs => {
                let inner = mine.starts_with(theirs) || theirs.starts_with(mine);
                inner.then(|| {
                    let which = if mine.starts_with(theirs) { "within" } else { "around" };
                    format!("{} is {which} {peer}'s {}", local.peer.by, other.peer.by)
                })
            }
            (mine, theirs) => (mine == theirs).then(|| format!("{mine} is {peer}'s too")),
        };
        if let Some(what) = what {
            local.word.error(
                format!("{what}, at {}", place(&other.word)),
                "a process belongs to one peer: name them by what they do not share",
            );
        }
    }
    all.push((name.to_owned(), local));
}

/// The place of something, in words.
fn place(node: &Node<'_>) -> String {
    format!("{}, {}", node.path, node.report().line(&node.path))
}
