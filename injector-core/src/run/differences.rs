//! In what two values differ, by the path of each difference.

use serde::Serialize;
use serde_json::Value;

/// The settings as JSON.
pub(super) fn value(settings: &impl Serialize) -> Value {
    serde_json::to_value(settings).expect("settings have string keys and finite numbers")
}

/// The differences of two values, as `path: a's value, b's`.
pub(super) fn differences(path: &str, a: &Value, b: &Value) -> Vec<String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            let of = |map: &serde_json::Map<String, Value>, key: &str| {
                map.get(key).cloned().unwrap_or(Value::Null)
            };
            keys.into_iter().flat_map(|key| differences(&below(key), &of(a, key), &of(b, key))).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .flat_map(|(at, (a, b))| differences(&format!("{path}[{at}]"), a, b))
            .collect(),
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{path}: {a}, {b}")],
    }
}
