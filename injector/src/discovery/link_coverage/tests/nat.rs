//! Coverage where rules of NAT are between the peers.

use std::sync::Arc;

use super::*;
use crate::discovery::nat::TranslatedDestination;
use crate::netlink::nat::{Dnat, Nat, Target};
use crate::netlink::nft_rule::{Comparison, IPV4, Loaded, Rule, Step, Verdict as End};
use crate::netlink::nft_walk::{Chain, Chance};

fn rules(space: &mut Namespace) -> &mut Nat {
    Arc::make_mut(&mut space.facts.nat)
}

/// Has a rule of a namespace send packets on.
fn translate(space: &mut Namespace, to: Target) {
    let name = "chain ip nat PREROUTING of nftables".to_owned();
    rules(space).rules.push(Dnat { name, to, rule: None });
}

/// Has a rule of a namespace send packets to one address on.
fn translate_from(space: &mut Namespace, before: [u8; 4], to: Target) {
    let steps = [condition(16, &before), vec![Step::Destination(to)]].concat();
    let rule = Rule { family: IPV4, table: "nat".to_owned(), chain: "PREROUTING".to_owned(), steps };
    translate(space, to);
    rules(space).rules.last_mut().unwrap().rule = Some(rule);
}

/// Has a namespace masquerade packets that meet some conditions.
fn masquerade(space: &mut Namespace, conditions: &[Step]) {
    replace(space, conditions, Target::Own);
}

fn replace(space: &mut Namespace, conditions: &[Step], by: Target) {
    let rule = [conditions, &[Step::Source(by)]].concat();
    let (table, name) = ("nat".to_owned(), "POSTROUTING".to_owned());
    rules(space).senders.push(Chain { family: IPV4, table, name, is_called: true, rules: vec![rule] });
}

/// The condition that the header has these bytes at a place: the source is at 12, the destination at 16.
fn condition(at: usize, value: &[u8]) -> Vec<Step> {
    let what = Loaded::Header { at, length: value.len() };
    let value = value.to_vec();
    vec![Step::Load { to: 16, what }, Step::Compare { from: 16, how: Comparison::Same, value }]
}

fn to(first: &str, last: &str) -> Target {
    Target::Range(first.parse().unwrap(), last.parse().unwrap())
}

fn detour(assessment: LinkAssessment) -> Detour {
    let Reason::Translated(detour) = assessment.reason else { panic!("{assessment:?}") };
    *detour
}

/// The coverage of n1→n2 and n2→n1 with `hooked` interfaces.
fn states(spaces: &[Namespace], hooked: &[&str]) -> [CoverageState; 2] {
    let fixture = fixture(&config(""), spaces, hooked);
    [fixture.state(1, 2), fixture.state(2, 1)]
}

/// While these are cut.
fn assessed(spaces: &[Namespace], hooked: &[&str], link: Link, cut: &[Link]) -> CoverageState {
    let fixture = fixture(&config(""), spaces, hooked);
    let mut cut = cut.to_vec();
    cut.sort_unstable();
    CoverageAssessor::new(&fixture.picture, &fixture.hooked, &BTreeSet::new())
        .assess_in(link, &cut, false)
        .state
}

#[test]
fn a_rule_of_nat_beyond_the_only_hooked_end_leaves_a_way_open() {
    let mut spaces = switched();
    translate(&mut spaces[0], to("10.0.0.2", "10.0.0.2"));
    for (src, dst) in [(1, 2), (2, 1)] {
        let assessment = fixture(&config(""), &spaces, &["a/eth0"]).assess(src, dst);
        assert_eq!((assessment.state, assessment.is_translated()), (Partly, false));
        let detour = detour(assessment);
        assert_eq!((detour.near, detour.far), (PeerId(1), PeerId(2)));
        let Rewrite::Destination(rule) = detour.rewrite else { panic!("{:?}", detour.rewrite) };
        assert_eq!(rule.destination, TranslatedDestination::Peer(PeerId(2), "10.0.0.2".parse().unwrap()));
        let names: Vec<&str> = detour.places.iter().map(|place| place.name.as_str()).collect();
        assert!(names.contains(&"eth0") && names.contains(&"h2"), "{names:?}");
        for hooked in [&["a/eth0", "h2"][..], &["h1", "b/eth0"], &["h2"]] {
            assert_eq!(fixture(&config(""), &spaces, hooked).state(src, dst), Covered, "{hooked:?}");
        }
    }
    assert_eq!(fixture(&config(""), &spaces, &["a/eth0"]).state(1, 3), Covered, "another peer");
    assert_eq!(fixture(&config(""), &spaces, &["a/eth0"]).state(1, 0), Covered, "the world");
    let mut wide = switched();
    translate(&mut wide[0], to("10.0.0.0", "10.0.0.9"));
    assert_eq!(fixture(&config(""), &wide, &["a/eth0"]).state(1, 3), Partly);
    let here = config("here: [n1]");
    let elsewhere = fixture(&here, &wide, &["a/eth0"]).assess(1, 3);
    assert_eq!(elsewhere.state, Unknown, "another daemon's hooks are not seen");
    assert!(!elsewhere.is_translated(), "and a drop here is all that this one can show");
}

