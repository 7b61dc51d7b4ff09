//! Whether our hooks lie on a link's paths, from a picture and from which interfaces are attached. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::local::Doubt;
use super::picture::{Passage, PeerEnd, Picture};
use super::places::Place;
use super::space::Space;
use injector_core::api::CoverageState;
use injector_core::config::ContainerRef;
use injector_core::model::{Link, PeerId};

mod detour;
mod rewrite;

pub use rewrite::{Detour, Rewrite, SourceRule};

/// The coverage of a link's paths at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAssessment {
    /// The coverage.
    pub state: CoverageState,
    /// Why.
    pub reason: Reason,
}

impl LinkAssessment {
    /// Whether rules of NAT are why it is unknown: a drop by one of a peer's addresses says nothing of packets by another. Where
    /// another daemon answers for the far end, a drop is all that this one can show.
    pub fn is_translated(&self) -> bool {
        let Reason::Translated(detour) = &self.reason else { return false };
        self.state == CoverageState::Unknown && !detour.is_elsewhere
    }
}

/// Why a link is covered, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All devices of this peer are hooked.
    Closed(PeerId),
    /// Both peers live in one namespace: their frames go over `lo`.
    HostMates(Space),
    /// Nothing shows where either peer is.
    NoWay,
    /// No path of either peer passes a hook; the places where hooks could be.
    NoHook(Vec<Place>),
    /// All that is known of both is that they are behind one interface, by its id.
    SameHook(u32),
    /// For this address, neither the sender's nor the receiver's device is hooked; where hooks could be.
    Path(Option<IpAddr>, Vec<Place>),
    /// A device whose frames no hook of ours can judge is a path of theirs.
    Blind(String),
    /// The receiver of group frames is not known by a port of its own; bridges in its home whose hook would be one, and the
    /// interface that its only path passes.
    Group(PeerId, Vec<Place>, Option<u32>),
    /// A program of others on another device may redirect past this interface's egress hook.
    Redirect(u32),
    /// All known paths are hooked, and neither end is closed.
    Open,
    /// Both peers are on this machine, and their sockets name what goes over this namespace's loopback
    /// device.
    Loopback(Space),
    /// At least one of the two is on this machine, and not all that the two send to each other can be named.
    Local(LocalFault),
    /// Either peer is a container that was not found yet, or has ended; which.
    Away(PeerId, ContainerRef),
    /// Packets between them carry another address where hooks see them.
    Translated(Box<Detour>),
}

/// Why frames of a peer on this machine can't all be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalFault {
    /// Both peers are on this machine, in different namespaces.
    Apart,
    /// The other one is not on this machine, or not known by its sockets; the one that is.
    Elsewhere(PeerId),
    /// The other one is the world, which this one reaches over other devices too.
    World(PeerId),
    /// Our program is not on the loopback device.
    NoHook(Space),
    /// Not all of a peer's sockets are known.
    Doubt(PeerId, Doubt),
}

/// The instant at which links are assessed.
pub struct CoverageAssessor<'a> {
    picture: &'a Picture,
    hooked: &'a BTreeSet<u32>,
    bypassed: &'a BTreeSet<u32>,
    closed: BTreeMap<PeerId, Closure>,
}

/// Whether all devices of an end are hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closure {
    /// All devices are hooked.
    Closed,
    /// All devices are hooked, except for this host end of a veth, past which others may redirect.
    Bypassed(u32),
    /// Some devices are not hooked, or not all are known.
    Open,
}

static NOTHING: PeerEnd = PeerEnd {
    is_here: false,
    home: None,
    is_whole: false,
    words: Vec::new(),
    paths: Vec::new(),
    weak: Vec::new(),
    ports: Vec::new(),
    is_plain: false,
    addresses: Vec::new(),
    unlisted: BTreeSet::new(),
    away: None,
};

impl<'a> CoverageAssessor<'a> {
    /// Assesses with the interfaces that are hooked, and the host ends past which programs of others may
    /// redirect.
    pub fn new(picture: &'a Picture, hooked: &'a BTreeSet<u32>, bypassed: &'a BTreeSet<u32>) -> Self {
        let mut assessor = Self { picture, hooked, bypassed, closed: BTreeMap::new() };
        assessor.closed = picture.ends.iter().map(|(peer, end)| (*peer, assessor.closure(end))).collect();
        assessor
    }

