//! The interfaces that our programs are on: found, attached, lost, found again; which peers each one covers, and when
//! one did not. Owned by the daemon's task, notified of changes by the threads inside the namespaces.

mod assess;
mod check;
mod containers;
mod entry;
mod event;
mod following;
mod given_up;
mod hook_answers;
mod hook_reading;
mod hooks;
mod interface_ids;
mod link_coverage;
mod link_list;
mod local;
mod namespaces;
mod own_host;
mod owner_programs;
mod owner_watch;
mod pause;
mod pending;
mod prepare;
mod preview;
mod programs;
pub mod reading;
mod reasons;
mod renewal;
mod roll;
mod survey_task;
mod views;

pub use crate::discovery::segments::{Nic, NoPair};
pub use event::{Changes, Cuts, EventSinks, InterfaceEvent};
pub use hook_reading::HookScope;
pub use link_coverage::{CutLinks, LinkCoverage};
pub use own_host::Ends;
pub use preview::{Preview, Target};
pub use views::MOST_PEERS;

use injector_core::config::shown;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use injector_common::key::INTERFACE_IDS;

use self::entry::Entry;
use self::following::{Subscriptions, UnseenNames, unnoticed};
use self::interface_ids::InterfaceIds;
use self::link_list::LinkList;
use self::owner_programs::OwnerPrograms;
use self::programs::{Attaching, JobResults, Shared, SharedKey, Spare};
use super::duty_cycle::DutyCycle;
use super::start_error::StartError;
use crate::datapath::{CgroupQuery, Instances, Kernel, Names, SpaceId};
use crate::discovery::coverage::Coverage;
use crate::discovery::local::LocalProcesses;
use crate::discovery::mismatch::Mismatch;
use crate::discovery::places::Namespace;
use crate::discovery::{choice, eras, homes, strangers};
use crate::netlink::news::News;
use crate::netns::{Identity, Listed, Worker, Workers};
use injector_core::clock::MonoNs;
use injector_core::config::{self, Config, Netns};
use injector_core::containers::ContainerStates;
use injector_core::metrics::AttachmentsLost;
use injector_core::model::PeerId;

