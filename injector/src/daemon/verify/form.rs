//! The two forms of the active check's frames. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector_common::packet::{CHECK_ETHERTYPE, CHECK_PROTOCOL};
use injector_core::api::CheckForm;

use crate::ip_socket::Version;

/// How long the header of an Ethernet frame is.
pub const ETHERNET: usize = 14;
/// The shortest frame of Ethernet, without its checksum.
const SHORTEST: usize = 60;
const ETH_IPV4: u16 = 0x0800;
const ETH_IPV6: u16 = 0x86dd;
/// The hop limit: the packets are for the next hop alone, and nobody passes them on.
const HOPS: u8 = 1;

/// The form of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A frame of an ethertype of its own.
    Ethertype,
    /// A packet of an IP protocol of its own, from this address to that one.
    V4(Ipv4Addr, Ipv4Addr),
    /// A packet of an IP protocol of its own over IPv6, from this address to that one.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Form {
    /// The form for packets of IP between two addresses, if both are of one version.
    pub fn between((from, to): (IpAddr, IpAddr)) -> Option<Self> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Some(Self::V4(from, to)),
            (IpAddr::V6(from), IpAddr::V6(to)) => Some(Self::V6(from, to)),
            _ => None,
        }
    }

    /// The form as a record names it.
    pub fn shown(self) -> CheckForm {
        match self {
            Self::Ethertype => CheckForm::Ethertype,
            Self::V4(..) | Self::V6(..) => CheckForm::Ip,
        }
    }

    /// The version of IP that it takes; `None` for a frame of an ethertype.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Ethertype => None,
            Self::V4(..) => Some(Version::Four),
            Self::V6(..) => Some(Version::Six),
        }
    }

    /// A frame from one MAC address to another.
    pub fn frame(self, from: [u8; 6], to: [u8; 6], payload: &[u8]) -> Vec<u8> {
        let mut frame = [to, from].concat();
        let length = payload.len() as u16;
        match self {
            Self::Ethertype => frame.extend(CHECK_ETHERTYPE.to_be_bytes()),
            Self::V4(from, to) => {
                frame.extend(ETH_IPV4.to_be_bytes());
                frame.extend(v4(from, to, length));
            }
            Self::V6(from, to) => {
                frame.extend(ETH_IPV6.to_be_bytes());
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([CHECK_PROTOCOL, HOPS]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
        }
        frame.extend(payload);
        frame.resize(frame.len().max(SHORTEST), 0);
        frame
    }
}

/// A header of IPv4.
fn v4(from: Ipv4Addr, to: Ipv4Addr, payload: u16) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + payload).to_be_bytes());
    // The packet must not be fragmented.
    header[6] = 0x40;
    (header[8], header[9]) = (HOPS, CHECK_PROTOCOL);
    header[12..16].copy_from_slice(&from.octets());
    header[16..].copy_from_slice(&to.octets());
    let mut sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_common::packet::{CHECK_MAGIC, Packet, flag, parse};

    const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn the_programs_know_each_form_for_what_it_is() {
        let payload = [&CHECK_MAGIC[..], &[0; 17]].concat();
        let v4 = Form::between(("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())).unwrap();
        let v6 = Form::between(("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())).unwrap();
        for form in [Form::Ethertype, v4, v6] {
            let frame = form.frame(FROM, TO, &payload);
            assert!(frame.len() >= SHORTEST, "{form:?}");
            let mut packet = Packet::default();
            assert_eq!(parse(&&frame[..], &mut packet).is_ok(), form != Form::Ethertype, "{form:?}");
            assert_eq!((packet.src_mac(), packet.dst_mac()), (FROM, TO), "{form:?}");
            assert!(packet.flags & flag::CHECK != 0, "{form:?}");
            let other = form.frame(FROM, TO, &[0; 21]);
            let _ = parse(&&other[..], &mut packet);
            assert_eq!(
                packet.flags & flag::CHECK != 0,
                form == Form::Ethertype,
                "others use protocol 253 too"
            );
        }
        assert_eq!(Form::between(("10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap())), None);
    }

    #[test]
    fn the_sum_of_an_ipv4_header_is_right() {
        let header = v4(Ipv4Addr::new(255, 255, 255, 254), Ipv4Addr::new(255, 255, 255, 253), 21);
        let mut sum: u32 =
            header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(sum, 0xffff);
    }
}
