//! The packet parser: one for TC, XDP, the reference model's tests and the fuzzer.
//!
//! It reads through [`Bytes`], so that the kernel side can use the load helpers, which see linear and
//! non-linear packets alike. It never fails on content: what it can't read is [`Unparsed`].

use crate::key::{Address, is_mapped, mapped};

/// A packet's bytes, from the Ethernet header on.
pub trait Bytes {
    /// `N` bytes at an offset, or `None` past the end: for what few packets have.
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
    /// `N` words at an offset, as they lie in memory, or `None` past the end: for the headers that nearly every
    /// packet has. This is the fast way, and the one that the verifier has more to do with.
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]>;
    /// The length in bytes.
    fn len(&self) -> u32;
    /// Whether the frame has a VLAN tag that is not in these bytes. Before TC ingress, the kernel takes the outer tag out of a
    /// frame and keeps it beside the packet.
    fn is_tagged(&self) -> bool {
        false
    }
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bytes for &[u8] {
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = at as usize;
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let (words, _) = self.get(at as usize..)?.as_chunks();
        Some(words.first_chunk::<N>()?.map(u32::from_ne_bytes))
    }
    fn len(&self) -> u32 {
        <[u8]>::len(self) as u32
    }
}

/// IP protocol numbers.
pub mod protocol {
    /// `ICMP`; in scopes it represents `ICMPv6` too.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// `ICMPv6`.
    pub const ICMP6: u8 = 58;
    /// The authentication header, over IPv4 and IPv6.
    pub const AH: u8 = 51;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;

    /// Whether packets of this protocol begin with the ports of their sender and receiver.
    #[inline(always)]
    pub const fn has_ports(number: u8) -> bool {
        matches!(number, TCP | UDP | SCTP | UDP_LITE)
    }

    /// Whether this is the number of a header that precedes the transport protocol: hop-by-hop, routing,
    /// fragment, authentication, destination, mobility, HIP, shim6.
    #[inline(always)]
    pub const fn is_extension(number: u8) -> bool {
        matches!(number, 0 | 43 | 44 | AH | 60 | 135 | 139 | 140)
    }
}

/// Facts about a [`Packet`].
pub mod flag {
    /// The ports are known.
    pub const PORTS: u8 = 1;
    /// ICMP of either version; protocol and ports are then those of the quoted flow, swapped, if it quotes one.
    pub const ICMP: u8 = 1 << 1;
    /// ARP or neighbour discovery.
    pub const NEIGHBOUR: u8 = 1 << 2;
    /// The frame goes to a multicast or broadcast destination.
    pub const GROUP: u8 = 1 << 3;
    /// A fragment that is not the first: no ports.
    pub const LATER_FRAGMENT: u8 = 1 << 4;
    /// An ARP request or a neighbour solicitation: `dst` is the address that it asks for.
    pub const ASKS: u8 = 1 << 5;
    /// Neither IP nor ARP, or cut short before its addresses: only MACs and ports name its ends.
    pub const NO_ADDRESS: u8 = 1 << 6;
    /// A frame of the active check (see [`super::CHECK_ETHERTYPE`] and [`super::CHECK_PROTOCOL`]).
    pub const CHECK: u8 = 1 << 7;
}

/// Kinds of ARP and neighbour discovery messages, as [`Packet::discovery`] has them.
pub mod discovery {
    /// The frame is no such message.
    pub const NONE: u8 = 0;
    /// An ARP request, announcements included.
    pub const REQUEST: u8 = 1;
    /// An ARP reply, or any other ARP message.
    pub const REPLY: u8 = 2;
    /// A neighbour solicitation.
    pub const SOLICITATION: u8 = 3;
    /// A neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 4;
    /// A neighbour advertisement whose override flag is set.
    pub const OVERRIDE: u8 = 5;
    /// A router solicitation or advertisement, or a redirect.
    pub const OTHER: u8 = 6;
}

