//! Where maps are pinned, so that all instances of the programs share them: a `bpf` filesystem that is mounted nowhere.
//! Nothing is left behind, whatever ends this process.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::DatapathError;
use crate::fault;

/// The filesystem. Making it takes `CAP_SYS_ADMIN`; folders in it do not.
pub struct Pins {
    root: Arc<OwnedFd>,
    folders: AtomicU32,
}

impl Pins {
    /// Makes it.
    pub fn new() -> Result<Self, DatapathError> {
        let root = detached_bpffs().map_err(pins)?;
        Ok(Self { root: Arc::new(root), folders: AtomicU32::new(0) })
    }

    /// A new folder, for pins of these names.
    pub(super) fn folder(&self, names: &'static [&'static str]) -> Result<Folder, DatapathError> {
        let name = self.folders.fetch_add(1, Ordering::Relaxed).to_string();
        mkdirat(&self.root, &name, Mode::RWXU).map_err(pins)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.root, &name, flags, Mode::empty()).map_err(pins)?;
        Ok(Folder { root: Arc::clone(&self.root), name, directory, names })
    }
}

fn pins(source: Errno) -> DatapathError {
    DatapathError::Pins { source }
}

fn detached_bpffs() -> rustix::io::Result<OwnedFd> {
    fault::at("load/bpffs").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The pins of one set of maps; gone when dropped, since a pin alone would keep its map.
pub(super) struct Folder {
    root: Arc<OwnedFd>,
    name: String,
    directory: OwnedFd,
    names: &'static [&'static str],
}

impl Folder {
    /// The path at which a map is pinned, as this process sees it.
    pub fn path(&self, map: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{map}", self.directory.as_raw_fd()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for name in self.names {
            match unlinkat(&self.directory, *name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => tracing::warn!(name, %error, "a pin stays until the daemon ends"),
            }
        }
        if let Err(error) = unlinkat(&self.root, &self.name, AtFlags::REMOVEDIR) {
            tracing::warn!(%error, "the pins' folder stays until the daemon ends");
        }
    }
}
