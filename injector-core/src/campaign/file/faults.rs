//! The faults of a campaign file, each with its place, what is wrong and a remedy.

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use crate::config::{self, ConfigError};
use crate::nearest::did_you_mean;

/// As many faults are named at most.
const MOST: usize = 50;

/// What the text says, and all faults that its parser finds. The parser stops at the first one: to find the next, a good value takes
/// its place.
pub(super) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> (Option<T>, Vec<ConfigError>) {
    let mut faults = Vec::new();
    let mut found = match serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(campaign) => return (Some(campaign), faults),
        Err(error) => error,
    };
    let Ok(Value::Mapping(mut tree)) = serde_yaml::from_str(text) else {
        faults.push(of_parser(file, text, &found));
        return (None, faults);
    };
    let mut before: Option<String> = None;
    while faults.len() < MOST {
        let said = format!("{}: {}", found.path(), found.inner());
        if before.as_ref() == Some(&said) {
            break;
        }
        faults.push(of_parser(file, text, &found));
        mend(&mut tree, &found);
        before = Some(said);
        found = match serde_path_to_error::deserialize(Value::Mapping(tree.clone())) {
            Ok(campaign) => return (Some(campaign), faults),
            Err(error) => error,
        };
    }
    (None, faults)
}

type ParserError = serde_path_to_error::Error<serde_yaml::Error>;

/// A value that is good for a key, if the key must have one: for a list also the element that is good.
fn good(key: &str) -> Option<Value> {
    match key {
        "shapes" => Some("halves".into()),
        "holds" => Some("5s".into()),
        "trials" => Some(1_000_000.into()),
        _ => None,
    }
}

/// Puts a good value in the place of a faulty one, or takes it out.
fn mend(tree: &mut Mapping, found: &ParserError) {
    let inner = found.inner().to_string();
    let missing = inner.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let path = found.path().to_string();
    if let (Some(key), "." | "") = (missing, path.as_str()) {
        let value =
            good(key).map(|value| if value.is_string() { Value::Sequence(vec![value]) } else { value });
        tree.insert(key.into(), value.unwrap_or_default());
        return;
    }
    let key = path.split(['[', '.']).next().unwrap_or_default();
    let index =
        path[key.len()..].strip_prefix('[').and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    match (tree.get_mut(key), index) {
        (Some(Value::Sequence(list)), Some(index)) if index < list.len() => match good(key) {
            Some(value) => list[index] = value,
            // The elements before it are good, and its place in the text is known.
            None => list.truncate(index),
        },
        _ => match good(key) {
            Some(value) if value.is_string() => drop(tree.insert(key.into(), Value::Sequence(vec![value]))),
            Some(value) => drop(tree.insert(key.into(), value)),
            None => drop(tree.remove(key)),
        },
    }
}

/// What the parser found.
fn of_parser(file: &str, text: &str, error: &ParserError) -> ConfigError {
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let (what, is_key) = words(&error.inner().to_string(), &path);
    let parsed = error.inner().location().map(|at| (at.line(), at.column()));
    let place = match (is_key, path.is_empty()) {
        (true, _) => parsed.or_else(|| of_key(text, &path)).or_else(|| at(text, &path)),
        (false, true) => parsed.or_else(|| at(text, &path)),
        (false, false) => at(text, &path),
    };
    fault(file, place, &path, what, EXAMPLE)
}

/// Line and column of a key itself, where it begins a line.
fn of_key(text: &str, key: &str) -> Option<(usize, usize)> {
    let is_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    text.lines().position(is_key).map(|line| (line + 1, 1))
}

pub(super) fn fault(
    file: &str,
    place: Option<(usize, usize)>,
    path: &str,
    what: impl Into<String>,
    remedy: &str,
) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        path: path.to_owned(),
        what: what.into(),
        remedy: remedy.to_owned(),
    }
}

/// Line and column of a key's value; of the whole text, if it does not have that key.
pub(super) fn at(text: &str, path: &str) -> Option<(usize, usize)> {
    config::place_of(text, path).or(Some((1, 1)))
}

/// The parser's message in the words of a config's faults, and whether the message is about the key itself.
/// Path and place are left out, since a fault has fields for them.
fn words(text: &str, path: &str) -> (String, bool) {
    let text = match text.rsplit_once(" at line ") {
        Some((what, place)) if place.chars().all(|c| c.is_ascii_digit() || " column".contains(c)) => what,
        _ => text,
    };
    let key = path.split(['[', '.']).next().unwrap_or_default();
    let text =
        [path, key].iter().find_map(|path| text.strip_prefix(path)?.strip_prefix(": ")).unwrap_or(text);
    if let Some(keys) = text.strip_prefix("unknown field ") {
        // `x`, expected one of `a`, `b`
        let mut names = keys.split('`').skip(1).step_by(2);
        let proposal = names.next().map(|wrong| did_you_mean(wrong, names)).unwrap_or_default();
        let known = format!("{proposal}known here:");
        return (format!("unknown key {}", keys.replace("expected one of", &known).replace('`', "\"")), true);
    }
    if let Some(key) = text.strip_prefix("missing field ") {
        return (format!("{} is missing", key.replace('`', "\"")), false);
    }
    let found = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    if let Some((found, expected)) = found.and_then(|found| found.split_once(", expected ")) {
        let found = match found.split_once(' ') {
            Some(("string", text)) => text.to_owned(),
            Some(("integer" | "floating", number)) => {
                format!("the number {}", number.trim_start_matches("point ").trim_matches('`'))
            }
            Some(("boolean", value)) => value.trim_matches('`').to_owned(),
            _ if found == "sequence" => "a list".to_owned(),
            _ if found == "map" => "a mapping".to_owned(),
            _ if found == "unit value" => "nothing".to_owned(),
            _ => found.to_owned(),
        };
        let expected = match expected {
            "u32" | "u64" => "a whole number",
            "f64" => "a number",
            "a string" => "a text",
            "a sequence" => "a list",
            "a boolean" => "true or false",
            other if other == "a map" || other.starts_with("struct ") => "a mapping",
            other => other,
        };
        return (format!("found {found} where {expected} is expected"), false);
    }
    if text.contains("untagged enum Share") {
        return ("this is not a share; write one such as 0.05, or \"5%\"".to_owned(), false);
    }
    (text.to_owned(), false)
}

pub(super) const EXAMPLE: &str = "see configs/campaign.yaml for every key";
