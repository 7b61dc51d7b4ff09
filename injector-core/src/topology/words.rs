//! Shapes as the words of the command line: `isolate n1`, `split n1,n2 n3`, …, and back.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Bridge, NamedLink, Nothing, PeerName, Shape};

/// Why words are not a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No word at all.
    #[error("no shape is given; {KNOWN}")]
    Missing,
    /// The first word is no shape.
    #[error("unknown shape \"{0}\"; {KNOWN}")]
    Unknown(String),
    /// The shape takes other words.
    #[error("{shape}: {problem}; write it as: {usage}")]
    Usage {
        /// The shape.
        shape: &'static str,
        /// What is wrong with its words.
        problem: String,
        /// How it is written.
        usage: &'static str,
    },
}

const KNOWN: &str = "shapes are isolate, split, between, halves, random-halves, random-node, majorities-ring, bridge, \
                     links, grudge and preset";

/// Reads a shape from words. Names are looked up later, by [`super::resolve`].
pub fn parse_words(words: &[String]) -> Result<Shape, ShapeError> {
    let Some((first, rest)) = words.split_first() else {
        return Err(ShapeError::Missing);
    };
    match first.as_str() {
        "isolate" => {
            let words = Words { shape: "isolate", usage: "isolate n1 [n2 …]", rest };
            let mut peers = Vec::new();
            for word in words.at_least_one("peer")? {
                peers.extend(words.names(word)?);
            }
            Ok(Shape::Isolate(peers))
        }
        "split" => {
            let words = Words { shape: "split", usage: "split n1,n2 n3 …", rest };
            let groups = words.at_least_one("group")?.iter().map(|word| words.names(word));
            Ok(Shape::Split(groups.collect::<Result<_, _>>()?))
        }
        "between" => {
            let words = Words { shape: "between", usage: "between n1,n2 n3", rest };
            let [first, second] = rest else {
                return Err(words.error(format!("takes exactly two groups, {} are given", rest.len())));
            };
            Ok(Shape::Between([words.names(first)?, words.names(second)?]))
        }
        "halves" => {
            Words { shape: "halves", usage: "halves", rest }.none().map(|()| Shape::Halves(Nothing {}))
        }
        "random-halves" => Words { shape: "random-halves", usage: "random-halves", rest }
            .none()
            .map(|()| Shape::RandomHalves(Nothing {})),
        "random-node" => Words { shape: "random-node", usage: "random-node", rest }
            .none()
            .map(|()| Shape::RandomNode(Nothing {})),
        "majorities-ring" => Words { shape: "majorities-ring", usage: "majorities-ring", rest }
            .none()
            .map(|()| Shape::MajoritiesRing(Nothing {})),
        "bridge" => {
            let words = Words { shape: "bridge", usage: "bridge n3", rest };
            words.one("peer").map(|via| Shape::Bridge(Bridge { via: via.clone() }))
        }
        "links" => {
            let words = Words { shape: "links", usage: "links src:dst [src:dst …]", rest };
            let mut links = Vec::new();
            for word in words.at_least_one("link")? {
                for pair in words.names(word)? {
                    let ends = pair.split_once(':');
                    let ends =
                        ends.filter(|(src, dst)| !src.is_empty() && !dst.is_empty() && !dst.contains(':'));
                    let Some((src, dst)) = ends else {
                        return Err(words.error(format!("\"{pair}\" is not a link")));
                    };
                    links.push(NamedLink { src: src.to_owned(), dst: dst.to_owned() });
                }
            }
            Ok(Shape::Links(links))
        }
        "grudge" => {
            let words = Words {
                shape: "grudge",
                usage: "grudge '{\"dst\":[\"src\"]}', grudge @FILE or grudge -",
                rest,
            };
            let json = words.at_least_one("JSON object")?.join(" ");
            let grudge: Result<BTreeMap<PeerName, Vec<String>>, _> = serde_json::from_str(&json);
            grudge.map(Shape::Grudge).map_err(|error| {
                let begin: String = json.chars().take(80).collect();
                let more = if begin.len() < json.len() { " …" } else { "" };
                words.error(format!("{begin}{more} does not parse ({error})"))
            })
        }
        "preset" => {
            let words = Words { shape: "preset", usage: "preset NAME", rest };
            words.one("name").map(|name| Shape::Preset(name.clone()))
        }
        other => Err(ShapeError::Unknown(other.to_owned())),
    }
}

/// The words after a shape's own.
struct Words<'a> {
    shape: &'static str,
    usage: &'static str,
    rest: &'a [String],
}

