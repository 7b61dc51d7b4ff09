//! Verdicts of the real programs in the real kernel, by `BPF_PROG_TEST_RUN`: no interface is touched.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(kernels);

#[path = "kernel_verdict/firsts.rs"]
mod firsts;
#[path = "kernel_verdict/overlaps.rs"]
mod overlaps;
mod support;

use injector::datapath::Clocks;
use injector_common::Word;
use injector_common::record::{LinkStamps, counter};
use injector_common::slot::LOSS_ALL;
use injector_core::clock::MonoNs;
use injector_core::config::Config;
use injector_core::identity::{End, Identity, Port, Traits};
use injector_core::ledger::DataPlane as _;
use injector_core::model::{Link, PeerId};
use injector_core::plan::{Cell, Column};
use injector_core::plan::{Presence, SlotIndex};

use injector_lab::needs;
use support::frame::fragment;
use support::packet;
use support::programs::{Hook, INTERFACE, Programs, config, link, scoped, steady};

const THREE: &str = r#"
peers:
  n1: { addresses: [10.0.0.1, "fd00::1"] }
  n2: { addresses: [10.0.0.2, "fd00::2"] }
  n3: { addresses: [10.0.0.3, "fd00::3"] }
"#;

/// The test clock's middle.
const NOON: u64 = 1_000_000_000_000;
const MS: u64 = 1_000_000;
const SYN: u8 = 0x02;

/// Programs with the test clock at noon.
fn bench(text: &str) -> (Config, Programs) {
    let config = config(text);
    let mut programs = Programs::load(&config, Clocks::Test);
    programs.at(NOON);
    (config, programs)
}

#[test]
#[needs(root, every_kernel)]
fn a_cut_drops_its_link_and_nothing_else() {
    let config = config(THREE);
    let mut programs = Programs::load(&config, Clocks::Real);
    let link = link(&config, "n1", "n2");
    let slot = SlotIndex(3);
    let cut = [
        packet::tcp("10.0.0.1", "10.0.0.2", 1, 2, 0x18, b"x"),
        packet::tcp("fd00::1", "fd00::2", 1, 2, 2, b""),
    ];
    let kept = [
        packet::tcp("10.0.0.2", "10.0.0.1", 1, 2, 0x18, b"x"),
        packet::tcp("10.0.0.1", "10.0.0.3", 1, 2, 0x18, b"x"),
        packet::udp("10.0.0.1", "192.0.2.1", 1, 2, b"x"),
        packet::ethernet(0x88cc, &[0; 60]),
        vec![0; 14],
    ];
    let verdicts = |programs: &mut Programs, expected: bool| {
        for frame in &cut {
            assert_eq!(programs.all_drop(frame), expected);
        }
        for frame in &kept {
            assert!(!programs.all_drop(frame));
        }
    };
    verdicts(&mut programs, false);
    programs.kernel.write_slot(slot, &steady(9)).unwrap();
    programs.kernel.write_cells(slot, &[link.into()], Presence::In);
    verdicts(&mut programs, false);
    // The gate stores by the real clock, and so does its lease.
    programs.lease((MonoNs::now() + injector::datapath::LEASE).0);
    let cut_at = programs.kernel.gate().store(Word::new(slot.bit(), 0)).unwrap();
    // An emulated processor may take longer than the lease lasts.
    programs.lease(u64::MAX);
    verdicts(&mut programs, true);
    let heal_at = programs.kernel.gate().store(Word::new(0, slot.bit())).unwrap();
    verdicts(&mut programs, false);

    let stamps = programs.kernel.link_stamps(slot, 9, &[link]).unwrap();
    assert_eq!(stamps.len(), 1);
    let (stamped, stamps) = stamps[0];
    assert_eq!(stamped, link);
    assert_eq!(stamps.dropped_packets, 6);
    let first_drop = MonoNs(stamps.first_drop);
    let last_drop = MonoNs(stamps.last_drop);
    assert!(cut_at.begin <= first_drop && first_drop < last_drop && last_drop <= heal_at.end);
    assert!(heal_at.begin <= MonoNs(stamps.first_packet));
    assert!(stamps.first_packet <= stamps.first_data && stamps.first_packet < stamps.first_syn);
    assert_eq!(stamps.first_synack, 0);
    programs.kernel.forget(slot).unwrap();
    assert!(programs.kernel.link_stamps(slot, 9, &[link]).unwrap().is_empty());
}

