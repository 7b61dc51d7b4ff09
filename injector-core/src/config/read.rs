//! Reading the YAML tree: nodes that know their path, and a report that takes every fault.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::error::{ConfigError, ConfigErrors};
use super::text_position::{START, TextPosition, TextPositions, below, item};
use crate::clock::{Span, SpanError};
use crate::nearest::nearest;

/// The smallest span that is not zero.
pub(super) const ABOVE_ZERO: Span = Span(std::time::Duration::from_nanos(1));

/// The text as a tree. Of keys that are given twice the first wins: they are reported by [`TextPositions`], which lets
/// the other faults be found as well.
pub(super) struct Tree(pub Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Self)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value without a tag")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// An integer above every `u64`: it becomes a float, and its reader reports it.
    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    /// An integer below every `i64`: it becomes a float, and its reader reports it.
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Tree(value)) = access.next_element()? {
            items.push(value);
        }
        Ok(Value::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut mapping = Mapping::new();
        while let Some((Tree(key), Tree(value))) = access.next_entry()? {
            mapping.entry(key).or_insert(value);
        }
        Ok(Value::Mapping(mapping))
    }
}

/// Takes the faults of one file.
pub(super) struct Report<'a> {
    file: &'a str,
    positions: TextPositions,
    faults: RefCell<Vec<Fault>>,
}

/// A fault, and what decides its place among the others.
struct Fault {
    error: ConfigError,
    kind: FaultKind,
}

#[derive(Clone, PartialEq, Eq)]
enum FaultKind {
    /// A key of this mapping, given by its path, that is not known there.
    UnknownKey {
        table: String,
        meant: Option<&'static str>,
    },
    /// A key that this mapping must have.
    Missing {
        table: String,
        key: &'static str,
    },
    Other,
}

impl<'a> Report<'a> {
    pub fn new(file: &'a str, positions: TextPositions) -> Self {
        Self { file, positions, faults: RefCell::default() }
    }

    fn push(&self, position: Option<TextPosition>, path: &str, what: String, remedy: String) {
        self.push_as(FaultKind::Other, position, path, what, remedy);
    }

    fn push_as(
        &self,
        kind: FaultKind,
        position: Option<TextPosition>,
        path: &str,
        what: String,
        remedy: String,
    ) {
        let position = position.or_else(|| self.around(path)).unwrap_or(START);
        let error = error_at(self.file, Some(position), path, what, remedy);
        self.faults.borrow_mut().push(Fault { error, kind });
    }

    /// The place of the nearest collection around a path that has none of its own.
    fn around(&self, path: &str) -> Option<TextPosition> {
        let mut path = path;
        while let Some(end) = path.rfind(['.', '[']) {
            path = &path[..end];
            if let Some(position) = self.positions.values_then_key(path) {
                return Some(position);
            }
        }
        self.positions.value("")
    }

    /// A fault of the value at `path`.
    pub fn at_value(&self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.push(self.positions.value(path), path, what.into(), remedy.into());
    }

    /// A fault of the key that ends `path`.
    pub fn at_key(&self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.push(self.positions.key(path), path, what.into(), remedy.into());
    }

    /// A fault of the scalar `text` at or below `path`, key or value.
    pub fn at_text(&self, path: &str, text: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let found = self.positions.find(path, text).unwrap_or(path).to_owned();
        let position = self.positions.values_then_key(&found);
        self.push(position, &found, what.into(), remedy.into());
    }

    /// `line L` of the value at `path`, for pointing at an earlier one.
    pub fn line(&self, path: &str) -> String {
        self.positions
            .value(path)
            .map_or_else(|| path.to_owned(), |position| format!("line {}", position.line))
    }

    /// How many faults there are so far.
    pub fn count(&self) -> usize {
        self.faults.borrow().len()
    }

    /// Adds the keys that are given twice.
    pub fn duplicates(&self) {
        for twice in &self.positions.duplicates {
            let what = format!("duplicate key \"{}\", first on line {}", twice.key, twice.first.line);
            self.push(Some(twice.second), &twice.path, what, "keep one of the two".to_owned());
        }
    }

