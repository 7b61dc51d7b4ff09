//! The needs that a test declares by its attribute.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The tests that may run beside a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beside {
    /// Any.
    #[default]
    Any,
    /// Those that need a quiet machine, too.
    Quiet,
    /// None.
    None,
}

/// The needs that a test declares by `#[needs(…)]`; `injector_lab::Needs` describes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Root.
    pub root: bool,
    /// The tests that may run beside it.
    pub beside: Beside,
    /// The short form of `cargo xtask vm` runs it.
    pub every_kernel: bool,
    /// About so many minutes.
    pub minutes: u32,
    /// Programs on PATH.
    pub programs: BTreeSet<String>,
    /// Examples of its package.
    pub examples: BTreeSet<String>,
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its path inside its program, as libtest names it.
    pub path: String,
    /// The needs that the test declares.
    pub needs: Needs,
}

impl Needs {
    /// Takes in the words of an attribute, as they are between the parentheses.
    pub fn read(words: &str) -> Result<Self> {
        let mut needs = Self::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').map_or((word, ""), |(name, value)| (name, value));
            let value = value.trim().trim_matches('"').to_owned();
            match name.trim() {
                "root" => needs.root = true,
                "alone" => needs.beside = Beside::None,
                "quiet" => needs.beside = Beside::Quiet,
                "every_kernel" => needs.every_kernel = true,
                "minutes" => needs.minutes = value.parse().with_context(|| format!("`{word}`"))?,
                "program" => _ = needs.programs.insert(value),
                "example" => _ = needs.examples.insert(value),
                // A feature that the kernel lacks can't be installed.
                "tcx" => {}
                _ => bail!("a test can't need `{word}`"),
            }
        }
        Ok(needs)
    }
}

/// The sources of one target's tests, for messages.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_and_unknown_words_are_refused() {
        let needs = Needs::read("root, tcx, alone, minutes = 10, program = \"nft\",").unwrap();
        assert!(needs.root && needs.beside == Beside::None && needs.minutes == 10);
        assert_eq!(needs.programs, BTreeSet::from(["nft".to_owned()]));
        assert_eq!(Needs::read("root, quiet").unwrap().beside, Beside::Quiet);
        assert_eq!(Needs::read("root").unwrap().beside, Beside::Any);
        assert!(Needs::read("luck").is_err());
    }
}
