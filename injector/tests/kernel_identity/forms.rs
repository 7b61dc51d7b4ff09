//! What n1 sends to n2, and to all, in the forms that frames come in: each is cut as the plain one is.

use crate::cases::{Case, Expected, N1, N2, case};
use crate::frames::{
    BROADCAST, arp, arp_reply, between, mac, multicast, neighbour_advertisement, one, plain,
    router_advertisement, solicitation,
};
use crate::path::Step::{From, To};
use crate::path::{Setup, UPLINK, isolate};
use crate::support::frame::fragment;
use crate::support::packet;

/// A frame in one form.
struct Form {
    what: &'static str,
    frame: Vec<u8>,
    kind: FrameKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// To n2.
    ToOne,
    /// To n2, as ARP or neighbour discovery.
    NeighbourToOne,
    /// To all.
    ToAll,
    /// To all, as ARP or neighbour discovery.
    NeighbourToAll,
}

/// Puts tags in front of a frame's type, the outermost first.
fn tagged(frame: &[u8], ethertypes: &[u16]) -> Vec<u8> {
    let tags = ethertypes.iter().flat_map(|ethertype| [ethertype.to_be_bytes(), [0, 7]]);
    [&frame[..12], &tags.flatten().collect::<Vec<u8>>(), &frame[12..]].concat()
}

/// From n1 to the MAC addresses of an IPv6 group.
fn to_group(protocol: u8, group: &str, payload: &[u8]) -> Vec<u8> {
    between(mac(1), [0x33, 0x33, 0, 0, 0, 0x16], packet::ip("fe80::1", group, protocol, payload))
}

/// A neighbour solicitation for `fe80::2`.
fn solicits() -> Vec<u8> {
    let target = "fe80::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target].concat()
}

/// Options that say nothing, before a header.
fn options_before(next: u8, rest: &[u8]) -> Vec<u8> {
    [&[next, 0, 1, 4, 0, 0, 0, 0][..], rest].concat()
}

/// A later fragment.
fn fragment_of(next: u8) -> Vec<u8> {
    [&[next, 0, 5, 0xa8, 0, 0, 0, 7][..], &[0; 64]].concat()
}

fn to_one() -> Vec<Form> {
    let form = |what, frame| Form { what, frame, kind: FrameKind::ToOne };
    let plain_ip = one(1, N1, 2, N2);
    let six = |protocol, payload: &[u8]| {
        between(mac(1), mac(2), packet::ip("2001:db8::77", "fd00::2", protocol, payload))
    };
    vec![
        form("behind a tag", tagged(&plain_ip, &[0x8100])),
        form("behind two tags", tagged(&plain_ip, &[0x88a8, 0x8100])),
        form("behind three tags, which only its port and MAC address name", tagged(&plain_ip, &[0x8100; 3])),
        form("link-local, behind a tag", tagged(&one(1, "fe80::1", 2, "fe80::2"), &[0x8100])),
        form("MPLS", plain(mac(1), mac(2), 0x8847)),
        form("a session of PPPoE", plain(mac(1), mac(2), 0x8864)),
        form("IEEE 802.2 with a length", plain(mac(1), mac(2), 46)),
        form("an unlisted address, behind options", six(0, &options_before(17, &[0; 16]))),
        form("an unlisted address, a later fragment", six(44, &fragment_of(17))),
        form("an unlisted address, a protocol without a name", six(59, &[])),
        form("a later fragment of IPv4", fragment(plain_ip.clone(), 185, false)),
    ]
}

fn neighbours() -> Vec<Form> {
    let to_one = |what, frame| Form { what, frame, kind: FrameKind::NeighbourToOne };
    let to_all = |what, frame| Form { what, frame, kind: FrameKind::NeighbourToAll };
    let asked = between(mac(1), mac(2), packet::ip("fe80::1", "fe80::2", 58, &solicits()));
    vec![
        to_one("an ARP request to its MAC address", between(mac(1), mac(2), arp(mac(1), N1, N2))),
        to_one("an ARP reply", arp_reply(mac(1), N1, mac(2), N2)),
        to_one("a solicitation to its MAC address, link-local", asked),
        to_all("an ARP probe", arp(mac(1), "0.0.0.0", N1)),
        to_all("an ARP announcement", arp(mac(1), N1, N1)),
        to_all("an ARP announcement as a reply", arp_reply(mac(1), N1, BROADCAST, N1)),
        to_all("an ARP announcement behind a tag", tagged(&arp(mac(1), N1, N1), &[0x8100])),
        to_all("detection of duplicates", solicitation(mac(1), "::", "2001:db8::5")),
        to_all("an advertisement that nobody asked for", neighbour_advertisement(mac(1), "fd00::1", true)),
        to_all("one that overrides nothing", neighbour_advertisement(mac(1), "fd00::1", false)),
        to_all("a router solicitation", to_group(58, "ff02::2", &[133, 0, 0, 0, 0, 0, 0, 0])),
        to_all("a router advertisement", router_advertisement(mac(1))),
        to_all(
            "a solicitation behind options",
            to_group(0, "ff02::1:ff00:2", &options_before(58, &solicits())),
        ),
    ]
}

fn to_all() -> Vec<Form> {
    let form = |what, frame| Form { what, frame, kind: FrameKind::ToAll };
    let report = [143, 0, 0, 0, 0, 0, 0, 0];
    let igmp = between(mac(1), [1, 0, 0x5e, 0, 0, 22], packet::ip(N1, "224.0.0.22", 2, &[0x22; 16]));
    vec![
        form("a report of IGMP", igmp),
        form("a report of MLD", to_group(0, "ff02::16", &options_before(58, &report))),
        form("a query of LLMNR from an unlisted address", multicast(mac(1), "fe80::1")),
        form("a datagram to a broadcast address", between(mac(1), BROADCAST, one(1, N1, 2, "10.0.255.255"))),
        form("a frame of no protocol that we know, to all", plain(mac(1), BROADCAST, 0x88b6)),
    ]
}

/// Each form under `isolate n1`, at n2 and at a host of the world, and with the link n1→n2 cut alone, where ARP and neighbour
/// discovery pass; numbered as they come.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for Form { what, frame, kind } in [to_one(), neighbours(), to_all()].into_iter().flatten() {
        let is_to_all = matches!(kind, FrameKind::ToAll | FrameKind::NeighbourToAll);
        let is_neighbour = matches!(kind, FrameKind::NeighbourToOne | FrameKind::NeighbourToAll);
        let mut add = |cut: &str, expected, setup, to| {
            let what = format!("{what}; {cut}").leak();
            let number = u8::try_from(all.len() + 1).unwrap();
            all.push(case(number, what, expected, setup, frame.clone(), &[From(1), To(to)]));
        };
        add("isolate n1, at n2", Expected::Drop, Setup::of(isolate(1)), 2);
        if is_to_all {
            add("isolate n1, the copy of a host", Expected::Pass, Setup::of(isolate(1)), UPLINK);
            add("isolate n3, the copy of n2", Expected::Pass, Setup::of(isolate(3)), 2);
        }
        let one_way = if is_neighbour { Expected::Pass } else { Expected::Drop };
        add("the link n1→n2 alone", one_way, Setup::of(vec![(1, 2)]), 2);
        add("the link n2→n1 alone", Expected::Pass, Setup::of(vec![(2, 1)]), 2);
    }
    all
}
