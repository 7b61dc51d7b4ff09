//! Frames as trees that proptest can draw (see `pool`) and shrink, and a person can read.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A frame, and what was done to it after it was built.
#[derive(Clone, Debug)]
pub struct Frame {
    pub to: [u8; 6],
    pub from: [u8; 6],
    /// Tag protocol and control.
    pub tags: Vec<(u16, u16)>,
    pub body: Body,
    /// Bytes that were changed: where (modulo the length), and by which bits.
    pub edits: Vec<(u16, u8)>,
    /// The share, of 255, that is left of it.
    pub cut: Option<u8>,
    /// Bytes after its end.
    pub padding: u8,
}

#[derive(Clone, Debug)]
pub enum Body {
    V4 {
        src: Ipv4Addr,
        dst: Ipv4Addr,
        options: u8,
        more: bool,
        offset: u16,
        /// How many authentication headers precede what is above.
        authentications: u8,
        length: Length,
        transport: Transport,
    },
    V6 {
        src: Ipv6Addr,
        dst: Ipv6Addr,
        headers: Vec<Header>,
        length: Length,
        transport: Transport,
    },
    Arp {
        reply: bool,
        sender: Ipv4Addr,
        target: Ipv4Addr,
    },
    Other {
        ethertype: u16,
        bytes: Vec<u8>,
    },
    Random(Vec<u8>),
}

/// The length field of an IP header.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    True,
    Zero,
    Wrong(u16),
}

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug)]
pub enum Header {
    /// Of a kind, with this many further 8-byte words.
    Plain(u8, u8),
    Fragment {
        offset: u16,
        more: bool,
    },
    Authentication,
}

/// What is above IP.
#[derive(Clone, Debug)]
pub enum Transport {
    Tcp {
        sport: u16,
        dport: u16,
        flags: u8,
        payload: Vec<u8>,
    },
    Udp {
        sport: u16,
        dport: u16,
        payload: Vec<u8>,
    },
    Sctp {
        sport: u16,
        dport: u16,
    },
    /// Either version's, by the number of the protocol.
    Icmp {
        protocol: u8,
        kind: u8,
        quote: Option<Box<Body>>,
    },
    Neighbour {
        kind: u8,
        /// Of an advertisement: router, solicited, override.
        flags: u8,
        /// 255, unless a router passed it on.
        hops: u8,
        target: Ipv6Addr,
    },
    Gre(Box<Body>),
    Vxlan(Box<Body>),
    Other {
        protocol: u8,
        bytes: Vec<u8>,
    },
}

impl Frame {
    /// Its bytes: at least the 14 and at most the 3,500 that a test run takes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        for (protocol, control) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        self.body.write(&mut frame);
        frame.extend(std::iter::repeat_n(0, self.padding.into()));
        for (at, bits) in &self.edits {
            let at = usize::from(*at) % frame.len();
            frame[at] ^= bits;
        }
        if let Some(left) = self.cut {
            frame.truncate(frame.len() * usize::from(left) / 255);
        }
        frame.resize(frame.len().clamp(14, 3500), 0);
        frame
    }
}

impl Body {
    fn ethertype(&self) -> Option<u16> {
        match self {
            Self::V4 { .. } => Some(0x0800),
            Self::V6 { .. } => Some(0x86dd),
            Self::Arp { .. } => Some(0x0806),
            Self::Other { ethertype, .. } => Some(*ethertype),
            Self::Random(_) => None,
        }
    }

    fn write(&self, frame: &mut Vec<u8>) {
        if let Some(ethertype) = self.ethertype() {
            frame.extend(ethertype.to_be_bytes());
        }
        frame.extend(self.packet());
    }

