//! Frames for verdict tests, built byte by byte.

use std::net::IpAddr;

/// A TCP segment over Ethernet and IP, with an optional payload.
pub fn tcp(src: &str, dst: &str, sport: u16, dport: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(sport.to_be_bytes());
    segment.extend(dport.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    ip(src, dst, 6, &segment)
}

/// A UDP datagram over Ethernet and IP.
pub fn udp(src: &str, dst: &str, sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(sport.to_be_bytes());
    datagram.extend(dport.to_be_bytes());
    datagram.extend(((payload.len() + 8) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    ip(src, dst, 17, &datagram)
}

/// An IP packet of either version over Ethernet.
pub fn ip(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut packet = vec![0x45, 0];
            packet.extend(((payload.len() + 20) as u16).to_be_bytes());
            packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            packet.extend(payload);
            ethernet(0x0800, &packet)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            packet.extend(payload);
            ethernet(0x86dd, &packet)
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
}

/// An IPv4 fragment of a packet without options.
pub fn fragment(mut frame: Vec<u8>, offset: u16, more: bool) -> Vec<u8> {
    let field = offset | u16::from(more) << 13;
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

/// An Ethernet frame between two unicast MACs.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}
