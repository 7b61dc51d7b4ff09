//! The interfaces that our programs are on: found, attached, lost, found again; which peers each one covers, and when
//! one did not. Owned by the daemon's task, told of changes by the threads inside the namespaces.

mod gaps;
mod look;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use futures_util::future::join_all;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use self::gaps::{Gap, common};
use self::survey::{Place, places};
use super::StartError;
use crate::api::types::{AttachmentView, Uncovered};
use crate::clock::MonoNs;
use crate::config::{self, Config, Hook, Interface, Netns};
use crate::datapath::{
    Attachment, DatapathError, Foreign, Kernel, Names, Refused, Sweep, ids, names, shown, sweep,
};
use crate::model::{Link, PeerId};
use crate::netlink::{self, LinkNews};
use crate::netns::{Identity, NetnsError, Workers};

/// How many gaps of an interface are remembered.
const GAPS: usize = 1024;

/// What the daemon's task is told about interfaces.
#[derive(Debug)]
pub enum InterfaceEvent {
    /// Something happened to an interface of a namespace.
    Link {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and which one of that name.
        identity: Identity,
        /// When we heard of it.
        at: MonoNs,
        /// What.
        news: LinkNews,
    },
    /// Mounts changed: a name may stand for another namespace now, or for none.
    Mounts {
        /// When we heard of it.
        at: MonoNs,
    },
}

/// What came of an event.
#[derive(Debug, Default)]
pub struct Changes {
    /// For the timeline: the interface, and what happened to it.
    pub told: Vec<(String, String)>,
    /// Namespaces that have a new thread: their probes start anew.
    pub reborn: Vec<Netns>,
}

/// One interface.
struct Entry {
    /// Its id in the programs.
    id: u32,
    interface: Interface,
    /// How `auto` came to it.
    chosen: Option<String>,
    attachment: Option<Attachment>,
    /// The loaded programs while they are on no interface: verified once, attached again at once.
    instance: Option<Ebpf>,
    /// Why it is not attached.
    missing: String,
    gaps: Vec<Gap>,
}

impl Entry {
    fn new(id: u32, interface: Interface, chosen: Option<String>) -> Self {
        let missing = "not attached yet".to_owned();
        Self { id, interface, chosen, attachment: None, instance: None, missing, gaps: Vec::new() }
    }

    fn index(&self) -> Option<u32> {
        self.attachment.as_ref().map(|attachment| attachment.facts.index)
    }

    /// Tries to attach.
    async fn attach(&mut self, kernel: &Kernel, workers: &mut Workers) -> Result<(), DatapathError> {
        let worker = workers.of(self.interface.netns.as_ref())?;
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => kernel.object().instance(self.id)?,
        };
        match Attachment::attach(instance, &self.interface, &worker).await {
            Ok(attachment) => {
                let now = MonoNs::now();
                if let Some(gap) = self.gaps.last_mut().filter(|gap| gap.until.is_none()) {
                    gap.until = Some(now);
                }
                tracing::info!(
                    interface = shown(&self.interface),
                    index = attachment.facts.index,
                    hook = %attachment.hooks,
                    why = attachment.why(&Names::new()),
                    "attached"
                );
                self.attachment = Some(attachment);
                Ok(())
            }
            Err(Refused { ebpf, error }) => {
                self.instance = ebpf;
                Err(error)
            }
        }
    }

    /// Takes note that the hook is gone since an instant.
    async fn lose(&mut self, since: MonoNs, why: &str) -> (String, String) {
        if let Some(attachment) = self.attachment.take() {
            self.instance = attachment.release().await;
            if self.gaps.len() == GAPS {
                self.gaps.remove(0);
            }
            self.gaps.push(Gap { from: since, until: None });
        }
        self.missing = format!("{why}; it is attached again as soon as it is there");
        tracing::warn!(interface = shown(&self.interface), why, "lost");
        (shown(&self.interface), format!("lost: {why}"))
    }
}

/// All interfaces, and the threads inside their namespaces.
pub struct Interfaces {
    entries: Vec<Entry>,
    /// By peer: the entries that its packets pass, nearest first.
    coverage: BTreeMap<PeerId, Vec<usize>>,
    /// The threads.
    pub workers: Workers,
    /// Namespaces that had a thread and are gone.
    gone: BTreeSet<Netns>,
    news: mpsc::UnboundedSender<InterfaceEvent>,
}

