//! Which cell a trial belongs to, and what it draws: functions of (seed, trial) alone, so that a resumed campaign
//! goes on as it would have gone.

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What a draw is for; each purpose has a generator of its own.
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
    generator(seed, Purpose::Partition, trial).next_u64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_block_holds_each_cell_once_in_changing_order() {
        let mut orders = BTreeSet::new();
        for block in 0..40 {
            let order: Vec<usize> = (0..4).map(|at| cell(7, block * 4 + at, 4)).collect();
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..4).collect(), "{order:?}");
            orders.insert(order);
        }
        // Of 24 orders 40 blocks show about 20.
        assert!(orders.len() > 10, "{} orders", orders.len());
    }

    #[test]
    fn a_trial_draws_from_seed_and_index_alone() {
        let seeds: Vec<u64> = (0..500).map(|trial| partition_seed(3, trial)).collect();
        // In any order, as after a resumption.
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
