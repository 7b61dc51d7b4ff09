//! Chooses the interfaces that `auto` attaches to. Pure.

use std::collections::BTreeMap;

use super::mismatch::Mismatch;
use super::places::{DevicePath, Found, Place};
use injector_core::config::shown;
use injector_core::config::{Config, Interface};
use injector_core::model::PeerId;

/// Interfaces, each with why.
pub type Choice = Vec<(Interface, String)>;

/// As few interfaces as possible, such that every path passes one of them: for each path the one nearest to
/// its peer, where that does not add another. A path whose packets all pass a chosen interface anyway is not
/// hooked twice. `is_held` says which interfaces are attached to already.
pub fn choose(config: &Config, found: &BTreeMap<PeerId, Found>, is_held: impl Fn(&Place) -> bool) -> Choice {
    let mut paths: Vec<&DevicePath> = found.values().flat_map(|found| &found.paths).collect();
    // A path with one place leaves no choice.
    paths.sort_by_key(|path| path.sure);
    // Exits come last: those on a path are hooked with it.
    paths.extend(found.values().flat_map(further));
    let mut chosen: Vec<&Place> =
        paths.iter().flat_map(|path| &path.places[..path.sure]).filter(|place| is_held(place)).collect();
    for path in &paths {
        // Either NIC on a cable between two peers names its own peer alone.
        let passing = if is_on_a_cable(path, found) { 1 } else { path.sure };
        let is_passed = path.places[..passing].iter().any(|place| chosen.iter().any(|known| known.is(place)));
        if !is_passed {
            chosen.push(&path.places[0]);
        }
    }
    let mut choice: Choice = Vec::new();
    for (peer, found) in found {
        for path in found.paths.iter().chain(further(found)) {
            let passed =
                path.places[..path.sure].iter().find(|place| chosen.iter().any(|known| known.is(place)));
            let Some(place) = passed else { continue };
            let interface = Interface::found(&place.name, place.netns.as_ref());
            let why = format!("found for {}: {}", config.names.name(*peer), place.why);
            match choice.iter_mut().find(|(known, _)| *known == interface) {
                Some((_, reasons)) => {
                    reasons.push_str("; ");
                    reasons.push_str(&why);
                }
                None => choice.push((interface, why)),
            }
        }
    }
    choice
}

/// Whether a path begins at a NIC whose other end is another peer's NIC, and neither peer is behind the other.
fn is_on_a_cable(path: &DevicePath, found: &BTreeMap<PeerId, Found>) -> bool {
    let [near, far] = &path.places[..path.sure] else { return false };
    let exits = || found.values().flat_map(|found| &found.exits);
    let is_other_end = |exit: &DevicePath| {
        exit.sure == 2 && exit.places[0].is(far) && exit.places[1].is(near) && near.netns != far.netns
    };
    let leads_out = |of: &Place, other: &Place| {
        exits()
            .filter(|exit| exit.sure > 0 && exit.places[0].netns == of.netns)
            .any(|exit| exit.places[..exit.sure].get(1).is_none_or(|end| end.netns != other.netns))
    };
    exits().any(is_other_end) && leads_out(near, far) == leads_out(far, near)
}

/// The paths that are hooked besides a peer's own: all exits of its home, and where a silent peer may be.
fn further(found: &Found) -> impl Iterator<Item = &DevicePath> {
    found.exits.iter().chain(&found.candidates).filter(|path| path.sure > 0)
}

/// Peers that were not found, or not wholly.
pub fn not_found(config: &Config, found: &BTreeMap<PeerId, Found>) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for (peer, found) in found {
        if config.peer(*peer).is_some_and(|peer| peer.container.is_some()) {
            // The timeline says when it runs.
            continue;
        }
        let name = config.names.name(*peer);
        for missing in &found.missing {
            let (so, remedy) = if found.paths.is_empty() {
                (
                    "its links are cut only where the other end is found, until it sends something",
                    "correct the address if it is not the peer's, start the peer, or name its interface in the config",
                )
            } else {
                (
                    "it is taken to be behind the same interfaces as the peer's other addresses",
                    "correct or remove the address if it is not the peer's",
                )
            };
            let found = format!("interfaces: auto did not find peer {name} at {missing}: {so}");
            mismatches.push(Mismatch { found, remedy });
        }
    }
    mismatches
}

