//! Each promise of SECURITY.md names tests that are there. No privileges.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

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
