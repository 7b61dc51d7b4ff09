//! The connections that a ring of majorities keeps.

use std::collections::BTreeSet;

/// For each place of a ring of `count` (at least 3), the places that it receives from, itself not listed: as
/// few as make a majority with itself, so that no two places, each with itself, receive from the same set.
///
/// Connections are two-way, except of three places: there, two two-way connections would leave one place that
/// receives from all, so each receives only from the one before it. Each place receives from its nearest
/// neighbours on both sides; where that leaves one place to find, it is as far away as the ring allows. If
/// both `count` and the number wanted are odd, no set of two-way connections fits, and place 0 receives from
/// one more.
pub(super) fn connections(count: usize) -> Vec<BTreeSet<usize>> {
    let mut hears = vec![BTreeSet::new(); count];
    if count == 3 {
        for (at, before) in [(0, 2), (1, 0), (2, 1)] {
            hears[at].insert(before);
        }
        return hears;
    }
    // A majority is itself and this many.
    let wanted = count / 2;
    let mut connect = |a: usize, b: usize| {
        hears[a].insert(b);
        hears[b].insert(a);
    };
    for at in 0..count {
        for distance in 1..=wanted / 2 {
            connect(at, (at + distance) % count);
        }
    }
    if wanted % 2 == 1 {
        // Steps of half the ring visit every place once if `count` is odd, and pair opposite places if it is even.
        let step = count / 2;
        if count.is_multiple_of(2) {
            for at in 0..step {
                connect(at, at + step);
            }
        } else {
            for pair in 0..count / 2 {
                connect(pair * 2 * step % count, (pair * 2 + 1) * step % count);
            }
            connect((count - 1) * step % count, 0);
        }
    }
    hears
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_hears_a_majority_of_its_own_and_no_more() {
        for count in 3..200 {
            let hears = connections(count);
            let mut sets = BTreeSet::new();
            let mut extra = 0;
            for (at, others) in hears.iter().enumerate() {
                assert!(!others.contains(&at) && others.iter().all(|other| *other < count));
                let more = others.len() - count / 2;
                assert!(more <= 1, "{count}: place {at} hears {others:?}");
                extra += more;
                assert!(sets.insert(others.iter().copied().chain([at]).collect::<BTreeSet<_>>()), "{count}");
                if count > 3 {
                    assert!(others.iter().all(|other| hears[*other].contains(&at)), "{count}: one-way");
                }
            }
            let odd = count > 3 && count % 2 == 1 && count / 2 % 2 == 1;
            assert_eq!(extra, usize::from(odd), "{count}");
        }
    }

    /// The number of directed links that Jepsen's rings drop.
    #[test]
    fn as_many_links_are_dropped_as_by_jepsen() {
        let dropped =
            |count: usize| count * (count - 1) - connections(count).iter().map(BTreeSet::len).sum::<usize>();
        let counts: Vec<usize> = (3..=11).map(dropped).collect();
        assert_eq!(counts, [3, 4, 10, 12, 20, 24, 36, 40, 54]);
    }
}
