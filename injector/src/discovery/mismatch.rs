//! What a user should know about a peer of the config on this host, with what to do about it.

use std::fmt;

/// Something about a peer that a user should know: it is not found, or not where the config says, or with another.
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
