//! Strategies: the rules that decide what a campaign tries next.

use std::collections::VecDeque;

use injector_core::api::RecoveryRecord;
use injector_core::clock::Span;

/// A trial to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The trial's index.
    pub index: u64,
    /// The index of the campaign's cell that the trial cuts.
    pub cell: usize,
}

/// Decides what a campaign tries next.
pub trait Strategy {
    /// The next trial; `None`, from then on, when the campaign is complete.
    fn next(&mut self) -> Option<Step>;

    /// Takes in the record of a trial. Unless [`Self::cycle`] says otherwise, the campaign calls this before it asks for
    /// the next trial.
    fn learn(&mut self, step: Step, record: &RecoveryRecord);

    /// Back to back: each cut begins this long after the heal before it, whatever the endpoints' state, and closes that
    /// one's record. The campaign then asks for the next trial before the record of the present one is final. `None`: each
    /// cut waits for the record before it, for the cool-down, and for healthy endpoints.
    fn cycle(&self) -> Option<Span> {
        None
    }
}

/// The trials that have no record yet, each with a cell that is drawn from the seed and the index alone, so that a
/// resumed campaign draws the same.
pub struct Blocks {
    missing: VecDeque<u64>,
    seed: u64,
    cells: usize,
    cycle: Option<Span>,
}

impl Blocks {
    /// Trials one after the other; with a cycle back to back.
    pub fn new(missing: impl Iterator<Item = u64>, seed: u64, cells: usize, cycle: Option<Span>) -> Self {
        Self { missing: missing.collect(), seed, cells, cycle }
    }
}

impl Strategy for Blocks {
    fn next(&mut self) -> Option<Step> {
        let index = self.missing.pop_front()?;
        Some(Step { index, cell: injector_core::campaign::order::cell(self.seed, index, self.cells) })
    }

    fn learn(&mut self, _: Step, _: &RecoveryRecord) {}

    fn cycle(&self) -> Option<Span> {
        self.cycle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_campaign_draws_what_the_first_run_would_have() {
        let steps = |missing: &[u64]| {
            let mut blocks = Blocks::new(missing.iter().copied(), 7, 3, None);
            std::iter::from_fn(|| blocks.next()).collect::<Vec<_>>()
        };
        let (all, rest) = (steps(&[0, 1, 2, 3, 4, 5]), steps(&[2, 5]));
        assert_eq!(rest, [all[2], all[5]]);
    }
}
