//! The namespaces of the interfaces: cleaned, followed, and entered again when their names refer to others.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pending::PendingAnswer;
use super::{Changes, InterfaceEvent, Interfaces, StartError};
use crate::datapath::{Sweep, sweep};
use crate::discovery::nat;
use crate::discovery::places::Namespace;
use crate::netlink;
use crate::netlink::nat::Nat;
use crate::netlink::news::{self, News, Topic};
use crate::netns::{Identity, NetnsError, Worker};
use injector_core::clock::MonoNs;
use injector_core::config::{self, Config, Netns};

/// How long after it did not answer the supervisor is asked again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// The most namespaces in which a thread is kept to notice addresses that move there, and rules of NAT.
const MOST_WATCHED: usize = 256;

impl Interfaces {
    /// Stops the threads that were only needed for the survey: a thread keeps its namespace alive.
    pub(super) fn leave_unused(&mut self, config: &Config) {
        let is_auto = config.interfaces == config::Interfaces::Auto;
        for netns in self.workers.names() {
            // Under `auto`, peers that come later are found in the daemon's own.
            let is_used = (is_auto && netns.is_none())
                || self.watched.contains_key(&netns)
                // Another thread there would be held up as well.
                || self.read.unanswered.contains(&netns)
                || self.is_party(config, netns.as_ref());
            if !is_used {
                self.end_thread(netns.as_ref());
            }
        }
    }

    /// Ends a namespace's thread, and with it all that the thread was asked.
    fn end_thread(&mut self, netns: Option<&Netns>) {
        self.workers.stop(netns);
        let netns = netns.cloned();
        self.followed.remove(&netns);
        self.watched.remove(&netns);
        self.subscribed.remove(&netns);
        self.links_asked.remove(&netns);
        self.hooks_asked.remove(&netns);
        self.hooks_read.remove(&netns);
        self.hooks_failed.remove(&netns);
        self.cleaning.remove(&netns);
    }

    /// Removes what dead daemons left in a namespace, and waits for it.
    pub(super) async fn clean(&mut self, netns: Option<&Netns>) -> Result<(), NetnsError> {
        // Only the supervisor has the rights that show whose a program is.
        let visitor = self.workers.visitor(netns).await?;
        let cleaned = visitor.run(remove_leftovers).await;
        visitor.stop();
        cleaned
    }

    /// Begins to do so, while something may be cut: nothing is attached there until it is done.
    pub(super) async fn begin_cleaning(&mut self, netns: Option<&Netns>) -> Result<(), NetnsError> {
        let visitor = self.workers.visitor(netns).await?;
        let (identity, netns) = (visitor.identity(), netns.cloned());
        // A leftover that can't be removed keeps nothing from being attached, whatever the reason.
        let cleaned =
            PendingAnswer::new(&self.sinks.news, InterfaceEvent::Cleaned { netns: netns.clone(), identity });
        visitor.spawn_awaited(move || async move {
            crate::fault::here("clean/begin");
            remove_leftovers().await;
            drop(cleaned);
        })?;
        // Behind the job: the thread's queue, and so the thread, ends with this handle.
        self.cleaning.insert(netns, visitor);
        Ok(())
    }

    /// Attaches in a namespace that has been cleaned; what happened, for the timeline.
    pub(super) fn cleaned(&mut self, netns: Option<&Netns>, identity: Identity) -> Vec<(String, String)> {
        match self.cleaning.entry(netns.cloned()) {
            Entry::Occupied(visitor) if visitor.get().identity() == identity => visitor.remove().stop(),
            // The event is of a namespace that had this name before.
            _ => return Vec::new(),
        }
        let here = |at: &usize| self.entries[*at].interface.netns.as_ref() == netns;
        let entries: Vec<usize> = (0..self.entries.len()).filter(here).collect();
        entries.into_iter().filter_map(|at| self.try_again(at)).collect()
    }

    /// Follows a namespace, if it is not followed yet.
    pub(super) async fn follow(&mut self, netns: Option<&Netns>) -> Result<(), StartError> {
        let identity = self.workers.of(netns).await?.identity();
        if self.followed.get(&netns.cloned()) != Some(&identity) {
            self.subscribe(netns)?;
            self.watch_process(netns);
            self.followed.insert(netns.cloned(), identity);
        }
        Ok(())
    }

