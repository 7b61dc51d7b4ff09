//! Where the peers live: from what every namespace knows to the interfaces that a peer's packets pass, the nearest
//! to the peer first. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::devices::{Spot, other_end, usable};
use super::homes::{Home, exits, is_place_elsewhere, resident};
use super::places::{DevicePath, Found, Namespace, Place};
use crate::netlink::Kind;
use crate::netlink::facts::Route;
use injector_core::config::{Config, Peer};
use injector_core::model::PeerId;

type Mac = [u8; 6];

/// Where each peer lives.
///
/// For each of its addresses: first its own NIC (the device that holds it, be it a VLAN, a bond or a bridge: not what
/// is below), and the other end of that veth; else the bridge port behind which its MAC was learned; else the devices
/// at which it is a neighbour; last those that routes lead to. A device that holds a peer's address is that peer's NIC:
/// its neighbours and routes say nothing, since all others are behind it. An address that another peer's home holds is that
/// one's for now: it leads nowhere else.
pub fn survey(
    config: &Config,
    namespaces: &[Namespace],
    homes: &BTreeMap<PeerId, Home>,
) -> BTreeMap<PeerId, Found> {
    let mut nics = BTreeSet::new();
    for (at, space) in namespaces.iter().enumerate() {
        let held = space.facts.addresses.iter().filter(|(_, address)| config.owner(*address).is_some());
        nics.extend(held.map(|(index, _)| (at, *index)));
    }
    let contained = config.containers().filter_map(|(peer, _)| Some(homes.get(&peer)?.at));
    nics.extend(contained.flat_map(|at| namespaces[at].facts.links.iter().map(move |link| (at, link.index))));
    let of = |peer| Search { config, namespaces, homes, nics: &nics, peer, found: Found::default() }.run();
    // Peers on this machine have no path of their own.
    let peers = config.peers.iter().filter(|peer| peer.local.is_none());
    let mut found: BTreeMap<PeerId, Found> = peers.map(|peer| (peer.id, of(peer))).collect();
    weak::add(config, namespaces, &mut found);
    found
}

struct Search<'a> {
    config: &'a Config,
    namespaces: &'a [Namespace],
    homes: &'a BTreeMap<PeerId, Home>,
    /// The devices that hold a peer's address, by namespace and index.
    nics: &'a BTreeSet<(usize, u32)>,
    peer: &'a Peer,
    found: Found,
}

impl<'a> Search<'a> {
    fn run(mut self) -> Found {
        if let Some(tap) = &self.peer.tap {
            let is_it = |(at, link): &Spot<'a>| self.namespaces[*at].has(tap, &link.name);
            let spot = self.links().find(is_it);
            if let Some(spot) = spot {
                let places = vec![self.place(spot, "the config says that its VM is behind it".to_owned())];
                self.add(DevicePath { places, sure: 1, is_own: true });
                // Every other way to the peer leads through its tap.
                return self.found;
            }
        }
        if let Some(container) = &self.peer.container {
            // The addresses of a container are found in its home, and it has no other paths.
            match self.homes.get(&self.peer.id) {
                Some(home) => {
                    let exits = exits(self.config, self.namespaces, home.at);
                    exits.iter().filter(|exit| !exit.by.is_empty()).for_each(|exit| self.add(exit.path()));
                }
                None => self.found.missing.push(format!("container {container}: it does not run")),
            }
            return self.found;
        }
        for address in self.addresses() {
            if let Err(missing) = self.address(address)
                && self.peer.addresses.contains(&address)
            {
                self.found.missing.push(missing);
            }
        }
        for prefix in &self.peer.prefixes {
            let has_member = self.addresses().iter().any(|address| prefix.contains(address));
            if !self.prefix(*prefix) && !has_member {
                self.found
                    .missing
                    .push(format!("{prefix}: no route leads to it, and none of it is a neighbour"));
            }
        }
        if let Some(mac) = self.peer.mac
            && !self.mac(mac)
            && self.found.paths.is_empty()
            && self.found.missing.is_empty()
        {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            self.found.missing.push(format!(
                "{mac}: no interface has it, no bridge port has learned it, and it is no neighbour"
            ));
        }
        if self.found.paths.is_empty() {
            self.weak();
        }
        self.found
    }

