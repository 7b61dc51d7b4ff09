//! The faults of configs, and the errors that the user reads: one table for all, in
//! `tests/data/config_faults`.
//!
//! An entry is a text with `¶` in front of the place of its first fault, then one line `=> PATH: WHAT; REMEDY` for each fault.
//! A heading `## NAME` chooses from [`FRAMES`] the config into which the texts below it are put. To add an entry, write the
//! text, run this test with `INJECTOR_BLESS=1`, which writes the lines of the errors, and read them as a user would.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use injector_core::config::{Config, ConfigError, Engine, Selector, schema};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/config_faults");

/// Configs that an entry completes; its text takes the place of `TEXT`.
const FRAMES: [(&str, &str); 7] = [
    ("whole", "TEXT\n"),
    (
        "added",
        "peers:\n  n1: { addresses: [10.0.0.1] }\n  n2: { addresses: [10.0.0.2, \"fd00::2\"] }\n  \
         net: { addresses: [10.2.0.0/16] }\ninterfaces: auto\nTEXT\n",
    ),
    ("peer", "interfaces: auto\npeers:\n  n1: TEXT\n"),
    ("peers", "peers: { TEXT }\ninterfaces: auto\n"),
    ("interfaces", "peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: TEXT\n"),
    (
        "probe",
        "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] } }\ninterfaces: auto\nendpoints:\n  \
         - name: e\n    peers: [n1, n2]\n    probe: TEXT\n",
    ),
    (
        "wire",
        "peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: auto\nendpoints:\n  - name: e\n    peers: [n1]\n    \
         probe: { http: { url: \"http://{address}:80/\" } }\n    wire: TEXT\n",
    ),
];

/// An entry of the table.
struct Entry {
    /// The whole config, with the mark.
    config: String,
    /// The line of the file on which its text begins.
    line: usize,
    /// The errors that are expected, one a line.
    expected: Vec<String>,
}

impl Entry {
    /// The place of the mark: line and column from 1.
    fn place(&self) -> Option<(usize, usize)> {
        let before = self.config.split_once('¶')?.0;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((before.matches('\n').count() + 1, column))
    }

    fn errors(&self) -> Vec<ConfigError> {
        let config = self.config.replacen('¶', "", 1);
        Config::parse_with(&config, "lab.yaml", &select).err().map(|errors| errors.0).unwrap_or_default()
    }
}

/// Answers in place of a container engine: two containers have the label `shop`, none has another one.
#[expect(clippy::unnecessary_wraps, reason = "it is called through a type that may fail")]
fn select(_: &Engine, selector: &Selector) -> Result<Vec<String>, (String, String)> {
    let found: &[&str] = if selector.to_string() == "shop" { &["a", "b"] } else { &[] };
    Ok(found.iter().map(|name| (*name).to_owned()).collect())
}

fn shown(error: &ConfigError) -> String {
    let path = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path) };
    format!("=> {path}{}; {}", error.what, error.remedy)
}

/// The entries of a file, in order.
fn entries(file: &Path) -> Vec<Entry> {
    let content = fs::read_to_string(file).unwrap();
    let mut frame = None;
    let mut found: Vec<Entry> = Vec::new();
    let mut text: Option<(usize, String)> = None;
    for (at, line) in content.lines().enumerate() {
        let place = format!("{}:{}", file.display(), at + 1);
        if let Some(name) = line.strip_prefix("## ") {
            frame = FRAMES.iter().find(|(known, _)| *known == name).map(|(_, frame)| *frame);
            assert!(
                frame.is_some(),
                "{place}: no frame {name}; choose one of FRAMES in tests/config_faults.rs"
            );
        } else if line.starts_with("=>") {
            if let Some((line, text)) = text.take() {
                let frame = frame.unwrap_or_else(|| panic!("{place}: write a heading `## NAME` above"));
                let config = frame.replacen("TEXT", &text, 1);
                found.push(Entry { config, line, expected: Vec::new() });
            }
            found.last_mut().expect("a text before its errors").expected.push(line.to_owned());
        } else if let Some((_, text)) = &mut text {
            assert!(!line.is_empty(), "{place}: an entry ends with a line that begins with `=>`");
            text.push('\n');
            text.push_str(line);
        } else if !line.is_empty() && !line.starts_with("# ") {
            text = Some((at + 1, line.to_owned()));
        }
    }
    assert!(text.is_none(), "{}: the last entry has no line that begins with `=>`", file.display());
    found
}

/// Writes the errors of a file's entries in place of those that are there.
fn bless(file: &Path, entries: &[Entry]) {
    let content = fs::read_to_string(file).unwrap();
    let mut entries = entries.iter();
    let mut written: Vec<String> = Vec::new();
    let mut follows_error = false;
    for line in content.lines() {
        let is_error = line.starts_with("=>");
        if is_error && !follows_error {
            written.extend(entries.next().expect("an entry").errors().iter().map(shown));
        } else if !is_error {
            written.push(line.to_owned());
        }
        follows_error = is_error;
    }
    fs::write(file, written.join("\n") + "\n").unwrap();
}

fn files() -> BTreeSet<PathBuf> {
    fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn each_fault_has_its_place_and_its_remedy() {
    let schema = jsonschema::validator_for(&schema::schema()).unwrap();
    let blessing = std::env::var_os("INJECTOR_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in files() {
        if blessing {
            bless(&file, &entries(&file));
        }
        for entry in entries(&file) {
            checked += 1;
            let errors = entry.errors();
            let mut fault = |what: String| {
                wrong.push(format!("{}:{}: {what}", file.display(), entry.line));
            };
            let Some(first) = errors.first() else {
                fault("this is a valid config".to_owned());
                continue;
            };
            let place = first.line.zip(first.column);
            if place != entry.place() {
                fault(format!("the first fault is at {place:?}, and the mark ¶ at {:?}", entry.place()));
            }
            let shown: Vec<String> = errors.iter().map(shown).collect();
            if shown != entry.expected {
                fault(format!("the errors are\n{}", shown.join("\n")));
            }
            if errors.iter().any(|error| error.remedy.is_empty()) {
                fault("an error has no remedy".to_owned());
            }
            // The JSON Schema, by which editors complete and check a config, must know the same keys.
            if errors.iter().any(|error| error.what.contains("unknown key")) {
                let tree: serde_yaml::Value =
                    serde_yaml::from_str(&entry.config.replacen('¶', "", 1)).unwrap();
                if schema.is_valid(&serde_json::to_value(tree).unwrap()) {
                    fault("config/schema.rs accepts an unknown key".to_owned());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 270, "{checked} faults were checked");
}
