//! The views of partitions for the API, and the drops of their links.

use std::sync::Arc;
use std::time::{Duration, Instant};

use injector_common::record::LinkStamps;

use super::partition::{Counted, Partition, named, part};
use super::state::State;
use crate::datapath::CommonStamps;
use crate::server::command::Views;
use injector_core::api::{LinkCounters, LinkTotals, PartitionView};
use injector_core::ledger::Life;
use injector_core::model::Link;
use injector_core::plan::SlotIndex;

/// How long a view of many partitions may count what their links dropped: commands wait meanwhile.
const COUNTING: Duration = Duration::from_millis(200);

impl State {
    /// The drop counters of links, zero where nothing was dropped; null where the stamps could not be read.
    fn counters_of(&self, links: &[Link], stamps: Option<&[(Link, LinkStamps)]>) -> Vec<LinkCounters> {
        let counters = |link: &Link| {
            let found = stamps.map(|stamps| {
                let at = stamps.binary_search_by_key(link, |(link, _)| *link);
                at.map(|at| stamps[at].1).unwrap_or_default()
            });
            let named = named(&self.config.names, *link);
            LinkCounters {
                src: named.src,
                dst: named.dst,
                dropped_packets: found.map(|stamps| stamps.dropped_packets),
                dropped_bytes: found.map(|stamps| stamps.dropped_bytes),
            }
        };
        links.iter().map(counters).collect()
    }

    /// The stamps of some links of a partition; `None` where the map can't be read, which is logged.
    pub(super) fn stamps(
        &self,
        slot: SlotIndex,
        life: &Life,
        links: &[Link],
    ) -> Option<Vec<(Link, LinkStamps)>> {
        let read = self.kernel.link_stamps(slot, life.generation, links);
        read.inspect_err(|error| tracing::error!(%error, "stamps could not be read")).ok()
    }

    /// All partitions, each without what grows with its links.
    pub(super) fn listed(&mut self) -> Views {
        let mut open = self.summaries(Life::is_open).into_iter().map(Arc::new).peekable();
        let mut views = Vec::new();
        for (life, experiment) in self.ledger.iter_mut() {
            // The open ones come in the same order.
            if let Some(view) = open.next_if(|view| view.generation == life.generation) {
                views.push(view);
            } else {
                views.push(experiment.closed_view(life));
            }
        }
        Views(views)
    }

    /// Some of the partitions, each without the parts that grow with its links.
    pub(super) fn summaries(&mut self, is_wanted: impl Fn(&Life) -> bool) -> Vec<PartitionView> {
        let end = Instant::now() + COUNTING;
        let wanted: Vec<u32> = self
            .ledger
            .iter()
            .filter(|partition| is_wanted(&partition.life))
            .map(|partition| partition.life.generation)
            .collect();
        let mut common = CommonStamps::default();
        wanted
            .into_iter()
            .map(|generation| {
                let totals = self.totals(generation, end, &mut common);
                let Partition { life, experiment } = self.partition(generation);
                experiment.summary(life, totals)
            })
            .collect()
    }

    /// The drops of the links of a partition that is shown with others. Counting many links takes long: then
    /// an older sum is given, or none.
    pub(super) fn totals(&mut self, generation: u32, end: Instant, common: &mut CommonStamps) -> LinkTotals {
        let Partition { life, experiment } = self.partition(generation);
        let Some(slot) = life.slot else { return experiment.final_totals() };
        let begin = Instant::now();
        if let Some(counted) = experiment.counted
            && (begin >= end || begin - counted.at < counted.cost * 4)
        {
            return counted.totals;
        }
        let links = life.links.len();
        if begin >= end {
            return LinkTotals { links, not_here: experiment.not_here.len(), ..LinkTotals::default() };
        }
        // A map that can't be read is no sum of 0.
        let stamps = self.kernel.link_stamps_among(slot, life.generation, &life.links, common).ok();
        let sum =
            |of: fn(&LinkStamps) -> u64| Some(stamps.as_ref()?.iter().map(|(_, stamps)| of(stamps)).sum());
        let totals = LinkTotals {
            links,
            not_here: experiment.not_here.len(),
            dropped_packets: sum(|stamps| stamps.dropped_packets),
            dropped_bytes: sum(|stamps| stamps.dropped_bytes),
        };
        self.experiment(generation).counted = Some(Counted { totals, at: begin, cost: begin.elapsed() });
        totals
    }

    /// The view of one partition for the API, its links from one of them on if that is asked for.
    pub(super) fn view(&mut self, generation: u32, from: Option<usize>) -> PartitionView {
        let Partition { life, experiment } = self.partition(generation);
        let links = match life.slot {
            Some(slot) => part(from, &life.links)
                .map(|links| self.counters_of(links, self.stamps(slot, life, links).as_deref())),
            None => experiment.final_counters(from),
        };
        let whole = links.as_ref().filter(|links| links.len() == life.links.len());
        let totals = match whole {
            Some(links) => summed(links, experiment.not_here.len()),
            None => self.totals(generation, Instant::now() + COUNTING, &mut CommonStamps::default()),
        };
        let Partition { life, experiment } = self.partition(generation);
        experiment.view(life, &self.config.names, totals, from, links)
    }

    /// The answer to a dry run: nothing has been dropped.
    pub(super) fn dry(&self, partition: &Partition, from: Option<usize>) -> PartitionView {
        let Partition { life, experiment } = partition;
        let totals = LinkTotals {
            links: life.links.len(),
            not_here: experiment.not_here.len(),
            dropped_packets: Some(0),
            dropped_bytes: Some(0),
        };
        let links = part(from, &life.links).map(|links| self.counters_of(links, Some(&[])));
        experiment.view(life, &self.config.names, totals, from, links)
    }
}

/// The drops of all links; null if one link's are.
fn summed(links: &[LinkCounters], not_here: usize) -> LinkTotals {
    LinkTotals {
        links: links.len(),
        not_here,
        dropped_packets: links.iter().map(|link| link.dropped_packets).sum(),
        dropped_bytes: links.iter().map(|link| link.dropped_bytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_with_an_unknown_count_is_unknown() {
        let link = |packets| LinkCounters {
            src: "a".to_owned(),
            dst: "b".to_owned(),
            dropped_packets: packets,
            dropped_bytes: Some(60),
        };
        let known = summed(&[link(Some(1)), link(Some(2))], 0);
        assert_eq!((known.dropped_packets, known.dropped_bytes), (Some(3), Some(120)));
        let unknown = summed(&[link(Some(1)), link(None)], 0);
        assert_eq!((unknown.links, unknown.dropped_packets, unknown.dropped_bytes), (2, None, Some(120)));
    }
}
