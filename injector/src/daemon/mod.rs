//! The daemon: one task owns all state, over a closed set of commands and events.

mod active_config;
mod admit;
mod answers;
mod attachment;
mod closing;
mod cut;
mod duty_cycle;
mod heal;
mod judge;
pub mod log;
mod partition;
pub mod ready;
pub mod reload;
mod rules;
mod samples;
mod sockets;
mod state;
mod strangers;
mod verify;
mod witness;

use std::collections::BTreeSet;
use std::time::Duration;

use injector_common::record::Wakeup;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::datapath::{DatapathError, RENEWAL};
use crate::descriptors::{self, TooFew};
use crate::netns::NetnsError;
use crate::rights::RightsError;
use crate::server::command::Command;
use crate::server::{self, ApiSocket, SocketError};
use active_config::{ActiveConfig, Bootstrap, Incoming};
use answers::Looked;
use attachment::InterfaceEvent;
use duty_cycle::DutyCycle;
use injector_core::clock::MonoNs;
use injector_core::config::Config;
use injector_core::sample::Sample;
use log::Log;
use ready::Ready;
use reload::{Reading, Source};
use sockets::Found;
use state::State;

/// How often open partitions are judged.
const TICK: Duration = Duration::from_millis(50);
/// How many commands may wait.
const COMMANDS: usize = 256;

/// What the command line adds to the config.
pub struct StartOptions {
    /// Whom to tell when the API answers.
    pub ready: Ready,
    /// Where SIGHUP reads the config again.
    pub source: Source,
    /// Where the log goes; to show what it lost.
    pub log: Log,
}

/// Why the daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data plane refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// A namespace is not there.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// It may not open enough files.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The rights that are not needed can't be given up.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The socket can't be made, or not safely.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A thread, a signal handler or the API failed.
    #[error("{what}: {source}")]
    Io {
        /// What it was for.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `interfaces: auto` found nothing.
    #[error(
        "interfaces: auto found none of the peers' addresses, neither in this network namespace nor in those under /run/netns, nor a neighbour, bridge port or route that leads to one; check the peers' addresses, have the peers send something (one that runs and is silent is not found), or name the interfaces in the config"
    )]
    NothingFound,
    /// `interfaces: auto` found an address more than once.
    #[error(
        "interfaces: auto can't tell where a peer lives: {what}; remove the namespace that does not belong here, or name the interfaces in the config"
    )]
    Ambiguous {
        /// The address, its peer, and where it is.
        what: String,
    },
    /// A loopback device is named.
    #[error(
        "interface {interface}: peers that share a host can't be told apart on its loopback device yet; give each peer a network namespace of its own, and name its interface there"
    )]
    Loopback {
        /// The interface, with its namespace.
        interface: String,
    },
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

/// Runs the daemon until SIGTERM or SIGINT; everything is healed and removed when it returns.
pub async fn run(config: Config, options: StartOptions) -> Result<(), StartError> {
    // Its default would end the daemon where the log reaches the limit of a file's size.
    let _size_limit = signal(SignalKind::from_raw(libc::SIGXFSZ)).map_err(io("SIGXFSZ"))?;
    let terminate = signal(SignalKind::terminate()).map_err(io("SIGTERM"))?;
    let interrupt = signal(SignalKind::interrupt()).map_err(io("SIGINT"))?;
    let hangup = signal(SignalKind::hangup()).map_err(io("SIGHUP"))?;
    // Before anything is attached: a second daemon on the same socket must not touch a single interface.
    let socket = ApiSocket::bind(&config.socket)?;
    descriptors::raise(&config)?;
    let mut ground = Bootstrap::prepare(&config)?;
    options.source.try_out();
    let (load, heard) = ActiveConfig::start(config, &ground).await?;
    ground.settle()?;
    let mut state = State::new(load, options.log);
    let (handle, commands) = mpsc::channel(COMMANDS);
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let api = tokio::spawn(server::serve(socket, handle, async {
        let _ = api_stopped.await;
    }));
    options.ready.tell().map_err(io("telling that the daemon is ready"))?;
    tracing::info!(
        socket = %state.config.socket.path.display(),
        interfaces = state.interfaces.attached(),
        peers = state.config.peers.len(),
        "ready"
    );

    let (tell_sockets, sockets_found) = mpsc::unbounded_channel();
    let (tell_answers, answers) = mpsc::unbounded_channel();
    let (tell_connections, connections) = mpsc::unbounded_channel();
    let (tell_checks, checks) = mpsc::unbounded_channel();
    let mut inbox = EventLoop {
        terminate,
        interrupt,
        hangup,
        commands,
        sockets_found,
        tell_sockets,
        answers,
        tell_answers,
        connections,
        tell_connections,
        checks,
        tell_checks,
        heard,
        ground,
        source: options.source,
        reading: None,
    };
    inbox.serve(&mut state).await?;
    let EventLoop { commands, mut heard, .. } = inbox;
    tracing::info!("stopping: healing and detaching");
    let _ = ready::systemd(ready::State::Stopping);
    drain(&mut state, &mut heard.samples);
    state.stop();
    let _ = stop_api.send(());
    // What still waits there is answered "stopping" by the server, at once.
    drop(commands);
    // Readers of final records get their answers; the server bounds how long it waits for them.
    match api.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the API ended badly"),
        Err(error) => tracing::warn!(%error, "the API ended badly"),
    }
    state.detach().await;
    Ok(())
}