#[test]
#[needs(root, every_kernel)]
fn an_exact_address_names_before_a_prefix_and_a_prefix_before_a_mac() {
    // MACs of the frames that `packet` builds: from 02:…:01 to 02:…:02.
    let (config, mut programs) = bench(
        r#"
peers:
  exact: { addresses: [10.0.1.1, "fd00:0:0:1::1"] }
  long: { addresses: [10.0.1.0/24, "fd00:0:0:1::/64"] }
  short: { addresses: [10.0.0.0/16, "fd00::/16", "::/8"] }
  mac: { mac: "02:00:00:00:00:01" }
  to: { addresses: [192.0.2.2, "2001:db8::2"] }
"#,
    );
    let mac = config.names.id("mac").unwrap();
    let plain = Traits { is_plain: true, ..Traits::default() };
    let identity = Identity { peers: [(mac, plain)].into(), ..Identity::default() };
    programs.kernel.identify(&identity).unwrap();
    let cases = [
        ("exact", "10.0.1.1", "fd00:0:0:1::1"),
        ("long", "10.0.1.2", "fd00:0:0:1::2"),
        ("short", "10.0.2.1", "fd00:0:0:2::1"),
        // ::/8 spans the IPv4-mapped addresses, but not IPv4.
        ("mac", "198.51.100.1", "2001:db8::9"),
    ];
    for (name, ..) in cases {
        let links = [link(&config, name, "to")];
        programs.place(0, &steady(1), &links);
        programs.word(1, 0);
        for (other, v4_other, v6_other) in cases {
            let frames = [
                packet::udp(v4_other, "192.0.2.2", 1, 2, b"x"),
                packet::udp(v6_other, "2001:db8::2", 1, 2, b"x"),
            ];
            for frame in frames {
                assert_eq!(programs.all_drop(&frame), name == other, "{name} cut, from {other}");
            }
        }
        programs.word(0, 0);
        programs.clear(0, &links);
    }
    // Link-local and unspecified addresses are nobody's: ::/8 spans the latter, and the MAC names them.
    let links = [link(&config, "mac", "to")];
    programs.place(0, &steady(2), &links);
    programs.word(1, 0);
    for address in ["fe80::1", "::"] {
        assert!(programs.all_drop(&packet::udp(address, "2001:db8::2", 1, 2, b"x")), "{address}");
    }
    // A peer that may forward for others is not named by its MAC where an address says that it is someone else's frame.
    programs.kernel.identify(&Identity::default()).unwrap();
    let routed = packet::udp("198.51.100.1", "192.0.2.2", 1, 2, b"x");
    assert!(!programs.all_drop(&routed));
    assert!(programs.all_drop(&packet::udp("fe80::1", "2001:db8::2", 1, 2, b"x")));
    programs.word(0, 0);
    programs.clear(0, &links);
    // Nobody: neither address nor MAC.
    let links = [link(&config, "world", "to")];
    programs.place(0, &steady(3), &links);
    programs.word(1, 0);
    assert!(programs.all_drop(&routed));
    programs.kernel.identify(&identity).unwrap();
    let mut stranger = packet::udp("198.51.100.1", "192.0.2.2", 1, 2, b"x");
    assert!(!programs.all_drop(&stranger));
    stranger[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    assert!(programs.all_drop(&stranger));
}

#[test]
#[needs(root)]
fn a_group_frame_is_judged_where_its_receiver_is_known() {
    let (config, mut programs) = bench(
        r#"
peers:
  n1: { addresses: [10.0.0.1, "fd00::1"] }
  n2: { addresses: [10.0.0.2, "fd00::2", 192.0.0.0/2] }
"#,
    );
    let [n1, n2] = ["n1", "n2"].map(|name| config.names.id(name).unwrap());
    let mut broadcast = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    broadcast[..6].fill(0xff);
    let groups = [
        packet::udp("10.0.0.1", "224.0.0.251", 1, 2, b"x"),
        packet::udp("10.0.0.1", "255.255.255.255", 1, 2, b"x"),
        packet::udp("fd00::1", "ff02::1", 1, 2, b"x"),
        broadcast,
    ];
    let unicast = packet::udp("10.0.0.1", "192.0.2.9", 1, 2, b"x");
    let to = |peer| Cell::from(Link { src: n1, dst: peer });
    let to_all = Cell { dst: Column::Group, ..to(n2) };
    // The peer whose host end the interface is; what is cut; whether group frames and one to n2 are dropped, in and out.
    let cases = [
        (None, to(n2), [false, true], [false, true]),
        (None, to(PeerId::WORLD), [false, false], [false, false]),
        (None, to_all, [false, false], [false, false]),
        (Some(n2), to(n2), [false, true], [true, true]),
        (Some(n2), to(PeerId::WORLD), [false, false], [false, false]),
        (Some(n1), to(n2), [false, true], [false, true]),
        (Some(n1), to_all, [true, false], [false, false]),
    ];
    for (behind, cell, going_in, going_out) in cases {
        let port = behind.map(|peer| (INTERFACE, Port { peer, end: End::Host, is_shared: false }));
        let identity = Identity { ports: port.into_iter().collect(), ..Identity::default() };
        programs.kernel.identify(&identity).unwrap();
        programs.place_cells(0, &steady(1), &[cell]);
        programs.word(1, 0);
        for (hook, [group, one]) in [(Hook::In, going_in), (Hook::Xdp, going_in), (Hook::Out, going_out)] {
            for frame in &groups {
                assert_eq!(programs.drops(hook, frame), group, "{cell:?} at {hook:?} of {behind:?}");
            }
            assert_eq!(programs.drops(hook, &unicast), one, "{cell:?} at {hook:?} of {behind:?}");
        }
        programs.word(0, 0);
        programs.clear_cells(0, &[cell]);
    }
}

#[test]
#[needs(root)]
fn a_port_scope_acts_on_the_first_fragment_and_an_unscoped_cut_on_all() {
    let (config, mut programs) = bench(THREE);
    let links = [link(&config, "n1", "n2")];
    let first = fragment(packet::udp("10.0.0.1", "10.0.0.2", 7000, 9, b"begin"), 0, true);
    // Ports that a later fragment's data only seems to have.
    let later = fragment(packet::udp("10.0.0.1", "10.0.0.2", 7000, 9, b"end"), 2, false);
    let mut tiny = fragment(packet::tcp("10.0.0.1", "10.0.0.2", 1, 7000, SYN, b""), 0, true);
    tiny.truncate(14 + 20 + 8);
    let torn = tiny[..14 + 20 + 3].to_vec();
    let cases = [
        (steady(1), [true, true, true, true]),
        (scoped(1, &["udp"]), [true, true, false, false]),
        (scoped(1, &["udp/7000"]), [true, false, false, false]),
        (scoped(1, &["udp/7000:dst"]), [false, false, false, false]),
        (scoped(1, &["tcp"]), [false, false, true, true]),
        (scoped(1, &["tcp/6999-7001:dst"]), [false, false, true, false]),
    ];
    for (slot, expected) in cases {
        programs.place(0, &slot, &links);
        programs.word(1, 0);
        let verdicts = [&first, &later, &tiny, &torn].map(|frame| programs.all_drop(frame));
        assert_eq!(verdicts, expected, "{:?}", &slot.scopes[..1]);
        programs.word(0, 0);
    }
}

#[test]
#[needs(root)]
fn an_icmp_error_is_in_the_scope_of_the_flow_that_it_quotes() {
    let (config, mut programs) = bench(THREE);
    let links = [link(&config, "n2", "n1")];
    // n2 answers a packet of n1 to its port 5122: the quote's ports are those of the way there.
    let quote = packet::tcp("10.0.0.1", "10.0.0.2", 40000, 5122, SYN, b"");
    let error = packet::ip("10.0.0.2", "10.0.0.1", 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], &quote[14..]].concat());
    let quote = packet::tcp("fd00::1", "fd00::2", 40000, 5122, SYN, b"");
    let error6 = packet::ip("fd00::2", "fd00::1", 58, &[&[1, 4, 0, 0, 0, 0, 0, 0], &quote[14..]].concat());
    let echo = packet::ip("10.0.0.2", "10.0.0.1", 1, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let cases = [
        ("tcp/5122:src", true, false),
        ("tcp/5122:dst", false, false),
        ("tcp/40000:dst", true, false),
        ("tcp", true, false),
        ("udp", false, false),
        ("icmp", true, true),
    ];
    for (scope, expected, expected_of_echo) in cases {
        programs.place(0, &scoped(1, &[scope]), &links);
        programs.word(1, 0);
        assert_eq!(programs.all_drop(&error), expected, "{scope}");
        assert_eq!(programs.all_drop(&error6), expected, "{scope}");
        assert_eq!(programs.all_drop(&echo), expected_of_echo, "{scope}");
        programs.word(0, 0);
    }
}

