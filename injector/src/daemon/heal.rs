//! The ends of partitions: by request, deadline, lease, disconnect, shutdown.

use std::collections::BTreeMap;

use super::partition::{Partition, instant, stamped};
use super::state::{Answer, State};
use crate::api::types::{Code, EventKind, Healed, HealedBy, PartitionState, Problem, Stamped};
use crate::clock::{MonoNs, WallOffset};
use crate::datapath::{Datapath as _, Lapsed};
use crate::measure::{Broken, Closed};
use crate::model::Link;
use crate::plan::SlotUse;

impl State {
    pub(super) fn heal(&mut self, name: &str) -> Answer<Healed> {
        let generation = self.partitions[self.newest(name)?].generation;
        if self.partitions[self.at_generation(generation)].state == PartitionState::Prepared {
            return Ok(self.withdraw(generation, HealedBy::Request));
        }
        let mut healed = self.heal_where(|partition| partition.generation == generation, HealedBy::Request);
        // Otherwise it had ended before; a record that closes may take the oldest one out of the queue.
        let healed = healed
            .pop()
            .or_else(|| self.find(name, Some(generation)).ok().and_then(|at| self.partitions[at].healed()));
        healed.ok_or_else(|| Problem::new(Code::WrongState, format!("\"{name}\" has no heal")))
    }

    /// Ends a partition that was prepared and never cut.
    pub(super) fn withdraw(&mut self, generation: u32, by: HealedBy) -> Healed {
        let index = self.at_generation(generation);
        let partition = &mut self.partitions[index];
        partition.heal = Some(instant(MonoNs::now(), WallOffset::now()));
        partition.healed_by = Some(by);
        partition.broken = Some(Broken::Other("the partition was prepared and never enabled".into()));
        partition.state = PartitionState::Watched;
        // Before it is judged: closing may take it out of the queue.
        let healed = partition.healed().expect("just healed");
        self.judge_watched();
        healed
    }

    /// Withdraws the prepared partitions that are wanted.
    pub(super) fn withdraw_where(&mut self, wanted: impl Fn(&Partition) -> bool, by: HealedBy) {
        let prepared: Vec<u32> = self
            .partitions
            .iter()
            .filter(|partition| partition.state == PartitionState::Prepared && wanted(partition))
            .map(|partition| partition.generation)
            .collect();
        for generation in prepared {
            self.withdraw(generation, by);
        }
    }

    /// Heals the live partitions that are wanted, all by one store.
    pub(super) fn heal_where(&mut self, wanted: impl Fn(&Partition) -> bool, by: HealedBy) -> Vec<Healed> {
        // What the kernel ended before is not healed by us.
        self.expire(MonoNs::now());
        let live: Vec<usize> = (0..self.partitions.len())
            .filter(|at| self.partitions[*at].is_live() && wanted(&self.partitions[*at]))
            .collect();
        if live.is_empty() {
            return Vec::new();
        }
        let mut slots = self.slots.clone();
        for at in &live {
            slots.set(self.partitions[*at].slot.expect("a live partition has a slot"), SlotUse::Watched);
        }
        let interval = match self.kernel.store(slots.word()) {
            Ok(interval) => interval,
            Err(lapsed) => {
                let generations = self.generations(&live);
                self.lapsed(lapsed);
                // By generation: records that closed may have moved the others in the queue.
                let healed = |generation: &u32| {
                    self.partitions.iter().find(|partition| partition.generation == *generation)?.healed()
                };
                return generations.iter().filter_map(healed).collect();
            }
        };
        self.slots = slots;
        let offset = WallOffset::now();
        let together = self.generations(&live);
        // Starts that the kernel came to between the look and the store.
        self.begin(interval.end);
        for at in &live {
            let partition = &mut self.partitions[*at];
            // A deadline that passed between the look and the store was first.
            let (heal, by) = if partition.ends_at <= interval.begin {
                (instant(partition.ends_at, offset), HealedBy::Deadline)
            } else {
                (stamped(interval, offset), by)
            };
            self.ended(*at, heal, by, &together);
        }
        let healed = live.iter().filter_map(|at| self.partitions[*at].healed()).collect();
        // Last: records that close move the others in the queue.
        self.judge_watched();
        healed
    }

    pub(super) fn generations(&self, at: &[usize]) -> Vec<u32> {
        at.iter().map(|at| self.partitions[*at].generation).collect()
    }

