//! Identity and coverage by the last survey, kept over time, and assessed for links.

use injector_core::identity::Stranger;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Interfaces;
use super::entry::{Bypass, Entry};
use super::link_coverage::{CutLinks, LinkCoverage};
use super::reasons::{line, see_both, shown_place, shown_places, translated};
use crate::discovery::devices::usable;
use crate::discovery::homes::Home;
use crate::discovery::link_coverage::{Closure, CoverageAssessor, LinkAssessment, LocalFault, Reason};
use crate::discovery::naming::{Ours, Sources, identity, is_routable, is_virtual};
use crate::discovery::picture::{Picture, Seen};
use crate::discovery::places::{Found, Place};
use crate::discovery::strangers::{Reading, Suspect};
use crate::netlink::{Kind, LinkFacts};
use injector_core::api::{Bypassed, CoverageState, Uncovered};
use injector_core::clock::{MonoNs, TimeRange};
use injector_core::config::{Config, Netns, shown};
use injector_core::identity::Identity;
use injector_core::model::{Link, PeerId, PeerNames};

impl Interfaces {
    /// Computes what names frames and what is covered, from what was found.
    pub(super) fn assess(&mut self, config: &Config, found: &BTreeMap<PeerId, Found>, at: MonoNs) {
        // What was found may be older than a name that is known: it has the device by the name of that time.
        let name_there = |entry: &Entry| {
            let netns = entry.interface.netns.as_ref();
            let space = self.known.iter().find(|space| space.netns.as_ref() == netns)?;
            Some(space.facts.link(entry.index()?)?.name.as_str())
        };
        let ours: Vec<Ours<'_>> = self
            .entries
            .iter()
            .map(|entry| Ours {
                id: entry.id,
                name: name_there(entry).unwrap_or_else(|| entry.name()),
                netns: entry.interface.netns.as_ref(),
                peer: entry.interface.peer,
            })
            .collect();
        let sources = Sources { config, namespaces: &self.known, homes: &self.homes, found };
        let mut identity = identity(&sources, &ours);
        for (address, holder) in &self.taken_over {
            identity.moved.entry(*address).or_insert(*holder);
        }
        let seen = Seen {
            config,
            namespaces: &self.known,
            homes: &self.homes,
            found,
            identity: &identity,
            ours: &ours,
        };
        let mut picture = seen.picture();
        picture.locals = self.local_ends(config, self.local());
        self.home_names =
            self.homes.iter().map(|(peer, home)| (*peer, self.known[home.at].netns.clone())).collect();
        self.identity = identity;
        // What the homes lack that answered was gone by now at the latest.
        let facts = (&self.read, MonoNs::now(), &self.known[..]);
        self.sightings.update(config, facts, &self.homes, &self.identity);
        self.hold_back(&mut picture);
        self.eras.renew(picture, at);
    }

    /// Takes in the addresses that peers claim by their frames, each with the peer that claimed it last. The answer is
    /// what is new, for the timeline: an interface of the peer, and what happened.
    pub fn take_over(&mut self, config: &Config, claims: Vec<(IpAddr, PeerId)>) -> Vec<(String, String)> {
        let mut news = Vec::new();
        let mut taken_over = BTreeMap::new();
        for (address, holder) in claims {
            let Some(lister) = config.owner(address).filter(|lister| *lister != holder) else { continue };
            taken_over.insert(address, holder);
            if self.taken_over.get(&address) == Some(&holder) {
                continue;
            }
            let port = self.identity.ports.iter().find(|(_, port)| port.peer == holder);
            let (lister, holder) = (config.names.name(lister), config.names.name(holder));
            news.push((
                port.map_or_else(|| holder.to_owned(), |(id, _)| self.shown_id(*id)),
                format!(
                    "{holder} claims {address}, which the config lists for {lister}: ports alone say who holds it from now on"
                ),
            ));
        }
        self.identity.moved.retain(|address, holder| self.taken_over.get(address) != Some(holder));
        self.identity.moved.extend(&taken_over);
        self.taken_over = taken_over;
        news
    }