#[test]
#[needs(root)]
fn neighbours_are_kept_unless_asked_for() {
    let (config, mut programs) = bench(THREE);
    let links = [link(&config, "n1", "n2")];
    let mut arp = packet::ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
    arp.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    arp[..6].fill(0xff);
    let target = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap();
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    let mut solicitation = packet::ip("fd00::1", "ff02::1:ff00:2", 58, &solicitation);
    solicitation[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 2]);
    for expected in [false, true] {
        let cell = Cell { neighbours: expected, ..Cell::from(links[0]) };
        programs.place_cells(0, &steady(1), &[cell]);
        programs.word(1, 0);
        assert_eq!(programs.all_drop(&arp), expected);
        assert_eq!(programs.all_drop(&solicitation), expected);
        programs.word(0, 0);
    }
}

#[test]
#[needs(root)]
fn of_a_peers_several_devices_one_loses_a_packet() {
    /// Interfaces that roll.
    type Rolling = &'static [u32];
    const ELSEWHERE: u32 = INTERFACE + 1;
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    let mut half = steady(1);
    half.loss = LOSS_ALL / 2;
    programs.place(0, &half, &[there]);
    programs.word(1, 0);
    programs.set(NOON, 0, 0);
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    // Whose own device the interface is, where source and destination are bound, and whether the packet is lost going in and out.
    let (n1, n2, n3) = (there.src, there.dst, PeerId(3));
    let cases: [(PeerId, Rolling, Rolling, [bool; 2]); 6] = [
        (n1, &[INTERFACE, ELSEWHERE], &[], [false, true]),
        (n1, &[INTERFACE], &[], [true, true]),
        (n2, &[INTERFACE, ELSEWHERE], &[], [true, true]),
        (n3, &[INTERFACE, ELSEWHERE], &[], [true, true]),
        (n2, &[], &[INTERFACE, ELSEWHERE], [true, false]),
        (n1, &[], &[INTERFACE, ELSEWHERE], [true, true]),
    ];
    for (peer, src, dst, lost) in cases {
        let port = Port { peer, end: End::Own, is_shared: false };
        let identity = Identity { ports: [(INTERFACE, port)].into(), ..Identity::default() };
        programs.kernel.identify(&identity).unwrap();
        for (peer, bound) in [(n1, src), (n2, dst)] {
            programs.kernel.bind_roll(peer, &bound.iter().copied().collect()).unwrap();
        }
        for (hook, lost) in [(Hook::In, lost[0]), (Hook::Xdp, lost[0]), (Hook::Out, lost[1])] {
            assert_eq!(programs.drops(hook, &frame), lost, "{hook:?} of {peer:?}: {src:?}, {dst:?}");
        }
    }
    programs.word(0, 0);
}

