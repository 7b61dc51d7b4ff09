//! Asking namespaces what they know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::discovery::homes::Home;
use crate::discovery::places::{Found, Namespace};
use crate::netlink::facts::Facts;
use crate::netlink::{self, nat, nsid};
use crate::netns::{Identity, Listed, NetnsError, Workers};
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Interfaces, Netns};
use injector_core::model::PeerId;

/// How long a namespace may take over the first question: at a start everything depends on the answer, and nobody has cut anything
/// yet. A reload, which begins anew too, has twice as long in all.
const FIRST: Duration = Duration::from_secs(5);

/// The result of the reading before this one: a namespace whose thread is late is taken to be as it was.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The namespaces,
    pub known: &'a [Namespace],
    /// and which they were.
    pub answered: &'a Answered,
}

/// The namespaces that have answered, by name, and the others that each of them has ids for.
pub type Answered = BTreeMap<Option<Netns>, (Identity, BTreeMap<i32, Identity>)>;

/// The result of one reading.
pub struct ReadNamespaces {
    /// The namespaces, each with the names of those that it has ids for.
    pub known: Vec<Namespace>,
    /// The identities of those that have answered.
    pub answered: Answered,
    /// Namespaces that did not answer. They are taken to be as they were, or are left out if nobody knows how that was.
    pub unanswered: Unanswered,
}

/// Namespaces that did not answer.
pub type Unanswered = BTreeMap<Option<Netns>, Silent>;

/// Why a namespace was not read.
struct Unread {
    why: String,
    /// Whether it did not answer in time, and may do so another time.
    is_late: bool,
}

impl Unread {
    fn other(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), is_late: false }
    }
}

impl From<NetnsError> for Unread {
    fn from(error: NetnsError) -> Self {
        Self { why: error.to_string(), is_late: error.is_late() }
    }
}

/// The part that did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// The namespace's thread, or the supervisor.
    Thread,
    /// The file system that holds its path.
    File,
}

/// The result of a survey.
pub struct Surveyed {
    /// The instant before anything of it was read.
    pub(super) read_at: MonoNs,
    pub(super) listed: Listed,
    pub(super) read: ReadNamespaces,
    pub(super) homes: BTreeMap<PeerId, Home>,
    pub(super) found: BTreeMap<PeerId, Found>,
    /// The threads, with those that were started for the survey.
    pub(super) workers: Workers,
}

impl fmt::Debug for Surveyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surveyed").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Before<'_> {
    fn of(&self, netns: Option<&Netns>, identity: Identity) -> Option<(Namespace, BTreeMap<i32, Identity>)> {
        let (_, ids) = self.answered.get(&netns.cloned()).filter(|(known, _)| *known == identity)?;
        let space = self.known.iter().find(|space| space.netns.as_ref() == netns)?;
        Some((space.clone(), ids.clone()))
    }

    /// The namespace that had a name.
    fn identity(&self, netns: Option<&Netns>) -> Option<Identity> {
        self.answered.get(&netns.cloned()).map(|(identity, _)| *identity)
    }
}

/// A reading of many namespaces, each once, by whichever of its names comes first.
pub struct FactsReading<'a> {
    workers: &'a mut Workers,
    before: Option<Before<'a>>,
    /// Whether a thread may be started in a namespace that has none.
    may_enter: bool,
    seen: BTreeSet<Identity>,
    /// A name and an open file of each namespace, by its identity.
    files: BTreeMap<Identity, (Option<Netns>, Arc<OwnedFd>)>,
    found: Vec<Namespace>,
    /// The identities of the namespaces,
    identities: Vec<Identity>,
    /// and those that they have ids for.
    ids: Vec<BTreeMap<i32, Identity>>,
    unanswered: Unanswered,
    /// The further names that were asked for, by the namespace that they refer to.
    aliases: BTreeMap<Identity, BTreeSet<Netns>>,
}