/// All interfaces, and the threads inside their namespaces.
pub struct Interfaces {
    entries: Vec<Entry>,
    /// Their ids.
    ids: InterfaceIds,
    /// The interfaces that each peer's packets pass.
    coverage: Coverage,
    /// The interfaces that roll a peer's loss, as the programs know them, by peer.
    bound: BTreeMap<PeerId, BTreeSet<u32>>,
    /// The namespaces that the last survey was made from,
    known: Vec<Namespace>,
    /// and which namespaces these were.
    answered: reading::Answered,
    /// When it read them,
    read: strangers::ReadTime,
    /// and whether it found nothing of some peer.
    is_one_missing: bool,
    /// The homes that it found,
    homes: BTreeMap<PeerId, homes::Home>,
    /// and the names of their namespaces.
    home_names: homes::Before,
    /// The facts that name the ends of frames, by that survey.
    identity: injector_core::identity::Identity,
    /// Addresses that the config lists for one peer and that another one, which is not seen inside, claims by its frames.
    taken_over: BTreeMap<IpAddr, PeerId>,
    /// The pictures of the past, each with its time.
    eras: eras::Eras,
    /// What news have said since the last survey of devices in the homes, by their indexes: the MAC address of each, if it is there.
    device_news: BTreeMap<(Option<Netns>, u32), Option<injector_core::identity::Mac>>,
    /// The MAC addresses that frames and neighbour tables have shown.
    sightings: strangers::Sightings,
    /// Host ends of veths past which programs of others may redirect, as of the last reading of them.
    redirected: BTreeSet<u32>,
    /// The namespaces that are followed.
    followed: BTreeMap<Option<Netns>, Identity>,
    /// The others that are watched for peers' addresses, or for rules of NAT.
    watched: BTreeMap<Option<Netns>, Identity>,
    /// The topics that the threads in namespaces have subscribed to.
    subscribed: Subscriptions,
    /// Names of namespaces that nobody could read.
    unseen: UnseenNames,
    /// Whether the start is over.
    is_started: bool,
    /// The named namespaces at that time.
    listed: Listed,
    /// Whether a survey is asked for and has not begun,
    is_due: bool,
    /// what has happened since the one began that is under way,
    surveying: Option<Vec<event::KeptNews>>,
    /// and when something did that calls for another one.
    survey_again: Option<MonoNs>,
    /// The namespaces that have yet to say which interfaces they have, and when something happened since they were asked,
    links_asked: BTreeMap<Option<Netns>, Option<MonoNs>>,
    /// those that are being cleaned, by threads of their own,
    cleaning: BTreeMap<Option<Netns>, Worker>,
    /// and those that have yet to say what is on the hooks, with the instant at which they were asked.
    hooks_asked: BTreeMap<Option<Netns>, MonoNs>,
    /// When the hooks of each were last read, by the namespace that the name led to,
    hooks_read: BTreeMap<Option<Netns>, (Identity, MonoNs)>,
    /// and when and why that failed, where there was no reading since.
    hooks_failed: BTreeMap<Option<Netns>, (MonoNs, String)>,
    /// How long the last reading of a namespace's hooks took.
    hooks_cost: std::time::Duration,
    /// Programs that another process has detached, and that are not counted yet.
    losses: AttachmentsLost,
    /// The mismatches that a warning was logged for.
    mismatches: BTreeSet<Mismatch>,
    /// The threads.
    pub workers: Workers,
    /// The names of the programs that were loaded before ours: only the supervisor has the right to read
    /// those of later ones.
    initial_names: Names,
    /// Namespaces that had a thread and are gone.
    gone: BTreeSet<Netns>,
    /// Of those, the ones that were named by a process which has ended.
    ended: BTreeSet<Netns>,
    sinks: EventSinks,
    /// Makes the programs,
    instances: Instances,
    /// has made some ahead,
    spare: Spare,
    /// and some that interfaces share.
    shared: BTreeMap<SharedKey, Shared>,
    /// How many namespaces have such.
    spaces: u32,
    /// How long surveys take.
    surveys: DutyCycle,
    /// The namespaces of peers on this machine,
    local_spaces: BTreeMap<Option<Netns>, SpaceId>,
    /// those of them that were recreated,
    reborn: BTreeSet<Option<Netns>>,
    /// and what is seen of these peers.
    local: LocalProcesses,
    /// When the last scan of their processes began.
    local_scan_began: MonoNs,
    /// Whether the programs are attached that give their sockets their owners.
    owners: OwnerPrograms,
    /// The engine's answer about the containers of the config,
    containers: ContainerStates,
    /// When that was seen.
    containers_at: MonoNs,
    /// and the peers among them that have been found, and whose names the programs do not know yet.
    returned: BTreeSet<PeerId>,
    /// The tasks that attach now,
    attaching: Attaching,
    /// and what is attached or taken off, until it is taken in.
    landed: JobResults,
}

/// The facts about peers that are read before interfaces are searched for.
pub struct ObservedState {
    /// The result of the scan for peers on this machine, and what asks whether their programs are attached.
    pub local: Option<(crate::local::Found, CgroupQuery)>,
    /// The engine's answer about containers.
    pub containers: ContainerStates,
}

/// An interface that was found, with the peer that the config says is behind it.
fn worded(config: &Config, known: &[Namespace], found: config::Interface) -> config::Interface {
    let space = known.iter().find(|space| space.netns == found.netns);
    let is_it = |device: &config::Device| space.is_some_and(|space| space.has(device, &found.name));
    let peer = config.peers.iter().find(|peer| peer.tap.as_ref().is_some_and(is_it));
    config::Interface { peer: peer.map(|peer| peer.id), ..found }
}