#[test]
#[needs(root)]
fn loss_is_rolled_only_at_the_bound_hook() {
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    let mut half = steady(1);
    half.loss = LOSS_ALL / 2;
    programs.place(0, &half, &[there]);
    programs.word(1, 0);
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    let elsewhere = INTERFACE + 1;
    // Where source and destination are bound, and whether this hook rolls.
    let cases: [(&[u32], &[u32], bool); 9] = [
        (&[], &[], true),
        (&[INTERFACE], &[elsewhere], true),
        (&[elsewhere], &[INTERFACE], false),
        (&[], &[INTERFACE], true),
        (&[], &[elsewhere], false),
        (&[INTERFACE, elsewhere], &[], true),
        (&[elsewhere, elsewhere + 1], &[INTERFACE], false),
        (&[], &[elsewhere, INTERFACE], true),
        // What was bound before is forgotten.
        (&[], &[elsewhere, elsewhere + 1], false),
    ];
    for (src, dst, rolls) in cases {
        for (peer, bound) in [(there.src, src), (there.dst, dst)] {
            programs.kernel.bind_roll(peer, &bound.iter().copied().collect()).unwrap();
        }
        for (random, lost) in [(0, true), (u32::MAX / 2, true), (u32::MAX / 2 + 1, false), (u32::MAX, false)]
        {
            programs.set(NOON, 0, random);
            assert_eq!(programs.all_drop(&frame), lost && rolls, "bound at {src:?}, {dst:?}; {random}");
        }
    }
    // A cut without loss needs no roll, wherever it is.
    programs.word(0, 0);
    programs.place(0, &steady(2), &[there]);
    programs.word(1, 0);
    assert!(programs.all_drop(&frame));
}

