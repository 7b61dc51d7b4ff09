//! The effect of a cut on the packets of its links.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Direction, Flap, Neighbour, Percent, Scope};

/// The fields of [`Traffic`], for [`flat!`](crate::flat::flat).
macro_rules! traffic_fields {
    ($($to:tt)*) => {
        $crate::flat::flat! { $($to)* {
            /// Which directions of a two-sided shape.
            #[serde(default)]
            pub direction: $crate::model::Direction,
            /// Which traffic; empty is all of it.
            #[serde(default)]
            pub scopes: Vec<$crate::model::Scope>,
            /// The share of packets to drop.
            #[serde(default = "crate::model::all_packets")]
            pub loss: $crate::model::Percent,
            /// Alternation.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub flap: Option<$crate::model::Flap>,
            /// What happens to ARP and neighbour discovery.
            #[serde(default)]
            pub neighbour: $crate::model::Neighbour,
        } }
    };
}
pub(crate) use traffic_fields;

traffic_fields! {
    declare
    /// What a cut does to the packets of its links; by default it drops all of them, both ways.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Traffic
}

/// The default of [`Traffic::loss`].
pub(crate) fn all_packets() -> Percent {
    Percent::ALL
}

/// For `#[serde(serialize_with)]`: stored traffic says `"flap": null` where a request leaves the field out.
pub(crate) fn whole_traffic<S: serde::Serializer>(
    traffic: &Traffic,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serde_json::to_value(traffic).map_err(serde::ser::Error::custom)?;
    if let Some(fields) = fields.as_object_mut() {
        fields.entry("flap").or_insert(serde_json::Value::Null);
    }
    fields.serialize(serializer)
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            direction: Direction::Both,
            scopes: Vec::new(),
            loss: all_packets(),
            flap: None,
            neighbour: Neighbour::Auto,
        }
    }
}

impl Traffic {
    /// Whether it drops all packets of its links while it drops, which may be part of the time.
    pub fn drops_every_packet(&self) -> bool {
        self.scopes.is_empty() && self.loss == Percent::ALL
    }

    /// Whether it drops all packets of its links, all the time.
    pub fn is_full(&self) -> bool {
        self.drops_every_packet() && self.flap.is_none()
    }

    /// This traffic in one spelling: scopes sorted, each once.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut scopes = self.scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        Self { scopes, ..self.clone() }
    }

    /// The traffic of a link that is cut, in words.
    pub fn describe(&self) -> String {
        let words = self.words();
        if words.is_empty() { "all, both ways".to_owned() } else { words.join(", ") }
    }

    /// This traffic in words as a suffix of a shape: nothing where all is cut, both ways.
    pub fn suffix(&self) -> String {
        let words = self.words();
        if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
    }

    /// All that differs from the default, in words; the neighbours are left out.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.direction != Direction::Both {
            words.push(format!("direction {}", self.direction));
        }
        words.extend(self.scopes.iter().map(Scope::to_string));
        if self.loss != Percent::ALL {
            words.push(format!("loss {}", self.loss));
        }
        words.extend(self.flap.as_ref().map(|flap: &Flap| format!("flap {flap}")));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Traffic {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn nothing_is_a_full_cut() {
        assert_eq!(read("{}"), Traffic::default());
        assert!(Traffic::default().is_full() && Traffic::default().words().is_empty());
        for (json, every, full) in [
            (r#"{"direction": "out", "neighbour": "keep"}"#, true, true),
            (r#"{"flap": "200ms/50%"}"#, true, false),
            (r#"{"loss": "30%"}"#, false, false),
            (r#"{"scopes": ["tcp/1"]}"#, false, false),
        ] {
            let traffic = read(json);
            assert_eq!((traffic.drops_every_packet(), traffic.is_full()), (every, full), "{json}");
        }
    }

    #[test]
    fn the_order_of_scopes_means_nothing() {
        let (a, b) =
            (read(r#"{"scopes": ["udp/2", "tcp/1"]}"#), read(r#"{"scopes": ["tcp/1", "udp/2", "tcp/1"]}"#));
        assert_ne!(a, b);
        assert_eq!(a.canonical(), b.canonical());
    }
}
