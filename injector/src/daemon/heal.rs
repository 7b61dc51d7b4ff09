//! The ends of partitions: by request, deadline, lease, disconnect, shutdown.

use std::time::Duration;

use super::request::Answer;
use super::state::State;
use crate::fault;
use injector_core::api::{Code, Healed, HealedBy, PartitionState, Problem};
use injector_core::ledger::{Changed, Effect, Lapsed, Life, Now};

/// How long the end of the daemon may judge: service managers kill what does not end in time.
const LAST_JUDGING: Duration = Duration::from_secs(1);

impl State {
    pub(super) fn heal(&mut self, name: &str) -> Answer<Healed> {
        fault::here("heal/begin");
        let life = &self.newest(name)?.life;
        let generation = life.generation;
        let is_it = |life: &Life| life.generation == generation;
        let healed = if life.state == PartitionState::Prepared {
            self.withdraw_where(is_it, HealedBy::Request)
        } else {
            self.heal_where(is_it, HealedBy::Request)
        };
        // Otherwise it had ended before.
        let before = || self.ledger.get(generation).and_then(|partition| partition.life.healed());
        healed
            .into_iter()
            .next()
            .or_else(before)
            .ok_or_else(|| Problem::new(Code::WrongState, format!("\"{name}\" has no heal")))
    }

    /// Withdraws the prepared partitions that are wanted.
    pub(super) fn withdraw_where(&mut self, wanted: impl Fn(&Life) -> bool, by: HealedBy) -> Vec<Healed> {
        let Changed { answer, effects } = self.ledger.withdraw(wanted, by, Now::read());
        self.carry_out_but_judging(effects);
        answer
    }

    /// Heals the live partitions that are wanted, all by one store.
    pub(super) fn heal_where(&mut self, wanted: impl Fn(&Life) -> bool, by: HealedBy) -> Vec<Healed> {
        let Changed { answer, effects } = self.ledger.heal(&mut self.kernel, wanted, by, Now::read());
        fault::here("heal/stored");
        self.carry_out_but_judging(effects);
        answer
    }

    /// Carries out effects and leaves the records to the next judging round, which comes within its usual
    /// time: a client that heals does not wait for the records of very many links.
    pub(super) fn carry_out_but_judging(&mut self, mut effects: Vec<Effect>) {
        effects.retain(|effect| *effect != Effect::Judge);
        self.carry_out(effects);
    }

    /// The lease ran out: the gate has emptied the word; each partition ended then, or before by its deadline.
    pub fn lapsed(&mut self, lapsed: Lapsed) {
        let effects = self.ledger.lapse(&mut self.kernel, lapsed, Now::read());
        self.carry_out(effects);
    }

    /// Heals everything and closes the records; of very many links, those for which there is time.
    pub fn stop(&mut self) {
        self.stopping = true;
        // Their clients are answered that the daemon is stopping.
        self.held.clear();
        let effects = self.ledger.stop(&mut self.kernel, Now::read());
        self.carry_out_but_judging(effects);
        self.judge_watched(LAST_JUDGING);
        self.answer_waiters();
    }
}
