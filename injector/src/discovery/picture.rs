//! The picture of what lies between peers at one time: each peer's paths, the exits of its home, and which
//! interfaces of ours are on them. Whether those are attached is asked later, for each instant. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::devices::bridge_of;
use super::homes::{self, Home, exits, is_elsewhere};
use super::local::LocalEnd;
use super::naming::{Ours, Sources};
use super::nat::{Router, Translation, routers, translations};
use super::places::{DevicePath, Found, Namespace, Place};
use super::space::Space;
use crate::netlink::Kind;
use crate::netlink::facts::Route;
use injector_core::config::{Config, ContainerRef};
use injector_core::identity::Identity;
use injector_core::model::PeerId;

/// A device that frames pass, and the interfaces of ours that see them there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// The devices at which a hook would see all of them, the best first.
    pub places: Vec<Place>,
    /// Interfaces of ours that see all of them.
    pub sure: Vec<u32>,
    /// Interfaces of ours that see some of them.
    pub maybe: Vec<u32>,
    /// The ones among `sure` that are the other end of a veth.
    pub host_ends: Vec<u32>,
    /// A device whose frames no hook can see, by name; such a passage has no places.
    pub blind: Option<String>,
    /// Interfaces of ours on devices below a macvlan: they see all of its frames but those between siblings.
    pub below: Vec<u32>,
    /// Whether other devices of its home carry its frames, within packets of their own.
    pub is_tunnel: bool,
    /// The namespace that holds the other end of a veth,
    pub far: Option<Space>,
    /// and the bridge that this end is a port of there, by its index.
    pub bridge: Option<u32>,
}

/// A peer's end of its links.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerEnd {
    /// Whether this daemon cuts its links.
    pub is_here: bool,
    /// The namespace that is its home.
    pub home: Option<Space>,
    /// Whether nothing of it is known to be elsewhere.
    pub is_whole: bool,
    /// The interfaces that are all of its ends by the config's word.
    pub words: Vec<u32>,
    /// Its known paths.
    pub paths: Vec<Passage>,
    /// Where it may be if nothing is known: a default route, a bridge's ports with unknown addresses.
    pub weak: Vec<Passage>,
    /// The interfaces that are bound to it alone.
    pub ports: Vec<u32>,
    /// Whether all that its port sends is its own, whatever the address.
    pub is_plain: bool,
    /// Its addresses, listed and held.
    pub addresses: Vec<IpAddr>,
    /// The addresses among them that the config does not list.
    pub unlisted: BTreeSet<IpAddr>,
    /// The container that it is, while nothing shows where that is: nothing names its frames then.
    pub away: Option<ContainerRef>,
}

/// The inside of a peer's home.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inside {
    /// The devices by which its frames leave.
    pub exits: Vec<Passage>,
    /// All devices, by index.
    pub devices: BTreeMap<u32, Passage>,
    /// The addresses that it has, by index.
    pub held: Vec<(u32, IpAddr)>,
    /// Its routes, networks on the link and default routes included.
    pub routes: Vec<Route>,
    /// The bridges of its own that hold an address.
    pub bridges: Vec<Place>,
    /// Devices that are no exits because the config leaves them out.
    pub left_out: Vec<Place>,
}

/// All that is seen at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// The ends of links, by peer.
    pub ends: BTreeMap<PeerId, PeerEnd>,
    /// The homes, by the names of their namespaces.
    pub homes: BTreeMap<Space, Inside>,
    /// The peers on this machine.
    pub locals: BTreeMap<PeerId, LocalEnd>,
    /// Rules that send packets on to peers, by other addresses than theirs.
    pub translations: Vec<Translation>,
    /// Namespaces that may replace the source of packets between peers.
    pub routers: Vec<Router>,
}

