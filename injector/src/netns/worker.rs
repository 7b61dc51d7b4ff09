//! The thread inside one network namespace, and the jobs that it is given.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::{mpsc, oneshot};

use super::error::NetnsError;
use super::file::NamespaceFile;
use super::identity::Identity;
use super::job::Job;
use super::probes::ProbeThread;
use super::supervisor::QUESTION;
use crate::alarm::{Alarm, Guard};
use crate::rights::{Rights, Role};
use crate::turn;

/// How long a thread may take over a job before nobody waits for it any more: having programs verified takes seconds
/// on an emulated machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// An order to a thread.
enum Order {
    /// Run a job.
    Run(Job),
    /// Hand a job on to the thread of probes.
    Probe(Job),
    Stop,
}

/// A thread inside a network namespace.
#[derive(Clone)]
pub struct Worker {
    name: String,
    identity: Identity,
    alarm: Alarm,
    jobs: mpsc::UnboundedSender<Order>,
    /// Whether its answer is overdue, and nobody waits for it any more.
    late: Arc<AtomicBool>,
}

/// How a namespace is found.
pub(super) enum Way {
    /// The namespace is the daemon's own.
    Own,
    /// Its file was found.
    Found(NamespaceFile),
    /// Its file is at this path: the thread that starts the namespace's thread opens it.
    At(PathBuf),
}

/// A namespace to enter.
pub(super) struct Door {
    /// As configured.
    pub name: String,
    /// How it is found.
    pub way: Way,
    /// The namespace that it must be: a process's id may belong to another process by now.
    pub expected: Option<Identity>,
    /// Raised when something panics in there that nobody waits for.
    pub alarm: Alarm,
}

impl Worker {
    /// Enters a namespace with a new thread, and waits until it is in.
    pub(super) fn start(door: Door, rights: Option<Rights>) -> Result<Self, NetnsError> {
        let Door { name, way, expected, alarm } = door;
        let guard = alarm.guard(format!("the thread of network namespace {name}"));
        let is_own = matches!(way, Way::Own);
        let (path, found) = match way {
            Way::Own => {
                let path = PathBuf::from("/proc/self/ns/net");
                (path.clone(), NamespaceFile::at(&path))
            }
            Way::Found(found) => (PathBuf::from(&name), Ok(found)),
            Way::At(path) => (path.clone(), NamespaceFile::at(&path)),
        };
        let opened = found.and_then(|found| Ok((found.open()?, found.identity())));
        let (file, identity) =
            opened.map_err(|source| NetnsError::Open { name: name.clone(), path, source })?;
        if expected.is_some_and(|expected| expected != identity) {
            return Err(NetnsError::NoContainer { name });
        }
        let file = (!is_own).then_some(file);
        let (jobs, mut queue) = mpsc::unbounded_channel::<Order>();
        let (entered, result) = std::sync::mpsc::channel();
        let in_thread = name.clone();
        let mut probes = ProbeThread::new(name.clone(), alarm.clone());
        std::thread::Builder::new()
            .name(format!("netns {name}").chars().take(15).collect())
            .spawn(move || {
                let _guard = guard;
                let enter =
                    crate::fault::at("netns/enter").and_then(|()| file.map_or(Ok(()), |file| enter(&file)));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match (enter, runtime) {
                    (Ok(()), Ok(runtime)) => runtime,
                    (Err(source), _) | (_, Err(source)) => {
                        return drop(entered.send(Err(NetnsError::Enter { name: in_thread, source })));
                    }
                };
                if let Err(error) = rights.map_or(Ok(()), |rights| rights.take(Role::Daemon)) {
                    return drop(entered.send(Err(error.into())));
                }
                let _ = entered.send(Ok(()));
                // Jobs may hold sockets of this namespace: they run, and end, on this thread.
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    loop {
                        match queue.recv().await {
                            Some(Order::Run(job)) => job.spawn(),
                            Some(Order::Probe(job)) => probes.run(job),
                            Some(Order::Stop) | None => return,
                        }
                    }
                });
            })
            .map_err(|_| NetnsError::Gone { name: name.clone() })?;
        match result.recv() {
            Ok(Ok(())) => Ok(Self { name, identity, alarm, jobs, late: Arc::default() }),
            Ok(Err(error)) => Err(error),
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

    /// Runs a future on the thread; it is made there, so it need not be `Send`. Nobody waits for it: if it panics, the alarm is
    /// raised.
    pub fn spawn<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Run(Job::new(job, Some(self.guard()))))
    }

    /// [`Self::spawn`] for a future whose end is noticed however it ends, also by a panic: what it drops
    /// answers.
    pub fn spawn_awaited<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Run(Job::new(job, None)))
    }

    /// Runs probes, on the namespace's thread for these; nobody waits for them.
    pub fn probe<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Probe(Job::new(job, Some(self.guard()))))
    }

    /// [`Self::probe`] for a probe whose end is noticed however it ends.
    pub fn probe_awaited<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Probe(Job::new(job, None)))
    }

    fn guard(&self) -> Guard {
        self.alarm.guard(format!("something in network namespace {}", self.name))
    }

    fn order(&self, order: Order) -> Result<(), NetnsError> {
        self.jobs.send(order).map_err(|_| NetnsError::Gone { name: self.name.clone() })
    }

    /// Runs a future on the thread and waits for its result; if that takes too long, it runs all the same, and its
    /// result is dropped there.
    ///
    /// # Errors
    /// [`NetnsError::Late`], at once if the thread has an overdue answer already.
    pub async fn run<T, F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let patience = if self.is_late() { Duration::ZERO } else { PATIENCE };
        self.run_within(patience, job).await
    }

    /// A question, to which the answer is wanted soon or not at all: the thread is not even asked while an answer of it is overdue.
    pub async fn ask<T, F>(&self, question: impl FnOnce() -> F + Send + 'static) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        self.ask_within(QUESTION, question).await
    }

    /// A question, with a patience of the caller's.
    pub async fn ask_within<T, F>(
        &self,
        patience: Duration,
        question: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        // A caller that has no time left does not ask: the thread is not to be taken for one that does not
        // answer.
        if self.is_late() || turn::patience(patience).is_zero() {
            return Err(NetnsError::Late { name: self.name.clone() });
        }
        self.run_within(patience, question).await
    }

    /// Runs a future on the thread and waits for its result, with a patience of the caller's.
    pub async fn run_within<T, F>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (reply, result) = oneshot::channel();
        self.spawn_awaited(move || async move {
            let _ = reply.send(job().await);
        })?;
        if let Ok(result) = tokio::time::timeout(turn::patience(patience), result).await {
            return result.map_err(|_| NetnsError::Gone { name: self.name.clone() });
        }
        if !self.late.swap(true, Ordering::Relaxed) {
            let late = self.late.clone();
            // Behind the job: a thread that reaches this is not held up.
            self.spawn(move || async move { late.store(false, Ordering::Relaxed) })?;
        }
        Err(NetnsError::Late { name: self.name.clone() })
    }

    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }
}

/// Enters a namespace: the one place that does, on a thread that never leaves it again.
fn enter(file: &File) -> std::io::Result<()> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into)
}
