//! Chooses the interfaces that roll a peer's loss: each packet is to pass one of them, and one alone.

use injector_core::config::shown;
use std::collections::BTreeSet;

use super::Interfaces;
use crate::datapath::Kernel;
use crate::discovery::picture::Passage;
use injector_core::model::{Link, PeerId};

/// A path of a peer, as the interfaces on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RollPath {
    /// Those that all of its packets pass, the nearest to the peer first.
    on: Vec<u32>,
    /// Those that see the packets that a tunnel wraps its own into.
    around: Vec<u32>,
}

impl RollPath {
    fn passes(&self, interface: u32) -> bool {
        self.on.contains(&interface) || self.around.contains(&interface)
    }

    fn rolls_on(&self, rolling: &BTreeSet<u32>) -> bool {
        rolling.iter().any(|interface| self.passes(*interface))
    }
}

/// For each of a peer's paths the nearest interface, so that no path has two; then the same for its other paths. Where paths
/// share interfaces in a manner that leaves no such choice for one of them, that path has none: loss that is rolled twice is a
/// larger loss. A tunnel's own packets are rolled for beside those around them if the config lists addresses of both, since a
/// scope holds either.
fn choose(paths: &[RollPath], others: &[RollPath]) -> BTreeSet<u32> {
    let mut rolling = BTreeSet::new();
    let listed: Vec<RollPath> =
        paths.iter().map(|path| RollPath { on: path.on.clone(), around: Vec::new() }).collect();
    choose_more(&mut rolling, &listed, &listed);
    let all: Vec<RollPath> = paths.iter().chain(others).cloned().collect();
    choose_more(&mut rolling, others, &all);
    rolling
}

fn choose_more(rolling: &mut BTreeSet<u32>, paths: &[RollPath], all: &[RollPath]) {
    let mut shortest_first: Vec<&RollPath> = paths.iter().collect();
    shortest_first.sort_by_key(|path| (!path.around.is_empty(), path.on.len()));
    for path in shortest_first {
        if path.rolls_on(rolling) {
            continue;
        }
        let is_on_another =
            |interface: &u32| all.iter().any(|other| other.passes(*interface) && other.rolls_on(rolling));
        let nearest = path.on.iter().copied().find(|interface| !is_on_another(interface));
        rolling.extend(nearest);
    }
}

impl Interfaces {
    fn is_attached(&self, id: u32) -> bool {
        self.entry(id).is_some_and(|entry| entry.attachment.is_some())
    }

    /// Says for each peer which interfaces roll its links' loss. While loss is rolled, those that do keep doing so as
    /// long as they are attached, since a live slot does not change under way; others may join them.
    ///
    /// Answers whether the programs know the peers' names now.
    pub fn bind(&mut self, kernel: &mut Kernel, is_rolling: bool) -> bool {
        let named = kernel.identify(&self.hooked_identity());
        if let Err(error) = &named {
            tracing::error!(%error, "the programs do not know what names the peers' frames");
        }
        let mut news = Vec::new();
        for peer in self.coverage.peers() {
            let hooked = |path: RollPath| {
                let is_attached = |id: &u32| self.is_attached(*id);
                RollPath {
                    on: path.on.into_iter().filter(is_attached).collect(),
                    around: path.around.into_iter().filter(is_attached).collect(),
                }
            };
            let is_hooked = |path: &RollPath| !path.on.is_empty();
            let paths = self.listed_paths(peer, true).into_iter().map(hooked).filter(is_hooked);
            let exits = self.exit_paths(peer).into_iter().map(hooked).filter(is_hooked);
            let chosen = choose(&paths.collect::<Vec<_>>(), &exits.collect::<Vec<_>>());
            let bound = self.bound.get(&peer).cloned().unwrap_or_default();
            let goes_on = bound.iter().all(|id| chosen.contains(id) || !self.is_attached(*id));
            if chosen != bound && (goes_on || !is_rolling) {
                news.push((peer, chosen));
            }
        }
        for (peer, chosen) in news {
            if let Err(error) = kernel.bind_roll(peer, &chosen) {
                tracing::error!(peer = peer.0, %error, "the interface that rolls its loss can't be written to the programs' map");
                continue;
            }
            self.bound.insert(peer, chosen);
        }
        named.is_ok()
    }

    /// The devices by which a peer's frames leave its home, if that is known.
    fn exits(&self, peer: PeerId) -> Option<&[Passage]> {
        let picture = self.eras.now()?;
        let home = picture.ends.get(&peer)?.home.as_ref()?;
        Some(&picture.homes.get(home)?.exits)
    }

    /// The paths by which a peer's frames leave its home, also those by devices without a listed address.
    fn exit_paths(&self, peer: PeerId) -> Vec<RollPath> {
        let exits = self.exits(peer).unwrap_or_default();
        exits.iter().map(|exit| with_below(exit.sure.clone(), exits)).collect()
    }

    /// The paths of a peer's listed addresses; `is_apart` leaves out those that another one may follow.
    fn listed_paths(&self, peer: PeerId, is_apart: bool) -> Vec<RollPath> {
        let exits = self.exits(peer).unwrap_or_default();
        let tracks = self.coverage.present(peer).filter(|track| track.is_apart || !is_apart);
        tracks.map(|track| with_below(track.interfaces.clone(), exits)).collect()
    }

