//! The ends of cuts: by request, by their deadlines, by the lease, and of what was prepared and never cut.

use std::collections::BTreeMap;

use super::{Changed, DataPlane, Effect, Entry, Lapsed, Ledger, Life, Now};
use crate::api::{Healed, HealedBy, PartitionState, Stamped};
use crate::clock::MonoNs;
use crate::measure::{Closed, HarnessFailure};
use crate::model::Link;
use crate::plan::SlotUse;

/// Transitions from a cut to its heal.
impl<T> Ledger<T> {
    /// Heals the live partitions that are wanted, all by one store. Answers their heals; a partition that ended by itself
    /// before has the heal that it had.
    pub fn heal<P: DataPlane>(
        &mut self,
        plane: &mut P,
        wanted: impl Fn(&Life) -> bool,
        by: HealedBy,
        now: Now,
    ) -> Changed<Vec<Healed>> {
        // A cut that the kernel ended before is not healed by us.
        let mut effects = self.expire(plane, now);
        let live = self.generations(|life| life.is_live() && wanted(life));
        if live.is_empty() {
            return Changed { answer: Vec::new(), effects };
        }
        let slots = self.slots_with(&live, SlotUse::Watched);
        match plane.store(slots.word()) {
            Ok(interval) => {
                self.slots = slots;
                // The kernel may have begun some cuts between the expiry above and the store.
                self.begin(interval.end);
                for generation in &live {
                    // A deadline that passed between the expiry above and the store ended its cut first.
                    let ends_at = self.entries[generation].life.ends_at;
                    let (heal, by) = if ends_at <= interval.begin {
                        (now.instant(ends_at), HealedBy::Deadline)
                    } else {
                        (now.stamped(interval.begin, interval.end), by)
                    };
                    effects.push(self.end(*generation, heal, by, &live));
                }
                effects.push(Effect::Judge);
            }
            Err(lapsed) => effects.extend(self.lapse(plane, lapsed, now)),
        }
        let answer = live.iter().filter_map(|generation| self.entries[generation].life.healed()).collect();
        Changed { answer, effects }
    }

    /// Notes what the kernel has started and ended by itself.
    pub fn expire<P: DataPlane>(&mut self, plane: &mut P, now: Now) -> Vec<Effect> {
        // First: a start behind a lapse cut nothing, and no record may say that it did.
        if let Some(lapsed) = plane.renew() {
            return self.lapse(plane, lapsed, now);
        }
        let mut effects = Vec::new();
        if self.begin(now.mono) {
            effects.push(Effect::Judge);
        }
        let mut over: Vec<(MonoNs, u32)> = self
            .iter()
            .map(|entry| &entry.life)
            .filter(|life| life.is_live() && life.ends_at <= now.mono)
            .map(|life| (life.ends_at, life.generation))
            .collect();
        if over.is_empty() {
            return effects;
        }
        // Cuts end in the order of their ends: one that ended later held the links of those before it.
        over.sort_unstable();
        let generations: Vec<u32> = over.iter().map(|(_, generation)| *generation).collect();
        let slots = self.slots_with(&generations, SlotUse::Watched);
        match plane.store(slots.word()) {
            Ok(_) => self.slots = slots,
            Err(lapsed) => {
                effects.extend(self.lapse(plane, lapsed, now));
                return effects;
            }
        }
        for (ends_at, generation) in over {
            effects.push(self.end(generation, now.instant(ends_at), HealedBy::Deadline, &[]));
        }
        effects.push(Effect::Judge);
        effects
    }

