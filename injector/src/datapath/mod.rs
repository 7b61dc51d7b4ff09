//! The data plane: eBPF programs on interfaces, and the maps through which the daemon rules and reads them.
//!
//! Only this module imports `aya`.

mod attach;
mod btf;
mod cgroup_hooks;
mod clsact;
mod exact;
mod foreign;
mod gate;
mod hooks;
mod identify;
mod instances;
mod kernel;
mod leftovers;
mod loaders;
mod local;
mod mapped;
mod object;
mod overlaps;
mod owner;
mod pins;
mod query;
mod slot_aging;
mod strangers;

pub use attach::{Attachment, Refused, Wanted, interface_facts};
pub use cgroup_hooks::{CgroupQuery, Reattached};
pub use clsact::{clsact_refusal, filters_that_may_stay};
pub use foreign::{
    Foreign, HookQuery, HookState, Names, all_names, has_tcx, ids, names, states, states_of_all, xdp_owner,
};
pub use gate::{Gate, LEASE, LeaseWatcher, RENEWAL};
pub use hooks::{Hooks, InterfaceCount};
pub use instances::{Instance, Instances, OwnPrograms};
pub use kernel::{Kernel, Wakeups};
pub use leftovers::{Leftover, Sweep, sweep};
pub use local::{KnownProcess, LocalError, LocalHooks, LocalPorts, OwnerId, cgroup_root};
pub use object::{Clocks, Object, SpaceId, Use, wire_address, wire_ids};
pub use overlaps::CommonStamps;
pub use owner::{Life, Loaded, Owner, command_line, loaded, programs_of_others};
pub use pins::Pins;
pub use slot_aging::SlotAging;
pub use strangers::StrangerMap;

use injector_core::ledger::{Fault, Lapsed};

/// A failure between the daemon and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The embedded object is not this daemon's.
    #[error(
        "the embedded eBPF object has ABI {object}, this daemon has {daemon}; rebuild with cargo xtask build"
    )]
    Abi {
        /// The object's version, 0 if it has none.
        object: u32,
        /// This daemon's version.
        daemon: u32,
    },
    /// The private `bpf` filesystem, or a folder in it, can't be made.
    #[error(
        "no private bpf filesystem: {source}; the daemon needs CAP_SYS_ADMIN and a kernel with CONFIG_BPF_SYSCALL"
    )]
    Pins {
        /// The kernel's answer.
        source: rustix::io::Errno,
    },
    /// The object doesn't load.
    #[error("the eBPF maps can't be made: {}", chain(source.as_ref()))]
    Load {
        /// aya's account.
        source: Box<aya::EbpfError>,
    },
    /// A program is refused.
    #[error("program {name} is refused by the kernel: {}", chain(source.as_ref()))]
    Program {
        /// Its name.
        name: String,
        /// aya's account, with the verifier's log.
        source: Box<aya::programs::ProgramError>,
    },
    /// There is no thread to have programs verified on.
    #[error("no thread verifies the programs: {source}; see the limits on this process's threads")]
    Thread {
        /// The system's answer.
        source: std::io::Error,
    },
    /// The object lacks a map.
    #[error("the eBPF object has no map {name}; rebuild with cargo xtask build")]
    NoMap {
        /// Its name.
        name: &'static str,
    },
    /// A map operation failed.
    #[error("map {name}: {}", chain(source))]
    Map {
        /// Its name.
        name: &'static str,
        /// aya's account.
        source: aya::maps::MapError,
    },
    /// A map can't be mapped into memory.
    #[error("map {name} can't be mapped into memory: {source}")]
    Mmap {
        /// Its name.
        name: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The daemon can't be named as the owner of what it attaches.
    #[error("this process can't be identified: {source}; mount /proc")]
    Owner {
        /// The system's answer.
        source: std::io::Error,
    },
    /// An interface can't be attached to.
    #[error("interface {interface}: {reason}")]
    Attach {
        /// The interface, with its namespace.
        interface: String,
        /// The fault, and the remedy.
        reason: String,
    },
    /// The lease had run out: nothing was stored.
    #[error(transparent)]
    Lapsed(#[from] Lapsed),
    /// A namespace can't be entered.
    #[error(transparent)]
    Netns(#[from] crate::netns::NetnsError),
}

/// An error and what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if text.contains("(os error 24)") {
        text.push_str("; raise LimitNOFILE in the unit, or `ulimit -n` before the start");
    }
    text
}

impl From<Fault<Self>> for DatapathError {
    fn from(fault: Fault<Self>) -> Self {
        match fault {
            Fault::Plane(error) => error,
            Fault::Lapsed(lapsed) => Self::Lapsed(lapsed),
        }
    }
}
