//! The thread of a namespace's probes. It is not the one that attaches and answers: reading what a server sends without end
//! takes a whole CPU, and no cut waits for that.

use std::io;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::job::Job;
use crate::alarm::Alarm;

/// The thread, which is started with its first job and ends when this is dropped.
pub(super) struct ProbeThread {
    namespace: String,
    alarm: Alarm,
    jobs: Option<mpsc::UnboundedSender<Job>>,
}

impl ProbeThread {
    pub(super) fn new(namespace: String, alarm: Alarm) -> Self {
        Self { namespace, alarm, jobs: None }
    }

    /// Has the thread run a job.
    pub(super) fn run(&mut self, job: Job) {
        let started = match self.jobs.take() {
            Some(jobs) => Ok(jobs),
            None => self.start(),
        };
        match started {
            Ok(jobs) => {
                // A thread that has panicked has raised the alarm.
                let _ = jobs.send(job);
                self.jobs = Some(jobs);
            }
            Err(error) => {
                tracing::error!(netns = self.namespace, %error, "there is no thread for probes");
                job.give_up();
            }
        }
    }

    /// Starts it from the namespace's own thread: so it is in that namespace, and has the same rights.
    fn start(&self) -> io::Result<mpsc::UnboundedSender<Job>> {
        let guard = self.alarm.guard(format!("the thread of probes in network namespace {}", self.namespace));
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("probes {}", self.namespace).chars().take(15).collect();
        std::thread::Builder::new().name(name).spawn(move || {
            let _guard = guard;
            LocalSet::new().block_on(&runtime, async {
                while let Some(job) = queue.recv().await {
                    job.spawn();
                }
            });
        })?;
        Ok(jobs)
    }
}
