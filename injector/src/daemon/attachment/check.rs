//! One interface compared with what the kernel says of it now.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{InterfaceEvent, Interfaces};
use crate::netlink::news::News;
use crate::netlink::{self, LinkFacts};
use crate::netns::{NetnsError, Worker};
use injector_core::clock::MonoNs;
use injector_core::config::Netns;

/// How long after its thread is free again a namespace that did not answer is looked into.
pub(super) const AGAIN: Duration = Duration::from_millis(20);

impl Interfaces {
    pub(super) fn concerns(&self, entry: usize, news: &News) -> bool {
        let entry = &self.entries[entry];
        match news {
            News::Overrun => true,
            // Which one is being attached is not known yet.
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
            | News::Chains => false,
        }
    }

    /// Compares interfaces of one namespace with what the kernel says now; an event is only the reason to look.
    pub(super) async fn check(
        &mut self,
        netns: Option<&Netns>,
        entries: &[usize],
        when: MonoNs,
    ) -> Vec<(String, String)> {
        let mut reported = Vec::new();
        if entries.is_empty() {
            return reported;
        }
        // One look serves them all.
        let links = match self.workers.of(netns) {
            Ok(worker) => {
                let links = worker.ask(|| async {
                    let handle = netlink::connect().map_err(|error| error.to_string())?;
                    netlink::links(&handle).await.map_err(|error| error.to_string())
                });
                match links.await {
                    Ok(Ok(links)) => links,
                    // No answer is not an answer that there is nothing.
                    Ok(Err(error)) => return self.check_again(&worker, netns, when, &error),
                    Err(error @ NetnsError::Late { .. }) => {
                        return self.check_again(&worker, netns, when, &error.to_string());
                    }
                    Err(_) => Vec::new(),
                }
            }
            Err(_) => Vec::new(),
        };
        let by_index: BTreeMap<u32, &LinkFacts> = links.iter().map(|link| (link.index, link)).collect();
        let by_name: BTreeMap<&str, &LinkFacts> =
            links.iter().map(|link| (link.name.as_str(), link)).collect();
        for at in entries.iter().copied() {
            let entry = &mut self.entries[at];
            if entry.is_busy {
                entry.look_again = Some(when);
                continue;
            }
            // What is attached is followed by its index, under whichever name.
            let same = entry.index().and_then(|index| by_index.get(&index));
            let found = same.or_else(|| by_name.get(entry.interface.name.as_str())).copied();
            if let Some(index) = entry.index() {
                match found {
                    Some(found) if found.index == index => {
                        reported.extend(entry.rename(&found.name));
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

    /// Has the interfaces of a namespace compared once its thread is free; nothing has happened until then.
    fn check_again(
        &self,
        worker: &Worker,
        netns: Option<&Netns>,
        at: MonoNs,
        error: &str,
    ) -> Vec<(String, String)> {
        tracing::warn!(error, "its interfaces are looked at when it answers");
        let (news, netns, identity) = (self.news.clone(), netns.cloned(), worker.identity());
        // A thread that has ended has no interfaces to report.
        let _ = worker.spawn(move || async move {
            tokio::time::sleep(AGAIN).await;
            let _ = news.send(InterfaceEvent::News { netns, identity, at, news: News::Overrun });
        });
        Vec::new()
    }
}
