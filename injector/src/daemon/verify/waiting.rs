//! Commands that wait for the control of their cut.

use super::check::Check;
use crate::daemon::request::Effective;
use injector_core::clock::MonoNs;

/// A command that waits for the control of its cut.
pub struct WaitingCommand {
    pub(super) command: Effective,
    pub(super) control: Check,
    pub(super) until: MonoNs,
}
