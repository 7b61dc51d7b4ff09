//! The links of a partition, as far as they were read, with the rates of their drops. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::LinkCounters;
use crate::clock::MonoNs;

/// The links of a partition that were read so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Links {
    /// By sender, then by receiver.
    drops: BTreeMap<String, BTreeMap<String, Drops>>,
    /// Every sender and receiver.
    ends: BTreeSet<String>,
    count: usize,
}

/// The drops of a link under one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drops {
    /// Packets so far and when they were counted; `None` until a count could be read.
    pub counted: Option<(u64, MonoNs)>,
    /// Packets dropped a second between the last two counts; `None` before the second one.
    pub rate: Option<f64>,
}

impl Links {
    /// Takes in a link with its counters.
    pub(super) fn take(&mut self, at: MonoNs, link: &LinkCounters) {
        for end in [&link.src, &link.dst] {
            if !self.ends.contains(end) {
                self.ends.insert(end.clone());
            }
        }
        let receivers = self.drops.entry(link.src.clone()).or_default();
        let count = &mut self.count;
        let drops = receivers.entry(link.dst.clone()).or_insert_with(|| {
            *count += 1;
            Drops::default()
        });
        // A count that is not known changes no rate.
        let Some(packets) = link.dropped_packets else { return };
        let Some((before, counted_at)) = drops.counted else {
            drops.counted = Some((packets, at));
            return;
        };
        let seconds = at.saturating_since(counted_at).as_secs_f64();
        if seconds > 0.0 {
            let more = packets.saturating_sub(before);
            *drops = Drops { counted: Some((packets, at)), rate: Some(more as f64 / seconds) };
        }
    }

    /// The drops of one link; `None` if it was not read.
    pub fn get(&self, src: &str, dst: &str) -> Option<&Drops> {
        self.drops.get(src)?.get(dst)
    }

    /// How many links were read.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none was read.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every peer at an end of a link that was read.
    pub fn ends(&self) -> impl Iterator<Item = &str> {
        self.ends.iter().map(String::as_str)
    }
}
