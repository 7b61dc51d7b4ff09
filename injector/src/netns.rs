//! One pinned thread per network namespace: it enters once, and does that namespace's attaching, netlink and
//! probing ever after. No thread ever enters a second namespace.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
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

/// A thread inside a network namespace.
#[derive(Clone)]
pub struct Worker {
    name: String,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Worker {
    fn start(netns: Option<&Netns>) -> Result<Self, NetnsError> {
        let name = netns.map_or_else(|| "the daemon's own".to_owned(), ToString::to_string);
        let file = match netns {
            None => None,
            Some(netns) => {
                let path = netns.path();
                Some(File::open(&path).map_err(|source| NetnsError::Open {
                    name: name.clone(),
                    path,
                    source,
                })?)
            }
        };
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let (entered, result) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name(format!("netns {name}").chars().take(15).collect())
            .spawn(move || {
                let enter = file.map_or(Ok(()), |file| {
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                });
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match (enter, runtime) {
                    (Ok(()), Ok(runtime)) => runtime,
                    (Err(errno), _) => return drop(entered.send(Err(errno.into()))),
                    (_, Err(error)) => return drop(entered.send(Err(error))),
                };
                let _ = entered.send(Ok(()));
                // Jobs may hold sockets of this namespace: they run, and end, on this thread.
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    while let Some(job) = queue.recv().await {
                        tokio::task::spawn_local(job());
                    }
                });
            })
            .map_err(|_| NetnsError::Gone { name: name.clone() })?;
        match result.recv() {
            Ok(Ok(())) => Ok(Self { name, jobs }),
            Ok(Err(source)) => Err(NetnsError::Enter { name, source }),
            Err(_) => Err(NetnsError::Gone { name }),
        }
    }

    /// Runs a future on the thread; it is made there, so it need not be `Send`.
    pub fn spawn<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.jobs
            .send(Box::new(move || Box::pin(job())))
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

/// The threads, by namespace.
#[derive(Default)]
pub struct Workers(HashMap<Option<Netns>, Worker>);

impl Workers {
    /// The thread of a namespace, started on first use.
    pub fn of(&mut self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        if let Some(worker) = self.0.get(&netns.cloned()) {
            return Ok(worker.clone());
        }
        let worker = Worker::start(netns)?;
        self.0.insert(netns.cloned(), worker.clone());
        Ok(worker)
    }
}
