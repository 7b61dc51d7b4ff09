//! Reads hooks, in the namespace of their interfaces.

use std::time::Duration;

use crate::datapath::{CgroupQuery, HookQuery, HookState, OwnPrograms, states, states_of_all};
use crate::netns::Identity;
use injector_core::clock::MonoNs;

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

/// Why hooks are not known in a namespace that has yet to answer.
pub(super) const UNANSWERED: &str = "the namespace does not answer";

/// What is known of when the hooks of one namespace were read.
#[derive(Debug)]
pub(super) struct LastReading {
    /// The namespace that the name led to.
    identity: Identity,
    /// When the last reading began that had a result,
    at: Option<MonoNs>,
    /// the last of these that also says what may redirect past hooks,
    whole_at: Option<MonoNs>,
    /// and the last one that had none, with the reason.
    failed: Option<(MonoNs, String)>,
}

impl LastReading {
    pub fn of(identity: Identity) -> Self {
        Self { identity, at: None, whole_at: None, failed: None }
    }

    /// Takes note of a reading in a namespace that has host ends of peers' links, or none.
    pub fn take(&mut self, identity: Identity, found: &HooksFound, has_host_ends: bool) {
        if self.identity != identity {
            *self = Self::of(identity);
        }
        match &found.read {
            Ok(read) => {
                self.at = Some(found.at);
                if read.foreign.is_some() || !has_host_ends {
                    self.whole_at = Some(found.at);
                }
            }
            Err(why) => self.failed = Some((found.at, why.clone())),
        }
    }

    /// When the hooks were last read, if the name still leads to the same namespace.
    pub fn at(&self, identity: Identity) -> Option<MonoNs> {
        self.at.filter(|_| self.identity == identity)
    }

    /// Whether a reading that began after an instant has come to its end, with or without a result.
    pub fn is_known_since(&self, since: MonoNs) -> bool {
        let failed = self.failed.as_ref().map(|(at, _)| *at);
        self.whole_at.max(failed).is_some_and(|at| at >= since)
    }

    /// Why the hooks are not known since an instant; `None` if they are.
    pub fn doubt(last: Option<&Self>, since: MonoNs) -> Option<String> {
        let whole_at = last.and_then(|last| last.whole_at);
        if whole_at.is_some_and(|at| at >= since) {
            return None;
        }
        let failed = last.and_then(|last| last.failed.as_ref()).filter(|(at, _)| *at >= since);
        let why = failed.map_or(UNANSWERED, |(_, why)| why);
        let age = whole_at.map(|at| {
            format!("; they were last read {} ms before", MonoNs::now().saturating_since(at).as_millis())
        });
        Some(format!("{why}{}", age.unwrap_or_default()))
    }
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
