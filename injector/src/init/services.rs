//! By what peers show that they serve: the ports that all of them have, and what answers there, asked once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::Host;
use super::candidates::{Candidate, Home};
use super::draft::{Draft, Kind, Service, entry};
use crate::netns::Workers;
use crate::probe;
use injector_core::config::{Config, Netns};
use injector_core::sample::EndpointId;

/// The most ports that are tried.
const MOST_PORTS: usize = 8;
/// How long one may take to answer, the namespace's thread included.
const PATIENCE: Duration = Duration::from_secs(3);

/// The kinds of probes that are tried at a port, the most informative first.
const KINDS: [Kind; 4] = [Kind::Http("/"), Kind::Http("/health"), Kind::Grpc, Kind::Tcp];

/// The ports that every peer listens on, as far as that can be seen.
pub fn common_ports(peers: &[Candidate]) -> Vec<u16> {
    let mut seen = peers.iter().filter_map(|peer| peer.ports.as_ref());
    let Some(first) = seen.next() else { return Vec::new() };
    let common = seen
        .fold(first.clone(), |common: BTreeSet<u16>, ports| common.intersection(ports).copied().collect());
    common.into_iter().take(MOST_PORTS).collect()
}

/// Finds for each port from where and with what every peer answers. `clients` are namespaces that are no peers.
pub async fn find(draft: &Draft, ports: &[u16], clients: &[Netns], host: &mut Host) -> Vec<Service> {
    let mut places: Vec<Option<Netns>> = vec![None];
    places.extend(clients.iter().cloned().map(Some));
    places.extend(draft.peers.iter().filter_map(|peer| match &peer.home {
        Home::Space(netns) => Some(Some(netns.clone())),
        _ => None,
    }));
    // Over a default route, somebody else may answer for an address.
    places.sort_by_key(|netns| !is_near(host, netns.as_ref(), draft));
    let mut services = Vec::new();
    for port in ports {
        let mut service = Service { port: *port, kind: None, netns: None };
        'found: for kind in KINDS {
            for netns in &places {
                let tried = Service { port: *port, kind: Some(kind), netns: netns.clone() };
                if answer(draft, &draft.probed(), &tried, &mut host.workers).await {
                    service = tried;
                    break 'found;
                }
            }
        }
        services.push(service);
    }
    // The first one becomes the ingress: a port among the nodes themselves takes connections and says nothing.
    let telling = |kind: Option<Kind>| KINDS.iter().position(|known| Some(*known) == kind);
    services.sort_by_key(|service| telling(service.kind).unwrap_or(KINDS.len()));
    services
}

/// Finds for each peer that is a process the port by which it shows best that it serves.
pub async fn find_own(draft: &Draft, host: &mut Host) -> Vec<(String, Service)> {
    let mut found = Vec::new();
    for peer in &draft.peers {
        let Home::Process(listens) = &peer.home else { continue };
        let ports = listens.iter().filter_map(|listen| listen.port()).take(MOST_PORTS);
        let ports: Vec<u16> = ports.collect();
        'found: for kind in KINDS {
            for port in &ports {
                let tried = Service { port: *port, kind: Some(kind), netns: None };
                if answer(draft, &[&peer.name], &tried, &mut host.workers).await {
                    found.push((peer.name.clone(), tried));
                    break 'found;
                }
            }
        }
    }
    found
}

/// Whether a namespace has a way of its own to every peer, beside a default route.
fn is_near(host: &Host, netns: Option<&Netns>, draft: &Draft) -> bool {
    let Some(space) = host.spaces.iter().find(|space| space.netns.as_ref() == netns) else { return false };
    let facts = &space.facts;
    let reaches = |address: &IpAddr| {
        facts.networks.iter().any(|(_, net)| net.contains(address))
            || facts.routes.iter().any(|route| route.net.contains(address))
    };
    draft
        .peers
        .iter()
        .filter(|peer| !peer.addresses.is_empty())
        .all(|peer| peer.addresses.iter().any(reaches))
}

/// Whether each of some peers answers, asked once as the config would.
async fn answer(draft: &Draft, names: &[&str], service: &Service, workers: &mut Workers) -> bool {
    let text =
        format!("{}interfaces: auto\nendpoints:\n{}", draft.peers_text(), entry("tried", names, service));
    let worker = workers.of(service.netns.as_ref()).await;
    let (Ok(mut config), Ok(worker)) = (Config::parse(&text, "a draft"), worker) else {
        return false;
    };
    let of_containers = draft
        .peers
        .iter()
        .filter(|peer| matches!(peer.home, Home::Space(Netns::Container(_))) && !peer.addresses.is_empty());
    let found = of_containers.filter_map(|peer| Some((config.names.id(&peer.name)?, peer.addresses.clone())));
    config.place(&found.collect());
    let asked = config.endpoints.iter().map(|endpoint| {
        let endpoint = endpoint.clone();
        let worker = worker.clone();
        async move {
            let once = worker.run_within(PATIENCE, move || async move {
                probe::once(EndpointId(0), &endpoint, None).await.failure.is_none()
            });
            once.await.unwrap_or(false)
        }
    });
    let asked = join_all(asked).await;
    !asked.is_empty() && asked.into_iter().all(|answered| answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ports: Option<&[u16]>) -> Candidate {
        Candidate {
            name: "n".to_owned(),
            addresses: Vec::new(),
            mac: None,
            home: Home::Named,
            why: String::new(),
            ports: ports.map(|ports| ports.iter().copied().collect()),
            doubt: None,
        }
    }

    #[test]
    fn ports_are_those_of_every_peer_that_can_be_looked_into() {
        let peers = [peer(Some(&[22, 80, 8080])), peer(None), peer(Some(&[80, 8080, 9000]))];
        assert_eq!(common_ports(&peers), [80, 8080]);
        assert_eq!(common_ports(&[peer(None)]), [0_u16; 0]);
    }
}
