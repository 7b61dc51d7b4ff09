//! Finds the container that a config means in the engine's list, and decides whether it can be a peer. Pure:
//! the daemon asks the engine and hands in its answer.

use std::collections::BTreeMap;

use crate::config::{Config, ConfigError, ConfigErrors, ContainerRef, Netns, Selector};

/// The labels by which compose marks its containers.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
/// The number of digits from which on a text may be the beginning of an id.
const SHORT_ID: usize = 12;

/// A container as the engine lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its names, without the slash that the engine writes before them.
    pub names: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub is_running: bool,
}

impl Listed {
    /// The name by which people know it.
    pub fn shown(&self) -> &str {
        self.names.first().map_or(&self.id, String::as_str)
    }

    /// Whether the config means it.
    pub fn is(&self, wanted: &ContainerRef) -> bool {
        let has = |label: &str, value: &str| self.labels.get(label).is_some_and(|held| held == value);
        match wanted {
            ContainerRef::Name(text) => {
                self.names.iter().any(|name| name == text)
                    || text.len() >= SHORT_ID && self.id.starts_with(text.as_str())
            }
            ContainerRef::Compose { project, service, number } => {
                has(PROJECT, project)
                    && has(SERVICE, service)
                    && number.is_none_or(|number| has(NUMBER, &number.to_string()))
            }
        }
    }
}

/// The names of the containers that run and that a selector means.
pub fn select(selector: &Selector, all: &[Listed]) -> Vec<String> {
    let has = |listed: &Listed, (label, value): &(String, Option<String>)| {
        let held = listed.labels.get(label);
        held.is_some_and(|held| value.as_ref().is_none_or(|value| value == held))
    };
    let is_meant =
        |listed: &&Listed| listed.is_running && selector.labels.iter().all(|label| has(listed, label));
    names(all.iter().filter(is_meant))
}

/// The engine's answer about one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state, in the engine's word.
    pub state: String,
    /// Its first process, if it runs.
    pub pid: Option<u32>,
    /// Its `--network`, as the engine shows it.
    pub network: String,
}

/// A container that can be a peer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its first process, which is in its network namespace.
    pub pid: u32,
}

/// Why a container can't be a peer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The engine lists none like it; the names of those that it lists.
    Unknown(Vec<String>),
    /// The name fits several containers: their names.
    Several(Vec<String>),
    /// The container does not run: its name, and its state in the engine's word.
    Stopped(String, String),
    /// The container has the host's network.
    HostNetwork,
    /// The container has no network.
    NoNetwork,
    /// The engine did not say.
    Unanswered(String),
}

/// How many names an error lists.
const SHOWN: usize = 12;

impl Trouble {
    /// The fault of the container, in words.
    pub fn what(&self, container: &ContainerRef) -> String {
        match self {
            Self::Unknown(known) if known.is_empty() => {
                format!("there is no container {container}: the engine has none at all")
            }
            Self::Unknown(_) => format!("there is no container {container}"),
            Self::Several(names) => format!("{container} means several containers: {}", listed(names)),
            Self::Stopped(name, state) => format!("container {name} does not run (its state: {state})"),
            Self::HostNetwork => format!(
                "container {container} has the host's network, and so the addresses of everything else there"
            ),
            Self::NoNetwork => format!("container {container} has no network (--network none)"),
            Self::Unanswered(why) => format!("the engine does not say what container {container} is: {why}"),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unknown(known) if known.is_empty() => {
                "start the containers first, or name the socket of the engine that has them, as in: engine: \
                 /run/podman/podman.sock"
                    .to_owned()
            }
            Self::Unknown(known) => format!("the engine has {}", listed(known)),
            Self::Several(_) => {
                "add the number of one of them, as in: compose: shop/restate/2, or name it by container:".to_owned()
            }
            Self::Stopped(..) => "start it first".to_owned(),
            Self::HostNetwork => {
                "name the peer by its listening ports (listens: [2379]) or its process (pid:), which distinguish \
                 processes on one host: see docs/local.md"
                    .to_owned()
            }
            Self::NoNetwork => "run it on a network, or leave the peer out".to_owned(),
            Self::Unanswered(_) => "see the engine's own log".to_owned(),
        }
    }
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let first: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    format!("{}{more}", first.join(", "))
}

/// The container that the config means, by the engine's list. `followed` is the id of the one that it meant before: it
/// stays the peer under another name, until it has ended and another one has its name.
///
/// # Errors
/// There is no such container, or there are several.
pub fn find<'a>(
    wanted: &ContainerRef,
    followed: Option<&str>,
    all: &'a [Listed],
) -> Result<&'a Listed, Trouble> {
    let before = all.iter().find(|listed| Some(listed.id.as_str()) == followed);
    if let Some(before) = before.filter(|before| before.is_running) {
        return Ok(before);
    }
    let mut matching: Vec<&Listed> = all.iter().filter(|listed| listed.is(wanted)).collect();
    // A name comes before an id, and what runs before what does not.
    if let ContainerRef::Name(name) = wanted
        && matching.iter().any(|listed| listed.names.contains(name))
    {
        matching.retain(|listed| listed.names.contains(name));
    }
    if matching.iter().any(|listed| listed.is_running) {
        matching.retain(|listed| listed.is_running);
    }
    match matching[..] {
        [one] => Ok(one),
        [] => before.ok_or_else(|| Trouble::Unknown(names(all.iter()))),
        _ => before.ok_or_else(|| Trouble::Several(names(matching.into_iter()))),
    }
}

