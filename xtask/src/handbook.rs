//! The handbook as a book: `mdbook build docs`, and whether each link in it leads to a page and to a heading of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command::{words, workspace};
use crate::files::files_below;

/// The handbook.
const DOCS: &str = "docs";

/// The folder in which `docs/book.toml` has the book made.
const BOOK: &str = "target/book";

/// Builds the book; fails if mdBook warns, or if a link in the book leads nowhere.
pub fn check_handbook() -> Result<()> {
    let book = workspace().join(BOOK);
    if book.exists() {
        // A page that is gone would still be there.
        fs::remove_dir_all(&book).with_context(|| format!("removing {}", book.display()))?;
    }
    let mut build = Command::new("mdbook");
    build.args(["build", DOCS]).current_dir(workspace()).stdin(Stdio::null());
    println!("  $ {}", words(&build));
    let output = build.output().context("starting mdbook")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mdbook failed ({}):\n{said}", output.status);
    let warnings: Vec<&str> =
        said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    ensure!(warnings.is_empty(), "mdbook warns:\n{}", warnings.join("\n"));
    let dead = dead_links(&workspace().join(DOCS), &book)?;
    ensure!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    Ok(())
}

/// The links of all chapters that lead to no file, or to no heading of a chapter.
fn dead_links(docs: &Path, book: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let is_page = |file: &PathBuf| file.extension().is_some_and(|end| end == "html");
    for file in files_below(book)?.into_iter().filter(is_page) {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        pages.insert(file, text);
    }
    let mut dead = Vec::new();
    let mut count = 0;
    for (page, text) in &pages {
        let inside = page.strip_prefix(book).unwrap_or(page);
        if !is_chapter(docs, inside) {
            continue;
        }
        count += 1;
        for target in targets(text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { page.clone() } else { beside(page, file) };
            let leads = match pages.get(&to) {
                Some(text) => heading.is_empty() || text.contains(&format!("id=\"{heading}\"")),
                None => to.exists(),
            };
            if !leads {
                dead.push(format!("{}: {target}", inside.display()));
            }
        }
    }
    ensure!(count > 0, "there are no chapters in {}", book.display());
    Ok(dead)
}

/// Whether a page of the book is made of one of the handbook. The others are copies: of all chapters in one page, for
/// printing, and of reports that lie beside the chapters.
fn is_chapter(docs: &Path, page: &Path) -> bool {
    let source = docs.join(page);
    source.with_extension("md").exists()
        || (page.ends_with("index.html") && source.with_file_name("README.md").exists())
}

/// The targets of a page's links and pictures, without those outside this repository.
fn targets(page: &str) -> impl Iterator<Item = &str> {
    let of = move |attribute: &'static str| {
        page.split(attribute).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0))
    };
    of(" href=\"").chain(of(" src=\"")).filter(|target| {
        !target.contains("://") && ["mailto:", "data:"].iter().all(|scheme| !target.starts_with(scheme))
    })
}

/// The path that a page names.
fn beside(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap_or(page).to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let [docs, book] = ["docs", "book"].map(|name| folder.path().join(name));
        for (file, text) in [
            ("docs/README.md", ""),
            ("docs/inner/page.md", ""),
            ("book/print.html", "<a href=\"gone.html\">"),
            ("book/picture.svg", ""),
            (
                "book/index.html",
                "<h1 id=\"top\"></h1><a href=\"#top\"> <a href=\"inner/page.html#part\"> <img src=\"picture.svg\">\
                 <a href=\"https://x.example\"> <a href=\"inner/page.html#none\">",
            ),
            (
                "book/inner/page.html",
                "<h2 id=\"part\"></h2><a href=\"../index.html\"><a href=\"../absent.html\"><img src=\"picture.svg\">",
            ),
        ] {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        assert_eq!(
            dead_links(&docs, &book).unwrap().join(", "),
            "index.html: inner/page.html#none, inner/page.html: ../absent.html, inner/page.html: picture.svg"
        );
    }
}
