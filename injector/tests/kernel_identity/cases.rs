//! The cases that the identity contract was tried on, with its verdicts.

use crate::frames::{
    DRAWN, GATEWAY, VIRTUAL, advertisement, arp, dhcp, mac, one, plain, router_advertisement, solicitation,
    udp,
};
use injector_core::identity::Traits;

use crate::path::Step::{self, From, To};
use crate::path::{OPAQUE, PLAIN, ROUTER, Setup, UPLINK, between, isolate, isolate_from_all};

/// What the contract wants of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Drop,
    /// It passes, and nothing is counted.
    Pass,
    /// It passes although the cut should have it, and is counted as leaked.
    Leaked,
    /// It passes, since it is the world's by its address; it is counted as of a sender whom a peer speaks for.
    Foreign,
    /// It passes, since nothing at the one hooked end names the other, and is counted as unnamed.
    Unnamed,
    /// It is dropped although it is no peer's: what a port that is bound to the wrong peer does.
    Innocent,
}

/// The config that a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Peers by addresses.
    Addresses,
    /// n3 has a MAC of the config.
    SureMac,
}

/// A frame, or the two legs of a routed one, and the hooks on its way.
pub struct Case {
    pub number: u8,
    pub what: &'static str,
    pub setting: Setting,
    pub setup: Setup,
    pub legs: Vec<(Vec<u8>, Vec<Step>)>,
    pub expected: Expected,
}

/// A client that is no peer.
const CLIENT: &str = "198.51.100.7";
/// A service's address that is translated on its way.
const SERVICE: &str = "10.96.0.1";
/// An address that moves between n1 and n2.
pub const VIP: &str = "10.0.0.100";
pub const N1: &str = "10.0.0.1";
pub const N2: &str = "10.0.0.2";
pub const N3: &str = "10.0.0.3";

pub fn case(
    number: u8,
    what: &'static str,
    expected: Expected,
    setup: Setup,
    frame: Vec<u8>,
    path: &[Step],
) -> Case {
    let legs = vec![(frame, path.to_vec())];
    Case { number, what, setting: Setting::Addresses, setup, legs, expected }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [unicast(), routed(), learned(), groups(), rest()].into_iter().flatten().collect()
}

fn unicast() -> Vec<Case> {
    use Expected::{Drop, Unnamed};
    let isolated = || Setup::of(isolate(1));
    let path = [From(1), To(2)];
    vec![
        case(1, "plain n1→n2", Drop, isolated(), one(1, N1, 2, N2), &path),
        case(
            2,
            "n1 from an unlisted address→n2",
            Drop,
            isolated(),
            one(1, "2001:db8::77", 2, "fd00::2"),
            &path,
        ),
        case(
            3,
            "the same, hook only at n2",
            Drop,
            isolated().hooked(&[2]).holds(1, "2001:db8::77"),
            one(1, "2001:db8::77", 2, "fd00::2"),
            &[To(2)],
        ),
        case(
            4,
            "the same, the address never seen held",
            Drop,
            isolated().hooked(&[2]).sees(mac(1), 1),
            one(1, "2001:db8::77", 2, "fd00::2"),
            &[To(2)],
        ),
        case(5, "link-local n1→n2", Drop, isolated(), one(1, "fe80::1", 2, "fe80::2"), &path),
        case(
            6,
            "link-local from a drawn MAC, host ends",
            Drop,
            isolated(),
            udp(DRAWN, "fe80::9", mac(2), "fe80::2"),
            &path,
        ),
        case(
            7,
            "the same, hook at n2 only",
            Unnamed,
            isolated().hooked(&[2]),
            udp(DRAWN, "fe80::9", mac(2), "fe80::2"),
            &[To(2)],
        ),
        case(8, "ethertype 0x88b5 n1→n2", Drop, isolated(), plain(mac(1), mac(2), 0x88b5), &path),
        case(
            13,
            "pods of n2 (listed prefix)→n1",
            Drop,
            isolated(),
            one(2, "10.2.0.9", 1, N1),
            &[From(2), To(1)],
        ),
    ]
}

