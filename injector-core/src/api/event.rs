//! The events that the event stream reports.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::Outcome;
use super::reload::ConfigOutcome;
use super::view::{Healed, Stamped};
use crate::clock::{MonoNs, WallNs};

/// A line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Rises by one with each event.
    pub id: u64,
    /// When, by the daemon's clock.
    pub at_ns: MonoNs,
    /// The wall clock at that instant.
    pub wall: WallNs,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A partition took effect (or was scheduled).
    Cut {
        /// The partition.
        name: String,
        /// Its generation.
        generation: u32,
        /// When.
        effective: Stamped,
    },
    /// A partition ended.
    Heal {
        /// When and by what.
        healed: Healed,
    },
    /// The kernel stamped a first: a drop, a packet, a response.
    First {
        /// The partition.
        name: String,
        /// Its generation.
        generation: u32,
        /// What was seen.
        what: First,
        /// The link or endpoint.
        subject: String,
        /// The kernel's stamp.
        stamp_ns: MonoNs,
    },
    /// An endpoint became healthy or unhealthy.
    Health {
        /// The endpoint.
        endpoint: String,
        /// Its state now.
        healthy: bool,
        /// Why not.
        error: Option<String>,
    },
    /// A record became final.
    Record {
        /// The partition.
        name: String,
        /// Its generation.
        generation: u32,
        /// The outcome.
        outcome: Outcome,
    },
    /// An interface was attached, lost or found again.
    Interface {
        /// The interface.
        interface: String,
        /// What happened to it.
        what: String,
    },
    /// The config was read again (SIGHUP).
    Config {
        /// What came of it.
        outcome: ConfigOutcome,
        /// The number of the config that is in force now.
        number: u32,
        /// What is in force, or why not the config that was read.
        what: String,
    },
    /// A user's mark.
    Mark {
        /// Its text.
        text: String,
    },
    /// The lease ran out: everything was healed.
    LeaseLapsed,
    /// Events were dropped here because the reader was too slow or the history too short.
    Lost {
        /// How many.
        count: u64,
    },
}

/// What a first is the first of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum First {
    /// A packet of the link that the cut dropped.
    Drop,
    /// A packet of the link after the heal.
    Packet,
    /// A SYN after the heal.
    Syn,
    /// A SYN-ACK after the heal.
    Synack,
    /// Payload after the heal.
    Data,
    /// A successful response of the endpoint on the wire.
    Response,
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Packet => "packet",
            Self::Syn => "syn",
            Self::Synack => "synack",
            Self::Data => "data",
            Self::Response => "response",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::HealedBy;

    #[test]
    fn a_heal_event_is_read_as_it_was_written() {
        let healed = Healed {
            name: "p".into(),
            generation: 1,
            at: Stamped { begin_ns: MonoNs(1), end_ns: MonoNs(2), wall: WallNs(3) },
            healed_by: HealedBy::Request,
        };
        let event = Event { id: 1, at_ns: MonoNs(2), wall: WallNs(4), kind: EventKind::Heal { healed } };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
