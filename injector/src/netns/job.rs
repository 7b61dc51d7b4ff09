//! What a namespace's threads are given to run.

use std::future::Future;
use std::pin::Pin;

use crate::alarm::Guard;

/// Makes its future on the thread that runs it, so that need not be `Send`.
type Make = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A future that is made and run on a thread.
pub(super) struct Job {
    make: Make,
    /// If nobody else would notice that it panics.
    guard: Option<Guard>,
}

impl Job {
    pub(super) fn new<F>(make: impl FnOnce() -> F + Send + 'static, guard: Option<Guard>) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self { make: Box::new(move || Box::pin(make())), guard }
    }

    /// Runs it on the calling thread, beside others.
    pub(super) fn spawn(self) {
        tokio::task::spawn_local(async move {
            let _guard = self.guard;
            (self.make)().await;
        });
    }

    /// It can't be run: raises the alarm if nobody else would notice that.
    pub(super) fn give_up(self) {
        if let Some(mut guard) = self.guard {
            guard.raise();
        }
    }
}
