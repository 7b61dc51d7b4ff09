use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::seed::MAX_SEED;
use crate::model::{Bridge, Draw, DrawGroups, DrawPeers, Nothing, Selector};

fn names(count: usize) -> PeerNames {
    PeerNames::new((1..=count).map(|at| format!("n{at:02}")))
}

fn words(text: &str) -> Shape {
    words::parse_words(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

/// Resolves names alone, without presets and roles.
fn resolve_of(
    shape: &Shape,
    direction: Direction,
    names: &PeerNames,
    seed: u64,
) -> Result<Resolved, TopologyError> {
    let known = Definitions { names, presets: &BTreeMap::new(), roles: &RolePeers::new() };
    resolve(shape, direction, known, seed)
}

fn try_resolve(text: &str, direction: Direction, count: usize, seed: u64) -> Result<Resolved, TopologyError> {
    resolve_of(&words(text), direction, &names(count), seed)
}

/// `n01` is written 1, and `world` w; links as `src>dst`, sorted by id.
fn links(resolved: &Resolved) -> String {
    let name = |id: PeerId| if id == PeerId::WORLD { "w".to_owned() } else { id.0.to_string() };
    let links = resolved.links.iter().map(|link| format!("{}>{}", name(link.src), name(link.dst)));
    links.collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, direction: Direction, count: usize) -> String {
    links(&try_resolve(text, direction, count, 0).unwrap())
}

#[test]
fn isolate_cuts_the_group_off_from_the_configured_others() {
    assert_eq!(cut("isolate n01", Direction::Both, 3), "1>2 1>3 2>1 3>1");
    assert_eq!(cut("isolate n01 n02", Direction::Both, 4), "1>3 1>4 2>3 2>4 3>1 3>2 4>1 4>2");
    assert_eq!(cut("isolate n01", Direction::In, 3), "2>1 3>1");
    assert_eq!(cut("isolate n01", Direction::Out, 3), "1>2 1>3");
}

#[test]
fn world_takes_part_only_where_named() {
    assert_eq!(cut("isolate world", Direction::Both, 2), "w>1 w>2 1>w 2>w");
    assert_eq!(cut("isolate world", Direction::Out, 2), "w>1 w>2");
    assert_eq!(cut("split n01 world", Direction::Both, 1), "w>1 1>w");
    assert_eq!(cut("links n01:world", Direction::Both, 3), "1>w");
    assert_eq!(cut("isolate n01 world", Direction::In, 2), "2>w 2>1");
}

#[test]
fn peers_that_split_does_not_name_are_one_further_group() {
    assert_eq!(cut("split n01,n02 n03", Direction::Both, 3), "1>3 2>3 3>1 3>2");
    assert_eq!(cut("split n01 n02", Direction::Both, 4), "1>2 1>3 1>4 2>1 2>3 2>4 3>1 3>2 4>1 4>2");
    assert_eq!(cut("split n01 n02", Direction::In, 3), "2>1 3>1");
}

#[test]
fn between_leaves_everyone_else_alone() {
    assert_eq!(cut("between n01 n02", Direction::Both, 4), "1>2 2>1");
    assert_eq!(cut("between n03,n01 n02", Direction::Out, 4), "1>2 3>2");
    assert_eq!(cut("between n01 n02,world", Direction::In, 4), "w>1 2>1");
    let resolved = try_resolve("between n03,n01 n02", Direction::Both, 4, 0).unwrap();
    assert_eq!((resolved.shape.to_string().as_str(), resolved.drawn), ("between n01,n03 n02", false));
}

#[test]
fn the_smaller_half_is_the_first() {
    let resolved = try_resolve("halves", Direction::Out, 5, 0).unwrap();
    assert_eq!(resolved.shape.to_string(), "split n01,n02 n03,n04,n05");
    assert_eq!(links(&resolved), "1>3 1>4 1>5 2>3 2>4 2>5");
    assert!(!resolved.drawn);
}

#[test]
fn a_bridge_hears_both_sides() {
    let resolved = try_resolve("bridge n03", Direction::Both, 5, 0).unwrap();
    assert_eq!(resolved.shape.to_string(), "bridge n03");
    assert_eq!(links(&resolved), "1>4 1>5 2>4 2>5 4>1 4>2 5>1 5>2");
}

#[test]
fn grudge_is_dst_drops_from_srcs() {
    assert_eq!(cut(r#"grudge {"n01":["n02","n03"]}"#, Direction::Both, 3), "2>1 3>1");
    assert_eq!(cut("links n01:n02 n01:n02 n03:n01", Direction::Both, 3), "1>2 3>1");
}

#[test]
fn empty_sets_of_a_grudge_drop_nothing() {
    assert_eq!(cut(r#"grudge {"n01":[],"n02":["n01"]}"#, Direction::Both, 3), "1>2");
}

#[test]
fn a_ring_is_shuffled_by_the_seed() {
    let ring = |seed| try_resolve("majorities-ring", Direction::Both, 5, seed).unwrap();
    assert!(ring(0).drawn);
    assert_eq!(ring(3), ring(3));
    // Five peers have 12 rings.
    let rings: BTreeSet<Vec<Link>> = (0..200).map(|seed| ring(seed).links).collect();
    assert_eq!(rings.len(), 12);
    for seed in 0..20 {
        assert_eq!(try_resolve("majorities-ring", Direction::Both, 7, seed).unwrap().links.len(), 20);
        assert_eq!(try_resolve("majorities-ring", Direction::Both, 3, seed).unwrap().links.len(), 3);
    }
}

/// Jepsen bisects all nodes, the smaller half first, and takes the bridge from the second half.
#[test]
fn a_bridge_is_one_of_the_second_half() {
    assert_eq!(cut("bridge n03", Direction::Both, 4), "1>4 2>4 4>1 4>2");
    assert_eq!(cut("bridge n04", Direction::Both, 6), "1>5 1>6 2>5 2>6 3>5 3>6 5>1 5>2 5>3 6>1 6>2 6>3");
    assert_eq!(cut("bridge n01", Direction::Both, 4), "2>4 3>4 4>2 4>3");
}

#[test]
fn members_are_sorted_and_names_count_by_their_numbers() {
    let names = PeerNames::new((1..=10).map(|at| format!("n{at}")));
    let resolved =
        |text: &str, seed| resolve_of(&words(text), Direction::Both, &names, seed).unwrap().shape.to_string();
    assert_eq!(resolved("halves", 0), "split n1,n2,n3,n4,n5 n6,n7,n8,n9,n10");
    assert_eq!(resolved("isolate n10 n2", 0), "isolate n2 n10");
    assert_eq!(resolved("split n10,n9 n3,n1", 0), "split n9,n10 n1,n3");
    let grudge = r#"grudge {"n10":["n10x","n2"],"n2":[]}"#.replace("n10x", "n9");
    assert_eq!(resolved(&grudge, 0), r#"grudge {"n2":[],"n10":["n2","n9"]}"#);
}

#[test]
fn a_preset_is_its_shape() {
    let presets = BTreeMap::from([
        ("lonely".to_owned(), words("isolate n02")),
        ("loop".to_owned(), words("preset lonely")),
    ]);
    let (names, roles) = (names(3), RolePeers::new());
    let known = Definitions { names: &names, presets: &presets, roles: &roles };
    let by_name = |name: &str| resolve(&Shape::Preset(name.to_owned()), Direction::In, known, 0);
    let resolved = by_name("lonely").unwrap();
    assert_eq!(links(&resolved), "1>2 3>2");
    assert_eq!(resolved.shape.to_string(), presets["lonely"].to_string());
    assert_eq!(
        by_name("other").unwrap_err().to_string(),
        "unknown preset \"other\"; known presets: lonely, loop"
    );
    assert!(by_name("loop").unwrap_err().to_string().contains("refers to a preset"));
}

#[test]
fn the_same_seed_gives_the_same_draw() {
    for text in ["random-node", "random-halves", "majorities-ring"] {
        let draw = |seed| try_resolve(text, Direction::Both, 9, seed).unwrap();
        for seed in 0..50 {
            assert_eq!(draw(seed), draw(seed));
            assert!(draw(seed).drawn);
        }
        let different: BTreeSet<_> = (0..50).map(|seed| draw(seed).shape.to_string()).collect();
        assert!(different.len() > 5, "{text}: {different:?}");
    }
    // A recorded seed must give the same draw in the next release too.
    let draw = |text, seed| try_resolve(text, Direction::Both, 5, seed).unwrap().shape.to_string();
    assert_eq!([0, 1, 7].map(|seed| draw("random-node", seed)), PINNED_NODES);
    assert_eq!([0, 1, 7].map(|seed| draw("random-halves", seed)), PINNED_HALVES);
    assert_eq!([0, 1, 7].map(|seed| draw("majorities-ring", seed)), PINNED_RINGS);
    // The largest seed is one as any other.
    assert_eq!(draw("random-node", MAX_SEED), "isolate n03");
}

const PINNED_NODES: [&str; 3] = ["isolate n04", "isolate n03", "isolate n01"];
const PINNED_HALVES: [&str; 3] =
    ["split n01,n03 n02,n04,n05", "split n04,n05 n01,n02,n03", "split n01,n04 n02,n03,n05"];

const PINNED_RINGS: [&str; 3] = [
    r#"grudge {"n01":["n02","n04"],"n02":["n01","n03"],"n03":["n02","n05"],"n04":["n01","n05"],"n05":["n03","n04"]}"#,
    r#"grudge {"n01":["n02","n05"],"n02":["n01","n04"],"n03":["n04","n05"],"n04":["n02","n03"],"n05":["n01","n03"]}"#,
    r#"grudge {"n01":["n02","n03"],"n02":["n01","n05"],"n03":["n01","n04"],"n04":["n03","n05"],"n05":["n02","n04"]}"#,
];

#[test]
fn every_node_is_drawn_about_as_often() {
    let mut counts = BTreeMap::<String, u32>::new();
    for seed in 0..5_000 {
        let shape = try_resolve("random-node", Direction::Both, 5, seed).unwrap().shape.to_string();
        *counts.entry(shape).or_default() += 1;
    }
    // 1,000 each; five standard deviations are 141.
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|count| (859..=1_141).contains(count)), "{counts:?}");
}

#[test]
fn errors_say_what_and_what_to_do() {
    for (text, count, expected) in [
        ("isolate n09", 2, "unknown peer \"n09\"; known peers: n01, n02, world"),
        ("bridge n09", 3, "unknown peer \"n09\"; known peers: n01, n02, n03, world"),
        ("links n01:x", 2, "unknown peer \"x\"; known peers"),
        (r#"grudge {"x":["n01"]}"#, 2, "unknown peer \"x\"; known peers"),
        (
            "isolate x",
            20,
            "known peers: n01, n02, n03, n04, n05, n06, n07, n08, n09, n10, n11, n12 and 9 more",
        ),
        ("split n01,n02 n02", 3, "peer \"n02\" is named twice in the groups; name each peer in one group"),
        ("isolate n01 n01", 3, "peer \"n01\" is named twice"),
        ("links n01:n01", 3, "\"n01\" has a link to itself; name two different peers"),
        (r#"grudge {"n01":["n01"]}"#, 3, "\"n01\" has a link to itself"),
        (r#"grudge {"n01":[]}"#, 3, "the shape cuts nothing: the grudge has no link; name at least one link"),
        ("grudge {}", 3, "the shape cuts nothing: the grudge has no link"),
        (r#"grudge {"x":[]}"#, 3, "unknown peer \"x\""),
        ("between n01 n01", 3, "peer \"n01\" is named twice"),
        ("between n01 n09", 3, "unknown peer \"n09\""),
        ("isolate n01 n02 n03", 3, "the shape cuts nothing"),
        ("split n01,n02", 2, "the shape cuts nothing"),
        ("halves", 1, "halves needs at least 2 peers, and 1 are configured; add peers"),
        ("random-halves", 1, "random-halves needs at least 2 peers"),
        ("random-node", 1, "random-node needs at least 2 peers"),
        ("majorities-ring", 2, "majorities-ring needs at least 3 peers"),
        ("bridge n01", 2, "bridge needs at least 3 peers"),
        ("bridge world", 3, "bridge goes over a configured peer, not over world; name a peer, or use halves"),
        ("preset p", 3, "unknown preset \"p\"; the config has no presets"),
    ] {
        let error = try_resolve(text, Direction::Both, count, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let refused = |shape: &Shape| resolve_of(shape, Direction::Both, &names(3), 0).unwrap_err();
    for shape in [Shape::Isolate(vec![]), Shape::Split(vec![]), Shape::Links(vec![])] {
        let error = refused(&shape);
        assert!(matches!(error, TopologyError::Empty { .. }), "{shape:?}: {error}");
    }
    for shape in [Shape::Split(vec![vec![]]), Shape::Between(vec![vec!["n01".into()], vec![]])] {
        let error = refused(&shape);
        assert!(matches!(error, TopologyError::EmptyGroup { .. }), "{shape:?}: {error}");
    }
}

#[test]
fn shapes_without_a_first_group_have_no_direction() {
    for text in ["links n01:n02", r#"grudge {"n01":["n02"]}"#, "majorities-ring", "bridge n01"] {
        for direction in [Direction::In, Direction::Out] {
            let error = try_resolve(text, direction, 5, 0).unwrap_err();
            let error = error.to_string();
            let shape = text.split(' ').next().unwrap();
            assert!(error.starts_with(shape) && error.contains("leave the direction out"), "{text}: {error}");
        }
    }
}

proptest! {
    #[test]
    fn links_are_sorted_unique_and_between_two(
        which in 0_usize..13, count in 4_usize..40, seed: u64, direction in 0_usize..3,
    ) {
        let direction = [Direction::Both, Direction::In, Direction::Out][direction];
        let text = ["isolate n02", "split n02,n01 world", "halves", "random-halves", "random-node", "isolate world", "between n03 n01",
            "random 2", "minority", "minority-third", "random-groups 3", "random-halves --among n01,n03",
            "random-groups 3 --among n04,n03,n01"][which];
        let resolved = try_resolve(text, direction, count, seed).unwrap();
        prop_assert!(resolved.links.is_sorted_by(|a, b| a < b));
        prop_assert!(resolved.links.iter().all(|link| link.src != link.dst));
        // A resolved shape resolves to itself, whatever the seed.
        let again = resolve_of(&words(&resolved.shape.to_string()), direction, &names(count), !seed).unwrap();
        prop_assert_eq!(&again.links, &resolved.links);
        prop_assert!(!again.drawn);
        // `in` and `out` are each other's mirror, and links of two groups are their sum.
        let of = |direction| try_resolve(text, direction, count, seed).unwrap().links;
        let mut mirrored: Vec<_> = of(Direction::In).into_iter().map(Link::reversed).collect();
        mirrored.sort_unstable();
        prop_assert_eq!(mirrored, of(Direction::Out));
        if ![1, 10, 12].contains(&which) {
            let mut sum = [of(Direction::In), of(Direction::Out)].concat();
            sum.sort_unstable();
            prop_assert_eq!(sum, of(Direction::Both));
        }
    }

    #[test]
    fn random_halves_differ_by_one_at_most(count in 2_usize..60, seed: u64) {
        let resolved = try_resolve("random-halves", Direction::Both, count, seed).unwrap();
        let Shape::Split(halves) = resolved.shape else { panic!("{:?}", resolved.shape) };
        prop_assert_eq!([halves[0].len(), halves[1].len()], [count / 2, count.div_ceil(2)]);
        prop_assert_eq!(halves.concat().into_iter().collect::<BTreeSet<_>>().len(), count);
    }

    #[test]
    fn a_ring_shows_everyone_another_majority(count in 3_usize..80, seed: u64) {
        let resolved = try_resolve("majorities-ring", Direction::Both, count, seed).unwrap();
        let cut: BTreeSet<Link> = resolved.links.iter().copied().collect();
        let mut seen = BTreeSet::new();
        let names = names(count);
        for dst in names.peers() {
            let hears: Vec<PeerId> =
                names.peers().filter(|src| !cut.contains(&Link { src: *src, dst })).collect();
            prop_assert!(hears.contains(&dst) && hears.len() > count / 2, "{dst:?} hears {hears:?}");
            prop_assert!(hears.len() <= count / 2 + 2, "{dst:?} hears {hears:?}");
            prop_assert!(seen.insert(hears), "{dst:?} hears what another hears");
        }
        if count > 3 {
            prop_assert!(cut.iter().all(|link| cut.contains(&link.reversed())));
        }
    }

    #[test]
    fn only_the_bridge_is_heard_on_both_sides(count in 3_usize..40, via in 1_usize..40) {
        let via = (via - 1) % count + 1;
        let resolved = try_resolve(&format!("bridge n{via:02}"), Direction::Both, count, 0).unwrap();
        let via = PeerId(u16::try_from(via).unwrap());
        for peer in names(count).peers() {
            let cut = resolved.links.iter().any(|link| link.src == peer || link.dst == peer);
            prop_assert_eq!(cut, peer != via);
        }
    }

    #[test]
    fn resolving_never_panics(shape in shapes(), count in 0_usize..6, seed: u64) {
        let _ = resolve_of(&shape, Direction::Both, &names(count), seed);
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let text =
        || prop_oneof!["n0[1-6]", Just("world".to_owned()), Just(String::new()), Just("@leader".to_owned())];
    let name = move || text().prop_map(|name| Selector::from(name.as_str()));
    let list = move || proptest::collection::vec(name(), 0..4);
    let among = move || proptest::option::of(list());
    prop_oneof![
        list().prop_map(Shape::Isolate),
        proptest::collection::vec(list(), 0..4).prop_map(Shape::Split),
        proptest::collection::vec(list(), 0..4).prop_map(Shape::Between),
        Just(Shape::Halves(Nothing {})),
        among().prop_map(|among| Shape::RandomHalves(Draw { among })),
        (0..8_u16, among()).prop_map(|(groups, among)| Shape::RandomGroups(DrawGroups { groups, among })),
        among().prop_map(|among| Shape::RandomNode(Draw { among })),
        (0..8_u16, among()).prop_map(|(peers, among)| Shape::Random(DrawPeers { peers, among })),
        among().prop_map(|among| Shape::Minority(Draw { among })),
        among().prop_map(|among| Shape::MinorityThird(Draw { among })),
        among().prop_map(|among| Shape::MajoritiesRing(Draw { among })),
        name().prop_map(|via| Shape::Bridge(Bridge { via })),
        proptest::collection::vec((name(), name()), 0..4).prop_map(|links| {
            Shape::Links(links.into_iter().map(|(src, dst)| NamedLink { src, dst }).collect())
        }),
        proptest::collection::btree_map(name(), list(), 0..4).prop_map(Shape::Grudge),
        text().prop_map(Shape::Preset),
    ]
}