    fn packet(&self) -> Vec<u8> {
        match self {
            Self::V4 { src, dst, options, more, offset, authentications, length, transport } => {
                let mut above = Vec::new();
                for left in (0..*authentications).rev() {
                    let next = if left == 0 { transport.protocol() } else { Header::Authentication.kind() };
                    Header::Authentication.write(next, &mut above);
                }
                above.extend(transport.bytes());
                let first =
                    if *authentications == 0 { transport.protocol() } else { Header::Authentication.kind() };
                let words = 5 + options % 11;
                let total = length.of(above.len() + usize::from(words) * 4);
                let fragment = offset & 0x1fff | u16::from(*more) << 13;
                let mut packet = vec![0x40 | words, 0];
                packet.extend(total.to_be_bytes());
                packet.extend([0, 7]);
                packet.extend(fragment.to_be_bytes());
                packet.extend([64, first, 0, 0]);
                packet.extend(src.octets());
                packet.extend(dst.octets());
                packet.resize(usize::from(words) * 4, 1);
                packet.extend(above);
                packet
            }
            Self::V6 { src, dst, headers, length, transport } => {
                let mut above = Vec::new();
                let kinds = headers.iter().map(|header| header.kind()).chain([transport.protocol()]);
                for (header, next) in headers.iter().zip(kinds.skip(1)) {
                    header.write(next, &mut above);
                }
                above.extend(transport.bytes());
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend(length.of(above.len()).to_be_bytes());
                packet.extend([
                    headers.first().map_or(transport.protocol(), |header| header.kind()),
                    transport.hops(),
                ]);
                packet.extend(src.octets());
                packet.extend(dst.octets());
                packet.extend(above);
                packet
            }
            Self::Arp { reply, sender, target } => {
                let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1 + u8::from(*reply), 2, 0, 0, 0, 0, 9];
                packet.extend(sender.octets());
                packet.extend([0; 6]);
                packet.extend(target.octets());
                packet
            }
            Self::Other { bytes, .. } | Self::Random(bytes) => bytes.clone(),
        }
    }
}

impl Length {
    fn of(self, truth: usize) -> u16 {
        match self {
            Self::True => truth as u16,
            Self::Zero => 0,
            Self::Wrong(length) => length,
        }
    }
}

impl Header {
    fn kind(self) -> u8 {
        match self {
            Self::Plain(kind, _) => kind,
            Self::Fragment { .. } => 44,
            Self::Authentication => 51,
        }
    }

    fn write(self, next: u8, packet: &mut Vec<u8>) {
        let (length, low, words) = match self {
            Self::Plain(_, more) => (more % 4, 0, more % 4 + 1),
            Self::Fragment { offset, more } => (0, offset << 3 | u16::from(more), 1),
            Self::Authentication => (4, 0, 3),
        };
        packet.extend([next, length]);
        packet.extend(low.to_be_bytes());
        packet.extend(std::iter::repeat_n(0, usize::from(words) * 8 - 4));
    }
}

impl Transport {
    fn protocol(&self) -> u8 {
        match self {
            Self::Tcp { .. } => 6,
            Self::Udp { .. } | Self::Vxlan(_) => 17,
            Self::Sctp { .. } => 132,
            Self::Icmp { protocol, .. } | Self::Other { protocol, .. } => *protocol,
            Self::Neighbour { .. } => 58,
            Self::Gre(_) => 47,
        }
    }

    fn hops(&self) -> u8 {
        match self {
            Self::Neighbour { hops, .. } => *hops,
            _ => 64,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let ports = |sport: &u16, dport: &u16| [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        match self {
            Self::Tcp { sport, dport, flags, payload } => {
                let mut segment = ports(sport, dport);
                segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                segment.extend(payload);
                segment
            }
            Self::Udp { sport, dport, payload } => {
                let mut datagram = ports(sport, dport);
                datagram.extend(((payload.len() + 8) as u16).to_be_bytes());
                datagram.extend([0, 0]);
                datagram.extend(payload);
                datagram
            }
            Self::Sctp { sport, dport } => [ports(sport, dport), vec![0; 8]].concat(),
            Self::Icmp { kind, quote, .. } => {
                let mut message = vec![*kind, 0, 0, 0, 0, 0, 0, 0];
                message.extend(quote.iter().flat_map(|body| body.packet()));
                message
            }
            Self::Neighbour { kind, flags, target, .. } => {
                let mut message = vec![*kind, 0, 0, 0, *flags, 0, 0, 0];
                message.extend(target.octets());
                message
            }
            Self::Gre(body) => {
                let mut packet = vec![0, 0];
                body.write(&mut packet);
                packet
            }
            Self::Vxlan(body) => {
                let mut datagram = ports(&40000, &4789);
                datagram.extend([0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
                body.write(&mut datagram);
                datagram
            }
            Self::Other { bytes, .. } => bytes.clone(),
        }
    }
}

/// An IPv4 fragment of a packet without options.
pub fn fragment(mut frame: Vec<u8>, offset: u16, more: bool) -> Vec<u8> {
    let field = offset | u16::from(more) << 13;
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

/// Bytes as a person reads them: sixteen a line.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "\n  {:04x} ", line * 16);
        for byte in bytes {
            let _ = write!(text, " {byte:02x}");
        }
    }
    text
}
