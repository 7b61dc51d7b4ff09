//! What stands in a peer's place in a shape.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PeerName, natural};

/// What stands in a peer's place in a shape, until [`topology::select`](crate::topology::select) makes peers of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(inline, with = "String")]
#[non_exhaustive]
pub enum Selector {
    /// The peer of this name.
    Name(String),
}

impl From<&str> for Selector {
    fn from(text: &str) -> Self {
        Self::Name(text.to_owned())
    }
}

impl From<PeerName> for Selector {
    fn from(PeerName(name): PeerName) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The order in which a grudge's entries are written.
impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        let (Self::Name(a), Self::Name(b)) = (self, other);
        natural(a, b)
    }
}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Name)
    }
}
