//! The lifecycle of partitions, as a pure state machine.
//!
//! [`Ledger`] holds every partition by its generation, and is the one source of the commit word. A transition takes the
//! instant and a [`DataPlane`], changes both together, and returns [`Effect`]s for the caller to carry out. If a transition
//! fails, the partition and the data plane are as they were before.
//!
//! ```text
//! prepared ──commit──▶ active ──heal, deadline, lease──▶ watched ──close──▶ closed
//!    │  └────commit ahead──▶ scheduled ──its start──▶ active
//!    └──withdraw──▶ watched
//! ```

mod heal;
mod life;
mod plane;
#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, HashMap};

use injector_common::slot::Slot;

use crate::api::{Healed, HealedBy, PartitionState, Stamped};
use crate::clock::MonoNs;
use crate::measure::{Closed, HarnessFailure, Overlap};
use crate::plan::{self, Age, Cell, Freshness, Presence, SlotIndex, SlotTable, SlotUse, Step};

pub use life::{Draft, Life, Now};
pub use plane::{DataPlane, Fault, Interval, Lapsed, execute};

/// A partition: its place in its life, and what the ledger's owner keeps beside that.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// Its place in its life; the ledger alone changes it.
    pub life: Life,
    /// The data that the owner of the ledger keeps of it.
    pub experiment: T,
}

/// An effect that a transition asks its caller to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A partition was committed: announce its cut.
    Cut {
        /// The partition.
        generation: u32,
        /// When the cut takes effect.
        effective: Stamped,
        /// When it was committed.
        at: MonoNs,
    },
    /// A partition was healed: announce it, and read the hooks once more.
    Healed(Healed),
    /// The lease ran out.
    LeaseLapsed {
        /// When the lease ran out.
        expired: MonoNs,
    },
    /// A record may have become final: judge the watched partitions.
    Judge,
    /// The stamps of a freed slot could not be removed.
    StampsKept {
        /// Why, in words.
        error: String,
    },
}

/// An answer, and what the caller must do.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Changed<R> {
    /// The answer.
    pub answer: R,
    /// The effects, to be carried out in this order.
    pub effects: Vec<Effect>,
}

/// Why a partition could not be prepared.
#[derive(Debug, PartialEq, Eq)]
pub enum NotPrepared<E> {
    /// Every slot is in use.
    NoFreeSlot,
    /// A map can't be written.
    Plane(E),
}

/// A slot that is watched without a partition, so that the programs stamp responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedSlot {
    /// The slot.
    pub slot: SlotIndex,
    /// The generation that its stamps carry.
    pub generation: u32,
}

/// Every partition of a daemon, by generation.
#[derive(Debug)]
pub struct Ledger<T> {
    entries: BTreeMap<u32, Entry<T>>,
    slots: SlotTable,
    /// The last one that was given out.
    generation: u32,
    request_ids: HashMap<String, u32>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            slots: SlotTable::default(),
            generation: 0,
            request_ids: HashMap::new(),
        }
    }
}

/// Reading.
impl<T> Ledger<T> {
    /// The partition of a generation.
    pub fn get(&self, generation: u32) -> Option<&Entry<T>> {
        self.entries.get(&generation)
    }

    /// The newest partition of a name, or the one of a generation if it has that name.
    pub fn find(&self, name: &str, generation: Option<u32>) -> Option<&Entry<T>> {
        self.entries.values().rev().find(|entry| {
            entry.life.name == name && generation.is_none_or(|generation| entry.life.generation == generation)
        })
    }

