//! What the config says of this host and the host does not show, with what to do about it.

use std::fmt;

/// Something that the config and this host do not agree on, or that only the config says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// What was found, and what follows from it.
    pub found: String,
    /// The remedy.
    pub remedy: &'static str,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, remedy } = self;
        write!(f, "{found}; {remedy}")
    }
}
