//! Programs on their way to interfaces: being verified, attached or taken off.

use std::sync::{Arc, Mutex, PoisonError};

use injector_core::config::Netns;
use tokio::task::JoinSet;

use crate::datapath::{Attachment, Instance, Refused};

/// Programs for the next interface that `auto` finds: what comes by it is not to pass until they are verified.
pub enum Spare {
    /// There are no programs, and none are being verified.
    None,
    /// The programs are being verified, for this id.
    Awaited(u32),
    /// The programs are ready, for this id.
    Ready(u32, Instance),
}

/// Programs that interfaces of one namespace share.
pub enum Shared {
    /// The programs are being verified.
    Awaited,
    /// The programs are ready.
    Ready(Instance),
}

/// The key of shared programs: their namespace, and whether they are for XDP or for TC.
pub type SharedKey = (Option<Netns>, bool);

/// The result of a namespace thread's job for an interface.
pub enum JobResult {
    /// The result of attaching.
    Attached(Box<Result<Attachment, Refused>>),
    /// The result of taking off: the programs, to attach them again.
    Released(Option<Instance>),
}

/// The results of the namespaces' threads, by the interface's id, until the daemon's task takes them in.
#[derive(Clone, Default)]
pub struct JobResults(Arc<Mutex<Vec<(u32, JobResult)>>>);

impl JobResults {
    pub fn push(&self, id: u32, landing: JobResult) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((id, landing));
    }

    pub fn take(&self) -> Vec<(u32, JobResult)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The tasks that attach beside the daemon's task.
pub type Attaching = JoinSet<()>;
