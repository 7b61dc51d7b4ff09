//! The daemon's loop: all that its task waits for, and whose turn it is.

use std::collections::BTreeSet;
use std::time::Duration;

use injector_common::record::Wakeup;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::active_config::{Bootstrap, Incoming};
use super::answers::{self, Looked};
use super::attachment::InterfaceEvent;
use super::config_file::{self, Reading, Source};
use super::duty_cycle::DutyCycle;
use super::request::{Asked, Effective, Returned, ReturnedSink};
use super::sockets::{self, Found};
use super::start_error::{StartError, io};
use super::state::State;
use super::{verify, witness};
use crate::alarm::Alarms;
use crate::datapath::RENEWAL;
use crate::server::command::{Command, CommandReceiver};
use crate::turn;
use injector_core::clock::MonoNs;
use injector_core::sample::Sample;

/// All that the daemon's task receives.
pub(super) struct EventLoop {
    pub(super) signals: Signals,
    /// What has panicked that nobody waits for.
    pub(super) alarms: Alarms,
    pub(super) commands: CommandReceiver,
    pub(super) sockets_found: mpsc::UnboundedReceiver<Found>,
    pub(super) tell_sockets: sockets::Sink,
    pub(super) answers: mpsc::UnboundedReceiver<Looked>,
    pub(super) tell_answers: answers::Sink,
    pub(super) connections: mpsc::UnboundedReceiver<witness::Connections>,
    pub(super) tell_connections: witness::Sink,
    pub(super) checks: mpsc::UnboundedReceiver<verify::Report>,
    pub(super) tell_checks: verify::Sink,
    pub(super) resolved: mpsc::UnboundedReceiver<Returned>,
    pub(super) tell_resolved: ReturnedSink,
    /// What comes of the config that is in force,
    pub(super) incoming: Incoming,
    /// and what another one needs.
    pub(super) bootstrap: Bootstrap,
    pub(super) source: Source,
    pub(super) reading: Option<Reading>,
}

/// The signals that the daemon obeys.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// None of them has its default effect from now on.
    pub(super) fn heeded() -> Result<Self, StartError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(io("SIGTERM"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(io("SIGINT"))?,
            hangup: signal(SignalKind::hangup()).map_err(io("SIGHUP"))?,
        })
    }
}

/// Whose turn it is: a flood of news of interfaces must not keep commands waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Interfaces come before the rest: until it is attached again, an interface cuts nothing.
    Interfaces,
    /// One of the others, if one waits.
    Others,
}

impl EventLoop {
    /// Answers what comes, until the daemon is asked to end.
    pub(super) async fn serve(&mut self, state: &mut State) -> Result<(), StartError> {
        let mut next = Turn::Interfaces;
        let mut looks = DutyCycle::new();
        let mut tales = DutyCycle::new();
        let mut rung = BTreeSet::new();
        loop {
            let wake = begin_turn(state, &looks);
            next = tokio::select! {
                biased;
                _ = self.signals.terminate.recv() => return Ok(()),
                _ = self.signals.interrupt.recv() => return Ok(()),
                // A daemon that follows something no more must not continue; when it ends, traffic flows.
                Some(what) = self.alarms.recv() => return Err(StartError::Panicked { what }),
                Some(()) = self.signals.hangup.recv() => {
                    self.hang_up(state);
                    next
                }
                read = config_file::read(&mut self.reading) => {
                    self.take_config(state, read).await;
                    next
                }
                Some(lapse) = self.incoming.lapsed.recv() => {
                    state.lapsed(lapse);
                    next
                }
                Some(event) = self.incoming.interface_news.recv(), if next == Turn::Interfaces => {
                    self.interface(state, event).await;
                    Turn::Others
                }
                () = tokio::time::sleep_until(wake) => {
                    looks.spend(|| {
                        drain(state, &mut self.incoming.samples);
                        state.ask_for_sockets(&self.tell_sockets);
                        state.ask_for_connections(&self.tell_connections);
                        state.ask_for_checks(&self.tell_checks);
                        state.watch_hooks();
                        state.tick();
                    });
                    state.release_held(&self.tell_resolved).await;
                    Turn::Interfaces
                }
                Some(command) = self.commands.recv() => {
                    drain(state, &mut self.incoming.samples);
                    self.take_command(state, command).await;
                    Turn::Interfaces
                }
                wakeups = self.incoming.wakeups.next() => {
                    let wakeups = wakeups.map_err(io("the ring of wake-ups"))?;
                    let of_slots = wakeups.iter().filter(|wakeup| !of_local_peers(**wakeup));
                    rung.extend(of_slots.map(|wakeup| wakeup.generation).filter(|generation| *generation != 0));
                    state.wake_local(wakeups.iter().filter(|wakeup| of_local_peers(**wakeup)));
                    if wakeups.iter().any(|wakeup| wakeup.slot == Wakeup::TAKEN_OVER) {
                        state.take_over();
                    }
                    Turn::Interfaces
                }
                () = tokio::time::sleep_until(tales.rested()), if !rung.is_empty() => {
                    tales.spend(|| {
                        // One a turn: reading the stamps of many links takes its time.
                        if let Some(generation) = rung.pop_first() {
                            state.announce_firsts(generation);
                        }
                    });
                    Turn::Interfaces
                }
                Some(returned) = self.resolved.recv() => {
                    drain(state, &mut self.incoming.samples);
                    if let Some(wanted) = state.returned(returned, &self.tell_resolved) {
                        self.take_effect(state, Effective::Apply(Box::new(wanted))).await;
                    }
                    Turn::Interfaces
                }
                Some(looked) = self.answers.recv() => {
                    state.looked(looked);
                    Turn::Interfaces
                }
                Some(report) = self.checks.recv() => {
                    state.checked(report);
                    state.release_held(&self.tell_resolved).await;
                    Turn::Interfaces
                }
                Some(found) = self.connections.recv() => {
                    state.connections(found);
                    Turn::Interfaces
                }
                Some(found) = self.sockets_found.recv() => {
                    state.sockets(&found);
                    Turn::Interfaces
                }
                Some(sample) = self.incoming.samples.recv() => {
                    take_samples(state, sample, &mut self.incoming.samples);
                    Turn::Interfaces
                }
                () = std::future::ready(()), if next == Turn::Others => Turn::Interfaces,
                () = tokio::time::sleep(RENEWAL) => next,
            }
        }
    }

