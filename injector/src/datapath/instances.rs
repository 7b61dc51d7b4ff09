//! Instances of the programs, verified on threads of their own: the kernel takes a good part of a second for one, and
//! whoever wants it has other things to do.

use std::sync::Arc;

use aya::Ebpf;
use aya::programs::Program;
use tokio::sync::{Semaphore, oneshot};

use super::DatapathError;
use super::attach::{EGRESS, INGRESS, XDP};
use super::object::{Sizes, instance};
use super::pins::Folder;
use injector_core::config::Hook;

/// Makes instances with the maps of one object.
#[derive(Clone)]
pub struct Instances {
    sizes: Arc<Sizes>,
    pins: Arc<Folder>,
    /// As many at a time as there are CPUs.
    turns: Arc<Semaphore>,
}

impl Instances {
    pub(super) fn new(sizes: Arc<Sizes>, pins: Arc<Folder>) -> Self {
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sizes, pins, turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Makes one for an interface id from 1, with the programs loaded that a hook needs. The thread has the rights of
    /// the one that polls this.
    ///
    /// # Errors
    /// If the kernel refuses a program, or there can be no thread.
    pub async fn make(self, interface: u32, hook: Hook) -> Result<Ebpf, DatapathError> {
        let Self { sizes, pins, turns } = self;
        let _turn = turns.acquire_owned().await;
        let (reply, made) = oneshot::channel();
        // Not one of the runtime's: it would be waited for at the daemon's end.
        let thread = std::thread::Builder::new().name(format!("verify {interface}"));
        thread
            .spawn(move || {
                let made = instance(&sizes, &pins, interface).and_then(|mut ebpf| {
                    load(&mut ebpf, hook)?;
                    Ok(ebpf)
                });
                let _ = reply.send(made);
            })
            .map_err(|source| DatapathError::Thread { source })?;
        made.await.map_err(|_| DatapathError::Thread { source: std::io::Error::other("it ended early") })?
    }
}

/// Has the kernel verify the programs that a hook needs. (Where another holds XDP, one more is loaded when that is
/// found.)
fn load(ebpf: &mut Ebpf, hook: Hook) -> Result<(), DatapathError> {
    let ingress = if hook == Hook::Xdp { XDP } else { INGRESS };
    for name in [ingress, EGRESS] {
        let loaded = match ebpf.program_mut(name) {
            Some(Program::SchedClassifier(program)) => program.load(),
            Some(Program::Xdp(program)) => program.load(),
            // Attaching tells what is missing.
            _ => continue,
        };
        loaded
            .map_err(|source| DatapathError::Program { name: name.to_owned(), source: Box::new(source) })?;
    }
    Ok(())
}
