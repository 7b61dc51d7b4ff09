//! Programs for interfaces: verified beside the daemon's task, and attached and taken off by the namespaces' threads. The
//! task waits for none of that while something may be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use injector_core::clock::MonoNs;
use injector_core::config::{Hook, Interface, Netns, shown};

use super::entry::Entry;
use super::interface_ids::InterfaceIds;
use super::programs::{JobResult, Shared, SharedKey, Spare};
use super::{InterfaceEvent, Interfaces};
use crate::daemon::start_error::StartError;
use crate::datapath::{Attachment, DatapathError, Instance, InterfaceCount, Use, Wanted};
use crate::netlink;

/// The number of interfaces of one namespace from which on they share programs, which then look up where a
/// packet is.
const SHARED_FROM: usize = 16;
/// The number of interfaces of one namespace from which on `auto` takes clsact.
const CROWD_FROM: usize = 64;
/// How long what is under way may take at the daemon's end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Why an interface is not attached to for which there is no id.
const NO_ID: &str = "the daemon is attached to as many interfaces as its programs know; it is attached once another one is forgotten";
/// Why an interface stays off that was taken off for another config.
const NOT_IN_TIME: &str = "taken off for another config, and its network namespace did not answer in time; it is attached again as soon as it does";

impl Interfaces {
    /// Attaches to every interface; if one refuses, to none. What `auto` found and is gone by now is no refusal.
    pub(super) async fn attach_all(&mut self) -> Result<(), StartError> {
        let mut alone = Vec::new();
        let mut shared: BTreeMap<SharedKey, Hook> = BTreeMap::new();
        let crowds = self.crowds();
        for at in 0..self.entries.len() {
            let Entry { id, interface, .. } = &self.entries[at];
            if !InterfaceIds::fits(*id) {
                self.entries[at].miss(NO_ID);
                continue;
            }
            if is_shared(interface, crowds.get(&interface.netns).copied().unwrap_or_default()) {
                shared.insert(key(interface), interface.hook);
            } else {
                let (what_for, hook) = (self.alone(*id, interface), interface.hook);
                let instances = self.instances.clone();
                alone.push(async move { Ok((at, instances.make(what_for, hook).await?)) });
            }
        }
        let mut spaces = Vec::new();
        for (key, hook) in shared {
            let (space, instances) = (self.space(), self.instances.clone());
            spaces.push(async move { Ok((key, instances.make(Use::Many(space), hook).await?)) });
        }
        let made: Vec<(usize, Instance)> = try_join_all(alone).await.map_err(|error: DatapathError| error)?;
        let made_shared: Vec<(SharedKey, Instance)> =
            try_join_all(spaces).await.map_err(|error: DatapathError| error)?;
        for (at, instance) in made {
            self.entries[at].instance = Some(instance);
        }
        for (key, instance) in made_shared {
            self.shared.insert(key, Shared::Ready(instance));
        }
        for (at, error) in self.attach_now().await {
            if !self.is_gone(at).await {
                self.detach().await;
                return Err(error.into());
            }
            self.entries[at].miss(&error.to_string());
            self.ask_for_survey(MonoNs::now());
        }
        Ok(())
    }

    /// Whether an interface that `auto` has found is no longer there: it ended between the survey and now.
    async fn is_gone(&mut self, at: usize) -> bool {
        let Interface { name, netns, .. } = self.entries[at].interface.clone();
        if self.entries[at].chosen.is_none() {
            return false;
        }
        let worker = match self.workers.of(netns.as_ref()).await {
            Ok(worker) => worker,
            Err(error) => return error.is_gone(),
        };
        let found = worker.run(|| async move { netlink::find(&name).await });
        matches!(found.await, Ok(Ok(None)))
    }

    /// Attaches everywhere where programs are at hand and not attached, and waits for it; the refusals.
    async fn attach_now(&mut self) -> Vec<(usize, DatapathError)> {
        let mut groups: BTreeMap<Option<Netns>, Vec<(usize, Wanted)>> = BTreeMap::new();
        let mut refused = Vec::new();
        let crowds = self.crowds();
        for at in 0..self.entries.len() {
            let crowd = crowds.get(&self.entries[at].interface.netns).copied().unwrap_or_default();
            if let Some(wanted) = self.wanted(at, crowd) {
                groups.entry(self.entries[at].interface.netns.clone()).or_default().push((at, wanted));
            }
        }
        let mut jobs = Vec::new();
        for (netns, group) in groups {
            let worker = self.workers.of(netns.as_ref()).await;
            let (at, wanted): (Vec<usize>, Vec<Wanted>) = group.into_iter().unzip();
            match worker {
                Ok(worker) => jobs.push(async move { (at, Attachment::attach(wanted, &worker).await) }),
                Err(error) => {
                    let error = error.to_string();
                    for (at, wanted) in at.into_iter().zip(wanted) {
                        let interface = shown(&wanted.interface);
                        self.entries[at].instance = Some(wanted.instance);
                        refused.push((at, DatapathError::Attach { interface, reason: error.clone() }));
                    }
                }
            }
        }
        for (at, attached) in join_all(jobs).await {
            for (at, attached) in at.into_iter().zip(attached) {
                if let Err(error) = self.entries[at].take(attached) {
                    refused.push((at, error));
                }
            }
        }
        refused
    }

