//! How late a busy machine is.

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

/// Whether a warning of the injector says that hooks were not read in time, as a busy machine may have it; other reasons why
/// they could not be read are no excuse.
pub fn is_late_reading(text: &str) -> bool {
    text.contains("could not be read: the namespace has not answered in time")
        || text.contains("could not be read: the namespace does not answer")
}
