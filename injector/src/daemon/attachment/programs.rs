//! Programs on their way to interfaces: being verified, attached or taken off.

use std::sync::{Arc, Mutex, PoisonError};

use injector_core::config::Netns;
use tokio::task::JoinSet;

use crate::datapath::{Attachment, Instance, Refused};

/// Programs for the next interface that `auto` finds: what comes by it is not to pass until they are verified.
pub enum Spare {
    /// There are none, and none are on their way.
    None,
    /// They are being verified, for this id.
    Awaited(u32),
    /// They are there, for this id.
    Ready(u32, Instance),
}

/// Programs that interfaces of one namespace share.
pub enum Shared {
    /// They are being verified.
    Awaited,
    /// They are there.
    Ready(Instance),
}

/// Which programs are shared: those of a namespace, for XDP or for TC.
pub type SharedKey = (Option<Netns>, bool);

/// What came of a namespace's thread for an interface.
pub enum JobResult {
    /// Of attaching.
    Attached(Box<Result<Attachment, Refused>>),
    /// Of taking off: the programs, to attach them again.
    Released(Option<Instance>),
}

/// What the namespaces' threads have done, by the interface's id, until the daemon's task takes it in.
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

/// What attaches beside the daemon's task.
pub type Attaching = JoinSet<()>;
