//! Where the peers live, looked for anew when something tells that they may have moved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reading::FactsReading;
use super::{Changes, Cuts, InterfaceEvent, Interfaces, reading, worded};
use crate::datapath::Kernel;
use crate::discovery::homes::Exit;
use crate::discovery::places::{Found, Namespace, Place};
use crate::discovery::survey::survey;
use crate::discovery::{choice, homes};
use injector_core::clock::MonoNs;
use injector_core::config::{self, Config, Netns};
use injector_core::model::PeerId;

/// News of a change comes in a bunch: how long the rest of it is waited for before the peers are looked for anew.
const BUNCH: Duration = Duration::from_millis(50);

impl Interfaces {
    /// Looks where the peers live now.
    pub(super) async fn look(&mut self, config: &Config) -> BTreeMap<PeerId, Found> {
        self.listed = reading::listed();
        let may_enter = !self.is_settled || leads_to_namespaces(config);
        let survey_of =
            |known: &[Namespace]| survey(config, known, &homes::homes(config, known, &self.home_names));
        let mut look = FactsReading::new(&mut self.workers, may_enter, &self.listed);
        let (known, mut found) = match &config.interfaces {
            config::Interfaces::Auto => {
                look.everywhere(config).await;
                let known = look.done().await;
                let found = survey_of(&known);
                (known, found)
            }
            // Other labs on this host may use the same addresses: what counts is what is joined to these.
            config::Interfaces::Named(_) => {
                let named: BTreeSet<Option<Netns>> =
                    self.entries.iter().map(|entry| entry.interface.netns.clone()).collect();
                look.at(named.iter().cloned()).await;
                look.joined().await;
                let known = look.done().await;
                let found = survey_of(&known);
                if found.values().any(|found| found.paths.is_empty()) {
                    let mut look = FactsReading::new(&mut self.workers, may_enter, &self.listed);
                    look.at(named).await;
                    look.joined().await;
                    look.everywhere(config).await;
                    let all = look.done().await;
                    let known = with_missing(config, &known, all, &found);
                    let found = survey_of(&known);
                    (known, found)
                } else {
                    (known, found)
                }
            }
        };
        self.homes = homes::homes(config, &known, &self.home_names);
        for (peer, home) in &self.homes {
            if let Some(found) = found.get_mut(peer) {
                found.exits = homes::exits(config, &known, home.at).iter().map(Exit::path).collect();
            }
        }
        self.known = known;
        self.take_names();
        found
    }

    /// Takes note of the names that attached interfaces have now: what was seen goes by these.
    fn take_names(&mut self) {
        for entry in &mut self.entries {
            let space = self.known.iter().find(|space| space.netns == entry.interface.netns);
            let link = space.zip(entry.index()).and_then(|(space, index)| space.facts.link(index));
            if let Some(link) = link {
                entry.rename(&link.name);
            }
        }
    }

    /// Warns, once each, of peers that are not found.
    pub(super) fn warn(&mut self, config: &Config, found: &BTreeMap<PeerId, Found>) {
        for doubt in choice::doubts(config, found) {
            if self.doubts.insert(doubt.clone()) {
                tracing::warn!("{doubt}");
            }
        }
    }

    /// Notes which interfaces cover the peers from an instant on, and what names the ends of frames.
    pub(super) fn cover(&mut self, config: &Config, found: &BTreeMap<PeerId, Found>, at: MonoNs) {
        self.is_one_missing = found.values().any(|found| found.paths.is_empty());
        let Self { entries, coverage, .. } = self;
        let id = |place: &Place| {
            entries.iter().find(|entry| entry.is(&place.name, place.netns.as_ref())).map(|entry| entry.id)
        };
        for (peer, found) in found {
            coverage.renew(*peer, &found.paths, id, at);
        }
        self.assess(config, found, at);
    }

    /// Looks where the peers live now, and attaches where they are new.
    pub(super) async fn survey(
        &mut self,
        at: MonoNs,
        config: &Config,
        kernel: &mut Kernel,
        cuts: Cuts,
    ) -> Changes {
        let begun = tokio::time::Instant::now();
        let changes = self.look_anew(at, config, kernel, cuts).await;
        self.surveys.took(begun);
        changes
    }