    /// The faults in the order of the text, but an unknown key before all other faults of its mapping: those may follow from
    /// it. That a key is missing which an unknown one is likely to mean is no fault of its own.
    pub fn into_errors(self) -> ConfigErrors {
        let mut faults = self.faults.into_inner();
        let place = |error: &ConfigError| (error.line, error.column);
        let unknown: Vec<_> = faults
            .iter()
            .filter_map(|Fault { error, kind }| match kind {
                FaultKind::UnknownKey { table, meant } => Some((table.clone(), *meant, place(error))),
                _ => None,
            })
            .collect();
        faults.retain(|fault| match &fault.kind {
            FaultKind::Missing { table, key } => {
                !unknown.iter().any(|(of, meant, _)| of == table && *meant == Some(*key))
            }
            _ => true,
        });
        faults.sort_by_cached_key(|Fault { error, kind }| {
            let own = place(error);
            if matches!(kind, FaultKind::UnknownKey { .. }) {
                return (own, false, own);
            }
            let around = unknown.iter().filter(|(table, ..)| is_within(&error.path, table));
            (around.map(|(.., place)| *place).chain([own]).max().unwrap_or(own), true, own)
        });
        ConfigErrors(faults.into_iter().map(|fault| fault.error).collect())
    }
}

/// Whether the value at `path` is the collection `table` or lies in it.
fn is_within(path: &str, table: &str) -> bool {
    path.strip_prefix(table)
        .is_some_and(|rest| table.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Makes a fault at a place of the file.
pub(super) fn error_at(
    file: &str,
    position: Option<TextPosition>,
    path: &str,
    what: String,
    remedy: String,
) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        line: position.map(|position| position.line),
        column: position.map(|position| position.column),
        path: path.to_owned(),
        what,
        remedy,
    }
}

/// A value with its path. Readers report a wrong type and answer `None`, so that reading continues.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub path: String,
    value: &'a Value,
    report: &'a Report<'a>,
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Value, report: &'a Report<'a>) -> Self {
        Self { path: String::new(), value, report }
    }

    pub fn report(&self) -> &'a Report<'a> {
        self.report
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Reports a fault of this value.
    pub fn error(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.report.at_value(&self.path, what, remedy);
    }

    /// Reports a fault of this value's key.
    pub fn key_error(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.report.at_key(&self.path, what, remedy);
    }

    fn wrong_type(&self, expected: &str, remedy: &str) {
        self.error(format!("found {} where {expected} is expected", describe(self.value)), remedy);
    }

    /// A text.
    pub fn text(&self, remedy: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type("a text", remedy);
        }
        text
    }

    /// A text that is not empty.
    pub fn some_text(&self, remedy: &str) -> Option<&'a str> {
        let text = self.text(remedy)?;
        if text.is_empty() {
            self.error("the text is empty", remedy);
            return None;
        }
        Some(text)
    }

    /// A whole number from `min` to `max`.
    pub fn number(&self, min: u32, max: u32) -> Option<u32> {
        let remedy = format!("write a whole number from {min} to {max}");
        let Value::Number(given) = self.value else {
            self.wrong_type("a number", &remedy);
            return None;
        };
        let number = given.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.error(format!("{given} is not in range"), remedy);
        }
        number
    }

    /// A span of at least `min`.
    pub fn span(&self, min: Span) -> Option<Span> {
        self.span_within(min, MAX_SPAN)
    }

    /// A span of at least `min` and at most `max`.
    pub fn span_within(&self, min: Span, max: Span) -> Option<Span> {
        let text = self.text("write a duration with its unit, such as \"250ms\" or \"5s\"")?;
        let too_long = || self.error(format!("{text} is too long"), format!("write at most {max}"));
        let span = match text.parse::<Span>() {
            Ok(span) => span,
            Err(SpanError::TooLong { .. }) => {
                too_long();
                return None;
            }
            Err(SpanError::Unreadable { .. }) => {
                let what = format!("\"{text}\" is not a duration");
                self.error(what, "write a duration with its unit, such as \"250ms\" or \"5s\"");
                return None;
            }
        };
        if span < min {
            let what = format!("{text} is too short");
            self.error(what, format!("write at least {min}"));
            return None;
        }
        if span > max {
            too_long();
            return None;
        }
        Some(span)
    }

    /// The items of a list.
    pub fn items(&self, remedy: &str) -> Vec<Self> {
        let Some(items) = self.value.as_sequence() else {
            self.wrong_type("a list", remedy);
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items.map(|(at, value)| Self { path: item(&self.path, at), value, report: self.report }).collect()
    }

    /// The entries of a mapping in the order of the text.
    pub fn entries(&self, remedy: &str) -> Vec<(&'a str, Self)> {
        let Some(mapping) = self.value.as_mapping() else {
            self.wrong_type("a mapping", remedy);
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, value) in mapping {
            if let Some(key) = key.as_str() {
                entries.push((key, Self { path: below(&self.path, key), value, report: self.report }));
            } else {
                let path = below(&self.path, &plain(key));
                let what = format!("{} is not a text and can't be a key", describe(key));
                self.report.at_key(&path, what, "put the key in quotes");
            }
        }
        entries
    }

    /// A mapping with fixed keys.
    pub fn table(&self, remedy: &str) -> Option<Fields<'a>> {
        if self.value.is_mapping() {
            let entries = self.entries(remedy);
            let taken = entries.iter().map(|_| Cell::new(false)).collect();
            return Some(Fields { node: self.clone(), entries, taken, known: RefCell::default() });
        }
        self.wrong_type("a mapping", remedy);
        None
    }
}