/// TCP flag bits.
pub mod tcp {
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// Next header and hop limit of neighbour discovery that a neighbour sent (RFC 4861): a router lowers the limit of what it
/// passes on.
pub const NEIGHBOURS: u16 = (protocol::ICMP6 as u16) << 8 | 255;

/// The facts about a packet that the verdict needs. Ports are in host order.
///
/// The order of the fields matters: where the fields that are cleared for each packet adjoin, BPF clears them
/// in a loop over their bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The sender: IP source, ARP sender.
    pub src: Address,
    /// The receiver: IP destination, ARP or neighbour solicitation target.
    pub dst: Address,
    /// The receiver's MAC, then the sender's, as they lie in the frame.
    pub macs: [u32; 3],
    /// The source port.
    pub sport: u16,
    /// The destination port.
    pub dport: u16,
    /// The IP protocol after extension and authentication headers; of an ICMP error, that of the quoted packet.
    pub protocol: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// TCP flags, 0 for all else.
    pub tcp_flags: u8,
    /// A constant of [`discovery`].
    pub discovery: u8,
    /// The address that an overriding neighbour advertisement announces; of other packets it says nothing.
    pub announced: Address,
    /// Where the payload begins: what follows the header of TCP, UDP, UDP-Lite or SCTP, and the IP headers of all else; 0 for
    /// ICMP, later fragments, and what is cut short before it.
    pub payload_at: u32,
    /// How long it is, in bytes.
    pub payload_len: u32,
    /// Next header and hop limit of IPv6, and [`NEIGHBOURS`] of ARP, which routers pass on to nobody. 0 for all else, and
    /// behind a tag, which may be of a network of its own.
    pub limits: u16,
    /// Zero.
    pub pad: u16,
}

impl Packet {
    /// The receiver's MAC.
    #[inline(always)]
    pub fn dst_mac(&self) -> [u8; 6] {
        let [dst, both, _] = self.macs.map(u32::to_ne_bytes);
        [dst[0], dst[1], dst[2], dst[3], both[0], both[1]]
    }

    /// The sender's MAC.
    #[inline(always)]
    pub fn src_mac(&self) -> [u8; 6] {
        let [_, both, src] = self.macs.map(u32::to_ne_bytes);
        [both[2], both[3], src[0], src[1], src[2], src[3]]
    }
}

/// A frame that is neither IP nor ARP, or ends before its addresses do: its [`Packet`] has the MACs and
/// [`flag::NO_ADDRESS`], and all else is as for no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unparsed;

/// The ethertype of the frames by which the daemon itself tries a cut: the first of the two that IEEE 802 leaves for
/// local experiments. They are judged as any frame, and say nothing about the peers' own traffic.
pub const CHECK_ETHERTYPE: u16 = 0x88b5;
/// The IP protocol of the others of these frames, which RFC 3692 leaves for experiments,
pub const CHECK_PROTOCOL: u8 = 253;
/// and what the payload of both begins with. Others may use that protocol too.
pub const CHECK_MAGIC: [u8; 4] = *b"injc";

const ETH_LEN: u32 = 14;
const MAX_TAGS: u32 = 2;
const MAX_EXTENSIONS: u32 = 8;
/// IPv4 authentication headers that are followed: one inside another happens where a gateway adds its own.
const MAX_AUTHENTICATIONS: u32 = 2;

const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_VLAN: u16 = 0x8100;
const ETH_QINQ: u16 = 0x88a8;
const ETH_IPV6: u16 = 0x86dd;

#[inline(always)]
const fn be16(high: u8, low: u8) -> u16 {
    (high as u16) << 8 | low as u16
}

/// Parses a frame into `packet`, which is wholly overwritten. (An out parameter, since the kernel side has it in a map:
/// its stack is 512 bytes.)
///
/// # Errors
/// [`Unparsed`] for anything that is not IPv4, IPv6, ARP over Ethernet, or whose addresses are cut short. A
/// packet that is cut short after them belongs to its link as any other; what is missing of it is not known.
#[inline(always)]
pub fn parse<B: Bytes>(bytes: &B, packet: &mut Packet) -> Result<(), Unparsed> {
    // Sixteen zeros at once are, for BPF, a call of a loop over their bytes; these do not adjoin.
    (packet.payload_at, packet.payload_len, packet.limits) = (0, 0, 0);
    (packet.sport, packet.dport, packet.protocol, packet.flags) = (0, 0, 0, 0);
    (packet.tcp_flags, packet.discovery) = (0, discovery::NONE);
    let parsed = addressed(bytes, packet);
    if parsed.is_err() {
        (packet.src, packet.dst) = (mapped(0), mapped(0));
        (packet.sport, packet.dport, packet.protocol) = (0, 0, 0);
        packet.flags = packet.flags & flag::CHECK | flag::NO_ADDRESS;
    }
    if is_group(&packet.dst) || packet.macs[0].to_ne_bytes()[0] & 1 != 0 {
        packet.flags |= flag::GROUP;
    }
    parsed
}

