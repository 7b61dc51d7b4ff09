//! The daemon: one task owns all state, over a closed set of commands and events.

mod active_config;
mod admit;
mod answers;
pub mod attachment;
mod closing;
pub mod config_file;
mod cut;
mod duty_cycle;
mod event_loop;
mod evidence;
mod heal;
mod held;
mod hold;
mod judge;
mod link_limit;
pub mod log;
mod metrics;
mod own_ssh;
mod partition;
mod probe_list;
pub mod ready;
mod reload;
mod request;
mod resolve;
mod rules;
mod samples;
mod sockets;
mod ssh_ports;
mod ssh_sessions;
mod start_error;
mod state;
mod strangers;
mod verify;
mod views;
mod waiter;
mod witness;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::alarm::{Alarm, Alarms};
use crate::datapath::{command_line, filters_that_may_stay};
use crate::descriptors;
use crate::fault;
use crate::server::command::Handle;
use crate::server::{self, ApiSocket, MetricsListener};
use crate::turn;
use active_config::{ActiveConfig, Bootstrap, Incoming};
use config_file::{Prepared, Source};
use event_loop::{EventLoop, Signals, drain};
use log::Log;
use ready::Ready;
use ssh_ports::ssh_ports;
use start_error::io;
use state::State;

pub use start_error::StartError;

/// How many commands may wait.
const COMMANDS: usize = 256;

/// The options that the command line adds to the config.
pub struct StartOptions {
    /// The processes to notify when the API answers.
    pub ready: Ready,
    /// Where SIGHUP reads the config again.
    pub source: Source,
    /// Where the log goes; to show what it lost.
    pub log: Log,
}

/// Runs the daemon until SIGTERM or SIGINT; everything is healed and removed when it returns.
pub async fn run(prepared: Prepared, options: StartOptions) -> Result<(), StartError> {
    let config = &prepared.config;
    // The signal's default would end the daemon where the log reaches the limit of a file's size.
    let _size_limit = signal(SignalKind::from_raw(libc::SIGXFSZ)).map_err(io("SIGXFSZ"))?;
    let signals = Signals::heeded()?;
    // The socket is made before anything is attached: a second daemon on the same socket must not touch a
    // single interface.
    fault::at("start/socket").map_err(io("the socket"))?;
    let socket = ApiSocket::bind(&config.socket)?;
    let metrics = config.metrics.map(MetricsListener::bind).transpose()?;
    fault::here("start/bound");
    descriptors::raise(config)?;
    let (alarm, mut alarms) = Alarm::channel();
    // Before this process gives up rights.
    let ssh_ports = ssh_ports();
    let bootstrap = Bootstrap::prepare(config, alarm)?;
    options.source.try_out();
    let (active, incoming) = ActiveConfig::start(prepared, &bootstrap).await?;
    let mut state = State::new(active, options.log, ssh_ports);
    let life = Life {
        signals,
        socket,
        metrics,
        ready: options.ready,
        source: options.source,
        bootstrap,
        incoming,
        alarms: &mut alarms,
    };
    let ended = serve(&mut state, life).await;
    // This is done after an error too: filters on a clsact qdisc stay there when the process ends.
    fault::here("stop/detach");
    state.detach().await;
    let filters_left: Vec<String> = filters_that_may_stay().await.into_iter().collect();
    fault::here("stop/end");
    if !filters_left.is_empty() {
        let left = StartError::FiltersLeft { interfaces: partition::shortened(&filters_left) };
        if ended.is_ok() {
            return Err(left);
        }
        tracing::error!("{left}");
    }
    ended?;
    match alarms.try_recv() {
        Ok(what) => Err(StartError::PanickedAtStop { what }),
        Err(_) => Ok(()),
    }
}

/// The parts that a daemon whose programs are attached needs to serve.
struct Life<'a> {
    signals: Signals,
    socket: ApiSocket,
    metrics: Option<MetricsListener>,
    ready: Ready,
    source: Source,
    bootstrap: Bootstrap,
    incoming: Incoming,
    alarms: &'a mut Alarms,
}

/// Answers until the daemon is asked to end; everything is healed when it returns, and nobody is answered any more.
async fn serve(state: &mut State, life: Life<'_>) -> Result<(), StartError> {
    let Life { signals, socket, metrics, ready, source, mut bootstrap, incoming, alarms } = life;
    bootstrap.drop_start_rights().await?;
    fault::here("start/settled");
    let (handle, commands) = Handle::channel(COMMANDS);
    let metrics = metrics.map(|listener| listener.serve(handle.clone())).transpose();
    let metrics = metrics.map_err(io("the metrics' thread"))?;
    let api = ApiTask::start(socket, handle, &bootstrap);
    note_other_injectors(state, &bootstrap, &ready).await;
    report_ready(state, ready)?;

    let mut event_loop = EventLoop::new(signals, alarms, commands, incoming, bootstrap, source);
    let served = turn::bounded(Box::pin(event_loop.serve(state))).await;
    let EventLoop { commands, mut incoming, .. } = event_loop;
    tracing::info!("stopping: healing and detaching");
    let _ = ready::systemd(ready::ServiceState::Stopping);
    fault::here("stop/heal");
    drain(state, &mut incoming.samples);
    state.stop();
    fault::here("stop/api");
    let ApiTask { stop, served: api } = api;
    let _ = stop.send(());
    drop(metrics);
    // The server answers "stopping" at once to commands that still wait there.
    drop(commands);
    // Readers of final records get their answers; the server bounds how long it waits for them.
    match api.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the API ended badly"),
        Err(error) => tracing::warn!(%error, "the API ended badly"),
    }
    served
}

/// The API's server, in a task of its own.
struct ApiTask {
    /// Asks it to end.
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl ApiTask {
    /// Starts it. If it fails, the daemon ends.
    fn start(socket: ApiSocket, handle: Handle, bootstrap: &Bootstrap) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut guard = bootstrap.alarm.guard("the API's server");
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let served = server::serve(socket, handle, stopped).await;
            if served.is_err() {
                // Nobody could heal any more.
                guard.raise();
            }
            served
        });
        fault::here("start/api");
        Self { stop, served }
    }
}

/// Notes other injectors on the hooks of our interfaces. TCX takes both of them, without a word.
async fn note_other_injectors(state: &mut State, bootstrap: &Bootstrap, ready: &Ready) {
    if bootstrap.other_injectors.is_empty() {
        return;
    }
    for (pid, interfaces) in state.interfaces.beside(&bootstrap.other_injectors).await {
        let interfaces: Vec<String> = interfaces.into_iter().collect();
        let note = format!(
            "another injector, with pid {pid} ({}), is on the hooks of {} too: each cuts by itself, and neither heals or records \
             what the other one cuts; end one of them, or give each its own interfaces",
            command_line(pid),
            partition::shortened(&interfaces)
        );
        tracing::warn!("{note}");
        ready.note(&note);
    }
}

/// Notifies who has started the daemon, and the log.
fn report_ready(state: &State, ready: Ready) -> Result<(), StartError> {
    fault::at("start/ready")
        .and_then(|()| ready.report())
        .map_err(io("notifying that the daemon is ready"))?;
    tracing::info!(
        socket = %state.config.socket.path.display(),
        interfaces = state.interfaces.attached(),
        peers = state.config.peers.len(),
        metrics = state.config.metrics.map(tracing::field::display),
        "ready"
    );
    Ok(())
}
