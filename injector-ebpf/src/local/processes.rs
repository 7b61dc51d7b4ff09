//! The owners of processes. A process that a peer's process starts is the peer's, and a process id that is
//! used again is nobody's.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use injector_common::key::BY_PORT;
use injector_common::record::counter;

use crate::emit;
use crate::owners::PROCESSES;

/// The offset of `tgid` in the kernel's `task_struct`.
#[unsafe(no_mangle)]
pub static TASK_TGID: Global<u32> = Global::new(0);
/// The offset of `signal` there.
#[unsafe(no_mangle)]
pub static TASK_SIGNAL: Global<u32> = Global::new(0);
/// The offset of `live` in `signal_struct`: how many threads of the process have not ended.
#[unsafe(no_mangle)]
pub static SIGNAL_LIVE: Global<u32> = Global::new(0);

/// A field of something in the kernel.
#[inline(always)]
fn field<T: Copy>(of: *const c_void, at: u32) -> Option<T> {
    let mut read = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes a whole `T`, or fails; it checks the address itself.
    let result = unsafe {
        bpf_probe_read_kernel(
            read.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            of.cast::<u8>().wrapping_add(at as usize).cast(),
        )
    };
    // SAFETY: written.
    (result == 0).then(|| unsafe { read.assume_init() })
}

/// The id of the process that a task is a thread of.
#[inline(always)]
pub fn id_of(task: *const c_void) -> Option<u32> {
    field(task, TASK_TGID.load())
}

/// A task has started another one.
#[inline(always)]
pub fn forked(parent: *const c_void, child: *const c_void) {
    let Some(parent) = id_of(parent) else { return };
    // SAFETY: one word.
    let Some(peer) = (unsafe { PROCESSES.get(&parent) }).map(|peer| *peer & !BY_PORT) else { return };
    let Some(child) = id_of(child) else { return };
    if child != parent && PROCESSES.insert(&child, &peer, 0).is_err() {
        // The packets of this process can't be attributed then: that is lost evidence.
        emit::count(counter::STAMPS_LOST, 1);
    }
}

/// A task ends.
#[inline(always)]
pub fn exited(task: *const c_void) {
    let Some(process) = id_of(task) else { return };
    // SAFETY: only whether there is one.
    if unsafe { PROCESSES.get(&process) }.is_none() {
        return;
    }
    let Some(signal) = field::<usize>(task, TASK_SIGNAL.load()) else { return };
    // Other threads of the process may continue.
    if field::<i32>(signal as *const c_void, SIGNAL_LIVE.load()).is_none_or(|live| live <= 0) {
        let _ = PROCESSES.remove(&process);
    }
}