fn names<'a>(all: impl Iterator<Item = &'a Listed>) -> Vec<String> {
    let mut names: Vec<String> = all.map(|listed| listed.shown().to_owned()).collect();
    names.sort();
    names
}

/// Whether a container can be a peer now.
///
/// # Errors
/// Why it can't be a peer.
pub fn judge(inspected: Inspected) -> Result<Running, Trouble> {
    let Inspected { id, name, state, pid, network } = inspected;
    match (network.as_str(), pid) {
        ("host", _) => Err(Trouble::HostNetwork),
        ("none", _) => Err(Trouble::NoNetwork),
        (_, None) => Err(Trouble::Stopped(name, state)),
        (_, Some(pid)) => Ok(Running { id, name, pid }),
    }
}

/// The state of each container of a config at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerStates(pub BTreeMap<ContainerRef, Result<Running, Trouble>>);

impl ContainerStates {
    /// Whether all containers of a config can be peers now.
    ///
    /// # Errors
    /// Each container that can't be a peer, and why; `file` is what errors call the config.
    pub fn admit(&self, config: &Config, file: &str) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        let mut taken: BTreeMap<&str, String> = BTreeMap::new();
        for (path, container) in places(config) {
            let is_peer = !path.contains("netns");
            let fault = match self.0.get(container) {
                None => continue,
                Some(Err(trouble)) => Some((trouble.what(container), trouble.remedy())),
                Some(Ok(_)) if !is_peer => None,
                Some(Ok(running)) => taken.insert(&running.id, path.clone()).map(|first| {
                    (
                        format!("container {} is another peer's too, at {first}", running.name),
                        "a container is one peer: keep one of the two".to_owned(),
                    )
                }),
            };
            errors.extend(fault.map(|(what, remedy)| config_error(file, path, what, remedy)));
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// The changes of the containers between two of these, in words.
    pub fn changes(&self, after: &Self) -> Vec<(ContainerRef, String)> {
        let words = |container: &ContainerRef| {
            let (before, after) = (self.0.get(container), after.0.get(container)?);
            if before == Some(after) {
                return None;
            }
            Some(match (before.and_then(|before| before.as_ref().ok()), after) {
                (_, Err(trouble)) => trouble.what(container),
                (Some(before), Ok(now)) if before.id == now.id && before.pid == now.pid => {
                    format!("its name is {} now; it is still followed", now.name)
                }
                (before, Ok(now)) => {
                    let is_same = before.is_none_or(|before| before.id == now.id);
                    let which = if is_same { "it runs" } else { "another container of this name runs" };
                    format!("{which} as process {} (id {})", now.pid, short(&now.id))
                }
            })
        };
        after.0.keys().filter_map(|container| Some((container.clone(), words(container)?))).collect()
    }
}

/// Where the config names containers.
fn places(config: &Config) -> Vec<(String, &ContainerRef)> {
    let mut places: Vec<(String, &ContainerRef)> = Vec::new();
    for (peer, container) in config.containers() {
        let key = match container {
            ContainerRef::Name(_) => "container",
            ContainerRef::Compose { .. } => "compose",
        };
        places.push((format!("peers.{}.{key}", config.names.name(peer)), container));
    }
    let endpoints = config
        .endpoints
        .iter()
        .map(|endpoint| (format!("endpoints: {}, netns.container", endpoint.base), &endpoint.netns));
    let roles = config.roles.values();
    let roles = roles.map(|role| (format!("roles.{}.netns.container", role.name), &role.netns));
    let locals = config
        .local_peers()
        .map(|(peer, local)| (format!("peers.{}.netns.container", config.names.name(peer)), &local.netns));
    for (path, netns) in locals.chain(endpoints).chain(roles) {
        // Every peer's endpoint has the same.
        if let Some(Netns::Container(container)) = netns
            && places.last().is_none_or(|(last, _)| *last != path)
        {
            places.push((path, container));
        }
    }
    places
}

/// The fault of a config with containers when the engine does not answer.
pub fn no_engine(config: &Config, file: &str, what: String, remedy: String) -> ConfigErrors {
    let path = places(config).into_iter().next().map_or_else(|| "engine".to_owned(), |(path, _)| path);
    ConfigErrors(vec![config_error(file, path, what, remedy)])
}

fn config_error(file: &str, path: String, what: String, remedy: String) -> ConfigError {
    ConfigError { file: file.to_owned(), line: None, column: None, path, what, remedy }
}

fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

#[cfg(test)]
mod tests;
