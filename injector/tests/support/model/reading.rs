//! How the model reads a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector_core::model::{PortSide, Protocol, Scope};

/// What a frame is, by the design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    /// The sender's and the receiver's address; `None` if it has none that can be read.
    pub addresses: Option<(IpAddr, IpAddr)>,
    pub from_mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub content: Content<'a>,
    /// An ARP request or a neighbour solicitation: the receiver is the peer that is asked for.
    pub asks: bool,
    /// The address that its sender claims by it.
    pub claims: Option<IpAddr>,
    /// Of a later fragment, the protocol as far as its headers say.
    pub piece_of: Option<u8>,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// ARP or neighbour discovery.
    Neighbour,
    Tcp {
        ports: Option<(u16, u16)>,
        /// SYN and ACK.
        handshake: (bool, bool),
        /// Its length by the headers, and as much of it as is there.
        payload: (usize, &'a [u8]),
    },
    Udp {
        ports: Option<(u16, u16)>,
        payload: usize,
    },
    /// The flow that an error quotes, turned round: its protocol and ports.
    Icmp(Option<(u8, Option<(u16, u16)>)>),
    Other {
        /// Its number.
        protocol: u8,
        /// Its ports, if it has any that are known.
        ports: Option<(u16, u16)>,
        payload: usize,
    },
    /// A frame of the active check.
    Check,
    /// It has no addresses, and nothing else that can be read.
    Unparsed,
}

/// The numbers of headers that precede another one.
const EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

/// An IPv4-mapped IPv6 address is that of the IPv4 node (RFC 4291).
pub fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Reading<'_> {
    /// Whether it is for all who listen: by its MAC address, or by its address.
    pub fn is_for_a_group(&self) -> bool {
        let by_address = self.addresses.is_some_and(|(_, to)| {
            let to = plain(to);
            to.is_multicast() || to == IpAddr::V4(Ipv4Addr::BROADCAST)
        });
        by_address || self.to_mac[0] % 2 == 1
    }

    /// Whether it says nothing about the traffic between two peers.
    pub fn proves_nothing(&self) -> bool {
        self.is_for_a_group() || matches!(self.content, Content::Neighbour | Content::Check)
    }

    /// Whether it is between a port and its switch.
    pub fn is_for_the_switch(&self) -> bool {
        matches!(self.to_mac, [0x01, 0x80, 0xc2, 0, 0, ..=0x0f])
    }

    /// Whether it is a piece of a datagram whose first fragment may be in a scope.
    pub fn may_be_in(&self, scope: Scope) -> bool {
        let protocol = match scope.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
            Protocol::Number(number) => number,
            Protocol::Icmp => 1,
        };
        self.piece_of.is_some_and(|of| {
            of == protocol || matches!(self.content, Content::Icmp(_)) || EXTENSIONS.contains(&of)
        })
    }

    /// Whether it is in a scope; a frame without addresses is in none.
    pub fn is_in(&self, scope: Scope) -> bool {
        let flow = match &self.content {
            Content::Tcp { ports, .. } => Some((6, *ports)),
            Content::Udp { ports, .. } => Some((17, *ports)),
            Content::Icmp(quoted) => *quoted,
            Content::Other { protocol, ports, .. } => Some((*protocol, *ports)),
            Content::Neighbour | Content::Check | Content::Unparsed => None,
        };
        let protocol = match scope.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
            Protocol::Number(number) => number,
            Protocol::Icmp => return matches!(self.content, Content::Icmp(_)),
        };
        let Some((of, ports)) = flow else { return false };
        if of != protocol {
            return false;
        }
        let Some((low, high)) = scope.ports else { return true };
        let Some((src, dst)) = ports else { return false };
        let (src, dst) = ((low..=high).contains(&src), (low..=high).contains(&dst));
        match scope.side {
            PortSide::Src => src,
            PortSide::Dst => dst,
            PortSide::Either => src || dst,
        }
    }
}

/// Reads a frame of at least 14 bytes.
pub fn read(frame: &[u8]) -> Reading<'_> {
    let mut reading = Reading {
        addresses: None,
        from_mac: *frame[6..].first_chunk().unwrap(),
        to_mac: *frame.first_chunk().unwrap(),
        content: Content::Unparsed,
        asks: false,
        claims: None,
        piece_of: None,
    };
    if let Some(Addressed { from, to, content, asks, claims, piece_of }) = addressed(&frame[12..]) {
        // A tag may be of a network of its own: what is claimed there is not learned.
        let claims = claims.filter(|_| !matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]));
        reading = Reading { addresses: Some((from, to)), content, asks, claims, piece_of, ..reading };
    } else if is_check(frame) {
        reading.content = Content::Check;
    }
    reading
}

