//! The interfaces that our programs are on: found, attached, lost, found again; which peers each one covers, and when
//! one did not. Owned by the daemon's task, told of changes by the threads inside the namespaces.

mod choice;
mod coverage;
mod entry;
mod follow;
mod gaps;
mod hooks;
mod look;
mod namespaces;
mod pause;
mod prepare;
mod renewal;
mod roll;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use self::coverage::Coverage;
use self::entry::Entry;
use self::gaps::{Gap, common, merged};
use self::hooks::HooksFound;
use self::prepare::Spare;
use self::survey::Namespace;
use super::StartError;
use crate::api::types::Uncovered;
use crate::clock::MonoNs;
use crate::config::{self, Config, Netns};
use crate::datapath::{DatapathError, Instance, Instances, Kernel, Names, shown};
use crate::model::{Link, PeerId};
use crate::netlink;
use crate::netlink::news::News;
use crate::netns::{Identity, NetnsError, Workers};

/// What the daemon's task is told about interfaces.
#[derive(Debug)]
pub enum InterfaceEvent {
    /// Something happened in a namespace.
    News {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and which one of that name.
        identity: Identity,
        /// When we heard of it.
        at: MonoNs,
        /// What.
        news: News,
    },
    /// Mounts changed: a name may stand for another namespace now, or for none.
    Mounts {
        /// When we heard of it.
        at: MonoNs,
    },
    /// Programs are verified, or refused.
    Prepared {
        /// The id of the interface that they are for.
        id: u32,
        /// They, or why there are none.
        instance: Result<Box<Instance>, DatapathError>,
    },
    /// The hooks of a namespace's interfaces were read.
    Hooks {
        /// The namespace, by name,
        netns: Option<Netns>,
        /// and what is on them.
        found: HooksFound,
    },
    /// It is time to look where the peers live now.
    Survey {
        /// When we heard of the first reason to.
        at: MonoNs,
    },
}

/// What is cut while interfaces change.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// When the first of the cuts began whose record is open.
    pub open_since: Option<MonoNs>,
    /// Whether a live one rolls its loss.
    pub is_rolling: bool,
}

/// What came of an event.
#[derive(Debug, Default)]
pub struct Changes {
    /// For the timeline: the interface, and what happened to it.
    pub told: Vec<(String, String)>,
    /// Namespaces that have a new thread: their probes start anew.
    pub reborn: Vec<Netns>,
}

/// All interfaces, and the threads inside their namespaces.
pub struct Interfaces {
    entries: Vec<Entry>,
    /// The id of the next one.
    next: u32,
    /// Which of them a peer's packets pass.
    coverage: Coverage,
    /// By peer: the interfaces that roll its links' loss, as the programs know them.
    bound: BTreeMap<PeerId, BTreeSet<u32>>,
    /// What names frames besides the addresses of the config.
    identity: crate::identity::Identity,
    /// What the last survey was made from.
    known: Vec<Namespace>,
    /// Whether it found nothing of some peer.
    is_one_missing: bool,
    /// The named namespaces at that time.
    listed: BTreeMap<String, Option<Identity>>,
    /// Whether a survey is on its way.
    is_due: bool,
    /// The namespaces that have yet to say what is on the hooks.
    hooks_asked: BTreeSet<Option<Netns>>,
    /// What was warned of.
    doubts: BTreeSet<String>,
    /// The threads.
    pub workers: Workers,
    /// The names of the programs that were there before ours: later ones only the supervisor's rights may tell.
    met: Names,
    /// Namespaces that had a thread and are gone.
    gone: BTreeSet<Netns>,
    news: mpsc::UnboundedSender<InterfaceEvent>,
    /// Makes the programs,
    instances: Instances,
    /// and has made some ahead.
    spare: Spare,
}

