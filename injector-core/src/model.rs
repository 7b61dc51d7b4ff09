//! The nouns: peers, links, shapes, scopes. No I/O, no kernel, no clock.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod direction;
mod names;
mod probe;
mod ready;
mod scope;
pub mod seed;
mod selector;
mod shape;
mod shape_json;
mod traffic;

pub use direction::{Direction, DirectionError};
pub use names::{PeerName, PeerNames, natural};
pub use probe::{Connection, EndpointProbe, PROBE_SETTINGS_SCHEMA, ProbeOptions, ProbeRules, ProbeSettings};
pub use ready::Ready;
pub use scope::{PortSide, Protocol, Scope, ScopeError};
pub use selector::{ROLE_SIGN, Selector};
pub use shape::{Bridge, Draw, DrawGroups, DrawPeers, NamedLink, Nothing, Shape};
pub use shape_json::read as read_grudge;
pub use traffic::Traffic;
pub(crate) use traffic::{all_packets, traffic_fields, whole_traffic};

/// The reserved name of everyone who is not a configured peer.
pub const WORLD: &str = "world";
/// The most peers that one host's config may name.
pub const MAX_PEERS: usize = 1024;

/// A peer's index in the data plane: 0 is [`WORLD`], configured peers follow in the natural order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u16);

impl PeerId {
    /// The id of all hosts that are no configured peers.
    pub const WORLD: Self = Self(0);
}

/// A directed link between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The sender.
    pub src: PeerId,
    /// The receiver.
    pub dst: PeerId,
}

impl Link {
    /// The link of the same pair in the other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }
}

/// A share in percent, above 0 and up to 100, written `"30%"`: 0 % of the packets is no cut.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(f64);

/// Why a text is not a [`Percent`].
#[derive(Debug, thiserror::Error)]
pub enum PercentError {
    /// The text is not a percentage from 0 to 100.
    #[error("\"{0}\" is not a percentage above 0% and up to 100%; write it as \"30%\"")]
    NotOne(String),
    /// The percentage is below the smallest share that the programs can roll.
    #[error("{0} cuts nothing; write a share above 0%, such as \"30%\", or make no partition")]
    Nothing(String),
}

/// The smallest share that the programs can roll, in percent.
const SMALLEST: f64 = 100.0 / (1_u64 << 32) as f64;

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100.0);

    /// Makes a percentage of a number of percent.
    pub fn new(percent: f64) -> Result<Self, PercentError> {
        if (SMALLEST..=100.0).contains(&percent) {
            Ok(Self(percent))
        } else if (0.0..SMALLEST).contains(&percent) {
            Err(PercentError::Nothing(format!("{percent}%")))
        } else {
            Err(PercentError::NotOne(percent.to_string()))
        }
    }

    /// The share as 0 to 1.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl std::str::FromStr for Percent {
    type Err = PercentError;
    fn from_str(text: &str) -> Result<Self, PercentError> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        Self::new(number.ok_or_else(|| PercentError::NotOne(text.to_owned()))?)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

macro_rules! as_text {
    ($type:ty, $name:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "examples": [$example] })
            }
        }
    };
}
as_text!(Percent, "Percent", "30%");
as_text!(Flap, "Flap", "200ms/50%");
as_text!(Scope, "Scope", "tcp/5122");

/// An alternating cut: within each period it drops for the on-share, first thing. Written `200ms/50%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flap {
    /// One on-and-off cycle.
    pub period: crate::clock::Span,
    /// The share of the period that drops.
    pub on: Percent,
}

/// Why a text is not a [`Flap`].
#[derive(Debug, thiserror::Error)]
pub enum FlapError {
    /// The text is not a flap.
    #[error("\"{0}\" is not a flap; write period and on-share as \"200ms/50%\", the period above 0")]
    NotOne(String),
    /// The flap drops for less than a nanosecond of each period.
    #[error("\"{0}\" never drops; write a larger on-share, as in \"200ms/50%\", or make no partition")]
    Nothing(String),
}

impl std::str::FromStr for Flap {
    type Err = FlapError;
    fn from_str(text: &str) -> Result<Self, FlapError> {
        let error = || FlapError::NotOne(text.to_owned());
        let nothing = || FlapError::Nothing(text.to_owned());
        let (period, on) = text.split_once('/').ok_or_else(error)?;
        let period: crate::clock::Span = period.trim().parse().map_err(|_| error())?;
        let on: Percent = on.trim().parse().map_err(|why| match why {
            PercentError::Nothing(_) => nothing(),
            PercentError::NotOne(_) => error(),
        })?;
        if period.as_nanos() == 0 {
            return Err(error());
        }
        if period.as_nanos() as f64 * on.share() < 1.0 {
            return Err(nothing());
        }
        Ok(Self { period, on })
    }
}

impl fmt::Display for Flap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.period, self.on)
    }
}

/// What a partition does with ARP and neighbour discovery on its links. While the config protects a scope, such as `tcp/22`, `Auto`
/// is taken as `Keep`, and `Drop` is refused: what is protected could not arrive without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Neighbour {
    /// Drops them between two peers that are cut off from each other both ways and in full, unless one of them is on the
    /// way of others' packets: as a switch port does that is turned off. Lets them pass on all other links.
    #[default]
    Auto,
    /// Lets them pass: neighbour entries stay valid through the cut.
    Keep,
    /// Drops them between the same pairs of peers, also where only a part of their traffic is cut (scopes, loss). Where a
    /// link is cut one way, or a peer forwards, they pass as well: without them uncut traffic would end too.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_and_flap_are_bounded() {
        assert_eq!("30%".parse::<Percent>().unwrap().to_string(), "30%");
        for text in ["30", "-1%", "101%", "x%", "NaN%"] {
            assert!(matches!(text.parse::<Percent>(), Err(PercentError::NotOne(_))), "{text}");
        }
        for text in ["0%", "0.0%", "-0%", "0.00000001%"] {
            let error = text.parse::<Percent>().unwrap_err().to_string();
            assert!(error.contains("cuts nothing; write a share above 0%"), "{text}: {error}");
        }
        // Every percentage that is accepted drops something.
        let least: Percent = "0.0000001%".parse().unwrap();
        let traffic = Traffic { loss: least, ..Traffic::default() };
        assert!(crate::plan::slot(&traffic).loss > 0);
        assert_eq!("200ms/50%".parse::<Flap>().unwrap().to_string(), "200ms/50%");
        assert!(matches!("0s/50%".parse::<Flap>(), Err(FlapError::NotOne(_))));
        for text in ["200ms/0%", "1ns/0.1%", "5ns/10%"] {
            let error = text.parse::<Flap>().unwrap_err().to_string();
            assert!(error.contains("never drops; write a larger on-share"), "{text}: {error}");
        }
    }
}
