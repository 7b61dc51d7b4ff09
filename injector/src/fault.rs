//! Fault injection: [`at`] and [`here`] name the steps of the daemon's life. A test can inject a fault at
//! each.
//!
//! The program that users run arms nothing: `injector/examples/fault_injected.rs` is the same program with a
//! [`FaultInjector`], for tests alone. An optimised build does not even check whether there is one.

use std::io;
use std::sync::OnceLock;

/// The actions at each step.
pub struct FaultInjector {
    /// At a step whose system call can fail: the error that represents its answer.
    pub at: fn(&'static str) -> io::Result<()>,
    /// At a step that can't fail: the process, or the thread, can only end there.
    pub here: fn(&'static str),
}

static ARMED: OnceLock<FaultInjector> = OnceLock::new();

/// Injects faults from now on; the first injector stays.
pub fn arm(injector: FaultInjector) {
    let _ = ARMED.set(injector);
}

#[inline(always)]
fn armed() -> Option<&'static FaultInjector> {
    if cfg!(debug_assertions) { ARMED.get() } else { None }
}

/// A step whose system call can fail: the injected error, if there is one.
#[inline(always)]
pub fn at(step: &'static str) -> io::Result<()> {
    armed().map_or(Ok(()), |injector| (injector.at)(step))
}

/// A step that can't fail: the process, or the thread, can only end there.
#[inline(always)]
pub fn here(step: &'static str) {
    if let Some(injector) = armed() {
        (injector.here)(step);
    }
}