impl Interfaces {
    /// Finds the interfaces, removes what dead daemons left on them, attaches to them all, and follows them.
    ///
    /// # Errors
    /// The reason why an interface can't be attached to: nothing stays attached then.
    pub async fn start(
        config: &Config,
        kernel: &mut Kernel,
        workers: Workers,
        initial_names: Names,
        sinks: EventSinks,
        observed: ObservedState,
    ) -> Result<Self, StartError> {
        let mut interfaces = Self::new(config, kernel, workers, initial_names, sinks);
        if let Some((found, query)) = observed.local {
            // The first scan: there was none before it.
            interfaces.take_first(query, found.before, found.programs.as_ref(), found.observed);
        }
        interfaces.find(config, observed.containers).await?;
        crate::fault::here("start/found");
        interfaces.watch_others(config);
        interfaces.leave_unused(config);
        let mut namespaces: BTreeSet<Option<Netns>> =
            interfaces.entries.iter().map(|entry| entry.interface.netns.clone()).collect();
        if config.interfaces == config::Interfaces::Auto {
            // Peers that come later are found there.
            namespaces.insert(None);
        }
        for netns in namespaces {
            if let Err(error) = interfaces.enter_first(netns.as_ref()).await {
                interfaces.miss_namespace(netns.as_ref(), error)?;
            }
        }
        interfaces.follow_homes().await;
        interfaces.watch_mounts()?;
        interfaces.attach_all().await?;
        interfaces.bind(kernel, false);
        if config.interfaces == config::Interfaces::Auto {
            interfaces.prepare_spare();
        }
        interfaces.is_started = true;
        interfaces.log_coverage(config);
        Ok(interfaces)
    }

    /// Makes the state without any interfaces.
    fn new(
        config: &Config,
        kernel: &Kernel,
        workers: Workers,
        initial_names: Names,
        sinks: EventSinks,
    ) -> Self {
        Self {
            entries: Vec::new(),
            // A test has ids run out.
            ids: match crate::fault::at("interfaces/ids") {
                Ok(()) => InterfaceIds::new(),
                Err(_) => InterfaceIds::from(INTERFACE_IDS - 4),
            },
            coverage: Coverage::default(),
            bound: BTreeMap::new(),
            known: Vec::new(),
            answered: reading::Answered::new(),
            is_one_missing: false,
            homes: BTreeMap::new(),
            home_names: BTreeMap::new(),
            identity: injector_core::identity::Identity::default(),
            taken_over: BTreeMap::new(),
            eras: eras::Eras::default(),
            device_news: BTreeMap::new(),
            sightings: strangers::Sightings::default(),
            read: strangers::ReadTime::default(),
            redirected: BTreeSet::new(),
            followed: BTreeMap::new(),
            watched: BTreeMap::new(),
            subscribed: Subscriptions::new(),
            unseen: UnseenNames::default(),
            is_started: false,
            listed: Listed::new(),
            is_due: false,
            surveying: None,
            survey_again: None,
            links_asked: BTreeMap::new(),
            cleaning: BTreeMap::new(),
            hooks_asked: BTreeMap::new(),
            hooks_read: BTreeMap::new(),
            hooks_failed: BTreeMap::new(),
            hooks_cost: std::time::Duration::ZERO,
            losses: AttachmentsLost::default(),
            mismatches: BTreeSet::new(),
            workers,
            initial_names,
            gone: BTreeSet::new(),
            ended: BTreeSet::new(),
            sinks,
            instances: Instances::of(kernel.object()),
            spare: Spare::None,
            shared: BTreeMap::new(),
            spaces: 0,
            surveys: DutyCycle::new(),
            local_spaces: crate::local::spaces(config),
            reborn: BTreeSet::new(),
            local: LocalProcesses::default(),
            local_scan_began: MonoNs(0),
            owners: OwnerPrograms::default(),
            containers: ContainerStates::default(),
            containers_at: MonoNs(0),
            returned: BTreeSet::new(),
            attaching: Attaching::new(),
            landed: JobResults::default(),
        }
    }