    /// At the start: removes what dead daemons left in a namespace, and follows it. That comes before anything is attached, so that no
    /// change can fall between.
    pub(super) async fn enter_first(&mut self, netns: Option<&Netns>) -> Result<(), StartError> {
        self.clean(netns).await?;
        self.follow(netns).await
    }

    /// At the start: takes note that a namespace is gone in which `auto` has just found interfaces.
    ///
    /// # Errors
    /// `error` itself, if it says something else, or the config names an interface there.
    pub(super) fn miss_namespace(
        &mut self,
        netns: Option<&Netns>,
        error: StartError,
    ) -> Result<(), StartError> {
        let here = |entry: &&mut super::Entry| entry.interface.netns.as_ref() == netns;
        if !error.is_gone() || self.entries.iter_mut().filter(here).any(|entry| entry.chosen.is_none()) {
            return Err(error);
        }
        for entry in self.entries.iter_mut().filter(here) {
            entry.miss(&error.to_string());
        }
        // The thread would keep the namespace alive.
        self.end_thread(netns);
        self.ask_for_survey(MonoNs::now());
        Ok(())
    }

    /// Has what a dead daemon left removed from a namespace in which nothing of ours was, and follows its interfaces.
    pub(super) async fn enter(&mut self, netns: Option<&Netns>, is_first: bool) -> Result<(), StartError> {
        if is_first && netns.is_some() {
            self.begin_cleaning(netns).await?;
        }
        self.follow(netns).await
    }

    /// Follows the peers' homes: an address or a device that comes there may be a new end of their links. Whether it is to be
    /// tried again, since the supervisor was held up.
    pub(super) async fn follow_homes(&mut self) -> bool {
        let mut is_late = false;
        let homes: BTreeSet<Option<Netns>> = self.home_names.values().cloned().collect();
        for netns in homes {
            match self.follow(netns.as_ref()).await {
                Ok(()) => {}
                Err(error) if error.is_late() => is_late = true,
                Err(error) => {
                    tracing::warn!(%error, "changes in a peer's namespace will not be noticed");
                }
            }
        }
        is_late
    }

