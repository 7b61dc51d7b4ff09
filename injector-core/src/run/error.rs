//! Why a run directory can't be read.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::api::{OLDEST_RECORD_SCHEMA, RECORD_SCHEMA};
use crate::clock::Span;

/// The versions of a layout that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedVersions(RangeInclusive<u32>);

impl SupportedVersions {
    pub(super) const RECORDS: Self = Self(OLDEST_RECORD_SCHEMA..=RECORD_SCHEMA);

    pub(super) const fn only(schema: u32) -> Self {
        Self(schema..=schema)
    }

    pub(super) fn contains(&self, schema: u32) -> bool {
        self.0.contains(&schema)
    }
}

impl fmt::Display for SupportedVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{last}") } else { write!(f, "{first} to {last}") }
    }
}

/// Why a run directory can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refuses.
    #[error("can't read {}: {source}; {}", .path.display(), unread(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Written by another version.
    #[error("{} has schema {found}, this injector reads {known}; use the version that wrote it", .path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The versions that can be read.
        known: SupportedVersions,
    },
    /// A line is not of the expected form.
    #[error("{} line {line} is not readable: {source}; fix or remove that line", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Why not.
        source: serde_json::Error,
    },
    /// A bound is asked for and the probes that it needs are not there.
    #[error("{} has no probes of trial {trial}; without them a report can't be made with another bound", .path.display())]
    NoProbes {
        /// The run directory.
        path: PathBuf,
        /// The trial.
        trial: u64,
    },
    /// A bound that no probe could keep or miss.
    #[error(
        "an answer can't be served within 0s; give a time between 1ns and {longest}, the longest timeout of a probe"
    )]
    BoundOfZero {
        /// The longest timeout of the run's probes.
        longest: Span,
    },
    /// A bound that no probe waited for.
    #[error(
        "no probe waited for {bound}: the longest timeout was {longest}, and whether an answer would have come later is not \
         known; give at most {longest}"
    )]
    BoundAboveTimeouts {
        /// The bound that was asked for.
        bound: Span,
        /// The longest timeout of the run's probes.
        longest: Span,
    },
    /// A record that belongs to no trial.
    #[error("{} line {line} has no trial number; only records of measure can be reported", .path.display())]
    NoTrial {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ReadError + '_ {
    move |source| ReadError::Io { path: path.to_owned(), source }
}

/// The remedy where something of a run can't be read.
fn unread(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "only the user who ran measure may read its directory: run this as that user, or with sudo"
        }
        _ => "name the directory that measure wrote with --out",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_is_told_who_may() {
        let said = |kind: io::ErrorKind| io_error(Path::new("run"))(kind.into()).to_string();
        assert!(said(io::ErrorKind::PermissionDenied).contains("with sudo"));
        assert!(said(io::ErrorKind::NotFound).ends_with("name the directory that measure wrote with --out"));
    }
}