    /// Finds the interfaces to attach to, and what they will cover once programs of ours are on all of them.
    async fn find(&mut self, config: &Config, containers: ContainerStates) -> Result<(), StartError> {
        self.contain(config, containers).await?;
        if let config::Interfaces::Named(named) = &config.interfaces {
            for interface in named {
                self.add_named(config, interface).await?;
            }
        }
        self.add_loopbacks().await?;
        let surveyed = self.question(config).answer().await;
        let unanswered: Vec<Option<Netns>> = surveyed.read.unanswered.keys().cloned().collect();
        let found = self.take_surveyed(surveyed);
        self.check_contained(config)?;
        if let Some(interface) = self.loopback() {
            return Err(StartError::Loopback { interface });
        }
        if config.interfaces == config::Interfaces::Auto {
            if let Some(what) = choice::ambiguity(config, &found) {
                return Err(StartError::Ambiguous { what });
            }
            for (interface, why) in choice::choose(config, &found, |_| false) {
                let id = self.ids.take();
                self.entries.push(Entry::new(id, worded(config, &self.known, interface), Some(why)));
            }
            if self.entries.is_empty() {
                return Err(match unanswered.first() {
                    None => StartError::NothingFound,
                    Some(netns) => StartError::NotAnswered { place: reasons::place(netns.as_ref()) },
                });
            }
            self.warn(config, &found);
        }
        self.warn_of_taps(config);
        if let Some((interface, peer, address)) = self.member(config) {
            return Err(StartError::OwnNic { interface, peer: config.names.name(peer).to_owned(), address });
        }
        self.cover(config, &found, MonoNs(0));
        Ok(())
    }

    /// Takes in an interface of the config. A namespace that has two names goes by the first of them.
    async fn add_named(&mut self, config: &Config, named: &config::Interface) -> Result<(), StartError> {
        let mut interface = named.clone();
        if let Some(netns) = &named.netns {
            let identity = self.workers.now(netns).await?;
            let same = |name: &Option<Netns>| self.workers.identity(name.as_ref()) == identity;
            if identity.is_some() && identity == Identity::own() {
                interface.netns = None;
            } else if let Some(name) = self
                .entries
                .iter()
                .map(|entry| &entry.interface.netns)
                .find(|name| identity.is_some() && same(name))
            {
                interface.netns.clone_from(name);
            }
        }
        let known = self.entries.iter_mut().find(|e| e.is(&interface.name, interface.netns.as_ref()));
        if let Some(known) = known {
            match (known.interface.peer, interface.peer) {
                (Some(one), Some(other)) if one != other => {
                    let [one, other] = [one, other].map(|peer| config.names.name(peer).to_owned());
                    return Err(StartError::TwoPeers { interface: shown(&interface), one, other });
                }
                (None, Some(peer)) => known.interface.peer = Some(peer),
                _ => {}
            }
            tracing::warn!(
                interface = shown(named),
                same = shown(&interface),
                "this interface is in the config twice, under two names of its network namespace: it is attached to once"
            );
            return Ok(());
        }
        self.workers.of(interface.netns.as_ref()).await?;
        let id = self.ids.take();
        self.entries.push(Entry::new(id, interface, None));
        Ok(())
    }

    /// An interface that the config says a peer is behind, with that peer, and that has an address in the network of another peer:
    /// a NIC in that network, and not the other end of a link.
    fn member(&self, config: &Config) -> Option<(String, PeerId, IpAddr)> {
        self.entries.iter().find_map(|entry| {
            let peer = entry.interface.peer?;
            let home = self.homes.get(&peer).map(|home| &self.known[home.at].netns);
            let space = self.known.iter().find(|space| space.netns == entry.interface.netns)?;
            let link = space.facts.links.iter().find(|link| link.name == entry.name())?;
            let is_in = |net: &ipnet::IpNet| {
                let others = config.peers.iter().filter(|other| other.id != peer);
                others.flat_map(|other| &other.addresses).any(|listed| net.contains(listed))
            };
            let mut own = space.facts.networks.iter().filter(|(index, _)| *index == link.index);
            let (_, net) = own.find(|(_, net)| is_in(net)).filter(|_| home != Some(&space.netns))?;
            Some((shown(&entry.interface), peer, net.addr()))
        })
    }

