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
    carried: BTreeMap<(SlotIndex, Link), LinkStamps>,
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
        let of_slot = (index, Link { src: PeerId(0), dst: PeerId(0) })
            ..=(index, Link { src: PeerId(u16::MAX), dst: PeerId(u16::MAX) });
        let carried = self.carried.range(of_slot).map(|((_, link), stamps)| (*link, *stamps));
        let mut common: Vec<(Link, LinkStamps)> = carried.collect();
        for key in self.keys_with(index)? {
            if let Some(link) = link_of(key) {
                common.push((link, self.read(key)?));
            }
        }
        if common.is_empty() {
            return Ok(());
        }
        let links: BTreeSet<&Link> = links.iter().collect();
        for (link, stamps) in common.iter().filter(|(link, stamps)| {
            // What a set has stamped of first packets alone is each partition's own.
            links.contains(link) && *stamps != LinkStamps::default()
        }) {
            found.entry(*link).or_default().merge(stamps);
        }
        Ok(())
    }

    /// Takes a slot out of all sets: what was counted for it and others stays with the others.
    pub fn take_out(&mut self, index: SlotIndex) -> Result<(), DatapathError> {
        for key in self.keys_with(index)? {
            let stamps = self.read(key)?;
            self.map.remove(&key).map_err(fail)?;
            let Some(link) = link_of(key) else { continue };
            for other in (0..u32::BITS as u8).map(SlotIndex) {
                if key.slots & other.bit() != 0 && other != index && stamps != LinkStamps::default() {
                    self.carried.entry((other, link)).or_default().merge(&stamps);
                }
            }
        }
        self.carried.retain(|(of, _), _| *of != index);
        Ok(())
    }

    /// The keys of all sets that a slot is in, once each: the programs add keys meanwhile, and a key may come twice.
    fn keys_with(&self, index: SlotIndex) -> Result<BTreeSet<OverlapKey>, DatapathError> {
        let of_slot = |key: &Result<OverlapKey, MapError>| {
            key.as_ref().map_or(true, |key| key.slots & index.bit() != 0)
        };
        self.map.keys().filter(of_slot).collect::<Result<_, _>>().map_err(fail)
    }

    /// The stamps of a set, over all CPUs.
    fn read(&self, key: OverlapKey) -> Result<LinkStamps, DatapathError> {
        let mut sum = LinkStamps::default();
        self.map.get(&key, 0).map_err(fail)?.iter().for_each(|stamps| sum.merge(&LinkStamps::from(*stamps)));
        Ok(sum)
    }
}

/// The link of a key; `None` for what was dropped for all receivers at once.
fn link_of(key: OverlapKey) -> Option<Link> {
    (key.dst != GROUP).then_some(Link { src: PeerId(key.src), dst: PeerId(key.dst) })
}
