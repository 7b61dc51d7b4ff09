//! Peers that are containers: where they live by the engine's word, and since when their frames are named.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Changes, InterfaceEvent, Interfaces};
use crate::daemon::start_error::StartError;
use crate::discovery::homes::exits;
use crate::discovery::mismatch::Mismatch;
use crate::discovery::picture::Picture;
use crate::engine::News;
use crate::netns::Identity;
use injector_core::clock::MonoNs;
use injector_core::config::{Config, ContainerRef, Netns};
use injector_core::containers::ContainerStates;
use injector_core::model::PeerId;

/// The owner of the network namespace of a peer's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Housing {
    /// The namespace is the container's own.
    Own,
    /// The container does not run: it has no namespace.
    None,
    /// The daemon's.
    Daemons,
    /// The namespace is another peer's.
    Peers(PeerId),
}

impl Interfaces {
    /// Takes in which containers run, before peers are searched for.
    ///
    /// # Errors
    /// Two peers are in one network namespace, or one has none of its own.
    pub(super) async fn contain(
        &mut self,
        config: &Config,
        states: ContainerStates,
    ) -> Result<(), StartError> {
        self.workers.contain(&states).await?;
        self.containers = states;
        for (peer, container, housing) in self.housings(config) {
            let (peer, container) = (config.names.name(peer).to_owned(), container.clone());
            match housing {
                Housing::Own => {}
                Housing::None => return Err(StartError::ContainerEnded { peer, container }),
                Housing::Daemons => return Err(StartError::HostContainer { peer, container }),
                Housing::Peers(other) => {
                    let other = config.names.name(other).to_owned();
                    return Err(StartError::OneNamespace { peer, other, container });
                }
            }
        }
        for container in config.followed() {
            // Its namespace goes by this name from here on, whichever others it has.
            self.workers.of(Some(&Netns::Container(container))).await?;
        }
        Ok(())
    }

    /// Whether every container has an interface by which its frames leave.
    pub(super) fn check_contained(&self, config: &Config) -> Result<(), StartError> {
        for (peer, container) in config.containers() {
            let home = self.homes.get(&peer);
            if home.is_none_or(|home| exits(config, &self.known, home.at).is_empty()) {
                let (peer, container) = (config.names.name(peer).to_owned(), container.clone());
                return Err(StartError::NoNetwork { peer, container });
            }
        }
        Ok(())
    }

    /// Takes in what the engine says while the daemon runs.
    pub(super) async fn take_engine(&mut self, config: &Config, news: News, changes: &mut Changes) {
        match news {
            // News that was to be tried again, and that something newer has replaced.
            News::Seen { at, .. } if at < self.containers_at => {}
            News::Seen { at, states } => {
                self.containers_at = at;
                for (container, what) in self.containers.changes(&states) {
                    tracing::info!(%container, "{what}");
                    changes.reported.push((format!("container {container}"), what));
                }
                let before = self.container_homes();
                if let Err(error) = self.workers.contain(&states).await {
                    tracing::warn!(%error, "containers are taken to be away until their namespaces are known");
                    let news = News::Seen { at, states: states.clone() };
                    self.send_later(InterfaceEvent::Engine(news));
                }
                self.containers = states;
                self.refuse_shared(config, changes);
                let now = self.container_homes();
                let has_moved = |container: &ContainerRef| before.get(container) != now.get(container);
                self.send_away(config, has_moved, at);
                self.check_namespaces(config, at, changes).await;
                self.ask_for_survey(at);
            }
            News::Lost { why } => {
                let what = format!("{why}; containers that start are not followed until it answers");
                tracing::warn!("{what}");
                changes.reported.push(("container engine".to_owned(), what));
            }
            News::Back { socket } => {
                tracing::info!(socket, "the container engine answers again");
                changes.reported.push(("container engine".to_owned(), format!("{socket} answers again")));
            }
        }
    }

