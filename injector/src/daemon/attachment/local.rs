//! The loopback devices of peers on this machine, and what is seen of these peers.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::{InterfaceEvent, Interfaces};
use crate::daemon::start_error::StartError;
use crate::discovery::local::{Doubt, LocalEnd, LocalProcesses};
use crate::discovery::space::Space;
use crate::local::{Error, Found, Late};
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Hook, Interface};
use injector_core::model::PeerId;

/// The name that the kernel gives to a namespace's loopback device.
pub(super) const LOOPBACK: &str = "lo";

impl Interfaces {
    /// Takes in the loopback devices of peers on this machine.
    pub(super) async fn add_loopbacks(&mut self) -> Result<(), StartError> {
        for netns in self.local_spaces.keys().cloned().collect::<Vec<_>>() {
            self.workers.of(netns.as_ref()).await?;
            let id = self.ids.take();
            let interface = Interface { hook: Hook::Local, ..Interface::found(LOOPBACK, netns.as_ref()) };
            self.entries.push(Entry::new(id, interface, None));
        }
        Ok(())
    }

    /// The observed processes of peers on this machine.
    pub(super) fn local(&self) -> &LocalProcesses {
        &self.local
    }

    /// Where peers on this machine are, for a picture.
    pub(super) fn local_ends(
        &self,
        config: &Config,
        observed: &LocalProcesses,
    ) -> BTreeMap<PeerId, LocalEnd> {
        let end = |(peer, local): (PeerId, &injector_core::config::LocalPeer)| {
            let loopback = self
                .entries
                .iter()
                .find(|entry| entry.interface.hook == Hook::Local && entry.interface.netns == local.netns);
            let doubt = if self.reborn.contains(&local.netns) {
                Some(Doubt {
                    why: "its network namespace was recreated, and the programs know the old one".to_owned(),
                    remedy: Some("restart the daemon"),
                })
            } else {
                observed.peers.get(&peer).and_then(|seen| seen.doubt.clone())
            };
            let space = Space(local.netns.clone());
            (peer, LocalEnd { space, loopback: loopback.map(|entry| entry.id), doubt })
        };
        config.local_peers().map(end).collect()
    }

    /// A function that notifies the daemon's task that cgroups of peers may have been recreated.
    pub fn cgroup_notifier(&self) -> impl Fn() + Send + 'static {
        let news = self.sinks.news.clone();
        move || drop(news.send(InterfaceEvent::Cgroups))
    }

    /// A function that takes the result of a scan back to the daemon's task.
    pub fn scan_reporter(&self) -> impl FnOnce(MonoNs, Result<Found, Error>) + Send + 'static {
        let news = self.sinks.news.clone();
        move |begun, found| drop(news.send(InterfaceEvent::Local { begun, found: Box::new(found) }))
    }

    /// When the last scan of processes began: what was so before is known.
    pub fn local_scan_began(&self) -> MonoNs {
        self.local_scan_began
    }

    /// Takes in the result of a scan that began at an instant. Returns what changed, for the timeline.
    pub fn take_local(
        &mut self,
        config: &Config,
        begun: MonoNs,
        found: Result<Found, Error>,
    ) -> Vec<(String, String)> {
        let before = std::mem::replace(&mut self.local_scan_began, begun);
        match found {
            Ok(found) => self.take_found(config, begun, found),
            Err(error) => {
                tracing::error!(%error, "the processes of peers on this machine were not looked at");
                let why = format!("processes were not looked at: {error}");
                self.doubt_all_local(config, &Doubt::passing(why.clone()), before);
                vec![(LOOPBACK.to_owned(), why)]
            }
        }
    }

    fn take_found(&mut self, config: &Config, begun: MonoNs, found: Found) -> Vec<(String, String)> {
        let Found { before, at, programs, mut observed, late } = found;
        let mut reported = match &programs {
            Some(programs) => self.owners_scanned(config, begun, programs, &mut observed),
            None => Vec::new(),
        };
        for (peer, Late { count, from }) in late {
            // Until the scan, nothing said whose sockets they were.
            self.doubt_local(peer, &Doubt::passing(format!("{count} of its sockets had no owner yet")), from);
        }
        for (peer, seen) in &observed.peers {
            let known = self.local.peers.get(peer).and_then(|known| known.doubt.as_ref());
            if let Some(doubt) = seen.doubt.as_ref().filter(|doubt| Some(*doubt) != known) {
                self.doubt_local(*peer, doubt, before);
                reported.push((LOOPBACK.to_owned(), format!("{}: {}", config.names.name(*peer), doubt.why)));
            }
        }
        self.renew_local(config, &observed, at);
        for (peer, seen) in &observed.peers {
            let processes =
                |observed: &LocalProcesses| observed.peers.get(peer).map(|seen| seen.processes.clone());
            if processes(&self.local).as_ref() == Some(&seen.processes) {
                continue;
            }
            let shown: Vec<String> = seen.processes.iter().map(ToString::to_string).collect();
            let what = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
            reported
                .push((LOOPBACK.to_owned(), format!("processes of {}: {what}", config.names.name(*peer))));
        }
        self.local = observed;
        reported
    }

    /// Takes note that a process of a peer has made a socket of multipath TCP, for which sockets of the
    /// kernel's own send: until the next scan, nobody knows which.
    pub fn multipath(&mut self, config: &Config, peer: PeerId) {
        // The kernel's report is not used as an index.
        if config.peer(peer).is_none() {
            return;
        }
        let doubt = Doubt::passing("it made a socket of multipath TCP, whose frames name nobody".to_owned());
        self.doubt_local(peer, &doubt, MonoNs::now());
        let mut observed = self.local.clone();
        observed.peers.entry(peer).or_default().doubt.get_or_insert(doubt);
        self.local = observed;
        tracing::warn!(peer = config.names.name(peer), "made a socket of multipath TCP");
    }

    /// Doubts all peers from an instant on, unless they are in doubt.
    pub(super) fn doubt_all_local(&mut self, config: &Config, doubt: &Doubt, from: MonoNs) {
        for (peer, _) in config.local_peers() {
            self.doubt_local(peer, doubt, from);
            self.local.peers.entry(peer).or_default();
        }
        self.local.doubt_all(doubt);
    }

    /// Doubts a peer from an instant on, unless it is in doubt.
    fn doubt_local(&mut self, peer: PeerId, doubt: &Doubt, from: MonoNs) {
        self.eras.amend(from, |picture| {
            if let Some(end) = picture.locals.get_mut(&peer) {
                end.doubt.get_or_insert_with(|| doubt.clone());
            }
        });
    }

    /// Puts what is seen of peers on this machine into the picture, from an instant on.
    pub(super) fn renew_local(&mut self, config: &Config, observed: &LocalProcesses, at: MonoNs) {
        let Some(picture) = self.eras.now() else { return };
        let mut picture = (**picture).clone();
        picture.locals = self.local_ends(config, observed);
        self.eras.renew(picture, at);
    }
}
