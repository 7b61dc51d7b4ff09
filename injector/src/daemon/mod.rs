//! The daemon: one task owns all state, over a closed set of commands and events.

mod closing;
pub mod command;
mod cut;
mod heal;
mod interfaces;
mod judge;
mod partition;
pub mod ready;
mod rules;
mod samples;
mod sockets;
mod state;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::api::server::{self, ApiSocket, SocketError};
use crate::api::types::ProbeView;
use crate::clock::MonoNs;
use crate::config::{Config, Netns};
use crate::datapath::{Clocks, DatapathError, Kernel};
use crate::model::PeerId;
use crate::netns::{NetnsError, Workers};
use crate::probe::schedule::{self, Rate};
use crate::probe::{self, EndpointId, Sample};
use command::Command;
use interfaces::Interfaces;
use ready::Ready;
use state::State;

/// How often open partitions are judged.
const TICK: Duration = Duration::from_millis(50);
/// How many commands may wait.
const COMMANDS: usize = 256;

/// What the command line adds to the config.
pub struct StartOptions {
    /// Whom to tell when the API answers.
    pub ready: Ready,
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
        "interfaces: auto found none of the peers' addresses, neither in this network namespace nor in those under /run/netns, nor a neighbour, bridge port or route that leads to one; check the peers' addresses, start the peers first, or name the interfaces in the config"
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
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

/// Runs the daemon until SIGTERM or SIGINT; everything is healed and removed when it returns.
pub async fn run(config: Config, options: StartOptions) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(io("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io("SIGHUP"))?;
    // Before anything is attached: a second daemon on the same socket must not touch a single interface.
    let socket = ApiSocket::bind(&config.socket)?;
    let mut kernel = Kernel::load(&config, Clocks::Real)?;
    let (news, mut interface_news) = mpsc::unbounded_channel();
    let mut interfaces = Interfaces::start(&config, &mut kernel, news).await?;
    let mut bells = kernel.bells()?;
    kernel.start_log()?;

    let (tell_lapse, mut lapsed) = mpsc::unbounded_channel();
    let keeper = kernel
        .gate()
        .keep(move |lapse| {
            let _ = tell_lapse.send(lapse);
        })
        .map_err(io("the lease thread"))?;
    let (rate, rates) = watch::channel(Rate::Idle);
    let (sink, mut samples) = mpsc::unbounded_channel();
    start_probes(&config, None, &mut interfaces.workers, &rates, &sink)?;
    let (handle, mut commands) = mpsc::channel(COMMANDS);
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let api = tokio::spawn(server::serve(socket, handle, async {
        let _ = api_stopped.await;
    }));
    options.ready.tell().map_err(io("telling that the daemon is ready"))?;
    tracing::info!(
        socket = %config.socket.path.display(),
        interfaces = interfaces.attached(),
        peers = config.peers.len(),
        "ready"
    );

    let (tell_sockets, mut sockets_found) = mpsc::unbounded_channel();
    let mut state = State::new(config, kernel, interfaces, rate);
    let mut last_look = Instant::now();
    loop {
        // From the last look, not from now: samples come more often than ticks.
        let wake = last_look + next_wake(&state, last_look);
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = hangup.recv() => tracing::warn!(
                "SIGHUP: a running daemon does not read its config again; stop it and start it with the new one"
            ),
            Some(lapse) = lapsed.recv() => state.lapsed(lapse),
            // Before the rest: until it is attached again, an interface cuts nothing.
            Some(event) = interface_news.recv() => {
                for netns in state.interface(event).await {
                    // Its probes ended with the old namespace's thread.
                    let State { config, interfaces, .. } = &mut state;
                    if let Err(error) = start_probes(config, Some(&netns), &mut interfaces.workers, &rates, &sink) {
                        tracing::error!(%error, %netns, "its probes could not be started again");
                    }
                }
            }
            () = tokio::time::sleep_until(wake) => {
                drain(&mut state, &mut samples);
                state.ask_for_sockets(&tell_sockets);
                state.tick();
                last_look = Instant::now();
            }
            Some(command) = commands.recv() => {
                drain(&mut state, &mut samples);
                match command {
                    Command::ProbeOnce(reply) => probe_once(&mut state, reply),
                    command => state.command(command).await,
                }
            }
            rung = bells.next() => match rung {
                Ok(rung) => {
                    let generations: std::collections::BTreeSet<u32> =
                        rung.iter().map(|bell| bell.generation).filter(|generation| *generation != 0).collect();
                    for generation in generations {
                        state.tell_firsts(generation);
                    }
                }
                Err(error) => return Err(StartError::Io { what: "the ring of bells", source: error }),
            },
            Some(found) = sockets_found.recv() => state.sockets(&found),
            Some(sample) = samples.recv() => take_samples(&mut state, sample, &mut samples),
        }
    }
    tracing::info!("stopping: healing and detaching");
    let _ = ready::systemd(ready::State::Stopping);
    drain(&mut state, &mut samples);
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
    drop(keeper);
    Ok(())
}

/// How long after the last look the next one is due.
fn next_wake(state: &State, last_look: Instant) -> Duration {
    let idle = if state.is_busy() { TICK } else { Duration::from_secs(1) };
    let instant = state.next_instant().map(|at| {
        let ahead = at.saturating_since(MonoNs::now());
        last_look.elapsed() + ahead
    });
    instant.map_or(idle, |instant| instant.min(idle))
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

/// Starts the probes of one namespace, or of all.
fn start_probes(
    config: &Config,
    only: Option<&Netns>,
    workers: &mut Workers,
    rates: &watch::Receiver<Rate>,
    sink: &mpsc::UnboundedSender<Sample>,
) -> Result<(), StartError> {
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        if only.is_some() && endpoint.netns.as_ref() != only {
            continue;
        }
        let worker = workers.of(endpoint.netns.as_ref())?;
        let peer = peer_name(config, endpoint.peer);
        let (endpoint, rates, sink) = (endpoint.clone(), rates.clone(), sink.clone());
        worker.spawn(move || schedule::run(EndpointId(index), endpoint, peer, rates, sink))?;
    }
    Ok(())
}

fn peer_name(config: &Config, peer: Option<PeerId>) -> Option<String> {
    peer.map(|peer| config.names.name(peer).to_owned())
}

/// Runs every endpoint once, each in its own namespace, and answers when all have.
fn probe_once(state: &mut State, reply: command::Reply<Vec<ProbeView>>) {
    let (sink, mut results) = mpsc::unbounded_channel::<(String, Sample)>();
    for (index, endpoint) in state.config.endpoints.iter().enumerate() {
        let Ok(worker) = state.interfaces.workers.of(endpoint.netns.as_ref()) else { continue };
        let peer = peer_name(&state.config, endpoint.peer);
        let (endpoint, sink) = (endpoint.clone(), sink.clone());
        let _ = worker.spawn(move || async move {
            let sample = probe::once(EndpointId(index), &endpoint, peer.as_deref()).await;
            let _ = sink.send((endpoint.name, sample));
        });
    }
    drop(sink);
    tokio::spawn(async move {
        let mut views = Vec::new();
        while let Some((endpoint, sample)) = results.recv().await {
            views.push(ProbeView {
                endpoint,
                scheduled_ns: sample.scheduled,
                done_ns: sample.done,
                error: sample.error,
            });
        }
        views.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        let _ = reply.send(views);
    });
}
