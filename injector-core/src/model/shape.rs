//! The links to cut, as a user asks for them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Selector;
use super::shape_json as grudge;
use crate::object::object_only;

/// A directed link by name, as the API and the records show it; a shape may have something else in a peer's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    remote = "Self",
    expecting = "a link, such as {\"src\": \"n1\", \"dst\": \"n2\"}"
)]
#[schemars(rename = "NamedLink")]
pub struct NamedLink<P = String> {
    /// The sender's name.
    pub src: P,
    /// The receiver's name.
    pub dst: P,
}
object_only!(NamedLink<P>);

impl<P: fmt::Display> fmt::Display for NamedLink<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{}", self.src, self.dst)
    }
}

/// Shapes without parameters are written `{"halves": {}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "{}")]
pub struct Nothing {}
object_only!(Nothing);

/// The parameter of [`Shape::Bridge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "a bridge, such as {\"via\": \"n3\"}")]
#[schemars(rename = "Bridge")]
pub struct Bridge<P = Selector> {
    /// The peer that still hears both sides.
    pub via: P,
}
object_only!(Bridge<P>);

/// The parameter of shapes that draw as many peers as the shape says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    remote = "Self",
    expecting = "{}, or the peers to draw from, as in {\"among\": [\"n1\", \"n2\"]}"
)]
#[schemars(rename = "Draw")]
pub struct Draw<P = Selector> {
    /// Whom to draw from; without it all configured peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub among: Option<Vec<P>>,
}
object_only!(Draw<P>);

impl<P> Default for Draw<P> {
    fn default() -> Self {
        Self { among: None }
    }
}

/// The parameter of [`Shape::Random`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "how many peers to draw, as in {\"peers\": 2}")]
#[schemars(rename = "DrawPeers")]
pub struct DrawPeers<P = Selector> {
    /// How many peers to draw.
    pub peers: u16,
    /// Whom to draw from; without it all configured peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub among: Option<Vec<P>>,
}
object_only!(DrawPeers<P>);

/// The parameter of [`Shape::RandomGroups`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "how many groups to draw, as in {\"groups\": 3}")]
#[schemars(rename = "DrawGroups")]
pub struct DrawGroups<P = Selector> {
    /// How many groups to draw.
    pub groups: u16,
    /// Whom to draw from; without it all configured peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub among: Option<Vec<P>>,
}
object_only!(DrawGroups<P>);

