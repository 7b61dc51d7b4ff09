//! Exact addresses to peers: an open-addressed table in an array map.
//!
//! The kernel inlines a lookup in an array, while a lookup in a hash map is four calls: two such lookups, for
//! the two ends of a link, took nearly half of a verdict's time. The loader lays the table out once, with the
//! seed that leaves every address within [`PROBES`] entries of its home.

use crate::key::{Address, halves};

/// The most entries that a lookup visits.
pub const PROBES: u32 = 8;

/// An entry of the table, aligned so that BPF reads the halves of its address in one load each.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The address.
    pub address: Address,
    /// Its peer, 0 where there is none.
    pub peer: u32,
    /// Zero.
    pub pad: u32,
}

impl Entry {
    /// An address and its peer.
    pub const fn new(address: Address, peer: u32) -> Self {
        Self { address, peer, pad: 0 }
    }
}

/// The hash of an address: the index of its home entry, which callers take modulo the table's size, a power
/// of two.
///
/// The halves of the address are multiplied side by side: a verdict waits longest for its two lookups, and
/// one product after the other took 2 ns more.
#[inline(always)]
pub const fn home(address: &Address, seed: u32) -> u32 {
    let [high, low] = halves(address);
    let both =
        (low ^ seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high.wrapping_mul(0xd6e8_feb8_6659_fd93);
    // Each bit reaches those above it by a product, and those below it by the shift; the upper half of the second
    // product depends on all.
    ((both ^ both >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Whether two addresses are one.
#[inline(always)]
const fn is_same(one: &Address, other: &Address) -> bool {
    let ([a, b], [c, d]) = (halves(one), halves(other));
    (a ^ c) | (b ^ d) == 0
}

/// The peer of an address, 0 if it has none; `entry` answers the entry at a place modulo the table's size.
#[inline(always)]
pub fn find<'a>(address: &Address, seed: u32, entry: impl Fn(u32) -> Option<&'a Entry>) -> u32 {
    let home = home(address, seed);
    for step in 0..PROBES {
        let Some(found) = entry(home.wrapping_add(step)) else { return 0 };
        // An entry without a peer ends the search: nothing was ever put beyond it.
        if found.peer == 0 || is_same(&found.address, address) {
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
        if is_same(&found.address, address) {
            return Some(home.wrapping_add(step));
        }
    }
    None
}

const _: () = assert!(size_of::<Entry>() == 24);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, no padding (size asserted above), every bit pattern valid.
    unsafe impl aya::Pod for super::Entry {}
}
