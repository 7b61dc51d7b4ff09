//! One interface compared with what the kernel says of it now.

use super::{InterfaceEvent, Interfaces};
use crate::netlink;
use crate::netlink::news::News;
use crate::netns::NetnsError;
use injector_core::clock::MonoNs;
use injector_core::config::shown;

impl Interfaces {
    pub(super) fn concerns(&self, entry: usize, news: &News) -> bool {
        let entry = &self.entries[entry];
        match news {
            News::Overrun => true,
            News::Gone(index) => entry.index() == Some(*index),
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

    /// Compares an interface with what the kernel says now; an event is only the reason to look.
    pub(super) async fn check(&mut self, at: usize, when: MonoNs) -> Vec<(String, String)> {
        let entry = &mut self.entries[at];
        let mut told = Vec::new();
        let (name, index) = (entry.interface.name.clone(), entry.index());
        let found = match self.workers.of(entry.interface.netns.as_ref()) {
            Ok(worker) => {
                let found = worker.ask(move || async move {
                    let handle = netlink::connect().ok()?;
                    let links = netlink::links(&handle).await.ok()?;
                    // What is attached is followed by its index, under whichever name.
                    let same = links.iter().position(|link| Some(link.index) == index);
                    let at = same.or_else(|| links.iter().position(|link| link.name == name))?;
                    links.into_iter().nth(at)
                });
                match found.await {
                    Ok(found) => found,
                    Err(error @ NetnsError::Late { .. }) => {
                        tracing::warn!(interface = shown(&entry.interface), %error, "looked at when it answers");
                        let (news, netns) = (self.news.clone(), entry.interface.netns.clone());
                        let identity = worker.identity();
                        // The thread tells when it comes to it.
                        let _ = worker.spawn(move || async move {
                            let _ = news.send(InterfaceEvent::News {
                                netns,
                                identity,
                                at: when,
                                news: News::Overrun,
                            });
                        });
                        return told;
                    }
                    Err(_) => None,
                }
            }
            Err(_) => None,
        };
        if let Some(index) = entry.index() {
            match &found {
                Some(found) if found.index == index => {
                    told.extend(entry.rename(&found.name));
                    return told;
                }
                Some(found) => {
                    let why =
                        format!("another interface has its name now (index {}, was {index})", found.index);
                    told.push(entry.lose(when, &why).await);
                }
                None => told.push(entry.lose(when, "there is no interface of this name any more").await),
            }
        }
        if found.is_some() {
            told.extend(self.try_again(at).await);
        }
        told
    }
}
