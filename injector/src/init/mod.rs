//! `injector init`: what on this host could be the peers of a config, and the config's text.
//!
//! [`inspect_host`] asks the host, [`candidates`](candidates::candidates) and [`text`](draft::Draft::text) are pure.

pub mod candidates;
pub mod draft;
pub mod processes;
pub mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use self::processes::Serving;
use crate::daemon::attachment::reading::FactsReading;
use crate::discovery::places::Namespace;
use crate::local::process;
use crate::netlink::sockets;
use crate::netns::{Identity, Listed, Workers};
use injector_core::config::Netns;
use injector_core::containers::ContainerStates;

/// The most namespaces of processes without a name that are read.
const MOST_UNNAMED: usize = 64;

/// A service that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Its address; the unspecified one is all of the namespace's.
    pub address: IpAddr,
    /// Its TCP port.
    pub port: u16,
}

/// The facts about a host's network namespaces.
pub struct Host {
    /// The namespaces: the caller's own, the named ones, and those of processes.
    pub spaces: Vec<Namespace>,
    /// The services that listen in them, loopback addresses left out.
    pub listeners: BTreeMap<Option<Netns>, BTreeSet<Listener>>,
    /// The processes that listen in the caller's own.
    pub serving: Vec<Serving>,
    /// A name for each namespace without one: its container's host name, or else the name of a program in
    /// it.
    pub labels: BTreeMap<Netns, String>,
    /// The threads inside them.
    pub workers: Workers,
}

/// Asks every network namespace that can be entered, those of the engine's containers by the containers' names.
pub async fn inspect_host(containers: &ContainerStates) -> Host {
    let mut workers = Workers::default();
    // Containers that can't be entered are not listed.
    let _ = workers.contain(containers).await;
    // Named namespaces are left out too where nobody can list the names.
    let named = workers.listed(&Listed::new()).await.unwrap_or_default();
    let known = named.values().flatten().copied().chain(workers.containers().map(|(_, identity)| identity));
    let unnamed = unnamed(&known.collect());
    let mut all: Vec<Option<Netns>> = vec![None];
    all.extend(workers.containers().map(|(container, _)| Some(Netns::Container(container.clone()))));
    all.extend(named.keys().map(|name| Some(Netns::Name(name.clone()))));
    all.extend(unnamed.iter().map(|(netns, _)| Some(netns.clone())));
    let mut reading = FactsReading::new(&mut workers, true, &named).await;
    reading.at(all).await;
    let spaces = reading.done().await.known;
    let mut listeners = BTreeMap::new();
    for space in &spaces {
        let Ok(worker) = workers.of(space.netns.as_ref()).await else { continue };
        if let Ok(found) = worker.ask(|| async { listening() }).await {
            listeners.insert(space.netns.clone(), found);
        }
    }
    Host {
        spaces,
        listeners,
        serving: processes::listening(),
        labels: unnamed.into_iter().collect(),
        workers,
    }
}

/// The namespaces of processes that have no name and are not the caller's own, each by its oldest process, with what it
/// is called there.
fn unnamed(named: &BTreeSet<Identity>) -> Vec<(Netns, String)> {
    let processes: BTreeMap<u32, String> =
        process::all().unwrap_or_default().into_iter().map(|stat| (stat.id, stat.name)).collect();
    let mut seen: BTreeSet<Identity> = named.clone();
    seen.extend(Identity::own());
    let mut found = Vec::new();
    for (pid, name) in processes {
        let netns = Netns::Pid(pid);
        if netns.path().as_deref().and_then(Identity::at).is_some_and(|identity| seen.insert(identity)) {
            found.push((netns, label(pid, name)));
            if found.len() == MOST_UNNAMED {
                break;
            }
        }
    }
    found
}

/// A container's host name, else the program's name.
fn label(pid: u32, program: String) -> String {
    let uts = |of: &str| fs::read_link(format!("/proc/{of}/ns/uts")).ok();
    if uts(&pid.to_string()) == uts("self") {
        return program;
    }
    let host = fs::read_to_string(format!("/proc/{pid}/root/etc/hostname")).ok();
    host.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or(program)
}

/// The services that listen in the calling thread's namespace; none where the kernel does not list them.
fn listening() -> BTreeSet<Listener> {
    let found = sockets::listening().unwrap_or_default().into_iter();
    let reachable = found.filter(|socket| !socket.address.is_loopback());
    reachable.map(|socket| Listener { address: socket.address, port: socket.port }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_seen_unless_it_is_on_loopback() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening();
        let port = open.local_addr().unwrap().port();
        let any = "0.0.0.0".parse().unwrap();
        assert!(found.contains(&Listener { address: any, port }), "{found:?}");
        let port = closed.local_addr().unwrap().port();
        assert!(found.iter().all(|listener| listener.port != port), "{found:?}");
    }
}