#[test]
fn cutting_off_the_holder_of_the_address_before_covers_the_link() {
    let near_hook = &["a/eth0"][..];
    let both = [link(1, 2), link(2, 1)];
    let with = |more: &[Link]| [&both[..], more].concat();
    // The service's address is nobody's: it is the world's.
    let mut spaces = switched();
    translate_from(&mut spaces[0], [10, 0, 0, 9], to("10.0.0.2", "10.0.0.2"));
    let of = |link, cut: &[Link]| assessed(&spaces, near_hook, link, cut);
    assert_eq!(of(link(1, 2), &with(&[])), Partly);
    assert_eq!(of(link(1, 2), &with(&[link(1, 0)])), Covered);
    assert_eq!(of(link(2, 1), &with(&[link(1, 0)])), Partly, "not the other way");
    assert_eq!(of(link(2, 1), &with(&[link(0, 1)])), Covered);
    // The service's address is another peer's.
    let mut spaces = switched();
    translate_from(&mut spaces[0], [10, 0, 0, 3], to("10.0.0.2", "10.0.0.2"));
    let of = |cut: &[Link]| assessed(&spaces, near_hook, link(1, 2), &with(cut));
    assert_eq!(of(&[link(1, 0)]), Partly, "the world is not who holds it");
    assert_eq!(of(&[link(1, 3)]), Covered);
    // The far peer's own: the link is cut by that one as well.
    let mut spaces = switched();
    translate_from(&mut spaces[0], [10, 0, 0, 2], to("10.0.0.2", "10.0.0.2"));
    assert_eq!(assessed(&spaces, near_hook, link(1, 2), &both), Covered);
    // The rule's conditions are not known: the address may be anybody's.
    let mut spaces = switched();
    translate(&mut spaces[0], to("10.0.0.2", "10.0.0.2"));
    let of = |cut: &[Link]| assessed(&spaces, near_hook, link(1, 2), &with(cut));
    assert_eq!((of(&[link(1, 0)]), of(&[link(1, 3)])), (Partly, Partly));
    assert_eq!(of(&[link(1, 0), link(1, 3)]), Covered);
    // Another rule for the same peer leaves another way open.
    let mut spaces = switched();
    translate_from(&mut spaces[0], [10, 0, 0, 9], to("10.0.0.2", "10.0.0.2"));
    translate_from(&mut spaces[0], [10, 0, 0, 3], to("10.0.0.2", "10.0.0.2"));
    assert_eq!(assessed(&spaces, near_hook, link(1, 2), &with(&[link(1, 0)])), Partly);
}

#[test]
fn what_a_peer_translates_itself_is_translated_before_its_hooks() {
    for (at, wanted) in [(1, Covered), (2, Partly)] {
        let mut spaces = switched();
        translate(&mut spaces[at], to("10.0.0.2", "10.0.0.2"));
        assert_eq!(fixture(&config(""), &spaces, &["a/eth0"]).state(1, 2), wanted, "in namespace {at}");
    }
}

#[test]
fn rules_whose_goal_is_not_known_leave_it_unknown() {
    let mut computed = switched();
    translate(&mut computed[0], Target::Computed);
    let mut unread = switched();
    rules(&mut unread[0]).unread = Some("too many".to_owned());
    for spaces in [computed, unread] {
        let assessment = fixture(&config(""), &spaces, &["a/eth0"]).assess(1, 2);
        assert_eq!((assessment.state, assessment.is_translated()), (Unknown, true));
        assert_eq!(fixture(&config(""), &spaces, &["h1", "h2"]).state(1, 2), Covered);
    }
}

