//! Commands that may cut, while they wait for what they need to know. They wait beside the daemon's task, so that heals
//! and the lease do not.

use std::time::Duration;

use super::held::HeldCommand;
use super::own_ssh;
use super::request::{Effective, ReturnedSink};
use super::ssh_sessions::{self, PendingSessions};
use super::state::State;
use super::verify::{self, Control};
use crate::server::command::Command;
use injector_core::api::{PartitionRequest, PartitionState};
use injector_core::clock::MonoNs;

/// How long before a start that was set ahead a command is carried out at the latest.
const LEAD: Duration = Duration::from_millis(100);
/// How often it is looked whether SSH connections are listed by now.
const LISTING: Duration = Duration::from_millis(5);

impl State {
    /// Keeps a command until what it needs to know is known, or has taken too long.
    pub(super) fn hold(&mut self, command: Effective, sink: &verify::Sink) {
        let control = self.control_of(&command, sink);
        let since = MonoNs::now();
        let latest = self.latest(&command, since);
        let until = (since + self.interfaces.patience_for_hooks(since)).min(latest);
        // Where the start leaves too little time, the cut is refused for that.
        let sessions_until = (since + ssh_sessions::PATIENCE).min(latest.max(since + LEAD));
        let may_cut_ssh = self.request_of(&command).is_some_and(own_ssh::may_cut_ssh);
        let sessions = may_cut_ssh.then(|| PendingSessions::begin(self.ssh_ports.clone()));
        self.held.push(HeldCommand { command, control, sessions, since, until, sessions_until });
    }

    /// Asks for the hooks that have to be read for commands that wait.
    pub(super) fn ask_for_held(&mut self) {
        if let Some(youngest) = self.held.last() {
            self.interfaces.ask_for_hooks_since(youngest.since);
        }
    }

    /// When the first command has waited for all that it needs, or for long enough; `None` if none waits.
    pub(super) fn next_ready(&self) -> Option<MonoNs> {
        self.ready(MonoNs::now()).map(|(instant, _)| instant)
    }

    /// Carries out the command that is ready first, and no more: heals have their turns in between.
    pub(super) async fn release_held(&mut self, sink: &ReturnedSink) {
        let now = MonoNs::now();
        let Some((_, at)) = self.ready(now).filter(|(instant, _)| *instant <= now) else { return };
        let HeldCommand { command, control, sessions, since, .. } = self.held.remove(at);
        self.control = control.map(Control::ended);
        self.sessions = sessions;
        self.hooks_since = since;
        self.take_effect(command, sink).await;
        self.control = None;
        self.sessions = None;
    }

    /// The command that is ready first, by its place, and when. Of those that are ready now it is the one that came first.
    fn ready(&self, now: MonoNs) -> Option<(MonoNs, usize)> {
        if self.held.is_empty() {
            return None;
        }
        let known_since = self.interfaces.hooks_known_since();
        let ready_at = |held: &HeldCommand| {
            let known_at = if held.since <= known_since { MonoNs(0) } else { held.until };
            let listed_at = match &held.sessions {
                Some(sessions) if !sessions.is_done() => held.sessions_until.min(now + LISTING),
                _ => MonoNs(0),
            };
            known_at.max(listed_at).max(held.control.as_ref().map_or(MonoNs(0), Control::over_at))
        };
        let instants = self.held.iter().map(|held| ready_at(held).max(now));
        instants.zip(0..).min()
    }

    /// The request of a command that may cut; `None` if it is bound to be refused.
    fn request_of<'a>(&'a self, command: &'a Effective) -> Option<&'a PartitionRequest> {
        match command {
            Effective::Apply(wanted) => Some(&wanted.asked.request),
            Effective::Enable { name, .. } => {
                let prepared = self
                    .newest(name)
                    .ok()
                    .filter(|partition| partition.life.state == PartitionState::Prepared);
                prepared.map(|partition| &partition.experiment.request)
            }
        }
    }

    /// Until when a command that came at an instant waits for hooks at most. What is bound to be refused does not wait.
    fn latest(&self, command: &Effective, since: MonoNs) -> MonoNs {
        let Some(asked) = self.request_of(command) else { return since };
        let at = match command {
            Effective::Apply(_) => asked.at,
            Effective::Enable { request, .. } => request.at.or(asked.at),
        };
        match at.map(|at| self.start(at)) {
            None => MonoNs(u64::MAX),
            Some(Ok(start)) => start - LEAD,
            Some(Err(_)) => since,
        }
    }

    async fn take_effect(&mut self, command: Effective, sink: &ReturnedSink) {
        match command {
            // Its links are of a config that is no longer in force.
            Effective::Apply(wanted) if wanted.config_number != self.config_number => {
                self.control = None;
                self.resolve(wanted.asked, sink);
            }
            Effective::Apply(wanted) => self.apply(*wanted),
            Effective::Enable { name, request, whose, is_gone, reply, sent_at } => {
                self.command(Command::Enable { name, request, whose, is_gone, reply }, sent_at).await;
            }
        }
    }
}
