//! The commit word and the lease: the only two things that are written while packets fly.
//!
//! The daemon's task renews the lease in its own loop, so a lease in force proves that the task which answers `heal`
//! works. A thread watches it: whatever holds up the task, its lapse is found and reported while the task is stopped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use injector_common::Word;
use rustix::thread::{MembarrierCommand, membarrier};

use super::mapped::Mapped;
use super::owner::Owner;
use crate::alarm::Guard;
use crate::fault;
use injector_core::clock::MonoNs;
use injector_core::ledger::{Interval, Lapsed};

/// How long the programs keep cutting without a sign of life.
pub const LEASE: Duration = Duration::from_secs(2);
/// The longest time between two renewals by a daemon's task that works.
pub const RENEWAL: Duration = Duration::from_millis(250);
/// How often the thread checks whether the lease is in force.
const WATCH: Duration = Duration::from_millis(400);

const EXPIRES: usize = 0;
const LAPSED: usize = 1;
const PID: usize = 2;
const STARTED: usize = 3;
const BOOT: usize = 4;
const PID_NAMESPACE: usize = 5;

/// The word and its lease, shared by the daemon's one task and the thread that watches the lease.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    commit: Mapped,
    lease: Mapped,
    state: Mutex<GateState>,
    stopped: Condvar,
    /// [`wait_for_programs`], but in tests without programs.
    wait_for_programs: fn(),
}

#[derive(Default)]
struct GateState {
    /// A lapse that the daemon's task has not been notified of yet: until then it may not store.
    unreported: Option<Lapsed>,
    stop: bool,
}

/// The instant up to which a sign of life renews the lease.
struct Renewal(MonoNs);