/// The second node has another device, without a hook.
#[test]
fn of_a_peer_with_two_devices_the_one_with_the_address_counts() {
    let mut spaces = switched();
    spaces[2].facts.links.push(device(2, 7, "eth1", Kind::Other));
    spaces[2].facts.addresses.push((7, "192.0.2.2".parse().unwrap()));
    spaces[2].facts.networks.push((3, "10.0.0.2/24".parse().unwrap()));
    let hooked = &["a/eth0", "b/eth0"][..];
    assert_eq!(states(&spaces, hooked), [Covered, Covered]);
    let mut published = spaces.clone();
    translate(&mut published[0], to("10.0.0.2", "10.0.0.2"));
    assert_eq!(states(&published, hooked), [Covered, Covered], "by the hooked device");
    assert_eq!(states(&published, &["a/eth0"]), [Partly, Partly]);
    let mut by_the_other = spaces;
    translate(&mut by_the_other[0], to("192.0.2.2", "192.0.2.2"));
    assert_eq!(by_the_other[2].facts.links.len(), 2);
    // Answers leave by the route to n1, where a hook is.
    assert_eq!(states(&by_the_other, hooked), [Partly, Covered]);
}

#[test]
fn a_replaced_source_hides_the_sender_from_the_receivers_hooks() {
    let mut spaces = switched();
    masquerade(&mut spaces[0], &condition(12, &[10, 0, 0, 1]));
    let assessment = fixture(&config(""), &spaces, &["b/eth0"]).assess(1, 2);
    assert_eq!(assessment.state, Partly);
    let detour = detour(assessment);
    assert_eq!((detour.near, detour.far), (PeerId(2), PeerId(1)));
    assert!(matches!(detour.rewrite, Rewrite::Source(_)), "{detour:?}");
    assert_eq!(states(&spaces, &["b/eth0"]), [Partly, Partly], "answers carry that address, too");
    for hooked in [&["a/eth0"][..], &["h1"], &["h1", "h2"]] {
        assert_eq!(states(&spaces, hooked), [Covered, Covered], "{hooked:?}: the sender's own hooks see it");
    }
    assert_eq!(fixture(&config(""), &spaces, &["b/eth0"]).state(3, 2), Covered, "of another sender");
    let all = [link(0, 2), link(1, 2), link(3, 2)];
    assert_eq!(assessed(&spaces, &["b/eth0"], link(1, 2), &all), Covered, "whoever it seems to come from");
    assert_eq!(assessed(&spaces, &["b/eth0"], link(1, 2), &all[..2]), Partly);
}

/// The rules are as engines of containers write them on each host.
#[test]
fn masquerading_towards_other_networks_does_not_matter_within_one() {
    let mut spaces = switched();
    let facts = &mut spaces[0].facts;
    facts.networks.push((9, "10.0.0.14/24".parse().unwrap()));
    masquerade(&mut spaces[0], &condition(12, &[10, 0, 0]));
    for hooked in [&["h1"][..], &["h2"], &["a/eth0", "b/eth0"]] {
        assert_eq!(states(&spaces, hooked), [Covered, Covered], "{hooked:?}: the host passes nothing on");
    }
    // Neither for addresses of a network that it leaves alone.
    let mut spaces = switched();
    let inside = |at| condition(at, &[10, 0, 0]);
    let rules = vec![
        [inside(16), vec![Step::Verdict(End::End)]].concat(),
        [inside(12), vec![Step::Source(Target::Own)]].concat(),
    ];
    let (table, name) = ("nat".to_owned(), "POSTROUTING".to_owned());
    let chain = Chain { family: IPV4, table, name, is_called: true, rules };
    self::rules(&mut spaces[0]).senders.push(chain);
    assert_eq!(states(&spaces, &["h2"]), [Covered, Covered]);
    // A condition on a mark is not known, and no reason to doubt each link.
    let mut spaces = switched();
    masquerade(&mut spaces[0], &[Step::Doubt]);
    assert_eq!(states(&spaces, &["h2"]), [Covered, Covered]);
}

#[test]
fn packets_with_both_addresses_replaced_pass_the_hooks_of_both_ends() {
    let hooked = &["h1", "h2"][..];
    let mut spaces = switched();
    spaces[0].facts.networks.push((9, "10.0.0.14/24".parse().unwrap()));
    translate(&mut spaces[0], to("10.0.0.2", "10.0.0.2"));
    assert_eq!(states(&spaces, hooked), [Covered, Covered]);
    let mut both = spaces.clone();
    masquerade(&mut both[0], &condition(12, &[10, 0, 0, 1]));
    let assessment = fixture(&config(""), &both, hooked).assess(1, 2);
    assert_eq!((assessment.state, assessment.is_translated()), (Unknown, true));
    assert!(matches!(detour(assessment).rewrite, Rewrite::Both(..)));
    let world = [link(1, 0), link(1, 2), link(1, 3)];
    assert_eq!(
        assessed(&both, hooked, link(1, 2), &world),
        Covered,
        "n1's hooks see somebody whom it is cut off from"
    );
    // The rule for a published port depends on a mark: it is shown, and the link stays covered.
    let mut published = spaces;
    masquerade(&mut published[0], &[Step::Doubt]);
    let assessment = fixture(&config(""), &published, hooked).assess(1, 2);
    assert_eq!((assessment.state, assessment.is_translated()), (Covered, false));
    let Rewrite::Both(_, rule) = detour(assessment).rewrite else { panic!() };
    assert_eq!(rule.snat.chance, Chance::Perhaps);
}

