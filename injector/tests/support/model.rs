//! The reference model of the verdict, written from the design and not from the programs: it has its own reading
//! of packets, its own identities and its own slots, and shares no code with the kernel side but the records
//! that the two are compared by.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector::model::{PortSide, Protocol, Scope};
use injector_common::key::{LinkKey, ResponseKey};
use injector_common::record::LinkStamps;
use ipnet::IpNet;

/// Everyone who is no peer.
const WORLD: u16 = 0;

/// What a config says that bears on the verdict.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub exact: HashMap<IpAddr, u16>,
    pub nets: Vec<(IpNet, u16)>,
    pub macs: HashMap<[u8; 6], u16>,
    pub protected_addresses: HashSet<IpAddr>,
    pub protected_scopes: Vec<Scope>,
    /// By address and port, the id and what a response looks like.
    pub endpoints: HashMap<(IpAddr, u16), (u32, Response)>,
    /// By peer: the interfaces where its loss is rolled.
    pub bound: HashMap<u16, BTreeSet<u32>>,
    /// The interface that this is.
    pub here: u32,
}

/// What a successful response looks like.
#[derive(Clone, Debug)]
pub enum Response {
    Any,
    Http,
    Prefix(Vec<u8>),
}

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition {
    pub generation: u32,
    pub links: BTreeSet<(u16, u16)>,
    pub starts: u64,
    pub ends: u64,
    /// Dropped are the packets whose random number is below; `None` is every packet.
    pub loss: Option<u32>,
    /// Period and on-time.
    pub flap: Option<(u64, u64)>,
    pub scopes: Vec<Scope>,
    pub neighbour: bool,
}

/// One packet's moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: u64,
    pub random: u32,
}

/// What happens while partitions are live or watched.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub world: World,
    pub live: BTreeMap<u8, Partition>,
    pub watched: BTreeMap<u8, Partition>,
    pub lease: u64,
    pub lapsed: bool,
    pub judged: u64,
    pub dropped: u64,
    pub unparsed: u64,
    pub protected: u64,
    pub stamps: BTreeMap<LinkKey, LinkStamps>,
    pub responses: BTreeMap<ResponseKey, u64>,
}

/// What a packet is, by the design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    pub from: IpAddr,
    pub to: IpAddr,
    pub from_mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub content: Content<'a>,
    /// The receiver is whoever is asked for.
    pub question: bool,
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
    /// A protocol's number, and its ports if it has any that are known.
    Other(u8, Option<(u16, u16)>),
}

impl Model {
    /// Judges a packet and records what the programs are to record; whether it is dropped.
    pub fn drops(&mut self, frame: &[u8], at: Moment) -> bool {
        if self.live.is_empty() && self.watched.is_empty() {
            return false;
        }
        if !self.live.is_empty() {
            self.lapsed |= at.now >= self.lease;
            if self.lapsed {
                return false;
            }
        }
        self.judged += 1;
        let Some(reading) = read(frame) else {
            self.unparsed += 1;
            return false;
        };
        let from = self.world.who(reading.from, reading.from_mac);
        let to = if reading.is_for_a_group() { WORLD } else { self.world.who(reading.to, reading.to_mac) };
        let rolls = match (self.world.bound.get(&from), self.world.bound.get(&to)) {
            (Some(interfaces), _) | (None, Some(interfaces)) => interfaces.contains(&self.world.here),
            (None, None) => true,
        };
        let holds = |partition: &&Partition| partition.links.contains(&(from, to));
        let mut deciders = BTreeSet::new();
        let mut after = BTreeSet::new();
        for (slot, partition) in self.live.iter().filter(|(_, partition)| holds(partition)) {
            let key = LinkKey { generation: partition.generation, slot: (*slot).into(), src: from, dst: to };
            if at.now >= partition.ends {
                after.insert(key);
            } else if partition.cuts(&reading, at, rolls) {
                deciders.insert(key);
            }
        }
        if !deciders.is_empty() {
            if self.world.protects(&reading) {
                self.protected += 1;
            } else {
                self.dropped += 1;
                for key in deciders {
                    let stamps = self.stamps.entry(key).or_default();
                    stamps.dropped_packets += 1;
                    stamps.dropped_bytes += frame.len() as u64;
                    first(&mut stamps.first_drop, at.now);
                    stamps.last_drop = at.now;
                }
                return true;
            }
        }
        for (slot, partition) in self.watched.iter().filter(|(_, partition)| holds(partition)) {
            after.insert(LinkKey {
                generation: partition.generation,
                slot: (*slot).into(),
                src: from,
                dst: to,
            });
        }
        for key in after {
            self.watch(key, &reading, at.now);
        }
        self.respond(&reading, at.now);
        false
    }

