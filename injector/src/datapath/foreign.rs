//! Reads who else is on the hooks, and whether our programs still are. Anybody who may attach can ask for
//! ids; names take `CAP_SYS_ADMIN`.

use std::collections::BTreeMap;
use std::io;

use super::instances::OwnPrograms;
use super::owner::Owner;
use super::query;
use crate::netlink::filters::{Filter, Side, Tc};
use crate::netlink::nft::{EgressChain, egress_chains};
use crate::netlink::{self, LinkFacts};

/// Names of programs, by id.
pub type Names = BTreeMap<u32, String>;

/// Another's program or chain on a hook that ours is on, may be on, or that comes before ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    side: Side,
    what: What,
    /// The id of its program; `None` for what is no program.
    id: Option<u32>,
    /// Whether it runs before ours.
    pub is_ahead: bool,
}

/// Kinds of what can be on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A program on TCX.
    Tcx,
    /// A filter of the clsact qdisc, by its name or kind.
    Filter(String),
    /// A program on XDP: it runs before all of TC.
    Xdp,
    /// A chain of nftables on the device's egress, by table and name: it runs before all of TC.
    Chain(String),
}

/// The state of the hooks of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookState {
    /// Programs and chains of others there, in the order of execution by side.
    pub foreign: Vec<Foreign>,
    /// The sides on which a program of ours should be and is not.
    pub missing: Vec<Side>,
    /// How often TCX was changed on either side, as the kernel counts; `None` where it has no TCX.
    pub revisions: [Option<u64>; 2],
}

/// An interface whose hooks are read, of the calling thread's namespace.
#[derive(Clone, Debug)]
pub struct HookQuery {
    /// Its index.
    pub index: u32,
    /// The ids of the programs that we have on it; empty where none is known to be.
    pub ours: Vec<u32>,
    /// The sides that a program of ours is to be on.
    pub sides: &'static [Side],
    /// Whether our ingress program is on XDP.
    pub is_xdp: bool,
}

/// Reads the hooks of interfaces of the calling thread's namespace, in their order; `None` for an interface
/// that is gone.
pub async fn states(queries: &[HookQuery], own: &OwnPrograms) -> io::Result<Vec<Option<HookState>>> {
    Reader::new(own).await?.states(queries)
}

/// [`states`], and the indices of all interfaces of the namespace that have a program of others that may
/// redirect.
pub async fn states_of_all(
    queries: &[HookQuery],
    own: &OwnPrograms,
) -> io::Result<(Vec<Option<HookState>>, Vec<u32>)> {
    let reader = Reader::new(own).await?;
    let states = reader.states(queries)?;
    let is_asked = |index: u32| queries.iter().any(|query| query.index == index);
    let others = reader.links.iter().map(|facts| facts.index).filter(|index| !is_asked(*index));
    let others: Vec<HookQuery> =
        others.map(|index| HookQuery { index, ours: Vec::new(), sides: &Side::ALL, is_xdp: false }).collect();
    let all = queries.iter().chain(&others).zip(states.iter().cloned().chain(reader.states(&others)?));
    let has_foreign =
        |state: &Option<HookState>| state.iter().flat_map(|state| &state.foreign).any(Foreign::may_redirect);
    let foreign = all.filter(|(_, state)| has_foreign(state)).map(|(query, _)| query.index).collect();
    Ok((states, foreign))
}

/// The lists and sockets with which the hooks of all interfaces of a namespace are read.
struct Reader<'a> {
    /// The programs that are no stranger's, on whichever interface they are.
    own: &'a OwnPrograms,
    links: Vec<LinkFacts>,
    chains: Vec<EgressChain>,
    tc: Tc,
}

impl<'a> Reader<'a> {
    async fn new(own: &'a OwnPrograms) -> io::Result<Self> {
        crate::fault::at("hooks/read")?;
        let links = netlink::links().await?;
        Ok(Self { own, links, chains: egress_chains()?, tc: Tc::open()? })
    }

    fn states(&self, queries: &[HookQuery]) -> io::Result<Vec<Option<HookState>>> {
        let state = |query: &HookQuery| {
            let facts = self.links.iter().find(|facts| facts.index == query.index);
            match facts.map(|facts| self.state(query, facts)).transpose() {
                // The interface went after the interfaces were listed. That is no reason to know nothing of
                // the others.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
                state => state,
            }
        };
        queries.iter().map(state).collect()
    }