    /// Takes in a device that has appeared in a peer's home at an instant, before the next survey does: until its MAC
    /// address names the peer, its frames pass the other ends. Returns whether the device is new.
    pub(super) fn greet(
        &mut self,
        config: &Config,
        netns: Option<&Netns>,
        at: MonoNs,
        link: &LinkFacts,
    ) -> bool {
        let is_home = |home: &Home| home.is_alone && self.known[home.at].netns.as_ref() == netns;
        let Some(peer) = self.homes.iter().find(|(_, home)| is_home(home)).map(|(peer, _)| *peer) else {
            return false;
        };
        let Some(mac) = link.mac.filter(|mac| usable(link) && *mac != [0; 6] && mac[0] & 1 == 0) else {
            return false;
        };
        // Its own namespace may have had it on a device that is gone.
        let others = self.known.iter().filter(|space| space.netns.as_ref() != netns);
        let mut links = others.flat_map(|space| &space.facts.links);
        let is_taken = links.any(|known| known.mac == Some(mac))
            || self.identity.doubled.contains(&mac)
            || config.peers.iter().any(|other| other.id != peer && other.mac == Some(mac));
        // The master among virtual routers has their shared MAC address, and each of the others may have a
        // device with it.
        if is_taken || is_virtual(mac) || self.identity.macs.contains_key(&mac) {
            return false;
        }
        self.sightings.record_device(mac, peer, (netns, &link.name), Reading { since: at, by: at });
        self.identity.macs.insert(mac, peer);
        true
    }

    /// The strangers that may be on some links, which are sorted.
    pub fn suspects(&self, config: &Config, links: &[Link], strangers: &[Stranger]) -> Vec<Suspect> {
        self.sightings.suspects(config, &self.identity, links, strangers)
    }

    /// The facts that name the ends of frames now.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// [`Self::identity`] with only the ports that programs of ours are on.
    pub fn hooked_identity(&self) -> Identity {
        let mut identity = self.identity.clone();
        let attached: BTreeSet<u32> =
            self.entries.iter().filter(|entry| entry.attachment.is_some()).map(|entry| entry.id).collect();
        identity.ports.retain(|id, _| attached.contains(id));
        identity
    }

    fn hooked(&self, at: MonoNs) -> BTreeSet<u32> {
        let is_open = |gap: &TimeRange| gap.from_ns <= at && gap.until_ns.is_none_or(|until| until > at);
        let hooked = self.entries.iter().filter(|entry| !entry.gaps.iter().any(is_open));
        hooked.map(|entry| entry.id).collect()
    }

    /// The parts of a time in which neither what is seen nor what is attached changes.
    fn parts(&self, time: TimeRange) -> Vec<(TimeRange, std::sync::Arc<Picture>, BTreeSet<u32>)> {
        let mut parts = Vec::new();
        for (gap, picture) in self.eras.during(time) {
            let times = self
                .entries
                .iter()
                .flat_map(|entry| entry.gaps.iter().chain(entry.bypasses.iter().map(|bypass| &bypass.time)));
            let edges = times.flat_map(|gap| [Some(gap.from_ns), gap.until_ns]).flatten();
            let is_within =
                |edge: &MonoNs| *edge > gap.from_ns && gap.until_ns.is_none_or(|until| *edge < until);
            let mut edges: Vec<MonoNs> = edges.filter(is_within).collect();
            edges.sort_unstable();
            edges.dedup();
            let mut from = gap.from_ns;
            for until in edges.into_iter().map(Some).chain([gap.until_ns]) {
                parts.push((
                    TimeRange { from_ns: from, until_ns: until },
                    picture.clone(),
                    self.hooked(from),
                ));
                from = until.unwrap_or(from);
            }
        }
        parts
    }

