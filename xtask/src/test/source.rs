//! The tests of a file and of its modules, as the source has them. It takes the layout that `cargo fmt` leaves: an
//! attribute, a function's head and a module each begin a line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::declared::{Needs, Test, read_text};

/// The declarations in a program's source.
#[derive(Debug, Default)]
pub struct DeclaredTests {
    /// Its tests.
    pub tests: Vec<Test>,
    /// The groups that its root file declares by `injector_lab::group!(…)`.
    pub groups: BTreeSet<String>,
}

/// Reads a program from its root file on.
pub fn scan(root: &Path) -> Result<DeclaredTests> {
    let mut found = DeclaredTests::default();
    let folder = root.parent().context("a file is in a folder")?.to_path_buf();
    File { path: root, folder, modules: Vec::new() }.scan(&mut found)?;
    Ok(found)
}

/// A file of a program.
struct File<'a> {
    path: &'a Path,
    /// Where the files of its modules are.
    folder: PathBuf,
    /// The path of the module that it is.
    modules: Vec<String>,
}

/// A module whose body is in the file.
struct Inline {
    name: String,
    indent: usize,
}

impl File<'_> {
    fn scan(&self, found: &mut DeclaredTests) -> Result<()> {
        let text = read_text(self.path)?;
        let mut attributes: Vec<String> = Vec::new();
        let mut inline: Vec<Inline> = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let indent = line.len() - line.trim_start().len();
            let line = line.trim();
            if line.starts_with("#[") {
                let mut attribute = line.to_owned();
                // An attribute goes up to the bracket that ends it.
                while attribute.matches('[').count() > attribute.matches(']').count() {
                    attribute += lines.next().with_context(|| format!("{attribute} has no end"))?.trim();
                }
                attributes.push(attribute);
                continue;
            }
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            let declared = std::mem::take(&mut attributes);
            while line == "}" && inline.last().is_some_and(|module| module.indent >= indent) {
                inline.pop();
            }
            if let Some(groups) = between(line, "group!(", ")") {
                found.groups.extend(groups.split(',').map(|group| group.trim().to_owned()));
            } else if let Some((name, rest)) = after_word(line, "mod") {
                let indent = Inline { name: name.to_owned(), indent };
                match rest {
                    " {" => inline.push(indent),
                    ";" => self.scan_module(name, &declared, &inline, found)?,
                    _ => {}
                }
            } else if let Some((name, _)) = after_word(line, "fn")
                && let Some(needs) =
                    needs_of_test(&declared).with_context(|| format!("{name} in {}", self.path.display()))?
            {
                let modules = self.modules.iter().chain(inline.iter().map(|module| &module.name));
                let path: Vec<&str> = modules.map(String::as_str).chain([name]).collect();
                found.tests.push(Test { path: path.join("::"), needs });
            }
        }
        ensure!(
            inline.is_empty(),
            "{}: a module has no end; does `cargo fmt` accept it?",
            self.path.display()
        );
        Ok(())
    }

    /// Reads a module that has a file of its own.
    fn scan_module(
        &self,
        name: &str,
        attributes: &[String],
        inline: &[Inline],
        found: &mut DeclaredTests,
    ) -> Result<()> {
        let named = attributes.iter().find_map(|attribute| between(attribute, "#[path = \"", "\""));
        let inside = inline.iter().fold(self.folder.clone(), |folder, module| folder.join(&module.name));
        let beside = self.path.parent().context("a file is in a folder")?;
        let (path, folder) = match named {
            // The module's own modules are beside it.
            Some(named) => {
                let path = beside.join(named);
                let folder = path.parent().context("a file is in a folder")?.to_path_buf();
                (path, folder)
            }
            None if inside.join(format!("{name}.rs")).is_file() => {
                (inside.join(format!("{name}.rs")), inside.join(name))
            }
            None => (inside.join(name).join("mod.rs"), inside.join(name)),
        };
        let inline = inline.iter().map(|module| module.name.clone());
        let modules = self.modules.iter().cloned().chain(inline).chain([name.to_owned()]).collect();
        File { path: &path, folder, modules }.scan(found)
    }
}

/// The needs that a function's attributes declare; `None` if it is no test.
fn needs_of_test(attributes: &[String]) -> Result<Option<Needs>> {
    if !attributes.iter().any(|attribute| attribute == "#[test]" || attribute.contains("::test]")) {
        return Ok(None);
    }
    let words: Vec<&str> =
        attributes.iter().filter_map(|attribute| between(attribute, "#[needs(", ")]")).collect();
    Needs::read(&words.join(",")).map(Some)
}

/// The name behind a keyword, and the rest of the line, where the line declares such an item.
fn after_word<'a>(line: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let mut rest = line;
    // Words that may come before it.
    for before in ["pub(crate) ", "pub(super) ", "pub ", "async ", "const ", "unsafe "] {
        rest = rest.strip_prefix(before).unwrap_or(rest);
    }
    let rest = rest.strip_prefix(keyword)?.strip_prefix(' ')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

/// The text between two texts.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(begin)?.1.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::super::declared::Beside;
    use super::*;

    #[test]
    fn tests_are_found_in_files_modules_and_macros() {
        let folder = std::env::temp_dir().join(format!("xtask-source-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep/er")).unwrap();
        let test = "#[test]";
        let root = format!(
            "injector_lab::group!(kernels, timed);\n{test}\n#[needs(\n    root,\n    alone,\n)]\nfn one() {{\n}}\n\
             fn no_test() {{}}\nmod inner {{\n    {test}\n    fn two() {{}}\n}}\nproptest! {{\n    {test}\n    fn three(a in 0..1) {{}}\n}}\n\
             mod deep;\n#[path = \"other.rs\"]\nmod named;\n/// {test}\nfn four() {{}}\n"
        );
        for (name, text) in [
            ("root.rs", root),
            ("deep.rs", "mod er;\n#[tokio::test]\nasync fn five() {}\n".to_owned()),
            ("deep/er/mod.rs", format!("{test}\nfn six() {{}}\n")),
            ("other.rs", format!("{test}\n#[ignore = \"[why]\"]\nfn seven() {{}}\n")),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let found = scan(&folder.join("root.rs"));
        std::fs::remove_dir_all(&folder).unwrap();
        let found = found.unwrap();
        let paths: Vec<&str> = found.tests.iter().map(|test| test.path.as_str()).collect();
        assert_eq!(paths, ["one", "inner::two", "three", "deep::er::six", "deep::five", "named::seven"]);
        assert_eq!(found.tests[0].needs, Needs { root: true, beside: Beside::None, ..Needs::default() });
        assert_eq!(found.groups, ["kernels", "timed"].map(str::to_owned).into());
    }
}
