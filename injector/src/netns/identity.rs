//! The identity of a network namespace, whatever its name.

use std::os::unix::fs::MetadataExt as _;

/// The namespace that a file refers to: its device and inode. Another namespace under the same name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Identity {
    fn of(file: &std::fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }

    /// The namespace that the calling thread is in.
    pub fn of_thread() -> Option<Self> {
        Some(Self::of(&std::fs::metadata("/proc/thread-self/ns/net").ok()?))
    }

    /// The daemon's own namespace.
    pub fn own() -> Option<Self> {
        Some(Self::of(&std::fs::metadata("/proc/self/ns/net").ok()?))
    }
}