    /// Watches, under `auto`, the other namespaces that were read for addresses of peers: an address or a MAC
    /// address may move there, and a route may lead over a peer. Also watches the namespaces on the peers'
    /// ways for rules of NAT that send packets on to peers.
    pub(super) fn watch_others(&mut self, config: &Config) {
        let name = |at: usize| self.known[at].netns.clone();
        let (all, topics): (BTreeSet<Option<Netns>>, &'static [Topic]) =
            if config.interfaces == config::Interfaces::Auto {
                ((0..self.known.len()).map(name).collect(), &[Topic::Others, Topic::Chains])
            } else {
                (nat::ways(&self.known, &self.homes).into_iter().map(name).collect(), &[Topic::Chains])
            };
        self.watched.retain(|netns, _| all.contains(netns));
        for netns in all {
            let Some(identity) = self.workers.identity(netns.as_ref()) else { continue };
            let is_heard =
                self.followed.get(&netns) == Some(&identity) || self.watched.get(&netns) == Some(&identity);
            if is_heard || self.watched.len() >= MOST_WATCHED {
                continue;
            }
            match self.subscribe_to(netns.as_ref(), topics) {
                Ok(()) => drop(self.watched.insert(netns, identity)),
                Err(error) => {
                    tracing::debug!(%error, "what changes in a namespace will not be noticed");
                }
            }
        }
    }

    /// Whether a namespace is a part of what is cut: with an interface of ours, a peer's home, where probes start from or
    /// roles are asked.
    fn is_party(&self, config: &Config, netns: Option<&Netns>) -> bool {
        self.entries.iter().any(|entry| entry.interface.netns.as_ref() == netns)
            || self.home_names.values().any(|home| home.as_ref() == netns)
            || matches!(netns, Some(Netns::Container(container)) if self.containers.0.contains_key(container))
            || config.endpoints.iter().any(|endpoint| endpoint.netns.as_ref() == netns)
            || config.roles.values().any(|role| role.netns.as_ref() == netns)
    }

    /// The threads in namespaces that are a part of what is cut.
    pub fn parties(&self, config: &Config) -> impl Iterator<Item = &Worker> {
        let is_party = move |netns: &Option<Netns>| netns.is_none() || self.is_party(config, netns.as_ref());
        self.workers.all().filter(move |(netns, _)| is_party(netns)).map(|(_, worker)| worker)
    }

    /// The threads in namespaces that have rules of NAT, or may have.
    pub fn translating(&self) -> impl Iterator<Item = Worker> {
        let translates = |space: &&Namespace| *space.facts.nat != Nat::default();
        let spaces = self.known.iter().filter(translates);
        spaces.filter_map(|space| self.workers.running(space.netns.as_ref()).ok())
    }

    /// Follows the interfaces of a namespace.
    fn subscribe(&mut self, netns: Option<&Netns>) -> Result<(), StartError> {
        // A watched namespace reports the rest already.
        let is_watched = self.topics(netns).contains(&Topic::Others);
        let [links, places] =
            if is_watched { [Topic::Filters, Topic::Neighbours] } else { [Topic::Links, Topic::Places] };
        self.subscribe_to(netns, &[links, places, Topic::Chains])
    }

    /// The topics that are followed in the namespace that a name refers to.
    fn topics(&self, netns: Option<&Netns>) -> BTreeSet<Topic> {
        let subscribed = self.subscribed.get(&netns.cloned());
        let current = subscribed.filter(|(identity, _)| self.workers.identity(netns) == Some(*identity));
        current.map(|(_, topics)| topics.clone()).unwrap_or_default()
    }

    /// Subscribes to some topics in a namespace, each once.
    fn subscribe_to(&mut self, netns: Option<&Netns>, topics: &[Topic]) -> Result<(), StartError> {
        let worker = self.workers.running(netns)?;
        let mut followed = self.topics(netns);
        let new: Vec<Topic> = topics.iter().copied().filter(|topic| followed.insert(*topic)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let (netns, identity, sender) = (netns.cloned(), worker.identity(), self.sinks.news.clone());
        self.subscribed.insert(netns.clone(), (identity, followed));
        let guards: Vec<_> =
            new.iter().map(|_| self.workers.guard("what follows a network namespace")).collect();
        worker.spawn(move || async move {
            for (topic, guard) in new.into_iter().zip(guards) {
                let (netns, news) = (netns.clone(), sender.clone());
                news::follow(topic, move |at, reported| {
                    // The guard is dropped with this closure, and so with the task that calls it.
                    let _guard = &guard;
                    let event = InterfaceEvent::News { netns: netns.clone(), identity, at, news: reported };
                    news.send(event).is_ok()
                });
            }
            // Changes before the subscription are read now.
            let at = MonoNs::now();
            let _ = sender.send(InterfaceEvent::News { netns, identity, at, news: News::Overrun });
        })?;
        Ok(())
    }

    /// Follows the mounts: a named namespace is a mount, and comes and goes with it.
    pub(super) fn watch_mounts(&self) -> Result<(), StartError> {
        let file = std::fs::File::open("/proc/self/mounts").map_err(super::super::io("/proc/self/mounts"))?;
        // SAFETY: a `File` answers the same open descriptor for as long as it lives.
        let mounts = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY | Interest::ERROR) }
            .map_err(|error| super::super::io("the mounts")(error.into()))?;
        let (news, guard) = (self.sinks.news.clone(), self.workers.guard("what follows the mounts"));
        tokio::spawn(async move {
            let _guard = guard;
            loop {
                let changed = tokio::select! {
                    changed = mounts.ready(Interest::PRIORITY | Interest::ERROR) => changed,
                    () = news.closed() => return,
                };
                let Ok(mut changed) = changed else { return };
                changed.clear_ready();
                crate::fault::here("mounts/news");
                if news.send(InterfaceEvent::Mounts { at: MonoNs::now() }).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Notices the end of the process that a namespace is named by: no mount goes with it, and our thread keeps its interfaces.
    fn watch_process(&self, netns: Option<&Netns>) {
        let process = netns.and_then(Netns::process).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        // A process that has ended already is missing in what the subscription reads.
        let Some(Ok(handle)) = process.map(|process| pidfd_open(process, PidfdFlags::NONBLOCK)) else {
            return;
        };
        // SAFETY: an `OwnedFd` answers the same open descriptor for as long as it lives.
        let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
        let Ok(handle) = handle else { return };
        let (news, guard) = (self.sinks.news.clone(), self.workers.guard("what follows a process"));
        tokio::spawn(async move {
            let _guard = guard;
            tokio::select! {
                _ = handle.readable() => {}
                () = news.closed() => return,
            }
            let _ = news.send(InterfaceEvent::Names { at: MonoNs::now() });
        });
    }

    /// Finds names that refer to another namespace now, or for none.
    pub(super) async fn check_namespaces(&mut self, config: &Config, when: MonoNs, changes: &mut Changes) {
        let names: BTreeSet<Netns> = self
            .workers
            .names()
            .into_iter()
            .flatten()
            .chain(self.gone.difference(&self.ended).cloned())
            .collect();
        let mut is_late = false;
        // The names are checked at once: they may all be on a file system that does not answer.
        let mut looked = self.workers.named_now(&names).await;
        for netns in names {
            let now = match looked.remove(&netns) {
                Some(now) => now,
                None => self.workers.now(&netns).await,
            };
            changes.reported.extend(self.note_hung(&netns, now.as_ref().err(), when));
            let Ok(now) = now else {
                // Nobody can say whether the namespace is still there.
                is_late = true;
                continue;
            };
            let before = self.workers.identity(Some(&netns));
            // A namespace that was gone may have got a thread again for a probe: nobody follows its
            // interfaces yet.
            if before.is_some() && before == now && !self.gone.contains(&netns) {
                continue;
            }
            let mine: Vec<usize> = (0..self.entries.len())
                .filter(|at| self.entries[*at].interface.netns.as_ref() == Some(&netns))
                .collect();
            if before.is_some() && before != now {
                for at in &mine {
                    if self.entries[*at].attachment.is_some() {
                        changes.reported.push(self.lose(*at, when, "its network namespace is gone"));
                    }
                }
                // Only now: what was attached is detached by this thread. It would keep the old namespace alive.
                self.end_thread(Some(&netns));
                if !self.is_party(config, Some(&netns)) {
                    // The next survey finds the namespace that has the name now.
                    continue;
                }
                self.gone.insert(netns.clone());
                // A process that gets the id later is another process.
                if now.is_none() && netns.process().is_some() {
                    self.ended.insert(netns.clone());
                }
            }
            // Between `ip netns add`'s two steps the file is not yet a namespace: the mount is news again.
            if now.is_none() {
                continue;
            }
            if let Err(error) = self.follow(Some(&netns)).await {
                tracing::debug!(%error, %netns, "a namespace is not followed yet");
                is_late |= error.is_late();
                continue;
            }
            self.gone.remove(&netns);
            changes.reported.extend(self.check(Some(&netns), when));
            if self.local_spaces.contains_key(&Some(netns.clone())) && self.reborn.insert(Some(netns.clone()))
            {
                self.renew_local(config, &self.local().clone(), when);
            }
            changes.reborn.push(netns);
        }
        if is_late {
            self.check_names_later(when);
        }
    }

    /// Notes whether the file of a namespace answers; what to report, once each time that this changes.
    fn note_hung(
        &mut self,
        netns: &Netns,
        error: Option<&NetnsError>,
        when: MonoNs,
    ) -> Option<(String, String)> {
        let name = format!("network namespace {netns}");
        match error {
            Some(error @ NetnsError::Hung { .. }) => self.unseen.hung.insert(netns.clone()).then(|| {
                tracing::warn!(%error, "taken to be the one that it was");
                (name, format!("{error}; it is taken to be the one that it was"))
            }),
            Some(_) => None,
            None => self.unseen.hung.remove(netns).then(|| {
                tracing::info!(%netns, "the file of the network namespace answers again");
                self.ask_for_survey(when);
                (name, "its file answers again".to_owned())
            }),
        }
    }

    /// Has names checked again that nobody could read, once for all of them.
    pub(super) fn check_names_later(&mut self, at: MonoNs) {
        if !std::mem::replace(&mut self.unseen.is_check_due, true) {
            self.send_later(InterfaceEvent::Names { at });
        }
    }

    /// Has an event come again: the supervisor was held up, and its answer is needed.
    pub(super) fn send_later(&self, event: InterfaceEvent) {
        let news = self.sinks.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RETRY).await;
            let _ = news.send(event);
        });
    }
}

/// Removes what dead daemons left in the calling thread's namespace.
async fn remove_leftovers() {
    let links = netlink::links().await.map_err(|error| error.to_string());
    match links.and_then(|links| sweep(&links, Sweep::Remove).map_err(|error| error.to_string())) {
        Ok(leftovers) => {
            for leftover in leftovers {
                tracing::info!("{leftover}");
            }
        }
        Err(error) => tracing::warn!(error, "leftovers of earlier daemons could not be looked for"),
    }
}
