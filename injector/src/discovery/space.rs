//! A network namespace, as people know it.

use injector_core::config::Netns;

/// A namespace by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Space(pub Option<Netns>);

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(netns) => write!(f, "network namespace {netns}"),
            None => f.write_str("the daemon's own network namespace"),
        }
    }
}
