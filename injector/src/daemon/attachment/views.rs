//! The interfaces and their coverage, as the API shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::entry::Entry;
use super::{CutLinks, Interfaces};
use crate::discovery::picture::Passage;
use crate::discovery::segments::{self, Nic, NicPair, NoPair};
use crate::netns::Identity;
use injector_core::api::{
    CoverageState, CoverageSummary, ExitView, LinkCoverageView, NameSource, NameView, PeerView, Uncovered,
};
use injector_core::clock::{MonoNs, TimeRange};
use injector_core::config::shown;
use injector_core::config::{Config, Interface, LocalBy, LocalPeer};
use injector_core::identity::{End, shown_mac};
use injector_core::model::{Link, PeerId};

/// Beyond this many peers, links are not judged one by one for `status`.
pub const MOST_PEERS: usize = 64;
/// How many links `status` names.
const MOST_LINKS: usize = 20;

impl Interfaces {
    /// The pairs of interfaces between which a link can be tried.
    ///
    /// # Errors
    /// Why there is no pair.
    pub fn nic_pairs(&self, config: &Config, link: Link) -> Result<Vec<NicPair>, NoPair> {
        if let Some((peer, _)) = config.local_peers().find(|(peer, _)| [link.src, link.dst].contains(peer)) {
            return Err(NoPair::Process(peer));
        }
        let home = |peer| self.homes.get(&peer).filter(|_| config.is_here(peer)).ok_or(NoPair::NoHome(peer));
        let (from, to) = (home(link.src)?, home(link.dst)?);
        if from.at == to.at {
            return Err(NoPair::OneHome);
        }
        let pairs = segments::pairs(config, &self.known, (from, to));
        if pairs.is_empty() { Err(NoPair::NoNic) } else { Ok(pairs) }
    }

    /// Addresses by which packets go from one interface of a pair to the other, if each has one that names its peer.
    pub fn pair_addresses(
        &self,
        config: &Config,
        link: Link,
        pair: (&Nic, &Nic),
    ) -> Option<(IpAddr, IpAddr)> {
        segments::addresses(&self.known, pair, |end, address| {
            let peer = if end == segments::End::Sender { link.src } else { link.dst };
            let named = config.owner(address).or(self.identity().held.get(&address).copied());
            named == Some(peer) && !self.identity().moved.contains_key(&address)
        })
    }

    /// Whether a peer lives in a namespace.
    pub fn is_home(&self, peer: PeerId, namespace: Identity) -> bool {
        let home = self.homes.get(&peer).map(|home| self.known[home.at].netns.as_ref());
        home.is_some_and(|netns| self.workers.identity(netns) == Some(namespace))
    }

    /// The times in which neither end of a link had a hook of ours, from an instant on, in the links' order.
    pub fn uncovered(&self, links: &[Link], from: MonoNs) -> Vec<Vec<Uncovered>> {
        // A peer may be an end of thousands of links.
        let peers: BTreeSet<PeerId> = links.iter().flat_map(|link| [link.src, link.dst]).collect();
        let by_peer: BTreeMap<PeerId, (String, Vec<TimeRange>)> =
            peers.into_iter().filter_map(|peer| Some((peer, self.gaps(peer)?))).collect();
        let of_link = |link: &Link| match (by_peer.get(&link.src), by_peer.get(&link.dst)) {
            (None, None) => Vec::new(),
            (Some((names, gaps)), None) | (None, Some((names, gaps))) => reported(names, gaps, from),
            (Some((a, src)), Some((b, dst))) => {
                let names = if a == b { a.clone() } else { format!("{a}, {b}") };
                reported(&names, &TimeRange::all_common(src, dst), from)
            }
        };
        links.iter().map(of_link).collect()
    }