impl Picture {
    /// Whether an interface of ours is in it.
    pub fn has(&self, interface: u32) -> bool {
        let exits = self.homes.values().flat_map(|inside| &inside.exits);
        let mut passages = exits.chain(self.ends.values().flat_map(|end| end.paths.iter().chain(&end.weak)));
        passages.any(|passage| passage.sure.contains(&interface) || passage.maybe.contains(&interface))
    }
}

/// The facts that a picture is made from.
pub struct Seen<'a> {
    /// The config in force.
    pub config: &'a Config,
    /// The namespaces and their facts.
    pub namespaces: &'a [Namespace],
    /// The peers' homes.
    pub homes: &'a BTreeMap<PeerId, Home>,
    /// The peers' paths.
    pub found: &'a BTreeMap<PeerId, Found>,
    /// The facts that name the ends of frames.
    pub identity: &'a Identity,
    /// The interfaces of ours.
    pub ours: &'a [Ours<'a>],
}

impl Seen<'_> {
    /// The picture.
    pub fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        for home in self.homes.values() {
            let space = Space(self.namespaces[home.at].netns.clone());
            picture.homes.entry(space).or_insert_with(|| self.inside(home.at));
        }
        for peer in &self.config.peers {
            picture.ends.insert(peer.id, self.end(peer.id));
        }
        let Self { config, namespaces, homes, found, identity, ours } = *self;
        let sources = Sources { config, namespaces, homes, found };
        picture.translations = translations(&sources, identity, ours);
        picture.routers = routers(&sources, ours);
        picture
    }

    fn id(&self, place: &Place) -> Option<u32> {
        let is_there = |ours: &&Ours<'_>| ours.name == place.name && ours.netns == place.netns.as_ref();
        self.ours.iter().find(is_there).map(|ours| ours.id)
    }

    fn passage(&self, path: &DevicePath) -> Passage {
        let ids = |places: &[Place]| places.iter().filter_map(|place| self.id(place)).collect();
        Passage {
            places: path.places[..path.sure].to_vec(),
            sure: ids(&path.places[..path.sure]),
            maybe: ids(&path.places[path.sure..]),
            ..Passage::default()
        }
    }

    fn inside(&self, at: usize) -> Inside {
        let space = &self.namespaces[at];
        let exits = exits(self.config, self.namespaces, at);
        let left_out = homes::left_out(self.config, self.namespaces, at);
        let mut inside = Inside { held: space.facts.addresses.clone(), left_out, ..Inside::default() };
        for exit in &exits {
            let mut passage = self.passage(&exit.path());
            passage.host_ends.extend(exit.end.as_ref().and_then(|end| self.id(end)));
            passage.blind = exit.by.is_empty().then(|| exit.place.name.clone());
            (passage.far, passage.bridge) = self.far(exit.end.as_ref());
            passage.is_tunnel = space.facts.link(exit.index).is_some_and(|link| link.kind == Kind::Tunnel);
            inside.devices.insert(exit.index, passage.clone());
            inside.exits.push(passage);
        }
        for link in &space.facts.links {
            if inside.devices.contains_key(&link.index)
                || link.kind == Kind::Loopback
                || is_elsewhere(self.config, space, &link.name)
            {
                continue;
            }
            let place =
                |name: &str| Place { netns: space.netns.clone(), name: name.to_owned(), why: String::new() };
            // A VLAN's frames pass its parent, those of a bond or a bridge its ports.
            let mut passage =
                self.passage(&DevicePath { places: vec![place(&link.name)], sure: 1, is_own: true });
            if let Some(below) = link.below.and_then(|below| inside.devices.get(&below)) {
                passage.sure.extend(&below.sure);
                passage.places.extend(below.places.clone());
                (passage.far, passage.bridge) = (below.far.clone(), below.bridge);
            }
            let members = space.facts.links.iter().filter(|member| member.master == Some(link.index));
            let members: Vec<&Passage> =
                members.filter_map(|member| inside.devices.get(&member.index)).collect();
            if let [first, rest @ ..] = &members[..] {
                let all = first.sure.iter().filter(|id| rest.iter().all(|other| other.sure.contains(id)));
                passage.sure.extend(all.copied().collect::<Vec<_>>());
                passage.maybe.extend(members.iter().flat_map(|member| &member.sure));
            }
            inside.devices.insert(link.index, passage);
        }
        let below: Vec<Vec<u32>> =
            exits.iter().map(|exit| below(space, exit.index, &inside.devices)).collect();
        for (passage, below) in inside.exits.iter_mut().zip(below) {
            passage.below = below;
        }
        let has_address = |index: u32| space.facts.addresses.iter().any(|(held, _)| *held == index);
        let bridges =
            space.facts.links.iter().filter(|link| link.kind == Kind::Bridge && has_address(link.index));
        let place =
            |name: &str| Place { netns: space.netns.clone(), name: name.to_owned(), why: String::new() };
        inside.bridges.extend(bridges.map(|link| place(&link.name)));
        inside.routes.extend(&space.facts.routes);
        inside.routes.extend(&space.facts.defaults);
        let on_link =
            |(index, net): &(u32, ipnet::IpNet)| Route { net: net.trunc(), index: *index, gateway: None };
        inside.routes.extend(space.facts.networks.iter().map(on_link));
        inside
    }

    /// Where the other end of a veth is, and the bridge that it is a port of.
    fn far(&self, end: Option<&Place>) -> (Option<Space>, Option<u32>) {
        let Some(end) = end else { return (None, None) };
        let space = self.namespaces.iter().find(|space| space.netns == end.netns);
        let bridge = space.and_then(|space| {
            let link = space.facts.links.iter().find(|link| link.name == end.name)?;
            bridge_of(space, link)
        });
        (Some(Space(end.netns.clone())), bridge.map(|bridge| bridge.index))
    }

    fn end(&self, peer: PeerId) -> PeerEnd {
        let is_here = self.config.is_here(peer);
        let home = self.homes.get(&peer).filter(|_| is_here);
        let listed = self.config.peer(peer).map(|peer| peer.addresses.clone()).unwrap_or_default();
        let held = self.identity.held.iter().filter(|(_, holder)| **holder == peer);
        // The addresses of a container are all found, and none is listed.
        let is_found = self.config.peer(peer).is_some_and(|peer| peer.container.is_some());
        let none = Found::default();
        let found = self.found.get(&peer).filter(|_| is_here).unwrap_or(&none);
        let passages = |paths: &[DevicePath]| paths.iter().map(|path| self.passage(path)).collect();
        PeerEnd {
            is_here,
            home: home.map(|home| Space(self.namespaces[home.at].netns.clone())),
            is_whole: home.is_some_and(|home| home.is_whole),
            words: self.ours.iter().filter(|ours| ours.peer == Some(peer)).map(|ours| ours.id).collect(),
            paths: passages(&found.paths),
            weak: passages(&found.weak),
            ports: self
                .identity
                .ports
                .iter()
                .filter(|(_, port)| port.peer == peer && !port.is_shared)
                .map(|(id, _)| *id)
                .collect(),
            is_plain: self.identity.peers.get(&peer).is_some_and(|traits| traits.is_plain),
            unlisted: held
                .clone()
                .map(|(address, _)| *address)
                .filter(|address| !is_found && !listed.contains(address))
                .collect(),
            addresses: listed.into_iter().chain(held.map(|(address, _)| *address)).collect(),
            away: self.config.peer(peer).and_then(|peer| peer.container.clone()).filter(|_| home.is_none()),
        }
    }
}

/// The interfaces of ours on the devices below a macvlan.
fn below(space: &Namespace, mut index: u32, devices: &BTreeMap<u32, Passage>) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(link) = space.facts.link(index)
        && let Some(below) = link.below.filter(|_| link.kind == Kind::Macvlan && !link.is_below_away)
        && let Some(passage) = devices.get(&below)
    {
        all.extend(&passage.sure);
        index = below;
    }
    all
}