    /// The parts that attaching an interface takes, if its programs are at hand and it is not attached.
    fn wanted(&mut self, at: usize, crowd: usize) -> Option<Wanted> {
        let shared = match self.shared.get(&key(&self.entries[at].interface)) {
            Some(Shared::Ready(instance)) if is_shared(&self.entries[at].interface, crowd) => {
                Some(instance.clone())
            }
            _ => None,
        };
        let entry = &mut self.entries[at];
        if entry.attachment.is_some() || entry.is_busy || !InterfaceIds::fits(entry.id) {
            return None;
        }
        let instance = entry.instance.take().or(shared)?;
        let interface = Interface { name: entry.name().to_owned(), ..entry.interface.clone() };
        let crowd = if crowd > CROWD_FROM { InterfaceCount::Many(crowd) } else { InterfaceCount::Few };
        Some(Wanted { id: entry.id, instance, interface, crowd })
    }

    /// How many interfaces of a namespace are ours.
    fn crowd_of(&self, netns: Option<&Netns>) -> usize {
        self.entries.iter().filter(|entry| entry.interface.netns.as_ref() == netns).count()
    }

    /// How many interfaces of each namespace are ours.
    fn crowds(&self) -> BTreeMap<Option<Netns>, usize> {
        let mut crowds = BTreeMap::new();
        for entry in &self.entries {
            *crowds.entry(entry.interface.netns.clone()).or_default() += 1;
        }
        crowds
    }

    /// Begins to attach what is not, if its programs are verified; else to have them verified. What comes of it lands.
    pub(super) fn try_again(&mut self, at: usize) -> Option<(String, String)> {
        if self.entries[at].is_busy {
            self.entries[at].look_again.get_or_insert_with(MonoNs::now);
            return None;
        }
        if !InterfaceIds::fits(self.entries[at].id) {
            match std::mem::replace(&mut self.spare, Spare::None) {
                Spare::Ready(id, instance) => {
                    (self.entries[at].id, self.entries[at].instance) = (id, Some(instance));
                }
                other => {
                    self.spare = other;
                    let Some(id) = self.ids.take_fitting() else { return self.entries[at].stay_off(NO_ID) };
                    self.entries[at].id = id;
                }
            }
            // What was surveyed so far knows it by the other id.
            self.ask_for_survey(MonoNs::now());
        }
        // The interface is tried again once its namespace is cleaned.
        if self.cleaning.contains_key(&self.entries[at].interface.netns) {
            return None;
        }
        let crowd = self.crowd_of(self.entries[at].interface.netns.as_ref());
        let Some(wanted) = self.wanted(at, crowd) else {
            self.have_verified(at);
            return None;
        };
        let entry = &mut self.entries[at];
        match self.workers.running(entry.interface.netns.as_ref()) {
            Ok(worker) => {
                entry.is_busy = true;
                let (id, landed, news) = (entry.id, self.landed.clone(), self.sinks.news.clone());
                let guard = self.workers.guard("what attaches to interfaces");
                self.attaching.spawn(async move {
                    let _guard = guard;
                    for attached in Attachment::attach(vec![wanted], &worker).await {
                        landed.push(id, JobResult::Attached(Box::new(attached)));
                    }
                    let _ = news.send(InterfaceEvent::JobDone);
                });
                None
            }
            Err(error) => {
                entry.instance = Some(wanted.instance);
                entry.refuse(&error.into())
            }
        }
    }

    /// Has programs verified for an interface that has none.
    fn have_verified(&mut self, at: usize) {
        let crowd = self.crowd_of(self.entries[at].interface.netns.as_ref());
        let entry = &mut self.entries[at];
        if entry.attachment.is_some() || std::mem::replace(&mut entry.is_preparing, true) {
            return;
        }
        let (id, key) = (entry.id, key(&entry.interface));
        let interface = entry.interface.clone();
        let hook = interface.hook;
        if !is_shared(&interface, crowd) {
            return self.prepare(id, self.alone(id, &interface), hook);
        }
        if self.shared.contains_key(&key) {
            return;
        }
        self.shared.insert(key.clone(), Shared::Awaited);
        let (space, news) = (self.space(), self.sinks.news.clone());
        let made = self.instances.clone().make(Use::Many(space), hook);
        tokio::spawn(async move {
            let instance = made.await;
            let _ = news.send(InterfaceEvent::Shared { key, instance });
        });
    }

