//! A switch that does not know where a MAC address is sends the frame to all its ports: what is counted of it at a port that it
//! is not for.

use crate::frames::{DRAWN, GATEWAY, mac, one, plain, udp};
use crate::path::Step::{self, From, To};
use crate::path::{OPAQUE, PLAIN, Setup, between};
use injector_core::identity::Traits;

/// The host that is no peer, to whom n1 sends.
const HOST: &str = "10.0.0.9";
const HOST_V6: &str = "fe80::9";

/// A frame that comes to n2's port and is dropped or leaked there, or passes.
pub struct Flooded {
    pub what: &'static str,
    pub setup: Setup,
    pub frame: Vec<u8>,
    pub path: Vec<Step>,
    /// Whether it counts as one of n1 for n2.
    pub counts: bool,
}

/// n1–n2 is cut, n2's port alone is hooked, and all of n2's MAC addresses are known.
fn known() -> Setup {
    Setup::of(between(1, 2))
        .hooked(&[2])
        .knows(2, Traits { has_known_macs: true, ..PLAIN })
        .sees(mac(1), 1)
        .sees(mac(2), 2)
}

/// The same, where it is not known which MAC addresses n2 has.
fn guest() -> Setup {
    Setup::of(between(1, 2)).knows(2, OPAQUE).sees(mac(1), 1)
}

pub fn cases() -> Vec<Flooded> {
    let at_n2 = |what, setup: Setup, frame, counts| Flooded { what, setup, frame, path: vec![To(2)], counts };
    let to_host = |address: &str| udp(mac(1), "10.0.0.1", GATEWAY, address);
    let second = [2, 0, 0, 0, 0, 0x22];
    vec![
        at_n2("n1→host, flooded", known(), to_host(HOST), false),
        at_n2("the same, link-local", known(), udp(mac(1), "fe80::1", GATEWAY, HOST_V6), false),
        at_n2("the same, of no IP", known(), plain(mac(1), GATEWAY, 0x88b5), false),
        at_n2("n1→n2 at an address that is not listed", known(), one(1, "10.0.0.1", 2, HOST), true),
        at_n2("n1→n2, link-local", known(), one(1, "fe80::1", 2, "fe80::2"), true),
        at_n2("n1→n2's listed address, MAC unknown", known(), to_host("10.0.0.2"), true),
        at_n2(
            "n1→n2 at its macvlan's MAC",
            known().sees(second, 2),
            udp(mac(1), "fe80::1", second, "fe80::2"),
            true,
        ),
        at_n2(
            "n1→a MAC of which nothing is known, and which may be n2's",
            known().knows(2, PLAIN),
            udp(mac(1), "fe80::1", DRAWN, "fe80::2"),
            true,
        ),
        at_n2(
            "n1→n3, link-local, flooded",
            known().knows(2, PLAIN).sees(mac(3), 3),
            one(1, "fe80::1", 3, "fe80::3"),
            false,
        ),
        at_n2(
            "n1→guest n3, link-local, flooded; its MAC came out of n3's port",
            Setup::of(between(1, 2))
                .knows(2, OPAQUE)
                .sees(mac(1), 1)
                .since(one(3, "10.0.0.3", 1, HOST), From(3)),
            one(1, "fe80::1", 3, "fe80::3"),
            false,
        ),
        at_n2(
            "n1→guest n2, link-local; its MAC came out of its port",
            guest().since(one(2, "10.0.0.2", 3, "10.0.0.3"), From(2)),
            one(1, "fe80::1", 2, "fe80::2"),
            true,
        ),
        at_n2(
            "n1→host, flooded, where n2 has several devices",
            known().knows(2, Traits { is_plain: false, has_known_macs: true, ..PLAIN }),
            to_host(HOST),
            false,
        ),
        at_n2(
            "n1→n2's unlisted address, where n2 has several devices",
            known().knows(2, Traits { is_plain: false, has_known_macs: true, ..PLAIN }),
            one(1, "10.0.0.1", 2, HOST),
            true,
        ),
    ]
}