    async fn look_anew(&mut self, at: MonoNs, config: &Config, kernel: &mut Kernel, cuts: Cuts) -> Changes {
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
                self.entries
                    .iter()
                    .any(|entry| entry.attachment.is_some() && entry.is(&place.name, place.netns.as_ref()))
            };
            for (interface, why) in choice::choose(config, &found, is_held) {
                if let Some(entry) =
                    self.entries.iter_mut().find(|entry| entry.is(&interface.name, interface.netns.as_ref()))
                {
                    entry.chosen = Some(why);
                    continue;
                }
                let netns = interface.netns.clone();
                let is_first = !self.entries.iter().any(|entry| entry.interface.netns == netns);
                if is_first && netns.is_some() && self.clean(netns.as_ref()).await.is_err()
                    || self.follow(netns.as_ref()).is_err()
                {
                    continue;
                }
                let entry = self.found_later(worded(config, interface), why);
                self.entries.push(entry);
                changes.told.extend(self.try_again(self.entries.len() - 1));
            }
        }
        self.cover(config, &found, at);
        self.follow_homes();
        let open_since = cuts.open_since.unwrap_or_else(MonoNs::now);
        self.coverage.forget(open_since);
        self.eras.forget(open_since);
        let Self { entries, coverage, eras, .. } = self;
        // Of a peer that has moved on. What is attached stays: that a peer is silent there says nothing.
        entries.retain(|entry| {
            entry.chosen.is_none()
                || entry.attachment.is_some()
                || entry.is_busy
                || coverage.needs(entry.id)
                || eras.need(entry.id)
        });
        self.watch_others(config);
        self.leave_unused(config);
        self.bind(kernel, cuts.is_rolling);
        self.let_in();
        changes.contained = Some(self.container_addresses(config));
        changes
    }

    /// Asks for a survey, once for all news of a bunch.
    pub(super) fn ask_for_survey(&mut self, at: MonoNs) {
        if std::mem::replace(&mut self.is_due, true) {
            return;
        }
        // However many interfaces come and go, surveys leave most of the time to commands.
        let rested = self.surveys.rested().max(tokio::time::Instant::now() + BUNCH);
        let news = self.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(rested).await;
            let _ = news.send(InterfaceEvent::Survey { at });
        });
    }
}

/// Whether the daemon may enter namespaces after its start.
fn leads_to_namespaces(config: &Config) -> bool {
    match &config.interfaces {
        config::Interfaces::Auto => true,
        config::Interfaces::Named(named) => {
            named.iter().any(|interface| interface.netns.is_some())
                || config.endpoints.iter().any(|endpoint| endpoint.netns.is_some())
        }
    }
}

/// Adds, of all namespaces, those that alone hold an address of a peer that was not found, and the daemon's own.
fn with_missing(
    config: &Config,
    known: &[Namespace],
    mut all: Vec<Namespace>,
    found: &BTreeMap<PeerId, Found>,
) -> Vec<Namespace> {
    let is_known = |space: &Namespace| known.iter().any(|known| known.netns == space.netns);
    let rest: Vec<&Namespace> = all.iter().filter(|space| !is_known(space)).collect();
    let holds = |space: &Namespace, peer: PeerId| {
        space.facts.addresses.iter().any(|(_, address)| config.owner(*address) == Some(peer))
    };
    let mut wanted: BTreeSet<Option<Netns>> = BTreeSet::from([None]);
    for peer in found.iter().filter(|(_, found)| found.paths.is_empty()).map(|(peer, _)| *peer) {
        let mut holding = rest.iter().filter(|space| holds(space, peer));
        if let (Some(only), None) = (holding.next(), holding.next()) {
            wanted.insert(only.netns.clone());
        }
    }
    let joined: BTreeSet<Option<Netns>> = known.iter().map(|space| space.netns.clone()).collect();
    all.retain(|space| joined.contains(&space.netns) || wanted.contains(&space.netns));
    all
}
