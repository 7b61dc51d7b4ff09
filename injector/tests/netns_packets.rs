//! Packets that `BPF_PROG_TEST_RUN` can't make, through the real daemon's hooks on the wire: super-packets, tags
//! kept beside the packet, packets in fragments of memory, runts and garbage.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
#[path = "support/packet.rs"]
mod packet;

use std::time::Duration;

use injector_common::packet::{Packet, parse};
use injector_core::api::{PartitionRequest, VerdictOptions};
use injector_core::model::{Neighbour, Traffic};
use injector_lab::needs;
use live::daemon::{Daemon, links};
use live::tap::{HookPoint, JUMBO, Sent, Wire};
use rand::{Rng as _, RngExt as _, SeedableRng as _};

const LONG: Duration = Duration::from_mins(2);
const PUSH: u8 = 0x18;
/// Their addresses are nobody's next hop in the namespaces of other tests, which the daemon all sees.
const PEERS: &str = r#"
peers:
  n1: { addresses: [10.77.0.1, "fd77::1"] }
  n2: { addresses: [10.77.0.2, "fd77::2"] }
  n3: { addresses: [10.77.0.3, "fd77::3"] }
"#;
/// The payload of a super-packet's segments, and how many it is cut into; the last one is not full.
const SIZE: u16 = 1400;
const SEGMENTS: usize = 6;
/// The cut link's ends, then a neighbour that stays untouched.
const FAMILIES: [[&str; 3]; 2] = [["10.77.0.1", "10.77.0.2", "10.77.0.3"], ["fd77::1", "fd77::2", "fd77::3"]];

/// A wire with the daemon's programs at a point.
fn guarded(point: HookPoint) -> (Wire, Daemon) {
    let wire = Wire::new(point);
    let daemon = Daemon::start(&format!("{PEERS}{}", wire.interfaces()));
    let attachment = daemon.status().attachments.remove(0);
    assert_eq!(attachment.hook.as_deref(), Some(point.hook().as_str()), "{}", attachment.why);
    (wire, daemon)
}

/// From n1 to n2, in some scope.
fn cut(scopes: &[&str]) -> PartitionRequest {
    let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
    // The wire leads to nobody: nothing shows where the peers are.
    PartitionRequest {
        traffic: Traffic { scopes, ..Traffic::default() },
        verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
        ..links(&[("n1", "n2")], LONG)
    }
}

/// What the record counts: packets and bytes.
fn counted(daemon: &Daemon, name: &str) -> (u64, u64) {
    let record = daemon.record_now(name);
    assert_eq!(record.links.len(), 1, "{record:#?}");
    (record.links[0].dropped_packets.unwrap(), record.links[0].dropped_bytes.unwrap())
}

/// How many group frames, ARP and neighbour discovery were dropped.
fn group_counted(daemon: &Daemon, name: &str) -> u64 {
    daemon.record_now(name).links[0].group_packets.unwrap()
}

fn bytes(frames: &[Sent]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.bytes.clone()).collect()
}

/// Asserts that frames are the same in the same order.
fn assert_carried(carried: &[Vec<u8>], expected: &[Vec<u8>], when: &str) {
    let differs = carried.iter().zip(expected).position(|(one, other)| one != other);
    let lengths = (carried.len(), expected.len());
    if differs.is_none() && lengths.0 == lengths.1 {
        return;
    }
    let at = differs.unwrap_or(lengths.0.min(lengths.1));
    let show = |frames: &[Vec<u8>]| match frames.get(at) {
        None => "nothing".to_owned(),
        Some(frame) => format!("{} bytes {:02x?}", frame.len(), &frame[..frame.len().min(80)]),
    };
    let (came, other) = (show(carried), show(expected));
    panic!("{when}: {} frames came, not {}; frame {at} is {came}, not {other}", lengths.0, lengths.1);
}

/// A payload in which no place looks like another.
fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Control → cut → heal: all frames pass, then only those beside the link, then all again.
///
/// Answers what the record counts.
fn cut_and_heal(point: HookPoint, scopes: &[&str], inside: &[Sent], beside: &[Sent]) -> (u64, u64) {
    let (mut wire, daemon) = guarded(point);
    let all: Vec<Sent> = inside.iter().chain(beside).cloned().collect();
    assert_carried(&wire.carry(&all), &bytes(&all), &format!("{point:?}: the positive control"));
    daemon.apply("p", &cut(scopes));
    assert_carried(&wire.carry(&all), &bytes(beside), &format!("{point:?}: the cut"));
    daemon.heal("p");
    assert_carried(&wire.carry(&all), &bytes(&all), &format!("{point:?}: the heal"));
    counted(&daemon, "p")
}

