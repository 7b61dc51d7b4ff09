//! Each promise of SECURITY.md names tests that are there, and the page of attempts is what the tests say. No privileges.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every Rust file below a directory, as one text: each behind a line with its name.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += "\nfile ";
            text += path.file_name().unwrap().to_str().unwrap();
            text += "\n";
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let promises = page.split("## Promises").nth(1).unwrap();
    let mut all = String::new();
    for package in std::fs::read_dir(root).unwrap() {
        for part in ["src", "tests"] {
            let directory = package.as_ref().unwrap().path().join(part);
            if directory.is_dir() {
                all += &sources(&directory);
            }
        }
    }
    let mut checked = 0;
    for row in promises.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests: Vec<&str> = row.rsplit_once(" | ").unwrap().1.split('`').skip(1).step_by(2).collect();
        // A file and at least one test in it.
        assert!(tests.len() >= 2, "{row}");
        for name in tests {
            let tests = root.join("injector/tests");
            let is_program = [format!("{name}.rs"), format!("{name}/main.rs")]
                .iter()
                .any(|file| tests.join(file).exists());
            let is_file = all.contains(&format!("\nfile {name}\n"));
            let is_test = all.contains(&format!("fn {name}()"));
            assert!(is_program || is_file || is_test, "{name} is not there: {row}");
            checked += u32::from(is_test);
        }
    }
    assert!(checked >= 15, "{checked} tests are named");
}

/// The Rust files below a directory, in the order of their names.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let below = paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    below.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The rows of the page: who, what, the result, and the test, which makes the call only once its assertions have held.
fn attempts(tests: &Path) -> String {
    let mut rows = String::new();
    for file in files(tests) {
        let source = std::fs::read_to_string(&file).unwrap();
        let (mut test, mut rest) = ("", source.as_str());
        while let Some(at) = rest.find("\n    attempt(") {
            let (before, call) = rest.split_at(at);
            if let Some(at) = before.rfind("\nfn ") {
                test = before[at + 4..].split('(').next().unwrap();
            }
            let words: Vec<&str> = call.split('"').skip(1).step_by(2).take(3).collect();
            let program = file.strip_prefix(tests).unwrap().iter().next().unwrap().to_str().unwrap();
            let program = program.trim_end_matches(".rs");
            writeln!(rows, "| {} | `{program}`: `{test}` |", words.join(" | ")).unwrap();
            rest = &call[1..];
        }
    }
    rows
}

const HEAD: &str = "# What was tried, and what came of it\n
What users of a host may do to a daemon, as tests try it on a real kernel. Each line comes from the source of its test, where it follows\n\
the assertions that show it. `INJECTOR_BLESS=1 cargo test -p injector --test security` writes this page anew. What each promise rests on is\n\
in `SECURITY.md`.\n
| who | tries | result | test |\n|---|---|---|---|\n";

#[test]
fn the_page_of_attempts_is_what_the_tests_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rows = attempts(&root.join("injector/tests"));
    assert!(rows.lines().count() >= 20, "{rows}");
    let (page, path) = (format!("{HEAD}{rows}"), root.join("docs/results/attempts.md"));
    if std::env::var_os("INJECTOR_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "docs/results/attempts.md is not what the tests say; write it by INJECTOR_BLESS=1");
}
