//! Peers that are containers, and where the engine is asked about them.

use std::path::{Path, PathBuf};

use super::names::Firsts;
use crate::config::read::{Fields, Node, Report};
use crate::config::{Config, ContainerRef, Engine, Interface, Interfaces, Netns, Select, Selector};

const USAGE: &str = "write the container's name or id as the engine shows it, as in: container: restate-1";
const COMPOSE_USAGE: &str = "write project and service, as in: compose: shop/restate, or with a number where there are several: shop/restate/2";

/// The container in a peer's table.
pub(super) enum Named {
    /// There is no container.
    Nothing,
    /// Something wrong, which is reported.
    Wrong,
    /// The peer is this one.
    As(ContainerRef),
}

/// The container that a peer's table names.
pub(super) fn read<'a>(table: &Fields<'a>, firsts: &mut Firsts<'a, ContainerRef>) -> Named {
    let words = [("container", table.get("container")), ("compose", table.get("compose"))];
    let mut given = words.into_iter().filter_map(|(key, node)| Some((key, node?)));
    let Some((key, node)) = given.next() else { return Named::Nothing };
    if let Some((_, second)) = given.next() {
        second.key_error("container and compose both name the container", "keep one of the two");
    }
    for other in ["addresses", "mac", "vm", "vip", "forwards"] {
        if let Some(node) = table.get(other) {
            node.key_error(
                format!("{other} is given beside {key}, and what a container is known by is found in it"),
                "keep one of the two",
            );
        }
    }
    let container = if key == "container" { name(&node) } else { compose(&node) };
    if let Some(container) = &container
        && let Some(first) = firsts.earlier(container.clone(), &node)
    {
        node.error(
            format!("container {container} is another peer's too, at {first}"),
            "a container is one peer: keep one of the two",
        );
    }
    container.map_or(Named::Wrong, Named::As)
}

pub(super) fn name(node: &Node<'_>) -> Option<ContainerRef> {
    let text = node.some_text(USAGE)?;
    if !is_container_name(text) {
        node.error(format!("\"{text}\" can't be the name of a container"), USAGE);
        return None;
    }
    Some(ContainerRef::Name(text.to_owned()))
}

fn compose(node: &Node<'_>) -> Option<ContainerRef> {
    let text = node.some_text(COMPOSE_USAGE)?;
    let parts: Vec<&str> = text.split('/').collect();
    let wrong = || {
        node.error(format!("\"{text}\" is no service of a compose project"), COMPOSE_USAGE);
        None
    };
    let (project, service, number) = match parts[..] {
        [project, service] => (project, service, None),
        [project, service, number] => match number.parse().ok().filter(|number| *number > 0) {
            Some(number) => (project, service, Some(number)),
            None => return wrong(),
        },
        _ => return wrong(),
    };
    if !is_container_name(project) || !is_container_name(service) {
        return wrong();
    }
    Some(ContainerRef::Compose { project: project.to_owned(), service: service.to_owned(), number })
}

/// Whether Docker and Podman take the text as a name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn is_container_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// `engine:` the API's socket.
pub(super) fn engine(node: &Node<'_>) -> Option<Engine> {
    let usage = "write the absolute path of the engine's socket, as in: engine: /run/podman/podman.sock";
    let text = node.some_text(usage)?;
    // Tools for Docker write it so.
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if !Path::new(path).is_absolute() {
        node.error(format!("\"{text}\" is not the path of a Unix socket"), usage);
        return None;
    }
    // The kernel's sun_path holds 108 bytes with the final zero.
    if path.len() > 107 {
        node.error(format!("the path has {} bytes, and a socket's address holds 107", path.len()), usage);
        return None;
    }
    Some(Engine::At(PathBuf::from(path)))
}

const SELECTOR_USAGE: &str = "write it as: containers: { label: com.docker.compose.project=shop }, or with several labels: { label: [a=1, b] }";

/// The containers that `containers:` means, by their names, as the engine says; and the place of that key.
pub(super) fn selected<'a>(node: Node<'a>, engine: &Engine, select: &Select<'_>) -> Option<Selected<'a>> {
    let table = node.table(SELECTOR_USAGE)?;
    let label = table.require("label", SELECTOR_USAGE);
    table.finish();
    let label = label?;
    let nodes = if label.value().is_sequence() { label.items(SELECTOR_USAGE) } else { vec![label] };
    let labels = nodes.iter().map(|node| {
        let text = node.some_text(SELECTOR_USAGE)?;
        let (label, value) = text.split_once('=').map_or((text, None), |(label, value)| (label, Some(value)));
        if label.is_empty() {
            node.error(format!("\"{text}\" is no label"), SELECTOR_USAGE);
            return None;
        }
        Some((label.to_owned(), value.map(str::to_owned)))
    });
    let selector = Selector { labels: labels.collect::<Option<_>>()? };
    if selector.labels.is_empty() {
        node.error("no label is given", SELECTOR_USAGE);
        return None;
    }
    match select(engine, &selector) {
        Ok(names) if names.is_empty() => {
            node.error(
                format!("no container that runs has the label {selector}"),
                "start the containers first, or correct the label (`docker inspect` shows those of a container)",
            );
            None
        }
        Ok(names) => Some(Selected { names, node }),
        Err((what, remedy)) => {
            node.error(what, remedy);
            None
        }
    }
}

/// The containers that `containers:` selects.
pub(super) struct Selected<'a> {
    /// The names of the containers.
    pub names: Vec<String>,
    /// The place of the key.
    pub node: Node<'a>,
}

/// Reports containers where interfaces are named: what a container's interfaces are called changes with each start.
pub(super) fn need_auto(config: &Config, report: &Report<'_>) {
    let Interfaces::Named(named) = &config.interfaces else { return };
    let is_in_container = |interface: &Interface| matches!(interface.netns, Some(Netns::Container(_)));
    if config.containers().next().is_some() || named.iter().any(is_in_container) {
        report.at_value(
            "interfaces",
            "interfaces are named here, and a container's interfaces are others after each start",
            "write interfaces: auto, which finds those of the containers and of all other peers",
        );
    }
}