    /// A loopback device among the interfaces of the config.
    fn loopback(&self) -> Option<String> {
        let named = self.entries.iter().filter(|entry| entry.interface.hook != config::Hook::Local);
        let named = named.into_iter().find(|entry| {
            let space = self.known.iter().find(|space| space.netns == entry.interface.netns);
            let link =
                space.and_then(|space| space.facts.links.iter().find(|link| link.name == entry.name()));
            link.is_some_and(|link| link.layer == netlink_packet_route::link::LinkLayerType::Loopback)
        })?;
        Some(shown(&named.interface))
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
                changes.hooks = self.is_of_hooks(netns.as_ref(), &news);
                // A late answer of a namespace that is gone is dropped.
                if self.workers.identity(netns.as_ref()) == Some(identity) {
                    match &news {
                        News::EgressChain(chain) => {
                            changes.reported.extend(self.chain_came(netns.as_ref(), chain));
                        }
                        News::Ended(why) => changes.reported.push(unnoticed(netns.as_ref(), why)),
                        _ => {}
                    }
                    let is_given_up = self.give_up(kernel, netns.as_ref(), at, &news);
                    let is_met =
                        matches!(&news, News::Link(link) if self.greet(config, netns.as_ref(), at, link));
                    if is_given_up || is_met {
                        self.bind(kernel, cuts.is_rolling);
                    }
                    let is_concerned = |entry: usize| {
                        self.entries[entry].interface.netns == netns && self.concerns(entry, &news)
                    };
                    if (0..self.entries.len()).any(is_concerned) {
                        changes.reported.extend(self.check(netns.as_ref(), at));
                    }
                    if self.calls_for_survey(config, netns.as_ref(), &news) {
                        self.ask_for_survey(at);
                    }
                    self.keep_news(netns.as_ref(), at, &news);
                }
            }
            InterfaceEvent::Mounts { at } => {
                self.check_namespaces(config, at, &mut changes).await;
                // Where nobody can say which names there are, the next news of mounts asks again.
                if self.workers.listed(&self.listed).await.is_ok_and(|listed| listed != self.listed) {
                    self.ask_for_survey(at);
                }
            }
            InterfaceEvent::Names { at } => {
                self.unseen.is_check_due = false;
                self.check_namespaces(config, at, &mut changes).await;
            }
            InterfaceEvent::Prepared { id, instance } => {
                changes.reported.extend(self.prepared(id, instance));
            }
            InterfaceEvent::Shared { key, instance } => changes.reported.extend(self.shared(key, instance)),
            InterfaceEvent::Links { netns, identity, at, begun, links } => {
                let list = links.map(|links| LinkList { begun, links });
                changes.reported.extend(self.links_found(netns.as_ref(), identity, at, list));
            }
            InterfaceEvent::Cleaned { netns, identity } => {
                changes.reported.extend(self.cleaned(netns.as_ref(), identity));
            }
            InterfaceEvent::JobDone => changes.reported.extend(self.land()),
            InterfaceEvent::Hooks { netns, identity, found } => {
                changes.reported.extend(self.hooks_found(config, netns.as_ref(), identity, found).await);
            }
            // The daemon's task has them scanned.
            InterfaceEvent::Cgroups | InterfaceEvent::OwnersLost => {}
            InterfaceEvent::Local { begun, found } => {
                changes.reported.extend(self.take_local(config, begun, *found));
            }
            InterfaceEvent::Engine(news) => self.take_engine(config, news, &mut changes).await,
            InterfaceEvent::Survey { at } => self.begin_survey(at, config),
            InterfaceEvent::Surveyed { at, begun, surveyed } => {
                // First, since another survey may be asked for below, and rests as long as this one asks for.
                self.surveys.took(begun);
                return self.surveyed(at, *surveyed, config, kernel, cuts).await;
            }
        }
        if !changes.reported.is_empty() {
            self.bind(kernel, cuts.is_rolling);
        }
        changes
    }

    fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// How many are attached.
    pub fn attached(&self) -> usize {
        self.entries.iter().filter(|entry| entry.attachment.is_some()).count()
    }

    /// Detaches everywhere.
    pub async fn detach(&mut self) {
        self.release_all().await;
    }
}
