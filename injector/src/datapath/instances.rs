//! Instances of the programs, verified on threads of their own: the kernel takes a tenth of a second for one, and
//! anyone who wants it has other things to do.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::Program;
use injector_common::key::DeviceKey;
use tokio::sync::{Semaphore, oneshot};

use super::DatapathError;
use super::local;
use super::object::{EGRESS, INGRESS, LocalUse, Object, Source, Use, XDP, instance, local_instance};
use crate::fault;
use injector_core::config::Hook;

/// The ids of all programs that this daemon has put on a hook or is about to: what is found there with one of them is
/// no stranger's, whatever is known of the interface by then. The kernel gives an id again only after all others.
#[derive(Clone, Debug, Default)]
pub struct OwnPrograms(Arc<Mutex<BTreeSet<u32>>>);

impl OwnPrograms {
    fn ids(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of one, before it is on any hook.
    pub(super) fn add(&self, id: u32) {
        self.ids().insert(id);
    }

    /// Whether a program is one of them.
    pub(super) fn has(&self, id: u32) -> bool {
        self.ids().contains(&id)
    }
}

/// Loaded programs with the maps of one object. A clone is the same programs.
#[derive(Clone)]
pub struct Instance {
    programs: Arc<Mutex<Ebpf>>,
    what_for: Use,
    own: OwnPrograms,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.what_for.fmt(f)
    }
}

impl Instance {
    /// The programs, to load or attach them.
    pub(super) fn programs(&self) -> MutexGuard<'_, Ebpf> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the id of one of its programs that is about to be attached.
    pub(super) fn note(&self, id: u32) {
        self.own.add(id);
    }

    /// Gives programs that are on many interfaces which one an index of their namespace is.
    pub(super) fn enter(&self, index: u32, id: u32) -> Result<(), String> {
        self.devices(|devices, key| devices.insert(key, id, 0).map_err(|error| super::chain(&error)), index)
    }

    /// Forgets it, unless the index is another interface's by now.
    pub(super) fn leave(&self, index: u32, id: u32) {
        let left = self.devices(
            |devices, key| match devices.get(&key, 0) {
                Ok(known) if known == id => devices.remove(&key).map_err(|error| super::chain(&error)),
                _ => Ok(()),
            },
            index,
        );
        if let Err(error) = left {
            tracing::debug!(index, id, error, "an interface that is gone is still known to the programs");
        }
    }

    fn devices(
        &self,
        change: impl FnOnce(&mut HashMap<&mut MapData, DeviceKey, u32>, DeviceKey) -> Result<(), String>,
        index: u32,
    ) -> Result<(), String> {
        let Use::Many(space) = self.what_for else { return Ok(()) };
        let mut programs = self.programs();
        let map = programs.map_mut("INTERFACES").ok_or("the eBPF object has no map INTERFACES")?;
        let mut devices = HashMap::try_from(map).map_err(|error| super::chain(&error))?;
        change(&mut devices, DeviceKey { space, index })
    }
}

/// Makes instances with the maps of one object.
#[derive(Clone)]
pub struct Instances {
    source: Source,
    /// Permits to verify: as many at a time as there are CPUs.
    turns: Arc<Semaphore>,
    own: OwnPrograms,
}

impl Instances {
    /// Instances with the maps of this object.
    pub fn of(object: &Object) -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        let own = OwnPrograms::default();
        Self { source: object.source(), turns: Arc::new(Semaphore::new(turns)), own }
    }

    /// The programs of all its instances that were attached.
    pub fn own(&self) -> OwnPrograms {
        self.own.clone()
    }

    /// Makes one with the programs loaded that a hook needs. The thread has the rights of the one that polls this.
    ///
    /// # Errors
    /// If the kernel refuses a program, or there can be no thread.
    pub async fn make(self, what_for: Use, hook: Hook) -> Result<Instance, DatapathError> {
        let Self { source, turns, own } = self;
        let _turn = turns.acquire_owned().await;
        let (reply, made) = oneshot::channel();
        // The thread is not one of the runtime's, which would be waited for at the daemon's end.
        let thread = std::thread::Builder::new().name("verify".into());
        thread
            .spawn(move || {
                let made = match source {
                    Source::Pins(sizes, pins, further) => match (what_for, further) {
                        (Use::Loopback(id, space), Some(further)) => {
                            local_instance(&sizes, &pins, &further, LocalUse::Loopback(id, space))
                        }
                        _ => instance(&sizes, &pins, what_for),
                    }
                    .map(|ebpf| (Arc::new(Mutex::new(ebpf)), what_for)),
                    Source::Only(programs) => Ok((programs, Use::Many(0))),
                };
                let made = made.and_then(|(programs, what_for)| {
                    let instance = Instance { programs, what_for, own };
                    load(&mut instance.programs(), hook)?;
                    Ok(instance)
                });
                let _ = reply.send(made);
            })
            .map_err(|source| DatapathError::Thread { source })?;
        made.await.map_err(|_| DatapathError::Thread { source: std::io::Error::other("it ended early") })?
    }
}

/// The programs that a hook needs.
fn programs_for(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::Local => &[local::EGRESS],
        Hook::Xdp => &[XDP, EGRESS],
        Hook::Auto | Hook::Tc | Hook::Clsact => &[INGRESS, EGRESS],
    }
}

/// Has the kernel verify the programs that a hook needs. (Where another holds XDP, one more is loaded when that is
/// found.)
fn load(ebpf: &mut Ebpf, hook: Hook) -> Result<(), DatapathError> {
    for name in programs_for(hook).iter().copied() {
        let injected = fault::at("verify/program").map_err(Into::into);
        let loaded = match ebpf.program_mut(name) {
            _ if injected.is_err() => injected,
            // Another interface that shares the instance has loaded it.
            Some(program) if program.fd().is_ok() => continue,
            Some(Program::SchedClassifier(program)) => program.load(),
            Some(Program::Xdp(program)) => program.load(),
            // Attaching reports what is missing.
            _ => continue,
        };
        loaded
            .map_err(|source| DatapathError::Program { name: name.to_owned(), source: Box::new(source) })?;
    }
    Ok(())
}
