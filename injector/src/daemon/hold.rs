//! Commands that may cut, while they wait for what they need to know. They wait beside the daemon's task, so that heals
//! and the lease do not.

use std::time::Duration;

use super::held::HeldCommand;
use super::request::{Effective, ReturnedSink};
use super::state::State;
use super::verify::{self, Control};
use crate::server::command::Command;
use injector_core::api::PartitionState;
use injector_core::clock::MonoNs;

/// How long a command waits for a reading of the hooks. Where interfaces come and go by the dozen, the kernel holds up
/// whoever reads them for hundreds of milliseconds,
const PATIENCE: Duration = Duration::from_millis(700);
/// and a command waits less if they were read
const LESS: Duration = Duration::from_millis(60);
/// so short a time before it came.
const RECENT: Duration = Duration::from_secs(1);
/// How long before a start that was set ahead a command is carried out at the latest.
const LEAD: Duration = Duration::from_millis(100);

impl State {
    /// Keeps a command until what it needs to know is known, or has taken too long.
    pub(super) fn hold(&mut self, command: Effective, sink: &verify::Sink) {
        let control = self.control_of(&command, sink);
        let since = MonoNs::now();
        let until = if self.may_cut(&command) { self.patience(&command, since) } else { since };
        self.held.push(HeldCommand { command, control, since, until });
    }

    /// Asks for the hooks that have to be read for commands that wait.
    pub(super) fn ask_for_held(&mut self) {
        if let Some(youngest) = self.held.last() {
            self.interfaces.ask_for_hooks_since(youngest.since);
        }
    }

    /// Whether a command has waited for all that it needs.
    pub(super) fn is_any_held_ready(&self) -> bool {
        self.ready().is_some()
    }

    /// Carries out the command that is ready first, and no more: heals have their turns in between.
    pub(super) async fn release_held(&mut self, sink: &ReturnedSink) {
        let Some(at) = self.ready() else { return };
        let HeldCommand { command, control, since, .. } = self.held.remove(at);
        self.control = control.map(Control::ended);
        self.hooks_since = since;
        self.take_effect(command, sink).await;
        self.control = None;
    }

    fn ready(&self) -> Option<usize> {
        if self.held.is_empty() {
            return None;
        }
        let (now, known_since) = (MonoNs::now(), self.interfaces.hooks_known_since());
        self.held.iter().position(|held| {
            (held.since <= known_since || held.until <= now)
                && held.control.as_ref().is_none_or(|control| control.is_over(now))
        })
    }

    /// Until when a command that came at an instant waits for a reading of the hooks.
    fn patience(&self, command: &Effective, since: MonoNs) -> MonoNs {
        let is_recent =
            self.interfaces.were_hooks_read_since(MonoNs(since.0.saturating_sub(RECENT.as_nanos() as u64)));
        let until = since + if is_recent { LESS } else { PATIENCE };
        let start =
            self.start_of(command).map(|start| MonoNs(start.0.saturating_sub(LEAD.as_nanos() as u64)));
        start.map_or(until, |latest| latest.min(until))
    }

    /// When the cut of a command begins, if that was set ahead.
    fn start_of(&self, command: &Effective) -> Option<MonoNs> {
        let at = match command {
            Effective::Apply(wanted) => wanted.asked.request.at,
            Effective::Enable { name, request, .. } => {
                request.at.or_else(|| self.newest(name).ok()?.experiment.request.at)
            }
        };
        self.start(at?).ok()
    }

    /// Whether a command may cut; one that can't need not wait to be refused.
    fn may_cut(&self, command: &Effective) -> bool {
        match command {
            Effective::Apply(_) => true,
            Effective::Enable { name, .. } => {
                self.newest(name).is_ok_and(|partition| partition.life.state == PartitionState::Prepared)
            }
        }
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
