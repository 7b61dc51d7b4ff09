//! The built daemon as a process, and a client of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use injector_client::{Client, ClientError};
use injector_core::api::{Healed, PartitionRequest, PartitionView, Problem, RecoveryRecord, StartAt, Status};
use injector_core::clock::{MonoNs, Span};
use injector_core::model::{NamedLink, Shape};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

/// How long anything of the daemon may take before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running daemon; stopped when dropped.
pub struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
    line: Mutex<Line>,
}

/// The runtime comes second: it must outlive the connection.
struct Line {
    client: Client,
    runtime: Runtime,
}

impl Daemon {
    /// Starts one with a config that lacks only its socket, and waits until it answers.
    pub fn start(config: &str) -> Self {
        match Self::try_start(config) {
            Ok(daemon) => daemon,
            Err((status, log)) => panic!("the daemon ended with {status}:\n{log}"),
        }
    }

    /// The same; how it ended and what it said, if it did not start.
    pub fn try_start(config: &str) -> Result<Self, (ExitStatus, String)> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/api.sock");
        write_config(folder.path(), &socket, config);
        let mut child = spawn(folder.path(), "log");
        let runtime = runtime();
        let end = Instant::now() + PATIENCE;
        let client = loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Err((status, read(&folder.path().join("log"))));
            }
            let answer = runtime.block_on(async {
                let mut client = Client::connect(&socket).await?;
                client.status().await?;
                Ok::<_, ClientError>(client)
            });
            match answer {
                Ok(client) => break client,
                Err(error) if Instant::now() > end => {
                    let _ = child.kill();
                    panic!("the daemon does not answer: {error}\n{}", read(&folder.path().join("log")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(Self { child, folder, line: Mutex::new(Line { client, runtime }) })
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/api.sock")
    }

    /// Its folder, for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes another config over its own; the socket stays.
    pub fn rewrite(&self, config: &str) {
        write_config(self.folder.path(), &self.socket(), config);
    }

    /// Runs a second daemon with a config of its own on the same socket, to its end.
    pub fn rival(&self, config: &str) -> (ExitStatus, String) {
        let folder = tempfile::tempdir().unwrap();
        write_config(folder.path(), &self.socket(), config);
        let mut child = spawn(folder.path(), "log");
        let status = wait(&mut child).expect("a second daemon must not go on");
        (status, read(&folder.path().join("log")))
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
        match self.call(async |client| client.apply(name, request).await) {
            Ok(view) => Ok(view),
            Err(ClientError::Problem(problem)) => Err(problem),
            Err(error) => panic!("{name}: {error}"),
        }
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command.args(arguments).env_remove("INJECTOR_HOST").env("INJECTOR_SOCKET", self.socket());
        command.output().unwrap()
    }

    /// A raw request: the status and the body.
    pub fn raw(&self, method: &str, path: &str, body: &[u8]) -> (u16, serde_json::Value) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: injector\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body by its length need not read it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let _ = stream.shutdown(Shutdown::Both);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        if signal == Signal::STOP {
            // The call returns before every thread of it stands still.
            let stat = format!("/proc/{}/stat", self.child.id());
            let end = Instant::now() + PATIENCE;
            while !read(Path::new(&stat)).contains(") T ") {
                assert!(Instant::now() < end, "it does not stop");
                std::thread::yield_now();
            }
        }
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it by SIGTERM.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait(&mut self.child).expect("it does not end")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
            let _ = kill_process(pid, Signal::CONT);
            let _ = kill_process(pid, Signal::TERM);
            if wait(&mut self.child).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("The daemon's log:\n{}", self.log());
        }
    }
}

fn write_config(folder: &Path, socket: &Path, config: &str) {
    let text = format!("socket: {{ path: {}, group: root, mode: \"0600\" }}\n{config}", socket.display());
    std::fs::write(folder.join("lab.yaml"), text).unwrap();
}

fn spawn(folder: &Path, log: &str) -> Child {
    let log = File::create(folder.join(log)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["start", "--config"])
        .arg(folder.join("lab.yaml"))
        .env_remove("INJECTOR_SOCKET")
        .env_remove("INJECTOR_HOST")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A runtime for one client.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
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
