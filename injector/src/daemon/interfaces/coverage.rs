//! Which interface covers which peer, and since when. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::gaps::Gap;
use super::survey::Way;
use crate::clock::MonoNs;
use crate::model::PeerId;

/// A way of a peer's packets, as the ids of the interfaces on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The nearest to the peer first.
    pub interfaces: Vec<u32>,
    /// While the packets took it.
    pub time: Gap,
}

/// The ways of all peers, those of the past included while a record may ask for them.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<PeerId, Vec<Track>>);

impl Coverage {
    /// Takes in what was found of a peer at an instant. A peer of which nothing is found stays where it was: that it
    /// is silent says nothing.
    pub fn renew(
        &mut self,
        peer: PeerId,
        ways: &[Way],
        id: impl Fn(&super::survey::Place) -> Option<u32>,
        at: MonoNs,
    ) {
        let tracks = self.0.entry(peer).or_default();
        let mut found: Vec<Vec<u32>> =
            ways.iter().map(|way| way.places.iter().filter_map(&id).collect()).collect();
        found.retain(|interfaces: &Vec<u32>| !interfaces.is_empty());
        let mut seen = BTreeSet::new();
        found.retain(|interfaces| seen.insert(interfaces.clone()));
        if found.is_empty() {
            return;
        }
        for track in tracks.iter_mut().filter(|track| track.time.until.is_none()) {
            if !found.contains(&track.interfaces) {
                track.time.until = Some(at);
            }
        }
        // In the order of what was found: the first is where its loss is rolled.
        for interfaces in found {
            let is_known = |track: &Track| track.time.until.is_none() && track.interfaces == interfaces;
            let track = match tracks.iter().position(is_known) {
                Some(known) => tracks.remove(known),
                None => Track { interfaces, time: Gap { from: at, until: None } },
            };
            tracks.push(track);
        }
    }

    /// Forgets the ways that ended before an instant.
    pub fn forget(&mut self, before: MonoNs) {
        for tracks in self.0.values_mut() {
            tracks.retain(|track| track.time.until.is_none_or(|until| until > before));
        }
    }

    /// Whether a way, also one of the past, needs an interface.
    pub fn needs(&self, interface: u32) -> bool {
        self.0.values().flatten().any(|track| track.interfaces.contains(&interface))
    }

    /// Every peer.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.0.keys().copied()
    }

    /// All ways of a peer.
    pub fn tracks(&self, peer: PeerId) -> &[Track] {
        self.0.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// The interfaces on a peer's present ways, the nearest first.
    pub fn present(&self, peer: PeerId) -> impl Iterator<Item = u32> {
        let tracks = self.tracks(peer).iter().filter(|track| track.time.until.is_none());
        tracks.flat_map(|track| track.interfaces.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::super::survey::Place;
    use super::*;

    const PEER: PeerId = PeerId(1);

    fn renew(coverage: &mut Coverage, ways: &[&[&str]], at: u64) {
        let place = |name: &&str| Place { netns: None, name: (*name).to_owned(), why: String::new() };
        let ways: Vec<Way> =
            ways.iter().map(|way| Way { places: way.iter().map(place).collect(), sure: 1 }).collect();
        coverage.renew(PEER, &ways, |place| place.name.parse().ok(), MonoNs(at));
    }

    fn tracks(coverage: &Coverage) -> Vec<(&[u32], u64, Option<u64>)> {
        let shown = |track: &'_ Track| (track.time.from.0, track.time.until.map(|until| until.0));
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
        assert_eq!(coverage.present(PEER).collect::<Vec<_>>(), [3]);
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
