//! The owners of sockets: the id of a peer in the socket's own storage, which accepted sockets inherit from
//! their listener.

use core::ptr;

use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::HashMap;

/// A map of socket storage that accepted sockets inherit; aya's own lacks the flag for that.
#[repr(C)]
pub struct Inherited {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const u32,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers are null and never followed: the loader reads their types alone.
unsafe impl Sync for Inherited {}

/// The owners of sockets.
#[btf_map]
pub static OWNERS: Inherited = Inherited {
    r#type: ptr::null(),
    key: ptr::null(),
    value: ptr::null(),
    max_entries: ptr::null(),
    map_flags: ptr::null(),
};

/// The peers of processes, by process id; some with [`BY_PORT`](injector_common::key::BY_PORT).
#[map]
pub static PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);
/// The peers of cgroups, by cgroup id.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(1 << 12, BPF_F_NO_PREALLOC);

/// The owner of a socket; `None` if it has none. `T` is what the helper takes as a socket on the calling program's hook.
#[inline(always)]
pub fn owner<T>(socket: *mut T) -> Option<u32> {
    // SAFETY: the verifier checks that it is a socket or, on a cgroup's hooks, the context that represents one.
    let owner = unsafe { bpf_sk_storage_get(map(), socket.cast(), ptr::null_mut(), 0) }.cast::<u32>();
    // SAFETY: one aligned word of the socket's storage.
    (!owner.is_null()).then(|| unsafe { owner.read_volatile() })
}

/// Gives a socket to a peer.
#[inline(always)]
pub fn give<T>(socket: *mut T, peer: u32) {
    // SAFETY: as in `owner`.
    let owner = unsafe {
        bpf_sk_storage_get(map(), socket.cast(), ptr::null_mut(), u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    };
    if !owner.is_null() {
        // SAFETY: as in `owner`.
        unsafe { owner.cast::<u32>().write_volatile(peer) };
    }
}

#[inline(always)]
fn map() -> *mut core::ffi::c_void {
    ptr::from_ref(&OWNERS).cast_mut().cast()
}
