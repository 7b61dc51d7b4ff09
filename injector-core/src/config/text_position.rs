//! The place of each path in the text: a walk over the YAML events gives each path its line and column.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScanError};

/// A place in the text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TextPosition {
    pub line: usize,
    pub column: usize,
}

/// The beginning of a text: for faults of the text as a whole.
pub(super) const START: TextPosition = TextPosition { line: 1, column: 1 };

impl From<Marker> for TextPosition {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// The place where a second document begins.
pub(super) fn second_document(text: &str) -> Option<TextPosition> {
    let mut parser = Parser::new_from_str(text);
    let mut starts = std::iter::from_fn(|| parser.next_event()?.ok())
        .filter(|(event, _)| matches!(event, Event::DocumentStart(_)))
        .map(|(_, span)| TextPosition::from(span.start));
    starts.nth(1)
}

/// The first tab in the indentation of the line that a parser stumbled over, or of one next to it: a parser may find the fault
/// on the line after, or call the beginning of a block its place.
pub(super) fn tab_before(text: &str, stumbled: TextPosition) -> Option<TextPosition> {
    let first = stumbled.line.saturating_sub(1).max(1);
    let mut lines = text.lines().enumerate().skip(first - 1).take(stumbled.line + 2 - first);
    lines.find_map(|(at, line)| {
        let indentation = line.chars().take_while(|c| c.is_whitespace());
        let column = indentation.enumerate().find(|(_, c)| *c == '\t')?.0 + 1;
        (!line.trim().is_empty()).then_some(TextPosition { line: at + 1, column })
    })
}

/// How deep lists and mappings may be in each other; a config or a campaign needs less than ten levels.
pub(super) const MOST_DEPTH: usize = 64;

/// Where a text exceeds [`MOST_DEPTH`]. To be asked first: the time that parsers take for such a text grows with the square
/// of its depth.
pub(super) fn too_deep(text: &str) -> Option<TextPosition> {
    let mut parser = Parser::new_from_str(text);
    let mut depth = 0_usize;
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            // The parser's scanner is ahead of its events, and has a limit of its own.
            Err(error) => {
                let before = text.chars().take(error.marker().index());
                let (opened, closed): (Vec<char>, Vec<char>) =
                    before.filter(|at| "[{]}".contains(*at)).partition(|at| "[{".contains(*at));
                let is_too_deep = opened.len() > closed.len() + MOST_DEPTH;
                return is_too_deep.then(|| (*error.marker()).into());
            }
        };
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_DEPTH {
            return Some(span.start.into());
        }
    }
    None
}

/// A key that a mapping has twice.
#[derive(Debug)]
pub(super) struct Duplicate {
    pub path: String,
    pub key: String,
    pub first: TextPosition,
    pub second: TextPosition,
}

/// The places of every key and value.
#[derive(Debug, Default)]
pub(super) struct TextPositions {
    keys: HashMap<String, TextPosition>,
    values: HashMap<String, TextPosition>,
    /// Scalars in the order of the text, for finding a name below a path.
    scalars: Vec<(String, String)>,
    pub duplicates: Vec<Duplicate>,
}