    /// Every partition, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry<T>> {
        self.entries.values()
    }

    /// Every partition, oldest first, with what its owner may change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&Life, &mut T)> {
        self.entries.values_mut().map(|entry| (&entry.life, &mut entry.experiment))
    }

    /// The data that the owner keeps of a partition.
    pub fn experiment_mut(&mut self, generation: u32) -> Option<&mut T> {
        self.entries.get_mut(&generation).map(|entry| &mut entry.experiment)
    }

    /// The generation that the next partition gets.
    pub fn next_generation(&self) -> u32 {
        self.generation + 1
    }

    /// Whether a slot is free.
    pub fn has_free_slot(&self) -> bool {
        self.slots.free(Age::default()).is_some()
    }

    /// The partition that a request id was used for.
    pub fn of_request(&self, id: &str) -> Option<u32> {
        self.request_ids.get(id).copied()
    }

    /// Whether a record can still change.
    pub fn is_open(&self) -> bool {
        self.iter().any(|entry| entry.life.is_open())
    }

    /// The other partitions that were in force at some time from a partition's cut on, oldest first.
    pub fn overlaps(&self, life: &Life) -> Vec<Overlap> {
        let Some(from) = life.in_force_from() else { return Vec::new() };
        let others = self.iter().map(|entry| &entry.life);
        others
            .filter(|other| other.generation != life.generation)
            .filter_map(|other| {
                let until = other.heal.map(|heal| heal.end_ns);
                let is_over = until.is_some_and(|until| until <= from);
                let begins = other.in_force_from().filter(|_| !is_over)?;
                Some(Overlap { partition: other.name.clone(), from: begins, until })
            })
            .collect()
    }

    /// When the kernel next starts or ends a partition by itself.
    pub fn next_instant(&self) -> Option<MonoNs> {
        let live = self.iter().map(|entry| &entry.life).filter(|life| life.is_live());
        live.map(|life| match life.state {
            PartitionState::Scheduled => life.starts_at,
            _ => life.ends_at,
        })
        .min()
    }

    fn life_mut(&mut self, generation: u32) -> &mut Life {
        &mut self.entries.get_mut(&generation).expect("the caller holds the generation of an entry").life
    }

    fn generations(&self, wanted: impl Fn(&Life) -> bool) -> Vec<u32> {
        self.iter().filter(|entry| wanted(&entry.life)).map(|entry| entry.life.generation).collect()
    }

    /// The slots with those of some partitions put to a use.
    fn slots_with(&self, generations: &[u32], to: SlotUse) -> SlotTable {
        let mut slots = self.slots.clone();
        for slot in generations.iter().filter_map(|generation| self.entries[generation].life.slot) {
            slots.set(slot, to);
        }
        slots
    }
}

/// Transitions from a draft to a cut.
impl<T> Ledger<T> {
    /// Takes a slot, and writes its contents and its cells; nothing is cut yet. Answers the partition's generation.
    ///
    /// # Errors
    /// Every slot is in use, or a map can't be written. Nothing is changed then, and the entry is lost.
    pub fn prepare<P: DataPlane>(
        &mut self,
        plane: &mut P,
        mut entry: Entry<T>,
        contents: Slot,
        cells: Vec<Cell>,
    ) -> Result<u32, NotPrepared<P::Error>> {
        let Some(slot) = self.writable(plane).map_err(NotPrepared::Plane)? else {
            return Err(NotPrepared::NoFreeSlot);
        };
        let generation = self.next_generation();
        let contents = Slot { generation, ..contents };
        // Its times are written by the commit; until then the slot is as if over.
        let steps = plan::prepare(slot, Slot { starts_at: 0, ends_at: 0, ..contents }, &cells);
        match execute(plane, &steps) {
            Ok(_) => {}
            Err(Fault::Plane(error)) => return Err(NotPrepared::Plane(error)),
            Err(Fault::Lapsed(_)) => unreachable!("preparing commits nothing"),
        }
        self.generation = generation;
        self.slots.set(slot, SlotUse::Prepared);
        if let Some(id) = &entry.life.request_id {
            self.request_ids.insert(id.clone(), generation);
        }
        entry.life.generation = generation;
        entry.life.slot = Some(slot);
        (entry.life.contents, entry.life.cells) = (contents, cells);
        self.entries.insert(generation, entry);
        Ok(generation)
    }

