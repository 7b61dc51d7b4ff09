//! Shapes as the words of the command line: `isolate n1`, `split n1,n2 n3`, …, and back. The table of all shapes is
//! [`SHAPES`].

use std::fmt;

use crate::model::Shape;
use crate::nearest::did_you_mean;

pub use super::shapes::SHAPES;
pub use super::syntax::{AMONG, ShapeError, Syntax};
use super::syntax::{Arguments, Read, Words};

fn known() -> String {
    let words = SHAPES.each_ref().map(|shape| shape.word);
    let (last, others) = words.split_last().expect("there are shapes");
    format!("shapes are {} and {last}", others.join(", "))
}

/// The shapes for `--help`: usage and meaning, one a line.
pub fn help() -> String {
    let width = SHAPES.iter().map(|shape| shape.usage.chars().count()).max().unwrap_or_default();
    let lines = SHAPES.iter().map(|Syntax { usage, what, .. }| format!("\n  {usage:width$}  {what}"));
    format!("Shapes:{}", lines.collect::<String>())
}

/// The shapes as a table in Markdown.
pub fn table() -> String {
    let rows = SHAPES.iter().map(|Syntax { usage, what, .. }| format!("| `{usage}` | {what} |\n"));
    format!("| shape | what it cuts |\n|---|---|\n{}", rows.collect::<String>())
}

/// The shapes in JSON and in words as a table in Markdown.
pub fn json_table() -> String {
    let rows = SHAPES.iter().map(|Syntax { usage, json, what, first, .. }| {
        let first = first.unwrap_or("–");
        format!("| `{json}` | `{usage}` | {what} | {first} |\n")
    });
    let head = "| JSON | on the command line | what it cuts | what a direction is relative to |\n|---|---|---|---|\n";
    format!("{head}{}", rows.collect::<String>())
}

/// Reads a shape from words. Names are resolved later, by [`super::resolve`].
pub fn parse_words(words: &[String]) -> Result<Shape, ShapeError> {
    let Some((first, rest)) = words.split_first() else {
        return Err(ShapeError::Missing { known: known() });
    };
    let syntax = SHAPES.iter().find(|syntax| syntax.word == first);
    let syntax = syntax.ok_or_else(|| {
        let proposal = did_you_mean(first, SHAPES.iter().map(|syntax| syntax.word));
        ShapeError::Unknown { word: first.clone(), known: format!("{proposal}{}", known()) }
    })?;
    let mut rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let among = among(&mut rest);
    let words = Words { syntax, rest: &rest };
    let among = match among {
        None => None,
        Some("") => return Err(words.error("--among names no peers")),
        Some(names) => Some(words.group(names)?),
    };
    match (&syntax.read, among) {
        (Read::Plain(read), None) => read(&words),
        (Read::Plain(_), Some(_)) => Err(words.error("takes no --among, since it draws nothing")),
        (Read::Drawn(read), among) => read(&words, among),
    }
}

/// Takes `--among` and its names out of the words; an empty text if the names are missing.
fn among<'a>(words: &mut Vec<&'a str>) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == AMONG)?;
    words.remove(at);
    Some(if at < words.len() { words.remove(at) } else { "" })
}

impl<P> Shape<P> {
    /// Its first word.
    pub fn word(&self) -> &'static str {
        self.written().0
    }

    /// The group that a direction is relative to, in words; `None` where a direction makes no sense.
    pub(super) fn first_group(&self) -> Option<&'static str> {
        SHAPES.iter().find(|syntax| syntax.word == self.word()).and_then(|syntax| syntax.first)
    }
}

/// Peers as they are written, with something between them.
pub fn joined<P: fmt::Display>(peers: &[P], by: &str) -> String {
    peers.iter().map(P::to_string).collect::<Vec<_>>().join(by)
}

