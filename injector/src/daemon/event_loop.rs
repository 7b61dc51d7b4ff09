//! The daemon's loop: all that its task waits for, and whose turn it is.

use std::collections::BTreeSet;
use std::time::Duration;

use injector_common::record::Wakeup;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::active_config::{Bootstrap, Incoming};
use super::answers::{self, ProbeAnswers};
use super::attachment::InterfaceEvent;
use super::config_file::{self, Read, Reading, Source};
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
use injector_core::ledger::Lapsed;
use injector_core::sample::Sample;

/// All that the daemon's task receives.
pub(super) struct EventLoop<'a> {
    pub(super) signals: Signals,
    /// The names of panicked tasks that nobody waits for.
    pub(super) alarms: &'a mut Alarms,
    pub(super) commands: CommandReceiver,
    pub(super) sockets_found: mpsc::UnboundedReceiver<Found>,
    pub(super) sockets_sink: sockets::Sink,
    pub(super) answers: mpsc::UnboundedReceiver<ProbeAnswers>,
    pub(super) answers_sink: answers::Sink,
    pub(super) connections: mpsc::UnboundedReceiver<witness::Connections>,
    pub(super) connections_sink: witness::Sink,
    pub(super) checks: mpsc::UnboundedReceiver<verify::Report>,
    pub(super) checks_sink: verify::Sink,
    pub(super) resolved: mpsc::UnboundedReceiver<Returned>,
    pub(super) resolved_sink: ReturnedSink,
    /// The incoming events of the config that is in force,
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

/// Which kind of event is served next: a flood of interface news must not keep commands waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Interfaces come before the rest: until it is attached again, an interface cuts nothing.
    Interfaces,
    /// A command that has waited comes before the rest.
    Held,
    /// Any other event, if one waits.
    Others,
}

/// An event that woke the daemon's task.
enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// A task that nobody waits for has panicked.
    Panicked(String),
    /// SIGHUP.
    HangUp,
    /// The file of the config was read, or was not in time.
    ConfigRead(Read),
    /// The lease ran out.
    Lapsed(Lapsed),
    /// An interface appeared, changed or went.
    Interface(InterfaceEvent),
    /// The hooks of a namespace were read.
    HooksFound(InterfaceEvent),
    /// Open partitions have to be judged.
    JudgingDue,
    /// A command has waited for what it needs, or for long enough.
    Ready,
    /// The API's server wants something.
    Command(Box<Command>),
    /// The programs have put wake-ups into their ring.
    Wakeups(std::io::Result<Vec<Wakeup>>),
    /// The first stamps of a partition have to be announced.
    FirstsDue,
    /// A request's selectors are resolved.
    Resolved(Returned),
    /// Every endpoint was asked once.
    Answered(ProbeAnswers),
    /// A cut's control packets have arrived, or not.
    Checked(verify::Report),
    /// The connections of peers were read.
    Connections(witness::Connections),
    /// The sockets of peers were read.
    Sockets(Found),
    /// A probe has its result.
    Sample(Sample),
    /// Only events of interfaces, or commands that have waited, are there for the next turn.
    Nothing,
    /// The lease is to be renewed.
    RenewalDue,
}

impl Event {
    /// The turn after this event.
    fn next_turn(&self, now: Turn) -> Turn {
        match self {
            Self::Interface(_) => Turn::Held,
            Self::Ready => Turn::Others,
            // Events that come before commands must not hand their turn on: where each of an interface's
            // events takes longer than the time to the next judging round, no command would ever have a turn.
            Self::HangUp
            | Self::ConfigRead(_)
            | Self::Lapsed(_)
            | Self::HooksFound(_)
            | Self::JudgingDue
            | Self::RenewalDue => now,
            _ => Turn::Interfaces,
        }
    }
}

/// Work that recurs and grows with the number of links.
struct Recurring {
    /// Judging open partitions.
    judging: DutyCycle,
    /// Announcing first stamps,
    announcing: DutyCycle,
    /// of these generations.
    stamped: BTreeSet<u32>,
}

