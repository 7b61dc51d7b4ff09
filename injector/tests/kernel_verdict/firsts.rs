//! First packets after a heal: only those are stamped that the partition would have dropped before it.

use injector_common::key::LinkKey;
use injector_common::record::LinkStamps;
use injector_common::slot::Slot;
use injector_core::model::Link;
use injector_lab::needs;

use super::support::frame::fragment;
use super::support::packet;
use super::support::programs::{Hook, Programs, link, scoped, steady};
use super::{MS, NOON, SYN, THREE, bench};

const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;

/// A healed partition on the links between n1 and n2.
struct Healed {
    programs: Programs,
    there: Link,
    back: Link,
    now: u64,
}

impl Healed {
    /// `is_over` is a heal by the deadline, before the daemon notices it.
    fn new(text: &str, slot: &Slot, is_over: bool) -> Self {
        let (config, mut programs) = bench(text);
        let (there, back) = (link(&config, "n1", "n2"), link(&config, "n2", "n1"));
        let slot = Slot { ends_at: if is_over { NOON } else { u64::MAX }, ..*slot };
        programs.place(0, &slot, &[there, back]);
        programs.word(u32::from(is_over), u32::from(!is_over));
        Self { programs, there, back, now: NOON }
    }

    /// Lets a frame pass, a millisecond after the one before.
    fn pass(&mut self, frame: &[u8]) -> u64 {
        self.now += MS;
        self.programs.at(self.now);
        assert!(!self.programs.drops(Hook::In, frame));
        self.now
    }

    /// The first packet, SYN, SYN-ACK, data and exchange of a link.
    fn firsts(&self, link: Link) -> [u64; 5] {
        let key = LinkKey { generation: 1, slot: 0, src: link.src.0, dst: link.dst.0 };
        let stamps = self.programs.stamps().get(&key).copied().unwrap_or_default();
        let LinkStamps { first_packet, first_syn, first_synack, first_data, first_exchange, .. } = stamps;
        [first_packet, first_syn, first_synack, first_data, first_exchange]
    }

    /// A handshake and an exchange on a port of n2, to which n1 connects; when each packet passed.
    fn chat(&mut self, port: u16) -> [u64; 4] {
        let request =
            |flags, payload: &[u8]| packet::tcp("10.0.0.1", "10.0.0.2", 40_000, port, flags, payload);
        let answer =
            |flags, payload: &[u8]| packet::tcp("10.0.0.2", "10.0.0.1", port, 40_000, flags, payload);
        [request(SYN, b""), answer(SYN_ACK, b""), request(ACK, b"ask"), answer(ACK, b"tell")]
            .map(|frame| self.pass(&frame))
    }

    /// Nothing was stamped.
    fn assert_none(&self, what: &str) {
        assert_eq!([self.firsts(self.there), self.firsts(self.back)], [[0; 5]; 2], "{what}");
    }

    /// The stamps are those of this handshake and this exchange.
    fn assert_chat(&self, [syn, synack, ask, tell]: [u64; 4]) {
        assert_eq!(self.firsts(self.there), [syn, syn, 0, ask, 0]);
        assert_eq!(self.firsts(self.back), [synack, 0, synack, tell, tell]);
    }
}

#[test]
#[needs(root, every_kernel)]
fn traffic_outside_the_scopes_stamps_nothing() {
    for is_over in [false, true] {
        let mut healed = Healed::new(THREE, &scoped(1, &["udp/1", "tcp/9000"]), is_over);
        healed.chat(9100);
        healed.pass(&packet::udp("10.0.0.1", "10.0.0.2", 7, 9000, b"x"));
        healed.pass(&packet::udp("10.0.0.2", "10.0.0.1", 9000, 7, b"x"));
        healed.assert_none("none of it was cut");
        let chat = healed.chat(9000);
        healed.chat(9100);
        healed.assert_chat(chat);
    }
}

#[test]
#[needs(root, every_kernel)]
fn protected_traffic_stamps_nothing() {
    let text = format!("{THREE}\nprotect: [ tcp/9100, \"fd00::2\" ]\n");
    for is_over in [false, true] {
        let mut healed = Healed::new(&text, &steady(1), is_over);
        healed.chat(9100);
        healed.pass(&packet::udp("fd00::1", "fd00::2", 1, 2, b"x"));
        healed.pass(&packet::udp("fd00::2", "fd00::1", 2, 1, b"x"));
        healed.assert_none("none of it was cut");
        let chat = healed.chat(9000);
        healed.assert_chat(chat);
    }
}

/// What passes because of `protect:` alone while another partition still cuts the link stamps nothing for the healed one.
#[test]
#[needs(root)]
fn protected_traffic_stamps_nothing_while_another_partition_cuts() {
    let mut healed = Healed::new(&format!("{THREE}\nprotect: [ tcp/9100 ]\n"), &steady(1), false);
    healed.programs.place(1, &steady(2), &[healed.there, healed.back]);
    healed.programs.word(0b10, 0b01);
    healed.chat(9100);
    healed.assert_none("it was never cut");
}

