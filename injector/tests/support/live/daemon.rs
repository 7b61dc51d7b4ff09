//! The built daemon as a process, and a client of it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use injector_client::{Client, ClientError};
use injector_core::api::{
    AttachmentView, Healed, PartitionRequest, PartitionView, Problem, RecoveryRecord, StartAt, Status,
    Warning,
};
use injector_core::clock::{MonoNs, Span};
use injector_core::model::{NamedLink, Shape};
use injector_lab::{Launch, NotStarted, PATIENCE};
use tokio::runtime::Runtime;

/// The name of the config in a daemon's folder.
const CONFIG: &str = "lab.yaml";

/// A running daemon with a client of it; terminated when dropped.
pub struct Daemon {
    // The connection ends before the daemon.
    line: Mutex<Line>,
    process: injector_lab::Daemon,
    folder: tempfile::TempDir,
}

/// The runtime comes second: it must outlive the connection.
struct Line {
    client: Client,
    runtime: Runtime,
}

impl Line {
    fn open(socket: &Path) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(Client::connect(socket)).unwrap();
        Self { client, runtime }
    }
}

impl Deref for Daemon {
    type Target = injector_lab::Daemon;

    fn deref(&self) -> &Self::Target {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.process
    }
}

impl Daemon {
    /// Starts one with a config that lacks only its socket, and waits until it answers.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, |_| {})
    }

    /// The same with a change to its command.
    pub fn start_with(config: &str, change: impl FnOnce(&mut Command)) -> Self {
        match Self::launch(config, change) {
            Ok(daemon) => daemon,
            Err((status, log)) => panic!("the daemon ended with {status}:\n{log}"),
        }
    }

    /// The same; how it ended and what it said, if it did not start.
    pub fn try_start(config: &str) -> Result<Self, (ExitStatus, String)> {
        Self::launch(config, |_| {})
    }

    fn launch(config: &str, change: impl FnOnce(&mut Command)) -> Result<Self, (ExitStatus, String)> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/api.sock");
        let mut launch = launch(folder.path(), socket, config);
        change(launch.command());
        let process = match launch.start() {
            Ok(process) => process,
            Err(NotStarted::Ended { status, log }) => return Err((status, log)),
            Err(error) => panic!("{error}"),
        };
        Ok(Self { line: Mutex::new(Line::open(process.socket())), process, folder })
    }

    /// Ends it, and starts it again with the config and the socket that it has now.
    pub fn restart(&mut self) {
        self.terminate();
        let (folder, socket) = (self.folder.path(), self.socket().to_owned());
        let launch =
            Launch::new(env!("CARGO_BIN_EXE_injector"), &folder.join(CONFIG), socket, folder.join("log"));
        self.process = launch.start().unwrap();
        self.line = Mutex::new(Line::open(self.process.socket()));
    }

    /// Its folder, for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes another config over its own; the socket stays.
    pub fn rewrite(&self, config: &str) {
        write_config(self.folder.path(), self.socket(), config);
    }

    /// Runs a second daemon with a config of its own on the same socket, to its end.
    pub fn rival(&self, config: &str) -> (ExitStatus, String) {
        let folder = tempfile::tempdir().unwrap();
        launch(folder.path(), self.socket().to_owned(), config).run_to_end()
    }

    fn call<T>(
        &self,
        job: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut line = self.line.lock().unwrap();
        let Line { client, runtime } = &mut *line;
        runtime.block_on(job(client))
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> Status {
        self.call(async |client| client.status().await).unwrap()
    }

    /// Cuts; the refusal if it is one.
    pub fn try_apply(&self, name: &str, request: &PartitionRequest) -> Result<PartitionView, Problem> {
        refusal(self.call(async |client| client.apply(name, request).await))
    }

    /// What [`Self::try_apply`] would cut or be refused; nothing changes.
    pub fn dry_run(&self, name: &str, request: &PartitionRequest) -> Result<PartitionView, Problem> {
        refusal(self.call(async |client| client.dry_run(name, request).await))
    }

    /// Cuts.
    pub fn apply(&self, name: &str, request: &PartitionRequest) -> PartitionView {
        self.try_apply(name, request).unwrap()
    }

    /// `GET /v1/partitions/{name}`.
    pub fn partition(&self, name: &str) -> PartitionView {
        self.call(async |client| client.partition(name).await).unwrap()
    }

    /// Heals.
    pub fn heal(&self, name: &str) -> Healed {
        self.call(async |client| client.heal(name).await).unwrap()
    }

    /// The record as it is now.
    pub fn record_now(&self, name: &str) -> RecoveryRecord {
        self.call(async |client| client.recovery(name, None, Duration::ZERO).await).unwrap()
    }

    /// The final record.
    pub fn record(&self, name: &str) -> RecoveryRecord {
        let record = self.call(async |client| client.recovery(name, None, PATIENCE).await).unwrap();
        assert!(record.is_final, "{record:#?}");
        record
    }

    /// Waits until every endpoint is healthy.
    pub fn wait_healthy(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let endpoints = self.status().endpoints;
            if endpoints.iter().all(|endpoint| endpoint.healthy == Some(true)) {
                return;
            }
            assert!(Instant::now() < end, "not healthy: {endpoints:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs the command line against it.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.process.cli().run(arguments.iter().copied())
    }
}

/// The daemon's refusal; any other failure ends the test.
fn refusal(answer: Result<PartitionView, ClientError>) -> Result<PartitionView, Problem> {
    match answer {
        Ok(view) => Ok(view),
        Err(ClientError::Problem(problem)) => Err(problem),
        Err(error) => panic!("{error}"),
    }
}

/// How a daemon starts with a config that lacks only its socket.
fn launch(folder: &Path, socket: PathBuf, config: &str) -> Launch {
    let file = write_config(folder, &socket, config);
    Launch::new(env!("CARGO_BIN_EXE_injector"), &file, socket, folder.join("log"))
}

fn write_config(folder: &Path, socket: &Path, config: &str) -> PathBuf {
    let file = folder.join(CONFIG);
    let text = format!("socket: {{ path: {}, group: root, mode: \"0600\" }}\n{config}", socket.display());
    std::fs::write(&file, text).unwrap();
    file
}

/// A runtime for one client.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Each interface with its namespace and hook. `why` is left out, since it also says how old a late reading is.
pub fn attached(status: &Status) -> Vec<(String, Option<String>, Option<String>)> {
    let shown = |view: &AttachmentView| (view.interface.clone(), view.netns.clone(), view.hook.clone());
    status.attachments.iter().map(shown).collect()
}

/// The warnings of a view or a record, but not that hooks were not read in time.
pub fn warnings(all: &[Warning]) -> Vec<&Warning> {
    all.iter().filter(|warning| !injector_lab::is_late_reading(&warning.text)).collect()
}

/// A request that isolates one peer, for a while.
pub fn isolate(peer: &str, life: Duration) -> PartitionRequest {
    PartitionRequest { for_: Some(Span(life)), ..PartitionRequest::new(Shape::Isolate(vec![peer.into()])) }
}

/// A request for directed links.
pub fn links(links: &[(&str, &str)], life: Duration) -> PartitionRequest {
    let named = |(src, dst): &(&str, &str)| NamedLink { src: (*src).into(), dst: (*dst).into() };
    let shape = Shape::Links(links.iter().map(named).collect());
    PartitionRequest { for_: Some(Span(life)), ..PartitionRequest::new(shape) }
}

/// A start ahead of now.
pub fn ahead(span: Duration) -> (MonoNs, Option<StartAt>) {
    let at = MonoNs::now() + span;
    (at, Some(StartAt::MonoNs(at)))
}
