//! Lays out the table of exact addresses.

use std::collections::BTreeMap;

use injector_common::exact::{Entry, PROBES, home};
use injector_common::key::Address;

/// The table as the programs have it.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressTable {
    /// The seed of [`home`].
    pub seed: u32,
    /// A power of two of them.
    pub entries: Vec<Entry>,
}

impl AddressTable {
    /// Makes the table of the peers' addresses. The first seed that works is taken; where many do not, the
    /// table grows.
    pub fn of(peers: &BTreeMap<Address, u32>) -> Self {
        let size = (peers.len() * 4).next_power_of_two();
        (0..)
            .find_map(|seed| Some(Self { seed, entries: laid_out(peers, size << (seed / 8), seed)? }))
            .expect("addresses differ, and so do their homes under some seed")
    }

    /// Places are taken modulo the size.
    pub fn mask(&self) -> u32 {
        self.entries.len() as u32 - 1
    }
}

fn laid_out(peers: &BTreeMap<Address, u32>, size: usize, seed: u32) -> Option<Vec<Entry>> {
    let mut entries = vec![Entry::default(); size];
    for (address, peer) in peers {
        let home = home(address, seed) as usize;
        let mut places = (home..home + PROBES as usize).map(|place| place % size);
        let free = places.find(|place| entries[*place].peer == 0)?;
        entries[free] = Entry::new(*address, *peer);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use injector_common::exact::find;
    use injector_common::key::{mapped, whole};

    use super::*;

    fn v4(number: u32) -> Address {
        mapped(u32::from_ne_bytes(Ipv4Addr::from_bits(number).octets()))
    }

    fn v6(number: u128) -> Address {
        whole(Ipv6Addr::from_bits(number).octets())
    }

    fn peer(table: &AddressTable, address: &Address) -> u32 {
        find(address, table.seed, |place| table.entries.get((place & table.mask()) as usize))
    }

    #[test]
    fn every_address_is_found_and_no_other() {
        // Alike in all but a few bits, wherever those are.
        for shift in [0, 8, 16, 32, 64, 112] {
            let known = (1..=1500_u32).flat_map(|peer| {
                let six = v6(0xfd << 120 | u128::from(peer) << shift);
                [(v4(10 << 24 | peer), peer), (six, peer)]
            });
            let known: BTreeMap<_, _> = known.collect();
            let table = AddressTable::of(&known);
            assert!(table.entries.len() <= known.len() * 64, "{} entries", table.entries.len());
            for (address, expected) in &known {
                assert_eq!(peer(&table, address), *expected);
            }
            for other in 1501..10_000 {
                assert_eq!(peer(&table, &v4(10 << 24 | other)), 0);
                assert_eq!(peer(&table, &v4(11 << 24 | other)), 0);
            }
        }
    }

    #[test]
    fn an_empty_table_knows_nobody() {
        let table = AddressTable::of(&BTreeMap::new());
        assert_eq!((peer(&table, &v4(0)), peer(&table, &v6(0))), (0, 0));
    }
}
