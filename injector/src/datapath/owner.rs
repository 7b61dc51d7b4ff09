//! The owners of programs: the daemon writes its own process into the lease, and reads others' there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::ProgramInfo;
use injector_common::record::Lease;
use injector_core::clock::MonoNs;

/// A daemon's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub started: u64,
    /// A hash of the boot id.
    pub boot: u64,
    /// Its pid namespace.
    pub pid_namespace: u64,
}

/// Whether an owner lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The owner lives.
    Alive,
    /// The owner does not live: what it left may go.
    Dead,
    /// The owner runs, or ran, in another pid namespace, so that nothing is known of it here.
    Unknown,
}

impl Owner {
    /// This process.
    pub fn ours() -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid)?.ok_or(io::ErrorKind::NotFound)?;
        let mut boot = DefaultHasher::new();
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.hash(&mut boot);
        let pid_namespace = std::fs::metadata("/proc/self/ns/pid")?.ino();
        Ok(Self { pid, started, boot: boot.finish(), pid_namespace })
    }

    /// The owner of a program of ours, by what its lease says; `None` if it has no lease of this layout.
    pub fn of(program: &ProgramInfo) -> Option<Self> {
        Self::of_lease(&lease(program)?)
    }

    fn of_lease(lease: &Lease) -> Option<Self> {
        Some(Self {
            pid: u32::try_from(lease.pid).ok().filter(|pid| *pid != 0)?,
            started: lease.started,
            boot: lease.boot,
            pid_namespace: lease.pid_namespace,
        })
    }

    /// Whether it lives; `us` is this process.
    pub fn life(&self, us: &Self) -> Life {
        if self.boot != us.boot {
            return Life::Dead;
        }
        if self.pid_namespace != us.pid_namespace {
            return Life::Unknown;
        }
        match started(self.pid) {
            Ok(Some(started)) if started == self.started => Life::Alive,
            // Where /proc hides the processes of others (hidepid=), one that is not seen may live.
            Ok(None) if !std::path::Path::new("/proc/1/stat").exists() => Life::Unknown,
            Ok(_) => Life::Dead,
            Err(_) => Life::Unknown,
        }
    }
}

/// The lease of a program of ours; `None` if it has none of this layout.
fn lease(program: &ProgramInfo) -> Option<Lease> {
    let ids = program.map_ids().ok()??;
    let lease = ids.into_iter().find(|id| {
        MapInfo::from_id(*id).is_ok_and(|map| {
            map.name_as_str() == Some("LEASE") && map.value_size() as usize == size_of::<Lease>()
        })
    })?;
    let map = Map::from_map_data(MapData::from_id(lease).ok()?).ok()?;
    Array::<MapData, Lease>::try_from(map).ok()?.get(&0, 0).ok()
}

/// A daemon whose programs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The process that it belongs to.
    pub owner: Owner,
    /// The instant up to which it may cut, unless it renews its lease.
    pub until: MonoNs,
}

/// The daemons whose programs are loaded in this kernel, each once. It takes `CAP_SYS_ADMIN`: without it none is found.
pub fn loaded() -> Vec<Loaded> {
    let mut found: Vec<Loaded> = Vec::new();
    for program in aya::programs::loaded_programs().flatten() {
        let is_ours = program.name_as_str().is_some_and(|name| name.starts_with("injector_"));
        let Some(lease) = is_ours.then(|| lease(&program)).flatten() else { continue };
        let Some(owner) = Owner::of_lease(&lease) else { continue };
        let until = MonoNs(if lease.lapsed == 0 { lease.expires } else { lease.lapsed });
        match found.iter_mut().find(|known| known.owner == owner) {
            // After a reload the newest of its leases counts.
            Some(known) => known.until = known.until.max(until),
            None => found.push(Loaded { owner, until }),
        }
    }
    found
}

/// The programs of other injectors that are not known to be dead, by their ids, each with its injector's pid. It takes
/// `CAP_SYS_ADMIN`: without it none is found.
pub fn programs_of_others() -> BTreeMap<u32, u32> {
    let Ok(us) = Owner::ours() else { return BTreeMap::new() };
    let other = |program: ProgramInfo| {
        let is_injectors = program.name_as_str().is_some_and(|name| name.starts_with("injector_"));
        let owner = is_injectors.then(|| Owner::of(&program)).flatten()?;
        (owner != us && owner.life(&us) != Life::Dead).then_some((program.id(), owner.pid))
    };
    aya::programs::loaded_programs().flatten().filter_map(other).collect()
}

/// The command line of a process, for people; empty where it can't be read.
pub fn command_line(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ")
}

/// When a process started, in clock ticks since the boot; `None` if there is none, or it is only waiting to be
/// reaped (its descriptors, and so its programs' owner, are gone).
fn started(pid: u32) -> io::Result<Option<u64>> {
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Gone between the open and the read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name, in parentheses, may hold spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    let mut words = rest.split_whitespace();
    let state = words.next().ok_or(io::ErrorKind::InvalidData)?;
    if matches!(state, "Z" | "X") {
        return Ok(None);
    }
    // Field 22 of the line; the state was field 3.
    let started = words.nth(18).and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some(started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_live_and_an_earlier_process_of_our_pid_does_not() {
        let us = Owner::ours().unwrap();
        assert_eq!(us.life(&us), Life::Alive);
        assert_eq!(Owner { started: us.started - 1, ..us }.life(&us), Life::Dead);
        assert_eq!(Owner { boot: us.boot ^ 1, ..us }.life(&us), Life::Dead);
        assert_eq!(Owner { pid_namespace: 1, ..us }.life(&us), Life::Unknown);
        // The pid is above the largest that a kernel gives.
        assert_eq!(Owner { pid: 1 << 23, ..us }.life(&us), Life::Dead);
    }

    #[test]
    fn a_process_that_ended_is_dead_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let waited = std::time::Instant::now();
        while started(child.id()).unwrap().is_some() {
            assert!(waited.elapsed().as_secs() < 20, "the child never ended");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
    }
}