    fn watch(&mut self, key: LinkKey, reading: &Reading<'_>, now: u64) {
        if reading.content == Content::Neighbour {
            return;
        }
        let stamps = self.stamps.entry(key).or_default();
        first(&mut stamps.first_packet, now);
        match &reading.content {
            Content::Tcp { handshake, payload, .. } => {
                match handshake {
                    (true, false) => first(&mut stamps.first_syn, now),
                    (true, true) => first(&mut stamps.first_synack, now),
                    (false, _) => {}
                }
                if payload.0 > 0 {
                    first(&mut stamps.first_data, now);
                }
            }
            Content::Udp { payload: 1.., .. } => first(&mut stamps.first_data, now),
            _ => {}
        }
    }

    fn respond(&mut self, reading: &Reading<'_>, now: u64) {
        let Content::Tcp { ports: Some((port, _)), payload: (length @ 1.., payload), .. } = &reading.content
        else {
            return;
        };
        let Some((endpoint, response)) = self.world.endpoints.get(&(plain(reading.from), *port)) else {
            return;
        };
        let success = match response {
            Response::Any => *length > 0,
            Response::Http => payload.starts_with(b"HTTP/1.1 2") || payload.starts_with(b"HTTP/1.0 2"),
            Response::Prefix(prefix) => payload.starts_with(prefix),
        };
        if !success {
            return;
        }
        let over = self.live.iter().filter(|(_, partition)| now >= partition.ends);
        for (slot, partition) in over.chain(&self.watched) {
            let key =
                ResponseKey { generation: partition.generation, slot: (*slot).into(), endpoint: *endpoint };
            self.responses.entry(key).or_insert(now);
        }
    }
}

fn first(stamp: &mut u64, now: u64) {
    if *stamp == 0 {
        *stamp = now;
    }
}

impl Partition {
    /// Whether it drops a packet of its links before its end.
    fn cuts(&self, reading: &Reading<'_>, at: Moment, rolls: bool) -> bool {
        if at.now < self.starts {
            return false;
        }
        let meant = if reading.content == Content::Neighbour {
            self.neighbour
        } else {
            self.scopes.is_empty() || self.scopes.iter().any(|scope| reading.is_in(*scope))
        };
        let on = self.flap.is_none_or(|(period, on)| (at.now - self.starts) % period < on);
        let lost = self.loss.is_none_or(|below| rolls && at.random < below);
        meant && on && lost
    }
}

impl World {
    /// Exact address, longest prefix, MAC, world.
    fn who(&self, address: IpAddr, mac: [u8; 6]) -> u16 {
        let address = plain(address);
        let by_net = || {
            self.nets.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len())
        };
        self.exact
            .get(&address)
            .or_else(|| by_net().map(|(_, peer)| peer))
            .or_else(|| self.macs.get(&mac))
            .copied()
            .unwrap_or(WORLD)
    }

    fn protects(&self, reading: &Reading<'_>) -> bool {
        self.protected_addresses.contains(&plain(reading.from))
            || self.protected_addresses.contains(&plain(reading.to))
            || self.protected_scopes.iter().any(|scope| reading.is_in(*scope) || reading.may_be_in(*scope))
    }
}