impl<'a> EventLoop<'a> {
    /// A loop on these channels, with channels of its own for the threads that it asks.
    pub(super) fn new(
        signals: Signals,
        alarms: &'a mut Alarms,
        commands: CommandReceiver,
        incoming: Incoming,
        bootstrap: Bootstrap,
        source: Source,
    ) -> Self {
        let (sockets_sink, sockets_found) = mpsc::unbounded_channel();
        let (answers_sink, answers) = mpsc::unbounded_channel();
        let (connections_sink, connections) = mpsc::unbounded_channel();
        let (checks_sink, checks) = mpsc::unbounded_channel();
        let (resolved_sink, resolved) = mpsc::unbounded_channel();
        Self {
            signals,
            alarms,
            commands,
            sockets_found,
            sockets_sink,
            answers,
            answers_sink,
            connections,
            connections_sink,
            checks,
            checks_sink,
            resolved,
            resolved_sink,
            incoming,
            bootstrap,
            source,
            reading: None,
        }
    }

    /// Answers what comes, until the daemon is asked to end.
    pub(super) async fn serve(&mut self, state: &mut State) -> Result<(), StartError> {
        let mut turn = Turn::Interfaces;
        let (judging, announcing) = (DutyCycle::new(), DutyCycle::new());
        let mut recurring = Recurring { judging, announcing, stamped: BTreeSet::new() };
        loop {
            let wake = begin_turn(state, &recurring.judging);
            state.ask_for_held();
            let ready = state.next_ready().map(|at| Instant::now() + at.saturating_since(MonoNs::now()));
            let event = self.next_event(turn, wake, ready, &recurring).await;
            turn = event.next_turn(turn);
            match event {
                Event::Stop => return Ok(()),
                // A daemon that follows something no more must not continue; when it ends, traffic flows.
                Event::Panicked(what) => return Err(StartError::Panicked { what }),
                event => self.handle(state, event, &mut recurring).await?,
            }
        }
    }