    /// Whether all devices of a peer are hooked.
    pub fn closed(&self, peer: PeerId) -> Closure {
        self.closed.get(&peer).copied().unwrap_or(Closure::Open)
    }

    fn is_hooked(&self, passage: &Passage) -> bool {
        passage.sure.iter().any(|id| self.hooked.contains(id))
    }

    fn is_open(&self, passage: &Passage) -> bool {
        !passage.sure.iter().chain(&passage.maybe).any(|id| self.hooked.contains(id))
    }

    fn closure(&self, end: &PeerEnd) -> Closure {
        if !end.words.is_empty() && end.words.iter().all(|id| self.hooked.contains(id)) {
            return self.bypass(end.words.iter().copied()).map_or(Closure::Closed, Closure::Bypassed);
        }
        let Some(inside) = end.home.as_ref().and_then(|home| self.picture.homes.get(home)) else {
            return Closure::Open;
        };
        let is_closed = end.is_whole
            && inside.exits.iter().all(|exit| self.is_hooked(exit))
            && end.paths.iter().all(|path| self.is_hooked(path));
        if !is_closed {
            return Closure::Open;
        }
        let by_host_end = inside.exits.iter().filter_map(|exit| {
            let hooked: Vec<u32> = exit.sure.iter().copied().filter(|id| self.hooked.contains(id)).collect();
            let is_only_end = hooked.iter().all(|id| exit.host_ends.contains(id));
            is_only_end.then_some(hooked)
        });
        self.bypass(by_host_end.flatten()).map_or(Closure::Closed, Closure::Bypassed)
    }

    fn bypass(&self, mut host_ends: impl Iterator<Item = u32>) -> Option<u32> {
        host_ends.find(|id| self.bypassed.contains(id))
    }