    /// Carries out a command, or hands it out to come back by this loop.
    async fn take_command(&self, state: &mut State, command: Command) {
        let sent_at = self.commands.sent_at();
        match command {
            Command::ProbeOnce(reply) => state.probe_once(&self.tell_answers, reply),
            Command::Apply { name, request, step, from, whose, is_gone, reply } => {
                let asked = Asked { name, request, step, from, whose, is_gone, reply, sent_at };
                state.resolve(asked, &self.tell_resolved);
            }
            Command::Enable { name, at, reply } => {
                self.take_effect(state, Effective::Enable { name, at, reply, sent_at }).await;
            }
            command => state.command(command, sent_at).await,
        }
    }

    /// Carries out what may cut, after the control of its cut if it wants one.
    async fn take_effect(&self, state: &mut State, command: Effective) {
        if let Some(command) = state.hold(command, &self.tell_checks) {
            state.take_effect(command, &self.tell_resolved).await;
        }
        state.release_held(&self.tell_resolved).await;
    }

    /// Takes in news of an interface; probes whose thread ended with the old namespace are started again.
    async fn interface(&self, state: &mut State, event: InterfaceEvent) {
        let restarts = state.interface(event).await;
        if restarts.has_moved {
            self.incoming.probing.place(&state.config);
        }
        for netns in restarts.reborn {
            let State { config, interfaces, .. } = &mut *state;
            if let Err(error) =
                self.incoming.probing.start(config, Some(&netns), &mut interfaces.workers).await
            {
                tracing::error!(%error, %netns, "its probes could not be started again");
            }
        }
    }
}

/// Renews the lease, and answers when to look next.
fn begin_turn(state: &mut State, looks: &DutyCycle) -> Instant {
    // The sign of life that the lease is for: whatever keeps the loop from coming here ends every cut.
    if let Some(lapsed) = state.kernel.gate().renew() {
        state.lapsed(lapsed);
    }
    turn::begin();
    next_look(state, looks)
}

/// When to look next: counted from the last look, since samples come more often than looks; and when the kernel next
/// starts or ends something by itself.
fn next_look(state: &State, looks: &DutyCycle) -> Instant {
    let idle = if state.is_busy() { TICK } else { Duration::from_secs(1) };
    let regular = looks.rested().max(looks.ended() + idle);
    let instant = state.next_instant().map(|at| Instant::now() + at.saturating_since(MonoNs::now()));
    instant.map_or(regular, |instant| instant.min(regular))
}

fn take_samples(state: &mut State, first: Sample, more: &mut mpsc::UnboundedReceiver<Sample>) {
    state.sample(first);
    drain(state, more);
}

/// Whether programs say something of peers on this machine.
fn of_local_peers(wakeup: Wakeup) -> bool {
    [Wakeup::BOUND, Wakeup::MULTIPATH].contains(&wakeup.slot)
}

/// A verdict may only be given on all samples that are there.
pub(super) fn drain(state: &mut State, samples: &mut mpsc::UnboundedReceiver<Sample>) {
    while let Ok(sample) = samples.try_recv() {
        state.sample(sample);
    }
}

/// How often open partitions are judged.
const TICK: Duration = Duration::from_millis(50);
