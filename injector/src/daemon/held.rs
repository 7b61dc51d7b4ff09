//! Commands that may cut, while they wait for what they need to know. They wait beside the daemon's task, so that heals
//! and the lease do not.

use std::time::Duration;

use super::request::{Effective, ReturnedSink};
use super::state::State;
use super::verify::{self, Control};
use crate::server::command::Command;
use injector_core::clock::MonoNs;

/// How long a command waits for a reading of the hooks. Where interfaces come and go by the dozen, the kernel holds up
/// whoever reads them for hundreds of milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(700);

/// A command that waits.
pub(super) struct HeldCommand {
    command: Effective,
    /// The control of its cut, if the cut is to be verified.
    pub(super) control: Option<Control>,
    /// When it came. What is on the hooks is read after that: a program of others that is there before the command is
    /// sent is known when it is carried out.
    since: MonoNs,
}

impl State {
    /// Keeps a command until what it needs to know is known, or has taken too long.
    pub(super) fn hold(&mut self, command: Effective, sink: &verify::Sink) {
        let control = self.control_of(&command, sink);
        self.held.push(HeldCommand { command, control, since: MonoNs::now() });
    }

    /// Whether a command has waited for all that it needs; asks for the hooks that have to be read again.
    pub(super) fn is_any_held_ready(&mut self) -> bool {
        if let Some(youngest) = self.held.last() {
            self.interfaces.ask_for_hooks_since(youngest.since);
        }
        self.ready().is_some()
    }

    /// Carries out the command that is ready first, and no more: heals have their turns in between.
    pub(super) async fn release_held(&mut self, sink: &ReturnedSink) {
        let Some(at) = self.ready() else { return };
        let HeldCommand { command, control, since } = self.held.remove(at);
        self.control = control.map(Control::ended);
        self.hooks_since = since;
        self.take_effect(command, sink).await;
        self.control = None;
    }

    fn ready(&self) -> Option<usize> {
        let now = MonoNs::now();
        self.held.iter().position(|held| {
            let is_known =
                now.saturating_since(held.since) >= PATIENCE || !self.interfaces.awaits_hooks(held.since);
            is_known && held.control.as_ref().is_none_or(|control| control.is_over(now))
        })
    }

    async fn take_effect(&mut self, command: Effective, sink: &ReturnedSink) {
        match command {
            // Its links are of a config that is no longer in force.
            Effective::Apply(wanted) if wanted.config_number != self.config_number => {
                self.control = None;
                self.resolve(wanted.asked, sink);
            }
            Effective::Apply(wanted) => self.apply(*wanted).await,
            Effective::Enable { name, request, whose, is_gone, reply, sent_at } => {
                self.command(Command::Enable { name, request, whose, is_gone, reply }, sent_at).await;
            }
        }
    }
}