    /// The lease ran out, and the data plane has emptied the live half of the word: each partition ended then, or before by
    /// its deadline.
    pub fn lapse<P: DataPlane>(&mut self, plane: &mut P, lapsed: Lapsed, now: Now) -> Vec<Effect> {
        if plane.acknowledge().is_none() {
            return Vec::new();
        }
        let expired = lapsed.expired;
        let mut effects = vec![Effect::LeaseLapsed { expired }];
        self.begin(expired);
        let live = self.generations(Life::is_live);
        self.slots = self.slots_with(&live, SlotUse::Watched);
        // Cuts end in the order of their ends, as by their deadlines alone.
        let mut ends: Vec<(MonoNs, u32)> = live
            .iter()
            .map(|generation| (self.entries[generation].life.ends_at.min(expired), *generation))
            .collect();
        ends.sort_unstable();
        for (at, generation) in ends {
            let is_over = self.entries[&generation].life.ends_at <= expired;
            let (by, together) =
                if is_over { (HealedBy::Deadline, &[][..]) } else { (HealedBy::Lease, &live[..]) };
            effects.push(self.end(generation, now.instant(at), by, together));
            // A cut that ended by its deadline, too: nobody knows that it was in force until then.
            self.life_mut(generation).broken = Some(HarnessFailure::LeaseLapsed);
        }
        effects.push(Effect::Judge);
        effects
    }

    /// Ends the prepared partitions that are wanted: they never cut.
    pub fn withdraw(
        &mut self,
        wanted: impl Fn(&Life) -> bool,
        by: HealedBy,
        now: Now,
    ) -> Changed<Vec<Healed>> {
        let prepared = self.generations(|life| life.state == PartitionState::Prepared && wanted(life));
        for generation in &prepared {
            let life = self.life_mut(*generation);
            life.heal = Some(now.instant(now.mono));
            life.healed_by = Some(by);
            life.broken = Some(HarnessFailure::Other("the partition was prepared and never enabled".into()));
            life.state = PartitionState::Watched;
        }
        let answer =
            prepared.iter().filter_map(|generation| self.entries[generation].life.healed()).collect();
        let effects = if prepared.is_empty() { Vec::new() } else { vec![Effect::Judge] };
        Changed { answer, effects }
    }

    /// Notes the starts before an instant, which the kernel has made by itself; whether there were any.
    fn begin(&mut self, before: MonoNs) -> bool {
        let due = self.generations(|life| life.state == PartitionState::Scheduled && life.starts_at < before);
        for generation in &due {
            self.life_mut(*generation).state = PartitionState::Active;
            self.became_active(*generation);
        }
        !due.is_empty()
    }

    /// Notes the heal of a partition that the kernel no longer cuts. Partitions that ended `together`, by the same store,
    /// do not hold each other's links.
    fn end(&mut self, generation: u32, heal: Stamped, by: HealedBy, together: &[u32]) -> Effect {
        let mine = &self.entries[&generation].life;
        let mut still: BTreeMap<Link, Vec<String>> = BTreeMap::new();
        let mut another: Option<Closed> = None;
        for Entry { life: other, .. } in self.iter() {
            let Some(begins) = other.in_force_from().filter(|_| other.generation != generation) else {
                continue;
            };
            // Another cut may have become active before this end was noted.
            let is_later = other.state != PartitionState::Scheduled && begins > heal.end_ns;
            if is_later && another.as_ref().is_none_or(|closed| begins < closed.at) {
                another = Some(Closed { partition: other.name.clone(), at: begins });
            }
            let holds = other.is_live()
                && !together.contains(&other.generation)
                && begins <= heal.end_ns
                && other.ends_at > heal.end_ns;
            if holds {
                // A cut that began before this one is part of this experiment; one that began later is
                // another experiment.
                if mine.in_force_from().is_none_or(|mine| begins > mine) {
                    another = Some(Closed { partition: other.name.clone(), at: heal.end_ns });
                }
                for link in mine.links.iter().filter(|link| other.cuts(link)) {
                    still.entry(*link).or_default().push(other.name.clone());
                }
            }
        }
        let life = self.life_mut(generation);
        // Active, too: after the process was stopped, a start may be noted before the lapse that came first, or a word may be
        // stored when the deadline of its partition was over.
        if life.in_force_from().is_none_or(|begins| begins >= heal.end_ns) {
            life.cut = None;
            life.broken = Some(HarnessFailure::Other("healed before its start: nothing was cut".into()));
        }
        life.still_cut = still;
        if let Some(closed) = another {
            life.closed_by.get_or_insert(closed);
        }
        life.heal = Some(heal);
        life.healed_by = Some(by);
        life.state = PartitionState::Watched;
        if by == HealedBy::Lease {
            life.broken = Some(HarnessFailure::LeaseLapsed);
        }
        Effect::Healed(life.healed().expect("the heal was just noted"))
    }
}