#[test]
#[needs(root)]
fn super_packets_count_their_segments() {
    let data = payload(usize::from(SIZE) * SEGMENTS - 100);
    for point in HookPoint::ALL {
        let (mut wire, daemon) = guarded(point);
        let to_port = |port| {
            FAMILIES
                .map(|[n1, n2, _]| Sent::super_packet(packet::tcp(n1, n2, 40000, port, PUSH, &data), SIZE))
        };
        let (inside, beside) = (to_port(7000), to_port(7001));
        // The far end takes no super-packets: the kernel cuts them up behind the hook.
        let control = wire.carry(&[inside.clone(), beside.clone()].concat());
        assert_eq!(control.len(), 4 * SEGMENTS, "{point:?}: the positive control");
        daemon.apply("p", &cut(&["tcp/7000:dst"]));
        let left = wire.carry(&[inside.clone(), beside.clone()].concat());
        assert_carried(&left, &control[2 * SEGMENTS..], &format!("{point:?}: another port passes"));
        daemon.heal("p");
        let healed = wire.carry(&[inside.clone(), beside].concat());
        assert_carried(&healed, &control, &format!("{point:?}: the heal"));
        // XDP does not know what will be cut up.
        let xdp = matches!(point, HookPoint::NativeXdp | HookPoint::GenericXdp);
        let packets = 2 * if xdp { 1 } else { SEGMENTS as u64 };
        let length: usize = inside.iter().map(|frame| frame.bytes.len()).sum();
        assert_eq!(counted(&daemon, "p"), (packets, length as u64), "{point:?}");
    }
}

/// Puts tags in front of a frame's type, the outermost first.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Sent {
    let tags = tags.iter().flat_map(|(protocol, control)| [protocol.to_be_bytes(), control.to_be_bytes()]);
    [&frame[..12], &tags.flatten().collect::<Vec<_>>(), &frame[12..]].concat().into()
}

#[test]
#[needs(root)]
fn tags_beside_the_packet_hide_nothing() {
    let tags: [&[(u16, u16)]; 4] =
        [&[(0x8100, 7)], &[(0x8100, 0x6000)], &[(0x88a8, 7), (0x8100, 8)], &[(0x8100, 7), (0x8100, 8)]];
    let (mut inside, mut beside) = (Vec::new(), Vec::new());
    for [n1, n2, n3] in FAMILIES {
        for tags in tags {
            inside.push(tagged(&packet::udp(n1, n2, 1, 7000, b"tagged"), tags));
            beside.push(tagged(&packet::udp(n1, n2, 1, 7001, b"tagged"), tags));
            beside.push(tagged(&packet::udp(n3, n2, 1, 7000, b"tagged"), tags));
        }
    }
    for point in HookPoint::ALL {
        let (packets, _) = cut_and_heal(point, &["udp/7000:dst"], &inside, &beside);
        assert_eq!(packets, inside.len() as u64, "{point:?}");
    }
}

#[test]
#[needs(root)]
fn packets_in_fragments_of_memory_are_read_as_others() {
    let data = payload(JUMBO - 100);
    let (mut inside, mut beside) = (Vec::new(), Vec::new());
    for [n1, n2, n3] in FAMILIES {
        // The first fragment begins behind the Ethernet header, within the IP header, within and behind UDP's.
        for linear in [14, 15, 30, 36, 56, 200] {
            inside.push(Sent::paged(packet::udp(n1, n2, 1, 7000, &data), linear));
            beside.push(Sent::paged(packet::udp(n1, n2, 1, 7001, &data), linear));
            beside.push(Sent::paged(packet::udp(n3, n2, 1, 7000, &data), linear));
        }
    }
    let length: usize = inside.iter().map(|frame| frame.bytes.len()).sum();
    for point in HookPoint::ALL {
        let counted = cut_and_heal(point, &["udp/7000:dst"], &inside, &beside);
        assert_eq!(counted, (inside.len() as u64, length as u64), "{point:?}");
    }
}

