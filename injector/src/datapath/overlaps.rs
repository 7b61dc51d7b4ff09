//! What several partitions that drop all of a link have in common on it: the programs count it once, for the set of their
//! slots.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{MapData, MapError, PerCpuHashMap};
use injector_common::key::{GROUP, OverlapKey};
use injector_common::record::{LinkStamps, OverlapStamps};
use injector_core::model::{Link, PeerId};
use injector_core::plan::SlotIndex;

use super::DatapathError;
use super::object::Object;

/// The map, and what was in it under sets of which a slot has left since.
pub struct Overlaps {
    map: PerCpuHashMap<MapData, OverlapKey, OverlapStamps>,
    carried: BTreeMap<SlotIndex, BTreeMap<Link, LinkStamps>>,
}

fn fail(source: MapError) -> DatapathError {
    DatapathError::Map { name: "OVERLAPS", source }
}

impl Overlaps {
    /// Takes the map of a loaded object.
    pub fn take(object: &mut Object) -> Result<Self, DatapathError> {
        let map = object.take("OVERLAPS")?.try_into().map_err(fail)?;
        Ok(Self { map, carried: BTreeMap::new() })
    }

    /// Adds to the stamps of a slot's links what it has in common with others.
    pub fn add_to(
        &self,
        index: SlotIndex,
        links: &[Link],
        found: &mut BTreeMap<Link, LinkStamps>,
    ) -> Result<(), DatapathError> {
        let mut common = self.carried.get(&index).cloned().unwrap_or_default();
        for key in self.keys_with(index)? {
            if let Some((link, stamps)) = self.counted(key)? {
                common.entry(link).or_default().merge(&stamps);
            }
        }
        let wanted: BTreeSet<&Link> =
            if common.is_empty() { BTreeSet::new() } else { links.iter().collect() };
        for (link, stamps) in common.iter().filter(|(link, _)| wanted.contains(link)) {
            found.entry(*link).or_default().merge(stamps);
        }
        Ok(())
    }

    /// Takes a slot out of all sets: what was counted for it and others stays with the others.
    pub fn take_out(&mut self, index: SlotIndex) -> Result<(), DatapathError> {
        for key in self.keys_with(index)? {
            let counted = self.counted(key)?;
            self.map.remove(&key).map_err(fail)?;
            let Some((link, stamps)) = counted else { continue };
            let others = (0..u32::BITS as u8).map(SlotIndex).filter(|slot| *slot != index);
            for other in others.filter(|slot| key.slots & slot.bit() != 0) {
                self.carried.entry(other).or_default().entry(link).or_default().merge(&stamps);
            }
        }
        self.carried.remove(&index);
        Ok(())
    }

    /// The keys of all sets that a slot is in, once each: the programs add keys meanwhile, and a key may come twice.
    fn keys_with(&self, index: SlotIndex) -> Result<BTreeSet<OverlapKey>, DatapathError> {
        let of_slot = |key: &Result<OverlapKey, MapError>| {
            key.as_ref().map_or(true, |key| key.slots & index.bit() != 0)
        };
        self.map.keys().filter(of_slot).collect::<Result<_, _>>().map_err(fail)
    }

    /// What was counted for a set on a link, over all CPUs; `None` where nothing was, but first packets, of which the stamps
    /// are each partition's own, and of what was dropped for all receivers at once.
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