/// The first address that several namespaces have, in words.
pub fn ambiguity(config: &Config, found: &BTreeMap<PeerId, Found>) -> Option<String> {
    found.iter().find_map(|(peer, found)| {
        let (address, places) = found.ambiguous.first()?;
        let places: Vec<String> =
            places.iter().map(|place| shown(&Interface::found(&place.name, place.netns.as_ref()))).collect();
        Some(format!("{address} of peer {} is at {}", config.names.name(*peer), places.join(" and at ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { netns: None, name: name.to_owned(), why: format!("test {name}") }
    }

    /// The choice for peers with paths; `|` ends what every packet passes.
    fn chosen(peers: &[&[&str]]) -> Vec<String> {
        let text =
            "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] } }\ninterfaces: auto\n";
        let config = Config::parse(text, "test").unwrap();
        let path = |path: &&str| {
            let (sure, rest) = path.split_once('|').unwrap_or((path, ""));
            let places: Vec<Place> =
                sure.split_whitespace().chain(rest.split_whitespace()).map(place).collect();
            DevicePath { sure: sure.split_whitespace().count(), places, is_own: false }
        };
        let found = |paths: &&[&str]| Found { paths: paths.iter().map(path).collect(), ..Found::default() };
        let found = peers.iter().zip(1..).map(|(paths, peer)| (PeerId(peer), found(paths))).collect();
        choose(&config, &found, |_| false).into_iter().map(|(interface, _)| interface.name).collect()
    }

    #[test]
    fn the_nearest_is_chosen_unless_another_is_needed_anyway() {
        assert_eq!(chosen(&[&["eth0 v1"], &["eth1 v2"]]), ["eth0", "eth1"]);
        assert_eq!(chosen(&[&["eth0.5 eth0"], &["eth0"]]), ["eth0"], "a VLAN's parent sees it all");
        assert_eq!(chosen(&[&["eth0.5 eth0"], &["eth0.6 eth0"]]), ["eth0.5", "eth0.6"]);
        assert_eq!(chosen(&[&["v1", "v2"], &["v2"]]), ["v1", "v2"], "every path of a peer");
    }

    #[test]
    fn a_cable_between_peers_is_hooked_at_both_ends() {
        let place = |name: &str, netns: &str| Place {
            netns: Some(injector_core::config::Netns::Name(netns.to_owned())),
            ..place(name)
        };
        let exit = |(name, netns): (&str, &str), (end, far): (&str, &str)| DevicePath {
            places: vec![place(name, netns), place(end, far)],
            sure: 2,
            is_own: true,
        };
        let config = Config::parse(
            "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] } }\ninterfaces: auto\n",
            "test",
        )
        .unwrap();
        let chosen = |more: Option<DevicePath>| -> Vec<String> {
            let (n1, n2) = (exit(("e0", "a"), ("f0", "b")), exit(("f0", "b"), ("e0", "a")));
            let of = |exits: Vec<DevicePath>| Found { paths: exits.clone(), exits, ..Found::default() };
            let exits = std::iter::once(n2).chain(more).collect();
            let found = [(PeerId(1), of(vec![n1])), (PeerId(2), of(exits))].into();
            choose(&config, &found, |_| false).into_iter().map(|(interface, _)| interface.name).collect()
        };
        assert_eq!(chosen(None), ["e0", "f0"]);
        let uplink = exit(("up", "b"), ("port", "host"));
        assert_eq!(chosen(Some(uplink)), ["e0", "up"], "n1 is behind n2");
    }

    #[test]
    fn what_only_some_packets_pass_is_no_substitute() {
        assert_eq!(chosen(&[&["v1 | uplink"], &["uplink"]]), ["v1", "uplink"]);
    }
}
