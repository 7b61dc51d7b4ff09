//! Shapes as the words of the command line: `isolate n1`, `split n1,n2 n3`, …, and back. One table says how each is
//! written: it makes the help, the usage errors and the README's list.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Bridge, NamedLink, Nothing, Selector, Shape};

/// How a shape is written.
pub struct Syntax {
    /// Its first word.
    pub word: &'static str,
    /// It, written out.
    pub usage: &'static str,
    /// What it cuts.
    pub what: &'static str,
    read: fn(&Words<'_>) -> Result<Shape, ShapeError>,
}

/// Every shape.
pub const SHAPES: [Syntax; 11] = [
    Syntax {
        word: "isolate",
        usage: "isolate n1 [n2 …]",
        what: "cut these peers, as one group, off from all the others",
        read: |words| words.groups("peer").map(|groups| Shape::Isolate(groups.concat())),
    },
    Syntax {
        word: "split",
        usage: "split n1,n2 n3 …",
        what: "cut these groups off from each other; peers that are not named form one more",
        read: |words| words.groups("group").map(Shape::Split),
    },
    Syntax {
        word: "between",
        usage: "between n1,n2 n3",
        what: "cut these two groups off from each other, and no one else",
        read: |words| match words.rest {
            [first, second] => Ok(Shape::Between([words.group(first)?, words.group(second)?])),
            others => Err(words.error(format!("takes exactly two groups, {} are given", others.len()))),
        },
    },
    Syntax {
        word: "halves",
        usage: "halves",
        what: "cut a smaller first half off from a larger second half",
        read: |words| words.none().map(|()| Shape::Halves(Nothing {})),
    },
    Syntax {
        word: "random-halves",
        usage: "random-halves",
        what: "the same with the peers shuffled",
        read: |words| words.none().map(|()| Shape::RandomHalves(Nothing {})),
    },
    Syntax {
        word: "random-node",
        usage: "random-node",
        what: "isolate one peer, drawn",
        read: |words| words.none().map(|()| Shape::RandomNode(Nothing {})),
    },
    Syntax {
        word: "majorities-ring",
        usage: "majorities-ring",
        what: "every peer of a drawn ring sees a majority, no two the same one",
        read: |words| words.none().map(|()| Shape::MajoritiesRing(Nothing {})),
    },
    Syntax {
        word: "bridge",
        usage: "bridge n3",
        what: "two halves; n3, of the second half, stays connected to both",
        read: |words| words.one("peer").map(|via| Shape::Bridge(Bridge { via: via.into() })),
    },
    Syntax {
        word: "links",
        usage: "links n1:n2 [n3:n1 …]",
        what: "cut exactly these directed links, from n1 to n2",
        read: links,
    },
    Syntax {
        word: "grudge",
        usage: "grudge '{\"n1\": [\"n2\"]}'",
        what: "n1 drops from n2; `grudge @FILE` and `grudge -` read it from a file and from standard input",
        read: grudge,
    },
    Syntax {
        word: "preset",
        usage: "preset NAME",
        what: "a shape that the config names",
        read: |words| words.one("name").map(|name| Shape::Preset(name.to_owned())),
    },
];

/// Why words are not a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No word at all.
    #[error("no shape is given; {}", known())]
    Missing,
    /// The first word is no shape.
    #[error("unknown shape \"{0}\"; {known}", known = known())]
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

/// Reads a shape from words. Names are looked up later, by [`super::resolve`].
pub fn parse_words(words: &[String]) -> Result<Shape, ShapeError> {
    let Some((first, rest)) = words.split_first() else {
        return Err(ShapeError::Missing);
    };
    let syntax = SHAPES.iter().find(|syntax| syntax.word == first);
    let syntax = syntax.ok_or_else(|| ShapeError::Unknown(first.clone()))?;
    (syntax.read)(&Words { syntax, rest })
}

fn links(words: &Words<'_>) -> Result<Shape, ShapeError> {
    let mut links = Vec::new();
    for word in words.at_least_one("link")? {
        for pair in words.names(word)? {
            let ends = pair.split_once(':');
            let ends = ends.filter(|(src, dst)| !src.is_empty() && !dst.is_empty() && !dst.contains(':'));
            let Some((src, dst)) = ends else {
                return Err(words.error(format!("\"{pair}\" is not a link")));
            };
            links.push(NamedLink { src: src.into(), dst: dst.into() });
        }
    }
    Ok(Shape::Links(links))
}

fn grudge(words: &Words<'_>) -> Result<Shape, ShapeError> {
    let json = words.at_least_one("JSON object")?.join(" ");
    let grudge: Result<BTreeMap<Selector, Vec<Selector>>, _> = serde_json::from_str(&json);
    grudge.map(Shape::Grudge).map_err(|error| {
        let begin: String = json.chars().take(80).collect();
        let more = if begin.len() < json.len() { " …" } else { "" };
        words.error(format!("{begin}{more} does not parse ({error})"))
    })
}

/// The words after a shape's own.
struct Words<'a> {
    syntax: &'static Syntax,
    rest: &'a [String],
}