    /// The coverage of links of one partition from an instant on, in their order: each at the worst of that
    /// time.
    pub fn coverage_of(
        &self,
        names: &PeerNames,
        links: &[Link],
        cut: CutLinks<'_>,
        from: MonoNs,
        until: Option<MonoNs>,
    ) -> Vec<LinkCoverage> {
        // A time of no length is an instant.
        let until = until.map(|until| until.max(from + std::time::Duration::from_nanos(1)));
        let parts = self.parts(TimeRange { from_ns: from, until_ns: until });
        let mut worst: Vec<Option<LinkAssessment>> = vec![None; links.len()];
        // The rank of an assessment: of two links that are unknown, the one that no drop can prove is worse.
        let rank = |assessment: &LinkAssessment| (assessment.state, assessment.is_translated());
        let mut uncovered: Vec<Vec<Uncovered>> = vec![Vec::new(); links.len()];
        for (gap, picture, hooked) in &parts {
            let assessor = CoverageAssessor::new(picture, hooked, &self.redirected);
            for (at, link) in links.iter().enumerate() {
                let assessment = assessor.assess_in(*link, cut.links, cut.is_grouped);
                if matches!(assessment.state, CoverageState::Not | CoverageState::Partly) {
                    let interface = self.lacking(&assessment.reason, &assessor.unhooked(*link));
                    add_time(&mut uncovered[at], interface, *gap);
                }
                if worst[at].as_ref().is_none_or(|worst| rank(&assessment) > rank(worst)) {
                    worst[at] = Some(assessment);
                }
            }
        }
        let words = |assessment: Option<LinkAssessment>, uncovered| match assessment {
            Some(assessment) => LinkCoverage {
                state: assessment.state,
                reason: self.reason(names, &assessment.reason),
                is_translated: assessment.is_translated(),
                is_told: match assessment.reason {
                    Reason::Translated(_) => true,
                    Reason::Closed(peer) => !self.left_out(peer).is_empty(),
                    _ => false,
                },
                remedy: self.remedy(names, &assessment.reason),
                uncovered,
            },
            None => LinkCoverage {
                state: CoverageState::Unknown,
                reason: "it was not looked at".to_owned(),
                is_translated: false,
                is_told: false,
                remedy: None,
                uncovered,
            },
        };
        worst.into_iter().zip(uncovered).map(|(assessment, uncovered)| words(assessment, uncovered)).collect()
    }

    /// The times in which something could send packets of links past our programs, from an instant on, in the
    /// links' order: times at which they are covered only by hooks that something runs before.
    pub fn bypassed(
        &self,
        links: &[Link],
        cut: CutLinks<'_>,
        from: MonoNs,
        until: Option<MonoNs>,
    ) -> Vec<Vec<Bypassed>> {
        let mut found = vec![Vec::new(); links.len()];
        if self.entries.iter().all(|entry| entry.bypasses.is_empty()) {
            return found;
        }
        for (gap, picture, hooked) in self.parts(TimeRange { from_ns: from, until_ns: until }) {
            let open = |bypass: &&Bypass| {
                bypass.time.from_ns <= gap.from_ns
                    && bypass.time.until_ns.is_none_or(|until| until > gap.from_ns)
            };
            let bypassed: Vec<(u32, &Bypass)> = self
                .entries
                .iter()
                .filter_map(|entry| Some((entry.id, entry.bypasses.iter().find(open)?)))
                .collect();
            if bypassed.is_empty() {
                continue;
            }
            let whole: BTreeSet<u32> =
                hooked.iter().copied().filter(|id| bypassed.iter().all(|(other, _)| other != id)).collect();
            let with = CoverageAssessor::new(&picture, &hooked, &self.redirected);
            let without = CoverageAssessor::new(&picture, &whole, &self.redirected);
            for (link, found) in links.iter().zip(&mut found) {
                if !is_worse(*link, cut, &without, &with) {
                    continue;
                }
                let on_link = bypassed.iter().filter(|(id, _)| with.involves(*link, *id));
                found.extend(on_link.map(|(id, bypass)| Bypassed {
                    interface: self.shown_id(*id),
                    why: bypass.why.clone(),
                    time: gap,
                }));
            }
        }
        found
    }

    /// Whether links, in their order, rely on interfaces whose hooks were not read since their cut was healed.
    pub fn unread(
        &self,
        links: &[Link],
        cut: CutLinks<'_>,
        (heal, unread): (MonoNs, &BTreeSet<u32>),
    ) -> Vec<bool> {
        let mut found = vec![false; links.len()];
        if unread.is_empty() {
            return found;
        }
        let until_ns = Some(heal + std::time::Duration::from_nanos(1));
        for (_, picture, hooked) in self.parts(TimeRange { from_ns: heal, until_ns }) {
            let read: BTreeSet<u32> = hooked.difference(unread).copied().collect();
            let with = CoverageAssessor::new(&picture, &hooked, &self.redirected);
            let without = CoverageAssessor::new(&picture, &read, &self.redirected);
            for (link, found) in links.iter().zip(&mut found) {
                *found |= is_worse(*link, cut, &without, &with);
            }
        }
        found
    }