    /// Adds the paths of default routes, for a peer that nothing else is known of.
    fn weak(&mut self) {
        let mut defaults = Vec::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            // A peer's own default route leads away from it.
            let is_home = self.nics.iter().any(|(nic, _)| *nic == at);
            if !is_home {
                defaults.extend(space.facts.defaults.iter().map(|route| (at, *route)));
            }
        }
        self.routes(defaults);
        self.found.weak = std::mem::take(&mut self.found.paths);
    }

    /// The peer's addresses: those of the config, and what is known of its prefixes.
    fn addresses(&self) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeSet<IpAddr> = self.peer.addresses.iter().copied().collect();
        if !self.peer.prefixes.is_empty() {
            for space in self.namespaces {
                let held = space.facts.addresses.iter().map(|(_, address)| *address);
                let seen = space.facts.neighbours.iter().map(|(_, address, _)| *address);
                let mine = |address: &IpAddr| self.config.owner(*address) == Some(self.peer.id);
                addresses.extend(held.chain(seen).filter(mine));
            }
        }
        addresses
    }

    fn add(&mut self, path: DevicePath) {
        let is_left_out = |place: &Place| is_place_elsewhere(self.config, self.namespaces, place);
        if path.places[..path.sure].iter().any(is_left_out) {
            return;
        }
        let is_same = |known: &DevicePath| {
            known.places.len() == path.places.len()
                && known.places.iter().zip(&path.places).all(|(known, place)| known.is(place))
        };
        if !self.found.paths.iter().any(is_same) {
            self.found.paths.push(path);
        }
    }

    fn links(&self) -> impl Iterator<Item = Spot<'a>> + use<'a> {
        self.namespaces.iter().enumerate().flat_map(|(at, space)| {
            space.facts.links.iter().filter(|link| usable(link)).map(move |link| (at, link))
        })
    }

    fn place(&self, (at, link): Spot<'_>, why: String) -> Place {
        Place { netns: self.namespaces[at].netns.clone(), name: link.name.clone(), why }
    }

    /// The path from a device on: what is below it, the other end of a veth, and bridge ports that know its MAC.
    fn path(&self, spot: Spot<'a>, why: String) -> DevicePath {
        let mut places = vec![self.place(spot, why)];
        let mut last = spot;
        while let Some(next) = self.below(last) {
            if places.len() > 8 {
                break;
            }
            places.push(self.place(next, format!("it carries {}", last.1.name)));
            last = next;
        }
        if let Some(end) = other_end(self.namespaces, last) {
            places.push(self.place(end, format!("it is the other end of {}", last.1.name)));
        }
        let sure = places.len();
        let ports = last.1.mac.map_or_else(Vec::new, |mac| self.ports(mac));
        places.extend(ports.into_iter().map(|port| self.place(port, LEARNED.to_owned())));
        let mut seen: Vec<Place> = Vec::new();
        places.retain(|place| {
            let is_new = !seen.iter().any(|known| known.is(place));
            seen.push(place.clone());
            is_new
        });
        DevicePath { sure: sure.min(places.len()), places, is_own: false }
    }

    /// The device that all frames of this one pass too.
    fn below(&self, (at, link): Spot<'a>) -> Option<Spot<'a>> {
        let below = link.below.filter(|_| link.kind == Kind::Vlan && !link.is_below_away)?;
        self.namespaces[at].facts.link(below).filter(|link| usable(link)).map(|below| (at, below))
    }

    /// The bridge ports behind which a MAC was learned, the nearest first: fewest others are behind that one.
    fn ports(&self, mac: Mac) -> Vec<Spot<'a>> {
        let mut found = Vec::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            for (_, port) in space.facts.ports.iter().filter(|(learned, _)| *learned == mac) {
                let behind: BTreeSet<&Mac> =
                    space.facts.ports.iter().filter(|(_, other)| other == port).map(|(mac, _)| mac).collect();
                if let Some(link) = space.facts.link(*port).filter(|link| usable(link)) {
                    let is_node = self.nics.iter().any(|(nic, _)| *nic == at);
                    found.push(((is_node, behind.len(), at, *port), (at, link)));
                }
            }
        }
        found.sort_by_key(|(rank, _)| *rank);
        found.dedup_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, spot)| spot).collect()
    }

    /// The path from the bridge port that is nearest to a MAC.
    fn path_by_port(&self, mac: Mac, why: &str) -> Option<DevicePath> {
        let ports = self.ports(mac);
        let places: Vec<Place> = ports.iter().map(|port| self.place(*port, why.to_owned())).collect();
        (!places.is_empty()).then_some(DevicePath { places, sure: 1, is_own: false })
    }

    /// Finds the paths of one address; why there are none.
    fn address(&mut self, address: IpAddr) -> Result<(), String> {
        if self.own(address) || self.has_moved(address) {
            return Ok(());
        }
        // Where it is a neighbour, and with which MAC; where that says nothing of its place, the MAC still does.
        let mut neighbours: Vec<(Spot<'a>, Mac)> = Vec::new();
        let mut macs: BTreeSet<Mac> = BTreeSet::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            for (index, _, mac) in space.facts.neighbours.iter().filter(|(_, known, _)| *known == address) {
                macs.insert(*mac);
                if let Some(link) = space.facts.link(*index).filter(|link| usable(link))
                    && !self.nics.contains(&(at, link.index))
                {
                    neighbours.push(((at, link), *mac));
                }
            }
        }
        let is_led_to = |(at, link): &Spot<'a>| {
            self.routes_to(*at, |net| net.contains(&address)).any(|route| route.index == link.index)
        };
        let mut paths: Vec<(bool, DevicePath)> = Vec::new();
        for mac in &macs {
            let is_led = neighbours.iter().any(|(spot, known)| known == mac && is_led_to(spot));
            paths.extend(self.path_by_port(*mac, LEARNED).map(|path| (is_led, path)));
        }
        let direct = neighbours
            .iter()
            .filter(|((_, link), mac)| link.kind != Kind::Bridge && self.ports(*mac).is_empty());
        for spot in self.nearest(direct.map(|(spot, _)| *spot).collect()) {
            paths.push((is_led_to(&spot), self.path(spot, format!("{address} is its neighbour"))));
        }
        let bridge = neighbours.iter().find(|((_, link), _)| link.kind == Kind::Bridge);
        if !paths.is_empty() {
            // A peer that moved is still listed at its old place for a while: where the route leads comes first.
            if !paths.iter().any(|(is_led, _)| *is_led) {
                let spaces: BTreeSet<usize> = neighbours.iter().map(|((at, _), _)| *at).collect();
                let routes = spaces.into_iter().flat_map(|at| {
                    self.routes_to(at, |net| net.contains(&address)).map(move |route| (at, route))
                });
                self.routes(routes.collect());
            }
            paths.sort_by_key(|(is_led, _)| !is_led);
            for (_, path) in paths {
                self.add(path);
            }
            return Ok(());
        }
        let all = (0..self.namespaces.len())
            .flat_map(|at| self.routes_to(at, |net| net.contains(&address)).map(move |route| (at, route)));
        if self.routes(all.collect()) {
            return Ok(());
        }
        Err(match bridge {
            Some(((_, bridge), _)) => format!(
                "{address}: a neighbour on the bridge {}, none of whose ports has learned its MAC address",
                bridge.name
            ),
            None => weak::missing(self.namespaces, address),
        })
    }

    /// Whether a namespace is the home of another peer alone.
    fn is_anothers(&self, at: usize) -> bool {
        resident(self.homes, at).is_some_and(|resident| resident != self.peer.id)
    }

    /// Whether another peer holds an address.
    fn has_moved(&self, address: IpAddr) -> bool {
        let mut spaces = self.namespaces.iter().enumerate();
        spaces.any(|(at, space)| {
            self.is_anothers(at) && space.facts.addresses.iter().any(|(_, held)| *held == address)
        })
    }

    /// The devices that hold an address.
    fn own(&mut self, address: IpAddr) -> bool {
        let namespaces = self.namespaces;
        let mut holders: Vec<(usize, Vec<DevicePath>)> = Vec::new();
        for (at, space) in namespaces.iter().enumerate().filter(|(at, _)| !self.is_anothers(*at)) {
            let mut paths = Vec::new();
            for (index, _) in space.facts.addresses.iter().filter(|(_, held)| *held == address) {
                match space.facts.link(*index) {
                    Some(link) if usable(link) => {
                        paths.push(self.path((at, link), format!("{address} is its own address")));
                    }
                    // A node with a routed address: its packets leave by any of its devices.
                    Some(link) if link.kind == Kind::Loopback => {
                        let carrying = self
                            .links()
                            .filter(|(other, out)| *other == at && out.up && out.master.is_none());
                        paths.extend(carrying.map(|spot| {
                            self.path(spot, format!("{address} is on {}, and this leads out", link.name))
                        }));
                    }
                    _ => {}
                }
            }
            if !paths.is_empty() {
                holders.push((at, paths));
            }
        }
        if let Some(own) = holders.iter().position(|(at, _)| namespaces[*at].netns.is_none()) {
            // The facts of the daemon's own namespace decide.
            holders = vec![holders.swap_remove(own)];
        }
        if holders.len() > 1 {
            let places = holders.iter().map(|(_, paths)| paths[0].places[0].clone()).collect();
            self.found.ambiguous.push((address, places));
        }
        let has_any = !holders.is_empty();
        for path in holders.into_iter().flat_map(|(_, paths)| paths) {
            self.add(DevicePath { is_own: true, ..path });
        }
        has_any
    }

    /// The spots to believe, among those of namespaces that have facts: the daemon's own, else those that
    /// pass packets on, else all.
    fn nearest(&self, mut spots: Vec<Spot<'a>>) -> Vec<Spot<'a>> {
        let rank = |(at, _): &Spot<'a>| {
            let space = &self.namespaces[*at];
            if space.netns.is_none() { 0 } else { 2 - u8::from(space.facts.forwards) }
        };
        let best = spots.iter().map(rank).min();
        spots.retain(|spot| Some(rank(spot)) == best);
        spots
    }

    /// A namespace's most specific routes to something.
    fn routes_to(&self, at: usize, leads: impl Fn(&IpNet) -> bool) -> impl Iterator<Item = Route> {
        let routes = &self.namespaces[at].facts.routes;
        let longest =
            routes.iter().filter(|route| leads(&route.net)).map(|route| route.net.prefix_len()).max();
        let found: Vec<Route> = routes
            .iter()
            .filter(|route| leads(&route.net) && Some(route.net.prefix_len()) == longest)
            .copied()
            .collect();
        found.into_iter()
    }

    /// Adds the paths that routes lead.
    fn routes(&mut self, routes: Vec<(usize, Route)>) -> bool {
        let mut paths: Vec<(Spot<'a>, DevicePath)> = Vec::new();
        for (at, route) in routes {
            let namespaces = self.namespaces;
            let facts = &namespaces[at].facts;
            let Some(link) = facts.link(route.index).filter(|link| usable(link)) else { continue };
            if self.nics.contains(&(at, route.index)) {
                continue;
            }
            let net = route.net;
            let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            if link.kind != Kind::Bridge {
                paths.push(((at, link), self.path((at, link), format!("the route {net}{via} leads to it"))));
                continue;
            }
            // A bridge's own hooks do not see what it forwards: the gateway's port does.
            let is_gateway = |(index, address, _): &&(u32, IpAddr, Mac)| {
                *index == route.index && Some(*address) == route.gateway
            };
            let mac = facts.neighbours.iter().find(is_gateway).map(|(_, _, mac)| *mac);
            let why = format!("the route {net}{via} leads there, and this bridge port to the gateway");
            if let Some(path) = mac.and_then(|mac| self.path_by_port(mac, &why)) {
                paths.push(((at, link), path));
            }
        }
        let believed = self.nearest(paths.iter().map(|(spot, _)| *spot).collect());
        let spaces: BTreeSet<usize> = believed.into_iter().map(|(at, _)| at).collect();
        let has_any = !spaces.is_empty();
        for (_, path) in paths.into_iter().filter(|((at, _), _)| spaces.contains(at)) {
            self.add(path);
        }
        has_any
    }

    /// The routes to a prefix as a whole, and to parts of it.
    fn prefix(&mut self, prefix: IpNet) -> bool {
        let mut all = Vec::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            all.extend(self.routes_to(at, |net| net.contains(&prefix)).map(|route| (at, route)));
            let parts = space.facts.routes.iter().filter(|route| {
                prefix != route.net
                    && prefix.contains(&route.net)
                    && self.config.owner(route.net.network()) == Some(self.peer.id)
            });
            all.extend(parts.map(|route| (at, *route)));
        }
        self.routes(all)
    }

    /// The devices that have a MAC, else the port behind which it was learned, else where it is a neighbour's.
    fn mac(&mut self, mac: Mac) -> bool {
        let same: Vec<Spot<'a>> = self.links().filter(|(_, link)| link.mac == Some(mac)).collect();
        // A bond and its slaves, a bridge and a port, a VLAN and its parent share one: only one of them is picked.
        let is_same = |at: usize, index: Option<u32>| {
            index.is_some_and(|index| same.iter().any(|(other, link)| *other == at && link.index == index))
        };
        let own: Vec<Spot<'a>> = same
            .iter()
            .filter(|(at, link)| {
                let is_above = link.kind != Kind::Veth && !link.is_below_away && is_same(*at, link.below);
                !is_above && !is_same(*at, link.master)
            })
            .copied()
            .collect();
        if !own.is_empty() {
            for spot in own {
                let path = self.path(spot, "it has the peer's MAC address".to_owned());
                self.add(DevicePath { is_own: true, ..path });
            }
            return true;
        }
        if let Some(path) = self.path_by_port(mac, LEARNED) {
            self.add(path);
            return true;
        }
        let mut neighbours: Vec<Spot<'a>> = Vec::new();
        for (at, space) in self.namespaces.iter().enumerate() {
            for (index, _, _) in space.facts.neighbours.iter().filter(|(_, _, known)| *known == mac) {
                let link = space.facts.link(*index).filter(|link| usable(link) && link.kind != Kind::Bridge);
                if let Some(link) = link.filter(|link| !self.nics.contains(&(at, link.index))) {
                    neighbours.push((at, link));
                }
            }
        }
        let has_any = !neighbours.is_empty();
        for spot in self.nearest(neighbours) {
            self.add(self.path(spot, "a neighbour on it has the peer's MAC address".to_owned()));
        }
        has_any
    }
}

const LEARNED: &str = "the peer's MAC address was learned behind this bridge port";

mod weak;

#[cfg(test)]
mod tests;