#[test]
#[needs(root)]
fn runts_and_garbage_pass_and_are_counted() {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut frames = Vec::new();
    for whole in
        [packet::udp("10.77.0.1", "10.77.0.2", 1, 2, b"x"), packet::udp("fd77::1", "fd77::2", 1, 2, b"x")]
    {
        let header = if whole[12] == 0x08 { 34 } else { 54 };
        frames.extend((14..header).map(|length| whole[..length].to_vec()));
        // Another version than the type says, and a header that is too short.
        for first in [0x00, 0x40, 0x44, 0x50, 0xf5] {
            let mut wrong = whole.clone();
            wrong[14] = first;
            frames.push(wrong);
        }
    }
    frames.extend((0..28).map(|length| packet::ethernet(0x0806, &vec![1; length])));
    for _ in 0..200 {
        let mut garbage = vec![0; random.random_range(0..1400)];
        random.fill_bytes(&mut garbage);
        // Not a tag, which the kernel takes off, and not the marker.
        let ethertype = match random.random_range(0..4) {
            0 => 0x0800,
            1 => 0x86dd,
            2 => random.random_range(0..0x600),
            _ => random.random_range(0x8900..0xffff),
        };
        frames.push(packet::ethernet(ethertype, &garbage));
    }
    let frames: Vec<Sent> = frames.into_iter().map(Sent::from).collect();
    let unparsed =
        frames.iter().filter(|frame| parse(&frame.bytes.as_slice(), &mut Packet::default()).is_err());
    // The marker is none of anybody's either.
    let expected = unparsed.count() as u64 + 1;
    assert!(expected > 200, "{expected}");
    for point in HookPoint::ALL {
        let (mut wire, daemon) = guarded(point);
        daemon.apply("p", &cut(&[]));
        let data = packet::udp("10.77.0.1", "10.77.0.2", 1, 2, b"x").into();
        assert_carried(&wire.carry(&[data]), &[], &format!("{point:?}: the cut"));
        let before = daemon.status().counters;
        let carried = wire.carry(&frames);
        let after = daemon.status().counters;
        assert_carried(&carried, &bytes(&frames), &format!("{point:?}"));
        assert_eq!(after["unparsed"] - before["unparsed"], expected, "{point:?}");
        assert_eq!(after["dropped"], before["dropped"], "{point:?}");
    }
}

/// ARP between two addresses: a question to all, or the answer.
fn arp(operation: u8, src: &str, dst: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1];
    arp.extend(address(src));
    arp.extend([0; 6]);
    arp.extend(address(dst));
    let mut frame = packet::ethernet(0x0806, &arp);
    if operation == 1 {
        frame[..6].fill(0xff);
    }
    frame
}

/// Neighbour discovery between two addresses: a question to the target's group, or the answer.
fn discovery(kind: u8, src: &str, dst: &str) -> Vec<u8> {
    let target = if kind == 135 { dst } else { src }.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target[..]].concat();
    if kind != 135 {
        return packet::ip(src, dst, 58, &message);
    }
    let group = format!("ff02::1:ff{:02x}:{:02x}{:02x}", target[13], target[14], target[15]);
    let mut frame = packet::ip(src, &group, 58, &message);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, target[13], target[14], target[15]]);
    frame
}

#[test]
#[needs(root)]
fn neighbours_are_found_through_a_cut_that_keeps_them() {
    let [[v4_1, v4_2, v4_3], [v6_1, v6_2, v6_3]] = FAMILIES;
    let asked = |v4: &str, v6: &str| {
        [arp(1, v4, v4_2), arp(2, v4, v4_2), discovery(135, v6, v6_2), discovery(136, v6, v6_2)]
            .map(Sent::from)
    };
    let (inside, beside) = (asked(v4_1, v6_1), asked(v4_3, v6_3));
    let all = [inside, beside.clone()].concat();
    // (On its own way, a macvlan hands groups on late: the order would be lost.)
    for point in [HookPoint::Ingress, HookPoint::Egress, HookPoint::NativeXdp] {
        let (mut wire, daemon) = guarded(point);
        daemon.apply(
            "keeping",
            &PartitionRequest {
                traffic: Traffic { neighbour: Neighbour::Keep, ..Traffic::default() },
                ..cut(&[])
            },
        );
        let data: Sent = packet::udp(v4_1, v4_2, 1, 2, b"x").into();
        let kept = wire.carry(&[all.clone(), vec![data]].concat());
        assert_carried(&kept, &bytes(&all), &format!("{point:?}: kept"));
        daemon.heal("keeping");
        // They are dropped by pair: in a one-way cut they pass, whatever is asked for.
        daemon.apply(
            "dropping",
            &PartitionRequest {
                traffic: Traffic { neighbour: Neighbour::Drop, ..Traffic::default() },
                verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
                ..links(&[("n1", "n2"), ("n2", "n1")], LONG)
            },
        );
        assert_carried(&wire.carry(&all), &bytes(&beside), &format!("{point:?}: dropped"));
        assert_eq!(group_counted(&daemon, "dropping"), 4, "{point:?}");
        daemon.heal("dropping");
        assert_carried(&wire.carry(&all), &bytes(&all), &format!("{point:?}: healed"));
    }
}
