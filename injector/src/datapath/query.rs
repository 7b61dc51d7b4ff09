//! Asks the kernel which programs are attached at one place.

use std::io;

/// The most programs that the kernel takes on one TCX hook, and on one cgroup of one attach type.
const MOST: usize = 64;

/// The argument of `bpf(BPF_PROG_QUERY)`, which also holds the answer.
#[repr(C)]
#[derive(Default)]
struct Query {
    /// The index of an interface, or the descriptor of a cgroup.
    target: u32,
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

/// The programs that are attached at one place.
pub(super) struct Attached {
    /// Their ids, in the order of execution.
    pub ids: Vec<u32>,
    /// How often the place was changed; 0 where the kernel does not count that.
    pub revision: u64,
}

/// Reads which programs are attached at a target, which is the index of an interface or the descriptor of a cgroup, by one attach type.
///
/// aya's own queries open each program for its name, which takes `CAP_SYS_ADMIN`.
///
/// # Errors
/// The kernel's answer: `EINVAL` where it does not know the attach type, `ENOENT` where no program was ever attached.
pub(super) fn attached(target: u32, attach_type: u32) -> io::Result<Attached> {
    const PROG_QUERY: libc::c_int = 16;
    let mut ids = [0_u32; MOST];
    let mut query =
        Query { target, attach_type, ids: ids.as_mut_ptr() as u64, count: MOST as u32, ..Query::default() };
    // SAFETY: the attributes are as long as given, and point to as many ids as given; both outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    let ids = ids[..(query.count as usize).min(MOST)].to_vec();
    Ok(Attached { ids, revision: query.revision })
}