impl<'a> Words<'a> {
    fn error(&self, problem: impl Into<String>) -> ShapeError {
        let Syntax { word: shape, usage, .. } = self.syntax;
        ShapeError::Usage { shape, problem: problem.into(), usage }
    }

    fn none(&self) -> Result<(), ShapeError> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(self.error(format!("takes nothing, but \"{word}\" follows"))),
        }
    }

    fn one(&self, what: &str) -> Result<&'a str, ShapeError> {
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

    fn groups(&self, what: &str) -> Result<Vec<Vec<Selector>>, ShapeError> {
        self.at_least_one(what)?.iter().map(|word| self.group(word)).collect()
    }

    fn group(&self, word: &str) -> Result<Vec<Selector>, ShapeError> {
        Ok(self.names(word)?.into_iter().map(Selector::from).collect())
    }

    fn names<'w>(&self, word: &'w str) -> Result<Vec<&'w str>, ShapeError> {
        if word.split(',').any(str::is_empty) {
            return Err(self.error(format!("\"{word}\" has an empty name")));
        }
        Ok(word.split(',').collect())
    }
}

impl<P> Shape<P> {
    /// Its first word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Isolate(_) => "isolate",
            Self::Split(_) => "split",
            Self::Between(_) => "between",
            Self::Halves(_) => "halves",
            Self::RandomHalves(_) => "random-halves",
            Self::RandomNode(_) => "random-node",
            Self::MajoritiesRing(_) => "majorities-ring",
            Self::Bridge(_) => "bridge",
            Self::Links(_) => "links",
            Self::Grudge(_) => "grudge",
            Self::Preset(_) => "preset",
        }
    }
}

fn joined<P: fmt::Display>(peers: &[P], by: &str) -> String {
    peers.iter().map(P::to_string).collect::<Vec<_>>().join(by)
}

/// The words that [`parse_words`] reads, separated by single spaces.
impl<P: fmt::Display + serde::Serialize> fmt::Display for Shape<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Isolate(peers) => write!(f, " {}", joined(peers, " ")),
            Self::Split(groups) => groups.iter().try_for_each(|group| write!(f, " {}", joined(group, ","))),
            Self::Between([first, second]) => write!(f, " {} {}", joined(first, ","), joined(second, ",")),
            Self::Halves(_) | Self::RandomHalves(_) | Self::RandomNode(_) | Self::MajoritiesRing(_) => Ok(()),
            Self::Bridge(Bridge { via }) => write!(f, " {via}"),
            Self::Links(links) => links.iter().try_for_each(|link| write!(f, " {}:{}", link.src, link.dst)),
            Self::Grudge(grudge) => {
                write!(f, " {}", serde_json::to_string(grudge).map_err(|_| fmt::Error)?)
            }
            Self::Preset(name) => write!(f, " {name}"),
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
            ("links n1", "\"n1\" is not a link; write it as: links n1:n2"),
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

    #[test]
    fn every_shape_is_in_the_help_and_in_the_readme() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
        assert!(readme.contains(&table()), "write this into README.md:\n{}", table());
        for Syntax { word, usage, .. } in &SHAPES {
            assert!(help().contains(usage) && known().contains(word) && usage.starts_with(word), "{word}");
        }
        // The usage is one that is read.
        for text in ["isolate n1 n2", "split n1,n2 n3", "between n1,n2 n3", "links n1:n2 n3:n1", "bridge n3"]
        {
            let shape = parse(text).unwrap();
            assert_eq!(text.split(' ').next(), Some(shape.word()));
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "[A-Za-z0-9._][A-Za-z0-9._-]{0,5}"
    }

    fn name() -> impl Strategy<Value = Selector> {
        text().prop_map(Selector::Name)
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
