//! The stamps that several partitions which drop all of a link have in common on it: the programs count them
//! once, for the set of their slots.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{MapData, MapError, PerCpuHashMap};
use injector_common::key::{GROUP, OverlapKey};
use injector_common::record::{LinkStamps, OverlapStamps};
use injector_core::model::{Link, PeerId};
use injector_core::plan::SlotIndex;

use super::DatapathError;
use super::object::Object;

/// The map, and what was in it under sets that a slot has left since.
pub struct Overlaps {
    map: PerCpuHashMap<MapData, OverlapKey, OverlapStamps>,
    carried: BySlot,
}

/// The stamps that slots have in common with others, by link.
pub(super) type BySlot = BTreeMap<SlotIndex, BTreeMap<Link, LinkStamps>>;

/// The stamps that all slots have in common with others, for views of several partitions: read once, for the
/// first of these.
#[derive(Default)]
pub struct CommonStamps(Option<BySlot>);

impl CommonStamps {
    /// The common stamps, read now unless they were read before.
    pub(super) fn of(&mut self, overlaps: &Overlaps) -> Result<&BySlot, DatapathError> {
        Ok(match &mut self.0 {
            Some(read) => read,
            unread => unread.insert(overlaps.of_slots(u32::MAX)?),
        })
    }
}

fn fail(source: MapError) -> DatapathError {
    DatapathError::Map { name: "OVERLAPS", source }
}

/// The slots of a mask, a bit each.
fn slots_in(mask: u32) -> impl Iterator<Item = SlotIndex> {
    (0..u32::BITS as u8).map(SlotIndex).filter(move |slot| mask & slot.bit() != 0)
}

impl Overlaps {
    /// Takes the map of a loaded object.
    pub fn take(object: &mut Object) -> Result<Self, DatapathError> {
        let map = object.take("OVERLAPS")?.try_into().map_err(fail)?;
        Ok(Self { map, carried: BTreeMap::new() })
    }

    /// The stamps that each slot of a mask has in common with others, in one walk through the map.
    pub(super) fn of_slots(&self, mask: u32) -> Result<BySlot, DatapathError> {
        let carried = self.carried.iter().filter(|(slot, _)| mask & slot.bit() != 0);
        let mut common: BySlot = carried.map(|(slot, links)| (*slot, links.clone())).collect();
        for key in self.keys_with(mask)? {
            let Some((link, stamps)) = self.counted(key)? else { continue };
            for slot in slots_in(mask & key.slots) {
                common.entry(slot).or_default().entry(link).or_default().merge(&stamps);
            }
        }
        Ok(common)
    }

    /// Takes a slot out of all sets: what was counted for it and others stays with the others.
    pub fn take_out(&mut self, index: SlotIndex) -> Result<(), DatapathError> {
        for key in self.keys_with(index.bit())? {
            let counted = self.counted(key)?;
            self.map.remove(&key).map_err(fail)?;
            let Some((link, stamps)) = counted else { continue };
            for other in slots_in(key.slots & !index.bit()) {
                self.carried.entry(other).or_default().entry(link).or_default().merge(&stamps);
            }
        }
        self.carried.remove(&index);
        Ok(())
    }

    /// The keys of all sets that a slot of a mask is in, once each: the programs add keys meanwhile, and a key may come twice.
    fn keys_with(&self, mask: u32) -> Result<BTreeSet<OverlapKey>, DatapathError> {
        let of_slots =
            |key: &Result<OverlapKey, MapError>| key.as_ref().map_or(true, |key| key.slots & mask != 0);
        self.map.keys().filter(of_slots).collect::<Result<_, _>>().map_err(fail)
    }

    /// The stamps of a set of slots on a link, summed over all CPUs; `None` if there are none. Entries that
    /// only hold first packets, whose stamps each partition has itself, and entries for all receivers at once
    /// count as nothing.
    fn counted(&self, key: OverlapKey) -> Result<Option<(Link, LinkStamps)>, DatapathError> {
        if key.dst == GROUP {
            return Ok(None);
        }
        let mut sum = LinkStamps::default();
        self.map.get(&key, 0).map_err(fail)?.iter().for_each(|stamps| sum.merge(&LinkStamps::from(*stamps)));
        let link = Link { src: PeerId(key.src), dst: PeerId(key.dst) };
        Ok((sum != LinkStamps::default()).then_some((link, sum)))
    }
}

/// Adds to the stamps of a slot's links what it has in common with others.
pub(super) fn add(common: &BySlot, index: SlotIndex, links: &[Link], found: &mut BTreeMap<Link, LinkStamps>) {
    let Some(common) = common.get(&index).filter(|common| !common.is_empty()) else { return };
    let wanted: BTreeSet<&Link> = links.iter().collect();
    for (link, stamps) in common.iter().filter(|(link, _)| wanted.contains(link)) {
        found.entry(*link).or_default().merge(stamps);
    }
}