    /// Why a link's loss is not what was asked for: `None` if each of its packets is known to be rolled for once.
    pub fn why_not_once(&self, link: Link) -> Option<String> {
        // Frames over a loopback device pass one hook.
        if self.eras.now().is_some_and(|picture| picture.locals.contains_key(&link.src)) {
            return None;
        }
        let bound = |peer: PeerId| self.bound.get(&peer).filter(|bound| !bound.is_empty());
        let Some((peer, bound)) =
            [link.src, link.dst].into_iter().find_map(|peer| Some((peer, bound(peer)?)))
        else {
            return Some(
                "no interface is known to be at either end, so its loss is rolled at every hook on its way"
                    .to_owned(),
            );
        };
        // What comes by other hosts passes the peer's own devices too, where these are known.
        let is_home_known = self.exits(peer).is_some();
        let all = self.listed_paths(peer, is_home_known).into_iter().chain(self.exit_paths(peer));
        let missed = all
            .filter(|path| !path.rolls_on(bound))
            .filter_map(|path| self.entry(path.on.into_iter().find(|id| self.is_attached(*id))?));
        let missed: BTreeSet<String> = missed.map(|entry| shown(&entry.interface)).collect();
        let missed = missed.into_iter().collect::<Vec<_>>().join(", ");
        (!missed.is_empty()).then(|| {
            format!(
                "packets through {missed} are never dropped: this peer's loss is applied at other interfaces"
            )
        })
    }
}

/// A path that begins with these interfaces, with what its packets pass after them.
fn with_below(mut on: Vec<u32>, exits: &[Passage]) -> RollPath {
    let begins = |exit: &&Passage| exit.sure.iter().any(|id| on.contains(id));
    let Some(exit) = exits.iter().find(begins) else { return RollPath { on, around: Vec::new() } };
    on.extend(exit.below.iter().filter(|id| !on.contains(id)).copied().collect::<Vec<_>>());
    let carriers = exits.iter().filter(|other| exit.is_tunnel && !other.is_tunnel);
    RollPath { on, around: carriers.flat_map(|other| &other.sure).copied().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(paths: &[&[u32]]) -> Vec<RollPath> {
        paths.iter().map(|path| RollPath { on: path.to_vec(), around: Vec::new() }).collect()
    }

    fn chosen_of(first: &[RollPath], others: &[RollPath]) -> Vec<u32> {
        let chosen = choose(first, others);
        for path in first.iter().chain(others) {
            assert!(
                path.on.iter().filter(|interface| chosen.contains(interface)).count() <= 1,
                "{first:?}, {others:?}: {chosen:?}"
            );
        }
        chosen.into_iter().collect()
    }

    fn chosen(first: &[&[u32]]) -> Vec<u32> {
        chosen_of(&paths(first), &[])
    }

    #[test]
    fn each_way_has_one_and_the_nearest() {
        assert!(chosen(&[]).is_empty());
        assert_eq!(chosen(&[&[1, 2]]), [1]);
        assert_eq!(chosen(&[&[1, 2], &[3, 4]]), [1, 3]);
        assert_eq!(chosen(&[&[1, 9], &[3, 9]]), [1, 3], "what they share is farther");
    }

    #[test]
    fn no_way_has_two() {
        assert_eq!(chosen(&[&[1, 2], &[2]]), [2], "a VLAN above its parent, and the parent itself");
        assert_eq!(chosen(&[&[1, 2], &[2, 3], &[3]]), [1, 3]);
        // With the interfaces of both the first and the second path, the third path would have two: the
        // second has none, and is reported.
        assert_eq!(chosen(&[&[1], &[2], &[3, 1, 2]]), [1]);
        assert_eq!(chosen(&[&[1, 3], &[2, 4], &[3, 4, 5]]), [1, 2, 5]);
    }

    #[test]
    fn devices_without_a_listed_address_have_one_too() {
        assert_eq!(chosen_of(&paths(&[&[1, 2]]), &paths(&[&[1, 2], &[3, 4]])), [1, 3]);
        // A macvlan, whose packets pass 1 and 2 as well.
        assert_eq!(chosen_of(&paths(&[&[1, 2]]), &paths(&[&[5, 1, 2], &[1, 2]])), [1]);
        assert_eq!(chosen_of(&paths(&[&[5, 1, 2]]), &paths(&[&[5, 1, 2], &[1, 2]])), [5]);
    }

    #[test]
    fn what_a_tunnel_carries_is_lost_with_the_packets_around_it() {
        let tunnel = RollPath { on: vec![5], around: vec![1, 2] };
        let all = [tunnel.clone(), paths(&[&[1, 2]]).remove(0)];
        assert_eq!(chosen_of(&paths(&[&[1, 2]]), &all), [1]);
        assert_eq!(
            chosen_of(std::slice::from_ref(&tunnel), &all),
            [5],
            "only the tunnel's address is listed"
        );
        assert_eq!(chosen_of(&all, &all), [1, 5], "a scope holds either");
    }

    #[test]
    fn a_path_passes_what_is_below_it() {
        let exit = |sure: &[u32], below: &[u32], is_tunnel| Passage {
            sure: sure.to_vec(),
            below: below.to_vec(),
            is_tunnel,
            ..Passage::default()
        };
        let exits = [exit(&[1, 2], &[], false), exit(&[5], &[1, 2], false), exit(&[6], &[], true)];
        let path = |on: &[u32], around: &[u32]| RollPath { on: on.to_vec(), around: around.to_vec() };
        for (begin, wanted) in [
            (&[1, 2, 9][..], path(&[1, 2, 9], &[])),
            (&[5], path(&[5, 1, 2], &[])),
            (&[6], path(&[6], &[1, 2, 5])),
            (&[8], path(&[8], &[])),
        ] {
            assert_eq!(with_below(begin.to_vec(), &exits), wanted);
        }
    }
}
