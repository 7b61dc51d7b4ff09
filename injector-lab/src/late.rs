//! How late a busy machine is.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs something, and measures how late this machine was meanwhile: by how much a thread that sleeps again and again
/// overslept at worst. What the machine delays may take so much longer.
pub fn late_during<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    const PAUSE: Duration = Duration::from_millis(2);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where it panics: the scope waits for the sleeper.
        let end = EndOnDrop(&is_over);
        let sleeper = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(PAUSE);
                worst = worst.max(begun.elapsed().saturating_sub(PAUSE));
            }
            worst
        });
        let value = run();
        drop(end);
        (value, sleeper.join().expect("it only sleeps"))
    })
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a test that fails where the machine is so late. If it was, the test is run again, up to three times: a fault of what is tested
/// fails each of them.
///
/// # Panics
/// It fails where the machine was not so late, or in each attempt.
pub fn in_time(late_for_it: Duration, test: impl Fn()) {
    const ATTEMPTS: usize = 3;
    for attempt in 1.. {
        let (ended, late) = late_during(|| catch_unwind(AssertUnwindSafe(&test)));
        match ended {
            Ok(()) => return,
            Err(panic) if late < late_for_it || attempt == ATTEMPTS => resume_unwind(panic),
            Err(_) => eprintln!("attempt {attempt} failed on a machine that was {late:?} late"),
        }
    }
}

/// Whether a warning of the injector says that hooks were not read in time, as a busy machine may have it; other reasons why
/// they could not be read are no excuse.
pub fn is_late_reading(text: &str) -> bool {
    text.contains("could not be read: the namespace has not answered in time")
        || text.contains("could not be read: the namespace does not answer")
}
