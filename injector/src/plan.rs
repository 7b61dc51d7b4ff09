//! From what shall hold to what is written, and how each write is undone. Pure.

use injector_common::packet::protocol;
use injector_common::slot::{LOSS_ALL, MAX_SCOPES, Slot, SlotScope, side};
use injector_common::{SLOTS, Word};

use crate::api::types::PartitionRequest;
use crate::clock::MonoNs;
use crate::model::{Link, Neighbour, PortSide, Protocol, Scope};

/// One of the 32 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u8);

impl SlotIndex {
    /// Its bit in a half of the commit word.
    pub fn bit(self) -> u32 {
        1 << self.0
    }
}

/// Whether a slot is in a link's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    In,
    /// It is not.
    Out,
}

/// One write to the data plane.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The contents of a slot whose bit is in neither half of the word.
    Slot(SlotIndex, Box<Slot>),
    /// A slot's bit in its links' cells.
    Links(SlotIndex, Vec<Link>, Presence),
    /// The commit.
    Word(Word),
}

impl Step {
    /// What takes this step back; a slot that is in no cell and not in the word needs nothing.
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::Links(slot, links, Presence::In) => Some(Self::Links(*slot, links.clone(), Presence::Out)),
            Self::Slot(..) | Self::Links(..) | Self::Word(_) => None,
        }
    }
}

/// A scope as the programs see it.
pub fn slot_scope(scope: Scope) -> SlotScope {
    let (first, last) = scope.ports.unwrap_or((0, 0));
    SlotScope {
        first,
        last,
        protocol: match scope.protocol {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
            Protocol::Icmp => protocol::ICMP,
            Protocol::Sctp => protocol::SCTP,
            Protocol::Number(number) => number,
        },
        side: match scope.side {
            PortSide::Either => side::EITHER,
            PortSide::Src => side::SRC,
            PortSide::Dst => side::DST,
        },
        pad: 0,
    }
}

/// What is to be written before a partition can be committed.
pub fn prepare(index: SlotIndex, slot: Slot, links: &[Link]) -> Vec<Step> {
    vec![Step::Slot(index, Box::new(slot)), Step::Links(index, links.to_vec(), Presence::In)]
}

/// The contents of a partition's slot.
pub fn slot(request: &PartitionRequest, generation: u32, starts_at: MonoNs, ends_at: MonoNs) -> Slot {
    let mut scopes = [SlotScope::default(); MAX_SCOPES];
    for (into, scope) in scopes.iter_mut().zip(&request.scopes) {
        *into = slot_scope(*scope);
    }
    let share = |nanos: u64, share: f64| (nanos as f64 * share).round() as u64;
    let (flap_period, flap_on) = request.flap.map_or((0, 0), |flap| {
        let period = flap.period.as_nanos();
        (period, share(period, flap.on.share()))
    });
    Slot {
        starts_at: starts_at.0,
        ends_at: ends_at.0,
        loss: share(LOSS_ALL, request.loss.share()),
        flap_period,
        flap_on,
        generation,
        scope_count: request.scopes.len().min(MAX_SCOPES) as u32,
        drop_neighbour: u32::from(request.neighbour == Neighbour::Drop),
        pad: 0,
        scopes,
    }
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotUse {
    /// Nothing; its age tells whether a running program may still look at it.
    #[default]
    Free,
    /// Prepared, not in the word.
    Prepared,
    /// In the live half.
    Live,
    /// In the watched half.
    Watched,
}

/// When a slot was freed: a count that rises with each one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub u64);

/// All slots of the daemon: the one source of the commit word.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    uses: [SlotUse; SLOTS as usize],
    used_before: u32,
    /// When each was freed last.
    freed: [Age; SLOTS as usize],
}

/// Whether a slot's old contents may still be in the hands of a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Never used.
    New,
    /// Used before, and no program can still look at it.
    Aged,
    /// Freed just now: wait for running programs before it is written.
    Young,
}

impl SlotTable {
    /// The free slot to take next, without taking it: the lowest (loops over slots end early) that can be written at
    /// once, by the last age that no program can see any more; the one that was freed first if all are young.
    pub fn free(&self, settled: Age) -> Option<(SlotIndex, Freshness)> {
        let is_young = |at: &usize| self.freed[*at] > settled;
        let free = (0..self.uses.len()).filter(|at| self.uses[*at] == SlotUse::Free);
        let at = free.clone().find(|at| !is_young(at)).or_else(|| free.min_by_key(|at| self.freed[*at]))?;
        let index = SlotIndex(at as u8);
        Some((
            index,
            match self.used_before & index.bit() {
                0 => Freshness::New,
                _ if is_young(&at) => Freshness::Young,
                _ => Freshness::Aged,
            },
        ))
    }