#[test]
fn what_a_peer_sends_by_an_address_that_is_not_its_own() {
    for (by, is_plain, wanted) in [
        (Target::Own, true, Covered),
        (to("10.0.0.1", "10.0.0.1"), true, Covered),
        // Its port says who it is.
        (to("10.0.0.7", "10.0.0.7"), true, Covered),
        (to("10.0.0.7", "10.0.0.7"), false, Unknown),
        (Target::Own, false, Covered),
    ] {
        let mut spaces = switched();
        if !is_plain {
            // The peer may send for others.
            spaces[1].facts.links.push(device(1, 7, "br7", Kind::Bridge));
            spaces[1].facts.links.push(LinkFacts { master: Some(7), ..device(1, 8, "tap8", Kind::Tap) });
        }
        replace(&mut spaces[1], &[], by);
        let more = config("elsewhere: [{ name: tap8, netns: a }]");
        let fixture = fixture(&more, &spaces, &["a/eth0", "b/eth0"]);
        assert_eq!(fixture.state(1, 2), wanted, "{by:?}, plain: {is_plain}");
    }
}

#[test]
fn a_redirection_matters_where_its_namespace_passes_on_for_others() {
    let mut spaces = switched();
    translate(&mut spaces[2], Target::Own);
    assert_eq!(
        states(&spaces, &["a/eth0"]),
        [Covered, Covered],
        "all that comes to n2 is for its own addresses"
    );
    spaces[1].facts.routes.push(via("192.0.2.0/24", 2, "10.0.0.2"));
    assert_eq!(states(&spaces, &["a/eth0"]), [Partly, Partly], "n2 is a next hop");
}

#[test]
fn a_rule_for_an_open_end_is_no_better_than_for_a_closed_one() {
    let mut spaces = switched();
    // n1 has a device without a hook, to which nothing leads.
    spaces[1].facts.links.push(device(1, 7, "eth1", Kind::Other));
    assert_eq!(states(&spaces, &["a/eth0"]), [Unknown, Unknown]);
    translate(&mut spaces[0], to("10.0.0.2", "10.0.0.2"));
    assert_eq!(states(&spaces, &["a/eth0"]), [Partly, Partly]);
    translate(&mut spaces[0], Target::Computed);
    let mut computed = switched();
    computed[1].facts.links.push(device(1, 7, "eth1", Kind::Other));
    translate(&mut computed[0], Target::Computed);
    assert!(fixture(&config(""), &computed, &["a/eth0"]).assess(1, 2).is_translated());
}

#[test]
fn a_rule_that_writes_addresses_without_nat_is_seen_by_neither_end() {
    let written = |at: usize| {
        let mut spaces = switched();
        rules(&mut spaces[at]).rewriter = Some("chain ip m pre of nftables".to_owned());
        spaces
    };
    let beyond = written(0);
    for hooked in [&["a/eth0"][..], &["a/eth0", "b/eth0"], &["h1", "h2"]] {
        let assessment = fixture(&config(""), &beyond, hooked).assess(1, 2);
        assert_eq!((assessment.state, assessment.is_translated()), (Unknown, true), "{hooked:?}");
        assert!(matches!(detour(assessment).rewrite, Rewrite::WithoutNat(_)));
    }
    let (both, near_hook) = ([link(1, 2), link(2, 1)], &["a/eth0", "b/eth0"][..]);
    let all = [&both[..], &[link(1, 0), link(1, 3)]].concat();
    assert_eq!(assessed(&beyond, near_hook, link(1, 2), &all), Covered, "n1 sends nothing to anybody");
    assert_eq!(assessed(&beyond, near_hook, link(2, 1), &all), Unknown);
    let without_world = [&both[..], &[link(1, 3)]].concat();
    assert_eq!(assessed(&beyond, near_hook, link(1, 2), &without_world), Unknown);
    // At the port of a peer that passes on nothing, all is its own.
    assert_eq!(states(&written(1), &["a/eth0", "b/eth0"]), [Covered, Covered]);
}