/// Waits until no program runs that has read an older word.
pub(super) fn wait_for_programs() {
    if membarrier(MembarrierCommand::Global).is_err() {
        // A kernel without it: programs run for microseconds, with preemption off.
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Gate {
    pub(super) fn new(commit: Mapped, lease: Mapped, owner: Owner) -> Self {
        Self::with(commit, lease, owner, wait_for_programs)
    }

    fn with(commit: Mapped, lease: Mapped, owner: Owner, wait_for_programs: fn()) -> Self {
        for (at, word) in [
            (PID, owner.pid.into()),
            (STARTED, owner.started),
            (BOOT, owner.boot),
            (PID_NAMESPACE, owner.pid_namespace),
        ] {
            lease.store(at, word);
        }
        let gate = Self(Arc::new(Shared {
            commit,
            lease,
            state: Mutex::new(GateState::default()),
            stopped: Condvar::new(),
            wait_for_programs,
        }));
        gate.0.lease.store(EXPIRES, (MonoNs::now() + LEASE).0);
        gate
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the word.
    ///
    /// # Errors
    /// [`Lapsed`] if the lease ran out since the last store: nothing is stored then.
    pub fn store(&self, word: Word) -> Result<Interval, Lapsed> {
        let mut state = self.lock();
        self.extend(self.check(&mut state, MonoNs::now()));
        if let Some(lapsed) = state.unreported {
            return Err(lapsed);
        }
        let begin = MonoNs::now();
        self.0.commit.store(0, word.0);
        Ok(Interval { begin, end: MonoNs::now() })
    }

    /// The word as it is now.
    pub fn word(&self) -> Word {
        Word(self.0.commit.load(0))
    }

    /// Takes note of a lapse, after which stores are possible again.
    pub fn acknowledge(&self) -> Option<Lapsed> {
        self.lock().unreported.take()
    }

    /// Checks the lease after a sign of life. If it lapsed, the live half of the word is emptied before
    /// anything can renew it.
    ///
    /// Why a process that is stopped anywhere between its sign of life, this check and [`Self::extend`] can't
    /// revive a lease that ran out meanwhile: the instant that is stored in the end was computed from one
    /// before the check.
    /// - Nothing is dropped later than [`LEASE`] after a sign of life that found the lease in force. A stop that is
    ///   longer than that stores an instant that is already past.
    /// - A stop that is shorter, but longer than what was left of the lease, stores an instant ahead. If a packet of a link
    ///   with a live slot was judged when the old lease had run out, its program has set the latch, which
    ///   outlives the store: everything passes until the next check. If none was, every verdict is as if the
    ///   store had been made at the sign of life, when the lease was in force.
    fn check(&self, state: &mut GateState, alive: MonoNs) -> Renewal {
        let expires = self.0.lease.load(EXPIRES);
        let latched = self.0.lease.load(LAPSED);
        if latched != 0 || alive.0 >= expires {
            let word = self.word();
            self.0.commit.store(0, Word::new(0, word.live() | word.watched()).0);
            if word.live() != 0 {
                // A program that still holds the old word would find a lease in force again, or set the latch again.
                (self.0.wait_for_programs)();
                let found = MonoNs(if latched == 0 { expires } else { latched });
                state.unreported.get_or_insert(Lapsed { expired: found });
            }
            self.0.lease.store(LAPSED, 0);
        }
        Renewal(alive + LEASE)
    }

    fn extend(&self, Renewal(until): Renewal) {
        self.0.lease.store(EXPIRES, until.0);
    }

    /// Renews the lease once; `Some` is a lapse that nobody has acknowledged yet. For the daemon's task alone: that it
    /// comes here is the sign of life.
    pub fn renew(&self) -> Option<Lapsed> {
        fault::here("lease/renew");
        let mut state = self.lock();
        self.extend(self.check(&mut state, MonoNs::now()));
        state.unreported
    }

    /// Checks whether the lease is in force, and renews nothing.
    fn check_lease(&self) -> Option<Lapsed> {
        fault::here("lease/look");
        let mut state = self.lock();
        self.check(&mut state, MonoNs::now());
        state.unreported
    }

    /// Starts the thread that watches the lease, and reports lapses.
    pub fn keep(
        &self,
        guard: Guard,
        mut on_lapse: impl FnMut(Lapsed) + Send + 'static,
    ) -> std::io::Result<LeaseWatcher> {
        let gate = self.clone();
        fault::at("load/lease")?;
        let thread = std::thread::Builder::new().name("lease".into()).spawn(move || {
            let _guard = guard;
            if let Err(error) = crate::rights::take_none() {
                tracing::error!(%error, "the lease thread keeps rights that it does not need");
            }
            let mut receiver = None;
            loop {
                let lapsed = gate.check_lease();
                if lapsed != receiver {
                    receiver = lapsed;
                    if let Some(lapsed) = lapsed {
                        on_lapse(lapsed);
                    }
                }
                let state = gate.lock();
                let (state, _) = gate
                    .0
                    .stopped
                    .wait_timeout_while(state, WATCH, |state| !state.stop)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.stop {
                    return;
                }
            }
        })?;
        Ok(LeaseWatcher { gate: self.clone(), thread: Some(thread) })
    }
}

/// The lease thread; dropping it ends it.
pub struct LeaseWatcher {
    gate: Gate,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LeaseWatcher {
    fn drop(&mut self) {
        self.gate.lock().stop = true;
        self.gate.0.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word and a lease in shared memory as in the maps, and what a program does with them.
    struct World {
        gate: Gate,
        /// Every verdict of a program while something was live.
        verdicts: Vec<(MonoNs, Verdict)>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Verdict {
        Pass,
        Drop,
    }

    /// When the story begins: the lease was just renewed.
    const BEGIN: MonoNs = MonoNs(1_000_000_000_000);

    fn memory(words: u64) -> Mapped {
        let file = rustix::fs::memfd_create("words", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, words * 8).unwrap();
        Mapped::new(&file, words as usize).unwrap()
    }

    impl World {
        fn new() -> Self {
            let owner = Owner { pid: 1, started: 1, boot: 1, pid_namespace: 1 };
            let gate = Gate::with(memory(1), memory(6), owner, || {});
            gate.0.lease.store(EXPIRES, (BEGIN + LEASE).0);
            gate.0.commit.store(0, Word::new(1, 0).0);
            Self { gate, verdicts: Vec::new() }
        }

        /// The steps of `lapsed` in the programs' verdict.
        fn judge(&mut self, now: MonoNs) {
            let lease = &self.gate.0.lease;
            if self.gate.word().live() == 0 {
                return;
            }
            let (expires, latched) = (lease.load(EXPIRES), lease.load(LAPSED));
            let verdict = if latched != 0 {
                Verdict::Pass
            } else if now.0 >= expires {
                lease.store(LAPSED, expires);
                Verdict::Pass
            } else {
                Verdict::Drop
            };
            self.verdicts.push((now, verdict));
        }

        fn check(&self, alive: MonoNs) -> Renewal {
            self.gate.check(&mut self.gate.lock(), alive)
        }
    }

    /// Every stop of some lengths, on either side of the check, with or without packets meanwhile.
    #[test]
    fn a_process_stopped_within_a_renewal_revives_nothing() {
        let ms = Duration::from_millis;
        let lengths = [0, 1, 399, 400, 1000, 1599, 1600, 1601, 1999, 2000, 2001, 5000];
        let mut revived = 0;
        for alive in [400, 1000, 1999, 2000, 3000].map(|at| BEGIN + ms(at)) {
            for (before, after) in lengths.iter().flat_map(|a| lengths.map(|b| (ms(*a), ms(b)))) {
                for packets in 0..8_u32 {
                    let mut world = World::new();
                    let looked = alive + before;
                    let stored = looked + after;
                    let was_in_force = alive < BEGIN + LEASE;
                    for (at, end) in [(0, BEGIN + ms(1)), (1, looked)] {
                        if packets & 1 << at != 0 {
                            world.judge(end);
                        }
                    }
                    let renewal = world.check(alive);
                    if packets & 1 << 2 != 0 {
                        world.judge(stored);
                    }
                    world.gate.extend(renewal);
                    // The process is stopped again, and for good.
                    for later in (0..6000).step_by(250) {
                        world.judge(stored + ms(later));
                    }
                    let story = format!(
                        "alive {alive:?}, looked {looked:?}, stored {stored:?}: {:?}",
                        world.verdicts
                    );
                    let last_drop = world.verdicts.iter().rposition(|(_, verdict)| *verdict == Verdict::Drop);
                    let first_pass = world.verdicts.iter().position(|(_, verdict)| *verdict == Verdict::Pass);
                    if let Some(last) = last_drop {
                        let life = if was_in_force { alive } else { BEGIN };
                        assert!(
                            world.verdicts[last].0 < life + LEASE,
                            "cuts without a sign of life: {story}"
                        );
                        assert!(first_pass.is_none_or(|first| last < first), "cuts again: {story}");
                        revived += u32::from(stored > BEGIN + LEASE && world.verdicts[last].0 > stored);
                    }
                    // The process continues, and reports from when on packets passed, or could have.
                    let live = world.gate.word().live();
                    world.gate.extend(world.check(stored + ms(7000)));
                    assert_eq!(world.gate.word().live(), 0, "{story}");
                    let lapsed = world.gate.acknowledge().expect("something was live");
                    if let (true, Some(first)) = (live != 0, first_pass) {
                        assert!(lapsed.expired <= world.verdicts[first].0, "{lapsed:?}: {story}");
                        assert!(
                            last_drop.is_none_or(|last| world.verdicts[last].0 < lapsed.expired),
                            "{story}"
                        );
                    }
                }
            }
        }
        assert!(revived > 0, "no stop was longer than the rest of the lease and shorter than a whole one");
    }

    #[test]
    fn the_thread_that_watches_the_lease_does_not_renew_it() {
        let world = World::new();
        // The lease is in force for a time that this test outlives.
        let until = MonoNs::now() + Duration::from_secs(1);
        world.gate.0.lease.store(EXPIRES, until.0);
        assert_eq!(world.gate.check_lease(), None);
        assert_eq!(world.gate.0.lease.load(EXPIRES), until.0);
        let (sender, receiver) = std::sync::mpsc::channel();
        let _keeper = world.gate.keep(Guard::default(), move |lapsed| sender.send(lapsed).unwrap()).unwrap();
        let lapsed = receiver.recv_timeout(LEASE * 5).unwrap();
        assert_eq!(lapsed, Lapsed { expired: until });
        assert_eq!(world.gate.word(), Word::new(0, 1), "nothing is live any more");
    }

    #[test]
    fn a_lapse_is_found_before_anything_is_stored_and_must_be_heard() {
        let world = World::new();
        // The clock of this host is far from the story's: its lease has run out, or runs forever.
        world.gate.0.lease.store(EXPIRES, MonoNs::now().0 - 1);
        let expired = world.gate.0.lease.load(EXPIRES);
        let lapsed = world.gate.store(Word::new(3, 0)).unwrap_err();
        assert_eq!(lapsed.expired.0, expired);
        assert_eq!(world.gate.word(), Word::new(0, 1));
        assert_eq!(world.gate.store(Word::new(3, 0)), Err(lapsed), "nobody has been notified yet");
        assert_eq!(world.gate.acknowledge(), Some(lapsed));
        world.gate.store(Word::new(2, 1)).unwrap();
        assert_eq!(world.gate.word(), Word::new(2, 1));
    }
}