    /// Makes a prepared partition live, at once or at an instant ahead; answers the interval of the commit.
    ///
    /// # Errors
    /// A map can't be written, or the lease had run out. The partition is gone then, and nothing of it is
    /// cut. After a lapse every other partition is healed as well.
    pub fn commit<P: DataPlane>(
        &mut self,
        plane: &mut P,
        generation: u32,
        ahead: Option<MonoNs>,
        now: Now,
    ) -> Changed<Result<Stamped, Fault<P::Error>>> {
        let mut effects = Vec::new();
        let life = &self.entries[&generation].life;
        let slot = life.slot.expect("a prepared partition has a slot");
        let starts_at = ahead.unwrap_or(now.mono);
        let ends_at = starts_at + life.length.0;
        let contents = Slot { starts_at: starts_at.0, ends_at: ends_at.0, ..life.contents };
        let slots = self.slots_with(&[generation], SlotUse::Live);
        let interval = match execute(plane, &[Step::Slot(slot, Box::new(contents)), Step::Word(slots.word())])
        {
            Ok(interval) => interval.expect("the steps end with a commit"),
            Err(fault) => {
                self.discard(plane, generation, &mut effects);
                if let Fault::Lapsed(lapsed) = &fault {
                    effects.extend(self.lapse(plane, *lapsed, now));
                }
                return Changed { answer: Err(fault), effects };
            }
        };
        self.slots = slots;
        let effective = match ahead {
            Some(_) => now.instant(starts_at),
            None => now.stamped(interval.begin, interval.end),
        };
        let life = self.life_mut(generation);
        (life.starts_at, life.ends_at) = (starts_at, ends_at);
        life.cut = Some(effective);
        life.state = if ahead.is_some() { PartitionState::Scheduled } else { PartitionState::Active };
        effects.push(Effect::Cut { generation, effective, at: interval.end });
        if ahead.is_none() {
            self.became_active(generation);
            effects.push(Effect::Judge);
        }
        Changed { answer: Ok(effective), effects }
    }

    /// Gives a partition another owner, whose end its caller heals it at, or none.
    pub fn set_owner(&mut self, generation: u32, owner: Option<u64>) {
        self.life_mut(generation).owner = owner;
    }

    /// Undoes a preparation: the partition was never there.
    pub fn undo<P: DataPlane>(&mut self, plane: &mut P, generation: u32) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.discard(plane, generation, &mut effects);
        effects
    }

    fn discard<P: DataPlane>(&mut self, plane: &mut P, generation: u32, effects: &mut Vec<Effect>) {
        if let Some(Entry { life, .. }) = self.entries.remove(&generation) {
            self.free(plane, &life, effects);
            if let Some(id) = &life.request_id {
                self.request_ids.remove(id);
            }
        }
    }

    /// Gives a partition's slot back; its bit must be out of the word.
    fn free<P: DataPlane>(&mut self, plane: &mut P, life: &Life, effects: &mut Vec<Effect>) {
        let Some(slot) = life.slot else { return };
        plane.write_cells(slot, &life.cells, Presence::Out);
        if let Err(error) = plane.forget(slot) {
            effects.push(Effect::StampsKept { error: error.to_string() });
        }
        self.slots.release(slot, plane.freed());
    }

    /// A slot that can be written now, and holds no stamps; `None` if all are in use. It is not taken yet.
    fn writable<P: DataPlane>(&self, plane: &mut P) -> Result<Option<SlotIndex>, P::Error> {
        let Some((slot, freshness)) = self.slots.free(plane.aged()) else { return Ok(None) };
        if freshness == Freshness::Young {
            plane.wait_aged();
        }
        if freshness != Freshness::New {
            // A program that still ran when the slot was freed may have stamped it since.
            plane.recycle(slot)?;
        }
        Ok(Some(slot))
    }

    /// A cut became active: records that are not final yet see another experiment from now on.
    fn became_active(&mut self, generation: u32) {
        let life = &self.entries[&generation].life;
        let Some(at) = life.in_force_from() else { return };
        let closed = Closed { partition: life.name.clone(), at };
        for Entry { life, .. } in self.entries.values_mut() {
            if life.state == PartitionState::Watched && life.generation != generation {
                life.closed_by.get_or_insert_with(|| closed.clone());
            }
        }
    }
}

/// Transitions from a heal to a final record.
impl<T> Ledger<T> {
    /// Closes watched partitions whose record is final: their slots leave the word, then are freed.
    ///
    /// # Errors
    /// The lease ran out before: nothing is closed, and the caller hands the lapse to [`Self::lapse`].
    pub fn close<P: DataPlane>(&mut self, plane: &mut P, finals: &[u32]) -> Result<Vec<Effect>, Lapsed> {
        let mut effects = Vec::new();
        let watched = |generation: &&u32| {
            self.get(**generation).is_some_and(|entry| entry.life.state == PartitionState::Watched)
        };
        let finals: Vec<u32> = finals.iter().filter(watched).copied().collect();
        if finals.is_empty() {
            return Ok(effects);
        }
        let slots = self.slots_with(&finals, SlotUse::Free);
        plane.store(slots.word())?;
        self.slots = slots;
        for generation in finals {
            let life = self.entries[&generation].life.clone();
            self.free(plane, &life, &mut effects);
            let life = self.life_mut(generation);
            life.state = PartitionState::Closed;
            life.slot = None;
            life.still_cut = BTreeMap::new();
            life.cells = Vec::new();
        }
        Ok(effects)
    }