#[test]
#[needs(root)]
fn a_flap_begins_with_the_cut() {
    let (config, mut programs) = bench(THREE);
    let mut flap = steady(1);
    (flap.starts_at, flap.flap_period, flap.flap_on) = (NOON, 200 * MS, 50 * MS);
    programs.place(0, &flap, &[link(&config, "n1", "n2")]);
    programs.word(1, 0);
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    for (at, expected) in
        [(0, true), (50 * MS - 1, true), (50 * MS, false), (200 * MS - 1, false), (200 * MS, true)]
    {
        programs.set(NOON + at, 8 * MS, 0);
        assert_eq!(programs.all_drop(&frame), expected, "{at} ns after the start");
    }
    programs.set(NOON - 1, 8 * MS, 0);
    assert!(!programs.all_drop(&frame), "before the start");
}

#[test]
#[needs(root, every_kernel)]
fn deadlines_are_exact_though_the_coarse_clock_lags() {
    let (config, mut programs) = bench(THREE);
    let mut slot = steady(1);
    (slot.starts_at, slot.ends_at) = (NOON, NOON + 5000 * MS);
    programs.place(0, &slot, &[link(&config, "n1", "n2")]);
    programs.word(1, 0);
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    for lag in [0, 1, 8 * MS, 20 * MS] {
        for (at, expected) in
            [(NOON - 1, false), (NOON, true), (NOON + 5000 * MS - 1, true), (NOON + 5000 * MS, false)]
        {
            programs.set(at, lag, 0);
            assert_eq!(programs.all_drop(&frame), expected, "at {at}, lag {lag}");
        }
    }
    // What ended by its deadline is watched from then on, without a store by anyone.
    let stamps = programs.stamps();
    assert_eq!(stamps.values().next().unwrap().first_packet, NOON + 5000 * MS);
}

/// What the daemon reads of a partition's links.
fn stamps(programs: &Programs, slot: u8, generation: u32, links: &[Link]) -> Vec<(Link, LinkStamps)> {
    programs.kernel.link_stamps(SlotIndex(slot), generation, links).unwrap()
}

#[test]
#[needs(root)]
fn stamps_are_the_same_looked_up_by_link_and_gone_through() {
    let (config, mut programs) = bench(THREE);
    let links = [("n1", "n2"), ("n2", "n1"), ("n1", "n3")].map(|(src, dst)| link(&config, src, dst));
    programs.place(0, &steady(7), &links);
    programs.word(1, 0);
    programs.lease(u64::MAX);
    programs.at(NOON);
    assert!(stamps(&programs, 0, 7, &links).is_empty());
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("10.0.0.1", "10.0.0.3")] {
        assert!(programs.all_drop(&packet::udp(src, dst, 1, 2, b"x")));
    }
    // The first reading finds that there is little to go through, and the next ones that looking up is as good.
    let gone_through = stamps(&programs, 0, 7, &links);
    let found: Vec<Link> = gone_through.iter().map(|(link, _)| *link).collect();
    assert_eq!(found, [links[0], links[2]]);
    assert!(gone_through.iter().all(|(_, stamps)| stamps.dropped_packets == 3), "{gone_through:?}");
    for some in [&links[..2], &links[..1]] {
        let looked_up = stamps(&programs, 0, 7, some);
        assert_eq!(looked_up, gone_through[..1], "{some:?}");
    }
    assert!(stamps(&programs, 0, 8, &links[..1]).is_empty(), "of another generation");
    assert!(stamps(&programs, 1, 7, &links[..1]).is_empty(), "of another slot");
}

#[test]
#[needs(root)]
fn a_lapsed_lease_passes_everything_for_good() {
    let (config, mut programs) = bench(THREE);
    programs.place(0, &steady(1), &[link(&config, "n1", "n2")]);
    programs.word(1, 0);
    programs.lease(NOON);
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    programs.set(NOON - 1, 20 * MS - 1, 0);
    assert!(programs.all_drop(&frame));
    programs.set(NOON, 20 * MS, 0);
    assert!(!programs.all_drop(&frame), "the lease is over");
    assert_eq!(programs.latch(), NOON, "the latch says which lease ran out");
    programs.renew_late(u64::MAX);
    assert!(!programs.all_drop(&frame), "a late renewal revives nothing");
    programs.lease(u64::MAX);
    assert!(programs.all_drop(&frame), "the daemon took the latch back");
    // Nothing is live: the lease is nobody's, and what is watched is still seen.
    programs.word(0, 1);
    programs.lease(NOON - 1);
    assert!(!programs.all_drop(&frame));
    programs.lease(u64::MAX);
    assert_ne!(programs.stamps().values().next().unwrap().first_packet, 0);
}