impl Interfaces {
    /// Finds the interfaces, removes what dead daemons left on them, attaches to them all, and follows them.
    ///
    /// # Errors
    /// Whatever keeps one of them from being attached: nothing stays attached then.
    pub async fn start(
        config: &Config,
        kernel: &mut Kernel,
        workers: Workers,
        met: Names,
        news: mpsc::UnboundedSender<InterfaceEvent>,
    ) -> Result<Self, StartError> {
        let mut interfaces = Self {
            entries: Vec::new(),
            next: 1,
            coverage: Coverage::default(),
            bound: BTreeMap::new(),
            identity: crate::identity::Identity::default(),
            known: Vec::new(),
            is_one_missing: false,
            listed: BTreeMap::new(),
            is_due: false,
            hooks_asked: BTreeSet::new(),
            doubts: BTreeSet::new(),
            workers,
            met,
            gone: BTreeSet::new(),
            news,
            instances: kernel.object().instances(),
            spare: Spare::None,
        };
        if let config::Interfaces::Named(named) = &config.interfaces {
            for interface in named {
                interfaces.workers.of(interface.netns.as_ref())?;
                let id = interfaces.id();
                interfaces.entries.push(Entry::new(id, interface.clone(), None));
            }
        }
        let found = interfaces.look(config).await;
        if config.interfaces == config::Interfaces::Auto {
            if let Some(what) = choice::ambiguity(config, &found) {
                return Err(StartError::Ambiguous { what });
            }
            for (interface, why) in choice::choose(config, &found, |_| false) {
                let id = interfaces.id();
                interfaces.entries.push(Entry::new(id, interface, Some(why)));
            }
            if interfaces.entries.is_empty() {
                return Err(StartError::NothingFound);
            }
            interfaces.warn(config, &found);
        }
        interfaces.cover(&found, MonoNs(0));
        interfaces.leave_unused(config);
        let mut namespaces: BTreeSet<Option<Netns>> =
            interfaces.entries.iter().map(|entry| entry.interface.netns.clone()).collect();
        if config.interfaces == config::Interfaces::Auto {
            // Peers that come later come to be known there.
            namespaces.insert(None);
        }
        for netns in namespaces {
            interfaces.clean(netns.as_ref()).await?;
            // Before anything is attached, so that no change can fall between.
            interfaces.subscribe(netns.as_ref())?;
        }
        interfaces.watch_mounts()?;
        interfaces.attach_all().await?;
        interfaces.bind(kernel, false);
        if config.interfaces == config::Interfaces::Auto {
            interfaces.prepare_spare();
        }
        Ok(interfaces)
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// What names frames besides the addresses of the config.
    pub fn identity(&self) -> &crate::identity::Identity {
        &self.identity
    }

    /// Does what an event calls for.
    pub async fn handle(
        &mut self,
        event: InterfaceEvent,
        config: &Config,
        kernel: &mut Kernel,
        cuts: Cuts,
    ) -> Changes {
        let mut changes = Changes::default();
        match event {
            InterfaceEvent::News { netns, identity, at, news } => {
                // Otherwise the last words of a namespace that is no more.
                if self.workers.identity(netns.as_ref()) == Some(identity) {
                    for entry in 0..self.entries.len() {
                        if self.entries[entry].interface.netns == netns && self.concerns(entry, &news) {
                            changes.told.extend(self.check(entry, at).await);
                        }
                    }
                    let space = self.known.iter().find(|space| space.netns == netns);
                    let last = follow::Last { known: &self.known, is_one_missing: self.is_one_missing };
                    if follow::concerns(config, &last, space, &news) {
                        self.ask_for_survey(at);
                    }
                }
            }
            InterfaceEvent::Mounts { at } => {
                self.check_namespaces(at, &mut changes).await;
                if look::listed() != self.listed {
                    self.ask_for_survey(at);
                }
            }
            InterfaceEvent::Prepared { id, instance } => {
                changes.told.extend(self.prepared(id, instance).await);
            }
            InterfaceEvent::Hooks { netns, found } => {
                changes.told.extend(self.hooks_found(&netns, found).await);
            }
            InterfaceEvent::Survey { at } => return self.survey(at, config, kernel, cuts).await,
        }
        if !changes.told.is_empty() {
            self.bind(kernel, cuts.is_rolling);
        }
        changes
    }

    fn concerns(&self, entry: usize, news: &News) -> bool {
        let entry = &self.entries[entry];
        match news {
            News::Overrun => true,
            News::Gone(index) => entry.index() == Some(*index),
            News::Link(link) => {
                let is_name = link.name == entry.interface.name;
                // Attached and still of that name: it went up or down, or the like.
                is_name != (entry.index() == Some(link.index))
            }
            News::Neighbour(..) | News::Port(..) | News::Routes(_) | News::Address(_) => false,
        }
    }

    /// Compares an interface with what the kernel says now; an event is only the reason to look.
    async fn check(&mut self, at: usize, when: MonoNs) -> Vec<(String, String)> {
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
            told.extend(self.try_again(at).await);
        }
        told
    }

    fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
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

    /// When one of a peer's ways had no hook: all interfaces on it without one. `None` if no way is known.
    fn gaps(&self, peer: PeerId) -> Option<(String, Vec<Gap>)> {
        let tracks = self.coverage.tracks(peer);
        if tracks.is_empty() {
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        let mut gaps = Vec::new();
        for track in tracks {
            let entries: Vec<&Entry> = track.interfaces.iter().filter_map(|id| self.entry(*id)).collect();
            let open = entries.iter().fold(vec![track.time], |gaps, entry| common(&gaps, &entry.gaps));
            if !open.is_empty() {
                let shown = entries.iter().map(|entry| shown(&entry.interface));
                for name in shown.collect::<Vec<_>>() {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            gaps.extend(open);
        }
        Some((names.join(", "), merged(gaps)))
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
