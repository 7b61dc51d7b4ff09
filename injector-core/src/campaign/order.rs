//! The order of trials: the cell that a trial belongs to, and its draws, are functions of (seed, trial)
//! alone, so that a resumed campaign continues with the trials that it would have made.

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::model::seed;

/// The purpose of a draw; each purpose has a generator of its own.
#[derive(Clone, Copy)]
enum Purpose {
    Order = 1,
    Partition = 2,
}

fn generator(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    // 2^56 trials are out of reach of any campaign.
    generator.set_stream((purpose as u64) << 56 | index);
    generator
}

/// The cell of a trial. Every block of `cells` trials holds each cell once, in a drawn order, so that what drifts
/// with time hits all cells alike.
pub fn cell(seed: u64, trial: u64, cells: usize) -> usize {
    let size = cells as u64;
    let (block, at) = (trial / size, trial % size);
    let mut order: Vec<usize> = (0..cells).collect();
    order.shuffle(&mut generator(seed, Purpose::Order, block));
    order[at as usize]
}

/// The seed of a trial's partition, the same for each attempt.
pub fn partition_seed(seed: u64, trial: u64) -> u64 {
    seed::drawn(generator(seed, Purpose::Partition, trial).next_u64())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::seed::MAX_SEED;

    #[test]
    fn every_block_holds_each_cell_once_in_changing_order() {
        let mut orders = BTreeSet::new();
        for block in 0..40 {
            let order: Vec<usize> = (0..4).map(|at| cell(7, block * 4 + at, 4)).collect();
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..4).collect(), "{order:?}");
            orders.insert(order);
        }
        // 40 blocks show about 20 of 24 orders.
        assert!(orders.len() > 10, "{} orders", orders.len());
    }

    /// A campaign that is resumed by the next release continues with the same draws.
    #[test]
    fn draws_are_pinned() {
        let seeds = |seed| [0, 1, 2, 1_000_000].map(|trial| partition_seed(seed, trial));
        assert_eq!([0, 7, MAX_SEED].map(seeds), PINNED_SEEDS);
        let cells = |seed, count| (0..12).map(|trial| cell(seed, trial, count)).collect::<Vec<_>>();
        assert_eq!([cells(0, 3), cells(7, 4), cells(MAX_SEED, 2)], PINNED_CELLS);
    }

    const PINNED_SEEDS: [[u64; 4]; 3] = [
        [7_483_073_634_660_919, 6_097_540_941_029_267, 3_887_218_434_737_297, 6_550_928_494_024_522],
        [5_276_475_163_066_381, 1_699_566_449_208_258, 2_546_099_348_178_794, 6_588_837_072_786_698],
        [4_664_584_645_572_326, 6_591_579_962_509_553, 2_347_484_581_964_057, 7_705_417_128_408_689],
    ];
    const PINNED_CELLS: [[usize; 12]; 3] = [
        [0, 1, 2, 1, 0, 2, 1, 0, 2, 1, 2, 0],
        [3, 2, 0, 1, 1, 2, 0, 3, 2, 3, 0, 1],
        [0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1],
    ];

    #[test]
    fn every_json_reader_keeps_a_trials_seed_whole() {
        for trial in 0..2_000 {
            assert!(partition_seed(MAX_SEED, trial) <= MAX_SEED);
        }
        assert!((0..64).any(|trial| partition_seed(1, trial) > MAX_SEED / 2), "all 53 bits are used");
    }

    #[test]
    fn a_trial_draws_from_seed_and_index_alone() {
        let seeds: Vec<u64> = (0..500).map(|trial| partition_seed(3, trial)).collect();
        // Any order gives the same cells, as after a resumption.
        for trial in [499, 0, 250] {
            assert_eq!(partition_seed(3, trial), seeds[trial as usize]);
        }
        assert_eq!(seeds.iter().collect::<BTreeSet<_>>().len(), seeds.len());
        assert_ne!(partition_seed(4, 0), seeds[0]);
        let cells = |seed| (0..60).map(|trial| cell(seed, trial, 3)).collect::<Vec<_>>();
        assert_eq!(cells(1), cells(1));
        assert_ne!(cells(1), cells(2));
    }
}