    /// The peers whose devices are all hooked now.
    pub fn closed(&self) -> BTreeSet<PeerId> {
        let Some(picture) = self.eras.now() else { return BTreeSet::new() };
        let hooked = self.hooked(MonoNs::now());
        let assessor = CoverageAssessor::new(picture, &hooked, &self.redirected);
        let is_closed =
            |peer: &PeerId| assessor.closed(*peer) == Closure::Closed || assessor.is_local_closed(*peer);
        picture.ends.keys().copied().filter(is_closed).collect()
    }

    fn shown_id(&self, id: u32) -> String {
        self.entry(id).map_or_else(|| format!("interface {id}"), |entry| shown(&entry.interface))
    }

    /// The devices of a peer that the config leaves out: a record names them, although its links are covered.
    fn left_out(&self, peer: PeerId) -> Vec<Place> {
        let inside = self.eras.now().and_then(|picture| {
            let home = picture.ends.get(&peer)?.home.as_ref()?;
            picture.homes.get(home)
        });
        inside.map(|inside| inside.left_out.clone()).unwrap_or_default()
    }

    /// The interfaces that lack a hook; `unhooked` are the link's ends among ours that do.
    fn lacking(&self, reason: &Reason, unhooked: &[u32]) -> String {
        match reason {
            Reason::NoHook(places) | Reason::Path(_, places) => {
                places.iter().map(shown_place).collect::<Vec<_>>().join(", ")
            }
            Reason::Translated(detour) if !detour.places.is_empty() => shown_places(&detour.places),
            Reason::Blind(name) => name.clone(),
            Reason::Redirect(id) | Reason::SameHook(id) => self.shown_id(*id),
            Reason::HostMates(_) | Reason::Local(_) => "lo".to_owned(),
            Reason::Away(_, container) => format!("container {container}"),
            Reason::NoWay
            | Reason::Group(..)
            | Reason::Closed(_)
            | Reason::Open
            | Reason::Loopback(_)
            | Reason::Translated(_)
                if unhooked.is_empty() =>
            {
                "none is known".to_owned()
            }
            Reason::NoWay
            | Reason::Group(..)
            | Reason::Closed(_)
            | Reason::Open
            | Reason::Loopback(_)
            | Reason::Translated(_) => {
                unhooked.iter().map(|id| self.shown_id(*id)).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn reason(&self, names: &PeerNames, reason: &Reason) -> String {
        match reason {
            Reason::Closed(peer) => {
                let left_out = self.left_out(*peer);
                let but = match &left_out[..] {
                    [] => String::new(),
                    places => format!(", but for {}: elsewhere leaves it out", shown_places(places)),
                };
                format!("every device of {} is hooked{but}", names.name(*peer))
            }
            Reason::HostMates(home) => format!(
                "both peers are in {home}: their frames go over lo, where addresses name nobody"
            ),
            Reason::Loopback(space) => format!(
                "on lo of {space}, the sockets of both peers name their frames (multicast, ICMP echo and Unix sockets are not cut)"
            ),
            Reason::Local(LocalFault::Apart) => {
                "both peers are on this machine, in different network namespaces: no loopback device carries their frames".to_owned()
            }
            Reason::Local(LocalFault::Elsewhere(peer)) => format!(
                "{} is known by its sockets on lo alone, which no frame to or from other places passes",
                names.name(*peer)
            ),
            Reason::Local(LocalFault::World(peer)) => format!(
                "only what goes over lo is cut between {} and everyone who is no peer",
                names.name(*peer)
            ),
            Reason::Local(LocalFault::NoHook(space)) => format!("no hook of ours is on lo of {space}"),
            Reason::Local(LocalFault::Doubt(peer, doubt)) => {
                format!("{}: {}", names.name(*peer), doubt.why)
            }
            Reason::NoWay => "nothing shows where either peer is: neither an address, a neighbour, a bridge port nor a route".to_owned(),
            Reason::NoHook(places) => {
                format!("no hook of ours is on the path of either peer: {}", shown_places(places))
            }
            Reason::SameHook(id) => format!(
                "both peers are behind {}: what they send to each other need not pass it",
                self.shown_id(*id)
            ),
            Reason::Path(address, places) => {
                let to = address.map_or_else(String::new, |address| format!(" to {address}"));
                format!("packets{to} can go by devices without a hook of ours: {}", shown_places(places))
            }
            Reason::Blind(name) => format!(
                "packets can go by {name}, whose packets begin with the IP header: no hook of ours can judge them there"
            ),
            Reason::Group(peer, ..) => format!(
                "multicast and broadcast frames to {} pass: it is not known by a hooked port of its own, and the sender's other links are not cut",
                names.name(*peer)
            ),
            Reason::Away(peer, container) => format!(
                "container {container}, which {} is, does not run, or runs since so short a time that nothing names its frames yet",
                names.name(*peer)
            ),
            Reason::Redirect(id) => format!(
                "a program of others on another device may redirect past the hook of {}, the host end of a veth",
                self.shown_id(*id)
            ),
            Reason::Translated(detour) => translated(names, detour),
            Reason::Open => "what is known of both peers' paths is hooked, but not all devices of either are known".to_owned(),
        }
    }

    /// The entry to write into the config, where one helps.
    fn remedy(&self, names: &PeerNames, reason: &Reason) -> Option<String> {
        if let Reason::NoHook(places) | Reason::Path(_, places) = reason
            && let Some((interface, why)) = self.unattached(places)
        {
            return Some(format!("try again once `injector status` shows a hook of {interface} ({why})"));
        }
        match reason {
            Reason::NoHook(places) | Reason::Path(_, places) if !places.is_empty() => {
                let lines: Vec<String> = places.iter().map(line).collect();
                let last = places.last()?;
                Some(format!(
                    "add to interfaces: {}; or, if it does not matter, elsewhere: [{}]",
                    lines.join(" or "),
                    line(last)
                ))
            }
            Reason::NoHook(_) | Reason::Path(..) | Reason::NoWay => Some(
                "let both peers send something, or name the interface that one of them is behind, as in: peers: { n1: { vm: { interface: tap1 } } }"
                    .to_owned(),
            ),
            Reason::SameHook(_) => Some("add an interface to which only one of them is connected".to_owned()),
            Reason::HostMates(_) => {
                Some("say by which ports each of them is known, as in: n1: { listens: [\"127.0.0.2\"] } for all ports of its address, or give each peer a network namespace of its own".to_owned())
            }
            Reason::Local(LocalFault::Apart | LocalFault::Elsewhere(_)) => Some(
                "name a peer that others reach over a network by its addresses, in a network namespace of its own"
                    .to_owned(),
            ),
            Reason::Blind(name) => Some(format!(
                "attach where its packets have an Ethernet header, or, if it does not matter, write elsewhere: [{name}]"
            )),
            Reason::Group(_, bridges, _) if !bridges.is_empty() => {
                Some(format!("add to interfaces: {}", bridges.iter().map(line).collect::<Vec<_>>().join(" or ")))
            }
            Reason::Group(peer, _, Some(id)) if self.is_own(*peer, *id) => Some(format!(
                "frames of others pass {} too (a macvlan in another namespace, or what {peer} forwards): give {peer} a device that \
                 they do not pass, or cut all of its links at once",
                self.shown_id(*id),
                peer = names.name(*peer)
            )),
            Reason::Group(peer, ..) if self.forwards(*peer) => Some(format!(
                "others are reached through {peer}, so that no port is {peer}'s alone: cut all links of the senders, as in isolate n1",
                peer = names.name(*peer)
            )),
            Reason::Group(peer, _, only) => Some(self.word(names.name(*peer), *only)),
            Reason::Redirect(_) => {
                Some("add the peer's own interface inside its network namespace to interfaces".to_owned())
            }
            Reason::Local(LocalFault::Doubt(_, doubt)) => doubt.remedy.map(str::to_owned),
            Reason::Translated(detour) => Some(see_both(names, detour)),
            Reason::Away(..) => Some("start the container, and wait until `injector peers` shows its home".to_owned()),
            Reason::Local(_) | Reason::Loopback(_) | Reason::Closed(_) | Reason::Open => None,
        }
    }

    /// The first of these places that is an interface of ours without our programs, and why it has none.
    fn unattached(&self, places: &[Place]) -> Option<(String, &str)> {
        let is_at = |entry: &&Entry, place: &Place| {
            entry.attachment.is_none()
                && entry.interface.name == place.name
                && entry.interface.netns == place.netns
        };
        let entry = places.iter().find_map(|place| self.entries.iter().find(|entry| is_at(entry, place)))?;
        Some((shown(&entry.interface), &entry.missing))
    }

    /// The peer whose home a network namespace is, `None` being the daemon's own; none where several peers live there.
    pub fn resident(&self, netns: Option<&Netns>) -> Option<PeerId> {
        let mut living = self.home_names.iter().filter(|(_, home)| home.as_ref() == netns);
        let (peer, _) = living.next()?;
        living.next().is_none().then_some(*peer)
    }

    /// Whether a peer passes on what others send.
    fn forwards(&self, peer: PeerId) -> bool {
        self.identity.peers.get(&peer).is_some_and(|traits| traits.forwards)
    }

    /// Whether an interface of ours is in the namespace that a peer lives in. Then it is known who else is behind it.
    fn is_own(&self, peer: PeerId, interface: u32) -> bool {
        let home = self.home_names.get(&peer);
        self.entry(interface).is_some_and(|entry| home == Some(&entry.interface.netns))
    }

    /// The words by which the config says that a peer is behind an interface: this interface, if it is known.
    fn word(&self, peer: &str, interface: Option<u32>) -> String {
        let entry = interface.and_then(|id| self.entry(id));
        let name = entry.map_or("tap1", Entry::name);
        let netns = entry.and_then(|entry| entry.interface.netns.as_ref());
        let place = Place { netns: netns.cloned(), name: name.to_owned(), why: String::new() };
        let which = if entry.is_some() { name } else { "an interface" };
        let nic = entry.and_then(|entry| entry.attachment.as_ref()).filter(|nic| nic.facts.kind != Kind::Tap);
        let own = nic.into_iter().flat_map(|nic| &nic.addresses);
        if let Some(address) = own.copied().find(|address| is_routable(*address)) {
            return format!(
                "none of {peer}'s addresses is on a device that is seen, and {which} has {address}: if that is {peer}'s, list it, as \
                 in: {peer}: {{ addresses: [{address}] }}"
            );
        }
        let is_auto = self.entries.iter().all(|entry| entry.chosen.is_some());
        if is_auto {
            let device = if netns.is_some() { line(&place) } else { name.to_owned() };
            return format!(
                "if {which} leads to {peer} alone, say so in peers, as in: {peer}: {{ …, vm: {{ interface: {device} }} }}"
            );
        }
        let line = line(&place);
        let open = line.trim_end_matches(" }");
        format!("if {which} leads to {peer} alone, say so in interfaces, as in: {open}, peer: {peer} }}")
    }
}

/// Adds a time, or makes the last one longer.
fn add_time(times: &mut Vec<Uncovered>, interface: String, gap: TimeRange) {
    if let Some(last) = times.last_mut()
        && last.time.until_ns == Some(gap.from_ns)
    {
        last.time.until_ns = gap.until_ns;
        if last.interface != interface {
            last.interface = format!("{}, {interface}", last.interface);
        }
        return;
    }
    times.push(Uncovered { interface, time: gap });
}

/// Whether a link passes fewer hooks by one assessor than by another, and so passes none somewhere.
fn is_worse(link: Link, cut: CutLinks<'_>, one: &CoverageAssessor<'_>, other: &CoverageAssessor<'_>) -> bool {
    let assess = |assessor: &CoverageAssessor<'_>| assessor.assess_in(link, cut.links, cut.is_grouped).state;
    let state = assess(one);
    matches!(state, CoverageState::Not | CoverageState::Partly) && state > assess(other)
}
