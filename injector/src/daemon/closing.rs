//! Final records: closing partitions, answering those who wait, forgetting the old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::request::Answer;
use super::state::{JUDGING, State};
use super::waiter::Waiter;
use crate::probe::schedule::Rate;
use crate::server::command::{Record, Reply};
use injector_core::api::{Code, EventKind, Problem, RecoveryRecord};
use injector_core::clock::MonoNs;

/// How many closed partitions are kept.
const KEPT: usize = 1_000;
/// How many links these may have in all; each takes some 300 bytes.
const KEPT_LINKS: usize = 200_000;
/// The number of these that keep every probe,
const KEPT_PROBES: usize = 20;
/// and how many probes these may have in all; each takes some 100 bytes.
const ALL_PROBES: usize = 500_000;

impl State {
    pub(super) fn recovery(
        &mut self,
        name: &str,
        generation: Option<u32>,
        wait: Duration,
        reply: Reply<Answer<Record>>,
    ) {
        let partition = match self.find(name, generation) {
            Ok(partition) => partition,
            Err(problem) => return drop(reply.send(Err(problem))),
        };
        if let Some(record) = &partition.experiment.record {
            return drop(reply.send(Ok(Record(Arc::clone(record)))));
        }
        // Judged in the next round: records take time, and whoever asks again and again must not hold up a heal.
        let generation = partition.life.generation;
        self.waiters.push(Waiter { generation, until: Instant::now() + wait, reply });
    }

    /// Answers the readers whose record is final, or whose time is over, but not before it is known what happened up to the heal:
    /// of the latter as many as fit into the time of a judging round, and one at least, since each record has to be judged.
    pub(super) fn answer_waiters(&mut self) {
        let now = Instant::now();
        let mut judged: BTreeMap<u32, Record> = BTreeMap::new();
        for waiter in std::mem::take(&mut self.waiters) {
            let Some(partition) = self.ledger.get(waiter.generation) else {
                // The partition was withdrawn before it was ever cut.
                let problem = Problem::new(Code::UnknownPartition, "the partition was withdrawn");
                let _ = waiter.reply.send(Err(problem));
                continue;
            };
            if let Some(record) = &partition.experiment.record {
                let _ = waiter.reply.send(Ok(Record(Arc::clone(record))));
                continue;
            }
            if waiter.reply.is_closed() {
                continue;
            }
            let has_room = judged.is_empty() || now.elapsed() < JUDGING;
            let is_early = waiter.until > now || !self.is_answerable(partition);
            if is_early || !has_room && !judged.contains_key(&waiter.generation) {
                self.waiters.push(waiter);
                continue;
            }
            let judge = || Record(Arc::new(self.record(partition)));
            let record = judged.entry(waiter.generation).or_insert_with(judge);
            let _ = waiter.reply.send(Ok(record.clone()));
        }
    }

    /// Closes partitions whose record is final: their slots leave the word, then are freed.
    pub(super) fn close(&mut self, finals: Vec<(u32, RecoveryRecord)>) {
        if finals.is_empty() {
            return;
        }
        // Stamps go with the slots, and are in the records by now.
        let generations: Vec<u32> = finals.iter().map(|(generation, _)| *generation).collect();
        let effects = match self.ledger.close(&mut self.kernel, &generations) {
            Ok(effects) => effects,
            // The lapse heals everything first; these records are closed in the next judging round.
            Err(lapsed) => return self.lapsed(lapsed),
        };
        for (generation, record) in finals {
            let probes = self.probes(self.partition(generation));
            self.history.closed(&record);
            let (name, outcome) = (record.name.clone(), record.outcome);
            let experiment = self.experiment(generation);
            experiment.shrink();
            experiment.probes = probes;
            experiment.record = Some(Arc::new(record));
            if let Some(outcome) = outcome {
                self.event(MonoNs::now(), EventKind::Record { name, generation, outcome });
            }
        }
        self.carry_out(effects);
        self.forget_old();
        self.answer_waiters();
        self.refresh_rate();
    }

    fn forget_old(&mut self) {
        let closed = self.ledger.iter().rev().filter(|partition| !partition.life.is_open());
        let keep = keeping_probes(closed.map(|partition| partition.experiment.probes.len()));
        let closed = self.ledger.iter_mut().rev().filter(|(life, _)| !life.is_open());
        for (_, experiment) in closed.skip(keep) {
            experiment.probes = Arc::default();
        }
        let closed = self.ledger.iter().map(|partition| &partition.life).filter(|life| !life.is_open());
        let links: Vec<usize> = closed.map(|life| life.links.len()).collect();
        self.ledger.forget_oldest(to_forget(&links));
        let open = self.ledger.iter().filter(|partition| partition.life.is_open());
        self.samples.trim(open.map(|partition| partition.experiment.samples_from.as_slice()));
    }

    /// Ends the oldest watch for the sake of a partition that needs its slot.
    pub(super) fn evict_oldest_watch(&mut self, by: &str) {
        let effects = self.ledger.evict_oldest_watch(by, MonoNs::now());
        self.carry_out(effects);
    }

    /// Probes run at the full rate while a partition is open.
    pub(super) fn refresh_rate(&self) {
        let rate = if self.ledger.is_open() { Rate::Full } else { Rate::Idle };
        self.rate.send_if_modified(|current| std::mem::replace(current, rate) != rate);
    }
}

/// How many of the newest records keep their probes, by how many each has, the newest first. That one keeps them, however
/// many those are.
fn keeping_probes(probes: impl Iterator<Item = usize>) -> usize {
    let sums = probes.take(KEPT_PROBES).scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    sums.enumerate().take_while(|(at, sum)| *at == 0 || *sum <= ALL_PROBES).count()
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

    #[test]
    fn the_last_twenty_keep_their_probes_unless_they_are_very_many() {
        let keeping = |probes: &[usize]| keeping_probes(probes.iter().copied());
        assert_eq!(keeping(&[]), 0);
        assert_eq!(keeping(&[100; 50]), KEPT_PROBES);
        assert_eq!(keeping(&[ALL_PROBES / 4; 9]), 4);
        assert_eq!(keeping(&[ALL_PROBES + 1, 1]), 1, "the newest record keeps them");
        assert_eq!(keeping(&[1, ALL_PROBES, 1]), 1);
    }
}