/// What a user asks for: which links to cut. `P` is how it names peers: a [`Selector`] as asked, a
/// [`PeerName`](super::PeerName) once it is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "snake_case",
    remote = "Self",
    bound(serialize = "P: Serialize", deserialize = "P: Deserialize<'de> + Ord + fmt::Display")
)]
#[schemars(rename = "Shape")]
pub enum Shape<P = Selector> {
    /// Cuts these peers, as one group, off from all the others.
    Isolate(Vec<P>),
    /// Cuts these groups off from each other; peers not named form one further group.
    Split(Vec<Vec<P>>),
    /// Cuts these groups (two or more) off from each other; everyone else is untouched.
    Between(Vec<Vec<P>>),
    /// Splits the peers, in the natural order of their names, into a smaller first and a larger second half.
    Halves(Nothing),
    /// Splits the shuffled peers into halves; peers that are not drawn from are untouched.
    RandomHalves(Draw<P>),
    /// Splits the shuffled peers into groups of about one size; peers that are not drawn from are untouched.
    RandomGroups(DrawGroups<P>),
    /// Isolates one peer, drawn.
    RandomNode(Draw<P>),
    /// Isolates some peers, drawn, as one group.
    Random(DrawPeers<P>),
    /// Isolates as many drawn peers as lack a majority by one.
    Minority(Draw<P>),
    /// Isolates as many drawn peers as are fewer than a third.
    MinorityThird(Draw<P>),
    /// Every peer of a drawn ring sees a majority and no more, no two see the same one (Jepsen's ring).
    MajoritiesRing(Draw<P>),
    /// Splits the peers into halves, where `via` counts as one of the second half but hears both.
    Bridge(Bridge<P>),
    /// Exactly these directed links.
    #[schemars(with = "Vec<NamedLink>")]
    Links(Vec<NamedLink<P>>),
    /// `{dst: [src…]}`: dst drops from each src; a dst with no src drops nothing.
    Grudge(#[serde(deserialize_with = "grudge::read")] BTreeMap<P, Vec<P>>),
    /// A shape that the config names.
    Preset(String),
}

impl<P> Shape<P> {
    /// The same shape with something else in each peer's place.
    pub fn map<Q: Ord>(self, of: impl Fn(P) -> Q) -> Shape<Q> {
        let list = |peers: Vec<P>| peers.into_iter().map(&of).collect::<Vec<Q>>();
        let lists = |groups: Vec<Vec<P>>| groups.into_iter().map(list).collect();
        let draw = |Draw { among }| Draw { among: among.map(list) };
        match self {
            Self::Isolate(group) => Shape::Isolate(list(group)),
            Self::Split(groups) => Shape::Split(lists(groups)),
            Self::Between(groups) => Shape::Between(lists(groups)),
            Self::Halves(nothing) => Shape::Halves(nothing),
            Self::RandomHalves(among) => Shape::RandomHalves(draw(among)),
            Self::RandomGroups(DrawGroups { groups, among }) => {
                Shape::RandomGroups(DrawGroups { groups, among: among.map(list) })
            }
            Self::RandomNode(among) => Shape::RandomNode(draw(among)),
            Self::Random(DrawPeers { peers, among }) => {
                Shape::Random(DrawPeers { peers, among: among.map(list) })
            }
            Self::Minority(among) => Shape::Minority(draw(among)),
            Self::MinorityThird(among) => Shape::MinorityThird(draw(among)),
            Self::MajoritiesRing(among) => Shape::MajoritiesRing(draw(among)),
            Self::Bridge(Bridge { via }) => Shape::Bridge(Bridge { via: of(via) }),
            Self::Links(links) => {
                let link = |NamedLink { src, dst }| NamedLink { src: of(src), dst: of(dst) };
                Shape::Links(links.into_iter().map(link).collect())
            }
            Self::Grudge(grudge) => {
                Shape::Grudge(grudge.into_iter().map(|(dst, srcs)| (of(dst), list(srcs))).collect())
            }
            Self::Preset(name) => Shape::Preset(name),
        }
    }
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
            r#"{"random_halves":{"among":["n1","n2"]}}"#,
            r#"{"random_groups":{"groups":3}}"#,
            r#"{"random_groups":{"groups":3,"among":["n1","n2","n3"]}}"#,
            r#"{"random_node":{}}"#,
            r#"{"random_node":{"among":["n1","n2"]}}"#,
            r#"{"random":{"peers":2}}"#,
            r#"{"random":{"peers":2,"among":["n1","n2","n3"]}}"#,
            r#"{"minority":{}}"#,
            r#"{"minority_third":{}}"#,
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
            assert_eq!(resolved.map(Selector::from), asked);
        }
    }

    #[test]
    fn a_role_is_written_with_its_sign() {
        let json = r#"{"grudge":{"n1":["@leader"],"@leader":["n1"]}}"#;
        let asked: Shape = serde_json::from_str(json).unwrap();
        let Shape::Grudge(grudge) = &asked else { panic!("{asked:?}") };
        assert_eq!(grudge[&Selector::from("n1")], [Selector::Role("leader".to_owned())]);
        assert_eq!(serde_json::to_string(&asked).unwrap(), json);
    }

    #[test]
    fn what_is_no_shape_is_refused_with_what_to_write() {
        for (json, expected) in [
            ("{}", "the shape is empty; write one, such as {\"isolate\": [\"n1\"]} or {\"halves\": {}}"),
            (
                r#"{"isolate": ["n1"], "halves": {}}"#,
                "two shapes in one, isolate and halves; make a partition of each",
            ),
            (r#"{"isolate": ["n1"], "isolate": ["n2"]}"#, "two shapes in one, isolate and isolate"),
            (r#"{"random-node": {}}"#, "unknown shape `random-node`, expected one of `isolate`, `split`"),
            (
                "\"halves\"",
                "invalid type: string \"halves\", expected a shape, such as {\"isolate\": [\"n1\"]}",
            ),
            ("[]", "invalid type: sequence, expected a shape, such as"),
            (
                r#"{"links": [["n1", "n2"]]}"#,
                "invalid type: sequence, expected a link, such as {\"src\": \"n1\"",
            ),
            (r#"{"bridge": ["n3"]}"#, "expected a bridge, such as {\"via\": \"n3\"}"),
            (r#"{"halves": []}"#, "invalid type: sequence, expected {}"),
            (r#"{"halves": {"among": ["n1"]}}"#, "unknown field `among`"),
            (r#"{"random": 2}"#, "invalid type: integer `2`, expected how many peers to draw"),
            (r#"{"random": {"peers": -1}}"#, "invalid value: integer `-1`"),
            (
                r#"{"grudge": {"n1": ["n2"], "n1": ["n3"]}}"#,
                "\"n1\" is twice in the grudge; put all that it drops into one list",
            ),
        ] {
            let error = serde_json::from_str::<Shape>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
