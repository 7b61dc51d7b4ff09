//! Files that can't be looked at without waiting: a file system that answers nobody.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use injector_lab::Lab;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support;

/// A file system that answers nobody, in front of what a directory holds, until this is dropped: FUSE without a server.
pub struct Unanswering {
    server: Option<OwnedFd>,
    at: PathBuf,
}

impl Unanswering {
    /// Only this thread and what it has started see it.
    pub fn before(at: &Path) -> Self {
        let server = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("injector-test", at, "fuse", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))
            .unwrap();
        Self { server: Some(server.into()), at: at.to_owned() }
    }
}

impl Drop for Unanswering {
    fn drop(&mut self) {
        // Whoever waits for an answer gets an error.
        drop(self.server.take());
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

/// What is said of a path on one.
pub const HUNG: &str = "the file system that holds this path does not answer; repair or unmount it";

/// A directory in which a file leads to a namespace.
pub struct NamespaceFile(pub PathBuf);

impl NamespaceFile {
    pub fn to(lab: &Lab, netns: &str) -> Self {
        let directory = lab.folder().join("file");
        std::fs::create_dir(&directory).unwrap();
        let file = Self(directory);
        std::fs::write(file.path(), "").unwrap();
        support::ok("mount", &format!("--bind /run/netns/{netns} {}", file.path().display()));
        file
    }

    pub fn path(&self) -> PathBuf {
        self.0.join("netns")
    }
}

impl Drop for NamespaceFile {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
