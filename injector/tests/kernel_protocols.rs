//! Which protocol a packet belongs to where its header does not say so itself: behind other headers, and in later
//! fragments. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(kernels);

mod support;

use injector::datapath::Clocks;
use injector_core::config::Config;

use injector_lab::needs;
use support::frame::fragment;
use support::packet;
use support::programs::{Programs, config, link, scoped, steady};

const THREE: &str = r#"
peers:
  n1: { addresses: [10.0.0.1, "fd00::1"] }
  n2: { addresses: [10.0.0.2, "fd00::2"] }
  n3: { addresses: [10.0.0.3, "fd00::3"] }
"#;

const SYN: u8 = 0x02;

fn bench(text: &str) -> (Config, Programs) {
    let config = config(text);
    let programs = Programs::load(&config, Clocks::Real);
    (config, programs)
}

/// An authentication header of 24 bytes before what it protects.
fn authenticated(next: u8, rest: &[u8]) -> Vec<u8> {
    [&[next, 4][..], &[0; 22], rest].concat()
}

#[test]
#[needs(root)]
fn the_protocol_behind_an_authentication_header_decides() {
    let (config, mut programs) = bench(THREE);
    let links = [link(&config, "n1", "n2")];
    let segment = &packet::tcp("10.0.0.1", "10.0.0.2", 5, 7000, SYN, b"x")[34..];
    let sctp = [&[0x1b, 0x58, 0, 9][..], &[0; 8]].concat();
    let four = |payload: &[u8]| packet::ip("10.0.0.1", "10.0.0.2", 51, payload);
    let frames = [
        four(&authenticated(6, segment)),
        packet::ip("fd00::1", "fd00::2", 51, &authenticated(6, segment)),
        four(&authenticated(51, &authenticated(6, segment))),
        // Its data begin with what seems to be a header, but it is a later fragment.
        fragment(four(&authenticated(6, segment)), 2, false),
        four(&authenticated(132, &sctp)),
        four(&authenticated(112, &[0x21, 1, 100, 0])),
        packet::ip("10.0.0.1", "10.0.0.2", 132, &sctp),
        packet::ip("10.0.0.1", "10.0.0.2", 112, &[0x21, 1, 100, 0]),
        packet::ip("fd00::1", "fd00::2", 89, &[3, 1, 0, 44]),
        four(&[6]),
    ];
    for (scope, expected) in [
        ("tcp", [true, true, true, false, false, false, false, false, false, false]),
        ("tcp/7000:dst", [true, true, true, false, false, false, false, false, false, false]),
        ("tcp/7001", [false; 10]),
        ("sctp", [false, false, false, false, true, false, true, false, false, false]),
        ("sctp/7000:src", [false, false, false, false, true, false, true, false, false, false]),
        ("sctp/7000:dst", [false; 10]),
        ("proto/112", [false, false, false, false, false, true, false, true, false, false]),
        ("proto/89", [false, false, false, false, false, false, false, false, true, false]),
    ] {
        programs.place(0, &scoped(1, &[scope]), &links);
        programs.word(1, 0);
        assert_eq!(frames.each_ref().map(|frame| programs.all_drop(frame)), expected, "{scope}");
        programs.word(0, 0);
    }
    programs.place(0, &steady(1), &links);
    programs.word(1, 0);
    assert!(frames.iter().all(|frame| programs.all_drop(frame)), "an unscoped cut drops them all");
}

#[test]
#[needs(root)]
fn no_fragment_of_a_protected_datagram_is_dropped() {
    let (config, mut programs) = bench(&format!("{THREE}\nprotect: [ udp/4789 ]\n"));
    programs.place(0, &steady(1), &[link(&config, "n1", "n2")]);
    programs.word(1, 0);
    let udp = |port, payload: &[u8]| packet::udp("10.0.0.1", "10.0.0.2", 40_000, port, payload);
    let four = |protocol, payload: &[u8]| packet::ip("10.0.0.1", "10.0.0.2", protocol, payload);
    // Next header, fragment offset and no more to come, identification.
    let six = |next, payload: &[u8]| {
        packet::ip("fd00::1", "fd00::2", 44, &[&[next, 0, 5, 0xa8, 0, 0, 0, 7][..], payload].concat())
    };
    for (frame, what) in [
        (fragment(udp(4789, &[0; 1400]), 0, true), "the first"),
        (fragment(udp(9, &[0; 1400]), 185, true), "one in the middle"),
        (fragment(four(17, &[0; 1100]), 370, false), "the last"),
        (six(17, &[0; 900]), "the last over IPv6"),
        (six(60, &[17, 0, 0, 0, 0, 0, 0, 0]), "one of a datagram with destination options"),
        (fragment(four(51, &[0; 600]), 185, false), "one of an authenticated datagram"),
        (fragment(four(1, &[0; 300]), 70, false), "one of an ICMP error"),
    ] {
        assert!(!programs.all_drop(&frame), "{what}");
    }
    for (frame, what) in [
        (fragment(udp(9, &[0; 1400]), 0, true), "the first of another datagram, which never becomes whole"),
        (fragment(four(6, &[0; 600]), 185, false), "a fragment of another protocol"),
        (six(6, &[0; 600]), "a fragment of another protocol over IPv6"),
        (udp(9, b"x"), "a whole datagram to another port"),
    ] {
        assert!(programs.all_drop(&frame), "{what}");
    }
}
