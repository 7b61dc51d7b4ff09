//! A thread of a daemon that is stopped, as a debugger stops it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// One thread of a daemon, stopped until this is dropped. Must be dropped by the thread that made it.
pub struct StoppedThread(libc::pid_t);

fn trace(request: libc::c_uint, thread: libc::pid_t) -> std::io::Result<()> {
    // SAFETY: none of the requests used here reads or writes memory of this process.
    let answer = unsafe { libc::ptrace(request, thread, 0, 0) };
    if answer == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

impl StoppedThread {
    /// The thread of a daemon's process that is in a namespace.
    pub fn of(pid: u32, netns: &str) -> Self {
        let inside = std::fs::metadata(format!("/run/netns/{netns}")).unwrap().ino();
        // A thread that ends meanwhile is in none.
        Self::find(pid, |task| {
            std::fs::metadata(task.join("ns/net")).is_ok_and(|netns| netns.ino() == inside)
        })
    }

    /// The thread that starts the threads of namespaces, and asks what only its rights may ask.
    pub fn supervisor(pid: u32) -> Self {
        Self::find(pid, |task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "netns")
        })
    }

    /// The thread of the daemon's task, and no other: the first of the process.
    pub fn main(pid: u32) -> Self {
        Self::stop(libc::pid_t::try_from(pid).unwrap())
    }

    /// Its id.
    pub fn id(&self) -> libc::pid_t {
        self.0
    }

    fn find(pid: u32, is_it: impl Fn(&Path) -> bool) -> Self {
        let thread = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .map(|task| task.unwrap())
            .find(|task| is_it(&task.path()))
            .unwrap();
        Self::stop(thread.file_name().to_str().unwrap().parse().unwrap())
    }

    fn stop(thread: libc::pid_t) -> Self {
        trace(libc::PTRACE_SEIZE, thread).unwrap();
        trace(libc::PTRACE_INTERRUPT, thread).unwrap();
        // SAFETY: no status is asked for.
        let stopped = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(stopped, thread, "{}", std::io::Error::last_os_error());
        Self(thread)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // It may have ended with its process.
        let _ = trace(libc::PTRACE_DETACH, self.0);
    }
}
