//! Where one partition is in its life.

use std::collections::BTreeMap;

use injector_common::slot::Slot;

use crate::api::{Healed, HealedBy, PartitionState, Stamped};
use crate::clock::{MonoNs, Span};
use crate::measure::{Closed, HarnessFailure};
use crate::model::Link;
use crate::plan::{Cell, SlotIndex};

/// Where a partition is in its life: prepared → scheduled → active → watched → closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// The partition's name.
    pub name: String,
    /// Counts the partitions of a daemon; 0 before the ledger has taken it in.
    pub generation: u32,
    /// The present state.
    pub state: PartitionState,
    /// Its slot, from prepared until its record is closed.
    pub slot: Option<SlotIndex>,
    /// The API connection whose end heals it.
    pub owner: Option<u64>,
    /// The request's id, which never cuts twice.
    pub request_id: Option<String>,
    /// The links that it cuts, sorted.
    pub links: Vec<Link>,
    /// How long it cuts.
    pub length: Span,
    /// Since when it holds its slot.
    pub prepared_at: MonoNs,
    /// The instant from which on the kernel cuts.
    pub starts_at: MonoNs,
    /// The instant from which on the kernel cuts no more.
    pub ends_at: MonoNs,
    /// The cut, once it took effect.
    pub cut: Option<Stamped>,
    /// The heal.
    pub heal: Option<Stamped>,
    /// The cause of the heal.
    pub healed_by: Option<HealedBy>,
    /// Other partitions that held its links when it was healed.
    pub still_cut: BTreeMap<Link, Vec<String>>,
    /// The partition that became active before this one's record was final.
    pub closed_by: Option<Closed>,
    /// The failure that broke the experiment.
    pub broken: Option<HarnessFailure>,
    /// The contents of the partition's slot, except for its times.
    pub(super) contents: Slot,
    /// The cells of the matrix that the partition affects while it holds a slot.
    pub(super) cells: Vec<Cell>,
}

/// A partition before the ledger takes it in.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The partition's name.
    pub name: String,
    /// The API connection whose end heals it.
    pub owner: Option<u64>,
    /// The request's id.
    pub request_id: Option<String>,
    /// The links, sorted.
    pub links: Vec<Link>,
    /// How long it cuts.
    pub length: Span,
}

/// The clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: MonoNs,
    /// The offset that makes wall-clock times of monotonic instants.
    pub offset: crate::clock::WallOffset,
}

impl Now {
    /// Reads the clocks.
    pub fn read() -> Self {
        Self { mono: MonoNs::now(), offset: crate::clock::WallOffset::now() }
    }

    /// A stamped interval.
    pub(super) fn stamped(self, begin: MonoNs, end: MonoNs) -> Stamped {
        Stamped { begin_ns: begin, end_ns: end, wall: self.offset.wall(end) }
    }

    /// An instant that was set ahead.
    pub(super) fn instant(self, at: MonoNs) -> Stamped {
        self.stamped(at, at)
    }
}

impl Life {
    /// A life that has not begun: no slot, nothing cut.
    pub fn new(draft: Draft, now: MonoNs) -> Self {
        let Draft { name, owner, request_id, links, length } = draft;
        Self {
            name,
            generation: 0,
            state: PartitionState::Prepared,
            slot: None,
            owner,
            request_id,
            links,
            length,
            prepared_at: now,
            starts_at: now,
            ends_at: now,
            cut: None,
            heal: None,
            healed_by: None,
            still_cut: BTreeMap::new(),
            closed_by: None,
            broken: None,
            contents: Slot::default(),
            cells: Vec::new(),
        }
    }

    /// Whether it cuts, or will.
    pub fn is_live(&self) -> bool {
        matches!(self.state, PartitionState::Scheduled | PartitionState::Active)
    }

    /// The instant from which on the kernel cuts; `None` if nothing was committed, or only after the end. A
    /// process that was held up commits later than the start that it had written.
    pub fn in_force_from(&self) -> Option<MonoNs> {
        let begins = self.cut?.begin_ns.max(self.starts_at);
        (begins < self.ends_at).then_some(begins)
    }

    /// Whether its record can still change.
    pub fn is_open(&self) -> bool {
        self.state != PartitionState::Closed
    }

    /// Whether it cuts a link.
    pub fn cuts(&self, link: &Link) -> bool {
        self.links.binary_search(link).is_ok()
    }

    /// Its heal, if it has ended.
    pub fn healed(&self) -> Option<Healed> {
        Some(Healed {
            name: self.name.clone(),
            generation: self.generation,
            at: self.heal?,
            healed_by: self.healed_by?,
        })
    }
}
