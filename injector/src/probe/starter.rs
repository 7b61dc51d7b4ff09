//! Starts commands on threads beside the one of their network namespace. Finding users, copying this process
//! and executing a file wait for disks, directories and CPUs; whoever waits on the namespace's thread
//! meanwhile, as a cut does, would wait too.
//!
//! Each endpoint and each role has one start under way at a time. So a start that hangs, as of a file on a file system that does
//! not answer, takes one thread, however often it is tried again, and holds up no other endpoint's or role's commands.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use injector_client::process_group::Group;
use injector_core::sample::EndpointId;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// How many commands of one namespace may be being started at a time.
pub(super) const MOST: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The endpoint or role that a command is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// An endpoint's probe.
    Endpoint(EndpointId),
    /// A role, by its name.
    Role(String),
}

/// The reason why a command was not started in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StartDelay {
    /// A command of the same endpoint or role is still being started.
    #[error("an earlier start of it has not ended")]
    Earlier,
    /// Too many others are being started.
    #[error("{} other commands are being started in its network namespace", MOST)]
    Others,
    /// The start of the command itself did not end.
    #[error("its file, the directory of users or this host does not answer")]
    Itself,
    /// There is no thread to start the command.
    #[error("no thread can be started for it")]
    NoThread,
}

thread_local! {
    /// The starters of this thread's commands: a thread is inside the namespace, and has the rights, of the thread that starts
    /// it. They end with this one.
    static STARTERS: RefCell<Starters> = RefCell::new(Starters::new());
}

/// Starts a command by what makes it, unless it can't be started by an instant.
pub(super) async fn start<E: Send + 'static>(
    asker: &Asker,
    end: Instant,
    make: impl FnOnce() -> Result<Group, E> + Send + 'static,
) -> Result<Result<Group, E>, StartDelay> {
    let (turn, place) = STARTERS.with_borrow_mut(|starters| starters.queues(asker));
    let turn = wait(turn, end).await.ok_or(StartDelay::Earlier)?;
    let place = wait(place, end).await.ok_or(StartDelay::Others)?;
    let (reply, started) = oneshot::channel();
    // The command's end is noticed by the runtime that waits for it.
    let runtime = Handle::current();
    let job = move || {
        // The permits are held until the start is over, also if nobody waits for it any more.
        let _held = (turn, place);
        if !reply.is_closed() {
            let _inside = runtime.enter();
            // A panic is logged, and the thread does what comes next.
            if let Ok(group) = catch_unwind(AssertUnwindSafe(make)) {
                // Dropped because nobody waits for it any more, it is killed.
                drop(reply.send(group));
            }
        }
    };
    STARTERS.with_borrow_mut(|starters| starters.hand_out(Box::new(job))).ok_or(StartDelay::NoThread)?;
    match timeout_at(end, started).await {
        Ok(Ok(group)) => Ok(group),
        Ok(Err(_)) => Err(StartDelay::NoThread),
        Err(_) => Err(StartDelay::Itself),
    }
}

async fn wait(queue: Arc<Semaphore>, end: Instant) -> Option<OwnedSemaphorePermit> {
    // The semaphore is never closed.
    timeout_at(end, queue.acquire_owned()).await.ok()?.ok()
}

/// The threads that start the commands of one namespace's thread.
struct Starters {
    /// The one start that each asker may have under way,
    turns: BTreeMap<Asker, Arc<Semaphore>>,
    /// and those of all of them.
    places: Arc<Semaphore>,
    /// How many threads there are.
    threads: usize,
    /// The jobs of the threads.
    jobs: mpsc::Sender<Job>,
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
}

impl Starters {
    /// Starters without threads yet.
    fn new() -> Self {
        let (jobs, queue) = mpsc::channel();
        Self {
            turns: BTreeMap::new(),
            places: Arc::new(Semaphore::new(MOST)),
            threads: 0,
            jobs,
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    /// The semaphores that an asker's command waits for.
    fn queues(&mut self, asker: &Asker) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let turn = self.turns.entry(asker.clone()).or_insert_with(|| Arc::new(Semaphore::new(1)));
        (Arc::clone(turn), Arc::clone(&self.places))
    }

    /// Has a thread do a job that has a place; `None` if there is none. One is free, or will be at once, if there are as many
    /// threads as places are taken.
    fn hand_out(&mut self, job: Job) -> Option<()> {
        if self.threads < MOST - self.places.available_permits() {
            let queue = Arc::clone(&self.queue);
            let name = "commands".to_owned();
            std::thread::Builder::new().name(name).spawn(move || work(&queue)).ok()?;
            self.threads += 1;
        }
        self.jobs.send(job).ok()
    }
}

/// Does one job after another, until the thread that hands them out has ended.
fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    while let Some(job) = next(queue) {
        job();
    }
}

fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    // No code panics while the queue is locked.
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