impl Interfaces {
    /// Finds the interfaces, removes what dead daemons left on them, attaches to them all, and follows them.
    ///
    /// # Errors
    /// Whatever keeps one of them from being attached: nothing stays attached then.
    pub async fn start(
        config: &Config,
        kernel: &mut Kernel,
        mut workers: Workers,
        news: mpsc::UnboundedSender<InterfaceEvent>,
    ) -> Result<Self, StartError> {
        let (entries, found) = match &config.interfaces {
            config::Interfaces::Named(interfaces) => {
                let entries = (1..)
                    .zip(interfaces)
                    .map(|(id, interface)| Entry::new(id, interface.clone(), None))
                    .collect::<Vec<_>>();
                let named: Vec<Option<Netns>> =
                    interfaces.iter().map(|interface| interface.netns.clone()).collect();
                for netns in &named {
                    workers.of(netns.as_ref())?;
                }
                let mut found = places(config, &look::into(&mut workers, named).await);
                if found.values().any(Vec::is_empty) {
                    // Other namespaces may know how a peer's address comes to one of these interfaces.
                    found = places(config, &look::everywhere(&mut workers, config).await);
                }
                (entries, found)
            }
            config::Interfaces::Auto => {
                let found = places(config, &look::everywhere(&mut workers, config).await);
                (choose(config, &found)?, found)
            }
        };
        let coverage = coverage(&entries, &found);
        let mut interfaces = Self { entries, coverage, workers, gone: BTreeSet::new(), news };
        interfaces.leave_unused(config);
        let namespaces: BTreeSet<Option<Netns>> =
            interfaces.entries.iter().map(|entry| entry.interface.netns.clone()).collect();
        for netns in namespaces {
            interfaces.clean(netns.as_ref()).await?;
            // Before anything is attached, so that no change can fall between.
            interfaces.subscribe(netns.as_ref())?;
        }
        interfaces.watch_mounts()?;
        for at in 0..interfaces.entries.len() {
            let attached = interfaces.entries[at].attach(kernel, &mut interfaces.workers).await;
            if let Err(error) = attached {
                interfaces.detach().await;
                return Err(error.into());
            }
        }
        interfaces.bind(kernel);
        Ok(interfaces)
    }

    /// Stops the threads that were only needed to look around: a thread keeps its namespace alive.
    fn leave_unused(&mut self, config: &Config) {
        for netns in self.workers.names() {
            let is_used = self.entries.iter().any(|entry| entry.interface.netns == netns)
                || config.endpoints.iter().any(|endpoint| endpoint.netns == netns);
            if !is_used {
                self.workers.stop(netns.as_ref());
            }
        }
    }

    /// Removes what dead daemons left in a namespace.
    async fn clean(&mut self, netns: Option<&Netns>) -> Result<(), NetnsError> {
        // Whose a program is, only the supervisor's rights tell.
        let visitor = self.workers.visitor(netns)?;
        let cleaned = visitor.run(|| async {
            let handle = netlink::connect().map_err(|error| error.to_string())?;
            let links = netlink::links(&handle).await.map_err(|error| error.to_string())?;
            sweep(&links, Sweep::Remove).map_err(|error| error.to_string())
        });
        let cleaned = cleaned.await;
        visitor.stop();
        match cleaned? {
            Ok(leftovers) => {
                for leftover in leftovers {
                    tracing::info!("{leftover}");
                }
            }
            Err(error) => tracing::warn!(error, "leftovers of earlier daemons could not be looked for"),
        }
        Ok(())
    }

    /// Follows the interfaces of a namespace.
    fn subscribe(&mut self, netns: Option<&Netns>) -> Result<(), StartError> {
        let worker = self.workers.of(netns)?;
        let (netns, identity, news) = (netns.cloned(), worker.identity(), self.news.clone());
        worker.spawn(move || async move {
            let tell = {
                let (netns, news) = (netns.clone(), news.clone());
                move |link| {
                    let at = MonoNs::now();
                    news.send(InterfaceEvent::Link { netns: netns.clone(), identity, at, news: link }).is_ok()
                }
            };
            if let Err(error) = netlink::subscribe(tell) {
                tracing::error!(%error, "interfaces that come back will not be noticed");
            }
            // What happened before the subscription is looked at now.
            let at = MonoNs::now();
            let _ = news.send(InterfaceEvent::Link { netns, identity, at, news: LinkNews::Overrun });
        })?;
        Ok(())
    }

