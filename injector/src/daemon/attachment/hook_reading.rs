//! Reads hooks, in the namespace of their interfaces.

use std::time::Duration;

use crate::datapath::{CgroupQuery, HookQuery, HookState, OwnPrograms, states, states_of_all};
use injector_core::clock::MonoNs;

/// How long a command or a status waits for a reading. Where interfaces come and go by the dozen, the kernel holds up whoever
/// reads hooks for hundreds of milliseconds,
pub(super) const PATIENCE: Duration = Duration::from_millis(700);
/// and it waits less where there is a reading
pub(super) const LESS: Duration = Duration::from_millis(60);
/// that is no older than this.
pub(super) const RECENT: Duration = Duration::from_secs(1);
/// Why hooks are not known in a namespace that has yet to answer.
pub(super) const UNANSWERED: &str = "the namespace does not answer";

/// The state of the hooks of the interfaces of one namespace.
#[derive(Debug)]
pub struct HooksFound {
    /// The instant before the hooks were read: since then something else may be on them.
    pub(super) at: MonoNs,
    /// How long reading them took.
    pub(super) cost: Duration,
    /// The interfaces, by id and index.
    pub(super) asked: Vec<(u32, u32)>,
    /// The result of the reading, or why there is none.
    pub(super) read: Result<Read, String>,
}

impl HooksFound {
    /// A reading that failed, with the reason.
    pub(super) fn none(why: &str) -> Self {
        Self { at: MonoNs::now(), cost: Duration::ZERO, asked: Vec::new(), read: Err(why.to_owned()) }
    }
}

/// The result of a reading in one namespace.
#[derive(Debug)]
pub(super) struct Read {
    /// The state of the hooks of the interfaces that were asked for, in their order; `None` for an interface
    /// that is gone.
    pub(super) states: Vec<Option<HookState>>,
    /// The indices of all interfaces of the namespace that have a program of others that may redirect, if that was
    /// asked for.
    pub(super) foreign: Option<Vec<u32>>,
    /// The programs that are missing of those that give sockets of peers on this machine their owners, if that was asked
    /// for.
    pub(super) missing_owners: Option<Vec<&'static str>>,
}

/// The interfaces whose hooks are searched for others' programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookScope {
    /// The interfaces that our programs are on.
    Ours,
    /// All interfaces of the namespaces where we are on the host end of a peer's link.
    All,
}

/// The hooks to read in one namespace.
pub(super) struct Wanted {
    pub(super) hooked: Vec<(u32, HookQuery)>,
    /// Whether to search all of its interfaces for programs of others: such a program may send packets into a
    /// peer's namespace past our hook at the host end of its veth.
    pub(super) on_all: bool,
    /// The programs that are no stranger's.
    pub(super) own: OwnPrograms,
    /// Asks for the programs that give sockets their owners, where peers on this machine have their sockets.
    pub(super) owners: Option<CgroupQuery>,
}

impl Wanted {
    /// Reads them, in their namespace.
    pub(super) async fn read(self) -> HooksFound {
        let at = MonoNs::now();
        let (ids, queries): (Vec<u32>, Vec<HookQuery>) = self.hooked.into_iter().unzip();
        let asked = ids.into_iter().zip(queries.iter().map(|query| query.index)).collect();
        let read = if self.on_all {
            let read = states_of_all(&queries, &self.own).await;
            read.map(|(states, foreign)| (states, Some(foreign)))
        } else {
            states(&queries, &self.own).await.map(|states| (states, None))
        };
        let read = read.and_then(|(states, foreign)| {
            let missing_owners = self.owners.as_ref().map(CgroupQuery::missing).transpose()?;
            Ok(Read { states, foreign, missing_owners })
        });
        let cost = MonoNs::now().saturating_since(at);
        HooksFound { at, cost, asked, read: read.map_err(|error| error.to_string()) }
    }
}
