//! How a shape, as asked, names peers.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PeerName, natural};

/// Begins the name of a role in a shape.
pub const ROLE_SIGN: char = '@';

/// How a shape, as asked, names one peer or several, until [`topology::select`](crate::topology::select) makes peers of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(inline, with = "String")]
#[non_exhaustive]
pub enum Selector {
    /// The peer of this name.
    Name(String),
    /// The peers that have this role at the moment of the request, written `@leader`.
    Role(String),
}

impl From<&str> for Selector {
    fn from(text: &str) -> Self {
        match text.strip_prefix(ROLE_SIGN) {
            Some(role) => Self::Role(role.to_owned()),
            None => Self::Name(text.to_owned()),
        }
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
            Self::Role(role) => write!(f, "{ROLE_SIGN}{role}"),
        }
    }
}

/// The order in which a grudge's entries are written: names, then roles.
impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) | (Self::Role(a), Self::Role(b)) => natural(a, b),
            (Self::Name(_), Self::Role(_)) => Ordering::Less,
            (Self::Role(_), Self::Name(_)) => Ordering::Greater,
        }
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
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}
