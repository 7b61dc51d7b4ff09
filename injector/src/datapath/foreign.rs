//! Who else is on the hooks. Anybody who may attach can ask for ids; names take `CAP_SYS_ADMIN`.

use std::collections::BTreeMap;
use std::io;

use crate::netlink::LinkFacts;
use crate::netlink::filters::{Filter, Side, Tc};

/// The most programs that the kernel takes on one TCX hook.
const MOST: usize = 64;

/// Names of programs, by id.
pub type Names = BTreeMap<u32, String>;

/// Another's program on a hook that ours is on, or may be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    side: Side,
    /// The name of its filter, if it is one of the clsact qdisc.
    filter: Option<String>,
    /// The id of its program; `None` for a filter that is no program.
    id: Option<u32>,
    /// Whether it runs before ours.
    pub is_ahead: bool,
}

impl Foreign {
    /// It in words.
    pub fn shown(&self, names: &Names) -> String {
        let side = match self.side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        let id = self.id.map_or_else(String::new, |id| format!(" (id {id})"));
        match (&self.filter, self.id.and_then(|id| names.get(&id))) {
            (Some(filter), _) => format!("{side} filter {filter}{id}"),
            (None, Some(name)) => format!("{side} {name}{id}"),
            (None, None) => format!("{side} program{id}"),
        }
    }
}

/// Who is on the hooks of an interface of the calling thread's namespace, in the order of execution by side; `ours`
/// are the ids of our programs.
pub fn foreign_on(index: u32, ours: &[u32]) -> io::Result<Vec<Foreign>> {
    let tc = Tc::open()?;
    let is_ours = |filter: &Filter| filter.program.is_some_and(|program| ours.contains(&program));
    let mut found = Vec::new();
    for side in Side::ALL {
        let filters = tc.filters(index, side)?;
        let tcx = tcx(index, side)?.unwrap_or_default();
        // All of TCX runs before the filters of clsact, where ours may be.
        let mut is_ahead = tcx.iter().any(|id| ours.contains(id)) || filters.iter().any(is_ours);
        for id in tcx {
            if ours.contains(&id) {
                is_ahead = false;
            } else {
                found.push(Foreign { side, filter: None, id: Some(id), is_ahead });
            }
        }
        let mut is_ahead = filters.iter().any(is_ours);
        for filter in filters.iter().filter(|filter| filter.handle != 0) {
            if is_ours(filter) {
                is_ahead = false;
                continue;
            }
            let name = filter.name.as_ref().unwrap_or(&filter.kind).clone();
            found.push(Foreign { side, filter: Some(name), id: filter.program, is_ahead });
        }
    }
    Ok(found)
}

/// The names of the programs that have these ids; those that can't be told are left out.
pub fn names(ids: &[u32]) -> Names {
    if ids.is_empty() {
        return Names::new();
    }
    let mut names = all_names();
    names.retain(|id, _| ids.contains(id));
    names
}

/// The names of all programs there are now, as far as they can be told.
pub fn all_names() -> Names {
    aya::programs::loaded_programs()
        .flatten()
        .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
        .collect()
}

/// The ids of the programs that are to be named.
pub fn ids<'a>(foreign: impl IntoIterator<Item = &'a Foreign>) -> Vec<u32> {
    foreign.into_iter().filter(|foreign| foreign.filter.is_none()).filter_map(|foreign| foreign.id).collect()
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

/// What `bpf(BPF_PROG_QUERY)` takes and answers.
#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    unused: [u64; 3],
    revision: u64,
}

const _: () = assert!(size_of::<Query>() == 64);

/// The ids on a TCX hook, in the order of execution; `None` if the kernel has no TCX.
///
/// aya's own query opens each program for its name, which takes `CAP_SYS_ADMIN`.
fn tcx(index: u32, side: Side) -> io::Result<Option<Vec<u32>>> {
    const PROG_QUERY: libc::c_int = 16;
    let mut ids = [0_u32; MOST];
    let mut query = Query {
        interface: index,
        attach_type: match side {
            Side::Ingress => 46,
            Side::Egress => 47,
        },
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: the attributes are as long as told, and point to as many ids as told; both outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if answer == 0 {
        return Ok(Some(ids[..(query.count as usize).min(MOST)].to_vec()));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The attach type is unknown.
        Some(libc::EINVAL) => Ok(None),
        // Nobody was ever there.
        Some(libc::ENOENT) => Ok(Some(Vec::new())),
        _ => Err(error),
    }
}