/// Whether a frame is one of the active check, behind two tags at most; an empty one is nobody's.
fn is_check(frame: &[u8]) -> bool {
    let mut rest = &frame[12..];
    for _ in 0..2 {
        if let [0x81, 0x00, _, _, behind @ ..] | [0x88, 0xa8, _, _, behind @ ..] = rest {
            rest = behind;
        }
    }
    frame.len() >= 16 && rest.starts_with(&[0x88, 0xb5])
}

/// What a frame with addresses says.
struct Addressed<'a> {
    from: IpAddr,
    to: IpAddr,
    content: Content<'a>,
    asks: bool,
    claims: Option<IpAddr>,
    piece_of: Option<u8>,
}

/// Reads a frame from its ethertype on; `None` if its addresses can't be read.
fn addressed(mut rest: &[u8]) -> Option<Addressed<'_>> {
    for _ in 0..2 {
        if let [0x81, 0x00, ..] | [0x88, 0xa8, ..] = rest {
            rest = rest.get(4..)?;
        }
    }
    let (kind, packet) = rest.split_first_chunk()?;
    match kind {
        [0x08, 0x00] => {
            let ip = V4::read(packet)?;
            let (from, to) = (ip.from.into(), ip.to.into());
            let piece_of = ip.above.piece_of();
            Some(Addressed { from, to, content: ip.content(), asks: false, claims: None, piece_of })
        }
        [0x86, 0xdd] => {
            let ip = V6::read(packet)?;
            let asked = ip.solicits();
            Some(Addressed {
                from: ip.from.into(),
                to: asked.unwrap_or(ip.to).into(),
                content: ip.content(),
                asks: asked.is_some(),
                claims: ip.claims().map(IpAddr::from),
                piece_of: ip.above.piece_of(),
            })
        }
        [0x08, 0x06] => match packet.first_chunk::<28>()? {
            [0, 1, 0x08, 0, 6, 4, high, low, rest @ ..] => {
                let address = |at: usize| IpAddr::from(*rest[at..].first_chunk::<4>().unwrap());
                let (from, to) = (address(6), address(16));
                let asks = [*high, *low] == [0, 1];
                let claims = asks.then_some(from);
                Some(Addressed { from, to, content: Content::Neighbour, asks, claims, piece_of: None })
            }
            _ => None,
        },
        _ => None,
    }
}

/// Where the headers end, and what comes then.
struct UpperLayer<'a> {
    protocol: u8,
    bytes: &'a [u8],
    /// How long it is by the IP header, if that says.
    length: Option<usize>,
    later_fragment: bool,
}

impl<'a> UpperLayer<'a> {
    /// Continues behind a header of this length.
    fn enter(&mut self, next: u8, header: usize) {
        self.protocol = next;
        self.bytes = self.bytes.get(header..).unwrap_or_default();
        self.length = self.length.map(|length| length.saturating_sub(header));
    }

    fn piece_of(&self) -> Option<u8> {
        self.later_fragment.then_some(self.protocol)
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d] = *self.bytes.first_chunk()?;
        (!self.later_fragment).then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The length of what follows a header by the IP header, and the bytes.
    fn beyond(&self, header: usize) -> (usize, &'a [u8]) {
        let length = self.length.unwrap_or(self.bytes.len());
        let here = &self.bytes[..length.min(self.bytes.len())];
        (length.saturating_sub(header), here.get(header..).unwrap_or_default())
    }

    fn content(&self, icmp: u8) -> Content<'a> {
        match self.protocol {
            6 => {
                let (mut handshake, mut payload) = ((false, false), (0, &[][..]));
                if !self.later_fragment
                    && let Some(header) = self.bytes.first_chunk::<14>()
                {
                    handshake = (header[13] & 2 != 0, header[13] & 16 != 0);
                    payload = self.beyond(usize::from(header[12] >> 4) * 4);
                }
                Content::Tcp { ports: self.ports(), handshake, payload }
            }
            17 => {
                let ports = self.ports();
                Content::Udp { ports, payload: if ports.is_some() { self.beyond(8).0 } else { 0 } }
            }
            protocol if protocol == icmp => match self.bytes.first() {
                Some(kind) if !self.later_fragment => self.icmp(icmp, *kind),
                _ => Content::Icmp(None),
            },
            protocol @ (132 | 136) => {
                let (ports, header) = (self.ports(), if protocol == 132 { 12 } else { 8 });
                let payload = if ports.is_some() { self.beyond(header).0 } else { 0 };
                Content::Other { protocol, ports, payload }
            }
            protocol => {
                // Behind an extension header that is not followed, who knows what comes.
                let is_known = !self.later_fragment && !EXTENSIONS.contains(&protocol);
                let payload = if is_known { self.beyond(0).0 } else { 0 };
                Content::Other { protocol, ports: None, payload }
            }
        }
    }

    fn icmp(&self, icmp: u8, kind: u8) -> Content<'a> {
        let quote = self.bytes.get(8..);
        let turned = |above: UpperLayer<'_>| (above.protocol, above.ports().map(|(src, dst)| (dst, src)));
        match (icmp, kind) {
            (58, 133..=137) => Content::Neighbour,
            (58, 1..=4) => Content::Icmp(quote.and_then(V6::quoted).map(turned)),
            (1, 3 | 4 | 5 | 11 | 12) => Content::Icmp(quote.and_then(V4::read).map(|ip| turned(ip.above))),
            _ => Content::Icmp(None),
        }
    }
}