/// An IPv4-mapped IPv6 address is that of the IPv4 node (RFC 4291).
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Reading<'_> {
    fn is_for_a_group(&self) -> bool {
        let to = plain(self.to);
        let by_mac = !self.question && self.to_mac[0] % 2 == 1;
        by_mac || to.is_multicast() || to == IpAddr::V4(Ipv4Addr::BROADCAST)
    }

    /// Whether it is a piece of a datagram whose first fragment may be in a scope.
    fn may_be_in(&self, scope: Scope) -> bool {
        let protocol = match scope.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
            Protocol::Number(number) => number,
            Protocol::Icmp => 1,
        };
        self.piece_of.is_some_and(|of| {
            of == protocol
                || matches!(self.content, Content::Icmp(_))
                || [0, 43, 44, 51, 60, 135, 139, 140].contains(&of)
        })
    }

    fn is_in(&self, scope: Scope) -> bool {
        let flow = match &self.content {
            Content::Tcp { ports, .. } => Some((6, *ports)),
            Content::Udp { ports, .. } => Some((17, *ports)),
            Content::Icmp(quoted) => *quoted,
            Content::Other(protocol, ports) => Some((*protocol, *ports)),
            Content::Neighbour => None,
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

/// Reads a frame; `None` if its addresses can't be told.
pub fn read(frame: &[u8]) -> Option<Reading<'_>> {
    let to_mac = *frame.first_chunk()?;
    let from_mac = *frame.get(6..)?.first_chunk()?;
    let mut rest = frame.get(12..)?;
    for _ in 0..2 {
        if let [0x81, 0x00, ..] | [0x88, 0xa8, ..] = rest {
            rest = rest.get(4..)?;
        }
    }
    let (kind, packet) = rest.split_first_chunk()?;
    let of = |from, to, content, question, piece_of| Reading {
        from,
        to,
        from_mac,
        to_mac,
        content,
        question,
        piece_of,
    };
    match kind {
        [0x08, 0x00] => {
            let ip = V4::read(packet)?;
            Some(of(ip.from.into(), ip.to.into(), ip.content(), false, ip.above.piece_of()))
        }
        [0x86, 0xdd] => {
            let ip = V6::read(packet)?;
            match ip.solicits() {
                Some(asked) => Some(of(ip.from.into(), asked.into(), Content::Neighbour, true, None)),
                None => Some(of(ip.from.into(), ip.to.into(), ip.content(), false, ip.above.piece_of())),
            }
        }
        [0x08, 0x06] => match packet.first_chunk::<28>()? {
            [0, 1, 0x08, 0, 6, 4, _, _, rest @ ..] => {
                let address = |at: usize| Ipv4Addr::from(*rest[at..].first_chunk::<4>().unwrap());
                Some(of(address(6).into(), address(16).into(), Content::Neighbour, true, None))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Where the headers end, and what comes then.
struct Above<'a> {
    protocol: u8,
    bytes: &'a [u8],
    /// How long it is by the IP header, if that says.
    length: Option<usize>,
    later_fragment: bool,
}

impl<'a> Above<'a> {
    /// Goes on behind a header of this length.
    fn enter(&mut self, next: u8, header: usize) {
        self.protocol = next;
        self.bytes = self.bytes.get(header..).unwrap_or_default();
        self.length = self.length.map(|length| length.saturating_sub(header));
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d] = *self.bytes.first_chunk()?;
        (!self.later_fragment).then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    fn piece_of(&self) -> Option<u8> {
        self.later_fragment.then_some(self.protocol)
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
            132 => Content::Other(132, self.ports()),
            other => Content::Other(other, None),
        }
    }

    fn icmp(&self, icmp: u8, kind: u8) -> Content<'a> {
        let quote = self.bytes.get(8..);
        let turned = |above: Above<'_>| (above.protocol, above.ports().map(|(src, dst)| (dst, src)));
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
    above: Above<'a>,
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
        let mut above = Above {
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
    above: Above<'a>,
}

impl<'a> V6<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<40>()?;
        let address = |at: usize| Ipv6Addr::from(*fixed[at..].first_chunk::<16>().unwrap());
        Some(Self { from: address(8), to: address(24), above: Self::quoted(packet)? })
    }

    /// What is above the header of a packet of which an error quotes as much as fits.
    fn quoted(packet: &'a [u8]) -> Option<Above<'a>> {
        let start = packet.first_chunk::<8>()?;
        if start[0] / 16 != 6 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([start[4], start[5]]));
        let mut above = Above {
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

    /// Whom a neighbour solicitation asks for.
    fn solicits(&self) -> Option<Ipv6Addr> {
        if self.above.protocol != 58 || self.above.later_fragment || *self.above.bytes.first()? != 135 {
            return None;
        }
        self.above.bytes.get(8..)?.first_chunk::<16>().map(|asked| Ipv6Addr::from(*asked))
    }
}
