//! The types that the injector and its eBPF programs share: map keys and values, and the packet parser.
//!
//! Everything here is `no_std`, has a fixed layout whose size is asserted, and is versioned as a whole by
//! [`ABI_VERSION`], which the loader compares with the object's before it attaches anything.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "a BPF function takes five arguments and returns one word: what is not inlined may not compile"
)]

pub mod exact;
pub mod key;
pub mod packet;
pub mod record;
pub mod slot;
pub mod wire;

/// The version of every layout in this crate. Raise it with each change of a layout or of a map's meaning.
pub const ABI_VERSION: u32 = 17;

/// How many partitions can be live or watched at once: one bit each in the halves of the commit word.
pub const SLOTS: u32 = 32;

/// The global of the object that carries [`ABI_VERSION`].
pub const ABI_GLOBAL: &str = "ABI";

/// Features that a config needs; everything else is compiled out of the program by the verifier.
pub mod feature {
    /// Exact addresses.
    pub const EXACT: u32 = 1;
    /// Prefixes.
    pub const PREFIX: u32 = 1 << 1;
    /// MAC addresses that the config names.
    pub const MAC: u32 = 1 << 2;
    /// Protected addresses or ports.
    pub const PROTECT: u32 = 1 << 3;
    /// Responses of endpoints are matched on the wire.
    pub const WIRE: u32 = 1 << 4;
    /// Clock and random numbers come from a map: for tests of the verdict alone.
    pub const TEST: u32 = 1 << 5;
}

/// The commit word: live slots in the low half, watched slots in the high half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// Makes a word of its halves.
    pub const fn new(live: u32, watched: u32) -> Self {
        Self((watched as u64) << 32 | live as u64)
    }

    /// The slots that cut.
    #[inline(always)]
    pub const fn live(self) -> u32 {
        self.0 as u32
    }

    /// The slots whose links are watched after their heal.
    #[inline(always)]
    pub const fn watched(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