    /// Frees a slot whose bit has left the word; programs that read an older one may still look at it.
    pub fn release(&mut self, index: SlotIndex, age: Age) {
        self.set(index, SlotUse::Free);
        self.freed[usize::from(index.0)] = age;
    }

    /// Puts a slot to a use.
    pub fn set(&mut self, index: SlotIndex, to: SlotUse) {
        self.used_before |= index.bit();
        self.uses[usize::from(index.0)] = to;
    }

    /// What a slot is used for.
    pub fn get(&self, index: SlotIndex) -> SlotUse {
        self.uses[usize::from(index.0)]
    }

    /// The word that says so.
    pub fn word(&self) -> Word {
        let half = |wanted| {
            (0u32..)
                .zip(self.uses)
                .filter(|(_, slot)| *slot == wanted)
                .fold(0, |mask, (at, _)| mask | 1 << at)
        };
        Word::new(half(SlotUse::Live), half(SlotUse::Watched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Nothing, PeerId, Shape};

    #[test]
    fn a_slot_says_what_was_asked() {
        let mut request = PartitionRequest::new(Shape::Halves(Nothing {}));
        request.loss = "30%".parse().unwrap();
        request.flap = Some("200ms/25%".parse().unwrap());
        request.scopes = vec!["tcp/5122".parse().unwrap()];
        let slot = slot(&request, 7, MonoNs(10), MonoNs(20));
        assert_eq!((slot.starts_at, slot.ends_at, slot.generation), (10, 20, 7));
        assert_eq!((slot.flap_period, slot.flap_on), (200_000_000, 50_000_000));
        assert_eq!(slot.loss, 1_288_490_189);
        assert_eq!((slot.scope_count, slot.scopes[0].first, slot.scopes[0].last), (1, 5122, 5122));
        assert_eq!(
            super::slot(&PartitionRequest::new(Shape::Halves(Nothing {})), 1, MonoNs(0), MonoNs(1)).loss,
            LOSS_ALL
        );
    }

    #[test]
    fn the_word_has_each_slot_in_one_half() {
        let mut table = SlotTable::default();
        let free = |table: &SlotTable| table.free(Age(0));
        assert_eq!(free(&table), Some((SlotIndex(0), Freshness::New)));
        table.set(SlotIndex(0), SlotUse::Live);
        table.set(SlotIndex(1), SlotUse::Prepared);
        table.set(SlotIndex(2), SlotUse::Watched);
        assert_eq!(table.word(), Word::new(0b001, 0b100));
        for at in 0..32 {
            table.set(SlotIndex(at), SlotUse::Live);
        }
        assert_eq!(free(&table), None);
    }

    #[test]
    fn a_young_slot_is_taken_last() {
        let mut table = SlotTable::default();
        for at in 0..4 {
            table.set(SlotIndex(at), SlotUse::Live);
        }
        table.release(SlotIndex(2), Age(1));
        table.release(SlotIndex(0), Age(2));
        assert_eq!(table.free(Age(0)), Some((SlotIndex(4), Freshness::New)), "nothing to wait for");
        assert_eq!(table.free(Age(1)), Some((SlotIndex(2), Freshness::Aged)));
        assert_eq!(table.free(Age(2)), Some((SlotIndex(0), Freshness::Aged)), "the lowest");
        for at in 4..32 {
            table.set(SlotIndex(at), SlotUse::Watched);
        }
        assert_eq!(table.free(Age(0)), Some((SlotIndex(2), Freshness::Young)), "the one freed first");
        assert_eq!(table.free(Age(1)), Some((SlotIndex(2), Freshness::Aged)));
    }

    #[test]
    fn undo_takes_the_links_out_again() {
        let links = vec![Link { src: PeerId(1), dst: PeerId(2) }];
        let steps = prepare(
            SlotIndex(4),
            slot(&PartitionRequest::new(Shape::Halves(Nothing {})), 1, MonoNs(0), MonoNs(1)),
            &links,
        );
        let undone: Vec<_> = steps.iter().rev().filter_map(Step::undo).collect();
        assert_eq!(undone, [Step::Links(SlotIndex(4), links, Presence::Out)]);
    }
}