#[inline(always)]
fn addressed<B: Bytes>(bytes: &B, packet: &mut Packet) -> Result<(), Unparsed> {
    // A whole word after the MACs: no packet with addresses ends there.
    let Some([macs @ .., kind]) = bytes.words::<4>(0) else {
        packet.macs = bytes.words(0).unwrap_or([0; 3]);
        return Err(Unparsed);
    };
    packet.macs = macs;
    let mut ethertype = (u32::from_be(kind) >> 16) as u16;
    let mut at = ETH_LEN;
    if is_tag(ethertype) {
        // An outer tag that the kernel keeps beside the packet is not in these bytes: then there is one less here.
        for _ in 0..MAX_TAGS {
            let [tag] = bytes.words(at).ok_or(Unparsed)?;
            ethertype = u32::from_be(tag) as u16;
            at += 4;
            if !is_tag(ethertype) {
                break;
            }
        }
        at = from_memory(at, MAX_ADDRESSED, packet);
    }
    match ethertype {
        ETH_IPV4 => ipv4(bytes, at, packet),
        ETH_IPV6 => ipv6(bytes, at, packet),
        ETH_ARP => arp(bytes, at, packet),
        CHECK_ETHERTYPE => {
            packet.flags = flag::CHECK;
            Err(Unparsed)
        }
        _ => Err(Unparsed),
    }
}

#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    ethertype == ETH_VLAN || ethertype == ETH_QINQ
}

/// Where the IP header of a tagged frame begins, as a mask.
const MAX_ADDRESSED: u32 = 0x1f;
/// Where the protocol begins behind the extension headers of a packet, as a mask.
const MAX_TRANSPORT: u32 = 0x7fff;
/// The same of a quoted packet.
const MAX_QUOTED: u32 = 0xffff;

/// A position in a packet, of at most `max`, through memory: the verifier then knows no more than that, and follows what comes
/// next once for all ways that lead here. Only for positions that few packets have.
#[inline(always)]
fn from_memory(at: u32, max: u32, packet: &mut Packet) -> u32 {
    let place = &raw mut packet.payload_at;
    // SAFETY: a valid reference.
    let read = unsafe {
        place.write_volatile(at);
        place.read_volatile()
    };
    packet.payload_at = 0;
    // All headers behind Ethernet's have whole words: a processor that loads no others needs to know that.
    read & max & !3 | ETH_LEN & 3
}

/// Whether an address is one of multicast, or broadcast.
#[inline(always)]
pub fn is_group(dst: &Address) -> bool {
    if is_mapped(dst) {
        let v4 = u32::from_be(dst[3]);
        v4 >> 28 == 0xe || v4 == u32::MAX
    } else {
        u32::from_be(dst[0]) >> 24 == 0xff
    }
}

#[inline(always)]
fn arp<B: Bytes>(bytes: &B, at: u32, packet: &mut Packet) -> Result<(), Unparsed> {
    let kinds = bytes.words(at).ok_or(Unparsed)?;
    // Ethernet, IPv4, and their address lengths: nothing else is ours.
    let [hardware, sizes] = kinds.map(u32::from_be);
    if hardware != 1 << 16 | u32::from(ETH_IPV4) || sizes >> 16 != 0x0604 {
        return Err(Unparsed);
    }
    let [sender] = bytes.words(at + 14).ok_or(Unparsed)?;
    let [target] = bytes.words(at + 24).ok_or(Unparsed)?;
    packet.src = mapped(sender);
    packet.dst = mapped(target);
    let is_request = sizes & 0xffff == 1;
    packet.flags = flag::NEIGHBOUR | if is_request { flag::ASKS } else { 0 };
    packet.discovery = if is_request { discovery::REQUEST } else { discovery::REPLY };
    if at == ETH_LEN && !bytes.is_tagged() {
        packet.limits = NEIGHBOURS;
    }
    Ok(())
}

