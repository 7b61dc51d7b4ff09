//! Every shape, in one table: how it is written, what it cuts, and which peers it means. Help, usage errors and the tables
//! of the documents come from here.

use crate::model::{Bridge, Draw, DrawGroups, DrawPeers, NamedLink, Nothing, PeerName, Shape};

use super::draw::Drawing;
use super::error::TopologyError;
use super::syntax::{Arguments, Read, Syntax, grudge, links};

/// Every shape.
pub const SHAPES: [Syntax; 15] = [
    Syntax {
        word: "isolate",
        usage: "isolate n1 [n2 …]",
        json: r#"{"isolate": ["n1"]}"#,
        what: "cut these peers, as one group, off from all the others",
        first: Some("these peers"),
        read: Read::Plain(|words| words.groups("peer").map(|groups| Shape::Isolate(groups.concat()))),
    },
    Syntax {
        word: "split",
        usage: "split n1,n2 n3 …",
        json: r#"{"split": [["n1", "n2"], ["n3"]]}"#,
        what: "cut these groups off from each other; peers that are not named form one more",
        first: Some("the first group"),
        read: Read::Plain(|words| words.groups("group").map(Shape::Split)),
    },
    Syntax {
        word: "between",
        usage: "between n1,n2 n3 …",
        json: r#"{"between": [["n1", "n2"], ["n3"]]}"#,
        what: "cut these groups off from each other, and no one else",
        first: Some("the first group"),
        read: Read::Plain(|words| words.at_least_two_groups().map(Shape::Between)),
    },
    Syntax {
        word: "halves",
        usage: "halves",
        json: r#"{"halves": {}}"#,
        what: "cut a smaller first half off from a larger second half, by name",
        first: Some("the first half"),
        read: Read::Plain(|words| words.none().map(|()| Shape::Halves(Nothing {}))),
    },
    Syntax {
        word: "random-halves",
        usage: "random-halves",
        json: r#"{"random_halves": {}}"#,
        what: "the same with the peers shuffled",
        first: Some("the first half"),
        read: Read::Drawn(|words, among| words.none().map(|()| Shape::RandomHalves(Draw { among }))),
    },
    Syntax {
        word: "random-groups",
        usage: "random-groups 3",
        json: r#"{"random_groups": {"groups": 3}}"#,
        what: "cut the shuffled peers into 3 groups, whose sizes differ by one at most",
        first: Some("the first group"),
        read: Read::Drawn(|words, among| {
            words.count("groups").map(|groups| Shape::RandomGroups(DrawGroups { groups, among }))
        }),
    },
    Syntax {
        word: "random-node",
        usage: "random-node",
        json: r#"{"random_node": {}}"#,
        what: "isolate one peer, drawn",
        first: Some("the drawn peer"),
        read: Read::Drawn(|words, among| words.none().map(|()| Shape::RandomNode(Draw { among }))),
    },
    Syntax {
        word: "random",
        usage: "random 2",
        json: r#"{"random": {"peers": 2}}"#,
        what: "isolate 2 peers, drawn, as one group",
        first: Some("the drawn peers"),
        read: Read::Drawn(|words, among| {
            words.count("peers").map(|peers| Shape::Random(DrawPeers { peers, among }))
        }),
    },
    Syntax {
        word: "minority",
        usage: "minority",
        json: r#"{"minority": {}}"#,
        what: "isolate the largest group without a majority, drawn: 1 of 3, 2 of 4, 2 of 5",
        first: Some("the drawn peers"),
        read: Read::Drawn(|words, among| words.none().map(|()| Shape::Minority(Draw { among }))),
    },
    Syntax {
        word: "minority-third",
        usage: "minority-third",
        json: r#"{"minority_third": {}}"#,
        what: "isolate the largest group below a third, drawn: 1 of 4, 1 of 6, 2 of 7",
        first: Some("the drawn peers"),
        read: Read::Drawn(|words, among| words.none().map(|()| Shape::MinorityThird(Draw { among }))),
    },
    Syntax {
        word: "majorities-ring",
        usage: "majorities-ring",
        json: r#"{"majorities_ring": {}}"#,
        what: "every peer of a drawn ring sees a majority, no two the same one",
        first: None,
        read: Read::Drawn(|words, among| words.none().map(|()| Shape::MajoritiesRing(Draw { among }))),
    },
    Syntax {
        word: "bridge",
        usage: "bridge n3",
        json: r#"{"bridge": {"via": "n3"}}"#,
        what: "two halves; n3, of the second half, stays connected to both",
        first: None,
        read: Read::Plain(|words| words.one("peer").map(|via| Shape::Bridge(Bridge { via: via.into() }))),
    },
    Syntax {
        word: "links",
        usage: "links n1:n2 [n3:n1 …]",
        json: r#"{"links": [{"src": "n1", "dst": "n2"}]}"#,
        what: "cut exactly these directed links, from n1 to n2",
        first: None,
        read: Read::Plain(links),
    },
    Syntax {
        word: "grudge",
        usage: "grudge '{\"n1\": [\"n2\"]}'",
        json: r#"{"grudge": {"n1": ["n2"]}}"#,
        what: "n1 drops from n2; `grudge @FILE` and `grudge -` read it from a file and from standard input",
        first: None,
        read: Read::Plain(grudge),
    },
    Syntax {
        word: "preset",
        usage: "preset NAME",
        json: r#"{"preset": "NAME"}"#,
        what: "a shape that the config names",
        first: Some("as the shape that it names"),
        read: Read::Plain(|words| words.one("name").map(|name| Shape::Preset(name.to_owned()))),
    },
];

