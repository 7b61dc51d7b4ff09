//! One pinned thread per network namespace: it enters once, and does that namespace's attaching, netlink and
//! probing ever after. No thread ever enters a second namespace.
//!
//! A thread inside a namespace keeps it alive. So when a namespace's file goes, its thread is stopped, and a
//! namespace that is made again under the same name gets a new thread. All threads are started by one supervisor
//! thread, and enter in one function: these alone need `CAP_SYS_ADMIN` after the start.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::pin::Pin;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::{mpsc, oneshot};

use crate::config::Netns;

/// Why a namespace's thread can't serve.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no such namespace.
    #[error("network namespace {name}: {} can't be opened: {source}; see `ip netns list`", path.display())]
    Open {
        /// As configured.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// It can't be entered.
    #[error("network namespace {name} can't be entered: {source}; the daemon needs CAP_SYS_ADMIN")]
    Enter {
        /// As configured.
        name: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Its thread can't be started, or has ended.
    #[error("the thread of network namespace {name} has ended")]
    Gone {
        /// As configured.
        name: String,
    },
}

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// What a thread is told.
enum Order {
    Run(Job),
    Stop,
}

/// Which namespace a file stands for: its device and inode. Another one under the same name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(file: &std::fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }

    /// The namespace that a name stands for now; `None` if there is no such file. A file that is no namespace
    /// (`ip netns add` makes the file before it mounts the namespace over it) is not told apart here: it can't be
    /// entered.
    pub fn now(netns: Option<&Netns>) -> Option<Self> {
        let path = netns.map_or_else(|| PathBuf::from("/proc/self/ns/net"), Netns::path);
        Some(Self::of(&std::fs::metadata(path).ok()?))
    }
}

/// A thread inside a network namespace.
#[derive(Clone)]
pub struct Worker {
    name: String,
    identity: Identity,
    jobs: mpsc::UnboundedSender<Order>,
}

impl Worker {
    fn start(netns: Option<&Netns>) -> Result<Self, NetnsError> {
        let name = shown(netns);
        let path = netns.map_or_else(|| PathBuf::from("/proc/self/ns/net"), Netns::path);
        let open = |path: &PathBuf| {
            let file = File::open(path)?;
            let identity = Identity::of(&file.metadata()?);
            Ok((file, identity))
        };
        let (file, identity) =
            open(&path).map_err(|source| NetnsError::Open { name: name.clone(), path, source })?;
        let file = netns.is_some().then_some(file);
        let (jobs, mut queue) = mpsc::unbounded_channel::<Order>();
        let (entered, result) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name(format!("netns {name}").chars().take(15).collect())
            .spawn(move || {
                let enter = file.map_or(Ok(()), |file| enter(&file));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match (enter, runtime) {
                    (Ok(()), Ok(runtime)) => runtime,
                    (Err(error), _) | (_, Err(error)) => return drop(entered.send(Err(error))),
                };
                let _ = entered.send(Ok(()));
                // Jobs may hold sockets of this namespace: they run, and end, on this thread.
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    while let Some(Order::Run(job)) = queue.recv().await {
                        tokio::task::spawn_local(job());
                    }
                });
            })
            .map_err(|_| NetnsError::Gone { name: name.clone() })?;
        match result.recv() {
            Ok(Ok(())) => Ok(Self { name, identity, jobs }),
            Ok(Err(source)) => Err(NetnsError::Enter { name, source }),
            Err(_) => Err(NetnsError::Gone { name }),
        }
    }

    /// The namespace that the thread is in.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Ends the thread and everything that runs on it, and so its hold on the namespace.
    pub fn stop(&self) {
        // A thread that has ended needs no order.
        let _ = self.jobs.send(Order::Stop);
    }

    /// Runs a future on the thread; it is made there, so it need not be `Send`.
    pub fn spawn<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.jobs
            .send(Order::Run(Box::new(move || Box::pin(job()))))
            .map_err(|_| NetnsError::Gone { name: self.name.clone() })
    }

    /// Runs a future on the thread and waits for its result.
    pub async fn run<T, F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (reply, result) = oneshot::channel();
        self.spawn(move || async move {
            let _ = reply.send(job().await);
        })?;
        result.await.map_err(|_| NetnsError::Gone { name: self.name.clone() })
    }
}

/// Enters a namespace: the one place that does, on a thread that never leaves it again.
fn enter(file: &File) -> std::io::Result<()> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into)
}

/// A namespace's name for people.
fn shown(netns: Option<&Netns>) -> String {
    netns.map_or_else(|| "the daemon's own".to_owned(), ToString::to_string)
}

/// What the supervisor thread is asked: a namespace, and where the answer goes.
type Wanted = (Option<Netns>, std::sync::mpsc::Sender<Result<Worker, NetnsError>>);

/// The threads, by namespace.
#[derive(Default)]
pub struct Workers {
    by_name: HashMap<Option<Netns>, Worker>,
    /// Starts the threads: they inherit the rights to enter from it. Started with the first of them.
    supervisor: Option<std::sync::mpsc::Sender<Wanted>>,
}

impl Workers {
    /// The thread of a namespace, started on first use.
    pub fn of(&mut self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        if let Some(worker) = self.by_name.get(&netns.cloned()) {
            return Ok(worker.clone());
        }
        let worker = self.start(netns)?;
        self.by_name.insert(netns.cloned(), worker.clone());
        Ok(worker)
    }

    fn start(&mut self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        let gone = |_| NetnsError::Gone { name: shown(netns) };
        let supervisor = match &self.supervisor {
            Some(supervisor) => supervisor,
            None => self.supervisor.insert(supervise().map_err(|_| NetnsError::Gone { name: shown(netns) })?),
        };
        let (reply, answer) = std::sync::mpsc::channel();
        supervisor.send((netns.cloned(), reply)).map_err(|_| NetnsError::Gone { name: shown(netns) })?;
        answer.recv().map_err(gone)?
    }

    /// Every thread.
    pub fn all(&self) -> impl Iterator<Item = &Worker> {
        self.by_name.values()
    }

    /// The namespaces that have a thread.
    pub fn names(&self) -> Vec<Option<Netns>> {
        self.by_name.keys().cloned().collect()
    }

    /// The namespace that a name's thread is in, if it has one.
    pub fn identity(&self, netns: Option<&Netns>) -> Option<Identity> {
        self.by_name.get(&netns.cloned()).map(Worker::identity)
    }

    /// Ends a namespace's thread, and forgets it.
    pub fn stop(&mut self, netns: Option<&Netns>) {
        if let Some(worker) = self.by_name.remove(&netns.cloned()) {
            worker.stop();
        }
    }
}

/// Starts the thread that starts the namespaces' threads; it ends with its last asker.
fn supervise() -> std::io::Result<std::sync::mpsc::Sender<Wanted>> {
    let (asker, wanted) = std::sync::mpsc::channel::<Wanted>();
    std::thread::Builder::new().name("netns".into()).spawn(move || {
        for (netns, reply) in wanted {
            // Nobody waits any more: the daemon is ending.
            let _ = reply.send(Worker::start(netns.as_ref()));
        }
    })?;
    Ok(asker)
}