#[inline(always)]
fn ipv4<B: Bytes>(bytes: &B, at: u32, packet: &mut Packet) -> Result<(), Unparsed> {
    let [length, fragment, protocol, src, dst] = bytes.words(at).ok_or(Unparsed)?;
    let [length, fragment, protocol] = [length, fragment, protocol].map(u32::from_be);
    let header = (length >> 24 & 0x0f) * 4;
    if length >> 28 != 4 || header < 20 {
        return Err(Unparsed);
    }
    packet.src = mapped(src);
    packet.dst = mapped(dst);
    let total = length & 0xffff;
    // Ethernet pads short frames, and a segmentation super-packet may carry no length at all.
    let end = if total < header { bytes.len() } else { at + total };
    let later_fragment = fragment & 0x1fff != 0;
    let first = Chain { protocol: (protocol >> 16) as u8, at: at + header, later_fragment };
    let chain = authenticated(bytes, first, MAX_TRANSPORT, packet);
    transport(bytes, &chain, end, Version::Four, packet);
    Ok(())
}

/// The two IPs, each with an ICMP of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Four,
    Six,
}

/// The last protocol of a header chain, and where it begins.
struct Chain {
    protocol: u8,
    at: u32,
    later_fragment: bool,
}

/// The chain of an IPv4 packet: only authentication headers may precede the protocol. A later fragment begins in
/// the middle of its datagram, so its bytes are not read.
#[inline(always)]
fn authenticated<B: Bytes>(bytes: &B, mut chain: Chain, max: u32, packet: &mut Packet) -> Chain {
    if chain.protocol != protocol::AH || chain.later_fragment {
        return chain;
    }
    for _ in 0..MAX_AUTHENTICATIONS {
        let Some([next, length]) = bytes.read(chain.at) else { break };
        chain.protocol = next;
        chain.at = from_memory(chain.at + (u32::from(length) + 2) * 4, max, packet);
        if chain.protocol != protocol::AH {
            break;
        }
    }
    chain
}

/// The chain of an IPv6 packet.
#[inline(always)]
fn extensions<B: Bytes>(bytes: &B, first: u8, at: u32, max: u32, packet: &mut Packet) -> Chain {
    let mut chain = Chain { protocol: first, at, later_fragment: false };
    if !protocol::is_extension(first) {
        return chain;
    }
    for _ in 0..MAX_EXTENSIONS {
        let Some(header): Option<[u8; 4]> = bytes.read(chain.at) else { break };
        let length = match chain.protocol {
            44 => {
                chain.later_fragment = be16(header[2], header[3]) & 0xfff8 != 0;
                8
            }
            protocol::AH => (u32::from(header[1]) + 2) * 4,
            _ => (u32::from(header[1]) + 1) * 8,
        };
        chain.at = from_memory(chain.at + length, max, packet);
        chain.protocol = header[0];
        if chain.later_fragment || !protocol::is_extension(chain.protocol) {
            break;
        }
    }
    chain
}

#[inline(always)]
fn ipv6<B: Bytes>(bytes: &B, at: u32, packet: &mut Packet) -> Result<(), Unparsed> {
    let [version, payload, src @ .., d0, d1, d2, d3] = bytes.words::<10>(at).ok_or(Unparsed)?;
    if u32::from_be(version) >> 28 != 6 {
        return Err(Unparsed);
    }
    packet.src = src;
    packet.dst = [d0, d1, d2, d3];
    let payload = u32::from_be(payload);
    if at == ETH_LEN && !bytes.is_tagged() {
        packet.limits = payload as u16;
    }
    let chain = extensions(bytes, (payload >> 8) as u8, at + 40, MAX_TRANSPORT, packet);
    let payload = payload >> 16;
    let end = if payload == 0 { bytes.len() } else { at + 40 + payload };
    transport(bytes, &chain, end, Version::Six, packet);
    Ok(())
}