impl<P> Shape<P> {
    /// The shape's word, and its arguments.
    pub(crate) fn written(&self) -> (&'static str, Arguments<'_, P>) {
        let draw = |among| Arguments::Draw { count: None, among };
        match self {
            Self::Isolate(peers) => ("isolate", Arguments::Peers(peers)),
            Self::Split(groups) => ("split", Arguments::Groups(groups)),
            Self::Between(groups) => ("between", Arguments::Groups(groups)),
            Self::Halves(Nothing {}) => ("halves", draw(None)),
            Self::RandomHalves(Draw { among }) => ("random-halves", draw(among.as_deref())),
            Self::RandomGroups(DrawGroups { groups, among }) => {
                ("random-groups", Arguments::Draw { count: Some(*groups), among: among.as_deref() })
            }
            Self::RandomNode(Draw { among }) => ("random-node", draw(among.as_deref())),
            Self::Random(DrawPeers { peers, among }) => {
                ("random", Arguments::Draw { count: Some(*peers), among: among.as_deref() })
            }
            Self::Minority(Draw { among }) => ("minority", draw(among.as_deref())),
            Self::MinorityThird(Draw { among }) => ("minority-third", draw(among.as_deref())),
            Self::MajoritiesRing(Draw { among }) => ("majorities-ring", draw(among.as_deref())),
            Self::Bridge(Bridge { via }) => ("bridge", Arguments::Peer(via)),
            Self::Links(links) => ("links", Arguments::Links(links)),
            Self::Grudge(grudge) => ("grudge", Arguments::Grudge(grudge)),
            Self::Preset(name) => ("preset", Arguments::Preset(name)),
        }
    }
}

/// The shape as groups, a bridge, links or a grudge of peers. Presets must be resolved before.
pub(super) fn select(shape: &Shape, drawing: &mut Drawing<'_>) -> Result<Shape<PeerName>, TopologyError> {
    Ok(match shape {
        Shape::Isolate(members) => Shape::Isolate(drawing.group(members)?),
        Shape::Split(groups) => Shape::Split(drawing.groups(groups)?),
        Shape::Between(groups) => Shape::Between(drawing.groups(groups)?),
        Shape::Halves(Nothing {}) => drawing.pool(None, 2)?.apart(2),
        Shape::RandomHalves(Draw { among }) => drawing.shuffled(among.as_deref(), 2)?.apart(2),
        Shape::RandomGroups(DrawGroups { groups, among }) => {
            let groups = drawing.count(*groups, 2)?;
            drawing.shuffled(among.as_deref(), groups)?.apart(groups)
        }
        Shape::RandomNode(Draw { among }) => drawing.one(among.as_deref())?,
        Shape::Random(DrawPeers { peers, among }) => {
            let peers = drawing.count(*peers, 1)?;
            drawing.at_least(peers + 1)?;
            drawing.shuffled(among.as_deref(), peers)?.isolated(peers)
        }
        Shape::Minority(Draw { among }) => {
            let pool = drawing.shuffled(among.as_deref(), 2)?;
            let size = pool.len() / 2;
            pool.isolated(size)
        }
        Shape::MinorityThird(Draw { among }) => {
            let pool = drawing.shuffled(among.as_deref(), 4)?;
            let size = (pool.len() - 1) / 3;
            pool.isolated(size)
        }
        Shape::MajoritiesRing(Draw { among }) => drawing.shuffled(among.as_deref(), 3)?.ring(),
        Shape::Bridge(Bridge { via }) => drawing.bridge(via)?,
        Shape::Links(links) => {
            let mut expanded = Vec::with_capacity(links.len());
            for NamedLink { src, dst } in links {
                expanded.extend(drawing.links(src, dst)?);
            }
            expanded.sort();
            expanded.dedup();
            Shape::Links(expanded)
        }
        Shape::Grudge(grudge) => Shape::Grudge(drawing.grudge(grudge)?),
        Shape::Preset(name) => return Err(TopologyError::NestedPreset { name: name.clone() }),
    })
}
