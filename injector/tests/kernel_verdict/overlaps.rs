//! Several partitions on one link: each decides about every packet, and has its own figures.

use injector_common::key::LinkKey;
use injector_common::record::counter;
use injector_core::ledger::DataPlane as _;
use injector_core::plan::SlotIndex;
use injector_lab::needs;

use super::support::packet;
use super::support::programs::{Hook, Programs, link, scoped, steady};
use super::{MS, NOON, THREE, bench, stamps};

#[test]
#[needs(root)]
fn a_drop_counts_for_every_slot_that_decided_it() {
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    let mut over = steady(4);
    over.ends_at = NOON;
    let mut later = steady(5);
    later.starts_at = NOON + 1;
    programs.place(0, &steady(1), &[there]);
    programs.place(1, &scoped(2, &["udp/2"]), &[there]);
    programs.place(2, &scoped(3, &["tcp"]), &[there]);
    programs.place(3, &over, &[there]);
    programs.place(4, &later, &[there]);
    programs.place(5, &steady(6), &[link(&config, "n2", "n1")]);
    programs.word(0x3f, 0);
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"four");
    assert!(programs.drops(Hook::In, &frame));
    let key = |slot, generation| LinkKey { generation, slot, src: there.src.0, dst: there.dst.0 };
    let stamps = programs.stamps();
    assert_eq!(stamps.keys().copied().collect::<Vec<_>>(), [key(0, 1), key(1, 2)]);
    for stamps in stamps.values() {
        assert_eq!((stamps.dropped_packets, stamps.dropped_bytes), (1, frame.len() as u64));
        assert_eq!((stamps.first_drop, stamps.last_drop, stamps.first_packet), (NOON, NOON, 0));
    }
    programs.at(NOON + MS);
    assert!(programs.drops(Hook::Xdp, &frame));
    let first = programs.stamps()[&key(0, 1)];
    assert_eq!((first.dropped_packets, first.first_drop, first.last_drop), (2, NOON, NOON + MS));
    let counters = programs.counters();
    assert_eq!(counters[counter::DROPPED as usize], 2);
    assert_eq!(counters[counter::STAMPS_LOST as usize], 0);
}

#[test]
#[needs(root)]
fn thirty_two_slots_on_one_link() {
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    for slot in 0..32 {
        programs.place(slot, &steady(u32::from(slot) + 1), &[there]);
    }
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    programs.word(u32::MAX, 0);
    assert!(programs.drops(Hook::Out, &frame));
    assert_eq!(programs.stamps().len(), 32, "each of them decided");
    // One by one they heal; the link is cut while any holds it.
    for healed in 0..32 {
        programs.word(u32::MAX << healed, u32::MAX.wrapping_shl(healed) ^ u32::MAX);
        assert!(programs.all_drop(&frame), "{healed} healed");
    }
    programs.word(0, u32::MAX);
    assert!(!programs.all_drop(&frame));
    assert!(programs.stamps().values().all(|stamps| stamps.first_packet == NOON));
}

/// Several steady cuts of one link are counted once for all of them; each partition still has its own figures, also when
/// others come and go.
#[test]
#[needs(root)]
fn what_several_cuts_drop_at_once_counts_for_each() {
    let (config, mut programs) = bench(THREE);
    let there = link(&config, "n1", "n2");
    let other = link(&config, "n1", "n3");
    let frame = packet::udp("10.0.0.1", "10.0.0.2", 1, 2, b"x");
    let size = frame.len() as u64;
    for (slot, generation) in [(0, 1), (1, 2), (2, 3)] {
        programs.place(slot, &steady(generation), &[there, other]);
    }
    // One that is no steady cut is counted by itself.
    programs.place(3, &scoped(4, &["udp/2"]), &[there]);
    let figures = |programs: &Programs, slot: u8, generation| {
        let found = stamps(programs, slot, generation, &[there, other]);
        found
            .into_iter()
            .map(|(link, stamps)| (link, stamps.dropped_packets, stamps.first_drop))
            .collect::<Vec<_>>()
    };
    programs.at(NOON);
    programs.word(0b1011, 0);
    assert!(programs.drops(Hook::In, &frame));
    for (slot, generation) in [(0, 1), (1, 2), (3, 4)] {
        assert_eq!(figures(&programs, slot, generation), [(there, 1, NOON)], "slot {slot}");
    }
    assert_eq!(figures(&programs, 2, 3), []);
    programs.at(NOON + MS);
    programs.word(0b0111, 0);
    assert!(programs.drops(Hook::Xdp, &frame));
    assert!(programs.drops(Hook::Out, &frame));
    assert_eq!(figures(&programs, 0, 1), [(there, 3, NOON)]);
    assert_eq!(figures(&programs, 1, 2), [(there, 3, NOON)]);
    assert_eq!(figures(&programs, 2, 3), [(there, 2, NOON + MS)]);
    assert_eq!(stamps(&programs, 0, 1, &[other]), [], "of links that were not asked for");
    // The second partition makes room for another one: what it shared stays with the others, and is not the new one's.
    programs.word(0b0101, 0);
    programs.kernel.recycle(SlotIndex(1)).unwrap();
    programs.place(1, &steady(9), &[there, other]);
    assert_eq!(figures(&programs, 0, 1), [(there, 3, NOON)]);
    assert_eq!(figures(&programs, 2, 3), [(there, 2, NOON + MS)]);
    assert_eq!(figures(&programs, 1, 9), []);
    programs.at(NOON + 2 * MS);
    programs.word(0b0111, 0);
    assert!(programs.drops(Hook::In, &frame));
    assert_eq!(figures(&programs, 1, 9), [(there, 1, NOON + 2 * MS)]);
    let all = stamps(&programs, 0, 1, &[there]);
    let (_, first) = all.first().unwrap();
    assert_eq!((first.dropped_packets, first.dropped_bytes, first.last_drop), (4, 4 * size, NOON + 2 * MS));
    assert_eq!(programs.counters()[counter::DROPPED as usize], 4, "a packet is dropped once");
    programs.kernel.recycle(SlotIndex(0)).unwrap();
    assert_eq!(figures(&programs, 0, 1), []);
}
