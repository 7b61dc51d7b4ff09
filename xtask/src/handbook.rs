//! The handbook as a book: `mdbook build docs`, and whether each link in it leads to a page and to a heading of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command::{words, workspace};
use crate::files::files_below;

/// Where `docs/book.toml` has the book made.
const BOOK: &str = "target/book";

/// What mdBook makes beside the chapters: the error page of a web server, and copies of what the chapters have.
const NO_CHAPTERS: [&str; 3] = ["404.html", "print.html", "toc.html"];

/// Builds the book; fails if mdBook warns, or if a link in the book leads nowhere.
pub fn check_handbook() -> Result<()> {
    let book = workspace().join(BOOK);
    if book.exists() {
        // A page that is gone would still be there.
        fs::remove_dir_all(&book).with_context(|| format!("removing {}", book.display()))?;
    }
    let mut build = Command::new("mdbook");
    build.args(["build", "docs"]).current_dir(workspace()).stdin(Stdio::null());
    println!("  $ {}", words(&build));
    let output = build.output().context("starting mdbook")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mdbook failed ({}):\n{said}", output.status);
    let warnings: Vec<&str> =
        said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    ensure!(warnings.is_empty(), "mdbook warns:\n{}", warnings.join("\n"));
    let dead = dead_links(&book)?;
    ensure!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    Ok(())
}

/// The links of all chapters that lead to no file, or to no heading of a chapter.
fn dead_links(book: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let is_page = |file: &PathBuf| file.extension().is_some_and(|end| end == "html");
    for file in files_below(book)?.into_iter().filter(is_page) {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        pages.insert(file, text);
    }
    ensure!(!pages.is_empty(), "there are no pages in {}", book.display());
    let mut dead = Vec::new();
    let is_chapter = |page: &Path| NO_CHAPTERS.iter().all(|name| page != book.join(name));
    for (page, text) in pages.iter().filter(|(page, _)| is_chapter(page)) {
        for target in targets(text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { page.clone() } else { beside(page, file) };
            let leads = match pages.get(&to) {
                Some(text) => heading.is_empty() || text.contains(&format!("id=\"{heading}\"")),
                None => to.exists(),
            };
            if !leads {
                let page = page.strip_prefix(book).unwrap_or(page);
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    Ok(dead)
}

/// What a page links to and shows, without what lies elsewhere in the world.
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
        let book = folder.path();
        fs::create_dir(book.join("inner")).unwrap();
        fs::write(book.join("print.html"), "<a href=\"gone.html\">").unwrap();
        fs::write(book.join("picture.svg"), "").unwrap();
        fs::write(
            book.join("index.html"),
            "<h1 id=\"top\"></h1><a href=\"#top\"> <a href=\"inner/page.html#part\"> <a href=\"https://x.example\">\
             <img src=\"picture.svg\"> <a href=\"inner/page.html#none\">",
        )
        .unwrap();
        fs::write(
            book.join("inner/page.html"),
            "<h2 id=\"part\"></h2><a href=\"../index.html\"><a href=\"../absent.html\"><img src=\"picture.svg\">",
        )
        .unwrap();
        assert_eq!(
            dead_links(book).unwrap().join(", "),
            "index.html: inner/page.html#none, inner/page.html: ../absent.html, inner/page.html: picture.svg"
        );
    }
}