    /// Reads the hooks of one interface.
    fn state(&self, hooked: &HookQuery, facts: &LinkFacts) -> io::Result<HookState> {
        let HookQuery { index, ours, .. } = hooked;
        let is_ours = |filter: &Filter| filter.program.is_some_and(|program| ours.contains(&program));
        let mut state = HookState::default();
        // An interface without programs of ours has none ahead of them.
        let are_we = !ours.is_empty();
        match facts.xdp {
            Some(id) if ours.contains(&id) => {}
            Some(id) => {
                state.foreign.push(Foreign {
                    side: Side::Ingress,
                    what: What::Xdp,
                    id: Some(id),
                    is_ahead: are_we && !hooked.is_xdp && hooked.sides.contains(&Side::Ingress),
                });
                if hooked.is_xdp {
                    state.missing.push(Side::Ingress);
                }
            }
            None if hooked.is_xdp => state.missing.push(Side::Ingress),
            None => {}
        }
        for chain in self.chains.iter().filter(|chain| chain.is_on(&facts.name)) {
            state.foreign.push(Foreign { is_ahead: are_we, ..Foreign::egress_chain(chain) });
        }
        for (at, side) in Side::ALL.into_iter().enumerate() {
            let filters = self.tc.filters(*index, side)?;
            let (tcx, revision) = tcx(*index, side)?.unzip();
            state.revisions[at] = revision;
            let tcx = tcx.unwrap_or_default();
            let mut is_there = tcx.iter().any(|id| ours.contains(id)) || filters.iter().any(is_ours);
            if are_we
                && !is_there
                && hooked.sides.contains(&side)
                && !(hooked.is_xdp && side == Side::Ingress)
            {
                state.missing.push(side);
            }
            // All of TCX runs before the filters of clsact, where ours may be.
            for id in tcx {
                if ours.contains(&id) {
                    is_there = false;
                } else {
                    state.foreign.push(Foreign { side, what: What::Tcx, id: Some(id), is_ahead: is_there });
                }
            }
            let mut is_ahead = filters.iter().any(is_ours);
            for filter in filters.iter().filter(|filter| filter.handle != 0) {
                if is_ours(filter) {
                    is_ahead = false;
                    continue;
                }
                let what = What::Filter(filter.name.as_ref().unwrap_or(&filter.kind).clone());
                state.foreign.push(Foreign { side, what, id: filter.program, is_ahead });
            }
        }
        state.foreign.retain(|foreign| !foreign.id.is_some_and(|id| self.own.has(id)));
        Ok(state)
    }
}

impl Foreign {
    /// A chain of nftables on the egress of a device that our program is on.
    pub fn egress_chain(chain: &EgressChain) -> Self {
        Self { side: Side::Egress, what: What::Chain(chain.name.clone()), id: None, is_ahead: true }
    }

    /// The id of its program; `None` for what is no program.
    pub fn program(&self) -> Option<u32> {
        self.id
    }

    /// Whether it is on XDP.
    pub fn is_xdp(&self) -> bool {
        self.what == What::Xdp
    }

    /// Whether it may redirect packets past the egress hooks of another interface: a program on TC into the other end of a
    /// veth (`bpf_redirect_peer`), one on XDP to any interface, whose TC such packets never pass.
    pub fn may_redirect(&self) -> bool {
        self.id.is_some()
    }

    /// The program in words.
    pub fn shown(&self, names: &Names) -> String {
        let side = match self.side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        let id = self.id.map_or_else(String::new, |id| format!(" (id {id})"));
        let name = self.id.and_then(|id| names.get(&id));
        match (&self.what, name) {
            (What::Filter(filter), _) => format!("{side} filter {filter}{id}"),
            (What::Chain(chain), _) => format!("{side} nftables chain {chain}"),
            (What::Xdp, Some(name)) => format!("XDP {name}{id}"),
            (What::Xdp, None) => format!("XDP program{id}"),
            (What::Tcx, Some(name)) => format!("{side} {name}{id}"),
            (What::Tcx, None) => format!("{side} program{id}"),
        }
    }
}

/// The names of the programs that have these ids; those that can't be read are left out.
pub fn names(ids: &[u32]) -> Names {
    if ids.is_empty() {
        return Names::new();
    }
    let mut names = all_names();
    names.retain(|id, _| ids.contains(id));
    names
}

/// The names of all programs there are now, as far as they can be read.
pub fn all_names() -> Names {
    aya::programs::loaded_programs()
        .flatten()
        .filter_map(|program| {
            let name = program.name_as_str()?.to_owned();
            // Another injector is named by its process.
            let owner = name.starts_with("injector_").then(|| Owner::of(&program)).flatten();
            let whose =
                owner.map_or_else(String::new, |owner| format!(" of the injector with pid {}", owner.pid));
            Some((program.id(), format!("{name}{whose}")))
        })
        .collect()
}

/// The ids of the programs that are to be named.
pub fn ids<'a>(foreign: impl IntoIterator<Item = &'a Foreign>) -> Vec<u32> {
    let is_program = |foreign: &&Foreign| matches!(foreign.what, What::Tcx | What::Xdp);
    foreign.into_iter().filter(is_program).filter_map(|foreign| foreign.id).collect()
}

/// The program that holds an interface's XDP hook, if one does.
pub fn xdp_owner(facts: &LinkFacts) -> Option<String> {
    let id = facts.xdp?;
    Some(program_shown(id, &names(&[id])))
}

/// A program in words.
pub fn program_shown(id: u32, names: &Names) -> String {
    match names.get(&id) {
        Some(name) => format!("program {name} (id {id})"),
        None => format!("program {id}"),
    }
}

/// Whether the kernel knows TCX.
pub fn has_tcx() -> bool {
    // Every namespace has a loopback interface, and it is the first.
    tcx(1, Side::Ingress).is_ok_and(|ids| ids.is_some())
}

/// The ids on a TCX hook, in the order of execution, and how often it was changed; `None` if the kernel has no TCX.
fn tcx(index: u32, side: Side) -> io::Result<Option<(Vec<u32>, u64)>> {
    let attach_type = match side {
        Side::Ingress => 46,
        Side::Egress => 47,
    };
    match query::attached(index, attach_type) {
        Ok(attached) => Ok(Some((attached.ids, attached.revision))),
        // The attach type is unknown.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        // The hook never had a program.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Some((Vec::new(), 0))),
        Err(error) => Err(error),
    }
}
