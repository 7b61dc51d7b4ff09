//! Repeats the survey of where the peers live when something shows that they may have moved.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::AGAIN;
use super::interface_ids::InterfaceIds;
use super::namespaces::RETRY;
use super::reading::{ReadNamespaces, Silent, Surveyed, Unanswered};
use super::{Changes, Cuts, InterfaceEvent, Interfaces, worded};
use crate::datapath::Kernel;
use crate::discovery::choice;
use crate::discovery::devices::shown_device;
use crate::discovery::mismatch::Mismatch;
use crate::discovery::places::{Found, Place};
use crate::discovery::strangers::ReadTime;
use crate::discovery::taps;
use crate::netlink::news::News;
use crate::netns::Identity;
use injector_core::clock::MonoNs;
use injector_core::config::{self, Config, Netns};
use injector_core::model::PeerId;

/// News of a change comes in bursts: how long to wait for the rest of it before the survey is repeated.
const BUNCH: Duration = Duration::from_millis(50);

impl Interfaces {
    /// Takes in what a survey has found.
    pub(super) fn take_surveyed(&mut self, surveyed: Surveyed) -> BTreeMap<PeerId, Found> {
        let Surveyed { read_at, listed, read, homes, found, workers } = surveyed;
        let ReadNamespaces { known, answered, unanswered } = read;
        self.workers.adopt(workers);
        (self.listed, self.known, self.answered, self.homes) = (listed, known, answered, homes);
        // Of those that did not answer, the facts are older than the news.
        self.device_news.retain(|(netns, _), _| unanswered.contains_key(netns));
        self.take_names(read_at, &unanswered);
        self.read = ReadTime { since: read_at, unanswered: unanswered.keys().cloned().collect() };
        let mut is_one_unknown = false;
        for (netns, silent) in unanswered {
            match silent {
                Silent::File => self.check_names_later(MonoNs::now()),
                Silent::Thread if self.known.iter().any(|space| space.netns == netns) => {
                    self.read_again_later(netns, AGAIN, News::Overrun);
                }
                Silent::Thread => is_one_unknown = true,
            }
        }
        if is_one_unknown {
            self.send_later(InterfaceEvent::Survey { at: MonoNs::now() });
        }
        for space in self.known.iter().filter(|space| space.facts.nat.is_changing) {
            self.read_again_later(space.netns.clone(), RETRY, News::Nat);
        }
        found
    }

    /// Has a namespace that did not answer, or not in full, read a while after its thread is free.
    fn read_again_later(&self, netns: Option<Netns>, after: Duration, reported: News) {
        let (news, asked) = (self.sinks.news.clone(), netns.clone());
        self.workers.when_free(asked.as_ref(), move |identity| async move {
            tokio::time::sleep(after).await;
            let at = MonoNs::now();
            let _ = news.send(InterfaceEvent::News { netns, identity, at, news: reported });
        });
    }

    /// Takes note of the names that attached interfaces had at an instant, where these were read from then on: what was seen goes
    /// by these.
    fn take_names(&mut self, read_at: MonoNs, unanswered: &Unanswered) {
        for entry in &mut self.entries {
            // An interface that was attached later may have the index of another one.
            if unanswered.contains_key(&entry.interface.netns) || !entry.was_attached_at(read_at) {
                continue;
            }
            let space = self.known.iter().find(|space| space.netns == entry.interface.netns);
            let link = space.zip(entry.index()).and_then(|(space, index)| space.facts.link(index));
            if let Some(link) = link {
                entry.rename(&link.name, read_at);
            }
        }
    }

    /// Warns, once each, of peers and of their interfaces that are not found.
    pub(super) fn warn(&mut self, config: &Config, found: &BTreeMap<PeerId, Found>) {
        let is_there = |device: &config::Device| {
            let mut links =
                self.known.iter().flat_map(|space| space.facts.links.iter().map(move |link| (space, link)));
            links.any(|(space, link)| space.has(device, &link.name))
        };
        let missing = config.peers.iter().filter_map(|peer| {
            let tap = peer.tap.as_ref().filter(|tap| !is_there(tap))?;
            let (name, tap) = (config.names.name(peer.id), shown_device(&tap.name, tap.netns.as_ref()));
            Some(Mismatch {
                found: format!("peers.{name}.vm: there is no interface {tap}"),
                remedy: "see `ip link`, or wait until the guest runs",
            })
        });
        let missing: Vec<Mismatch> = missing.collect();
        self.warn_once(missing.into_iter().chain(choice::not_found(config, found)));
    }

