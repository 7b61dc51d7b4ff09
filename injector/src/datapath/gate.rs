//! The commit word and the lease: the only two things that are written while packets fly.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use injector_common::Word;

use super::mapped::Mapped;
use super::owner::Owner;
use crate::clock::MonoNs;

/// How long the programs go on cutting without a sign of life.
pub const LEASE: Duration = Duration::from_secs(2);
/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_millis(400);

const EXPIRES: usize = 0;
const LAPSED: usize = 1;
const PID: usize = 2;
const STARTED: usize = 3;
const BOOT: usize = 4;
const PID_NAMESPACE: usize = 5;

/// The lease ran out: the word was emptied, and nothing that was live comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease ran out at {expired:?}: every partition was healed then")]
pub struct Lapsed {
    /// From when the programs passed everything.
    pub expired: MonoNs,
}

/// The word and its lease, shared by the daemon's one task and the lease thread.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    commit: Mapped,
    lease: Mapped,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    /// A lapse that the daemon's task has not heard of yet: until then it may not store.
    unheard: Option<Lapsed>,
    stop: bool,
}

/// The interval around one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Before it.
    pub begin: MonoNs,
    /// After it: no verdict that begins later is by the old word.
    pub end: MonoNs,
}

impl Gate {
    pub(super) fn new(commit: Mapped, lease: Mapped, owner: Owner) -> Self {
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
            state: Mutex::new(State::default()),
            stopped: Condvar::new(),
        }));
        gate.0.lease.store(EXPIRES, (MonoNs::now() + LEASE).0);
        gate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the word.
    ///
    /// # Errors
    /// [`Lapsed`] if the lease ran out since the last store: nothing is stored then.
    pub fn store(&self, word: Word) -> Result<Interval, Lapsed> {
        let mut state = self.lock();
        if let Some(lapsed) = self.check(&mut state) {
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
        self.lock().unheard.take()
    }

    /// Finds a lapse and empties the live half of the word before anything can renew the lease.
    fn check(&self, state: &mut State) -> Option<Lapsed> {
        let expired = MonoNs(self.0.lease.load(EXPIRES));
        if self.0.lease.load(LAPSED) != 0 || MonoNs::now() >= expired {
            let word = self.word();
            self.0.commit.store(0, Word::new(0, word.live() | word.watched()).0);
            self.0.lease.store(LAPSED, 0);
            if word.live() != 0 {
                // A program that was held up itself may latch a lapse of a lease that was renewed meanwhile.
                state.unheard.get_or_insert(Lapsed { expired: expired.min(MonoNs::now()) });
            }
            self.0.lease.store(EXPIRES, (MonoNs::now() + LEASE).0);
        }
        state.unheard
    }

    /// Renews the lease once; `Some` is a lapse.
    fn renew(&self) -> Option<Lapsed> {
        let mut state = self.lock();
        let before = MonoNs(self.0.lease.load(EXPIRES));
        let lapsed = self.check(&mut state);
        self.0.lease.store(EXPIRES, (MonoNs::now() + LEASE).0);
        // The process may have been stopped between the check and the renewal.
        if lapsed.is_none() && MonoNs::now() >= before && self.word().live() != 0 {
            let word = self.word();
            self.0.commit.store(0, Word::new(0, word.live() | word.watched()).0);
            state.unheard.get_or_insert(Lapsed { expired: before });
        }
        state.unheard
    }

    /// Starts the thread that renews the lease, and tells of lapses.
    pub fn keep(&self, mut on_lapse: impl FnMut(Lapsed) + Send + 'static) -> std::io::Result<Keeper> {
        let gate = self.clone();
        let thread = std::thread::Builder::new().name("lease".into()).spawn(move || {
            if let Err(error) = crate::rights::take_none() {
                tracing::error!(%error, "the lease thread keeps rights that it does not need");
            }
            let mut told = None;
            loop {
                let lapsed = gate.renew();
                if lapsed != told {
                    told = lapsed;
                    if let Some(lapsed) = lapsed {
                        on_lapse(lapsed);
                    }
                }
                let state = gate.lock();
                let (state, _) = gate
                    .0
                    .stopped
                    .wait_timeout_while(state, RENEWAL, |state| !state.stop)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.stop {
                    return;
                }
            }
        })?;
        Ok(Keeper { gate: self.clone(), thread: Some(thread) })
    }
}

/// The lease thread; dropping it ends it.
pub struct Keeper {
    gate: Gate,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.gate.lock().stop = true;
        self.gate.0.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
