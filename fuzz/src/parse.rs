//! What holds of the parser for any bytes: shared by the fuzz target and by a plain test of `injector-common`.

use std::collections::BTreeSet;

use injector_common::packet::{CHECK_ETHERTYPE, Packet, discovery, flag, parse, protocol};
use injector_common::wire::http2;

/// The longest frame that the programs ever meet, with room for a segmentation super-packet.
const LONGEST: usize = 1 << 17;

/// Checks one frame.
///
/// # Panics
/// If something does not hold.
pub fn check(frame: &[u8]) {
    let frame = &frame[..frame.len().min(LONGEST)];
    // Whatever was in it before: the parser overwrites all of it.
    let mut packet = Packet { flags: 0xff, protocol: 0xff, payload_len: u32::MAX, ..Packet::default() };
    let parsed = parse(&frame, &mut packet);
    let mut again = Packet::default();
    assert_eq!(parse(&frame, &mut again), parsed);
    // Of packets that announce nothing, this field says nothing.
    let is_announcement = |packet: &Packet| packet.discovery == discovery::OVERRIDE;
    if !is_announcement(&packet) {
        (packet.announced, again.announced) = Default::default();
    }
    assert_eq!(again, packet, "an earlier packet shows through");
    assert_eq!(parsed.is_err(), packet.flags & flag::NO_ADDRESS != 0);
    if parsed.is_err() {
        nameless(&packet, frame);
        return;
    }
    sane(&packet, frame.len());
    truncated(frame, &packet);
    responses(frame, packet.payload_at, packet.payload_len);
}

/// A frame without addresses has its MACs, and is to a group or not by them.
fn nameless(packet: &Packet, frame: &[u8]) {
    let macs = frame.get(..12).unwrap_or(&[0; 12]);
    assert_eq!((&packet.dst_mac()[..], &packet.src_mac()[..]), (&macs[..6], &macs[6..]));
    let group = if macs[0] & 1 == 0 { 0 } else { flag::GROUP };
    // A check's frame that is cut short before its tags end is any frame.
    let is_check = packet.flags & flag::CHECK != 0;
    assert!(!is_check || frame.windows(2).any(|kind| kind == CHECK_ETHERTYPE.to_be_bytes()));
    assert_eq!(packet.flags & !flag::CHECK, flag::NO_ADDRESS | group);
    let rest = (packet.sport, packet.dport, packet.protocol, packet.tcp_flags, packet.discovery);
    assert_eq!(rest, (0, 0, 0, 0, discovery::NONE));
    assert_eq!((packet.payload_at, packet.payload_len), (0, 0));
}

fn sane(packet: &Packet, len: usize) {
    let has = |bits: u8| packet.flags & bits != 0;
    assert!(len >= 34, "no header of {len} bytes has addresses");
    assert_eq!(has(flag::NEIGHBOUR), packet.discovery != discovery::NONE);
    let asks = matches!(packet.discovery, discovery::REQUEST | discovery::SOLICITATION);
    assert_eq!(has(flag::ASKS), asks);
    assert!(!(has(flag::LATER_FRAGMENT) && has(flag::PORTS)), "a later fragment has no ports");
    assert!(!(has(flag::ICMP) && has(flag::NEIGHBOUR)), "neighbour discovery is not ICMP to a scope");
    if !has(flag::PORTS) {
        assert_eq!((packet.sport, packet.dport, packet.tcp_flags), (0, 0, 0));
    }
    let is_without_payload = has(flag::ICMP) || has(flag::NEIGHBOUR) || has(flag::LATER_FRAGMENT);
    let is_cut_short = protocol::has_ports(packet.protocol) && !has(flag::PORTS);
    if is_without_payload || is_cut_short || protocol::is_extension(packet.protocol) {
        assert_eq!((packet.payload_at, packet.payload_len), (0, 0));
    }
    if packet.tcp_flags != 0 {
        assert_eq!(packet.protocol, protocol::TCP);
    }
    // Two tags, a header, eight extensions of at most 2 KB each, a transport header: no place is beyond.
    assert!(packet.payload_at < 14 + 8 + 60 + 8 * 2048 + 60, "payload at {}", packet.payload_at);
    assert!(packet.payload_len as usize <= LONGEST);
}

/// A shorter copy of a frame is the same packet as far as it goes, or none.
fn truncated(frame: &[u8], whole: &Packet) {
    let step = frame.len() / 64 + 1;
    for end in (0..frame.len()).step_by(step) {
        let mut part = Packet::default();
        if parse(&&frame[..end], &mut part).is_err() {
            continue;
        }
        assert_eq!((part.src, part.macs), (whole.src, whole.macs));
        // Whom a solicitation asks for may be cut off.
        if whole.flags & flag::ASKS == part.flags & flag::ASKS {
            assert_eq!(part.dst, whole.dst);
        }
        if part.flags & flag::PORTS != 0 {
            assert_eq!((part.sport, part.dport, part.protocol), (whole.sport, whole.dport, whole.protocol));
        }
        assert!(part.tcp_flags == 0 || part.tcp_flags == whole.tcp_flags);
        // Once the ports are there, nothing but the payload is missing.
        if part.payload_at != 0 {
            assert_eq!(part.payload_at, whole.payload_at);
        }
    }
}

struct Opened(BTreeSet<u32>);

impl http2::Streams for Opened {
    fn open(&mut self, stream: u32) {
        assert_eq!(stream & 0x8000_0001, 1);
        self.0.insert(stream);
    }
    fn is_open(&mut self, stream: u32) -> bool {
        self.0.contains(&stream)
    }
}

/// Frames go forward, and a success has both of its parts in what was read.
fn responses(frame: &[u8], at: u32, len: u32) {
    let mut cursor = http2::Cursor::new(at);
    let mut streams = Opened(BTreeSet::new());
    let success = http2::success(&frame, &mut cursor, at + len, &mut streams);
    assert!(!success || !streams.0.is_empty());
    assert!(cursor.get() >= at);
    assert!(cursor.get() <= frame.len() as u32 + (1 << 24) + 9, "a frame begins within the packet");
}
