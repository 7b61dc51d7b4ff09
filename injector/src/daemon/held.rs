//! A command that may cut, while it waits for what it needs to know.

use super::request::Effective;
use super::ssh_sessions::PendingSessions;
use super::verify::Control;
use injector_core::clock::MonoNs;

/// A command that waits.
pub(super) struct HeldCommand {
    pub(super) command: Effective,
    /// The control of its cut, if the cut is to be verified.
    pub(super) control: Option<Control>,
    /// The SSH connections that it may cut; `None` if it cuts none whatever there is.
    pub(super) sessions: Option<PendingSessions>,
    /// When it came. Hooks are read after that: a program of others that is there before the command is sent is known
    /// when the command is carried out.
    pub(super) since: MonoNs,
    /// When it waits no longer for that,
    pub(super) until: MonoNs,
    /// and when it no longer waits for the listing of SSH connections.
    pub(super) sessions_until: MonoNs,
}
