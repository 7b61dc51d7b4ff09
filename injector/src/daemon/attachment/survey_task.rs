//! A survey runs beside the daemon's task: from copies of what it needs, to a result that the task takes in. Namespaces with
//! very many interfaces take long to read, and heals do not wait for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::KeptNews;
use super::reading::{self, Before, FactsReading, ReadNamespaces, Surveyed};
use super::{InterfaceEvent, Interfaces};
use crate::datapath::Kernel;
use crate::discovery::follow;
use crate::discovery::homes::{self, Exit, Home};
use crate::discovery::places::{Found, Namespace};
use crate::discovery::survey::survey;
use crate::netlink::facts::Facts;
use crate::netlink::nat::{self, Nat};
use crate::netlink::news::News;
use crate::netns::{Listed, Workers};
use crate::rights;
use injector_core::clock::MonoNs;
use injector_core::config::{self, Config, Netns};
use injector_core::identity::Mac;
use injector_core::model::PeerId;

/// How many news are kept while a survey is under way.
const MOST_NEWS: usize = 1000;

/// Copies of what a survey is made from.
pub(super) struct Question {
    config: Config,
    /// The namespaces of the interfaces that are known,
    named: BTreeSet<Option<Netns>>,
    /// those that had names,
    listed: Listed,
    /// and the threads inside.
    workers: Workers,
    may_enter: bool,
    known: Vec<Namespace>,
    answered: reading::Answered,
    home_names: homes::Before,
}

/// The locations of peers, as the facts of namespaces show them.
struct PeerLocations {
    known: Vec<Namespace>,
    homes: BTreeMap<PeerId, Home>,
    found: BTreeMap<PeerId, Found>,
}

impl Interfaces {
    /// The question that a survey answers, as of now.
    pub(super) fn question(&self, config: &Config) -> Question {
        Question {
            config: config.clone(),
            named: self.entries.iter().map(|entry| entry.interface.netns.clone()).collect(),
            listed: self.listed.clone(),
            workers: self.workers.copy(),
            may_enter: !self.is_started || leads_to_namespaces(config),
            known: self.known.clone(),
            answered: self.answered.clone(),
            home_names: self.home_names.clone(),
        }
    }

    /// Begins a survey beside the daemon's task, or another one once that which is under way is over.
    pub(super) fn begin_survey(&mut self, at: MonoNs, config: &Config) {
        self.is_due = false;
        if self.surveying.is_some() {
            self.survey_again.get_or_insert(at);
            return;
        }
        self.surveying = Some(Vec::new());
        let (question, news) = (self.question(config), self.sinks.news.clone());
        let begun = tokio::time::Instant::now();
        let guard = self.workers.guard("a survey of the peers");
        tokio::spawn(async move {
            let _guard = guard;
            let surveyed = Box::new(question.answer().await);
            let _ = news.send(InterfaceEvent::Surveyed { at, begun, surveyed });
        });
    }

    /// Keeps news that come while a survey is under way, which may not have seen what they report.
    pub(super) fn keep_news(&mut self, netns: Option<&Netns>, at: MonoNs, news: &News) {
        if let Some(kept) = &mut self.surveying {
            match kept.len() {
                0..MOST_NEWS => kept.push((netns.cloned(), at, news.clone())),
                // After so many, another survey says more than each of them.
                _ => kept[0] = (netns.cloned(), at, News::Overrun),
            }
        }
    }

    /// Takes in the news that came while the survey was under way that has just been taken in.
    pub(super) fn take_kept_news(&mut self, config: &Config, kernel: &mut Kernel, kept: Vec<KeptNews>) {
        for (netns, at, news) in kept {
            self.give_up(kernel, netns.as_ref(), at, &news);
            if let News::Link(link) = &news {
                self.greet(config, netns.as_ref(), at, link);
            }
            if self.calls_for_survey(config, netns.as_ref(), &news) {
                self.ask_for_survey(MonoNs::now());
            }
        }
    }

    /// Whether a survey could find something else than the last one, for this news.
    pub(super) fn calls_for_survey(&self, config: &Config, netns: Option<&Netns>, news: &News) -> bool {
        let space = self.known.iter().find(|space| space.netns.as_ref() == netns);
        if let Some(space) = space
            && !self.followed.contains_key(&netns.cloned())
        {
            // Interfaces come and go there all the time.
            let is_peers =
                |mac: &Mac| self.identity.macs.contains_key(mac) || self.identity.doubled.contains(mac);
            let known = |index| space.facts.link(index).and_then(|link| link.mac);
            match news {
                News::Link(link) => {
                    let macs = [known(link.index), link.mac];
                    return macs[0] != macs[1] && macs.iter().flatten().any(is_peers);
                }
                News::Gone(index) => return known(*index).as_ref().is_some_and(is_peers),
                _ => {}
            }
        }
        let homes = self.home_names.values().cloned().collect();
        let last = follow::Last { known: &self.known, is_one_missing: self.is_one_missing, homes: &homes };
        follow::concerns(config, &last, space, news)
    }
}

