//! The operations that the ledger needs of the data plane.

use injector_common::Word;
use injector_common::slot::Slot;

use crate::clock::MonoNs;
use crate::plan::{Age, Cell, Presence, SlotIndex, Step};

/// The interval around one store of the commit word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The instant before the store.
    pub begin: MonoNs,
    /// The instant after the store: no verdict that begins later is by the old word.
    pub end: MonoNs,
}

/// The lease ran out: the live half of the word was emptied, and nothing that was live comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease ran out at {expired:?}: every partition was healed then")]
pub struct Lapsed {
    /// The instant from which on the programs passed everything.
    pub expired: MonoNs,
}

/// The maps of the programs, as far as the lifecycle of partitions writes them. Nothing takes effect but by the word.
pub trait DataPlane {
    /// Why a map can't be written.
    type Error: std::fmt::Display;

    /// Writes a slot whose bit is in neither half of the word, and that no running program can still read.
    fn write_slot(&mut self, index: SlotIndex, slot: &Slot) -> Result<(), Self::Error>;
    /// Adds a slot to, or takes it out of, cells of the matrix.
    fn write_cells(&mut self, index: SlotIndex, cells: &[Cell], presence: Presence);
    /// Removes what was stamped for a slot, under any generation.
    fn forget(&mut self, index: SlotIndex) -> Result<(), Self::Error>;
    /// Removes the stamps of a slot that no running program can read any more, before the slot is written
    /// again. Packets that this slot was counted for together with other slots stay counted for the others
    /// alone.
    fn recycle(&mut self, index: SlotIndex) -> Result<(), Self::Error>;
    /// Commits a word.
    ///
    /// # Errors
    /// The lease ran out before, and [`Self::acknowledge`] was not called since: the word is not stored.
    fn store(&mut self, word: Word) -> Result<Interval, Lapsed>;
    /// Renews the lease; answers a lapse that was not acknowledged.
    fn renew(&mut self) -> Option<Lapsed>;
    /// Takes note of a lapse, after which words can be stored again; `None` if there was none since the last call.
    fn acknowledge(&mut self) -> Option<Lapsed>;
    /// Waits until no program runs that has read an older word.
    fn wait_aged(&mut self);
    /// Notes that a slot's bit has left the word. Returns the age that [`Self::aged`] reaches once no program
    /// can read the slot.
    fn freed(&mut self) -> Age;
    /// The latest age whose slots no running program can read any more.
    fn aged(&self) -> Age;
}

/// Why a planned change was not made. What it had changed by then is undone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// A map can't be written.
    #[error(transparent)]
    Plane(E),
    /// The lease had run out.
    #[error(transparent)]
    Lapsed(Lapsed),
}

/// Carries out the steps in their order; if one fails, those before it are undone in reverse. Answers the interval of the
/// last commit among them.
pub fn execute<P: DataPlane>(plane: &mut P, steps: &[Step]) -> Result<Option<Interval>, Fault<P::Error>> {
    let mut committed = None;
    for (at, step) in steps.iter().enumerate() {
        match carry_out(plane, step) {
            Ok(interval) => committed = interval.or(committed),
            Err(fault) => {
                for (slot, cells) in steps[..at].iter().rev().filter_map(Step::undo) {
                    plane.write_cells(slot, cells, Presence::Out);
                }
                return Err(fault);
            }
        }
    }
    Ok(committed)
}

fn carry_out<P: DataPlane>(plane: &mut P, step: &Step) -> Result<Option<Interval>, Fault<P::Error>> {
    match step {
        Step::Slot(index, slot) => plane.write_slot(*index, slot).map(|()| None).map_err(Fault::Plane),
        Step::Cells(index, cells, presence) => {
            plane.write_cells(*index, cells, *presence);
            Ok(None)
        }
        Step::Word(word) => plane.store(*word).map(Some).map_err(Fault::Lapsed),
    }
}