fn routed() -> Vec<Case> {
    use Expected::{Foreign, Pass};
    let through = |cut| Setup::of(cut).knows(3, ROUTER);
    let to_n1 = || one(3, CLIENT, 1, N1);
    let there = [From(3), To(1)];
    let mut through_n1 = case(
        12,
        "n2→n3 through router n1, both legs, isolate n1",
        Pass,
        Setup::of(isolate(1)).knows(1, ROUTER),
        one(2, N2, 1, N3),
        &[From(2), To(1)],
    );
    through_n1.legs.push((one(1, N2, 3, N3), vec![From(1), To(3)]));
    vec![
        case(9, "client→n1 via router n3, isolate n1", Pass, through(isolate(1)), to_n1(), &there),
        case(
            10,
            "n1→client via router n3",
            Pass,
            through(isolate(1)),
            one(1, N1, 3, CLIENT),
            &[From(1), To(3)],
        ),
        case(11, "client→n1 via n3, links n1–n3 cut", Pass, through(between(1, 3)), to_n1(), &there),
        through_n1,
        case(
            14,
            "container behind VM n2, unlisted, routed→n1",
            Foreign,
            Setup::of(isolate(1)).knows(2, OPAQUE),
            one(2, "172.17.0.2", 1, N1),
            &[From(2), To(1)],
        ),
        case(
            38,
            "the same container, n2 says forwards: true",
            Pass,
            Setup::of(isolate(1)).knows(2, ROUTER),
            one(2, "172.17.0.2", 1, N1),
            &[From(2), To(1)],
        ),
        case(
            40,
            "client→n1 through VM router n3 that nobody knows to be one",
            Foreign,
            Setup::of(isolate(1)).knows(3, OPAQUE),
            to_n1(),
            &there,
        ),
        case(
            45,
            "container behind n2, sent as n2",
            Expected::Drop,
            Setup::of(isolate(1)).knows(2, OPAQUE),
            one(2, N2, 1, N1),
            &[From(2), To(1)],
        ),
    ]
}

fn learned() -> Vec<Case> {
    use Expected::{Drop, Innocent, Leaked, Pass};
    let isolated = || Setup::of(isolate(1));
    let from_uplink = [From(UPLINK), To(1)];
    let to_n1 = || udp(GATEWAY, CLIENT, mac(1), N1);
    vec![
        case(
            15,
            "the gateway's MAC learned as n2 (proxy ARP); client→n1",
            Pass,
            isolated().knows(2, OPAQUE).since(udp(GATEWAY, N2, mac(3), N3), From(2)),
            to_n1(),
            &from_uplink,
        ),
        case(
            16,
            "the next hop's MAC is n2's and everyone's; n1→client",
            Pass,
            isolated().hooked(&[1]).knows(2, OPAQUE).sees(GATEWAY, 2),
            udp(mac(1), N1, GATEWAY, CLIENT),
            &[From(1), To(UPLINK)],
        ),
        case(
            17,
            "uplink bound to remote n2 by mistake; client→n1",
            Innocent,
            isolated().hooked(&[1]).port(UPLINK, 2).knows(2, PLAIN),
            to_n1(),
            &from_uplink,
        ),
        case(18, "uplink unbound; client→n1", Pass, isolated(), to_n1(), &from_uplink),
        case(
            19,
            "VIP moved n1→n2, a table still says n1; n3→VIP at n2",
            Pass,
            isolated().moves(VIP, 2).sees(VIRTUAL, 1),
            udp(mac(3), N3, VIRTUAL, VIP),
            &[From(3), To(2)],
        ),
        case(
            20,
            "VIP held by n1; n3→VIP",
            Drop,
            isolated().moves(VIP, 1).sees(VIRTUAL, 1),
            udp(mac(3), N3, VIRTUAL, VIP),
            &[From(3), To(1)],
        ),
        case(35, "n1 sends from n2's address→n3", Leaked, isolated(), one(1, N2, 3, N3), &[From(1), To(3)]),
        case(
            36,
            "one MAC on n1 and n2; link-local n2→n3",
            Pass,
            isolated().since(one(1, N1, 3, CLIENT), From(1)),
            one(1, "fe80::2", 3, "fe80::3"),
            &[From(2), To(3)],
        ),
        case(
            39,
            "VM n2 from an address that it claimed by ND→n1",
            Drop,
            isolated().knows(2, OPAQUE).before(solicitation(mac(2), "::", "2001:db8::99"), From(2)),
            one(2, "2001:db8::99", 1, "fd00::1"),
            &[From(2), To(1)],
        ),
    ]
}

