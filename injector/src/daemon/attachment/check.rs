//! One interface compared with what the kernel says of it now.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link_list::LinkList;
use super::namespaces::RETRY;
use super::pending::PendingAnswer;
use super::{InterfaceEvent, Interfaces};
use crate::netlink::news::News;
use crate::netlink::{self, LinkFacts};
use crate::netns::Identity;
use injector_core::clock::MonoNs;
use injector_core::config::Netns;

/// How long after its thread is free again a namespace that did not answer is read.
pub(super) const AGAIN: Duration = Duration::from_millis(20);
/// Why a namespace's thread found nothing that was asked.
pub(super) const NO_ANSWER: &str = "the thread of the network namespace gave no answer: the log has why";

impl Interfaces {
    pub(super) fn concerns(&self, entry: usize, news: &News) -> bool {
        let entry = &self.entries[entry];
        match news {
            News::Overrun => true,
            // The index of an interface that is being attached is not known yet.
            News::Gone(index) => entry.is_busy || entry.index() == Some(*index),
            News::Link(link) => {
                let is_name = link.name == entry.name();
                // Attached and still of that name: it went up or down, or the like.
                is_name != (entry.index() == Some(link.index))
            }
            News::Neighbour(..)
            | News::Port(..)
            | News::Routes(_)
            | News::Address(..)
            | News::Hooks(_)
            | News::EgressChain(_)
            | News::Chains
            | News::Nat
            | News::Ended(_) => false,
        }
    }

    /// Has the interfaces of a namespace compared with what the kernel says now; an event is only the reason
    /// to read them. The namespace's thread sends the list as an event, since it may be held up. Returns what
    /// happened, for the timeline, if there is no thread to ask.
    pub(super) fn check(&mut self, netns: Option<&Netns>, when: MonoNs) -> Vec<(String, String)> {
        if !self.entries.iter().any(|entry| entry.interface.netns.as_ref() == netns) {
            return Vec::new();
        }
        let Ok(worker) = self.workers.running(netns) else {
            return self.compare(netns, &LinkList::nothing(), when);
        };
        let netns = netns.cloned();
        // One reading serves all; news that comes after it has begun calls for another.
        if let Some(asked) = self.links_asked.get_mut(&netns) {
            asked.get_or_insert(when);
            return Vec::new();
        }
        let (asked, identity) = (netns.clone(), worker.identity());
        let links = Err(NO_ANSWER.to_owned());
        let none = InterfaceEvent::Links { netns: netns.clone(), identity, at: when, begun: when, links };
        let pending = PendingAnswer::new(&self.sinks.news, none);
        let spawned = worker.spawn_awaited(move || async move {
            crate::fault::here("links/read");
            let begun = MonoNs::now();
            let links = netlink::links().await.map_err(|error| error.to_string());
            pending.answer(InterfaceEvent::Links { netns: asked, identity, at: when, begun, links });
        });
        if spawned.is_err() {
            return self.compare(netns.as_ref(), &LinkList::nothing(), when);
        }
        self.links_asked.insert(netns, None);
        Vec::new()
    }

    /// Takes in the interfaces of a namespace that was asked for them; what happened, for the timeline.
    pub(super) fn links_found(
        &mut self,
        netns: Option<&Netns>,
        identity: Identity,
        when: MonoNs,
        list: Result<LinkList, String>,
    ) -> Vec<(String, String)> {
        // A late answer of a namespace that is gone is dropped.
        if self.workers.identity(netns) != Some(identity) {
            return Vec::new();
        }
        // The namespace's thread had ended when it was asked.
        let Some(again) = self.links_asked.remove(&netns.cloned()) else { return Vec::new() };
        let mut reported = match list {
            Ok(list) => self.compare(netns, &list, when),
            // A missing answer is not a list without interfaces.
            Err(error) => {
                tracing::warn!(error, "its interfaces could not be read, and are looked at again");
                self.check_again(netns, when);
                return Vec::new();
            }
        };
        if let Some(again) = again {
            reported.extend(self.check(netns, again));
        }
        reported
    }

    fn compare(&mut self, netns: Option<&Netns>, list: &LinkList, when: MonoNs) -> Vec<(String, String)> {
        let LinkList { begun, links } = list;
        let mut reported = Vec::new();
        let entries: Vec<usize> = (0..self.entries.len())
            .filter(|at| self.entries[*at].interface.netns.as_ref() == netns)
            .collect();
        let by_index: BTreeMap<u32, &LinkFacts> = links.iter().map(|link| (link.index, link)).collect();
        let by_name: BTreeMap<&str, &LinkFacts> =
            links.iter().map(|link| (link.name.as_str(), link)).collect();
        for at in entries {
            let entry = &mut self.entries[at];
            if entry.is_busy {
                entry.look_again = Some(when);
                continue;
            }
            // Our programs came on it while the list was read, which may lack it. If it goes, that is news of its own.
            if entry.index().is_some() && !entry.was_attached_at(*begun) {
                continue;
            }
            // An attached interface is followed by its index, under whichever name.
            let same = entry.index().and_then(|index| by_index.get(&index));
            let found = same.or_else(|| by_name.get(entry.interface.name.as_str())).copied();
            if let Some(index) = entry.index() {
                match found {
                    Some(found) if found.index == index => {
                        reported.extend(entry.rename(&found.name, *begun));
                        continue;
                    }
                    Some(found) => {
                        let why = format!(
                            "another interface has its name now (index {}, was {index})",
                            found.index
                        );
                        reported.push(self.lose(at, when, &why));
                    }
                    None => reported.push(self.lose(at, when, "there is no interface of this name any more")),
                }
            }
            if found.is_some() {
                reported.extend(self.try_again(at));
            }
        }
        reported
    }

    /// Has the interfaces of a namespace compared a moment later; nothing has happened until then.
    pub(super) fn check_again(&self, netns: Option<&Netns>, at: MonoNs) {
        let (news, asked) = (self.sinks.news.clone(), netns.cloned());
        self.workers.when_free(netns, move |identity| async move {
            tokio::time::sleep(RETRY).await;
            let _ = news.send(InterfaceEvent::News { netns: asked, identity, at, news: News::Overrun });
        });
    }
}