    /// Ends the watch of the oldest watched partition, so that its slot can be freed once it is judged.
    pub fn evict_oldest_watch(&mut self, by: &str, at: MonoNs) -> Vec<Effect> {
        let watched = |entry: &&mut Entry<T>| entry.life.state == PartitionState::Watched;
        match self.entries.values_mut().find(watched) {
            Some(Entry { life, .. }) => {
                life.closed_by.get_or_insert(Closed { partition: by.to_owned(), at });
                vec![Effect::Judge]
            }
            None => Vec::new(),
        }
    }

    /// Notes what broke the experiment of an open partition; its cut continues.
    pub fn broke(&mut self, generation: u32, broken: HarnessFailure) {
        if let Some(entry) = self.entries.get_mut(&generation).filter(|entry| entry.life.is_open()) {
            entry.life.broken.get_or_insert(broken);
        }
    }

    /// The daemon stops: everything is healed, and every record that is still open ends here.
    pub fn stop<P: DataPlane>(&mut self, plane: &mut P, now: Now) -> Vec<Effect> {
        let Changed { mut effects, .. } = self.heal(plane, |_| true, HealedBy::Shutdown, now);
        effects.extend(self.withdraw(|_| true, HealedBy::Shutdown, now).effects);
        for Entry { life, .. } in self.entries.values_mut().filter(|entry| entry.life.is_open()) {
            life.broken.get_or_insert(HarnessFailure::Stopping);
        }
        effects.push(Effect::Judge);
        effects
    }

    /// Forgets the oldest closed partitions.
    pub fn forget_oldest(&mut self, count: usize) {
        for generation in self.generations(|life| !life.is_open()).into_iter().take(count) {
            if let Some(id) = self.entries.remove(&generation).and_then(|entry| entry.life.request_id) {
                self.request_ids.remove(&id);
            }
        }
    }

    /// The history that stays when the data plane is replaced by another one, whose slots are all new: every
    /// partition is closed.
    #[must_use]
    pub fn into_history(self) -> Self {
        debug_assert!(!self.is_open(), "the data plane is replaced while nothing is open");
        Self { slots: SlotTable::default(), ..self }
    }
}

/// A slot without a partition.
impl<T> Ledger<T> {
    /// Has a slot watched, so that the programs stamp responses under its generation; `None` if every slot is in use.
    ///
    /// # Errors
    /// A map can't be written, or the lease had run out; then the caller hands the lapse to [`Self::lapse`].
    pub fn lend<P: DataPlane>(&mut self, plane: &mut P) -> Result<Option<WatchedSlot>, Fault<P::Error>> {
        let Some(slot) = self.writable(plane).map_err(Fault::Plane)? else { return Ok(None) };
        let generation = self.next_generation();
        plane.write_slot(slot, &Slot { generation, ..Slot::default() }).map_err(Fault::Plane)?;
        let mut slots = self.slots.clone();
        slots.set(slot, SlotUse::Watched);
        plane.store(slots.word()).map_err(Fault::Lapsed)?;
        self.slots = slots;
        self.generation = generation;
        Ok(Some(WatchedSlot { slot, generation }))
    }

    /// Gives a lent slot back.
    pub fn give_back<P: DataPlane>(&mut self, plane: &mut P, loan: WatchedSlot, now: Now) -> Vec<Effect> {
        self.slots.set(loan.slot, SlotUse::Free);
        let mut effects = Vec::new();
        if let Err(lapsed) = plane.store(self.slots.word()) {
            effects = self.lapse(plane, lapsed, now);
            // The lapse emptied the live half alone: the slot is still watched.
            let _ = plane.store(self.slots.word());
        }
        self.slots.release(loan.slot, plane.freed());
        effects
    }
}