struct V4<'a> {
    from: Ipv4Addr,
    to: Ipv4Addr,
    above: UpperLayer<'a>,
}

impl<'a> V4<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<20>()?;
        let header = usize::from(fixed[0] % 16) * 4;
        if fixed[0] / 16 != 4 || header < 20 {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let mut above = UpperLayer {
            protocol: fixed[9],
            bytes: packet.get(header..).unwrap_or_default(),
            // No sensible length: a segmentation super-packet.
            length: usize::from(word(2)).checked_sub(header),
            later_fragment: word(6) % 0x2000 > 0,
        };
        // At most two authentication headers are followed, and in a later fragment there is none.
        for _ in 0..2 {
            match above.bytes {
                [next, length, ..] if above.protocol == 51 && !above.later_fragment => {
                    above.enter(*next, usize::from(*length) * 4 + 8);
                }
                _ => break,
            }
        }
        Some(Self { from: address(12), to: address(16), above })
    }

    fn content(&self) -> Content<'a> {
        self.above.content(1)
    }
}

struct V6<'a> {
    from: Ipv6Addr,
    to: Ipv6Addr,
    hops: u8,
    has_extensions: bool,
    above: UpperLayer<'a>,
}

impl<'a> V6<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<40>()?;
        let address = |at: usize| Ipv6Addr::from(*fixed[at..].first_chunk::<16>().unwrap());
        let above = Self::quoted(packet)?;
        let (hops, has_extensions) = (fixed[7], fixed[6] != above.protocol);
        Some(Self { from: address(8), to: address(24), hops, has_extensions, above })
    }

    /// What is above the header of a packet that an error quotes as far as it fits.
    fn quoted(packet: &'a [u8]) -> Option<UpperLayer<'a>> {
        let start = packet.first_chunk::<8>()?;
        if start[0] / 16 != 6 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([start[4], start[5]]));
        let mut above = UpperLayer {
            protocol: start[6],
            bytes: packet.get(40..).unwrap_or_default(),
            length: (length > 0).then_some(length),
            later_fragment: false,
        };
        // At most eight extension headers are followed.
        for _ in 0..8 {
            let Some([next, length, high, low]) = above.bytes.first_chunk::<4>().copied() else { break };
            let skip = match above.protocol {
                44 => {
                    above.later_fragment = u16::from_be_bytes([high, low]) >> 3 > 0;
                    8
                }
                51 => usize::from(length) * 4 + 8,
                0 | 43 | 60 | 135 | 139 | 140 => usize::from(length) * 8 + 8,
                _ => break,
            };
            above.enter(next, skip);
            if above.later_fragment {
                break;
            }
        }
        Some(above)
    }

    fn content(&self) -> Content<'a> {
        self.above.content(58)
    }

    /// The message of neighbour discovery of a kind that it is, from its flags on.
    fn discovery(&self, kind: u8) -> Option<&'a [u8]> {
        let is_whole = self.above.protocol == 58 && !self.above.later_fragment;
        (is_whole && *self.above.bytes.first()? == kind).then_some(self.above.bytes.get(4..)?)
    }

    /// Whom a neighbour solicitation asks for.
    fn solicits(&self) -> Option<Ipv6Addr> {
        let target = self.discovery(135)?.get(4..)?.first_chunk::<16>()?;
        Some(Ipv6Addr::from(*target))
    }

    /// The address that its sender claims: as the source of a solicitation, as what it is about to take, or by an
    /// advertisement that overrides. A message that a router passed on is no neighbour's (RFC 4861): its hop limit says so.
    fn claims(&self) -> Option<Ipv6Addr> {
        if self.hops != 255 || self.has_extensions {
            return None;
        }
        if let Some(asked) = self.solicits() {
            return Some(if self.from.is_unspecified() { asked } else { self.from });
        }
        let (flags, target) = self.discovery(136)?.split_first_chunk::<4>()?;
        let overrides = flags[0] & 0x20 != 0;
        overrides.then_some(Ipv6Addr::from(*target.first_chunk::<16>()?))
    }
}