    fn end(&self, peer: PeerId) -> &'a PeerEnd {
        self.picture.ends.get(&peer).unwrap_or(&NOTHING)
    }

    /// Assesses a link, without what belongs to a partition as a whole.
    pub fn assess(&self, link: Link) -> LinkAssessment {
        self.assess_with(link, &[])
    }

    /// Assesses a link while these are cut, sorted.
    fn assess_with(&self, link: Link, cut: &[Link]) -> LinkAssessment {
        if let Some(assessment) = self.local(link) {
            return assessment;
        }
        let untranslated = self.untranslated(link);
        if untranslated.state > CoverageState::Unknown {
            return untranslated;
        }
        match self.detour(link, cut) {
            Some(detour)
                if untranslated.state == CoverageState::Covered || detour.state >= untranslated.state =>
            {
                detour
            }
            _ => untranslated,
        }
    }

    /// Assesses a link, as if all packets kept their addresses on their way.
    fn untranslated(&self, link: Link) -> LinkAssessment {
        let assessment = |state, reason| LinkAssessment { state, reason };
        let (src, dst) = (self.end(link.src), self.end(link.dst));
        for (peer, end) in [(link.src, src), (link.dst, dst)] {
            if let Some(container) = &end.away {
                // The other end's hooks see its frames, and don't know whose they are.
                return assessment(CoverageState::Not, Reason::Away(peer, container.clone()));
            }
        }
        if let (Some(a), Some(b)) = (&src.home, &dst.home)
            && a == b
        {
            return assessment(CoverageState::Not, Reason::HostMates(a.clone()));
        }
        let closures = [link.src, link.dst].map(|peer| (peer, self.closed(peer)));
        if let Some((peer, _)) = closures.iter().find(|(_, closure)| *closure == Closure::Closed) {
            return assessment(CoverageState::Covered, Reason::Closed(*peer));
        }
        if let Some(id) = closures.iter().find_map(|(_, closure)| match closure {
            Closure::Bypassed(id) => Some(*id),
            _ => None,
        }) {
            return assessment(CoverageState::Partly, Reason::Redirect(id));
        }
        let paths: Vec<&Passage> = self.known(src).into_iter().chain(self.known(dst)).collect();
        if paths.is_empty() {
            return assessment(CoverageState::Not, Reason::NoWay);
        }
        if paths.iter().all(|path| self.is_open(path)) {
            return assessment(CoverageState::Not, no_hook(&paths));
        }
        if let Some(id) = self.same_hook(link, src, dst) {
            return assessment(CoverageState::Not, Reason::SameHook(id));
        }
        if let Some(reason) = self.open_path(link.src, src, dst) {
            return assessment(CoverageState::Partly, reason);
        }
        assessment(CoverageState::Unknown, Reason::Open)
    }

    /// Whether a peer is on this machine, and all its frames to others there are named.
    pub fn is_local_closed(&self, peer: PeerId) -> bool {
        let end = self.picture.locals.get(&peer).filter(|end| end.doubt.is_none());
        end.and_then(|end| end.loopback).is_some_and(|id| self.hooked.contains(&id))
    }

    /// Assesses a link with an end on this machine; `None` for others.
    fn local(&self, link: Link) -> Option<LinkAssessment> {
        let ends = [link.src, link.dst].map(|peer| (peer, self.picture.locals.get(&peer)));
        let not = |fault| Some(LinkAssessment { state: CoverageState::Not, reason: Reason::Local(fault) });
        let (one, other) = match ends {
            [(_, None), (_, None)] => return None,
            [(peer, Some(_)), (other, None)] | [(other, None), (peer, Some(_))] => {
                if other != PeerId::WORLD {
                    return not(LocalFault::Elsewhere(peer));
                }
                let reason = Reason::Local(LocalFault::World(peer));
                return Some(LinkAssessment { state: CoverageState::Partly, reason });
            }
            [(_, Some(one)), (_, Some(other))] => (one, other),
        };
        if one.space != other.space {
            return not(LocalFault::Apart);
        }
        if !one.loopback.is_some_and(|id| self.hooked.contains(&id)) {
            return not(LocalFault::NoHook(one.space.clone()));
        }
        let doubtful = ends.into_iter().find_map(|(peer, end)| Some((peer, end?.doubt.clone()?)));
        if let Some((peer, why)) = doubtful {
            return not(LocalFault::Doubt(peer, why));
        }
        Some(LinkAssessment { state: CoverageState::Covered, reason: Reason::Loopback(one.space.clone()) })
    }

    /// Assesses a link of a partition that cuts these links, sorted; `is_grouped` is whether group frames are cut too.
    pub fn assess_in(&self, link: Link, cut: &[Link], is_grouped: bool) -> LinkAssessment {
        let assessment = self.assess_with(link, cut);
        if self.picture.locals.contains_key(&link.src) || self.picture.locals.contains_key(&link.dst) {
            return assessment;
        }
        let is_fair = matches!(assessment.state, CoverageState::Covered | CoverageState::Unknown);
        let is_partial = || {
            let first = cut.partition_point(|other| other.src < link.src);
            let mine = &cut[first..cut.partition_point(|other| other.src <= link.src)];
            let to_world = mine.iter().take(1).filter(|link| link.dst == PeerId::WORLD).count();
            mine.len() - to_world < self.picture.ends.len() - 1
        };
        let dst = self.end(link.dst);
        let has_port = |end: &PeerEnd| end.ports.iter().any(|id| self.hooked.contains(id));
        // Only the sender's own port drops what it sends to all.
        let src = self.end(link.src);
        let is_unnamed = || assessment.state == CoverageState::Covered && src.is_here && !has_port(src);
        let may_pass = is_grouped && is_fair && dst.is_here && link.src != PeerId::WORLD;
        let cables = if may_pass { self.unnamed_cables(src, dst) } else { Vec::new() };
        let passes = may_pass && (!has_port(dst) || !cables.is_empty());
        if passes && (is_partial() || is_unnamed()) {
            let home = dst.home.as_ref().and_then(|home| self.picture.homes.get(home));
            let mut bridges = home.map(|inside| inside.bridges.clone()).unwrap_or_default();
            if !cables.is_empty() {
                bridges = cables;
            }
            let only = match &dst.paths[..] {
                [path] => path.sure.iter().copied().find(|id| self.hooked.contains(id)),
                _ => None,
            };
            return LinkAssessment {
                state: CoverageState::Partly,
                reason: Reason::Group(link.dst, bridges, only),
            };
        }
        assessment
    }

    /// The receiver's own NICs on cables to the sender that are not hooked as its ports: the sender's NICs at their other ends do
    /// not name who receives.
    fn unnamed_cables(&self, src: &'a PeerEnd, dst: &'a PeerEnd) -> Vec<Place> {
        let inside = |end: &'a PeerEnd| end.home.as_ref().and_then(|home| self.picture.homes.get(home));
        let (Some(from), Some(to)) = (inside(src), inside(dst)) else { return Vec::new() };
        let is_cable = |exit: &Passage, other: &PeerEnd| {
            exit.places.len() == 2 && exit.far == other.home && exit.bridge.is_none()
        };
        let leads_out =
            |of: &super::picture::Inside, other: &PeerEnd| of.exits.iter().any(|exit| exit.far != other.home);
        // One that is behind the other is named by that one's end, too.
        if leads_out(from, dst) != leads_out(to, src) {
            return Vec::new();
        }
        let is_named =
            |exit: &Passage| exit.sure.iter().any(|id| self.hooked.contains(id) && dst.ports.contains(id));
        let cables = to.exits.iter().filter(|exit| is_cable(exit, src) && !is_named(exit));
        cables.filter_map(|exit| exit.places.first().cloned()).collect()
    }

    /// Whether an interface of ours is on a path of one of a link's ends.
    pub fn involves(&self, link: Link, id: u32) -> bool {
        let is_loopback = |peer| self.picture.locals.get(peer).is_some_and(|end| end.loopback == Some(id));
        if [link.src, link.dst].iter().any(is_loopback) {
            return true;
        }
        [link.src, link.dst].into_iter().map(|peer| self.end(peer)).any(|end| {
            let passages = self.known(end);
            let on_path = passages.iter().any(|path| path.sure.contains(&id) || path.maybe.contains(&id));
            on_path || end.words.contains(&id) || end.ports.contains(&id)
        })
    }

    /// The interfaces of ours that are an end of a link by the config's word or by proof, and have no hook now.
    pub fn unhooked(&self, link: Link) -> Vec<u32> {
        let ends = [link.src, link.dst].map(|peer| self.end(peer));
        let all = ends.iter().flat_map(|end| end.words.iter().chain(&end.ports)).copied();
        all.filter(|id| !self.hooked.contains(id)).collect::<BTreeSet<u32>>().into_iter().collect()
    }

    /// An end's paths: those by which its home is left, else those that are known, else where it may be.
    fn known(&self, end: &'a PeerEnd) -> Vec<&'a Passage> {
        let inside = end.home.as_ref().and_then(|home| self.picture.homes.get(home));
        let mut known: Vec<&Passage> = end.paths.iter().collect();
        known.extend(inside.iter().flat_map(|inside| &inside.exits));
        if known.is_empty() {
            known.extend(&end.weak);
        }
        known
    }

    /// The one interface behind which both ends are, if that is all that is known: what one sends to the other need
    /// not pass it.
    fn same_hook(&self, link: Link, src: &'a PeerEnd, dst: &'a PeerEnd) -> Option<u32> {
        if link.src == PeerId::WORLD || link.dst == PeerId::WORLD || src.home.is_some() || dst.home.is_some()
        {
            return None;
        }
        let hooks = |end: &'a PeerEnd| -> BTreeSet<u32> {
            let known = self.known(end).into_iter();
            known.flat_map(|path| &path.sure).copied().filter(|id| self.hooked.contains(id)).collect()
        };
        let (a, b) = (hooks(src), hooks(dst));
        let only = a.first().copied().filter(|_| a.len() == 1 && a == b)?;
        let is_all = self.known(src).into_iter().chain(self.known(dst)).all(|path| self.is_hooked(path));
        is_all.then_some(only)
    }

    /// A path by which neither end's device is hooked.
    fn open_path(&self, sender: PeerId, src: &'a PeerEnd, dst: &'a PeerEnd) -> Option<Reason> {
        let inside = |end: &PeerEnd| end.home.as_ref().and_then(|home| self.picture.homes.get(home));
        let (from, to) = (inside(src), inside(dst));
        let open = |paths: Vec<&'a Passage>| -> Vec<&'a Passage> {
            paths.into_iter().filter(|path| self.is_open(path)).collect()
        };
        let addresses: Vec<Option<IpAddr>> = if dst.addresses.is_empty() {
            vec![None]
        } else {
            dst.addresses.iter().copied().map(Some).collect()
        };
        for address in addresses {
            if let (Some(from), Some(address)) = (from, address)
                && from.held.iter().any(|(_, held)| *held == address)
            {
                continue;
            }
            let out: Option<Vec<&Passage>> = match (from, address) {
                (Some(from), Some(address)) => Some(from.routes_to(address)),
                _ if src.home.is_none() && src.paths.is_empty() && src.weak.is_empty() => None,
                _ => Some(self.known(src)),
            };
            let into: Option<Vec<&Passage>> = match (to, address) {
                (Some(to), Some(address)) if to.holds(address) => Some(to.devices_with(address)),
                _ if dst.home.is_none() && dst.paths.is_empty() && dst.weak.is_empty() => None,
                _ => Some(self.known(dst)),
            };
            // A peer whose location is not known has no known way to an address that the config does not
            // list, such as that of a management NIC; the world has one.
            let is_unlisted = address.is_some_and(|address| dst.unlisted.contains(&address));
            if out.is_none() && is_unlisted && sender != PeerId::WORLD {
                continue;
            }
            // An end that nothing is known of has no hook.
            let out = out.map(open);
            let into = into.map(open);
            // An address is answered for on every device: where its packets arrive, the sender's route decides.
            if let (Some(to), Some(paths), true) = (to, &out, from.is_some()) {
                let direct: Vec<&Passage> =
                    paths.iter().copied().filter(|path| self.ends_in(path, dst, to)).collect();
                if let Reason::NoHook(places) = no_hook(&direct)
                    && !direct.is_empty()
                {
                    return Some(Reason::Path(address, places));
                }
            }
            let is_open =
                |paths: &Option<Vec<&Passage>>| paths.as_ref().is_none_or(|paths| !paths.is_empty());
            if is_open(&out) && is_open(&into) {
                let paths: Vec<&Passage> = out.into_iter().chain(into).flatten().collect();
                return Some(match no_hook(&paths) {
                    Reason::NoHook(places) => Reason::Path(address, places),
                    other => other,
                });
            }
        }
        None
    }
}

