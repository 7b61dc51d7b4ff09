//! Fetches the things that a config's probes and roles need from outside, before it is put in force: secrets,
//! certificates, and the addresses of host names. Each is fetched once, so that it can't fail or change
//! during a run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::root_cause;
use super::tls::{Client, Protocol};
use injector_core::config::{Config, ConfigError, ConfigErrors};

/// How long all names together may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many names are asked for at a time.
const RESOLVERS: usize = 16;

/// Fetches secrets and certificates, and resolves host names. May take [`RESOLVE_TIMEOUT`].
///
/// # Errors
/// Everything that can't be obtained, with its place in `file` and a remedy.
pub fn prepare(config: &mut Config, file: &str) -> Result<(), ConfigErrors> {
    config.fetch_secrets(file)?;
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut add = |path: String, what: String, remedy: String| {
        let error = ConfigError { file: file.to_owned(), line: None, column: None, path, what, remedy };
        // Every peer's endpoint has the same.
        if !errors.contains(&error) {
            errors.push(error);
        }
    };
    for (path, tls) in config.tls() {
        // The certificates are the same for every protocol: one is enough to know whether they can be used.
        if let Err(fault) = Client::new(tls, Protocol::Other) {
            let key = if fault.key.is_empty() { String::new() } else { format!(".{}", fault.key) };
            add(format!("{path}.tls{key}"), fault.what, fault.remedy);
        }
    }
    let wanted: BTreeSet<String> = config.host_names().flat_map(|(_, _, names, _)| names).collect();
    let found = resolve(&wanted, RESOLVE_TIMEOUT);
    for (path, family, names, hosts) in config.host_names() {
        hosts.clear();
        for name in names {
            let addresses = match found.get(&name) {
                Some(Ok(addresses)) => addresses,
                Some(Err(why)) => {
                    let what = format!("the host name {name} can't be resolved ({why})");
                    add(path.clone(), what, REMEDY.to_owned());
                    continue;
                }
                None => {
                    let what = format!("the host name {name} was not resolved within {RESOLVE_TIMEOUT:?}");
                    add(path.clone(), what, REMEDY.to_owned());
                    continue;
                }
            };
            let first = addresses.iter().find(|address| family.is_none_or(|family| family.has(**address)));
            match (first, family) {
                (Some(address), _) => drop(hosts.insert(name, *address)),
                (None, family) => {
                    let of = family.map(|family| format!(" of {family}")).unwrap_or_default();
                    let what = format!("the host name {name} has no address{of}");
                    add(path.clone(), what, "write an address, or leave family out".to_owned());
                }
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
}

const REMEDY: &str =
    "write an address, or add the name to /etc/hosts; the daemon's host resolves it, once, at the start";

/// Asks the host's resolver, with several names at a time. What has no answer in time is missing; its thread ends when
/// the resolver gives up.
fn resolve(names: &BTreeSet<String>, timeout: Duration) -> BTreeMap<String, Result<Vec<IpAddr>, String>> {
    let (sender, receiver) = mpsc::channel();
    let left = Arc::new(Mutex::new(names.iter().cloned().collect::<Vec<_>>()));
    for _ in 0..names.len().min(RESOLVERS) {
        let (left, sender) = (Arc::clone(&left), sender.clone());
        let work = move || {
            while let Some(name) = { left.lock().unwrap_or_else(PoisonError::into_inner).pop() } {
                let found = (name.as_str(), 0).to_socket_addrs();
                let found = found.map(|found| found.map(|address| address.ip()).collect());
                if sender.send((name, found.map_err(|error| root_cause(&error)))).is_err() {
                    return;
                }
            }
        };
        // If there is no thread, its names are missing from what is found.
        drop(std::thread::Builder::new().name("resolver".into()).spawn(work));
    }
    drop(sender);
    let deadline = Instant::now() + timeout;
    let mut found = BTreeMap::new();
    while found.len() < names.len() {
        let Ok((name, addresses)) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        else {
            break;
        };
        found.insert(name, addresses);
    }
    found
}
