//! The programs and maps for peers on this machine: what gives sockets and ports their owners. They are loaded only where
//! the config has such peers, and go with the process.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use aya::maps::{HashMap, Map, MapData, MapError, SkStorage};
use aya::programs::{BtfTracePoint, Program};
use aya::{Btf, Ebpf};
use injector_common::key::{Address, BY_PORT, ListenKey, NOBODY, PortKey, PortUse};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::btf::{self, Field};
use super::cgroup_hooks::{CgroupHooks, CgroupQuery, Reattached, RefusedProgram};
use super::object::{Object, SpaceId, wire_address};
use super::{DatapathError, chain};
use crate::fault;
use injector_core::clock::MonoNs;
use injector_core::config::Listen;
use injector_core::model::PeerId;

/// The program on `lo`.
pub(super) const EGRESS: &str = "injector_lo";
/// The programs that follow processes, with their tracepoints. The kernel lets nobody detach those.
const ON_PROCESSES: [(&str, &str); 2] =
    [("injector_fork", "sched_process_fork"), ("injector_exit", "sched_process_exit")];

/// Why peers on this machine can't be distinguished here.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no cgroup2 file system.
    #[error(
        "peers on this machine can't be distinguished without cgroup2: {0}; the daemon needs CAP_SYS_ADMIN at its start and a kernel with CONFIG_CGROUPS"
    )]
    NoCgroup(io::Error),
    /// The kernel's type information does not lead to what the programs read.
    #[error("processes can't be followed: {0}; the kernel needs CONFIG_DEBUG_INFO_BTF")]
    Types(io::Error),
    /// A program was not attached.
    #[error(
        "program {name} can't be attached: {why}; peers on this machine need CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Attach {
        /// The program.
        name: &'static str,
        /// aya's account.
        why: String,
    },
    /// The process is in a pid namespace of its own.
    #[error(
        "the daemon is in a pid namespace of its own, where processes have other ids than the kernel's programs see: start it outside of it (--pid=host) for peers on this machine"
    )]
    PidNamespace,
    /// Something else of the data plane.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// The owner of a process or a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerId {
    /// A peer.
    Peer(PeerId),
    /// Several peers: what it sends could be any of theirs.
    Several,
}

impl OwnerId {
    fn word(self) -> u32 {
        match self {
            Self::Peer(peer) => u32::from(peer.0),
            Self::Several => NOBODY,
        }
    }

    fn of(word: u32) -> Self {
        if word == NOBODY { Self::Several } else { Self::Peer(PeerId(word as u16)) }
    }
}

/// The programs' knowledge of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProcess {
    /// The peer that it belongs to.
    pub owner: OwnerId,
    /// Whether that is by a port of its own alone.
    pub is_by_port: bool,
}

/// The programs, attached, and their maps.
pub struct LocalHooks {
    owners: SkStorage<MapData, u32>,
    processes: HashMap<MapData, u32, u32>,
    cgroups: HashMap<MapData, u64, u32>,
    used: HashMap<MapData, PortKey, PortUse>,
    listens: Vec<(SpaceId, Listen, PeerId)>,
    /// Holds the programs to their hooks.
    programs: Ebpf,
    cgroup: CgroupHooks,
    query: CgroupQuery,
}

