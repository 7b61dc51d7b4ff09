//! The Prometheus text format, read by hand.

use std::collections::{BTreeMap, BTreeSet};

/// A sample's name and its labels, sorted.
type Key = (String, BTreeMap<String, String>);

/// The samples of one answer, each with its value.
pub struct Samples {
    values: BTreeMap<Key, f64>,
    /// The families, by name, with their type.
    pub types: BTreeMap<String, String>,
}

impl Samples {
    /// Reads a text; whatever is not of the format, or is there twice, fails the test.
    pub fn read(text: &str) -> Self {
        let (mut values, mut types) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(values.insert(key(name), value).is_none(), "twice: {line}");
            }
        }
        Self { values, types }
    }

    /// A sample with exactly these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.values.get(&(name.to_owned(), labels)).copied()
    }

    /// The samples of a name.
    pub fn with<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Key, &'a f64)> {
        self.values.iter().filter(move |((of, _), _)| of == name)
    }

    /// Every sample's name with the names of its labels.
    pub fn labels_by_name(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, labels) in self.values.keys() {
            names.entry(name).or_default().extend(labels.keys().map(String::as_str));
        }
        names
    }

    /// Asserts that what only counts has not gone down, nor away, since an earlier answer. (What a partition has dropped ends
    /// with it.)
    pub fn assert_not_below(&self, before: &Self) {
        let mut compared = 0;
        for ((name, labels), was) in &before.values {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let kind = family.and_then(|family| self.types.get(family)).or_else(|| self.types.get(name));
            let counts = kind.is_some_and(|kind| kind == "counter" || kind == "histogram");
            if !counts || name.starts_with("injector_partition_dropped_") {
                continue;
            }
            let is = self.values.get(&(name.clone(), labels.clone()));
            assert!(is.is_some_and(|is| is >= was), "{name} {labels:?} was {was} and is {is:?}");
            compared += 1;
        }
        assert!(compared > 50, "{compared}");
    }
}

fn key(text: &str) -> Key {
    let Some((name, labels)) = text.split_once('{') else { return (text.to_owned(), BTreeMap::new()) };
    let labels = labels.strip_suffix('}').unwrap();
    let of = |label: &str| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{text}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    // No value of these tests has a comma.
    (name.to_owned(), labels.split(',').map(of).collect())
}