/// Beyond this, sums of instants and spans would need a care that no user does.
const MAX_SPAN: Span = Span::secs(30 * 24 * 3600);

/// A mapping with fixed keys: what is never asked for is unknown.
pub(super) struct Fields<'a> {
    pub node: Node<'a>,
    entries: Vec<(&'a str, Node<'a>)>,
    taken: Vec<Cell<bool>>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The value of an optional key; null is missing.
    pub fn get(&self, key: &'static str) -> Option<Node<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let at = self.entries.iter().position(|(found, _)| *found == key)?;
        self.taken[at].set(true);
        let node = self.entries[at].1.clone();
        (!node.value.is_null()).then_some(node)
    }

    /// The value of a key that must be there.
    pub fn require(&self, key: &'static str, remedy: &str) -> Option<Node<'a>> {
        let node = self.get(key);
        if node.is_none() {
            self.missing(key, remedy);
        }
        node
    }

    /// Reports a key that must be there.
    pub fn missing(&self, key: &'static str, remedy: &str) {
        let report = self.node.report;
        let path = below(&self.node.path, key);
        let kind = FaultKind::Missing { table: self.node.path.clone(), key };
        let what = format!("\"{key}\" is missing");
        report.push_as(kind, report.positions.key(&path), &path, what, remedy.to_owned());
    }

    /// Reports the keys that were never asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        let is_given = |key: &&str| self.entries.iter().any(|(given, _)| given == key);
        for ((key, node), taken) in self.entries.iter().zip(&self.taken) {
            if taken.get() {
                continue;
            }
            // A key that is there already is meant only if no other one is near.
            let absent = known.iter().copied().filter(|known| !is_given(known));
            let meant = nearest(key, absent).or_else(|| nearest(key, known.iter().copied()));
            let meant = meant.and_then(|meant| known.iter().copied().find(|known| *known == meant));
            let proposal = meant.map_or_else(String::new, |meant| format!("did you mean \"{meant}\"? "));
            let report = self.node.report;
            let kind = FaultKind::UnknownKey { table: self.node.path.clone(), meant };
            report.push_as(
                kind,
                report.positions.key(&node.path),
                &node.path,
                format!("unknown key \"{key}\""),
                format!("{proposal}known here: {}", known.join(", ")),
            );
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        _ => "?".to_owned(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("the word {}", plain(value)),
        Value::Number(_) => format!("the number {}", plain(value)),
        Value::String(text) => format!("\"{text}\""),
        Value::Sequence(_) => "a list".to_owned(),
        _ => "a mapping".to_owned(),
    }
}
