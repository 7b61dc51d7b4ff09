//! The control of a cut that has not begun.

use super::check::Check;
use injector_core::clock::MonoNs;

/// A check whose control is under way.
pub struct Control {
    pub(super) check: Check,
    /// When its cut waits no longer for it.
    pub(super) until: MonoNs,
}

impl Control {
    /// Whether nothing is waited for any more.
    pub fn is_over(&self, now: MonoNs) -> bool {
        self.check.pending.is_none() || self.until <= now
    }

    /// Ends the control, and returns the check with what has arrived.
    pub fn ended(mut self) -> Check {
        self.check.stop();
        if let Some(pending) = self.check.pending.take() {
            self.check.count(&pending);
        }
        self.check
    }
}