#[test]
#[needs(root)]
fn a_cut_of_one_direction_stamps_its_own_scope_alone() {
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    programs.place(0, &scoped(1, &["udp/7000"]), &[there]);
    programs.word(0, 1);
    let mut healed = Healed { programs, there, back: link(&config, "n2", "n1"), now: NOON };
    healed.pass(&packet::udp("10.0.0.1", "10.0.0.2", 1, 7001, b"x"));
    healed.pass(&packet::udp("10.0.0.2", "10.0.0.1", 7000, 1, b"x"));
    healed.assert_none("other ports, and the direction that was not cut");
    let at = healed.pass(&packet::udp("10.0.0.1", "10.0.0.2", 1, 7000, b"x"));
    assert_eq!(healed.firsts(healed.there), [at, 0, 0, at, 0]);
    assert_eq!(healed.firsts(healed.back), [0; 5]);
}

/// A scope with a side cuts one direction of a conversation. The SYN-ACK and the exchange show that it carries again,
/// whichever way they go; all else counts only in the direction that was cut.
#[test]
#[needs(root)]
fn answers_show_that_a_scope_of_one_side_carries_again() {
    let mut healed = Healed::new(THREE, &scoped(1, &["tcp/9000:dst"]), false);
    healed.chat(9100);
    healed.assert_none("another port");
    let [syn, synack, ask, tell] = healed.chat(9000);
    assert_eq!(healed.firsts(healed.there), [syn, syn, 0, ask, 0]);
    assert_eq!(healed.firsts(healed.back), [0, 0, synack, 0, tell]);
}

/// A cut that drops a share of the packets, or that flaps, is of all packets in its scope.
#[test]
#[needs(root)]
fn a_share_and_a_flap_stamp_all_in_scope() {
    let lossy = Slot { loss: 1, full: 0, ..scoped(1, &["tcp/9000"]) };
    let flapping = Slot { flap_period: 1000 * MS, flap_on: 1, ..scoped(1, &["tcp/9000"]) };
    for slot in [lossy, flapping] {
        let mut healed = Healed::new(THREE, &slot, false);
        healed.chat(9100);
        healed.assert_none("another port");
        let chat = healed.chat(9000);
        healed.assert_chat(chat);
    }
}

/// Several partitions of one link heal: each stamps what it would have dropped.
#[test]
#[needs(root)]
fn each_of_several_healed_partitions_stamps_its_own_scope() {
    let mut healed = Healed::new(THREE, &scoped(1, &["tcp/9000"]), false);
    healed.programs.place(1, &steady(2), &[healed.there, healed.back]);
    healed.programs.word(0, 0b11);
    let early = healed.chat(9100);
    healed.assert_none("only the other partition cut it");
    healed.chat(9100);
    let chat = healed.chat(9000);
    healed.assert_chat(chat);
    let key = LinkKey { generation: 2, slot: 1, src: healed.there.src.0, dst: healed.there.dst.0 };
    assert_eq!(healed.programs.stamps()[&key].first_packet, early[0]);
}

/// Clusters talk by other protocols too, and what they send is payload. Of ICMP, of the check's frames and of a packet that
/// has nothing behind its headers, nothing is.
#[test]
#[needs(root, every_kernel)]
fn what_other_protocols_carry_is_payload() {
    const ESP: u8 = 50;
    const SCTP: u8 = 132;
    const UDP_LITE: u8 = 136;
    let with_ports = |header: usize, data: &[u8]| [&vec![9; header], data].concat();
    let behind_options = |next: u8, data: &[u8]| [&[next, 0, 1, 4, 0, 0, 0, 0][..], data].concat();
    for (protocol, payload) in [
        (ESP, vec![1]),
        (47, vec![0; 24]),
        (UDP_LITE, with_ports(8, b"x")),
        (SCTP, with_ports(12, b"x")),
        (253, b"xxxx".to_vec()),
        (60, behind_options(ESP, b"x")),
        (60, behind_options(SCTP, &with_ports(12, b"x"))),
    ] {
        let ends = if protocol == 60 { ["fd00::1", "fd00::2"] } else { ["10.0.0.1", "10.0.0.2"] };
        let mut healed = Healed::new(THREE, &steady(1), false);
        let ask = healed.pass(&packet::ip(ends[0], ends[1], protocol, &payload));
        assert_eq!(healed.firsts(healed.there), [ask, 0, 0, ask, 0], "protocol {protocol}");
        let tell = healed.pass(&packet::ip(ends[1], ends[0], protocol, &payload));
        assert_eq!(healed.firsts(healed.back), [tell, 0, 0, tell, tell], "protocol {protocol}");
    }
    let mut healed = Healed::new(THREE, &steady(1), false);
    let mut seen = [0; 2];
    for (protocol, payload) in [
        (1, vec![8; 64]),
        (ESP, Vec::new()),
        (UDP_LITE, with_ports(8, b"")),
        (SCTP, with_ports(12, b"")),
        (51, vec![9]),
    ] {
        for (at, [from, to]) in [["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.1"]].into_iter().enumerate() {
            let passed = healed.pass(&packet::ip(from, to, protocol, &payload));
            seen[at] = if seen[at] == 0 { passed } else { seen[at] };
        }
    }
    healed.pass(&fragment(packet::ip("10.0.0.1", "10.0.0.2", ESP, &[1; 64]), 185, false));
    assert_eq!(healed.firsts(healed.there), [seen[0], 0, 0, 0, 0]);
    assert_eq!(healed.firsts(healed.back), [seen[1], 0, 0, 0, 0]);
    let mut healed = Healed::new(THREE, &steady(1), false);
    healed.pass(&packet::ip("10.0.0.1", "10.0.0.2", 253, b"injcabcdefgh"));
    healed.assert_none("a frame of the check");
}