impl<'a> FactsReading<'a> {
    /// Begins one. Namespaces with a thread of ours go by the name that the thread has.
    pub async fn new(workers: &'a mut Workers, may_enter: bool, listed: &Listed) -> Self {
        let mut files = BTreeMap::new();
        let known = listed.iter().filter_map(|(name, identity)| Some((name.clone(), (*identity)?)));
        for (name, identity, file) in workers.files(known).await {
            files.entry(identity).or_insert((Some(Netns::Name(name)), Arc::new(file.into())));
        }
        let (seen, found, identities, ids, unanswered, aliases) = Default::default();
        Self { workers, before: None, may_enter, seen, files, found, identities, ids, unanswered, aliases }
    }

    /// This reading, with the result of the reading before it.
    #[must_use]
    pub fn after(self, before: Before<'a>) -> Self {
        Self { before: Some(before), ..self }
    }

    /// Reads some namespaces, all at once.
    pub async fn at(&mut self, names: impl IntoIterator<Item = Option<Netns>>) {
        let mut wanted: Vec<(Option<Netns>, Identity)> = Vec::new();
        for netns in names {
            wanted.extend(self.unseen(netns).await);
        }
        let others: Vec<(Identity, Arc<OwnedFd>)> =
            self.files.iter().map(|(identity, (_, file))| (*identity, file.clone())).collect();
        let is_first = self.before.is_none_or(|before| before.known.is_empty());
        let mut questions = Vec::new();
        for (netns, identity) in wanted {
            let (worker, others) = (self.workers.of(netns.as_ref()).await, others.clone());
            questions.push(async move {
                let asked = match worker {
                    // The thread is in what had the name before: the daemon's task replaces it.
                    Ok(worker) if worker.identity() != identity => {
                        Err(Unread::other("the name refers to another namespace now"))
                    }
                    Ok(worker) => {
                        let question = move || ask(others);
                        let asked = if is_first {
                            worker.ask_within(FIRST, question).await
                        } else {
                            worker.ask(question).await
                        };
                        asked.map_err(Unread::from).and_then(|asked| asked.map_err(Unread::other))
                    }
                    Err(error) => Err(error.into()),
                };
                (netns, identity, asked)
            });
        }
        for (netns, identity, asked) in join_all(questions).await {
            self.take(netns, identity, asked);
        }
    }

    /// Reads all namespaces that have names: those of the config, the daemon's own, those with threads of
    /// ours, and those under /run/netns.
    pub async fn everywhere(&mut self, config: &Config) {
        let mut names = vec![None];
        // Engines give names to their containers' namespaces, too: the config's name for one comes first.
        names.extend(config.containers().map(|(_, container)| Some(Netns::Container(container.clone()))));
        names.extend(self.workers.names());
        names.extend(config.peers.iter().filter_map(|peer| Some(peer.tap.as_ref()?.netns.clone())));
        names.extend(config.endpoints.iter().map(|endpoint| endpoint.netns.clone()));
        names.extend(self.files.values().map(|(netns, _)| netns.clone()));
        self.at(names).await;
    }

    /// Takes note which namespaces the config means where it names devices in them, and reads none of those:
    /// the config may call a namespace by another name than its thread does.
    pub async fn named(&mut self, config: &Config) {
        let devices = config.elsewhere.iter().map(|device| &device.netns);
        let interfaces = match &config.interfaces {
            Interfaces::Auto => &[][..],
            Interfaces::Named(named) => named,
        };
        let names: BTreeSet<&Netns> =
            devices.chain(interfaces.iter().map(|interface| &interface.netns)).flatten().collect();
        for netns in names {
            if let Ok(Some(identity)) = self.workers.now(netns).await {
                self.aliases.entry(identity).or_default().insert(netns.clone());
            }
        }
    }

