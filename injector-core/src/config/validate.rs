//! Makes a [`Config`] of the YAML tree: every check, every default.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use self::names::{NAME_REMEDY, is_name};
use super::read::{ABOVE_ZERO, Fields, Node};
use super::{
    Config, Endpoint, Interfaces, LONGEST_DEADLINE, LONGEST_FOR, Protect, RoleSource, Select, Socket,
};
use crate::clock::Span;
use crate::model::{Direction, MAX_PEERS, PeerNames, Ready, Scope, Shape};
use crate::topology::{self, Definitions, RolePeers, TopologyError};

mod container;
mod devices;
mod endpoints;
mod instance;
mod interfaces;
mod local;
mod metrics;
mod names;
mod netns;
mod peers;
mod roles;

/// Reads the whole config; what is wrong is in the report, and then there may be no config.
pub(super) fn config(root: &Node<'_>, select: &Select<'_>) -> Option<Config> {
    let top = root.table("write the keys peers and interfaces, and others as needed")?;
    let peers = top.get("peers");
    let interfaces = top.require("interfaces", "write the word auto, or a list such as: [{ name: eth0 }]");
    let containers = top.get("containers");
    if peers.is_none() && containers.is_none() {
        let remedy = "name the peers, as in: peers: { n1: { addresses: [10.0.0.1] } }";
        top.missing("peers", remedy);
    }
    let engine = top.get("engine").and_then(|node| container::engine(&node)).unwrap_or_default();
    let selected = match containers {
        None => None,
        // Without the selected containers, whatever names one of them would be a fault too.
        Some(node) => Some(container::selected(node, &engine, select)?),
    };
    let (names, peers) = peers::read(peers.as_ref(), selected.as_ref(), root.report());
    let mut interfaces = interfaces.map_or(Interfaces::Auto, |node| interfaces::read(&node, &names));
    interfaces::add_taps(&mut interfaces, &names, &peers, root.report());
    let endpoints: Vec<Endpoint> =
        top.get("endpoints").map(|node| endpoints::read(&node, &names, &peers)).unwrap_or_default();
    let roles = top.get("roles").map(|node| roles::read(&node, &names, &peers)).unwrap_or_default();
    let presets = top.get("presets").map(|node| presets(&node, &names, &roles)).unwrap_or_default();
    let config = Config {
        socket: socket(top.get("socket")),
        metrics: top.get("metrics").and_then(|node| metrics::read(&node)),
        names: names.clone(),
        peers,
        interfaces,
        endpoints,
        ready: ready(top.get("ready")),
        deadline: span(&top, "deadline", Span::secs(20), LONGEST_DEADLINE),
        protect: top.get("protect").map(|node| protect(&node)).unwrap_or_default(),
        max_for: span(&top, "max_for", Span::secs(600), LONGEST_FOR),
        presets,
        roles,
        here: top.get("here").map(|node| devices::here(&node, &names)),
        elsewhere: top.get("elsewhere").map(|node| devices::elsewhere(&node)).unwrap_or_default(),
        engine,
    };
    container::need_auto(&config, root.report());
    top.finish();
    Some(config)
}

/// A length of time above zero, and at most so long: what is measured until then is kept in memory.
fn span(table: &Fields<'_>, key: &'static str, default: Span, most: Span) -> Span {
    table.get(key).and_then(|node| node.span_within(ABOVE_ZERO, most)).unwrap_or(default)
}

fn socket(node: Option<Node<'_>>) -> Socket {
    let mut socket = Socket {
        path: "/run/injector/injector.sock".into(),
        group: "injector".to_owned(),
        mode: 0o660,
        readers: None,
    };
    let usage = "write it as: { path: /run/injector/injector.sock, group: injector, mode: \"0660\" }";
    let Some(table) = node.and_then(|node| node.table(usage)) else {
        return socket;
    };
    if let Some(node) = table.get("path")
        && let Some(path) = node.some_text("write an absolute path")
    {
        // The kernel's sun_path holds 108 bytes with the final zero.
        if !Path::new(path).is_absolute() {
            node.error(
                format!("socket path \"{path}\" is relative"),
                "write an absolute path, beginning with /",
            );
        } else if path.len() > 107 {
            let what = format!("socket path has {} bytes, and a socket address holds 107", path.len());
            node.error(what, "choose a shorter path");
        } else {
            socket.path = PathBuf::from(path);
        }
    }
    if let Some(node) = table.get("group")
        && let Some(group) = node.some_text("write the group's name, in quotes if it is a number")
    {
        group.clone_into(&mut socket.group);
    }
    if let Some(node) = table.get("mode")
        && let Some(mode) = mode(&node)
    {
        socket.mode = mode;
    }
    if let Some(node) = table.get("readers")
        && let Some(readers) = node.some_text("write the name of a group, in quotes if it is a number")
    {
        if readers == socket.group {
            node.error(
                format!("the group {readers} owns the socket, so its members do more than read"),
                "name another group, or leave readers out",
            );
        } else {
            socket.readers = Some(readers.to_owned());
        }
    }
    table.finish();
    socket
}

fn mode(node: &Node<'_>) -> Option<u32> {
    let text = node.text("write the mode in octal and in quotes, such as \"0660\"")?;
    let octal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    match mode {
        None => {
            node.error(
                format!("\"{text}\" is not an octal file mode"),
                "write it in octal from 0000 to 0777, such as \"0660\"",
            );
            None
        }
        Some(mode) if mode & 0o002 != 0 => {
            node.error(
                format!("mode \"{text}\" lets everyone cut the network"),
                format!("take the last digit's 2 away: \"{:04o}\"", mode & !0o002),
            );
            None
        }
        mode => mode,
    }
}

