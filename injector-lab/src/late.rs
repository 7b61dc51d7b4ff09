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
        is_over.store(true, Ordering::Relaxed);
        (value, sleeper.join().expect("it only sleeps"))
    })
}

/// Runs a test of times. Where it fails and the machine was late meanwhile, it is run again, up to ten times: a fault of what is
/// tested fails each of them.
///
/// # Panics
/// It fails where the machine was not late, or in each attempt.
pub fn in_time(test: impl Fn()) {
    const ATTEMPTS: usize = 10;
    // Preempted for a few milliseconds is late for a grid of ten.
    const LATE: Duration = Duration::from_millis(3);
    for attempt in 1.. {
        let (ended, late) = late_during(|| catch_unwind(AssertUnwindSafe(&test)));
        match ended {
            Ok(()) => return,
            Err(panic) if late < LATE || attempt == ATTEMPTS => resume_unwind(panic),
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
