//! Faults on purpose: the steps of the daemon's life, named by [`at`] and [`here`], at each of which a test can strike.
//!
//! The program that users run arms nothing: `injector/examples/struck.rs` is the same program with a [`Striker`], for tests
//! alone. An optimised build does not even look whether there is one.

use std::io;
use std::sync::OnceLock;

/// What is done at each step.
pub struct Striker {
    /// At a step whose system call can fail: the error that represents its answer.
    pub at: fn(&'static str) -> io::Result<()>,
    /// At a step that can't fail: the process, or the thread, can only end there.
    pub here: fn(&'static str),
}

static STRIKER: OnceLock<Striker> = OnceLock::new();

/// Strikes from now on; the first striker stays.
pub fn arm(striker: Striker) {
    let _ = STRIKER.set(striker);
}

#[inline(always)]
fn striker() -> Option<&'static Striker> {
    if cfg!(debug_assertions) { STRIKER.get() } else { None }
}

/// A step whose system call can fail: the error that it is struck with, if it is.
#[inline(always)]
pub fn at(step: &'static str) -> io::Result<()> {
    striker().map_or(Ok(()), |striker| (striker.at)(step))
}

/// A step that can't fail: the process, or the thread, can only end there.
#[inline(always)]
pub fn here(step: &'static str) {
    if let Some(striker) = striker() {
        (striker.here)(step);
    }
}
