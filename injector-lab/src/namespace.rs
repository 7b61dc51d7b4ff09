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

    /// Runs something inside it, on the calling thread, which returns to its own namespace. A socket made there, and a process or a
    /// thread started there, stay in it.
    pub fn within<T>(&self, job: impl FnOnce() -> T) -> T {
        // Not on a thread of its own: a process ends with the thread that started it, see `end_with_thread`.
        let own = File::open("/proc/thread-self/ns/net").and_then(|own| {
            enter(&self.file)?;
            Ok(own)
        });
        let _return = Return(own.unwrap_or_else(|error| panic!("entering {:?}: {error}", self.name)));
        job()
    }
}

/// Returns the calling thread to its own namespace when dropped, also after a panic.
struct Return(File);

impl Drop for Return {
    fn drop(&mut self) {
        // A test in a wrong namespace would show nothing.
        enter(&self.0).unwrap_or_else(|error| panic!("returning from a namespace: {error}"));
    }
}

fn enter(namespace: &File) -> std::io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The namespace's devices go with it.
        if let Err(error) = self.hide() {
            eprintln!("a namespace stays behind: {error}");
        }
    }
}

/// Gives the calling thread, and all that it starts from now on, a list of named namespaces of its own, which
/// is empty at first. A daemon of another lab that searches every named namespace for its peers does not find
/// those of this lab, nor the other way round. The names are gone with the last process or thread that sees
/// them.
pub fn hide_names() -> Result<(), Error> {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.get() {
        return Ok(());
    }
    let hide = || {
        std::fs::create_dir_all(NAMES)?;
        // SAFETY: only the calling thread gets another view of mounts, in which all paths lead where they led before.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("tmpfs", NAMES, "tmpfs", MountFlags::empty(), None)?;
        Ok(())
    };
    hide().map_err(Error::io(format!("making {NAMES} private")))?;
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
