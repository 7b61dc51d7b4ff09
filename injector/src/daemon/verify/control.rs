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
    /// When nothing is waited for any more, unless it has arrived before.
    pub fn over_at(&self) -> MonoNs {
        if self.check.pending.is_none() { MonoNs(0) } else { self.until }
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