    /// Notes the heal of a partition whose slot is already out of the live half (or past its end). Partitions
    /// that ended `together`, by the same store, do not hold each other's links.
    pub(super) fn ended(&mut self, at: usize, heal: Stamped, by: HealedBy, together: &[u32]) {
        self.end_strangers(at);
        let mine = self.partitions[at].resolved.links.clone();
        let generation = self.partitions[at].generation;
        let starts_at = self.partitions[at].starts_at;
        let mut still: BTreeMap<Link, Vec<String>> = BTreeMap::new();
        let mut another = None;
        for other in &self.partitions {
            let holds = other.is_live()
                && other.generation != generation
                && !together.contains(&other.generation)
                && other.starts_at <= heal.end_ns
                && other.ends_at > heal.end_ns;
            if holds {
                // What was cut before is this experiment's ground; what came on top of it is another experiment.
                if other.starts_at > starts_at {
                    another.get_or_insert_with(|| other.name.clone());
                }
                for link in mine.iter().filter(|link| other.resolved.links.binary_search(link).is_ok()) {
                    still.entry(*link).or_default().push(other.name.clone());
                }
            }
        }
        let partition = &mut self.partitions[at];
        // Active, too: after a stop its start may be noted before the lapse that came first.
        if partition.starts_at >= heal.end_ns {
            partition.cut = None;
            partition.broken = Some(Broken::Other("healed before its start: nothing was cut".into()));
        }
        if let Some(check) = &partition.check {
            check.stop();
        }
        partition.still_cut = still;
        if let Some(partition_name) = another {
            partition.closed_by.get_or_insert(Closed { partition: partition_name, at: heal.end_ns });
        }
        partition.heal = Some(heal);
        partition.healed_by = Some(by);
        partition.state = PartitionState::Watched;
        // What came before our programs since the last look is found right after the heal.
        self.hooks_watched = None;
        if by == HealedBy::Lease {
            partition.broken = Some(Broken::LeaseLapsed);
        }
        let healed = partition.healed().expect("just healed");
        self.event(heal.end_ns, EventKind::Heal { healed });
    }

    /// Takes note of the starts before an instant, which the kernel has made by itself; whether there were any.
    fn begin(&mut self, before: MonoNs) -> bool {
        let due: Vec<u32> = self
            .partitions
            .iter_mut()
            .filter(|partition| partition.state == PartitionState::Scheduled && partition.starts_at < before)
            .map(|partition| {
                partition.state = PartitionState::Active;
                partition.generation
            })
            .collect();
        for generation in &due {
            self.became_active(*generation);
        }
        !due.is_empty()
    }

    /// Starts and ends what the kernel has started and ended by itself.
    pub(super) fn expire(&mut self, now: MonoNs) {
        // First: a start behind a lapse cut nothing, and no record may say that it did.
        if let Some(lapsed) = self.kernel.gate().renew() {
            return self.lapsed(lapsed);
        }
        let offset = WallOffset::now();
        if self.begin(now) {
            self.judge_watched();
        }
        let mut over: Vec<(MonoNs, u32)> = self
            .partitions
            .iter()
            .filter(|partition| partition.is_live() && partition.ends_at <= now)
            .map(|partition| (partition.ends_at, partition.generation))
            .collect();
        if over.is_empty() {
            return;
        }
        // In the order of their ends: one that ended later held the links of those before it.
        over.sort_unstable();
        let mut slots = self.slots.clone();
        for (_, generation) in &over {
            let slot = self.partitions[self.at_generation(*generation)].slot;
            slots.set(slot.expect("a live partition has a slot"), SlotUse::Watched);
        }
        match self.kernel.store(slots.word()) {
            Ok(_) => self.slots = slots,
            Err(lapsed) => return self.lapsed(lapsed),
        }
        for (ends_at, generation) in over {
            let at = self.at_generation(generation);
            self.ended(at, instant(ends_at, offset), HealedBy::Deadline, &[]);
        }
    }

    /// The lease ran out: the gate has emptied the word; each partition ended then, or before by its deadline.
    pub fn lapsed(&mut self, lapsed: Lapsed) {
        if self.kernel.gate().acknowledge().is_none() {
            return;
        }
        tracing::error!("the lease lapsed: this process was held up; every partition has been healed");
        self.event(lapsed.expired, EventKind::LeaseLapsed);
        let offset = WallOffset::now();
        self.begin(lapsed.expired);
        let live: Vec<usize> =
            (0..self.partitions.len()).filter(|at| self.partitions[*at].is_live()).collect();
        let together = self.generations(&live);
        for at in live {
            let slot = self.partitions[at].slot.expect("a live partition has a slot");
            self.slots.set(slot, SlotUse::Watched);
            let ends_at = self.partitions[at].ends_at;
            if ends_at <= lapsed.expired {
                self.ended(at, instant(ends_at, offset), HealedBy::Deadline, &[]);
                self.partitions[at].broken = Some(Broken::LeaseLapsed);
            } else {
                self.ended(at, instant(lapsed.expired, offset), HealedBy::Lease, &together);
            }
        }
        self.judge_watched();
    }

    /// Heals everything and closes every record.
    pub fn stop(&mut self) {
        self.stopping = true;
        // Their clients are answered that the daemon is stopping.
        self.held.clear();
        self.heal_where(|_| true, HealedBy::Shutdown);
        for partition in &mut self.partitions {
            if partition.is_open() {
                partition.broken.get_or_insert(Broken::Stopping);
                partition.state = PartitionState::Watched;
            }
        }
        self.judge_watched();
        self.answer_waiters();
    }
}