impl<'a> Words<'a> {
    fn error(&self, problem: impl Into<String>) -> ShapeError {
        ShapeError::Usage { shape: self.shape, problem: problem.into(), usage: self.usage }
    }

    fn none(&self) -> Result<(), ShapeError> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(self.error(format!("takes nothing, but \"{word}\" follows"))),
        }
    }

    fn one(&self, what: &str) -> Result<&'a String, ShapeError> {
        match self.rest {
            [word] if !word.is_empty() => Ok(word),
            _ => Err(self.error(format!("takes exactly one {what}, {} are given", self.rest.len()))),
        }
    }

    fn at_least_one(&self, what: &str) -> Result<&'a [String], ShapeError> {
        if self.rest.is_empty() {
            Err(self.error(format!("needs at least one {what}")))
        } else {
            Ok(self.rest)
        }
    }

    fn names(&self, word: &str) -> Result<Vec<String>, ShapeError> {
        if word.split(',').any(str::is_empty) {
            return Err(self.error(format!("\"{word}\" has an empty name")));
        }
        Ok(word.split(',').map(str::to_owned).collect())
    }
}

/// The words that [`parse_words`] reads, separated by single spaces.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolate(peers) => write!(f, "isolate {}", peers.join(" ")),
            Self::Split(groups) => {
                f.write_str("split")?;
                groups.iter().try_for_each(|group| write!(f, " {}", group.join(",")))
            }
            Self::Between([first, second]) => write!(f, "between {} {}", first.join(","), second.join(",")),
            Self::Halves(_) => f.write_str("halves"),
            Self::RandomHalves(_) => f.write_str("random-halves"),
            Self::RandomNode(_) => f.write_str("random-node"),
            Self::MajoritiesRing(_) => f.write_str("majorities-ring"),
            Self::Bridge(Bridge { via }) => write!(f, "bridge {via}"),
            Self::Links(links) => {
                f.write_str("links")?;
                links.iter().try_for_each(|link| write!(f, " {}:{}", link.src, link.dst))
            }
            Self::Grudge(grudge) => {
                write!(f, "grudge {}", serde_json::to_string(grudge).map_err(|_| fmt::Error)?)
            }
            Self::Preset(name) => write!(f, "preset {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            ("random-halves", r#"{"random_halves":{}}"#),
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
            ("random_node", "unknown shape \"random_node\"; shapes are isolate"),
            ("isolate", "needs at least one peer; write it as: isolate n1"),
            ("isolate n1,", "\"n1,\" has an empty name"),
            ("split", "needs at least one group"),
            ("between n1", "takes exactly two groups, 1 are given; write it as: between n1,n2 n3"),
            ("between n1 n2 n3", "takes exactly two groups, 3 are given"),
            ("between n1, n2", "\"n1,\" has an empty name"),
            ("halves n1", "takes nothing, but \"n1\" follows"),
            ("bridge", "takes exactly one peer, 0 are given; write it as: bridge n3"),
            ("bridge n1 n2", "takes exactly one peer, 2 are given"),
            ("links n1", "\"n1\" is not a link; write it as: links src:dst"),
            ("links n1:n2:n3", "\"n1:n2:n3\" is not a link"),
            ("links :n2", "\":n2\" is not a link"),
            ("grudge n1", "does not parse"),
            ("grudge {\"n1\":\"n2\"}", "does not parse"),
            ("preset", "takes exactly one name"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[A-Za-z0-9._][A-Za-z0-9._-]{0,5}"
    }

    fn some<T: fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        proptest::collection::vec(strategy, 1..5)
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            some(name()).prop_map(Shape::Isolate),
            some(some(name())).prop_map(Shape::Split),
            (some(name()), some(name())).prop_map(|(first, second)| Shape::Between([first, second])),
            Just(Shape::Halves(Nothing {})),
            Just(Shape::RandomHalves(Nothing {})),
            Just(Shape::RandomNode(Nothing {})),
            Just(Shape::MajoritiesRing(Nothing {})),
            name().prop_map(|via| Shape::Bridge(Bridge { via })),
            some((name(), name())).prop_map(|links| {
                Shape::Links(links.into_iter().map(|(src, dst)| NamedLink { src, dst }).collect())
            }),
            proptest::collection::btree_map(name().prop_map(PeerName), some(name()), 1..4)
                .prop_map(Shape::Grudge),
            name().prop_map(Shape::Preset),
        ]
    }

    proptest! {
        #[test]
        fn words_and_shapes_are_inverse(shape in shape()) {
            prop_assert_eq!(parse(&shape.to_string()).unwrap(), shape);
        }
    }
}
