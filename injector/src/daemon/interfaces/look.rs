//! Asking namespaces what they know.

use std::collections::{BTreeMap, BTreeSet};

use super::survey::Namespace;
use crate::config::{self, Config, Netns};
use crate::netlink;
use crate::netlink::facts::Facts;
use crate::netns::{Identity, Workers};

/// What every namespace that has a name knows: those of the config, our own, and those under /run/netns.
pub async fn everywhere(workers: &mut Workers, config: &Config) -> Vec<Namespace> {
    let mut names: Vec<Option<Netns>> = Vec::new();
    if let config::Interfaces::Named(interfaces) = &config.interfaces {
        names.extend(interfaces.iter().map(|interface| interface.netns.clone()));
    }
    names.push(None);
    names.extend(config.endpoints.iter().map(|endpoint| endpoint.netns.clone()));
    names.extend(listed().into_keys().map(|name| Some(Netns::Name(name))));
    into(workers, names).await
}

/// The namespaces that have names now, and which they are.
pub fn listed() -> BTreeMap<String, Option<Identity>> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.map(|name| (name.clone(), Identity::now(Some(&Netns::Name(name))))).collect()
}

/// What some namespaces know; each once, by whichever of its names comes first.
pub async fn into(workers: &mut Workers, names: Vec<Option<Netns>>) -> Vec<Namespace> {
    let mut seen = BTreeSet::new();
    let mut spaces = Vec::new();
    for netns in names {
        let identity = netns.as_ref().map_or_else(|| Identity::now(None), |netns| workers.now(netns));
        let Some(identity) = identity else { continue };
        if !seen.insert(identity) {
            continue;
        }
        let facts = match workers.of(netns.as_ref()) {
            Ok(worker) => worker
                .ask(|| async {
                    let handle = netlink::connect().map_err(|error| error.to_string())?;
                    Facts::ask(&handle).await.map_err(|error| error.to_string())
                })
                .await
                .map_err(|error| error.to_string())
                .flatten(),
            Err(error) => Err(error.to_string()),
        };
        match facts {
            Ok(facts) => spaces.push(Namespace { netns, facts }),
            // A file under /run/netns need not be a namespace.
            Err(error) => tracing::debug!(error, "a namespace was not looked into"),
        }
    }
    spaces
}
