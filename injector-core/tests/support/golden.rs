//! Golden files: each holds a format as it was when it was last changed on purpose.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The variable with which the tests write the golden files instead of comparing with them.
const BLESS: &str = "INJECTOR_BLESS";

/// Fails if `value` is not what the golden file `name` of the crate at `manifest` holds.
pub fn check(manifest: &str, name: &str, value: &Value) {
    let path = Path::new(manifest).join("tests/data/golden").join(name);
    let mut written = serde_json::to_string_pretty(value).unwrap();
    written.push('\n');
    if std::env::var_os(BLESS).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &written).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if golden == written {
        return;
    }
    let differs = golden.lines().zip(written.lines()).position(|(old, new)| old != new);
    let at = differs.unwrap_or_else(|| golden.lines().count().min(written.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    panic!(
        "{} differs from line {} on:\n  golden: {}\n  now:    {}\nReaders of this format break with it. If the change \
         is intended, run the test again with {BLESS}=1, look at `git diff`, and name the change in CHANGELOG.md",
        path.display(),
        at + 1,
        line(&golden),
        line(&written),
    );
}

/// A schema without its sentences: those may be reworded at any time.
pub fn without_prose(mut schema: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, value| {
                    !(["description", "summary"].contains(&key.as_str()) && value.is_string())
                });
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut schema);
    schema
}

/// The paths of what is missing or empty in a sample that is meant to have everything.
pub fn holes(value: &Value) -> Vec<String> {
    fn walk(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(path.to_owned()),
            Value::Array(list) if list.is_empty() => found.push(path.to_owned()),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(at, value)| walk(&format!("{path}[{at}]"), value, found));
            }
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| walk(&format!("{path}.{key}"), value, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", value, &mut found);
    found
}