/// All that the daemon's task hears.
struct EventLoop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    commands: mpsc::Receiver<Command>,
    sockets_found: mpsc::UnboundedReceiver<Found>,
    tell_sockets: sockets::Sink,
    answers: mpsc::UnboundedReceiver<Looked>,
    tell_answers: answers::Sink,
    connections: mpsc::UnboundedReceiver<witness::Connections>,
    tell_connections: witness::Sink,
    checks: mpsc::UnboundedReceiver<verify::Report>,
    tell_checks: verify::Sink,
    /// What comes of the config that is in force,
    heard: Incoming,
    /// and what another one needs.
    ground: Bootstrap,
    source: Source,
    reading: Option<Reading>,
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
    /// Answers what comes, until the daemon is told to end.
    async fn serve(&mut self, state: &mut State) -> Result<(), StartError> {
        let mut turn = Turn::Interfaces;
        let mut looks = DutyCycle::new();
        let mut tales = DutyCycle::new();
        let mut rung = BTreeSet::new();
        loop {
            // The sign of life that the lease is for: whatever keeps this loop from coming here ends every cut.
            if let Some(lapsed) = state.kernel.gate().renew() {
                state.lapsed(lapsed);
            }
            let wake = next_look(state, &looks);
            turn = tokio::select! {
                biased;
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                Some(()) = self.hangup.recv() => {
                    self.hang_up(state);
                    turn
                }
                read = reload::read(&mut self.reading) => {
                    self.take_config(state, read).await;
                    turn
                }
                Some(lapse) = self.heard.lapsed.recv() => {
                    state.lapsed(lapse);
                    turn
                }
                Some(event) = self.heard.interface_news.recv(), if turn == Turn::Interfaces => {
                    self.interface(state, event).await;
                    Turn::Others
                }
                () = tokio::time::sleep_until(wake) => {
                    looks.spend(|| {
                        drain(state, &mut self.heard.samples);
                        state.ask_for_sockets(&self.tell_sockets);
                        state.ask_for_connections(&self.tell_connections);
                        state.ask_for_checks(&self.tell_checks);
                        state.watch_hooks();
                        state.tick();
                    });
                    state.release_held().await;
                    Turn::Interfaces
                }
                Some(command) = self.commands.recv() => {
                    drain(state, &mut self.heard.samples);
                    match command {
                        Command::ProbeOnce(reply) => state.probe_once(&self.tell_answers, reply),
                        command => {
                            if let Some(command) = state.hold(command, &self.tell_checks) {
                                state.command(command).await;
                            }
                            state.release_held().await;
                        }
                    }
                    Turn::Interfaces
                }
                wakeups = self.heard.wakeups.next() => {
                    let wakeups = wakeups.map_err(io("the ring of wake-ups"))?;
                    rung.extend(wakeups.iter().map(|wakeup| wakeup.generation).filter(|generation| *generation != 0));
                    if wakeups.iter().any(|wakeup| wakeup.slot == Wakeup::TAKEN_OVER) {
                        state.take_over();
                    }
                    Turn::Interfaces
                }
                () = tokio::time::sleep_until(tales.rested()), if !rung.is_empty() => {
                    tales.spend(|| {
                        for generation in std::mem::take(&mut rung) {
                            state.announce_firsts(generation);
                        }
                    });
                    Turn::Interfaces
                }
                Some(looked) = self.answers.recv() => {
                    state.looked(looked);
                    Turn::Interfaces
                }
                Some(report) = self.checks.recv() => {
                    state.checked(report);
                    state.release_held().await;
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
                Some(sample) = self.heard.samples.recv() => {
                    take_samples(state, sample, &mut self.heard.samples);
                    Turn::Interfaces
                }
                () = std::future::ready(()), if turn == Turn::Others => Turn::Interfaces,
                () = tokio::time::sleep(RENEWAL) => turn,
            }
        }
    }

    /// Takes in news of an interface; probes whose thread ended with the old namespace are started again.
    async fn interface(&self, state: &mut State, event: InterfaceEvent) {
        for netns in state.interface(event).await {
            let State { config, interfaces, .. } = &mut *state;
            if let Err(error) = self.heard.probing.start(config, Some(&netns), &mut interfaces.workers) {
                tracing::error!(%error, %netns, "its probes could not be started again");
            }
        }
    }
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

/// A verdict may only be given on all samples that are there.
fn drain(state: &mut State, samples: &mut mpsc::UnboundedReceiver<Sample>) {
    while let Ok(sample) = samples.try_recv() {
        state.sample(sample);
    }
}