#[test]
#[needs(root)]
fn the_halves_of_the_word_do_not_mix() {
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    programs.place(31, &steady(1), &[there]);
    programs.place(0, &steady(2), &[there]);
    let frame = packet::tcp("10.0.0.1", "10.0.0.2", 1, 2, SYN, b"");
    for (live, watched, expected) in [
        (0, 0, false),
        (1 << 31, 0, true),
        (0, 1 << 31, false),
        (1, 1 << 31, true),
        (2, 1, false),
        (1 << 31, 1, true),
    ] {
        programs.word(live, watched);
        assert_eq!(programs.all_drop(&frame), expected, "{live:#x} {watched:#x}");
    }
    // A slot that is in no link's cell, and one whose bit is in neither half.
    programs.word(1 << 30, 0);
    assert!(!programs.all_drop(&frame));
}

#[test]
#[needs(root)]
fn what_is_protected_is_never_dropped() {
    let (config, mut programs) = bench(&format!("{THREE}\nprotect: [ tcp/22, 10.0.0.3 ]\n"));
    let links = [("n1", "n2"), ("n1", "n3"), ("n3", "n1")].map(|(src, dst)| link(&config, src, dst));
    programs.place(0, &steady(1), &links);
    programs.word(1, 0);
    let cases = [
        (packet::tcp("10.0.0.1", "10.0.0.2", 40000, 23, SYN, b""), true),
        (packet::tcp("10.0.0.1", "10.0.0.2", 40000, 22, SYN, b""), false),
        (packet::tcp("10.0.0.1", "10.0.0.2", 22, 40000, SYN, b""), false),
        (packet::udp("10.0.0.1", "10.0.0.2", 22, 22, b"x"), true),
        (packet::udp("10.0.0.1", "10.0.0.3", 1, 2, b"x"), false),
        (packet::udp("10.0.0.3", "10.0.0.1", 1, 2, b"x"), false),
        (packet::udp("fd00::3", "fd00::1", 1, 2, b"x"), true),
    ];
    for (frame, expected) in &cases {
        assert_eq!(programs.all_drop(frame), *expected, "{}", support::frame::hex(frame));
    }
    assert_eq!(programs.counters()[counter::PROTECTED as usize], 4 * 3);
}

/// What the verifier says of a program: it loads on kernels that are stricter than this one only with room.
#[test]
#[needs(root, every_kernel)]
fn the_programs_are_small() {
    let protected = format!(
        "{THREE}  n4: {{ addresses: [10.4.0.0/16], mac: \"02:00:00:00:00:04\" }}\nprotect: [ tcp/22, 10.0.0.3 ]\nendpoints:\n  - {{ name: grpc, peers: [n1], probe: {{ http: {{ url: \"http://{{address}}:83/\" }} }}, wire: {{ port: 83, success: grpc }} }}\n"
    );
    // As they are in use, with every feature: the test clock has less to verify.
    let mut programs = Programs::load(&config(&protected), Clocks::Real);
    // A third of what a verifier takes; those before 6.6 see fewer states as the same.
    let limit = if injector_lab::has_tcx() { 330_000 } else { 660_000 };
    for hook in Hook::ALL {
        let info = programs.info(hook);
        let verified = info.verified_instruction_count().unwrap();
        let translated = info.size_translated().unwrap() / 8;
        let jited = info.size_jitted();
        println!(
            "{}: {verified} instructions verified, {translated} long, {jited} bytes of machine code",
            hook.name()
        );
        assert!(verified < limit, "{} has {verified} verified instructions of 1,000,000", hook.name());
        assert!(translated < 20_000);
        let (stack, chain) = support::stack::deepest(hook.name());
        println!("{}: {stack} bytes of stack: {}", hook.name(), chain.join(" > "));
        assert!(stack <= 448, "{} uses {stack} bytes of 512", hook.name());
    }
}
