//! Frames between three peers, and to and from everyone else.

use std::net::{Ipv4Addr, Ipv6Addr};

use injector_core::identity::Mac;

use crate::support::packet;

/// Who is no peer: the gateway, whom frames to and from elsewhere pass.
pub const GATEWAY: Mac = [2, 0, 0, 0, 0, 0xfe];
/// A MAC that nothing is known of, as containers draw theirs.
pub const DRAWN: Mac = [0x5a, 1, 2, 3, 4, 5];
/// The MAC that VRRP gives to the current master.
pub const VIRTUAL: Mac = [0, 0, 0x5e, 0, 1, 1];
pub const BROADCAST: Mac = [0xff; 6];

/// A peer's own MAC.
pub const fn mac(peer: u8) -> Mac {
    [2, 0, 0, 0, 0, peer]
}

/// A frame with these MACs.
pub fn between(src: Mac, dst: Mac, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&dst);
    frame[6..12].copy_from_slice(&src);
    frame
}

/// A datagram.
pub fn udp(src: Mac, from: &str, dst: Mac, to: &str) -> Vec<u8> {
    between(src, dst, packet::udp(from, to, 40000, 7000, b"payload"))
}

/// The same from one peer's MAC to another's.
pub fn one(src: u8, from: &str, dst: u8, to: &str) -> Vec<u8> {
    udp(mac(src), from, mac(dst), to)
}

/// A frame of no IP at all.
pub fn plain(src: Mac, dst: Mac, ethertype: u16) -> Vec<u8> {
    between(src, dst, packet::ethernet(ethertype, &[0; 46]))
}

/// What keepalived sends while it is master.
pub fn advertisement(peer: u8) -> Vec<u8> {
    let group = [0x01, 0, 0x5e, 0, 0, 18];
    between(mac(peer), group, packet::ip(&format!("10.0.0.{peer}"), "224.0.0.18", 112, &[0x21; 20]))
}

/// An ARP request to all.
pub fn arp(src: Mac, sender: &str, target: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
    message.extend(src);
    message.extend(address(sender));
    message.extend([0; 6]);
    message.extend(address(target));
    message.extend([0; 18]);
    between(src, BROADCAST, packet::ethernet(0x0806, &message))
}

/// A neighbour solicitation to the group of its target.
pub fn solicitation(src: Mac, from: &str, target: &str) -> Vec<u8> {
    let target = target.parse::<Ipv6Addr>().unwrap().octets();
    let [.., high, middle, low] = target;
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(high), u16::from_be_bytes([middle, low]));
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target].concat();
    let mut frame = packet::ip(from, &group.to_string(), 58, &message);
    frame[21] = 255;
    between(src, [0x33, 0x33, 0xff, high, middle, low], frame)
}

/// An ARP reply, as a proxy sends it too.
pub fn arp_reply(src: Mac, sender: &str, dst: Mac, target: &str) -> Vec<u8> {
    let mut frame = between(src, dst, arp(src, sender, target));
    frame[21] = 2;
    frame
}

/// A neighbour advertisement to all, with or without the flag that overrides what is known: a proxy does without.
pub fn neighbour_advertisement(src: Mac, target: &str, overrides: bool) -> Vec<u8> {
    let address = target.parse::<Ipv6Addr>().unwrap().octets();
    let flags = if overrides { 0x20 } else { 0 };
    let message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &address].concat();
    let mut frame = packet::ip("fe80::1:1", "ff02::1", 58, &message);
    frame[21] = 255;
    between(src, [0x33, 0x33, 0, 0, 0, 1], frame)
}

/// A datagram to a group.
pub fn multicast(src: Mac, from: &str) -> Vec<u8> {
    let group = if from.contains(':') { "ff02::1:3" } else { "224.0.0.252" };
    between(src, [0x33, 0x33, 0, 1, 0, 3], packet::udp(from, group, 40000, 5355, b"query"))
}

/// A router's advertisement to all.
pub fn router_advertisement(src: Mac) -> Vec<u8> {
    let mut frame =
        packet::ip("fe80::fe", "ff02::1", 58, &[134, 0, 0, 0, 64, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame[21] = 255;
    between(src, [0x33, 0x33, 0, 0, 0, 1], frame)
}

/// A client's first message to whatever DHCP server there is.
pub fn dhcp(src: Mac) -> Vec<u8> {
    between(src, BROADCAST, packet::udp("0.0.0.0", "255.255.255.255", 68, 67, &[1; 240]))
}