impl LocalHooks {
    /// Attaches the programs to the root of all cgroups. `spaces` are the namespaces by their cookies, `listens` the ports of the config.
    ///
    /// # Errors
    /// This kernel or this process lacks something: nothing stays attached then.
    pub fn attach(
        object: &Object,
        cgroup: &OwnedFd,
        spaces: &BTreeMap<u64, SpaceId>,
        listens: &[(SpaceId, Listen, PeerId)],
    ) -> Result<Self, LocalError> {
        if !is_first_pid_namespace() {
            return Err(LocalError::PidNamespace);
        }
        let offsets = btf::offsets([
            Field { of: "task_struct", name: "tgid" },
            Field { of: "task_struct", name: "signal" },
            Field { of: "signal_struct", name: "live" },
        ])
        .map_err(LocalError::Types)?;
        let mut programs = object.local_instance(offsets)?;
        let mut taken = |name: &'static str| {
            programs.take_map(name).ok_or(LocalError::Datapath(DatapathError::NoMap { name }))
        };
        let [owners, processes, cgroups, space_map, listen_map, used] =
            ["OWNERS", "PROCESSES", "CGROUPS", "SPACES", "LISTENS", "USED"].map(&mut taken);
        let mut space_map: HashMap<MapData, u64, u32> = map("SPACES", space_map?)?;
        for (cookie, space) in spaces {
            space_map.insert(cookie, u32::from(space.0), 0).map_err(failed("SPACES"))?;
        }
        let mut listen_map: HashMap<MapData, ListenKey, u32> = map("LISTENS", listen_map?)?;
        for (space, listen, peer) in listens {
            let address = listen.address().map_or([0; 4], wire_address);
            let key = ListenKey { address, space: space.0, port: listen.port().unwrap_or(0) };
            listen_map.insert(key, u32::from(peer.0), 0).map_err(failed("LISTENS"))?;
        }
        let owners = SkStorage::try_from(owners?).map_err(failed("OWNERS"))?;
        let processes = map("PROCESSES", processes?)?;
        let cgroups = map("CGROUPS", cgroups?)?;
        let used = map("USED", used?)?;
        let btf = Btf::from_sys_fs().map_err(|error| LocalError::Types(io::Error::other(error)))?;
        // Programs that follow processes come first: then no socket of a new process is without its owner.
        for (name, tracepoint) in ON_PROCESSES {
            let attached = fault::at("local/attach").map_err(|error| error.to_string());
            let attached = attached.and_then(|()| {
                let program: &mut BtfTracePoint = program(&mut programs, name)?;
                program.load(tracepoint, &btf).map_err(|error| chain(&error))?;
                program.attach().map_err(|error| chain(&error))
            });
            attached.map_err(|why| LocalError::Attach { name, why })?;
        }
        let root = cgroup.try_clone().map_err(LocalError::NoCgroup)?;
        let attached = CgroupHooks::attach(&mut programs, root);
        let refused = |RefusedProgram { name, why }| LocalError::Attach { name, why };
        let (cgroup, query) = attached.map_err(refused)?;
        Ok(Self { owners, processes, cgroups, used, listens: listens.to_vec(), programs, cgroup, query })
    }

    /// Asks whether the programs are still attached, without these hooks.
    pub fn query(&self) -> CgroupQuery {
        self.query.clone()
    }

    /// Attaches the programs again that another process has detached.
    pub fn reattach(&mut self) -> Reattached {
        self.cgroup.reattach(&mut self.programs, &self.query)
    }

    /// The owner of a socket.
    pub fn owner(&self, socket: &impl AsRawFd) -> Result<Option<OwnerId>, LocalError> {
        match self.owners.get(socket, 0) {
            Ok(word) => Ok(Some(OwnerId::of(word))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(None)
            }
            Err(error) => Err(failed("OWNERS")(error).into()),
        }
    }

    /// Gives a socket to an owner.
    pub fn give(&mut self, socket: &impl AsRawFd, owner: OwnerId) -> Result<(), LocalError> {
        Ok(self.owners.insert(socket, owner.word(), 0).map_err(failed("OWNERS"))?)
    }

    /// Gives a process to an owner.
    pub fn give_process(&mut self, process: u32, owner: OwnerId) -> Result<(), LocalError> {
        Ok(self.processes.insert(process, owner.word(), 0).map_err(failed("PROCESSES"))?)
    }

    /// Takes a process from its owner.
    pub fn take_process(&mut self, process: u32) -> Result<(), LocalError> {
        match self.processes.remove(&process) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            Err(error) => Err(failed("PROCESSES")(error).into()),
        }
    }

    /// Gives what is in a cgroup to a peer, or takes it away.
    pub fn give_cgroup(&mut self, id: u64, peer: Option<PeerId>) -> Result<(), LocalError> {
        let done = match peer {
            Some(peer) => self.cgroups.insert(id, u32::from(peer.0), 0),
            None => self.cgroups.remove(&id),
        };
        Ok(done.map_err(failed("CGROUPS"))?)
    }

    /// The processes that have an owner.
    pub fn processes(&self) -> Result<BTreeMap<u32, KnownProcess>, LocalError> {
        let known =
            |word: u32| KnownProcess { owner: OwnerId::of(word & !BY_PORT), is_by_port: word & BY_PORT != 0 };
        let all = self.processes.iter().map(|entry| entry.map(|(process, word)| (process, known(word))));
        Ok(all.collect::<Result<_, _>>().map_err(failed("PROCESSES"))?)
    }

    /// Notes that a peer's socket has a port, `None` for every address.
    pub fn note(
        &mut self,
        space: SpaceId,
        protocol: u8,
        at: (Option<IpAddr>, u16),
        peer: PeerId,
    ) -> Result<(), LocalError> {
        let key = port_key(space, protocol, at);
        let last = PortUse { at: MonoNs::now().0, peer: u32::from(peer.0), pad: 0 };
        Ok(self.used.insert(key, last, 0).map_err(failed("USED"))?)
    }
}

