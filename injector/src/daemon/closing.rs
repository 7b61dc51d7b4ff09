//! Final records: closing partitions, answering those who wait, forgetting the old.

use std::time::Duration;

use tokio::time::Instant;

use super::partition::Partition;
use super::state::{Answer, State};
use crate::datapath::Datapath as _;
use crate::probe::schedule::Rate;
use crate::server::command::Reply;
use injector_core::api::{Code, EventKind, PartitionState, Problem, RecoveryRecord};
use injector_core::clock::MonoNs;
use injector_core::measure::Closed;
use injector_core::plan::SlotUse;

/// How many closed partitions are kept.
const KEPT: usize = 1_000;
/// How many links these may have in all; each takes some 300 bytes.
const KEPT_LINKS: usize = 500_000;
/// Of these, how many keep every probe.
const KEPT_PROBES: usize = 20;

/// An answer that is held back until a record is final, or a time is over.
pub(super) struct Waiter {
    pub(super) generation: u32,
    pub(super) until: Instant,
    pub(super) reply: Reply<Result<Box<RecoveryRecord>, Problem>>,
}

impl State {
    pub(super) fn recovery(
        &mut self,
        name: &str,
        generation: Option<u32>,
        wait: Duration,
        reply: Reply<Answer<Box<RecoveryRecord>>>,
    ) {
        let at = match self.find(name, generation) {
            Ok(at) => at,
            Err(problem) => return drop(reply.send(Err(problem))),
        };
        let partition = &self.partitions[at];
        if let Some(record) = &partition.record {
            return drop(reply.send(Ok(record.clone())));
        }
        if wait.is_zero() {
            return drop(reply.send(Ok(Box::new(self.record(at)))));
        }
        self.waiters.push(Waiter { generation: partition.generation, until: Instant::now() + wait, reply });
    }

    /// Answers the readers whose record is final, or whose time is over.
    pub(super) fn answer_waiters(&mut self) {
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiters) {
            let Some(at) =
                self.partitions.iter().position(|partition| partition.generation == waiter.generation)
            else {
                // It was withdrawn before it was ever cut.
                let problem = Problem::new(Code::UnknownPartition, "the partition was withdrawn");
                let _ = waiter.reply.send(Err(problem));
                continue;
            };
            match &self.partitions[at].record {
                Some(record) => drop(waiter.reply.send(Ok(record.clone()))),
                None if waiter.until <= now => drop(waiter.reply.send(Ok(Box::new(self.record(at))))),
                None if waiter.reply.is_closed() => {}
                None => self.waiters.push(waiter),
            }
        }
    }

    /// Closes partitions whose record is final: their slots leave the word, then are freed.
    pub(super) fn close(&mut self, finals: Vec<(u32, RecoveryRecord)>) {
        if finals.is_empty() {
            return;
        }
        let mut slots = self.slots.clone();
        for (generation, _) in &finals {
            if let Some(slot) = self.partitions[self.at_generation(*generation)].slot {
                slots.set(slot, SlotUse::Free);
            }
        }
        if let Err(lapsed) = self.kernel.store(slots.word()) {
            // The lapse heals everything first; these records are closed at the next look.
            return self.lapsed(lapsed);
        }
        for (generation, record) in finals {
            let at = self.at_generation(generation);
            let probes = self.probes(at);
            let mut partition = self.partitions.remove(at).expect("an index of this queue");
            self.free(&partition);
            partition.shrink();
            partition.probes = probes;
            partition.state = PartitionState::Closed;
            let (name, outcome) = (record.name.clone(), record.outcome);
            partition.record = Some(Box::new(record));
            self.partitions.insert(at, partition);
            if let Some(outcome) = outcome {
                self.event(MonoNs::now(), EventKind::Record { name, generation, outcome });
            }
        }
        self.forget_old();
        self.answer_waiters();
        self.refresh_rate();
    }

    pub(super) fn forget_old(&mut self) {
        let closed = |partition: &Partition| partition.state == PartitionState::Closed;
        let mut with_probes = 0;
        for partition in self.partitions.iter_mut().rev().filter(|partition| closed(partition)) {
            with_probes += 1;
            if with_probes > KEPT_PROBES {
                partition.probes = Vec::new();
            }
        }
        let links: Vec<usize> = self
            .partitions
            .iter()
            .filter(|partition| closed(partition))
            .map(|partition| partition.resolved.links.len())
            .collect();
        for _ in 0..to_forget(&links) {
            let at = self.partitions.iter().position(closed).expect("just counted");
            if let Some(gone) = self.partitions.remove(at)
                && let Some(id) = gone.request.request_id
            {
                self.request_ids.remove(&id);
            }
        }
        let open = self.partitions.iter().filter(|partition| partition.is_open());
        self.samples.trim(open.map(|partition| partition.samples_from.as_slice()));
    }

    pub(super) fn evict_oldest_watch(&mut self, by: &str) {
        let at = MonoNs::now();
        if let Some(oldest) =
            self.partitions.iter_mut().find(|partition| partition.state == PartitionState::Watched)
        {
            oldest.closed_by.get_or_insert(Closed { partition: by.to_owned(), at });
            self.judge_watched();
        }
    }

    /// Probes run at the full rate while a partition is open.
    pub(super) fn refresh_rate(&self) {
        let open = self.partitions.iter().any(Partition::is_open);
        let rate = if open { Rate::Full } else { Rate::Idle };
        self.rate.send_if_modified(|current| std::mem::replace(current, rate) != rate);
    }
}

/// How many of the oldest closed partitions are forgotten, by how many links each of them has. The newest stays,
/// however many those are.
fn to_forget(links: &[usize]) -> usize {
    let mut room = KEPT_LINKS;
    let kept = links.iter().rev().take(KEPT).enumerate().take_while(|(at, links)| {
        let fits = **links <= room;
        room = room.saturating_sub(**links);
        fits || *at == 0
    });
    links.len() - kept.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept_unless_they_are_huge() {
        assert_eq!(to_forget(&[]), 0);
        assert_eq!(to_forget(&[4; KEPT]), 0);
        assert_eq!(to_forget(&[4; KEPT + 7]), 7);
        assert_eq!(to_forget(&[KEPT_LINKS / 4; 9]), 5);
        assert_eq!(to_forget(&[1, KEPT_LINKS, 1]), 2);
        assert_eq!(to_forget(&[1, KEPT_LINKS + 1]), 1);
    }
}
