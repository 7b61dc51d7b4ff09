//! Exact addresses to peers: an open-addressed table in an array map.
//!
//! The kernel inlines a look-up in an array, while one in a hash map is four calls: two such look-ups, one for
//! either end of a link, took nearly half of a verdict's time. The loader lays the table out once, with the seed that leaves
//! every address within [`PROBES`] entries of its home.

use crate::key::Address;

/// How many entries a look-up visits at most.
pub const PROBES: u32 = 8;

/// One entry of the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The address.
    pub address: Address,
    /// Its peer, 0 where there is none.
    pub peer: u32,
}

/// Where an address is at home; the table takes this modulo its size, a power of two.
#[inline(always)]
pub const fn home(address: &Address, seed: u32) -> u32 {
    let high = (address[0] as u64) << 32 | address[1] as u64;
    let low = (address[2] as u64) << 32 | address[3] as u64;
    mixed(mixed(mixed(high ^ seed as u64) ^ low)) as u32
}

/// Each bit reaches the half above it by the product, and the half below by the shift.
#[inline(always)]
const fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^ bits >> 32
}

/// The peer of an address, 0 if it has none; `entry` answers the entry at a place modulo the table's size.
#[inline(always)]
pub fn find<'a>(address: &Address, seed: u32, entry: impl Fn(u32) -> Option<&'a Entry>) -> u32 {
    let home = home(address, seed);
    for step in 0..PROBES {
        let Some(found) = entry(home.wrapping_add(step)) else { return 0 };
        // An entry without a peer ends the search: nothing was ever put beyond it.
        if found.peer == 0 || found.address == *address {
            return found.peer;
        }
    }
    0
}

/// The place of an address that has a peer, modulo the table's size.
#[inline(always)]
pub fn place<'a>(address: &Address, seed: u32, entry: impl Fn(u32) -> Option<&'a Entry>) -> Option<u32> {
    let home = home(address, seed);
    for step in 0..PROBES {
        let found = entry(home.wrapping_add(step))?;
        if found.peer == 0 {
            return None;
        }
        if found.address == *address {
            return Some(home.wrapping_add(step));
        }
    }
    None
}

const _: () = assert!(size_of::<Entry>() == 20);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (size asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::Entry {}
}
