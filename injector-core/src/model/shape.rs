//! Which links to cut, as a user asks for it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Selector;

/// A directed link by name, as the API and the records show it; a shape may have something else in a peer's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NamedLink")]
pub struct NamedLink<P = String> {
    /// The sender's name.
    pub src: P,
    /// The receiver's name.
    pub dst: P,
}

impl<P: fmt::Display> fmt::Display for NamedLink<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{}", self.src, self.dst)
    }
}

/// Shapes without parameters are written `{"halves": {}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The parameter of [`Shape::Bridge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bridge")]
pub struct Bridge<P = Selector> {
    /// The peer that still hears both sides.
    pub via: P,
}

/// What a user asks for: which links to cut. `P` is what stands in a peer's place: a [`Selector`] as asked, a
/// [`PeerName`](super::PeerName) once it is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", bound(deserialize = "P: Deserialize<'de> + Ord"))]
#[schemars(rename = "Shape")]
pub enum Shape<P = Selector> {
    /// Cuts these peers, as one group, off from all the others.
    Isolate(Vec<P>),
    /// Cuts these groups off from each other; peers not named form one further group.
    Split(Vec<Vec<P>>),
    /// Cuts these two groups off from each other; everyone else is untouched.
    Between([Vec<P>; 2]),
    /// Splits the peers, in the natural order of their names, into a smaller first and a larger second half.
    Halves(Nothing),
    /// Splits the shuffled peers into halves.
    RandomHalves(Nothing),
    /// Isolates one peer, drawn.
    RandomNode(Nothing),
    /// Every peer of a drawn ring sees a majority and no more, no two see the same one (Jepsen's ring).
    MajoritiesRing(Nothing),
    /// Splits the peers into halves, where `via` counts as one of the second half but hears both.
    Bridge(Bridge<P>),
    /// Exactly these directed links.
    #[schemars(with = "Vec<NamedLink>")]
    Links(Vec<NamedLink<P>>),
    /// `{dst: [src…]}`: dst drops from each src; a dst with no src drops nothing.
    Grudge(BTreeMap<P, Vec<P>>),
    /// A shape that the config names.
    Preset(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PeerName;

    #[test]
    fn shapes_have_the_documented_json() {
        for json in [
            r#"{"isolate":["n1"]}"#,
            r#"{"split":[["n1","n2"],["n3"]]}"#,
            r#"{"between":[["n1","n2"],["n3"]]}"#,
            r#"{"halves":{}}"#,
            r#"{"random_halves":{}}"#,
            r#"{"random_node":{}}"#,
            r#"{"majorities_ring":{}}"#,
            r#"{"bridge":{"via":"n3"}}"#,
            r#"{"links":[{"src":"n1","dst":"n2"}]}"#,
            r#"{"grudge":{"n1":["n2"]}}"#,
            r#"{"preset":"name"}"#,
        ] {
            let asked: Shape = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&asked).unwrap(), json);
            let resolved: Shape<PeerName> = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&resolved).unwrap(), json);
        }
    }
}
