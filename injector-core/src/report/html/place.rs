//! Where files of a run directory are, seen from a page.

use std::fmt::Write as _;
use std::path::{Component, Path};

use serde::Serialize;

use crate::run::layout::TRIALS;

/// The file with the whole records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Records {
    /// The file as a link from the page.
    pub href: String,
    /// The file as a path, as the run directory was named.
    pub name: String,
}

impl Records {
    /// The records of a run directory, as the page `page` links to them.
    pub fn of(directory: &Path, page: &Path) -> Self {
        let file = directory.join(TRIALS);
        Self { href: link(page, &file), name: file.display().to_string() }
    }
}

/// A link from a page to another file: relative, so that both may be moved together.
pub fn link(page: &Path, to: &Path) -> String {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (page, to) = (whole(page), whole(to));
    let from: Vec<Component<'_>> = page.parent().into_iter().flat_map(Path::components).collect();
    let to: Vec<Component<'_>> = to.components().collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - shared);
    let down = to[shared..].iter().map(|part| escaped(&part.as_os_str().to_string_lossy()));
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// A part of a path in a link.
fn escaped(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_escaped() {
        let link = |page: &str, to: &str| link(Path::new(page), Path::new(to));
        assert_eq!(link("/runs/a/report.html", "/runs/a/trials.jsonl"), "trials.jsonl");
        assert_eq!(link("/tmp/report.html", "/runs/a b/trials.jsonl"), "../runs/a%20b/trials.jsonl");
        assert_eq!(link("index.html", "a/report.html"), "a/report.html");
        assert_eq!(link("/runs/x.html", "/runs/\"><i>/t"), "%22%3E%3Ci%3E/t");
    }
}