fn ready(node: Option<Node<'_>>) -> Ready {
    let mut ready = Ready {
        consecutive: 5,
        observe: Span::secs(12),
        observe_max: Span::secs(60),
        tolerate: Span::default(),
    };
    let usage = "write it as: { consecutive: 5, observe: 12s, observe_max: 60s, tolerate: 0s }";
    let Some(table) = node.and_then(|node| node.table(usage)) else {
        return ready;
    };
    if let Some(consecutive) = table.get("consecutive").and_then(|node| node.number(1, 10_000)) {
        ready.consecutive = consecutive;
    }
    ready.observe = span(&table, "observe", ready.observe, LONGEST_DEADLINE);
    let observe_max = table.get("observe_max");
    let given = observe_max.as_ref().map(|node| node.span_within(ABOVE_ZERO, LONGEST_DEADLINE));
    ready.observe_max = given.flatten().unwrap_or(ready.observe_max);
    // A value that is wrong by itself has been reported.
    if ready.observe_max < ready.observe && !matches!(given, Some(None)) {
        let what =
            format!("observe_max of {} is shorter than observe of {}", ready.observe_max, ready.observe);
        let node = observe_max.as_ref().unwrap_or(&table.node);
        node.error(what, format!("write an observe_max of at least {}", ready.observe));
    }
    if let Some(node) = table.get("tolerate")
        && let Some(span) = node.span(Span::default())
    {
        if span >= ready.observe {
            let what = format!("tolerate of {span} is not shorter than observe of {}", ready.observe);
            node.error(what, "a failure that long could never be a relapse; write a shorter one");
        }
        ready.tolerate = span;
    }
    table.finish();
    ready
}

fn protect(node: &Node<'_>) -> Vec<Protect> {
    let usage = "write ports and addresses, such as: [tcp/22, 10.0.0.254]";
    let mut protected = Vec::new();
    for node in node.items(usage) {
        let Some(text) = node.text(usage) else { continue };
        if let Ok(address) = text.parse::<IpAddr>() {
            protected.push(Protect::Address(address));
            continue;
        }
        match text.parse::<Scope>() {
            Ok(scope) => protected.push(Protect::Scope(scope)),
            Err(_) if text.parse::<ipnet::IpNet>().is_ok() => {
                node.error(format!("{text} is a prefix"), "protect takes single addresses; name each one");
            }
            Err(error) => node.error(
                format!("\"{text}\" is neither an address nor a scope ({error})"),
                "write ports and addresses, such as tcp/22 or 10.0.0.254",
            ),
        }
    }
    protected
}

fn presets(
    node: &Node<'_>,
    names: &PeerNames,
    roles: &BTreeMap<String, RoleSource>,
) -> BTreeMap<String, Shape> {
    let usage = "write it as: { lonely: { isolate: [n1] } }";
    let mut presets = BTreeMap::new();
    for (name, node) in node.entries(usage) {
        if !is_name(name) {
            node.key_error(format!("\"{name}\" can't be the name of a preset"), NAME_REMEDY);
        }
        let shape = serde_json::to_value(node.value()).and_then(serde_json::from_value::<Shape>);
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => {
                node.error(
                    format!("preset \"{name}\" is not a shape ({error})"),
                    "write a shape as the API takes it, such as { isolate: [n1] } or { halves: {} }",
                );
                continue;
            }
        };
        if matches!(shape, Shape::Preset(_)) {
            node.error(format!("preset \"{name}\" refers to a preset"), "write the shape itself");
        } else if (1..=MAX_PEERS).contains(&names.peers().count())
            // Without peers, the fault is theirs.
            && let Err(error) = buildable(&shape, Direction::Both, names, roles)
        {
            unbuildable(&node, name, &error);
        }
        presets.insert(name.to_owned(), shape);
    }
    presets
}

/// Whether a shape can be built, as far as that is known before its roles are.
pub(super) fn buildable(
    shape: &Shape,
    direction: Direction,
    names: &PeerNames,
    roles: &BTreeMap<String, RoleSource>,
) -> Result<(), TopologyError> {
    let used = topology::roles(shape, &BTreeMap::new())?;
    topology::check_direction(shape, direction)?;
    if let Some(name) = used.iter().find(|role| !roles.contains_key(*role)) {
        return Err(TopologyError::UnknownRole {
            name: name.clone(),
            known: roles.keys().cloned().collect(),
        });
    }
    if !used.is_empty() {
        return topology::check_names(shape, names);
    }
    let known = Definitions { names, presets: &BTreeMap::new(), roles: &RolePeers::new() };
    topology::resolve(shape, direction, known, 0).map(drop)
}

/// Points at the name that the error is about, if it is about one.
fn unbuildable(node: &Node<'_>, preset: &str, error: &TopologyError) {
    let (what, remedy) = (format!("preset \"{preset}\" can't be built: {}", error.what()), error.remedy());
    match error {
        TopologyError::UnknownRole { name, .. } => {
            node.report().at_text(&node.path, &format!("@{name}"), what, remedy);
        }
        TopologyError::UnknownPeer { name, .. }
        | TopologyError::Twice { name }
        | TopologyError::SelfLink { name } => node.report().at_text(&node.path, name, what, remedy),
        _ => node.error(what, remedy),
    }
}