    /// Follows the mounts: a named namespace is a mount, and comes and goes with it.
    fn watch_mounts(&self) -> Result<(), StartError> {
        let file = std::fs::File::open("/proc/self/mounts").map_err(super::io("/proc/self/mounts"))?;
        // SAFETY: a `File` answers the same open descriptor for as long as it lives.
        let mounts = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY | Interest::ERROR) }
            .map_err(|error| super::io("the mounts")(error.into()))?;
        let news = self.news.clone();
        tokio::spawn(async move {
            while let Ok(mut changed) = mounts.ready(Interest::PRIORITY | Interest::ERROR).await {
                changed.clear_ready();
                if news.send(InterfaceEvent::Mounts { at: MonoNs::now() }).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Does what an event calls for.
    pub async fn handle(&mut self, event: InterfaceEvent, kernel: &mut Kernel) -> Changes {
        let mut changes = Changes::default();
        match event {
            InterfaceEvent::Link { netns, identity, at, news } => {
                // Otherwise the last words of a namespace that is no more.
                if self.workers.identity(netns.as_ref()) == Some(identity) {
                    for entry in 0..self.entries.len() {
                        if self.entries[entry].interface.netns == netns && self.concerns(entry, &news) {
                            changes.told.extend(self.check(entry, at, kernel).await);
                        }
                    }
                }
            }
            InterfaceEvent::Mounts { at } => self.check_namespaces(at, kernel, &mut changes).await,
        }
        if !changes.told.is_empty() {
            self.bind(kernel);
        }
        changes
    }

    fn concerns(&self, entry: usize, news: &LinkNews) -> bool {
        let entry = &self.entries[entry];
        match news {
            LinkNews::Overrun => true,
            LinkNews::Gone(index) => entry.index() == Some(*index),
            LinkNews::Link(link) => {
                let is_name = link.name == entry.interface.name;
                // Attached and still of that name: it went up or down, or the like.
                is_name != (entry.index() == Some(link.index))
            }
        }
    }

    /// Compares an interface with what the kernel says now; an event is only the reason to look.
    async fn check(&mut self, at: usize, when: MonoNs, kernel: &Kernel) -> Vec<(String, String)> {
        let entry = &mut self.entries[at];
        let mut told = Vec::new();
        let name = entry.interface.name.clone();
        let found = match self.workers.of(entry.interface.netns.as_ref()) {
            Ok(worker) => {
                let found = worker.ask(move || async move {
                    let handle = netlink::connect().ok()?;
                    netlink::find(&handle, &name).await.ok()?
                });
                match found.await {
                    Ok(found) => found,
                    Err(error @ NetnsError::Late { .. }) => {
                        tracing::warn!(interface = shown(&entry.interface), %error, "looked at when it answers");
                        let (news, netns) = (self.news.clone(), entry.interface.netns.clone());
                        let identity = worker.identity();
                        // The thread tells when it comes to it.
                        let _ = worker.spawn(move || async move {
                            let news_of =
                                InterfaceEvent::Link { netns, identity, at: when, news: LinkNews::Overrun };
                            let _ = news.send(news_of);
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
                Some(found) if found.index == index => return told,
                Some(found) => {
                    let why =
                        format!("another interface has its name now (index {}, was {index})", found.index);
                    told.push(entry.lose(when, &why).await);
                }
                None => told.push(entry.lose(when, "there is no interface of this name any more").await),
            }
        }
        if found.is_some() {
            told.extend(self.try_again(at, kernel).await);
        }
        told
    }

    async fn try_again(&mut self, at: usize, kernel: &Kernel) -> Option<(String, String)> {
        let entry = &mut self.entries[at];
        let name = shown(&entry.interface);
        match entry.attach(kernel, &mut self.workers).await {
            Ok(()) => {
                let attachment = entry.attachment.as_ref()?;
                Some((name, format!("attached: {} (index {})", attachment.hooks, attachment.facts.index)))
            }
            Err(error) => {
                let missing = error.to_string();
                // Told once; it is tried anew at the next notification.
                let is_new = missing != entry.missing;
                entry.missing.clone_from(&missing);
                if is_new {
                    tracing::warn!(interface = name, error = missing, "not attached");
                }
                is_new.then(|| (name, format!("not attached: {missing}")))
            }
        }
    }

    /// Finds names that stand for another namespace now, or for none.
    async fn check_namespaces(&mut self, when: MonoNs, kernel: &Kernel, changes: &mut Changes) {
        let names: BTreeSet<Netns> =
            self.workers.names().into_iter().flatten().chain(self.gone.iter().cloned()).collect();
        for netns in names {
            let now = self.workers.now(&netns);
            let before = self.workers.identity(Some(&netns));
            // One that was gone may have got a thread again for a probe: nobody follows its interfaces yet.
            if before.is_some() && before == now && !self.gone.contains(&netns) {
                continue;
            }
            let mine: Vec<usize> = (0..self.entries.len())
                .filter(|at| self.entries[*at].interface.netns.as_ref() == Some(&netns))
                .collect();
            if before.is_some() && before != now {
                for at in &mine {
                    if self.entries[*at].attachment.is_some() {
                        changes
                            .told
                            .push(self.entries[*at].lose(when, "its network namespace is gone").await);
                    }
                }
                // Only now: what was attached is detached by this thread. It would keep the old namespace alive.
                self.workers.stop(Some(&netns));
                self.gone.insert(netns.clone());
            }
            // Between `ip netns add`'s two steps the file is not yet a namespace: the mount is news again.
            if now.is_none() || self.subscribe(Some(&netns)).is_err() {
                continue;
            }
            self.gone.remove(&netns);
            changes.reborn.push(netns);
            for at in mine {
                let told = self.check(at, when, kernel).await;
                changes.told.extend(told);
            }
        }
    }

    /// Says for each peer which interface rolls its links' loss: the nearest that is attached.
    fn bind(&self, kernel: &mut Kernel) {
        for (peer, entries) in &self.coverage {
            let nearest = entries.iter().find(|at| self.entries[**at].attachment.is_some());
            kernel.bind_roll(*peer, nearest.map_or(0, |at| self.entries[*at].id));
        }
    }

    /// Whether no interface is known that a link's loss is rolled at: several hooks on its way would each roll.
    pub fn is_unbound(&self, link: Link) -> bool {
        let is_bound = |peer: PeerId| self.coverage.get(&peer).is_some_and(|entries| !entries.is_empty());
        !is_bound(link.src) && !is_bound(link.dst)
    }

    /// When neither end of a link had a hook of ours, from an instant on.
    pub fn uncovered(&self, link: Link, from: MonoNs) -> Vec<Uncovered> {
        match (self.gaps(link.src), self.gaps(link.dst)) {
            (None, None) => Vec::new(),
            (Some((names, gaps)), None) | (None, Some((names, gaps))) => told(&names, gaps, from),
            (Some((a, src)), Some((b, dst))) => {
                let names = if a == b { a } else { format!("{a}, {b}") };
                told(&names, common(&src, &dst), from)
            }
        }
    }

    /// When a peer's end had no hook: all of its interfaces without one. `None` if no interface is known to be its.
    fn gaps(&self, peer: PeerId) -> Option<(String, Vec<Gap>)> {
        let entries = self.coverage.get(&peer).filter(|entries| !entries.is_empty())?;
        let names: Vec<String> = entries.iter().map(|at| shown(&self.entries[*at].interface)).collect();
        let gaps = entries.iter().fold(vec![Gap::ALWAYS], |gaps, at| common(&gaps, &self.entries[*at].gaps));
        Some((names.join(", "), gaps))
    }

    /// Who else is on the hooks, by entry: all namespaces are asked at once.
    async fn others(&self) -> (Vec<Option<Result<Vec<Foreign>, DatapathError>>>, Names) {
        let asked = self.entries.iter().map(async |entry| match &entry.attachment {
            Some(attachment) => Some(attachment.others().await),
            None => None,
        });
        let found = join_all(asked).await;
        let mut wanted = ids(found.iter().flatten().flatten().flatten());
        wanted.extend(self.entries.iter().filter_map(|entry| entry.attachment.as_ref()?.xdp_holder));
        let names = match self.workers.privileged() {
            Some(supervisor) if !wanted.is_empty() => supervisor.ask(move || names(&wanted)).await,
            _ => None,
        };
        (found, names.unwrap_or_default())
    }

    /// What runs before our programs, or may do so unseen, in words.
    pub async fn ahead(&self) -> Vec<String> {
        let (found, names) = self.others().await;
        let mut warnings = Vec::new();
        for (entry, found) in self.entries.iter().zip(found) {
            match found {
                None => {}
                Some(Ok(foreign)) => {
                    warnings.extend(foreign.iter().filter(|foreign| foreign.is_ahead).map(|foreign| {
                        let (interface, program) = (shown(&entry.interface), foreign.shown(&names));
                        format!("{interface}: {program} runs before our program and can bypass it")
                    }));
                }
                Some(Err(error)) => warnings.push(format!(
                    "{error}; a program that runs before ours on {} would bypass it",
                    shown(&entry.interface)
                )),
            }
        }
        warnings
    }

    /// What `status` shows.
    pub async fn views(&self) -> Vec<AttachmentView> {
        let (found, names) = self.others().await;
        let mut views = Vec::new();
        for (entry, found) in self.entries.iter().zip(found) {
            let mut why = entry.chosen.iter().cloned().collect::<Vec<_>>();
            let mut programs = Vec::new();
            match &entry.attachment {
                None => why.push(entry.missing.clone()),
                Some(attachment) => {
                    why.push(attachment.why(&names));
                }
            }
            match found {
                None => {}
                Some(Ok(foreign)) => {
                    let ahead = foreign.iter().filter(|foreign| foreign.is_ahead);
                    let ahead: Vec<String> = ahead.map(|foreign| foreign.shown(&names)).collect();
                    if !ahead.is_empty() {
                        why.push(format!("{} runs before us", ahead.join(", ")));
                    }
                    programs = foreign.iter().map(|foreign| foreign.shown(&names)).collect();
                }
                Some(Err(error)) => why.push(error.to_string()),
            }
            views.push(AttachmentView {
                interface: entry.interface.name.clone(),
                netns: entry.interface.netns.as_ref().map(ToString::to_string),
                hook: entry.attachment.as_ref().map(|attachment| attachment.hooks.to_string()),
                why: why.join("; "),
                others: programs,
            });
        }
        views
    }

    /// How many are attached.
    pub fn attached(&self) -> usize {
        self.entries.iter().filter(|entry| entry.attachment.is_some()).count()
    }

    /// Detaches everywhere, in the reverse order.
    pub async fn detach(&mut self) {
        for entry in self.entries.iter_mut().rev() {
            if let Some(attachment) = entry.attachment.take() {
                attachment.detach().await;
            }
        }
    }
}

fn told(names: &str, gaps: Vec<Gap>, from: MonoNs) -> Vec<Uncovered> {
    gaps.into_iter()
        .filter(|gap| gap.until.is_none_or(|until| until > from))
        .map(|gap| Uncovered { interface: names.to_owned(), from_ns: gap.from, until_ns: gap.until })
        .collect()
}

/// The nearest place of each peer, each interface once.
fn choose(config: &Config, found: &BTreeMap<PeerId, Vec<Place>>) -> Result<Vec<Entry>, StartError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (peer, places) in found {
        let peer = config.names.name(*peer);
        let Some(place) = places.first() else {
            tracing::warn!(
                peer,
                "interfaces: auto found no interface of this peer's; its links are cut at others' ends"
            );
            continue;
        };
        let interface = Interface { name: place.name.clone(), netns: place.netns.clone(), hook: Hook::Auto };
        let why = format!("found for {peer}: {}", place.why);
        match entries.iter_mut().find(|entry| entry.interface == interface) {
            Some(entry) => {
                let chosen = entry.chosen.get_or_insert_default();
                chosen.push_str("; ");
                chosen.push_str(&why);
            }
            None => entries.push(Entry::new(entries.len() as u32 + 1, interface, Some(why))),
        }
    }
    if entries.is_empty() { Err(StartError::NothingFound) } else { Ok(entries) }
}

/// By peer, the entries that are among its places, nearest first.
fn coverage(entries: &[Entry], found: &BTreeMap<PeerId, Vec<Place>>) -> BTreeMap<PeerId, Vec<usize>> {
    let entry = |place: &Place| {
        entries
            .iter()
            .position(|entry| entry.interface.name == place.name && entry.interface.netns == place.netns)
    };
    found.iter().map(|(peer, places)| (*peer, places.iter().filter_map(entry).collect())).collect()
}
