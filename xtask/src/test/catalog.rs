//! Every test of the workspace with what it declares, read from the source before anything is built.
//!
//! A full run compares this with what the built programs list, so that no test and no declaration is overlooked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::declared::Test;
use super::source::scan;
use crate::build::cargo;
use crate::command::output;

/// A program of tests: a library's, a program's, or a file below `tests`.
#[derive(Clone, Debug)]
pub struct Target {
    /// The package's name.
    pub package: String,
    /// The package's folder.
    pub folder: PathBuf,
    /// Whether building the package takes the eBPF toolchain.
    pub is_ebpf: bool,
    /// Its name, such as `netns_cut`.
    pub name: String,
    /// `lib`, `bin`, `test`, …
    pub kind: String,
    /// The groups that its file declares by `injector_lab::group!(…)`.
    pub groups: BTreeSet<String>,
    /// Its tests.
    pub tests: Vec<Test>,
}

impl Target {
    /// A test's path with its program before it, such as `netns_cut::a_cut_by_clsact`: the text that a filter
    /// is matched with.
    pub fn full_path(&self, test: &Test) -> String {
        format!("{}::{}", self.name.replace('-', "_"), test.path)
    }

    /// This target with the tests whose full path contains a text; `None` if there are none.
    pub fn matching(&self, filter: &str) -> Option<Self> {
        self.with(|test| self.full_path(test).contains(filter))
    }

    /// This target with some of its tests; `None` if there are none.
    pub fn with(&self, chosen: impl Fn(&Test) -> bool) -> Option<Self> {
        let tests: Vec<Test> = self.tests.iter().filter(|test| chosen(test)).cloned().collect();
        (!tests.is_empty()).then(|| Self { tests, ..self.clone() })
    }

    /// The arguments of cargo that build it, besides the package.
    pub fn arguments(&self) -> Vec<&str> {
        match self.kind.as_str() {
            "bin" => vec!["--bin", &self.name],
            "test" => vec!["--test", &self.name],
            _ => vec!["--lib"],
        }
    }

    /// Whether one of its tests needs root.
    pub fn needs_root(&self) -> bool {
        self.tests.iter().any(|test| test.needs.root)
    }

    /// Whether its tests wait for most of their time, as it says.
    pub fn waits(&self) -> bool {
        self.groups.contains("waits")
    }

    /// The minutes that its tests declare.
    pub fn minutes(&self) -> u32 {
        self.tests.iter().map(|test| test.needs.minutes).sum()
    }
}

/// Reads the targets of the workspace that have tests.
pub fn read() -> Result<Vec<Target>> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("reading what `cargo metadata` says")?;
    let mut targets = Vec::new();
    for package in list(&metadata, "packages")? {
        for target in list(package, "targets")? {
            targets.extend(read_target(package, target)?);
        }
    }
    Ok(targets)
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("`cargo metadata` names no {key}"))
}

fn read_target(package: &Value, target: &Value) -> Result<Option<Target>> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = word(&target["kind"][0]);
    if target["test"] != true || matches!(kind.as_str(), "bench" | "custom-build" | "example") {
        return Ok(None);
    }
    let root = PathBuf::from(word(&target["src_path"]));
    let manifest = PathBuf::from(word(&package["manifest_path"]));
    let found = scan(&root)?;
    let builds_ebpf = list(package, "dependencies")?
        .iter()
        .any(|dependency| dependency["kind"] == "build" && dependency["name"] == "injector-ebpf");
    Ok(Some(Target {
        package: word(&package["name"]),
        folder: manifest.parent().map(Path::to_path_buf).context("a package has a folder")?,
        is_ebpf: builds_ebpf,
        name: word(&target["name"]),
        kind,
        groups: found.groups,
        tests: found.tests,
    }))
}

/// The targets of a filter: every one without; else those with tests whose full path contains it.
pub fn select(targets: &[Target], filter: Option<&str>) -> Result<Vec<Target>> {
    let Some(filter) = filter else { return Ok(targets.to_vec()) };
    let chosen: Vec<Target> = targets.iter().filter_map(|target| target.matching(filter)).collect();
    ensure!(!chosen.is_empty(), "no test has `{filter}` in its name, nor in that of its program");
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_chooses_programs_and_tests_and_what_they_need() {
        let targets = read().unwrap();
        let names = |filter: &str| -> Vec<String> {
            let chosen = select(&targets, Some(filter)).unwrap();
            chosen.iter().flat_map(|target| target.tests.iter().map(|test| target.full_path(test))).collect()
        };
        assert_eq!(names("netns_cut::a_cut_by_clsact"), ["netns_cut::a_cut_by_clsact"]);
        assert!(names("netns_cut").len() > 5, "{:?}", names("netns_cut"));
        assert!(names("catalog::tests").iter().all(|name| name.starts_with("xtask::test::catalog::")));
        assert!(select(&targets, Some("no_such_test")).is_err());

        let one = select(&targets, Some("keepalived_fails_over")).unwrap();
        assert!(one[0].is_ebpf && one[0].needs_root());
        assert_eq!(one[0].tests[0].needs.programs, BTreeSet::from(["keepalived".to_owned()]));
        let waiting = |name: &str| targets.iter().any(|target| target.name == name && target.waits());
        assert!(waiting("netns_cut") && waiting("netns_identity"));
        assert!(!waiting("netns_docs") && !waiting("netns_guests"));
        let pure = select(&targets, Some("injector_core::config::")).unwrap();
        assert!(pure.iter().all(|target| !target.is_ebpf && !target.needs_root()));
    }
}