/// The owners of this machine's ports.
pub struct LocalPorts {
    used: HashMap<MapData, PortKey, PortUse>,
    listens: Vec<(SpaceId, Listen, PeerId)>,
}

impl LocalPorts {
    /// The peer whose TCP socket has a port, by the config or as the programs saw it.
    pub fn owner(&self, space: SpaceId, (address, port): (IpAddr, u16)) -> Option<PeerId> {
        let is_it =
            |(of, listen, _): &&(SpaceId, Listen, PeerId)| *of == space && listen.holds(Some(address), port);
        if let Some((_, _, peer)) = self.listens.iter().find(is_it) {
            return Some(*peer);
        }
        let used = |address| {
            let key = port_key(space, libc::IPPROTO_TCP as u8, (address, port));
            self.used.get(&key, 0).ok()
        };
        match PortUse::latest(used(Some(address)).as_ref(), used(None).as_ref()) {
            0 | NOBODY => None,
            peer => Some(PeerId(peer as u16)),
        }
    }
}

impl LocalHooks {
    /// The owners of ports, for readers that do not hold the hooks.
    ///
    /// # Errors
    /// There is no further handle of the map.
    pub fn ports(&self, object: &Object) -> Result<LocalPorts, LocalError> {
        let used = Map::from_map_data(object.local_map("USED")?).map_err(failed("USED"))?;
        Ok(LocalPorts { used: map("USED", used)?, listens: self.listens.clone() })
    }
}

fn port_key(space: SpaceId, protocol: u8, (address, port): (Option<IpAddr>, u16)) -> PortKey {
    let address: Address = address.map_or([0; 4], wire_address);
    PortKey { address, space: space.0, port, protocol: u32::from(protocol) }
}

fn failed(name: &'static str) -> impl FnOnce(MapError) -> DatapathError {
    move |source| DatapathError::Map { name, source }
}

fn map<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    map: Map,
) -> Result<HashMap<MapData, K, V>, DatapathError> {
    HashMap::try_from(map).map_err(failed(name))
}

fn program<'a, P>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut Program, Error = aya::programs::ProgramError>,
{
    let program =
        programs.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|error| chain(&error))
}

/// The root of all cgroups, by a mount of cgroup2 that no path leads to: where others have mounted it does not matter.
/// Making it takes `CAP_SYS_ADMIN`.
///
/// # Errors
/// The kernel has no cgroup2, or the right is missing.
pub fn cgroup_root() -> Result<OwnedFd, LocalError> {
    let root = fault::at("local/cgroup").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let root = root.and_then(|()| {
        let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    });
    // Programs are attached to an open directory; a file that was opened by `O_PATH` alone is refused.
    let root = root.and_then(|mount| openat(&mount, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()));
    root.map_err(|error| LocalError::NoCgroup(error.into()))
}

/// Whether this process sees the same process ids as the kernel's programs.
fn is_first_pid_namespace() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    /// The inode number that the kernel gives to the first pid namespace.
    const FIRST: u64 = 0xefff_fffc;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST)
}