impl Question {
    /// Makes the survey: reads the namespaces, and computes where the peers live.
    pub(super) async fn answer(mut self) -> Surveyed {
        let read_at = MonoNs::now();
        match self.workers.listed(&self.listed).await {
            Ok(listed) => self.listed = listed,
            Err(error) => {
                tracing::warn!(%error, "the names of network namespaces are taken to be those of before");
            }
        }
        let (read, locations) = self.read_and_locate().await;
        let PeerLocations { known, homes, found } = locations;
        let Self { listed, workers, .. } = self;
        Surveyed { read_at, listed, read: ReadNamespaces { known, ..read }, homes, found, workers }
    }

    async fn read_and_locate(&mut self) -> (ReadNamespaces, PeerLocations) {
        let Self { config, named, listed, workers, may_enter, known, answered, home_names } = self;
        let before = Before { known, answered };
        let mut reading = FactsReading::new(workers, *may_enter, listed).await.after(before);
        if config.interfaces == config::Interfaces::Auto {
            reading.everywhere(config).await;
            reading.named(config).await;
            let mut read = reading.done().await;
            let locations = locate_peers(config, std::mem::take(&mut read.known), home_names).await;
            return (read, locations);
        }
        // Other labs on this host may use the same addresses: what counts is what is joined to these.
        reading.at(named.iter().cloned()).await;
        reading.joined().await;
        reading.named(config).await;
        let mut read = reading.done().await;
        let mut joined = locate_peers(config, std::mem::take(&mut read.known), home_names).await;
        if joined.found.values().all(|found| !found.paths.is_empty()) {
            if joined.known.iter().all(|space| space.netns.is_some()) {
                joined.known.push(own_rules(workers).await);
            }
            return (read, joined);
        }
        let mut reading = FactsReading::new(workers, *may_enter, listed).await.after(before);
        reading.at(named.iter().cloned()).await;
        reading.joined().await;
        reading.everywhere(config).await;
        reading.named(config).await;
        let mut all = reading.done().await;
        let known = with_missing(config, &joined.known, std::mem::take(&mut all.known), &joined.found);
        let locations = locate_peers(config, known, home_names).await;
        (all, locations)
    }
}

/// Computes where the peers live, on a thread of its own, which needs no rights: with very many peers or interfaces it takes
/// long.
async fn locate_peers(config: &Config, known: Vec<Namespace>, before: &homes::Before) -> PeerLocations {
    let (config, before) = (config.clone(), before.clone());
    let (answer, computed) = tokio::sync::oneshot::channel();
    let compute = move || {
        if let Err(error) = rights::take_none() {
            tracing::debug!(%error, "the thread that computes a survey keeps its rights");
        }
        crate::fault::here("survey/compute");
        let homes = homes::homes(&config, &known, &before);
        let mut found = survey(&config, &known, &homes);
        for (peer, home) in &homes {
            if let Some(found) = found.get_mut(peer) {
                found.exits = homes::exits(&config, &known, home.at).iter().map(Exit::path).collect();
            }
        }
        // A survey that nobody waits for any more is not taken in.
        let _ = answer.send(PeerLocations { known, homes, found });
    };
    std::thread::Builder::new().name("survey".into()).spawn(compute).expect("a thread for a survey");
    // A thread that panics, which is logged, ends this task too.
    computed.await.expect("a survey")
}

/// The daemon's own namespace with nothing but its rules of NAT: where devices inside peers' namespaces are named, it may be the
/// one that routes between them, and nothing shows that it is.
async fn own_rules(workers: &mut Workers) -> Namespace {
    let read = match workers.of(None).await {
        Ok(worker) => worker.ask(|| async { nat::read() }).await,
        Err(error) => Err(error),
    };
    let nat = read.unwrap_or_else(|error| Nat { unread: Some(error.to_string()), ..Nat::default() });
    Namespace {
        netns: None,
        facts: Facts { nat: Arc::new(nat), ..Facts::default() },
        away: BTreeMap::new(),
        aliases: BTreeSet::new(),
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
