//! The answers of strangers: values as words, and words that are safe to show.

use serde_json::Value;

/// A text of a stranger, shortened, and without characters that would act on a terminal or a page that shows
/// it.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A value that is a word.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The most characters of an answer that an error shows.
const SHOWN: usize = 80;
