//! The loopback devices of peers on this machine, and what is seen of these peers.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::{InterfaceEvent, Interfaces};
use crate::daemon::start_error::StartError;
use crate::discovery::local::{LocalEnd, LocalSight};
use crate::discovery::space::Space;
use crate::local::{Error, Found};
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Hook, Interface};
use injector_core::model::PeerId;

/// The name that the kernel gives to a namespace's loopback device.
const LOOPBACK: &str = "lo";

impl Interfaces {
    /// Takes in the loopback devices of peers on this machine.
    pub(super) async fn add_loopbacks(&mut self) -> Result<(), StartError> {
        for netns in self.local_spaces.keys().cloned().collect::<Vec<_>>() {
            self.workers.of(netns.as_ref()).await?;
            let id = self.id();
            let interface = Interface { hook: Hook::Local, ..Interface::found(LOOPBACK, netns.as_ref()) };
            self.entries.push(Entry::new(id, interface, None));
        }
        Ok(())
    }

    /// What is seen of peers on this machine.
    pub(super) fn local(&self) -> &LocalSight {
        &self.local
    }

    /// Where peers on this machine are, for a picture.
    pub(super) fn local_ends(&self, config: &Config, sight: &LocalSight) -> BTreeMap<PeerId, LocalEnd> {
        let end = |(peer, local): (PeerId, &injector_core::config::LocalPeer)| {
            let loopback = self
                .entries
                .iter()
                .find(|entry| entry.interface.hook == Hook::Local && entry.interface.netns == local.netns);
            let doubt = if self.reborn.contains(&local.netns) {
                Some("its network namespace was made anew, and the programs know the old one: restart the daemon".to_owned())
            } else {
                sight.peers.get(&peer).and_then(|seen| seen.doubt.clone())
            };
            let space = Space(local.netns.clone());
            (peer, LocalEnd { space, loopback: loopback.map(|entry| entry.id), doubt })
        };
        config.local_peers().map(end).collect()
    }

    /// What tells the daemon's task that cgroups of peers may have been made anew.
    pub fn tell_cgroups(&self) -> impl Fn() + Send + 'static {
        let news = self.news.clone();
        move || drop(news.send(InterfaceEvent::Cgroups))
    }

    /// What takes what was found back to the daemon's task.
    pub fn tell_local(&self) -> impl FnOnce(Result<Found, Error>) + Send + 'static {
        let news = self.news.clone();
        move |found| match found {
            Ok(found) => drop(news.send(InterfaceEvent::Local(Box::new(found)))),
            Err(error) => {
                tracing::error!(%error, "the processes of peers on this machine were not looked at");
            }
        }
    }

    /// Takes in what was found; what changed, for the timeline.
    pub(super) fn take_local(&mut self, config: &Config, found: Found) -> Vec<(String, String)> {
        let Found { since, at, sight, late } = found;
        if !late.is_empty() {
            // Until then, nothing said whose they were.
            let mut before = sight.clone();
            for (peer, count) in &late {
                let doubt = format!("{count} of its sockets had no owner yet");
                before.peers.entry(*peer).or_default().doubt.get_or_insert(doubt);
            }
            self.renew_local(config, &before, since);
        }
        self.renew_local(config, &sight, at);
        let mut told = Vec::new();
        for (peer, seen) in &sight.peers {
            let processes = |sight: &LocalSight| sight.peers.get(peer).map(|seen| seen.processes.clone());
            if processes(&self.local).as_ref() == Some(&seen.processes) {
                continue;
            }
            let shown: Vec<String> = seen.processes.iter().map(ToString::to_string).collect();
            let what = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
            told.push((LOOPBACK.to_owned(), format!("processes of {}: {what}", config.names.name(*peer))));
        }
        self.local = sight;
        told
    }

    /// Puts what is seen of peers on this machine into the picture, from an instant on.
    pub(super) fn renew_local(&mut self, config: &Config, sight: &LocalSight, at: MonoNs) {
        let Some(picture) = self.eras.now() else { return };
        let mut picture = (**picture).clone();
        picture.locals = self.local_ends(config, sight);
        self.eras.renew(picture, at);
    }
}