    /// Reads all namespaces that veths and the like join to those that were read, and so on.
    pub async fn joined(&mut self) {
        let mut at = 0;
        while at < self.ids.len() {
            let ids: Vec<Identity> = self.ids[at].values().copied().collect();
            let names = ids.iter().filter_map(|identity| Some(self.files.get(identity)?.0.clone()));
            let names: Vec<Option<Netns>> = names.collect();
            self.at(names).await;
            at += 1;
        }
    }

    /// A namespace that was not read yet, by the name that it goes by.
    async fn unseen(&mut self, asked: Option<Netns>) -> Option<(Option<Netns>, Identity)> {
        let netns = self.name(asked.clone()).await;
        let identity = match &netns {
            None => Identity::own(),
            Some(named) => match self.workers.now(named).await {
                Ok(identity) => identity,
                Err(error) => {
                    // Nobody can say which namespace has the name: it is taken to be the one that had it.
                    let silent = match &error {
                        NetnsError::Hung { .. } => Silent::File,
                        _ => Silent::Thread,
                    };
                    let before = self.before.and_then(|before| before.identity(netns.as_ref()));
                    let Some(before) = before else {
                        if error.is_late() {
                            self.unanswered.insert(netns, silent);
                        }
                        return None;
                    };
                    let identity = Some(before).filter(|identity| self.seen.insert(*identity))?;
                    self.take_unanswered(netns, identity, &error.into(), silent);
                    return None;
                }
            },
        };
        if let (Some(identity), Some(asked)) = (identity, asked) {
            self.aliases.entry(identity).or_default().insert(asked);
        }
        let identity = identity.filter(|identity| !self.seen.contains(identity))?;
        let is_entered = self.workers.identity(netns.as_ref()).is_some();
        if !self.may_enter && !is_entered && netns.is_some() {
            return None;
        }
        self.seen.insert(identity);
        Some((netns, identity))
    }

    fn take(&mut self, netns: Option<Netns>, identity: Identity, asked: Result<Asked, Unread>) {
        match asked {
            Ok((facts, ids, file)) => {
                if let Some(file) = file {
                    self.files.insert(identity, (netns.clone(), Arc::new(file)));
                }
                let (away, aliases) = (BTreeMap::new(), BTreeSet::new());
                self.add(Namespace { netns, facts, away, aliases }, identity, ids);
            }
            Err(error) => self.take_unanswered(netns, identity, &error, Silent::Thread),
        }
    }

    /// Takes a namespace that did not answer to be as it was: that says nothing of what is in it. Forgotten, its peers would have
    /// no home, and their links no cover. One that nobody knows is asked again if it was late.
    fn take_unanswered(&mut self, netns: Option<Netns>, identity: Identity, unread: &Unread, silent: Silent) {
        let Unread { why: error, is_late } = unread;
        let Some((space, ids)) = self.before.and_then(|before| before.of(netns.as_ref(), identity)) else {
            if *is_late {
                self.unanswered.insert(netns, silent);
            }
            // A file under /run/netns need not be a namespace.
            return tracing::debug!(error, "a namespace was not looked into");
        };
        let name = netns.as_ref().map_or_else(|| "the daemon's own".to_owned(), Netns::to_string);
        match silent {
            Silent::Thread => {
                tracing::warn!(
                    netns = name,
                    error,
                    "a namespace did not answer; it is taken to be as it was"
                );
            }
            // The daemon's task reports it, once.
            Silent::File => tracing::debug!(error, "a namespace is taken to be as it was"),
        }
        self.unanswered.insert(netns, silent);
        self.add(space, identity, ids);
    }

    fn add(&mut self, space: Namespace, identity: Identity, ids: BTreeMap<i32, Identity>) {
        self.found.push(space);
        self.identities.push(identity);
        self.ids.push(ids);
    }

