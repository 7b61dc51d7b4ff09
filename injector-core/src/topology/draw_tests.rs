//! Draws: their sizes, their seeds, and whom they leave alone.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::Selector;

fn names(count: usize) -> PeerNames {
    PeerNames::new((1..=count).map(|at| format!("n{at:02}")))
}

fn words(text: &str) -> Shape {
    words::parse_words(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

fn resolve_with(text: &str, count: usize, roles: &RolePeers, seed: u64) -> Result<Resolved, TopologyError> {
    let known = Definitions { names: &names(count), presets: &BTreeMap::new(), roles };
    resolve(&words(text), Direction::Both, known, seed)
}

fn try_draw(text: &str, count: usize, seed: u64) -> Result<Resolved, TopologyError> {
    resolve_with(text, count, &RolePeers::new(), seed)
}

fn draw(text: &str, count: usize, seed: u64) -> Resolved {
    try_draw(text, count, seed).unwrap()
}

/// The groups that a drawn shape was made.
fn groups(resolved: &Resolved) -> Vec<Vec<PeerName>> {
    match &resolved.shape {
        Shape::Isolate(group) => vec![group.clone()],
        Shape::Split(groups) | Shape::Between(groups) => groups.clone(),
        shape => panic!("{shape}"),
    }
}

fn sizes(text: &str, count: usize) -> Vec<usize> {
    groups(&draw(text, count, 3)).iter().map(Vec::len).collect()
}

/// The names of `n01` to `n<count>`, those that `mask` takes.
fn among(count: usize, mask: u64) -> Vec<PeerName> {
    let all: Vec<PeerName> = names(count).peers().map(|id| names(count).name(id).into()).collect();
    all.into_iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, name)| name).collect()
}

fn option(among: &[PeerName]) -> String {
    let names: Vec<&str> = among.iter().map(|name| name.0.as_str()).collect();
    format!("--among {}", names.join(","))
}

/// The sizes that Jepsen's `majority` less one and `minority-third` give for 1, 2, … nodes.
#[test]
fn minorities_are_as_large_as_jepsens() {
    let jepsen_minority = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6];
    let jepsen_third = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
    for count in 2..=12 {
        assert_eq!(sizes("minority", count), [jepsen_minority[count - 1]], "{count}");
        if count > 3 {
            assert_eq!(sizes("minority-third", count), [jepsen_third[count - 1]], "{count}");
        }
    }
    // The two minorities count the peers that may be drawn.
    assert_eq!(sizes("minority --among n01,n02,n03", 9), [1]);
    assert_eq!(sizes("minority-third --among n01,n02,n03,n04,n05,n06,n07", 9), [2]);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    for (text, count, expected) in [
        ("random 0", 3, "random 0 cuts nothing: it takes at least 1; write 1 or more"),
        ("random 3", 3, "random 3 needs at least 4 peers, and 3 are configured; add peers"),
        (
            "random 3 --among n01,n02",
            5,
            "random 3 draws from at least 3 peers, and it may draw from 2; name more peers",
        ),
        ("random-groups 1", 3, "random-groups 1 cuts nothing: it takes at least 2; write 2 or more"),
        ("random-groups 4", 3, "random-groups 4 needs at least 4 peers, and 3 are configured"),
        ("minority", 1, "minority needs at least 2 peers"),
        ("minority-third", 3, "minority-third needs at least 4 peers"),
        ("majorities-ring --among n01,n02", 5, "majorities-ring draws from at least 3 peers"),
        ("random-node --among n09", 3, "unknown peer \"n09\"; known peers: n01, n02, n03"),
        (
            "random-node --among world",
            3,
            "world can't be drawn: it is everyone who is no peer; name peers alone",
        ),
        ("random-node --among n01,n01", 3, "peer \"n01\" is named twice"),
        (
            "random-node --among @leader",
            3,
            "unknown role \"@leader\"; the config has no roles; add it under roles",
        ),
    ] {
        let error = try_draw(text, count, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let nobody: Shape = serde_json::from_str(r#"{"random_node": {"among": []}}"#).unwrap();
    let (names, presets, roles) = (names(3), BTreeMap::new(), RolePeers::new());
    let known = Definitions { names: &names, presets: &presets, roles: &roles };
    let error = resolve(&nobody, Direction::Both, known, 0).unwrap_err().to_string();
    assert!(error.contains("draws from at least 1 peers, and it may draw from 0"), "{error}");
}

/// A recorded seed must give the same draw in the next release too.
#[test]
fn draws_are_pinned() {
    let drawn = |text: &str| [0, 1, 7].map(|seed| draw(text, 7, seed).shape.to_string());
    assert_eq!(drawn("random 2"), PINNED_RANDOM);
    assert_eq!(drawn("minority"), PINNED_MINORITY);
    assert_eq!(drawn("minority-third"), PINNED_THIRD);
    assert_eq!(drawn("random-groups 3"), PINNED_GROUPS);
    assert_eq!(drawn("random-groups 2 --among n01,n04,n07"), PINNED_AMONG);
}

const PINNED_RANDOM: [&str; 3] = ["isolate n01 n03", "isolate n04 n05", "isolate n01 n04"];
const PINNED_MINORITY: [&str; 3] = ["isolate n01 n03 n07", "isolate n04 n05 n06", "isolate n01 n04 n06"];
const PINNED_THIRD: [&str; 3] = ["isolate n01 n03", "isolate n04 n05", "isolate n01 n04"];
const PINNED_GROUPS: [&str; 3] = [
    "split n01,n03 n02,n07 n04,n05,n06",
    "split n04,n05 n01,n02,n07 n03,n06",
    "split n01,n04 n02,n05,n07 n03,n06",
];
const PINNED_AMONG: [&str; 3] = ["between n07 n01,n04", "between n07 n01,n04", "between n01 n04,n07"];

#[test]
fn every_group_is_drawn_about_as_often() {
    let mut counts = BTreeMap::<String, u32>::new();
    for seed in 0..6_000 {
        *counts.entry(draw("random 2", 4, seed).shape.to_string()).or_default() += 1;
    }
    // 1,000 each; five standard deviations are 145.
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (855..=1_145).contains(count)), "{counts:?}");
}

