//! The syntax of a shape: its first word, and how the words after it are read.

use std::collections::BTreeMap;

use crate::model::{NamedLink, Selector, Shape, read_grudge};

/// How a shape is written.
pub struct Syntax {
    /// Its first word.
    pub word: &'static str,
    /// The shape with its arguments, as on the command line.
    pub usage: &'static str,
    /// The shape as JSON.
    pub json: &'static str,
    /// The links that it cuts, in words.
    pub what: &'static str,
    /// The group that a direction is relative to, in words; `None` where a direction makes no sense.
    pub first: Option<&'static str>,
    /// How its words are read.
    pub(super) read: Read,
}

/// How the words after a shape's own are read.
pub(super) enum Read {
    /// The words alone.
    Plain(fn(&Words<'_>) -> Result<Shape, ShapeError>),
    /// The words and the peers of `--among`, from which the shape draws.
    Drawn(fn(&Words<'_>, Option<Vec<Selector>>) -> Result<Shape, ShapeError>),
}

/// The arguments of a shape, after its word.
pub(crate) enum Arguments<'a, P> {
    /// Peers of one group.
    Peers(&'a [P]),
    /// Groups of peers.
    Groups(&'a [Vec<P>]),
    /// How many are drawn, and from whom.
    Draw {
        /// `None` where the shape says it.
        count: Option<u16>,
        /// `None` is all peers.
        among: Option<&'a [P]>,
    },
    /// A peer.
    Peer(&'a P),
    /// Links.
    Links(&'a [NamedLink<P>]),
    /// The senders that each receiver drops.
    Grudge(&'a BTreeMap<P, Vec<P>>),
    /// A preset's name.
    Preset(&'a str),
}

impl<'a, P> Arguments<'a, P> {
    /// Every name of a peer, or of a role.
    pub fn selectors(&self) -> Vec<&'a P> {
        match *self {
            Self::Peers(peers) => peers.iter().collect(),
            Self::Groups(groups) => groups.iter().flatten().collect(),
            Self::Draw { among, .. } => among.into_iter().flatten().collect(),
            Self::Peer(peer) => vec![peer],
            Self::Links(links) => links.iter().flat_map(|link| [&link.src, &link.dst]).collect(),
            Self::Grudge(grudge) => {
                grudge.iter().flat_map(|(dst, srcs)| std::iter::once(dst).chain(srcs)).collect()
            }
            Self::Preset(_) => Vec::new(),
        }
    }
}

/// The option that names the peers to draw from.
pub const AMONG: &str = "--among";

/// Why words are not a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// There is no word at all.
    #[error("no shape is given; {known}")]
    Missing {
        /// The shapes that there are, in words.
        known: String,
    },
    /// The first word is no shape.
    #[error("unknown shape \"{word}\"; {known}")]
    Unknown {
        /// The word.
        word: String,
        /// The shapes that there are, in words.
        known: String,
    },
    /// The shape takes other words.
    #[error("{shape}: {problem}; write it as: {usage}")]
    Usage {
        /// The shape.
        shape: &'static str,
        /// The fault of its words.
        problem: String,
        /// How it is written.
        usage: String,
    },
}

pub(super) fn links(words: &Words<'_>) -> Result<Shape, ShapeError> {
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

pub(super) fn grudge(words: &Words<'_>) -> Result<Shape, ShapeError> {
    let json = words.at_least_one("JSON object")?.join(" ");
    let mut reader = serde_json::Deserializer::from_str(&json);
    let grudge = read_grudge(&mut reader).and_then(|grudge| reader.end().map(|()| grudge));
    grudge.map(Shape::Grudge).map_err(|error| {
        let begin: String = json.chars().take(80).collect();
        let more = if begin.len() < json.len() { " …" } else { "" };
        words.error(format!("{begin}{more} does not parse ({error})"))
    })
}

/// The words after a shape's own.
pub(super) struct Words<'a> {
    pub syntax: &'static Syntax,
    pub rest: &'a [&'a str],
}

impl<'a> Words<'a> {
    pub fn error(&self, problem: impl Into<String>) -> ShapeError {
        let Syntax { word: shape, usage, read, .. } = self.syntax;
        let among = if matches!(read, Read::Drawn(_)) { " [--among n1,n2,…]" } else { "" };
        ShapeError::Usage { shape, problem: problem.into(), usage: format!("{usage}{among}") }
    }

    pub fn none(&self) -> Result<(), ShapeError> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(self.error(format!("takes nothing, but \"{word}\" follows"))),
        }
    }

    pub fn one(&self, what: &str) -> Result<&'a str, ShapeError> {
        match self.rest {
            [word] if !word.is_empty() => Ok(word),
            _ => Err(self.error(format!("takes exactly one {what}, {} are given", self.rest.len()))),
        }
    }

    pub fn count(&self, of: &str) -> Result<u16, ShapeError> {
        let word = self.one("number")?;
        word.parse().map_err(|_| self.error(format!("\"{word}\" is not a number of {of}")))
    }

    fn at_least_one(&self, what: &str) -> Result<&'a [&'a str], ShapeError> {
        if self.rest.is_empty() {
            Err(self.error(format!("needs at least one {what}")))
        } else {
            Ok(self.rest)
        }
    }

    pub fn at_least_two_groups(&self) -> Result<Vec<Vec<Selector>>, ShapeError> {
        if self.rest.len() < 2 {
            return Err(self.error(format!("needs at least two groups, {} are given", self.rest.len())));
        }
        self.groups("group")
    }

    pub fn groups(&self, what: &str) -> Result<Vec<Vec<Selector>>, ShapeError> {
        self.at_least_one(what)?.iter().map(|word| self.group(word)).collect()
    }

    pub fn group(&self, word: &str) -> Result<Vec<Selector>, ShapeError> {
        Ok(self.names(word)?.into_iter().map(Selector::from).collect())
    }

    fn names<'w>(&self, word: &'w str) -> Result<Vec<&'w str>, ShapeError> {
        if word.split(',').any(str::is_empty) {
            return Err(self.error(format!("\"{word}\" has an empty name")));
        }
        Ok(word.split(',').collect())
    }
}