    /// Where the network namespace of each peer's container is: of two that share one, the first has it.
    fn housings<'a>(&self, config: &'a Config) -> Vec<(PeerId, &'a ContainerRef, Housing)> {
        let own = Identity::own();
        let homes = self.container_homes();
        let mut seen: BTreeMap<Identity, PeerId> = BTreeMap::new();
        let housing = |(peer, container): (PeerId, &'a ContainerRef)| {
            let housing = match homes.get(container) {
                None => Housing::None,
                Some(identity) if Some(*identity) == own => Housing::Daemons,
                Some(identity) => match seen.entry(*identity) {
                    Entry::Occupied(first) => Housing::Peers(*first.get()),
                    Entry::Vacant(free) => {
                        free.insert(peer);
                        Housing::Own
                    }
                },
            };
            (peer, container, housing)
        };
        config.containers().map(housing).collect()
    }

    fn container_homes(&self) -> BTreeMap<ContainerRef, Identity> {
        self.workers.containers().map(|(container, identity)| (container.clone(), identity)).collect()
    }

    /// Takes containers to be away whose namespace is the daemon's own or another peer's: programs there would take others'
    /// frames for the peer's.
    fn refuse_shared(&mut self, config: &Config, changes: &mut Changes) {
        for (peer, container, housing) in self.housings(config) {
            let whose = match housing {
                Housing::Own | Housing::None => continue,
                Housing::Daemons => "the daemon",
                Housing::Peers(_) => "another peer",
            };
            self.workers.leave(container);
            let what = format!("shares its network namespace with {whose}: its links are not cut");
            let remedy = "start the container with a network of its own";
            if self.mismatches.insert(Mismatch { found: format!("container {container} {what}"), remedy }) {
                tracing::warn!(peer = config.names.name(peer), %container, "{what}");
                changes.reported.push((format!("container {container}"), what));
            }
        }
    }

    /// Takes containers to be away from an instant on, until a survey has found them and the programs know their names. One
    /// that goes and comes back between two surveys would never be seen away.
    fn send_away(&mut self, config: &Config, has_moved: impl Fn(&ContainerRef) -> bool, at: MonoNs) {
        let Some(picture) = self.eras.now() else { return };
        let mut picture = (**picture).clone();
        for (peer, container) in config.containers().filter(|(_, container)| has_moved(container)) {
            if let Some(end) = picture.ends.get_mut(&peer) {
                end.away = Some(container.clone());
            }
        }
        self.eras.renew(picture, at);
    }

    /// The addresses of peers that are containers, as far as these run: IPv4 first, in the order of their devices.
    pub fn container_addresses(&self, config: &Config) -> BTreeMap<PeerId, Vec<IpAddr>> {
        let addresses = |peer: PeerId| {
            let facts = &self.known[self.homes.get(&peer)?.at].facts;
            let mut held: Vec<(u32, IpAddr)> = facts.addresses.clone();
            held.retain(|(_, address)| self.identity.held.get(address) == Some(&peer));
            held.sort_by_key(|(index, address)| (address.is_ipv6(), *index));
            Some((peer, held.into_iter().map(|(_, address)| address).collect()))
        };
        config.containers().filter_map(|(peer, _)| addresses(peer)).collect()
    }

    /// Keeps containers that have just been found away in a picture until the programs know their names.
    pub(super) fn hold_back(&mut self, picture: &mut Picture) {
        let Some(before) = self.eras.now() else { return };
        let mut returned = BTreeSet::new();
        for (peer, end) in &mut picture.ends {
            let away = before.ends.get(peer).and_then(|before| before.away.clone());
            if away.is_some() && end.away.is_none() {
                end.away = away;
                returned.insert(*peer);
            }
        }
        self.returned = returned;
    }

    /// Lets containers be there that were held back: the programs know their names now.
    pub(super) fn let_in(&mut self) {
        if self.returned.is_empty() {
            return;
        }
        let Some(picture) = self.eras.now() else { return };
        let mut picture = (**picture).clone();
        for peer in std::mem::take(&mut self.returned) {
            if let Some(end) = picture.ends.get_mut(&peer) {
                end.away = None;
            }
        }
        self.eras.renew(picture, MonoNs::now());
    }
}
