//! Network namespaces, as a config names them.

use std::path::PathBuf;

use super::ContainerRef;

/// A network namespace as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Netns {
    /// A name under `/run/netns`.
    Name(String),
    /// A path to a namespace file.
    Path(PathBuf),
    /// The namespace of a process.
    Pid(u32),
    /// The namespace of a container, whichever process is its first one.
    Container(ContainerRef),
}

impl Netns {
    /// The namespace file; `None` for a container, whose process changes with each start.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Name(name) => Some(PathBuf::from("/run/netns").join(name)),
            Self::Path(path) => Some(path.clone()),
            Self::Pid(pid) => Some(PathBuf::from(format!("/proc/{pid}/ns/net"))),
            Self::Container(_) => None,
        }
    }

    /// The process whose namespace it is, by its id or by a path below `/proc`: when that ends, the name leads nowhere.
    pub fn process(&self) -> Option<u32> {
        match self {
            Self::Pid(pid) => Some(*pid),
            Self::Path(path) => path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok(),
            Self::Name(_) | Self::Container(_) => None,
        }
    }
}

impl std::fmt::Display for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid {pid}"),
            Self::Container(container) => write!(f, "container {container}"),
        }
    }
}
