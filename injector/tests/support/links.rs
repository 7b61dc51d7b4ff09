//! The BPF links that a process holds, and their end by another process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_DETACH: libc::c_int = 34;

/// A link that a process holds.
#[derive(Debug)]
pub struct Link {
    /// Its id.
    pub id: u32,
    /// Its type, as the kernel calls it, such as `tcx`, `xdp` or `cgroup`.
    pub kind: String,
}

/// The links that a process holds, nobody else's; none if it has ended.
pub fn of_process(process: u32) -> Vec<Link> {
    let infos = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    // A descriptor may be closed while they are read.
    let infos = infos.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let link = |info: String| {
        let value = |key: &str| info.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()));
        Some(Link { id: value("link_id:")?.parse().unwrap(), kind: value("link_type:")? })
    };
    infos.filter_map(link).collect()
}

/// Detaches a link, as `bpftool link detach` does, while its descriptor and its program live on.
pub fn detach(link: &Link) -> io::Result<()> {
    let held = bpf(LINK_GET_FD_BY_ID, &[link.id, 0, 0])?;
    // SAFETY: a new descriptor that nobody else has.
    let held = unsafe { OwnedFd::from_raw_fd(held) };
    bpf(LINK_DETACH, &[held.as_raw_fd().cast_unsigned()]).map(drop)
}

/// Detaches all links of one type that a process holds; how many there were.
pub fn detach_all(process: u32, kind: &str) -> usize {
    let links = of_process(process).into_iter().filter(|link| link.kind == kind);
    let detached = links.map(|link| match detach(&link) {
        // The process has noticed that another one is gone, and has closed it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        answer => answer.unwrap_or_else(|error| panic!("{link:?}: {error}")),
    });
    detached.count()
}

fn bpf(command: libc::c_int, words: &[u32]) -> io::Result<i32> {
    // SAFETY: the attributes are as long as given, and the kernel writes nothing beyond them.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(answer).unwrap())
}
