//! The thread that starts the namespaces' threads, and those that read paths.
//!
//! A path may lead to a file system that does not answer (NFS, FUSE), and whoever opens it waits in the
//! kernel. So each path of the config has a thread of its own, started by the supervisor, whose rights it
//! inherits: the supervisor itself reads `/proc` alone.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::NetnsError;
use crate::rights::{Rights, Role};
use crate::turn;

/// How long the start of a thread may take.
pub(super) const START: Duration = Duration::from_secs(10);
/// How long a thread may take over a question. The daemon's task waits for less in all: see [`turn`].
pub(super) const QUESTION: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after another, with rights that its askers do not have. It ends with its last asker. Nobody
/// blocks on it: the kernel may hold it up as it may any thread.
#[derive(Clone)]
pub struct Supervisor {
    jobs: Sender<Job>,
    /// Whether a reply is overdue that nobody waits for any more.
    late: Arc<AtomicBool>,
}

impl Supervisor {
    /// Starts the one that starts the namespaces' threads: they inherit the right to enter from it.
    pub(super) fn start() -> std::io::Result<Self> {
        crate::fault::at("netns/supervisor")?;
        Self::named("netns")
    }

    fn named(name: &str) -> std::io::Result<Self> {
        let (asker, jobs) = std::sync::mpsc::channel::<Job>();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            for job in jobs {
                // A panic is logged, and its asker has no answer. Nothing could take this thread's place: its rights are gone.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        })?;
        Ok(Self { jobs: asker, late: Arc::default() })
    }

    /// Runs a job with this thread's rights; `None` if it does not answer, at once if a reply of it is
    /// overdue already.
    pub async fn ask<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.ask_within(QUESTION, job).await
    }

    /// [`Self::ask`] with a patience of the caller's.
    pub(super) async fn ask_within<T: Send + 'static>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let patience = turn::patience(patience);
        if patience.is_zero() || self.is_late() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Box::new(move || drop(reply.send(job())))).ok()?;
        if let Ok(answer) = tokio::time::timeout(patience, answer).await {
            return answer.ok();
        }
        if !self.late.swap(true, Ordering::Relaxed) {
            let late = Arc::clone(&self.late);
            // Behind the job: a thread that gets here does not hang.
            self.when_free(move || late.store(false, Ordering::Relaxed));
        }
        None
    }

    /// Has something done once all jobs before it are; nobody waits for it.
    pub(super) fn when_free(&self, job: impl FnOnce() + Send + 'static) {
        // A thread that has ended does nothing more.
        let _ = self.jobs.send(Box::new(job));
    }

    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }
}

/// The threads that read paths, by path. They end with the config that names the paths.
#[derive(Clone, Default)]
pub(super) struct PathThreads(Arc<Mutex<BTreeMap<PathBuf, Supervisor>>>);

impl PathThreads {
    /// The thread of a path, started on first use; it gives up what a supervisor does not need.
    pub(super) async fn of(
        &self,
        path: &Path,
        supervisor: &Supervisor,
        rights: Option<Rights>,
    ) -> Result<Supervisor, NetnsError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(thread) = known {
            return Ok(thread);
        }
        let name = || path.display().to_string();
        let started = supervisor.ask_within(START, || Supervisor::named("netns path")).await;
        let started = started.ok_or_else(|| NetnsError::Late { name: name() })?;
        let thread = started.map_err(|_| NetnsError::Gone { name: name() })?;
        if let Some(rights) = rights {
            let taken = thread.ask_within(START, move || rights.take(Role::Supervisor)).await;
            taken.ok_or_else(|| NetnsError::Late { name: name() })??;
        }
        // If another asker has started a thread for the path meanwhile, that one is kept.
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(threads.entry(path.to_owned()).or_insert(thread).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_supervisor_outlives_a_job_that_panics() {
        let supervisor = Supervisor::start().unwrap();
        // A busy machine takes long to report the panic.
        let patience = Duration::from_mins(1);
        let nothing: Option<u8> = supervisor.ask_within(patience, || panic!("planted")).await;
        assert_eq!(nothing, None);
        assert_eq!(supervisor.ask_within(patience, || 7).await, Some(7));
    }
}