/// The path of `key` below `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of the item `at` of the list at `path`.
pub(super) fn item(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

/// A collection that the walk is in.
enum Frame {
    Mapping { path: String, key: Option<String>, seen: HashMap<String, TextPosition>, is_key: bool },
    Sequence { path: String, next: usize, is_key: bool },
}

/// The role of a node in the collection around it.
enum Role {
    Key { mapping: String },
    Value { path: String },
}

/// Replaces a key that is not plain text; no path of ours contains it.
const ODD_KEY: &str = "?";

impl TextPositions {
    /// Walks a text that is one YAML document.
    pub fn of(text: &str) -> Result<Self, ScanError> {
        let mut positions = Self::default();
        let mut frames: Vec<Frame> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event?;
            let position = TextPosition::from(span.start);
            match event {
                Event::Scalar(text, ..) => {
                    let role = role(&mut frames);
                    positions.scalar(role, text.as_ref(), position, &mut frames);
                }
                Event::Alias(_) => {
                    let role = role(&mut frames);
                    positions.opened(&role, position);
                    closed(&mut frames, matches!(role, Role::Key { .. }));
                }
                Event::SequenceStart(..) => {
                    let (path, is_key) = positions.enter(&mut frames, position);
                    frames.push(Frame::Sequence { path, next: 0, is_key });
                }
                Event::MappingStart(..) => {
                    let (path, is_key) = positions.enter(&mut frames, position);
                    frames.push(Frame::Mapping { path, key: None, seen: HashMap::new(), is_key });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(Frame::Mapping { is_key, .. } | Frame::Sequence { is_key, .. }) = frames.pop()
                    {
                        closed(&mut frames, is_key);
                    }
                }
                _ => {}
            }
        }
        Ok(positions)
    }

    fn scalar(&mut self, role: Role, text: &str, position: TextPosition, frames: &mut [Frame]) {
        match role {
            Role::Key { mapping } => {
                let path = below(&mapping, text);
                self.scalars.push((path.clone(), text.to_owned()));
                let Some(Frame::Mapping { key, seen, .. }) = frames.last_mut() else { return };
                if let Some(first) = seen.get(text) {
                    let duplicate = Duplicate { path, key: text.to_owned(), first: *first, second: position };
                    self.duplicates.push(duplicate);
                    // Keys below the second mapping must not be recorded as keys below the first.
                    *key = Some(ODD_KEY.to_owned());
                } else {
                    seen.insert(text.to_owned(), position);
                    self.keys.entry(path).or_insert(position);
                    *key = Some(text.to_owned());
                }
            }
            Role::Value { path } => {
                self.scalars.push((path.clone(), text.to_owned()));
                self.values.entry(path).or_insert(position);
            }
        }
    }

    fn opened(&mut self, role: &Role, position: TextPosition) {
        if let Role::Value { path } = role {
            self.values.entry(path.clone()).or_insert(position);
        }
    }

    fn enter(&mut self, frames: &mut [Frame], position: TextPosition) -> (String, bool) {
        let role = role(frames);
        self.opened(&role, position);
        match role {
            Role::Key { mapping } => (below(&mapping, ODD_KEY), true),
            Role::Value { path } => (path, false),
        }
    }

    /// The place of the key that ends this path, else that of what it is part of.
    pub fn key(&self, path: &str) -> Option<TextPosition> {
        self.keys.get(path).copied().or_else(|| self.value(path))
    }

    /// The place of the value at this path, else that of what it is part of.
    pub fn value(&self, path: &str) -> Option<TextPosition> {
        let mut path = path;
        loop {
            if let Some(position) = self.values.get(path) {
                return Some(*position);
            }
            if path.is_empty() {
                return None;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }

    /// The place of exactly this value, else of exactly this key, else of what it is part of.
    pub fn values_then_key(&self, path: &str) -> Option<TextPosition> {
        self.values.get(path).copied().or_else(|| self.key(path))
    }

    /// The path of the first scalar, key or value, with this text below `path`.
    pub fn find(&self, path: &str, text: &str) -> Option<&str> {
        let within = |found: &str| found.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        let hit = self.scalars.iter().find(|(found, scalar)| scalar == text && within(found));
        hit.map(|(found, _)| found.as_str())
    }
}

/// The role of the node that begins now, by the collection around it; moves that collection on.
fn role(frames: &mut [Frame]) -> Role {
    match frames.last_mut() {
        None => Role::Value { path: String::new() },
        Some(Frame::Sequence { path, next, .. }) => {
            *next += 1;
            Role::Value { path: item(path, *next - 1) }
        }
        Some(Frame::Mapping { path, key, .. }) => match key.take() {
            None => Role::Key { mapping: path.clone() },
            Some(key) => Role::Value { path: below(path, &key) },
        },
    }
}

/// A node that is not a scalar ended; as a key it means itself by [`ODD_KEY`].
fn closed(frames: &mut [Frame], was_key: bool) {
    if was_key && let Some(Frame::Mapping { key, .. }) = frames.last_mut() {
        *key = Some(ODD_KEY.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_deep_is_noticed_where_it_begins_to_be() {
        let flow = |depth: usize| format!("peers: {}{}", "[".repeat(depth), "]".repeat(depth));
        // The mapping around it is one more.
        assert_eq!(too_deep(&flow(MOST_DEPTH - 1)), None);
        assert_eq!(too_deep(&flow(MOST_DEPTH)), Some(TextPosition { line: 1, column: 8 + MOST_DEPTH - 1 }));
        let lines: Vec<String> = (0..MOST_DEPTH + 2).map(|depth| " ".repeat(depth) + "a:\n").collect();
        let block = lines.concat();
        assert_eq!(too_deep(&block).map(|position| position.line), Some(MOST_DEPTH + 1));
        // The check ends at the limit: a text that is far deeper is not read to its end.
        assert!(too_deep(&flow(1_000_000)).is_some());
        assert_eq!(too_deep("a: [1, 2]\nb: {c: ]\n"), None, "the parser says what is wrong");
    }

    #[test]
    fn paths_have_their_lines_and_columns() {
        let text = "a: { b: [x, yy] }\nc:\n  - d: 1\n    e: 2\n  - {f: é, g: 3}\n? [k, l]\n: odd\nz: end\n";
        let positions = TextPositions::of(text).unwrap();
        assert_eq!(positions.key("a").map(|at| (at.line, at.column)), Some((1, 1)));
        assert_eq!(positions.value("a.b[1]").map(|at| (at.line, at.column)), Some((1, 13)));
        assert_eq!(positions.key("c[0].e").map(|at| (at.line, at.column)), Some((4, 5)));
        assert_eq!(positions.value("c[0].e").map(|at| (at.line, at.column)), Some((4, 8)));
        assert_eq!(positions.value("c[1].g").map(|at| (at.line, at.column)), Some((5, 15)));
        assert_eq!(positions.value("c[1].g.missing[3]").map(|at| (at.line, at.column)), Some((5, 15)));
        assert_eq!(positions.value("z").map(|at| (at.line, at.column)), Some((8, 4)));
        assert_eq!(positions.find("a", "yy"), Some("a.b[1]"));
        assert_eq!(positions.find("a", "end"), None);
        assert!(positions.duplicates.is_empty());
    }

    #[test]
    fn duplicate_keys_are_found_at_any_depth() {
        let positions = TextPositions::of("a:\n  b: 1\n  b: 2\nx: {a: 1, a: 2}\na: {b: 3}\n").unwrap();
        let found: Vec<_> = positions.duplicates.iter().map(|d| (d.path.as_str(), d.second.line)).collect();
        assert_eq!(found, [("a.b", 3), ("x.a", 4), ("a", 5)]);
        assert_eq!(positions.duplicates[0].first, TextPosition { line: 2, column: 3 });
    }
}
