//! Panics that nobody else would notice. Code that asks a thread for an answer notices when none comes. But nobody waits for a
//! thread or task that follows something for as long as the daemon runs: if it panicked, the daemon would continue with facts
//! that are out of date. So it holds a [`Guard`], which notifies the daemon's task of the panic: the daemon heals and ends, and traffic flows.

use tokio::sync::mpsc;

/// Notifies the daemon's task. One without a receiver, as in commands that run beside the daemon, notifies nobody.
#[derive(Clone, Default)]
pub struct Alarm(Option<mpsc::UnboundedSender<String>>);

/// The names of tasks and threads that have panicked.
pub type Alarms = mpsc::UnboundedReceiver<String>;

impl Alarm {
    /// Makes an alarm, and the queue that it notifies.
    #[must_use]
    pub fn channel() -> (Self, Alarms) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// A guard for something, which has a name that a reader of the log understands.
    pub fn guard(&self, what: impl Into<String>) -> Guard {
        Guard { alarm: self.clone(), what: what.into() }
    }
}

/// Held by a thread or a task, or captured by what it calls: raises the alarm if it is dropped by a panic.
#[must_use]
#[derive(Default)]
pub struct Guard {
    alarm: Alarm,
    what: String,
}

impl Guard {
    /// Raises the alarm without a panic: what this guards has ended, and should not have.
    pub fn raise(&mut self) {
        if let Some(sender) = self.alarm.0.take() {
            // Without a receiver the daemon ends.
            let _ = sender.send(std::mem::take(&mut self.what));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.raise();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_raises_it_and_an_end_does_not() {
        let (alarm, mut alarms) = Alarm::channel();
        let (quiet, panics, thread) = (alarm.guard("quiet"), alarm.guard("task"), alarm.guard("thread"));
        tokio::spawn(async move { drop(quiet) }).await.unwrap();
        tokio::spawn(async move {
            let _guard = panics;
            tokio::task::yield_now().await;
            panic!("planted");
        })
        .await
        .unwrap_err();
        assert_eq!(alarms.recv().await.unwrap(), "task");
        let _ = std::thread::spawn(move || {
            let _guard = thread;
            panic!("planted");
        })
        .join();
        assert_eq!(alarms.recv().await.unwrap(), "thread");
        drop(alarm);
        assert_eq!(alarms.recv().await, None);
    }
}