impl CoverageAssessor<'_> {
    /// Whether frames that leave by a path arrive at a peer's home without a hook: the other end of its veth
    /// is there, or that end is a port of a bridge to which an unhooked device of that home is joined too.
    fn ends_in(&self, path: &Passage, dst: &PeerEnd, to: &super::picture::Inside) -> bool {
        let is_there = path.far.is_some() && path.far == dst.home;
        let is_on_its_bridge = path.bridge.is_some()
            && to
                .exits
                .iter()
                .any(|exit| (&exit.far, exit.bridge) == (&path.far, path.bridge) && self.is_open(exit));
        is_there || is_on_its_bridge
    }
}

/// The places where hooks could be, or the device that takes none.
fn no_hook(paths: &[&Passage]) -> Reason {
    if let Some(blind) = paths.iter().find_map(|path| path.blind.clone()) {
        return Reason::Blind(blind);
    }
    let mut places: Vec<Place> = Vec::new();
    for place in paths.iter().flat_map(|path| &path.places) {
        if !places.iter().any(|known| known.is(place)) {
            places.push(place.clone());
        }
    }
    Reason::NoHook(places)
}

impl super::picture::Inside {
    /// The devices by which a packet to an address leaves.
    fn routes_to(&self, address: IpAddr) -> Vec<&Passage> {
        let leads = || self.routes.iter().filter(|route| route.net.contains(&address));
        let Some(longest) = leads().map(|route| route.net.prefix_len()).max() else { return Vec::new() };
        let best = leads().filter(|route| route.net.prefix_len() == longest);
        best.filter_map(|route| self.devices.get(&route.index)).collect()
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.held.iter().any(|(_, held)| *held == address)
    }

    /// The devices that have an address; all exits, if it is on a device that carries nothing.
    fn devices_with(&self, address: IpAddr) -> Vec<&Passage> {
        let having = self.held.iter().filter(|(_, held)| *held == address);
        let devices: Vec<&Passage> = having.filter_map(|(index, _)| self.devices.get(index)).collect();
        // A device that carries nothing is none of them.
        if devices.is_empty() { self.exits.iter().collect() } else { devices }
    }
}

#[cfg(test)]
mod tests;