    /// Warns, once each, of virtual machines that were seen elsewhere than behind the interface that the config names.
    pub(super) fn warn_of_taps(&mut self, config: &Config) {
        self.warn_once(taps::misplaced(config, &self.known));
    }

    fn warn_once(&mut self, mismatches: impl IntoIterator<Item = Mismatch>) {
        for mismatch in mismatches {
            if self.mismatches.insert(mismatch.clone()) {
                tracing::warn!("{mismatch}");
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

    /// Takes in where the peers live now, and attaches where they are new.
    pub(super) async fn surveyed(
        &mut self,
        at: MonoNs,
        surveyed: Surveyed,
        config: &Config,
        kernel: &mut Kernel,
        cuts: Cuts,
    ) -> Changes {
        let kept = self.surveying.take().unwrap_or_default();
        let again = self.survey_again.take();
        // A namespace that was recreated meanwhile is not the one that was read.
        let is_current = surveyed.read.answered.iter().all(|(netns, (identity, _))| {
            let is_same = |now: Identity| now == *identity;
            let is_contained = match netns {
                Some(Netns::Container(container)) => {
                    self.workers.containers().any(|(known, now)| known == container && is_same(now))
                }
                _ => true,
            };
            is_contained && self.workers.identity(netns.as_ref()).is_none_or(is_same)
        });
        if !is_current {
            let mut changes = Changes::default();
            // A thread in what had the name before would have the next survey fail as well.
            self.check_namespaces(config, at, &mut changes).await;
            self.ask_for_survey(again.unwrap_or(at).min(at));
            return changes;
        }
        if let Some(at) = again {
            self.ask_for_survey(at);
        }
        let mut changes = Changes::default();
        let mut is_late = false;
        let mut found = self.take_surveyed(surveyed);
        self.warn_of_taps(config);
        if config.interfaces == config::Interfaces::Auto {
            self.warn_once(choice::ambiguity(config, &found).map(|what| Mismatch {
                found: format!("interfaces: auto: {what}: it is taken to be where it was"),
                remedy: "name the peer's interface in the config, or take the address off the other",
            }));
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
                if let Err(error) = self.enter(netns.as_ref(), is_first).await {
                    // Nobody could answer in time; that a namespace is gone is news of its own.
                    is_late |= error.is_late();
                    continue;
                }
                let entry = self.found_later(worded(config, &self.known, interface), why);
                self.entries.push(entry);
                changes.reported.extend(self.try_again(self.entries.len() - 1));
            }
        }
        let open_since = cuts.open_since.unwrap_or_else(MonoNs::now);
        self.sightings.forget(open_since);
        self.cover(config, &found, at);
        is_late |= self.follow_homes().await;
        if is_late {
            self.ask_for_survey(at);
        }
        self.coverage.forget(open_since);
        self.eras.forget(open_since);
        changes.reported.extend(self.forget_unneeded());
        self.take_kept_news(config, kernel, kept);
        self.watch_others(config);
        self.leave_unused(config);
        if self.bind(kernel, cuts.is_rolling) {
            self.let_in();
        }
        changes.contained = Some(self.container_addresses(config));
        changes
    }

    /// Forgets the interfaces of peers that have moved on, and attaches to others for which there was no id. Attached ones stay:
    /// that a peer is silent there says nothing.
    fn forget_unneeded(&mut self) -> Vec<(String, String)> {
        let Self { entries, coverage, eras, ids, redirected, .. } = self;
        entries.retain(|entry| {
            let is_kept = entry.chosen.is_none()
                || entry.attachment.is_some()
                || entry.is_busy
                || coverage.needs(entry.id)
                || eras.need(entry.id);
            if !is_kept {
                redirected.remove(&entry.id);
                ids.give_back(entry.id);
            }
            is_kept
        });
        let without_id = |at: &usize| !InterfaceIds::fits(self.entries[*at].id);
        let waiting: Vec<usize> = (0..self.entries.len()).filter(without_id).collect();
        waiting.into_iter().filter_map(|at| self.try_again(at)).collect()
    }

    /// Asks for a survey, once for all news of a bunch.
    pub(super) fn ask_for_survey(&mut self, at: MonoNs) {
        if std::mem::replace(&mut self.is_due, true) {
            return;
        }
        // However many interfaces come and go, surveys leave most of the time to commands.
        let rested = self.surveys.rested().max(tokio::time::Instant::now() + BUNCH);
        let news = self.sinks.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(rested).await;
            let _ = news.send(InterfaceEvent::Survey { at });
        });
    }
}
