//! Waits for running programs in the background: a slot that was freed may be written again once no program can still
//! hold a word with its bit.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::alarm::Guard;
use injector_core::plan::Age;

/// The thread that waits; dropping this ends it.
pub struct SlotAging {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<AgingState>,
    changed: Condvar,
}

#[derive(Default)]
struct AgingState {
    /// Counts the slots that were freed.
    asked: u64,
    /// A wait has begun after this one of them was freed, and is over.
    done: u64,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, AgingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotAging {
    /// Starts the thread, which keeps no rights.
    ///
    /// # Errors
    /// If there can't be one more thread.
    pub fn start(guard: Guard) -> std::io::Result<Self> {
        Self::with(guard, super::gate::wait_for_programs)
    }

    fn with(guard: Guard, mut wait: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("slot-aging".into()).spawn(move || {
            let _guard = guard;
            if let Err(error) = crate::rights::take_none() {
                tracing::error!(%error, "the slot-aging thread keeps rights that it does not need");
            }
            loop {
                let state = of_thread.lock();
                let state = of_thread
                    .changed
                    .wait_while(state, |state| !state.stop && state.asked == state.done)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.stop {
                    return;
                }
                // A slot that is freed from now on may be in a word that a program has read after the wait
                // began.
                let asked = state.asked;
                drop(state);
                crate::fault::here("slot-aging/wait");
                wait();
                of_thread.lock().done = asked;
                of_thread.changed.notify_all();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins to wait for a slot whose bit has just left the word.
    pub fn freed(&self) -> Age {
        let mut state = self.shared.lock();
        state.asked += 1;
        self.shared.changed.notify_all();
        Age(state.asked)
    }

    /// The last age that no running program can still see.
    pub fn aged(&self) -> Age {
        Age(self.shared.lock().done)
    }
}

impl Drop for SlotAging {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    impl SlotAging {
        fn wait(&self, age: Age) {
            let state = self.shared.lock();
            let (state, _) = self
                .shared
                .changed
                .wait_timeout_while(state, Duration::from_secs(20), |state| state.done < age.0)
                .unwrap();
            assert!(state.done >= age.0, "it never aged");
        }
    }

    #[test]
    fn what_is_freed_during_a_wait_takes_another_one() {
        let (begun, begins) = channel();
        let (end, ends) = channel::<()>();
        let aging = SlotAging::with(Guard::default(), move || {
            let _ = begun.send(());
            let _ = ends.recv();
        })
        .unwrap();
        assert_eq!(aging.aged(), Age(0));
        let first = aging.freed();
        begins.recv_timeout(Duration::from_secs(20)).unwrap();
        let second = aging.freed();
        assert!(aging.aged() < first);
        end.send(()).unwrap();
        aging.wait(first);
        begins.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(aging.aged() < second, "its program may still run");
        end.send(()).unwrap();
        aging.wait(second);
        drop(end);
    }

    #[test]
    fn a_slot_ages_by_the_kernels_barrier() {
        let aging = SlotAging::start(Guard::default()).unwrap();
        let age = aging.freed();
        aging.wait(age);
    }
}