    /// Takes in programs that interfaces share, and attaches them to those that wait for them.
    pub(super) fn shared(
        &mut self,
        key: SharedKey,
        instance: Result<Instance, DatapathError>,
    ) -> Vec<(String, String)> {
        let waits = |entry: &Entry| entry.is_preparing && self::key(&entry.interface) == key;
        let waiting: Vec<usize> = (0..self.entries.len()).filter(|at| waits(&self.entries[*at])).collect();
        let error = match instance {
            Ok(instance) => {
                self.shared.insert(key, Shared::Ready(instance));
                None
            }
            Err(error) => {
                self.shared.remove(&key);
                Some(error)
            }
        };
        let mut reported = Vec::new();
        for at in waiting {
            self.entries[at].is_preparing = false;
            reported.extend(match &error {
                None => self.try_again(at),
                Some(error) => self.entries[at].refuse(error),
            });
        }
        reported
    }

    /// Begins to take our programs off an interface that is lost; what happened, for the timeline.
    pub(super) fn lose(&mut self, at: usize, since: MonoNs, why: &str) -> (String, String) {
        let entry = &mut self.entries[at];
        let (attachment, reported) = entry.lose(since, why);
        if let Some(attachment) = attachment {
            entry.is_busy = true;
            let (id, landed, news) = (entry.id, self.landed.clone(), self.sinks.news.clone());
            attachment.release_to(move |instance| {
                landed.push(id, JobResult::Released(instance));
                let _ = news.send(InterfaceEvent::JobDone);
            });
        }
        reported
    }

    /// Takes in what the namespaces' threads have done.
    pub(super) fn land(&mut self) -> Vec<(String, String)> {
        let mut reported = Vec::new();
        while self.attaching.try_join_next().is_some() {}
        let mut again: BTreeMap<Option<Netns>, MonoNs> = BTreeMap::new();
        let mut late = BTreeSet::new();
        for (id, landing) in self.landed.take() {
            // The attachment of an interface that was forgotten meanwhile is detached when it is dropped.
            let Some(at) = self.entries.iter().position(|entry| entry.id == id) else { continue };
            let entry = &mut self.entries[at];
            entry.is_busy = false;
            let look_again = entry.look_again.take();
            let look_again = match landing {
                JobResult::Attached(attached) => {
                    let name = shown(&entry.interface);
                    match entry.take(*attached) {
                        Ok(()) => reported.extend(entry.attachment.as_ref().map(|attachment| {
                            let (hooks, index) = (attachment.hooks, attachment.facts.index);
                            (name, format!("attached: {hooks} (index {index})"))
                        })),
                        Err(error) => {
                            reported.extend(entry.refuse(&error));
                            // The interface's thread did not answer, and drops what it attaches later.
                            if entry.instance.is_none() {
                                late.insert(entry.interface.netns.clone());
                            }
                        }
                    }
                    look_again
                }
                JobResult::Released(instance) => {
                    crate::fault::here("lose/released");
                    entry.instance = instance;
                    Some(look_again.unwrap_or_else(MonoNs::now))
                }
            };
            if let Some(when) = look_again {
                again.entry(entry.interface.netns.clone()).or_insert(when);
            }
        }
        for (netns, when) in again {
            reported.extend(self.check(netns.as_ref(), when));
        }
        for netns in late {
            self.check_again(netns.as_ref(), MonoNs::now());
        }
        reported
    }

    /// Waits for what is under way, within bounds, and takes it in.
    async fn wait_attached(&mut self) {
        let under_way = async { while self.attaching.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, under_way).await.is_err() {
            tracing::warn!("interfaces are still being attached");
        }
        for (id, landing) in self.landed.take() {
            let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { continue };
            entry.is_busy = false;
            match landing {
                JobResult::Attached(attached) => drop(entry.take(*attached)),
                JobResult::Released(instance) => entry.instance = instance,
            }
        }
    }