    /// The name by which a namespace that has several goes: a thread's, if there is one.
    async fn name(&mut self, netns: Option<Netns>) -> Option<Netns> {
        let asked = netns.as_ref()?;
        let Ok(Some(identity)) = self.workers.now(asked).await else { return netns };
        let same = |name: &Option<Netns>| self.workers.identity(name.as_ref()) == Some(identity);
        if Identity::own() == Some(identity) {
            return None;
        }
        if same(&netns) {
            return netns;
        }
        let mut names = self.workers.names();
        names.sort();
        names.into_iter().find(same).unwrap_or(netns)
    }

    /// The result of the reading.
    pub async fn done(mut self) -> ReadNamespaces {
        // A namespace that was asked early had no ids yet for those that are not listed.
        let names: BTreeMap<Identity, Option<Netns>> =
            self.files.iter().map(|(identity, (netns, _))| (*identity, netns.clone())).collect();
        for (space, identity) in self.found.iter_mut().zip(&self.identities) {
            space.aliases.extend(self.aliases.get(identity).into_iter().flatten().cloned());
        }
        for (space, ids) in self.found.iter_mut().zip(&self.ids) {
            let known = ids.iter().filter_map(|(id, identity)| Some((*id, names.get(identity)?.clone())));
            space.away.extend(known);
        }
        for at in 0..self.found.len() {
            if let Some(ids) = self.unknown_ids(at).await {
                let known = ids.iter().filter_map(|(id, identity)| Some((*id, names.get(identity)?.clone())));
                self.found[at].away.extend(known);
            }
        }
        let names = self.found.iter().map(|space| space.netns.clone());
        let answered = names.zip(self.identities.into_iter().zip(self.ids)).collect();
        ReadNamespaces { known: self.found, answered, unanswered: self.unanswered }
    }

    /// The ids for namespaces that were read after this one.
    async fn unknown_ids(&mut self, at: usize) -> Option<BTreeMap<i32, Identity>> {
        let space = &self.found[at];
        let mut wanted = away_ids(&space.facts);
        wanted.retain(|id| !space.away.contains_key(id));
        if wanted.is_empty() {
            return None;
        }
        let known: BTreeSet<Identity> = self.ids[at].values().copied().collect();
        let others: Vec<(Identity, Arc<OwnedFd>)> = self
            .files
            .iter()
            .filter(|(identity, _)| self.seen.contains(identity) && !known.contains(identity))
            .map(|(identity, (_, file))| (*identity, file.clone()))
            .collect();
        let worker = self.workers.of(space.netns.as_ref()).await.ok()?;
        let asked = worker.ask(move || async move {
            let handle = netlink::connect().ok()?;
            Some(ids(&handle, &wanted, others).await)
        });
        asked.await.ok()?
    }
}

/// The ids of other namespaces that a namespace's devices name.
fn away_ids(facts: &Facts) -> BTreeSet<i32> {
    facts.links.iter().filter_map(|link| link.away).collect()
}

type Asked = (Facts, BTreeMap<i32, Identity>, Option<OwnedFd>);

/// Asks the calling thread's namespace what it knows, which of the others it has ids for, and for itself as a file.
async fn ask(others: Vec<(Identity, Arc<OwnedFd>)>) -> std::io::Result<Asked> {
    crate::fault::at("survey/ask")?;
    let mut facts = Facts::ask().await?;
    facts.nat = Arc::new(nat::read());
    let wanted = away_ids(&facts);
    let handle = netlink::connect()?;
    let ids = ids(&handle, &wanted, others).await;
    Ok((facts, ids, File::open("/proc/thread-self/ns/net").ok().map(Into::into)))
}

/// The namespaces, among some, that have these ids.
async fn ids(
    handle: &rtnetlink::Handle,
    wanted: &BTreeSet<i32>,
    others: Vec<(Identity, Arc<OwnedFd>)>,
) -> BTreeMap<i32, Identity> {
    let mut ids = BTreeMap::new();
    for (identity, file) in others {
        if ids.len() == wanted.len() {
            break;
        }
        if let Some(id) = nsid::of(handle, &file).await.filter(|id| wanted.contains(id)) {
            ids.insert(id, identity);
        }
    }
    ids
}
