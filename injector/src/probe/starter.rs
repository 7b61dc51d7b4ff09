//! Starts the commands of one namespace's thread, on another thread inside that namespace. Looking users up, copying this
//! process and executing a file wait for disks, directories and CPUs; whoever waits on the namespace's thread meanwhile, as a
//! cut does, would wait along.

use std::cell::RefCell;
use std::sync::mpsc;

use injector_client::process_group::Group;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The starter of this thread's commands, once there was one: a thread is inside the namespace, and has the rights, of the
    /// thread that starts it. It ends with this one.
    static STARTER: RefCell<Option<mpsc::Sender<Job>>> = const { RefCell::new(None) };
}

/// Starts a command by what makes it; `None` if there is no thread to do so. What nobody waits for any more when its turn
/// comes is not started.
pub(super) async fn start<E: Send + 'static>(
    make: impl FnOnce() -> Result<Group, E> + Send + 'static,
) -> Option<Result<Group, E>> {
    let (reply, started) = oneshot::channel();
    // The command's end is noticed by the runtime that waits for it.
    let runtime = Handle::current();
    let job = Box::new(move || {
        if !reply.is_closed() {
            let _inside = runtime.enter();
            // Dropped because nobody waits for it any more, it is killed.
            drop(reply.send(make()));
        }
    });
    STARTER.with_borrow_mut(|starter| hand_to(starter, job))?;
    started.await.ok()
}

fn hand_to(starter: &mut Option<mpsc::Sender<Job>>, job: Job) -> Option<()> {
    let job = match starter {
        Some(starter) => match starter.send(job) {
            Ok(()) => return Some(()),
            // It has panicked, which is logged.
            Err(mpsc::SendError(job)) => job,
        },
        None => job,
    };
    let (jobs, queue) = mpsc::channel::<Job>();
    let name = "commands".to_owned();
    std::thread::Builder::new().name(name).spawn(move || queue.into_iter().for_each(|job| job())).ok()?;
    jobs.send(job).ok()?;
    *starter = Some(jobs);
    Some(())
}