/// The words that [`parse_words`] reads, separated by single spaces.
impl<P: fmt::Display + serde::Serialize> fmt::Display for Shape<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, arguments) = self.written();
        f.write_str(word)?;
        match arguments {
            Arguments::Peers(peers) => write!(f, " {}", joined(peers, " ")),
            Arguments::Groups(groups) => {
                groups.iter().try_for_each(|group| write!(f, " {}", joined(group, ",")))
            }
            Arguments::Draw { count, among } => {
                count.map_or(Ok(()), |count| write!(f, " {count}"))?;
                among.map_or(Ok(()), |among| write!(f, " {AMONG} {}", joined(among, ",")))
            }
            Arguments::Peer(peer) => write!(f, " {peer}"),
            Arguments::Links(links) => {
                links.iter().try_for_each(|link| write!(f, " {}:{}", link.src, link.dst))
            }
            Arguments::Grudge(grudge) => {
                write!(f, " {}", serde_json::to_string(grudge).map_err(|_| fmt::Error)?)
            }
            Arguments::Preset(name) => write!(f, " {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Bridge, Draw, DrawGroups, DrawPeers, NamedLink, Nothing, Selector};

    fn parse(text: &str) -> Result<Shape, ShapeError> {
        parse_words(&text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_documented_words_are_read() {
        for (text, json) in [
            ("isolate n1", r#"{"isolate":["n1"]}"#),
            ("isolate n1 n2", r#"{"isolate":["n1","n2"]}"#),
            ("isolate n1,n2", r#"{"isolate":["n1","n2"]}"#),
            ("split n1,n2 n3", r#"{"split":[["n1","n2"],["n3"]]}"#),
            ("between n1,n2 n3", r#"{"between":[["n1","n2"],["n3"]]}"#),
            ("halves", r#"{"halves":{}}"#),
            ("between n1 n2 n3,n4", r#"{"between":[["n1"],["n2"],["n3","n4"]]}"#),
            ("random-halves", r#"{"random_halves":{}}"#),
            ("random-halves --among n1,n2", r#"{"random_halves":{"among":["n1","n2"]}}"#),
            ("random-groups 3", r#"{"random_groups":{"groups":3}}"#),
            ("random 2", r#"{"random":{"peers":2}}"#),
            ("random --among n1,n2,n3 2", r#"{"random":{"peers":2,"among":["n1","n2","n3"]}}"#),
            ("minority --among @followers", r#"{"minority":{"among":["@followers"]}}"#),
            ("minority-third", r#"{"minority_third":{}}"#),
            ("isolate @leader", r#"{"isolate":["@leader"]}"#),
            ("links @leader:@followers", r#"{"links":[{"src":"@leader","dst":"@followers"}]}"#),
            ("random-node", r#"{"random_node":{}}"#),
            ("majorities-ring", r#"{"majorities_ring":{}}"#),
            ("bridge n3", r#"{"bridge":{"via":"n3"}}"#),
            ("links n1:n2 world:n1", r#"{"links":[{"src":"n1","dst":"n2"},{"src":"world","dst":"n1"}]}"#),
            ("grudge {\"n1\": [\"n2\"]}", r#"{"grudge":{"n1":["n2"]}}"#),
            ("preset lonely", r#"{"preset":"lonely"}"#),
        ] {
            assert_eq!(serde_json::to_string(&parse(text).unwrap()).unwrap(), json, "{text}");
        }
    }

    #[test]
    fn wrong_words_name_the_usage() {
        for (text, expected) in [
            ("", "no shape is given"),
            (
                "random_node",
                "unknown shape \"random_node\"; did you mean \"random-node\"? shapes are isolate",
            ),
            ("isolate", "needs at least one peer; write it as: isolate n1"),
            ("isolate n1,", "\"n1,\" has an empty name"),
            ("split", "needs at least one group"),
            ("between n1", "needs at least two groups, 1 are given; write it as: between n1,n2 n3"),
            ("random", "takes exactly one number, 0 are given; write it as: random 2 [--among n1,n2,…]"),
            ("random n1", "\"n1\" is not a number of peers; write it as: random 2"),
            ("random 70000", "\"70000\" is not a number of peers"),
            ("random-groups 1 2", "takes exactly one number, 2 are given"),
            ("minority --among", "--among names no peers; write it as: minority [--among n1,n2,…]"),
            ("minority --among n1,", "\"n1,\" has an empty name"),
            ("minority --among n1 --among n2", "takes nothing, but \"--among\" follows"),
            ("isolate n1 --among n2", "takes no --among, since it draws nothing; write it as: isolate n1"),
            ("halves --among n2", "takes no --among"),
            ("between n1, n2", "\"n1,\" has an empty name"),
            ("halves n1", "takes nothing, but \"n1\" follows"),
            ("bridge", "takes exactly one peer, 0 are given; write it as: bridge n3"),
            ("bridge n1 n2", "takes exactly one peer, 2 are given"),
            ("links n1", "\"n1\" is not a link; write it as: links n1:n2"),
            ("links n1:n2:n3", "\"n1:n2:n3\" is not a link"),
            ("links :n2", "\":n2\" is not a link"),
            ("grudge n1", "does not parse"),
            ("grudge {\"n1\":\"n2\"}", "does not parse"),
            (
                "grudge {\"n1\":[\"n2\"],\"n1\":[\"n3\"]}",
                "\"n1\" is twice in the grudge; put all that it drops",
            ),
            ("grudge {\"n1\":[\"n2\"]} {}", "does not parse"),
            ("preset", "takes exactly one name"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_shape_is_in_the_help_and_in_the_documents() {
        for (path, table) in [("README.md", table()), ("docs/reference/api.md", json_table())] {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
            let text = std::fs::read_to_string(format!("{root}/{path}")).unwrap();
            assert!(text.contains(&table), "write this into {path}:\n{table}");
        }
        for Syntax { word, usage, json, .. } in &SHAPES {
            assert!(help().contains(usage) && known().contains(word), "{word}");
            // Usage and JSON are ones that are read, and both of this shape.
            let words = usage.replace(['[', ']', '…', '\''], "");
            let usage = match usage.split_once(' ') {
                Some(("grudge", json)) => vec!["grudge".to_owned(), json.replace('\'', "")],
                _ => words.split_whitespace().map(str::to_owned).collect(),
            };
            assert_eq!(parse_words(&usage).unwrap().word(), *word);
            assert_eq!(serde_json::from_str::<Shape>(json).unwrap().word(), *word);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "[A-Za-z0-9._][A-Za-z0-9._-]{0,5}"
    }

    fn name() -> impl Strategy<Value = Selector> {
        ("@?", text()).prop_map(|(sign, name)| Selector::from(format!("{sign}{name}").as_str()))
    }

    fn some<T: fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        proptest::collection::vec(strategy, 1..5)
    }

    fn draw() -> impl Strategy<Value = Draw> {
        proptest::option::of(some(name())).prop_map(|among| Draw { among })
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            some(name()).prop_map(Shape::Isolate),
            some(some(name())).prop_map(Shape::Split),
            proptest::collection::vec(some(name()), 2..5).prop_map(Shape::Between),
            Just(Shape::Halves(Nothing {})),
            draw().prop_map(Shape::RandomHalves),
            draw().prop_map(Shape::RandomNode),
            draw().prop_map(Shape::Minority),
            draw().prop_map(Shape::MinorityThird),
            draw().prop_map(Shape::MajoritiesRing),
            (any::<u16>(), draw())
                .prop_map(|(peers, Draw { among })| Shape::Random(DrawPeers { peers, among })),
            (any::<u16>(), draw())
                .prop_map(|(groups, Draw { among })| Shape::RandomGroups(DrawGroups { groups, among })),
            name().prop_map(|via| Shape::Bridge(Bridge { via })),
            some((name(), name())).prop_map(|links| {
                Shape::Links(links.into_iter().map(|(src, dst)| NamedLink { src, dst }).collect())
            }),
            proptest::collection::btree_map(name(), some(name()), 1..4).prop_map(Shape::Grudge),
            text().prop_map(Shape::Preset),
        ]
    }

    proptest! {
        #[test]
        fn words_and_shapes_are_inverse(shape in shape()) {
            prop_assert_eq!(parse(&shape.to_string()).unwrap(), shape);
        }
    }
}
