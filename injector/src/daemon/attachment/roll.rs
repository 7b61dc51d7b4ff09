//! Chooses the interfaces that roll a peer's loss: each packet is to pass one of them, and one alone.

use injector_core::config::shown;
use std::collections::BTreeSet;

use super::Interfaces;
use crate::datapath::Kernel;
use crate::discovery::coverage::Track;
use injector_core::model::{Link, PeerId};

/// For each of a peer's paths the nearest interface, so that no path has two. Where paths share interfaces in
/// a manner that leaves no such choice for one of them, that path has none: loss that is rolled twice is a
/// larger loss.
fn choose(paths: &[Vec<u32>]) -> BTreeSet<u32> {
    let mut rolling = BTreeSet::new();
    let rolls_on =
        |path: &[u32], rolling: &BTreeSet<u32>| path.iter().any(|interface| rolling.contains(interface));
    let mut shortest_first: Vec<&Vec<u32>> = paths.iter().collect();
    shortest_first.sort_by_key(|path| path.len());
    for path in shortest_first {
        if rolls_on(path, &rolling) {
            continue;
        }
        let is_on_another = |interface: &u32| {
            paths.iter().any(|other| other.contains(interface) && rolls_on(other, &rolling))
        };
        let nearest = path.iter().find(|interface| !is_on_another(interface));
        rolling.extend(nearest);
    }
    rolling
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
            let hooked = |track: &Track| -> Vec<u32> {
                track.interfaces.iter().copied().filter(|id| self.is_attached(*id)).collect()
            };
            let paths = self.coverage.present(peer).filter(|track| track.is_apart).map(hooked);
            let chosen = choose(&paths.filter(|path| !path.is_empty()).collect::<Vec<_>>());
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
        let missed =
            self.coverage.present(peer).filter(|track| !track.interfaces.iter().any(|id| bound.contains(id)));
        let missed = missed.filter_map(|track| self.entry(*track.interfaces.first()?));
        let missed: BTreeSet<String> = missed.map(|entry| shown(&entry.interface)).collect();
        let missed = missed.into_iter().collect::<Vec<_>>().join(", ");
        (!missed.is_empty()).then(|| {
            format!(
                "packets through {missed} are never dropped: this peer's loss is applied at other interfaces"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&[u32]]) -> Vec<u32> {
        let paths: Vec<Vec<u32>> = paths.iter().map(|path| path.to_vec()).collect();
        let chosen = choose(&paths);
        for path in &paths {
            assert!(
                path.iter().filter(|interface| chosen.contains(interface)).count() <= 1,
                "{paths:?}: {chosen:?}"
            );
        }
        chosen.into_iter().collect()
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
}
