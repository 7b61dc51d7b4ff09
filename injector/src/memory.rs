//! How the allocator gives memory back.

/// Has large buffers given back as soon as they are freed, and small ones kept in few places.
///
/// glibc keeps what was freed: after the first large buffer it takes those of that size from its arenas too; each
/// thread may have one, and an arena shrinks at its end alone. The daemon's object and large answers therefore stayed
/// resident, some 35 MiB of them. Other allocators, as that of the static binary, map large buffers by themselves.
pub fn give_back_soon() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_ARENA_MAX, ARENAS)] {
        // SAFETY: `mallopt` takes two numbers, and the allocator's lock while it sets what they mean.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// The number of bytes from which on a buffer is large.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 256 * 1024;
/// The number of places in which small buffers are kept.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;