fn groups() -> Vec<Case> {
    use Expected::{Drop, Pass};
    let isolated = || Setup::of(isolate(1));
    let without_n2 = || Setup::of(between(1, 2));
    let sent = || advertisement(1);
    let asks = || arp(mac(1), N1, N3);
    let to = |interface| [From(1), To(interface)];
    vec![
        case(21, "VRRP advertisement of n1, copy at n2", Drop, isolated(), sent(), &to(2)),
        case(22, "its copy at a host of the world", Pass, isolated(), sent(), &to(UPLINK)),
        case(
            23,
            "the same, the world in the cut too",
            Drop,
            Setup::of(isolate_from_all(1)),
            sent(),
            &to(UPLINK),
        ),
        case(24, "only n1 hooked, copy to n2", Drop, isolated().hooked(&[1]), sent(), &[From(1)]),
        case(25, "links n1–n2 cut, copy at n3", Pass, without_n2(), sent(), &to(3)),
        case(26, "links n1–n2 cut, copy at n2", Drop, without_n2(), sent(), &to(2)),
        case(27, "ARP who-has n3 of n1, links n1–n2 cut, copy at n2", Drop, without_n2(), asks(), &to(2)),
        case(28, "its copy at n3", Pass, without_n2(), asks(), &to(3)),
        case(
            29,
            "ARP who-has gateway of n1, copy there",
            Pass,
            isolated(),
            arp(mac(1), N1, "10.0.0.254"),
            &to(UPLINK),
        ),
        case(30, "announcement of n1, copy at n2", Drop, isolated(), arp(mac(1), N1, N1), &to(2)),
        case(
            31,
            "DAD of n1's new address, copy at n2",
            Drop,
            isolated(),
            solicitation(mac(1), "::", "2001:db8::5"),
            &to(2),
        ),
        case(32, "DHCP of n1 to a server of the world", Pass, isolated(), dhcp(mac(1)), &to(UPLINK)),
        case(
            33,
            "router advertisement of the world to n1",
            Pass,
            isolated(),
            router_advertisement(GATEWAY),
            &[From(UPLINK), To(1)],
        ),
        case(
            34,
            "LACP of n1 with its switch, world in the cut too",
            Pass,
            Setup::of(isolate_from_all(1)),
            plain(mac(1), [0x01, 0x80, 0xc2, 0, 0, 2], 0x8809),
            &to(UPLINK),
        ),
    ]
}

fn rest() -> Vec<Case> {
    use Expected::{Drop, Pass, Unnamed};
    let isolated = || Setup::of(isolate(1));
    let nested = isolated().hooked(&[2]).shared(1, 1);
    let mut nested = case(
        41,
        "nested n3 behind n1, link-local n3→n2",
        Pass,
        nested,
        one(3, "fe80::3", 2, "fe80::2"),
        &[From(1), To(2)],
    );
    nested.setting = Setting::SureMac;
    let mut translated = case(
        42,
        "n1→service, translated on the host→n2",
        Drop,
        isolated(),
        udp(mac(1), N1, GATEWAY, SERVICE),
        &[From(1)],
    );
    translated.legs.push((udp(GATEWAY, N1, mac(2), N2), vec![To(2)]));
    vec![
        case(
            37,
            "n1 by its second NIC from an unlisted address→n2",
            Drop,
            isolated().port(5, 1).knows(1, Traits { is_plain: false, ..PLAIN }).holds(1, "10.9.0.1"),
            udp(DRAWN, "10.9.0.1", mac(2), N2),
            &[From(5), To(2)],
        ),
        nested,
        translated,
        case(
            43,
            "n1→service, hook at n1 only",
            Unnamed,
            isolated().hooked(&[1]),
            udp(mac(1), N1, GATEWAY, SERVICE),
            &[From(1)],
        ),
        case(
            44,
            "only n2→n1 cut; n1→n2",
            Pass,
            Setup::of(vec![(2, 1)]),
            one(1, N1, 2, N2),
            &[From(1), To(2)],
        ),
    ]
}
