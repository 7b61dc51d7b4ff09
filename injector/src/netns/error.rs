//! Why a namespace's thread can't serve.

use std::path::PathBuf;

use crate::rights::RightsError;

/// Why a namespace's thread can't serve.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no such namespace.
    #[error("network namespace {name}: {} can't be opened: {source}; see `ip netns list`", path.display())]
    Open {
        /// As configured.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The namespace is a container's, which does not run.
    #[error(
        "{name} does not run, so it has no network namespace; it is followed, and entered when it starts"
    )]
    NoContainer {
        /// As configured.
        name: String,
    },
    /// The namespace can't be entered.
    #[error("network namespace {name} can't be entered: {source}; the daemon needs CAP_SYS_ADMIN")]
    Enter {
        /// As configured.
        name: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The namespace's thread can't be started, or has ended.
    #[error("the thread of network namespace {name} has ended")]
    Gone {
        /// As configured.
        name: String,
    },
    /// The namespace's thread does not answer.
    #[error(
        "the thread of network namespace {name} does not answer: something in the kernel holds it up, or this host is starved"
    )]
    Late {
        /// As configured.
        name: String,
    },
    /// The file of its path or name does not answer.
    #[error(
        "network namespace {name} can't be looked at: the file system that holds this path does not answer; repair or unmount it, or name the namespace otherwise, as by a pid"
    )]
    Hung {
        /// As configured: the path, or the name under `/run/netns`.
        name: String,
    },
    /// A thread can't give up its rights.
    #[error(transparent)]
    Rights(#[from] RightsError),
}

impl NetnsError {
    /// Whether nobody answered in time, so that it is to be tried again: it says nothing of the namespace.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Hung { .. })
    }

    /// Whether nothing has its name, or its process has ended.
    pub fn is_gone(&self) -> bool {
        let is_none = |source: &std::io::Error| {
            source.kind() == std::io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ESRCH)
        };
        matches!(self, Self::Open { source, .. } if is_none(source))
    }
}