    /// Waits for the next event. Of those that wait already, the first in this order comes first.
    async fn next_event(
        &mut self,
        turn: Turn,
        wake: Instant,
        ready: Option<Instant>,
        recurring: &Recurring,
    ) -> Event {
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => Event::Stop,
            _ = self.signals.interrupt.recv() => Event::Stop,
            Some(what) = self.alarms.recv() => Event::Panicked(what),
            Some(()) = self.signals.hangup.recv() => Event::HangUp,
            read = config_file::read(&mut self.reading) => Event::ConfigRead(read),
            Some(lapse) = self.incoming.lapsed.recv() => Event::Lapsed(lapse),
            Some(event) = self.incoming.hooks_found.recv() => Event::HooksFound(event),
            Some(event) = self.incoming.interface_news.recv(), if turn == Turn::Interfaces => {
                Event::Interface(event)
            }
            () = tokio::time::sleep_until(wake) => Event::JudgingDue,
            () = tokio::time::sleep_until(ready.unwrap_or(wake)), if ready.is_some() && turn != Turn::Others => {
                Event::Ready
            }
            Some(command) = self.commands.recv() => Event::Command(Box::new(command)),
            wakeups = self.incoming.wakeups.next() => Event::Wakeups(wakeups),
            () = tokio::time::sleep_until(recurring.announcing.rested()), if !recurring.stamped.is_empty() => {
                Event::FirstsDue
            }
            Some(returned) = self.resolved.recv() => Event::Resolved(returned),
            Some(looked) = self.answers.recv() => Event::Answered(looked),
            Some(report) = self.checks.recv() => Event::Checked(report),
            Some(found) = self.connections.recv() => Event::Connections(found),
            Some(found) = self.sockets_found.recv() => Event::Sockets(found),
            Some(sample) = self.incoming.samples.recv() => Event::Sample(sample),
            () = std::future::ready(()), if turn != Turn::Interfaces => Event::Nothing,
            () = tokio::time::sleep(RENEWAL) => Event::RenewalDue,
        }
    }

    /// Handles an event that does not end the loop.
    async fn handle(
        &mut self,
        state: &mut State,
        event: Event,
        recurring: &mut Recurring,
    ) -> Result<(), StartError> {
        match event {
            Event::HangUp => self.hang_up(state),
            Event::ConfigRead(read) => self.take_config(state, read).await,
            Event::Lapsed(lapse) => state.lapsed(lapse),
            Event::Interface(event) => self.interface(state, event).await,
            Event::HooksFound(event) => {
                self.interface(state, event).await;
                // There is one for each of very many namespaces.
                let begun = Instant::now();
                while begun.elapsed() < READINGS
                    && let Ok(event) = self.incoming.hooks_found.try_recv()
                {
                    self.interface(state, event).await;
                }
            }
            Event::JudgingDue => recurring.judging.spend(|| self.judge_and_watch(state)),
            Event::Ready => {
                drain(state, &mut self.incoming.samples);
                state.release_held(&self.resolved_sink).await;
            }
            Event::Command(command) => {
                drain(state, &mut self.incoming.samples);
                self.take_command(state, *command).await;
            }
            Event::Wakeups(wakeups) => {
                let wakeups = wakeups.map_err(io("the ring of wake-ups"))?;
                take_wakeups(state, &wakeups, &mut recurring.stamped);
            }
            Event::FirstsDue => recurring.announcing.spend(|| {
                // One partition a turn: reading the stamps of many links takes its time.
                if let Some(generation) = recurring.stamped.pop_first() {
                    state.announce_firsts(generation);
                }
            }),
            Event::Resolved(returned) => {
                if let Some(wanted) = state.returned(returned, &self.resolved_sink) {
                    state.hold(Effective::Apply(Box::new(wanted)), &self.checks_sink);
                }
            }
            Event::Answered(found) => state.take_answers(found),
            Event::Checked(report) => state.checked(report),
            Event::Connections(found) => state.connections(found),
            Event::Sockets(found) => state.sockets(&found),
            Event::Sample(sample) => take_samples(state, sample, &mut self.incoming.samples),
            Event::Stop | Event::Panicked(_) | Event::Nothing | Event::RenewalDue => {}
        }
        Ok(())
    }

    /// Asks for what open partitions are judged by, watches for other programs on the hooks, and judges.
    fn judge_and_watch(&mut self, state: &mut State) {
        drain(state, &mut self.incoming.samples);
        state.ask_for_sockets(&self.sockets_sink);
        state.ask_for_connections(&self.connections_sink);
        state.ask_for_checks(&self.checks_sink);
        state.watch_hooks();
        state.tick();
    }

    /// Carries out a command, or hands it out to come back by this loop.
    async fn take_command(&self, state: &mut State, command: Command) {
        let sent_at = self.commands.sent_at();
        match command {
            Command::ProbeOnce(reply) => state.probe_once(&self.answers_sink, reply),
            Command::Apply { name, request, step, from, whose, is_gone, reply } => {
                let asked = Asked { name, request, step, from, whose, is_gone, reply, sent_at };
                state.resolve(asked, &self.resolved_sink);
            }
            Command::Enable { name, request, whose, is_gone, reply } => {
                let command = Effective::Enable { name, request, whose, is_gone, reply, sent_at };
                state.hold(command, &self.checks_sink);
            }
            command => state.command(command, sent_at).await,
        }
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

/// Renews the lease, and returns when to judge next.
fn begin_turn(state: &mut State, looks: &DutyCycle) -> Instant {
    // The sign of life that the lease is for: whatever keeps the loop from coming here ends every cut.
    if let Some(lapsed) = state.kernel.gate().renew() {
        state.lapsed(lapsed);
    }
    turn::begin();
    next_check(state, looks)
}

/// When to judge next: counted from the last judging round, since samples come more often than rounds; and
/// when the kernel next starts or ends something by itself.
fn next_check(state: &State, looks: &DutyCycle) -> Instant {
    let idle = if state.is_busy() { TICK } else { Duration::from_secs(1) };
    let regular = looks.rested().max(looks.ended() + idle);
    let instant = state.next_instant().map(|at| Instant::now() + at.saturating_since(MonoNs::now()));
    instant.map_or(regular, |instant| instant.min(regular))
}

fn take_samples(state: &mut State, first: Sample, more: &mut mpsc::UnboundedReceiver<Sample>) {
    state.sample(first);
    drain(state, more);
}

/// Takes in wake-ups; generations with new stamps are noted, to be announced.
fn take_wakeups(state: &mut State, wakeups: &[Wakeup], stamped: &mut BTreeSet<u32>) {
    let of_slots = wakeups.iter().filter(|wakeup| !of_local_peers(**wakeup));
    stamped.extend(of_slots.map(|wakeup| wakeup.generation).filter(|generation| *generation != 0));
    state.wake_local(wakeups.iter().filter(|wakeup| of_local_peers(**wakeup)));
    if wakeups.iter().any(|wakeup| wakeup.slot == Wakeup::TAKEN_OVER) {
        state.take_over();
    }
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

/// How long a turn takes in readings of hooks.
const READINGS: Duration = Duration::from_millis(5);
/// How often open partitions are judged.
const TICK: Duration = Duration::from_millis(50);