#[test]
fn whoever_may_not_be_drawn_is_untouched_by_groups_and_cut_off_by_isolation() {
    let apart = draw("random-halves --among n01,n02", 4, 0);
    assert!(["between n01 n02", "between n02 n01"].contains(&apart.shape.to_string().as_str()), "{apart:?}");
    let ends: BTreeSet<PeerId> = apart.links.iter().flat_map(|link| [link.src, link.dst]).collect();
    assert_eq!(ends, BTreeSet::from([PeerId(1), PeerId(2)]));
    let alone = draw("random-node --among n01", 4, 0);
    assert_eq!(alone.shape.to_string(), "isolate n01");
    assert_eq!(alone.links.len(), 6);
    // All of them are nobody left over.
    let all = draw("random-halves --among n04,n02,n03,n01", 4, 0);
    assert_eq!(all, draw("random-halves", 4, 0));
}

#[test]
fn roles_stand_for_their_peers() {
    let roles = RolePeers::from([
        ("leader".to_owned(), vec!["n02".into()]),
        ("followers".to_owned(), vec!["n03".into(), "n01".into(), "n03".into()]),
        ("nobody".to_owned(), vec![]),
    ]);
    let shape = |text: &str| resolve_with(text, 4, &roles, 0).unwrap().shape.to_string();
    assert_eq!(shape("isolate @leader"), "isolate n02");
    assert_eq!(shape("isolate @followers n04"), "isolate n01 n03 n04");
    // A peer that is named beside the role may have the role.
    assert_eq!(shape("isolate n02 @leader"), "isolate n02");
    assert_eq!(shape("between @leader @followers"), "between n02 n01,n03");
    assert_eq!(shape("bridge @leader"), "bridge n02");
    assert_eq!(shape("links @leader:@followers n01:@leader"), "links n01:n02 n02:n01 n02:n03");
    assert_eq!(
        shape(r#"grudge {"@followers":["@leader"],"n01":["n04"]}"#),
        r#"grudge {"n01":["n02","n04"],"n03":["n02"]}"#
    );
    assert_eq!(shape("random 2 --among @followers"), "isolate n01 n03");
    assert_eq!(shape("random-halves --among @followers,n01").split(' ').next(), Some("between"));
    for (text, expected) in [
        ("isolate @boss", "unknown role \"@boss\"; known roles: followers, leader, nobody"),
        ("bridge @followers", "bridge takes one peer, and @followers are others than one"),
        ("bridge @nobody", "bridge takes one peer, and @nobody are others than one"),
        ("between @leader n02", "peer \"n02\" is named twice in the groups"),
        ("links @leader:n02", "\"n02\" has a link to itself"),
        ("isolate @nobody", "the shape cuts nothing: the group is empty"),
    ] {
        let error = resolve_with(text, 4, &roles, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_roles_of_a_shape_are_known_before_it_is_resolved() {
    let presets = BTreeMap::from([("p".to_owned(), words("between @leader n01,@followers"))]);
    let of = |text: &str| roles(&words(text), &presets).unwrap().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(of("preset p"), "followers leader");
    assert_eq!(of("random-groups 2 --among @a,n01,@b"), "a b");
    assert_eq!(of(r#"grudge {"@a":["@b","n1"],"@c":[]}"#), "a b c");
    assert_eq!(of("links @a:n01 n01:@b"), "a b");
    assert_eq!(of("bridge @a"), "a");
    assert_eq!(of("halves"), "");
    roles(&words("preset q"), &presets).unwrap_err();
}

proptest! {
    #[test]
    fn groups_are_of_one_size_or_differ_by_one(wanted in 2_usize..12, more in 0_usize..30, seed: u64) {
        let count = wanted + more;
        let resolved = draw(&format!("random-groups {wanted}"), count, seed);
        let drawn = groups(&resolved);
        prop_assert_eq!(drawn.len(), wanted);
        let sizes: Vec<usize> = drawn.iter().map(Vec::len).collect();
        prop_assert!(sizes.iter().all(|size| (count / wanted..=count.div_ceil(wanted)).contains(size)));
        prop_assert_eq!(sizes[0], count / wanted);
        prop_assert_eq!(drawn.concat().into_iter().collect::<BTreeSet<_>>().len(), count);
        // Everyone is in a group: each peer is cut off from all but its own.
        let expected: usize = sizes.iter().map(|size| size * (count - size)).sum();
        prop_assert_eq!(resolved.links.len(), expected);
    }

    #[test]
    fn isolated_peers_are_cut_off_from_everyone(peers in 1_usize..20, more in 1_usize..20, seed: u64) {
        let count = peers + more;
        let resolved = draw(&format!("random {peers}"), count, seed);
        prop_assert_eq!(groups(&resolved)[0].len(), peers);
        prop_assert_eq!(resolved.links.len(), 2 * peers * more);
    }

    #[test]
    fn only_peers_that_may_be_drawn_are_drawn(
        which in 0_usize..7, count in 5_usize..30, mask: u64, seed: u64,
    ) {
        let among = among(count, mask);
        prop_assume!(among.len() >= 4 && among.len() < count);
        let text = ["random-node", "random 2", "minority", "minority-third", "random-halves", "random-groups 3",
            "majorities-ring"][which];
        let resolved = draw(&format!("{text} {}", option(&among)), count, seed);
        let (names, all) = (names(count), names(count).peers().count());
        let is_drawn: BTreeSet<PeerId> = match &resolved.shape {
            Shape::Grudge(grudge) => grudge.keys().map(|name| names.id(&name.0).unwrap()).collect(),
            _ => groups(&resolved).concat().iter().map(|name| names.id(&name.0).unwrap()).collect(),
        };
        let may_be: BTreeSet<PeerId> = among.iter().map(|name| names.id(&name.0).unwrap()).collect();
        prop_assert!(is_drawn.is_subset(&may_be));
        let ends: BTreeSet<PeerId> = resolved.links.iter().flat_map(|link| [link.src, link.dst]).collect();
        if which < 4 {
            prop_assert_eq!(ends.len(), all, "isolated from all configured peers");
        } else {
            prop_assert_eq!(ends, may_be, "the others are untouched");
        }
        // The order in which they are named means nothing, nor does a name for them.
        let mut turned = among.clone();
        turned.reverse();
        prop_assert_eq!(&draw(&format!("{text} {}", option(&turned)), count, seed), &resolved);
        let roles = RolePeers::from([("some".to_owned(), turned)]);
        prop_assert_eq!(&resolve_with(&format!("{text} --among @some"), count, &roles, seed).unwrap(), &resolved);
        prop_assert!(resolved.drawn);
    }

    #[test]
    fn the_same_seed_draws_the_same(which in 0_usize..5, count in 8_usize..40, seed: u64) {
        let text = ["random 3", "minority", "minority-third", "random-groups 4", "majorities-ring"][which];
        prop_assert_eq!(draw(text, count, seed), draw(text, count, seed));
        let (names, shape, presets, roles) = (names(count), words(text), BTreeMap::new(), RolePeers::new());
        let known = || Definitions { names: &names, presets: &presets, roles: &roles };
        let drawn = |seed| resolve(&shape, Direction::Both, known(), seed).unwrap().shape.to_string();
        let different: BTreeSet<String> = (0..20).map(|at| drawn(seed.wrapping_add(at))).collect();
        prop_assert!(different.len() > 3, "{} {:?}", text, different);
    }

    /// `between` cuts the links between its groups, and not one more.
    #[test]
    fn between_touches_no_one_else(count in 2_usize..20, places in proptest::collection::vec(0_usize..4, 20)) {
        let names = names(count);
        let mut groups: BTreeMap<usize, Vec<Selector>> = BTreeMap::new();
        for (peer, place) in names.peers().zip(&places) {
            groups.entry(*place).or_default().push(names.name(peer).into());
        }
        // The peer in place 0 is named nowhere.
        groups.remove(&0);
        prop_assume!(groups.len() > 1);
        let place = |peer: PeerId| places[usize::from(peer.0) - 1];
        let shape = Shape::Between(groups.into_values().collect());
        let known = Definitions { names: &names, presets: &BTreeMap::new(), roles: &RolePeers::new() };
        let cut: BTreeSet<Link> = resolve(&shape, Direction::Both, known, 0).unwrap().links.into_iter().collect();
        for src in names.peers() {
            for dst in names.peers() {
                let wanted = place(src) != 0 && place(dst) != 0 && place(src) != place(dst);
                prop_assert_eq!(cut.contains(&Link { src, dst }), wanted, "{:?}→{:?}", src, dst);
            }
        }
    }
}
