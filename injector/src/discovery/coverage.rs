//! The interfaces that cover each peer, and since when. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::places::DevicePath;
use injector_core::clock::{MonoNs, TimeRange};
use injector_core::model::PeerId;

/// A path of a peer's packets, as the ids of the interfaces on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The nearest to the peer first.
    pub interfaces: Vec<u32>,
    /// While the packets took it.
    pub time: TimeRange,
    /// Whether no packet passes both it and the first of the peer's paths.
    pub is_apart: bool,
}

/// The paths of all peers, those of the past included while a record may ask for them.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<PeerId, Vec<Track>>);

impl Coverage {
    /// Takes in what was found of a peer at an instant. A peer about which nothing is found stays where it was: that it
    /// is silent says nothing.
    pub fn renew(
        &mut self,
        peer: PeerId,
        paths: &[DevicePath],
        id: impl Fn(&super::places::Place) -> Option<u32>,
        at: MonoNs,
    ) {
        let tracks = self.0.entry(peer).or_default();
        let mut found: Vec<(Vec<u32>, &DevicePath)> = paths
            .iter()
            .map(|path| (path.places.iter().filter_map(&id).collect::<Vec<u32>>(), path))
            .filter(|(interfaces, _)| !interfaces.is_empty())
            .collect();
        let mut seen = BTreeSet::new();
        found.retain(|(interfaces, _)| seen.insert(interfaces.clone()));
        let Some((_, first)) = found.first() else { return };
        let home = &first.places[0].netns;
        for track in tracks.iter_mut().filter(|track| track.time.until_ns.is_none()) {
            if !found.iter().any(|(interfaces, _)| *interfaces == track.interfaces) {
                track.time.until_ns = Some(at);
            }
        }
        for (interfaces, path) in found {
            // A peer's packet takes one of the interfaces of a host; several hosts may pass it on to each
            // other.
            let is_apart = path.is_own || path.places[0].netns == *home;
            let is_known = |track: &Track| track.time.until_ns.is_none() && track.interfaces == interfaces;
            let time = match tracks.iter().position(is_known) {
                Some(known) => tracks.remove(known).time,
                None => TimeRange { from_ns: at, until_ns: None },
            };
            tracks.push(Track { interfaces, time, is_apart });
        }
    }

    /// Forgets the paths that ended before an instant.
    pub fn forget(&mut self, before: MonoNs) {
        for tracks in self.0.values_mut() {
            tracks.retain(|track| track.time.until_ns.is_none_or(|until| until > before));
        }
    }

    /// Whether a path, also one of the past, needs an interface.
    pub fn needs(&self, interface: u32) -> bool {
        self.0.values().flatten().any(|track| track.interfaces.contains(&interface))
    }

    /// Every peer.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.0.keys().copied()
    }

    /// All paths of a peer.
    pub fn tracks(&self, peer: PeerId) -> &[Track] {
        self.0.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// A peer's present paths.
    pub fn present(&self, peer: PeerId) -> impl Iterator<Item = &Track> {
        self.tracks(peer).iter().filter(|track| track.time.until_ns.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::Place;
    use super::*;

    const PEER: PeerId = PeerId(1);

    fn renew(coverage: &mut Coverage, paths: &[&[&str]], at: u64) {
        let place = |name: &&str| Place { netns: None, name: (*name).to_owned(), why: String::new() };
        let paths: Vec<DevicePath> = paths
            .iter()
            .map(|path| DevicePath { places: path.iter().map(place).collect(), sure: 1, is_own: false })
            .collect();
        coverage.renew(PEER, &paths, |place| place.name.parse().ok(), MonoNs(at));
    }

    fn tracks(coverage: &Coverage) -> Vec<(&[u32], u64, Option<u64>)> {
        let shown = |track: &'_ Track| (track.time.from_ns.0, track.time.until_ns.map(|until| until.0));
        coverage
            .tracks(PEER)
            .iter()
            .map(|track| (track.interfaces.as_slice(), shown(track).0, shown(track).1))
            .collect()
    }

    #[test]
    fn a_peer_that_moves_has_its_old_way_until_then() {
        let mut coverage = Coverage::default();
        renew(&mut coverage, &[&["1", "2"], &["unknown"]], 0);
        assert_eq!(tracks(&coverage), [(&[1, 2][..], 0, None)]);
        renew(&mut coverage, &[&["1", "2"]], 5);
        assert_eq!(tracks(&coverage), [(&[1, 2][..], 0, None)], "nothing new");
        renew(&mut coverage, &[&["3"]], 9);
        assert_eq!(tracks(&coverage), [(&[1, 2][..], 0, Some(9)), (&[3][..], 9, None)]);
        assert_eq!(coverage.present(PEER).map(|track| &track.interfaces[..]).collect::<Vec<_>>(), [[3]]);
        assert!(coverage.needs(2));
        coverage.forget(MonoNs(9));
        assert_eq!(tracks(&coverage), [(&[3][..], 9, None)]);
        assert!(!coverage.needs(2));
    }

    #[test]
    fn the_first_that_was_found_comes_first() {
        let mut coverage = Coverage::default();
        renew(&mut coverage, &[&["1"]], 0);
        renew(&mut coverage, &[&["2"], &["1"], &["2"]], 5);
        assert_eq!(tracks(&coverage), [(&[2][..], 5, None), (&[1][..], 0, None)]);
        renew(&mut coverage, &[&["2"], &["1"]], 6);
        assert_eq!(tracks(&coverage), [(&[2][..], 5, None), (&[1][..], 0, None)]);
    }

    #[test]
    fn a_silent_peer_stays_where_it_was() {
        let mut coverage = Coverage::default();
        renew(&mut coverage, &[&["1"]], 0);
        renew(&mut coverage, &[], 5);
        assert_eq!(tracks(&coverage), [(&[1][..], 0, None)]);
    }
}