    /// The times in which one of a peer's paths had no hook: all interfaces on it were without one. `None` if
    /// no path is known.
    fn gaps(&self, peer: PeerId) -> Option<(String, Vec<TimeRange>)> {
        let tracks = self.coverage.tracks(peer);
        if tracks.is_empty() {
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        let mut gaps = Vec::new();
        for track in tracks {
            let entries: Vec<&Entry> = track.interfaces.iter().filter_map(|id| self.entry(*id)).collect();
            let open = entries
                .iter()
                .fold(vec![track.time], |gaps, entry| TimeRange::all_common(&gaps, &entry.gaps));
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
        Some((names.join(", "), TimeRange::merged(gaps)))
    }

    /// A peer, with what its frames are named by.
    pub fn peer_view(&self, config: &Config, id: PeerId, closed: &BTreeSet<PeerId>) -> PeerView {
        let peer = config.peer(id);
        let traits = self.identity().peers.get(&id).copied().unwrap_or_default();
        let picture = self.eras.now();
        let home = picture.and_then(|picture| picture.ends.get(&id)?.home.clone());
        let local = picture.and_then(|picture| picture.locals.get(&id));
        let exits = home.as_ref().zip(picture).and_then(|(home, picture)| picture.homes.get(home));
        let addresses = peer.map(|peer| {
            let prefixes = peer.prefixes.iter().map(ToString::to_string);
            peer.addresses.iter().map(ToString::to_string).chain(prefixes).collect()
        });
        PeerView {
            addresses: addresses.unwrap_or_default(),
            mac: peer.and_then(|peer| peer.mac.as_ref()).map(|mac| shown_mac(*mac)),
            names: self.names(config, id),
            home: home.or_else(|| local.map(|end| end.space.clone())).map(|home| home.to_string()),
            exits: exits
                .map(|inside| inside.exits.iter().map(|exit| self.exit(exit)).collect())
                .unwrap_or_default(),
            is_closed: closed.contains(&id),
            is_here: config.is_here(id),
            // On lo, nobody forwards.
            is_plain: traits.is_plain || local.is_some(),
            forwards: traits.forwards,
        }
    }

    fn exit(&self, exit: &Passage) -> ExitView {
        let hook = exit.sure.iter().find_map(|id| {
            let entry = self.entry(*id).filter(|entry| entry.attachment.is_some())?;
            Some(shown(&entry.interface))
        });
        let interface = match (
            exit.places.iter().find(|place| place.why == crate::discovery::homes::LEAVES),
            &exit.blind,
        ) {
            (Some(place), _) => shown(&Interface::found(&place.name, place.netns.as_ref())),
            (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        };
        ExitView { interface, hook }
    }

    fn names(&self, config: &Config, id: PeerId) -> Vec<NameView> {
        let mut names = Vec::new();
        let mut add = |name: String, source: NameSource, from: Option<String>| {
            names.push(NameView { name, source, from });
        };
        if let Some(peer) = config.peer(id) {
            for address in &peer.addresses {
                let moved = self.identity().moved.get(address);
                let from = moved.map(|holder| format!("held by {} now", config.names.name(*holder)));
                add(address.to_string(), NameSource::Listed, from);
            }
            for prefix in &peer.prefixes {
                add(prefix.to_string(), NameSource::Listed, None);
            }
            let moved = self.identity().moved.iter();
            for (address, holder) in moved.filter(|(address, _)| {
                !peer.addresses.contains(address) && config.owner(**address) == Some(id)
            }) {
                let from = format!("held by {} now", config.names.name(*holder));
                add(address.to_string(), NameSource::Listed, Some(from));
            }
            if let Some(mac) = &peer.mac {
                add(shown_mac(*mac), NameSource::ListedMac, None);
            }
            for vip in &peer.vip {
                add(vip.to_string(), NameSource::Vip, None);
            }
            for listen in peer.local.iter().flat_map(LocalPeer::listens) {
                add(listen.to_string(), NameSource::Listens, None);
            }
            let by = peer.local.as_ref().map(|local| &local.by);
            if let Some(by @ (LocalBy::Cgroup(_) | LocalBy::Unit(_))) = by {
                add(by.to_string(), NameSource::Cgroup, None);
            }
        }
        if let Some(seen) = self.local().peers.get(&id) {
            for process in &seen.processes {
                add(process.to_string(), NameSource::Process, None);
            }
        }
        let device_of = |address: &IpAddr| {
            self.device(|facts| {
                facts.addresses.iter().find(|(_, held)| held == address).map(|(index, _)| *index)
            })
        };
        for (address, _) in self.identity().held.iter().filter(|(_, holder)| **holder == id) {
            add(address.to_string(), NameSource::Held, device_of(address));
        }
        for (address, _) in self.identity().private.iter().filter(|(_, holder)| **holder == id) {
            let from = device_of(address).map(|device| {
                format!("{device}, which nothing leaves by; anyone may have it too, so ports and MAC addresses say whose it is")
            });
            add(address.to_string(), NameSource::Held, from);
        }
        if let Some(home) = self.homes.get(&id).map(|home| &self.known[home.at]) {
            let is_shared = |(_, address): &&(u32, IpAddr)| self.identity().shared.contains_key(address);
            for (index, address) in home.facts.addresses.iter().filter(is_shared) {
                let Some(link) = home.facts.link(*index) else { continue };
                let device = shown(&Interface::found(&link.name, home.netns.as_ref()));
                let from = format!("{device}; someone else has it too, so ports say whose it is");
                add(address.to_string(), NameSource::Held, Some(from));
            }
        }
        for (mac, _) in self.identity().macs.iter().filter(|(_, holder)| **holder == id) {
            let from = self.device(|facts| {
                facts.links.iter().find(|link| link.mac == Some(*mac)).map(|link| link.index)
            });
            add(shown_mac(*mac), NameSource::Mac, from);
        }
        for (port, bound) in self.identity().ports.iter().filter(|(_, bound)| bound.peer == id) {
            let Some(entry) = self.entry(*port) else { continue };
            let end = match (bound.end, bound.is_shared) {
                (_, true) => "another peer is behind it too: it names no frame",
                (End::Own, _) => "the peer's own device",
                (End::Host, _) => "the other end of the peer's link",
            };
            add(shown(&entry.interface), NameSource::Port, Some(end.to_owned()));
        }
        names
    }

    /// The first device that something is true of.
    fn device(&self, find: impl Fn(&crate::netlink::facts::Facts) -> Option<u32>) -> Option<String> {
        self.known.iter().find_map(|space| {
            let link = space.facts.link(find(&space.facts)?)?;
            Some(shown(&Interface::found(&link.name, space.netns.as_ref())))
        })
    }

    /// Counts the links between all peers by their coverage now, each judged as a partition of its own.
    /// `None` with more than [`MOST_PEERS`] peers.
    pub fn coverage_summary(&self, config: &Config) -> Option<CoverageSummary> {
        let links = links_here(config)?;
        let cut = CutLinks { links: &links, is_grouped: false };
        let now = MonoNs::now();
        let found = self.coverage_of(&config.names, &links, cut, now, Some(now));
        Some(summed(config, links.into_iter().zip(found)))
    }

    /// Counts them by their coverage when a peer is isolated: of the two partitions that isolate an end of a link, the one that covers
    /// it less counts. `None` with more than [`MOST_PEERS`] peers.
    pub fn coverage_when_isolated(&self, config: &Config) -> Option<CoverageSummary> {
        let links = links_here(config)?;
        let now = MonoNs::now();
        let mut worst: BTreeMap<Link, super::LinkCoverage> = BTreeMap::new();
        for peer in config.names.peers().filter(|peer| config.is_here(*peer)) {
            let own = |link: &&Link| link.src == peer || link.dst == peer;
            let cut: Vec<Link> = links.iter().filter(own).copied().collect();
            let asked = CutLinks { links: &cut, is_grouped: true };
            for (link, found) in cut.iter().zip(self.coverage_of(&config.names, &cut, asked, now, Some(now)))
            {
                if worst.get(link).is_none_or(|known| known.state < found.state) {
                    worst.insert(*link, found);
                }
            }
        }
        Some(summed(config, worst))
    }

    /// Logs, in one line, what is not known to be covered.
    pub(super) fn log_coverage(&self, config: &Config) {
        let Some(summary) = self.coverage_summary(config) else { return };
        let all = summary.covered + summary.unknown + summary.partly + summary.not;
        if all > summary.covered {
            tracing::warn!("coverage: {summary}");
        }
    }
}

/// The links between all peers with an end here; `None` with more than [`MOST_PEERS`] peers.
fn links_here(config: &Config) -> Option<Vec<Link>> {
    let peers: Vec<PeerId> = config.names.peers().collect();
    if peers.len() > MOST_PEERS {
        return None;
    }
    let pairs = peers.iter().flat_map(|src| peers.iter().map(move |dst| Link { src: *src, dst: *dst }));
    let is_here =
        |link: &Link| link.src != link.dst && (config.is_here(link.src) || config.is_here(link.dst));
    Some(pairs.filter(is_here).collect())
}

/// Counts links by their coverage.
fn summed(config: &Config, found: impl IntoIterator<Item = (Link, super::LinkCoverage)>) -> CoverageSummary {
    let mut summary = CoverageSummary::default();
    for (link, found) in found {
        *match found.state {
            CoverageState::Covered => &mut summary.covered,
            CoverageState::Unknown => &mut summary.unknown,
            CoverageState::Partly => &mut summary.partly,
            CoverageState::Not => &mut summary.not,
        } += 1;
        if found.state != CoverageState::Covered && summary.links.len() < MOST_LINKS {
            summary.links.push(found.view(&config.names, link));
        }
    }
    summary.links.sort_by_key(|link| std::cmp::Reverse(link.state));
    summary
}

impl super::LinkCoverage {
    /// The coverage of a link, as the API shows it.
    pub fn view(&self, names: &injector_core::model::PeerNames, link: Link) -> LinkCoverageView {
        LinkCoverageView {
            src: names.name(link.src).to_owned(),
            dst: names.name(link.dst).to_owned(),
            state: self.state,
            reason: Some(self.reason.clone()),
            remedy: self.remedy.clone(),
        }
    }
}

fn reported(names: &str, gaps: &[TimeRange], from: MonoNs) -> Vec<Uncovered> {
    gaps.iter()
        .filter(|gap| gap.until_ns.is_none_or(|until| until > from))
        .map(|gap| Uncovered { interface: names.to_owned(), time: *gap })
        .collect()
}