/// Ports and payload; `end` is where the IP packet ends.
#[inline(always)]
fn transport<B: Bytes>(bytes: &B, chain: &Chain, end: u32, version: Version, packet: &mut Packet) {
    let at = chain.at;
    packet.protocol = chain.protocol;
    let icmp = match version {
        Version::Four => protocol::ICMP,
        Version::Six => protocol::ICMP6,
    };
    if chain.protocol == icmp {
        packet.flags |= flag::ICMP;
    }
    if chain.later_fragment {
        packet.flags |= flag::LATER_FRAGMENT;
        return;
    }
    if chain.protocol == icmp {
        let Some([kind]) = bytes.read(at) else { return };
        match version {
            // Unreachable, quench, redirect, time exceeded, parameter problem.
            Version::Four if matches!(kind, 3 | 4 | 5 | 11 | 12) => quoted4(bytes, at + 8, packet),
            Version::Six => icmp6(bytes, at, kind, packet),
            Version::Four => {}
        }
    } else if protocol::has_ports(chain.protocol) {
        // The ports alone first: a small first fragment has no more.
        let Some([found]) = bytes.words(at) else { return };
        ports(found, packet);
        match chain.protocol {
            protocol::SCTP => payload(at + 12, end, packet),
            protocol::UDP | protocol::UDP_LITE => payload(at + 8, end, packet),
            _ => {
                // Two bytes of the acknowledgement, offset, flags: a header may be cut short after them.
                let Some([word]) = bytes.words(at + 10) else { return };
                let word = u32::from_be(word);
                packet.tcp_flags = word as u8;
                payload(at + (word >> 12 & 0x0f) * 4, end, packet);
            }
        }
    } else if !protocol::is_extension(chain.protocol) {
        if chain.protocol == CHECK_PROTOCOL
            && let Some([first]) = bytes.words(at)
            && first == u32::from_ne_bytes(CHECK_MAGIC)
        {
            packet.flags |= flag::CHECK;
        }
        // ESP, GRE and all else: how long its own header is, its protocol alone knows.
        payload(at, end, packet);
    }
}

#[inline(always)]
fn icmp6<B: Bytes>(bytes: &B, at: u32, kind: u8, packet: &mut Packet) {
    match kind {
        1..=4 => quoted6(bytes, at + 8, packet),
        133..=137 => {
            packet.flags = packet.flags & !flag::ICMP | flag::NEIGHBOUR;
            packet.discovery = discovery::OTHER;
            if kind == 135
                && let Some(asked) = bytes.words(at + 8)
            {
                packet.dst = asked;
                packet.flags |= flag::ASKS;
                packet.discovery = discovery::SOLICITATION;
            } else if kind == 136
                && let Some([flags, announced @ ..]) = bytes.words::<5>(at + 4)
            {
                packet.announced = announced;
                let overrides = u32::from_be(flags) & 1 << 29 != 0;
                packet.discovery = if overrides { discovery::OVERRIDE } else { discovery::ADVERTISEMENT };
            }
        }
        _ => {}
    }
}

/// `word` is the two ports as they lie in memory.
#[inline(always)]
fn ports(word: u32, packet: &mut Packet) {
    let word = u32::from_be(word);
    packet.sport = (word >> 16) as u16;
    packet.dport = word as u16;
    packet.flags |= flag::PORTS;
}

#[inline(always)]
fn payload(at: u32, end: u32, packet: &mut Packet) {
    packet.payload_at = at;
    packet.payload_len = end.saturating_sub(at);
}

/// The flow that an ICMP error quotes went the other way: its ports are swapped. A quote that is cut short
/// leaves a plain ICMP packet.
#[inline(always)]
fn quoted4<B: Bytes>(bytes: &B, at: u32, packet: &mut Packet) {
    let at = from_memory(at, MAX_TRANSPORT, packet);
    let Some(ip): Option<[u8; 20]> = bytes.read(at) else { return };
    let header = u32::from(ip[0] & 0x0f) * 4;
    if ip[0] >> 4 == 4 && header >= 20 {
        let later_fragment = be16(ip[6], ip[7]) & 0x1fff != 0;
        let first = Chain { protocol: ip[9], at: at + header, later_fragment };
        let chain = authenticated(bytes, first, MAX_QUOTED, packet);
        quoted(bytes, &chain, packet);
    }
}

#[inline(always)]
fn quoted6<B: Bytes>(bytes: &B, at: u32, packet: &mut Packet) {
    let at = from_memory(at, MAX_TRANSPORT, packet);
    let Some(ip): Option<[u8; 8]> = bytes.read(at) else { return };
    if ip[0] >> 4 == 6 {
        let chain = extensions(bytes, ip[6], at + 40, MAX_QUOTED, packet);
        quoted(bytes, &chain, packet);
    }
}

#[inline(always)]
fn quoted<B: Bytes>(bytes: &B, chain: &Chain, packet: &mut Packet) {
    packet.protocol = chain.protocol;
    if chain.later_fragment || !protocol::has_ports(chain.protocol) {
        return;
    }
    if let Some([a, b, c, d]) = bytes.read(chain.at) {
        ports(u32::from_ne_bytes([c, d, a, b]), packet);
    }
}
