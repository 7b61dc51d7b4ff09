//! Network namespaces, and running inside them.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::error::{Error, run};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// A network namespace with a name, until it is hidden; gone when dropped and nothing else keeps it.
#[derive(Debug)]
pub struct Namespace {
    name: Option<String>,
    file: File,
}

impl Namespace {
    /// Makes one, with its loopback device up.
    pub fn create(name: &str) -> Result<Self, Error> {
        run(ip().args(["netns", "add", name]))?;
        let opened = File::open(path(name)).map_err(Error::io(format!("opening {}", path(name).display())));
        let file = opened.inspect_err(|_| drop(run(ip().args(["netns", "delete", name]))))?;
        let namespace = Self { name: Some(name.to_owned()), file };
        run(ip().args(["-netns", name, "link", "set", "lo", "up"]))?;
        Ok(namespace)
    }

    /// Takes its name away; it lives on as long as this value or a process in it.
    pub fn hide(&mut self) -> Result<(), Error> {
        let Some(name) = self.name.take() else { return Ok(()) };
        run(ip().args(["netns", "delete", &name])).map(drop)
    }

    /// Runs something on a thread inside it. A socket made there, and a process started there, stay in it.
    pub fn within<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        // A thread is in a namespace for good: this one ends with the job.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let moved = move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network));
                moved.unwrap_or_else(|error| panic!("entering {:?}: {error}", self.name));
                job()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its devices go with it.
        if let Err(error) = self.hide() {
            eprintln!("a namespace stays behind: {error}");
        }
    }
}

/// Gives the calling thread, and what it starts from now on, names of namespaces of their own: a daemon of another lab
/// that looks for its peers everywhere sees nothing of them, nor this one of others. They are gone with the last process
/// or thread that sees them.
pub fn seclude() -> Result<(), Error> {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.get() {
        return Ok(());
    }
    let secluded = || {
        std::fs::create_dir_all(NAMES)?;
        // SAFETY: only the calling thread gets another view of mounts, in which all paths lead where they led before.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("tmpfs", NAMES, "tmpfs", MountFlags::empty(), None)?;
        Ok(())
    };
    secluded().map_err(Error::io(format!("making {NAMES} private")))?;
    DONE.set(true);
    Ok(())
}

/// The file of a named namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

/// `ip` in a process group of its own: a signal to the terminal's group must not stop a step of the clean-up.
pub fn ip() -> Command {
    let mut ip = Command::new("ip");
    std::os::unix::process::CommandExt::process_group(&mut ip, 0);
    ip
}
