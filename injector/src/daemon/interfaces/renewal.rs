//! Where the peers live, looked for anew when something tells that they may have moved.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::Entry;
use super::survey::{Found, Place, survey};
use super::{Changes, Cuts, InterfaceEvent, Interfaces, choice, look};
use crate::clock::MonoNs;
use crate::config::{self, Config};
use crate::datapath::Kernel;
use crate::model::PeerId;

/// News of a change comes in a bunch: how long the rest of it is waited for before the peers are looked for anew.
const BUNCH: Duration = Duration::from_millis(50);

impl Interfaces {
    /// Looks where the peers live now.
    pub(super) async fn look(&mut self, config: &Config) -> BTreeMap<PeerId, Found> {
        if let config::Interfaces::Named(named) = &config.interfaces {
            let named = named.iter().map(|interface| interface.netns.clone()).collect();
            self.known = look::into(&mut self.workers, named).await;
            let found = survey(config, &self.known);
            // Otherwise other namespaces may know how a peer's address comes to one of these interfaces.
            if found.values().all(|found| !found.ways.is_empty()) {
                return found;
            }
        }
        self.listed = look::listed();
        self.known = look::everywhere(&mut self.workers, config).await;
        survey(config, &self.known)
    }

    /// Warns, once each, of peers that are not found.
    pub(super) fn warn(&mut self, config: &Config, found: &BTreeMap<PeerId, Found>) {
        for doubt in choice::doubts(config, found) {
            if self.doubts.insert(doubt.clone()) {
                tracing::warn!("{doubt}");
            }
        }
    }

    /// Notes which interfaces cover the peers from an instant on.
    pub(super) fn cover(&mut self, found: &BTreeMap<PeerId, Found>, at: MonoNs) {
        self.is_one_missing = found.values().any(|found| found.ways.is_empty());
        let Self { entries, coverage, .. } = self;
        let id = |place: &Place| {
            let is_there =
                |entry: &&Entry| entry.interface.name == place.name && entry.interface.netns == place.netns;
            entries.iter().find(is_there).map(|entry| entry.id)
        };
        for (peer, found) in found {
            coverage.renew(*peer, &found.ways, id, at);
        }
    }

    /// Looks where the peers live now, and attaches where they are new.
    pub(super) async fn survey(
        &mut self,
        at: MonoNs,
        config: &Config,
        kernel: &mut Kernel,
        cuts: Cuts,
    ) -> Changes {
        self.is_due = false;
        let mut changes = Changes::default();
        let mut found = self.look(config).await;
        if config.interfaces == config::Interfaces::Auto {
            if let Some(what) = choice::ambiguity(config, &found)
                && self.doubts.insert(what.clone())
            {
                tracing::warn!("interfaces: auto: {what}; it is taken to be where it was");
            }
            found.retain(|_, found| found.ambiguous.is_empty());
            self.warn(config, &found);
            let is_held = |place: &Place| {
                self.entries.iter().any(|entry| {
                    entry.attachment.is_some()
                        && entry.interface.name == place.name
                        && entry.interface.netns == place.netns
                })
            };
            for (interface, why) in choice::choose(config, &found, is_held) {
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.interface == interface) {
                    entry.chosen = Some(why);
                    continue;
                }
                let netns = interface.netns.clone();
                let is_followed =
                    netns.is_none() || self.entries.iter().any(|entry| entry.interface.netns == netns);
                if !is_followed
                    && (self.clean(netns.as_ref()).await.is_err() || self.subscribe(netns.as_ref()).is_err())
                {
                    continue;
                }
                let entry = self.found_later(interface, why);
                self.entries.push(entry);
                changes.told.extend(self.try_again(self.entries.len() - 1).await);
            }
        }
        self.cover(&found, at);
        self.coverage.forget(cuts.open_since.unwrap_or_else(MonoNs::now));
        let Self { entries, coverage, .. } = self;
        // Of a peer that has moved on. What is attached stays: that a peer is silent there says nothing.
        entries
            .retain(|entry| entry.chosen.is_none() || entry.attachment.is_some() || coverage.needs(entry.id));
        self.leave_unused(config);
        self.bind(kernel, cuts.is_rolling);
        changes
    }

    /// Asks for a survey, once for all news of a bunch.
    pub(super) fn ask_for_survey(&mut self, at: MonoNs) {
        if std::mem::replace(&mut self.is_due, true) {
            return;
        }
        let news = self.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep(BUNCH).await;
            let _ = news.send(InterfaceEvent::Survey { at });
        });
    }
}