    /// Takes our programs off every interface, and waits for it.
    pub(super) async fn release_all(&mut self) {
        self.wait_attached().await;
        let mut at = Vec::new();
        let mut attachments = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if let Some(attachment) = entry.attachment.take() {
                at.push(index);
                attachments.push(attachment);
            }
        }
        let instances = Attachment::release(attachments).await;
        for (at, instance) in at.into_iter().zip(instances) {
            self.entries[at].instance = instance;
        }
        // The same threads take off what was lost or forgotten before, and nobody waits for that.
        self.workers.caught_up().await;
    }

    /// Attaches everywhere again where it can be; what came of it, for the timeline. Where it can't be, as where the namespace's
    /// thread is held up, it is tried again once that thread is free.
    pub(super) async fn attach_again(&mut self) -> Vec<(String, String)> {
        let refused: BTreeMap<usize, DatapathError> = self.attach_now().await.into_iter().collect();
        let mut reported = Vec::new();
        let mut off = BTreeSet::new();
        for (at, entry) in self.entries.iter_mut().enumerate() {
            if let Some(attachment) = &entry.attachment {
                let (hooks, index) = (attachment.hooks, attachment.facts.index);
                reported.push((shown(&entry.interface), format!("attached: {hooks} (index {index})")));
            } else if let Some(error) = refused.get(&at) {
                reported.extend(entry.refuse(error));
                off.insert(entry.interface.netns.clone());
            } else if !entry.is_busy && !entry.is_preparing && InterfaceIds::fits(entry.id) {
                reported.extend(entry.stay_off(NOT_IN_TIME));
                off.insert(entry.interface.netns.clone());
            }
        }
        for netns in off {
            self.check_again(netns.as_ref(), MonoNs::now());
        }
        reported
    }

    /// The interfaces that our programs are not on.
    pub fn off(&self) -> Vec<String> {
        let off = self.entries.iter().filter(|entry| entry.attachment.is_none());
        off.map(|entry| shown(&entry.interface)).collect()
    }

    /// Takes programs in, and attaches them.
    pub(super) fn prepared(
        &mut self,
        id: u32,
        instance: Result<Instance, DatapathError>,
    ) -> Option<(String, String)> {
        if matches!(self.spare, Spare::Awaited(awaited) if awaited == id) {
            self.spare = match instance {
                Ok(instance) => Spare::Ready(id, instance),
                Err(error) => {
                    tracing::warn!(%error, "no programs are kept ready for new interfaces");
                    self.ids.give_back(id);
                    Spare::None
                }
            };
            let is_without_id = |entry: &Entry| !InterfaceIds::fits(entry.id);
            let waiting = self.entries.iter().position(is_without_id)?;
            return self.try_again(waiting);
        }
        // An interface that is forgotten meanwhile needs none.
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        let entry = &mut self.entries[at];
        entry.is_preparing = false;
        match instance {
            Ok(instance) => {
                entry.instance = Some(instance);
                if entry.attachment.is_some() { None } else { self.try_again(at) }
            }
            Err(error) => entry.refuse(&error),
        }
    }

    /// An interface that was found later, with the programs that were kept ready.
    pub(super) fn found_later(&mut self, interface: Interface, why: String) -> Entry {
        match std::mem::replace(&mut self.spare, Spare::None) {
            Spare::Ready(id, instance) => {
                self.prepare_spare();
                Entry { instance: Some(instance), ..Entry::found_later(id, interface, Some(why)) }
            }
            other => {
                self.spare = other;
                let id = self.ids.take();
                Entry::found_later(id, interface, Some(why))
            }
        }
    }

    /// Has programs made ahead.
    pub(super) fn prepare_spare(&mut self) {
        // Where no id is free, an interface that comes has none either.
        let Some(id) = self.ids.take_fitting() else { return };
        self.spare = Spare::Awaited(id);
        self.prepare(id, Use::One(id), Hook::Auto);
    }

    fn prepare(&self, id: u32, what_for: Use, hook: Hook) {
        let (made, news) = (self.instances.clone().make(what_for, hook), self.sinks.news.clone());
        tokio::spawn(async move {
            let instance = made.await;
            let _ = news.send(InterfaceEvent::Prepared { id, instance });
        });
    }

    /// The use of programs that an interface does not share.
    fn alone(&self, id: u32, interface: &Interface) -> Use {
        let space = self.local_spaces.get(&interface.netns).filter(|_| interface.hook == Hook::Local);
        space.map_or(Use::One(id), |space| Use::Loopback(id, *space))
    }

    /// A number for a namespace whose interfaces share programs.
    fn space(&mut self) -> u32 {
        self.spaces += 1;
        self.spaces
    }
}

/// Whether an interface shares its programs, where so many interfaces of its namespace are attached to.
fn is_shared(interface: &Interface, crowd: usize) -> bool {
    crowd > SHARED_FROM && interface.hook != Hook::Local
}

fn key(interface: &Interface) -> SharedKey {
    (interface.netns.clone(), interface.hook == Hook::Xdp)
}
