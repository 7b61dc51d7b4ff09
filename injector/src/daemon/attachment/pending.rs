//! An answer that the daemon's task waits for, from a job on another thread.

use tokio::sync::mpsc;

use super::InterfaceEvent;

/// The answer of a job. It comes in any case: if the job panics, or its thread ends before the job, it is the one that this was
/// made with.
pub(super) struct PendingAnswer {
    answer: Option<InterfaceEvent>,
    sink: mpsc::UnboundedSender<InterfaceEvent>,
}

impl PendingAnswer {
    /// An answer that says that there is none, until the job has one.
    pub fn new(sink: &mpsc::UnboundedSender<InterfaceEvent>, none: InterfaceEvent) -> Self {
        Self { answer: Some(none), sink: sink.clone() }
    }

    /// Answers.
    pub fn answer(mut self, answer: InterfaceEvent) {
        self.answer = Some(answer);
    }

    /// Does not answer: somebody has the answer already.
    pub fn withdraw(mut self) {
        self.answer = None;
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            // Without a receiver the daemon ends.
            let _ = self.sink.send(answer);
        }
    }
}
