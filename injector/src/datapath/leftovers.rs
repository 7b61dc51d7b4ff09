//! Finds and removes leftovers of dead daemons: filters of the clsact qdisc, the only attachment of ours that
//! outlives its process.

use std::io;

use super::clsact::MADE_QDISC;
use super::local;
use super::object::{EGRESS, INGRESS};
use super::owner::{Life, Owner};
use crate::netlink::LinkFacts;
use crate::netlink::filters::{Filter, Qdisc, Side, Tc};

/// Whether leftovers are only found, or removed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Only found.
    Report,
    /// Removed where their owner is dead.
    Remove,
}

/// A filter of a daemon that is not this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The interface that it is on.
    pub interface: String,
    /// The side of the interface.
    pub side: Side,
    /// Its program's id.
    pub program: u32,
    /// The daemon that it belongs to.
    pub owner: Owner,
    /// Whether that one lives.
    pub life: Life,
    /// Whether it was removed.
    pub removed: bool,
    /// Whether the qdisc that it was in, made by the same daemon, was removed with it.
    pub removed_qdisc: bool,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { interface, side, program, owner, life, removed, removed_qdisc } = self;
        let side = match side {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        let life = match life {
            Life::Alive => "which lives",
            Life::Dead => "which is gone",
            Life::Unknown => "in another pid namespace, so it can't be checked whether it still runs",
        };
        write!(
            f,
            "{interface}: {side} filter (program {program}) of the daemon with pid {}, {life}",
            owner.pid
        )?;
        match (removed, removed_qdisc) {
            (true, true) => f.write_str("; removed, with the clsact qdisc that it had made"),
            (true, false) => f.write_str("; removed"),
            (false, _) => Ok(()),
        }
    }
}

/// Searches the interfaces of the calling thread's namespace for leftovers. Filters of others, and those of a
/// daemon that lives or may live, are never touched.
pub fn sweep(links: &[LinkFacts], what: Sweep) -> io::Result<Vec<Leftover>> {
    crate::fault::at("sweep/list")?;
    let us = Owner::ours()?;
    let tc = Tc::open()?;
    let mut found = Vec::new();
    for link in links {
        let mut dead = Vec::new();
        let first = found.len();
        for side in Side::ALL {
            for filter in tc.filters(link.index, side)? {
                let Some(mut leftover) = leftover(&link.name, &filter, &us) else { continue };
                if what == Sweep::Remove && leftover.life == Life::Dead {
                    leftover.removed = true;
                    dead.push(filter);
                }
                found.push(leftover);
            }
        }
        if !dead.is_empty() {
            crate::fault::at("sweep/remove")?;
            let made = dead.iter().any(|filter| filter.handle == MADE_QDISC);
            let went = tc.remove_all(link.index, &dead, if made { Qdisc::Made } else { Qdisc::Found })?;
            found[first..].iter_mut().for_each(|leftover| leftover.removed_qdisc = went);
        }
    }
    Ok(found)
}

fn leftover(interface: &str, filter: &Filter, us: &Owner) -> Option<Leftover> {
    let name = filter.name.as_deref()?;
    if filter.kind != "bpf" || !(name == INGRESS || name == EGRESS || name == local::EGRESS) {
        return None;
    }
    let program = filter.program?;
    let info = aya::programs::loaded_programs().flatten().find(|info| info.id() == program)?;
    let owner = Owner::of(&info)?;
    (owner != *us).then(|| Leftover {
        interface: interface.to_owned(),
        side: filter.side,
        program,
        life: owner.life(us),
        owner,
        removed: false,
        removed_qdisc: false,
    })
}
