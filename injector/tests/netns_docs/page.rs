//! The pages, and the blocks of commands in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Why a block may not be run by a test.
pub const REASONS: [(&str, &str); 7] = [
    ("minutes", "it takes minutes"),
    ("installs", "it builds or installs something on the machine"),
    ("terminal", "it needs a person at a terminal"),
    ("hosts", "it needs several machines"),
    ("guests", "it needs virtual machines or containers of the reader's"),
    ("kubernetes", "it needs a Kubernetes cluster"),
    ("other-tool", "it shows what a suite did with another tool"),
];

/// The names under which shells are known to those who colour them.
const SHELLS: [&str; 7] = ["sh", "bash", "shell", "zsh", "console", "shell-session", "terminal"];

/// What becomes of a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// A test of this program runs it.
    Run { exits: i32 },
    /// A test of the Python client runs it.
    Suite,
    /// It says why it is not run.
    NotRun,
    /// It says nothing, or nothing that is known.
    Wrong(String),
}

/// A block of commands.
pub struct Block {
    /// The line that opens it.
    pub line: usize,
    pub mark: Mark,
    pub text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn text(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// README.md and every page below docs.
pub fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                folders.push(path);
            } else if Path::new(&path).extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// All blocks of a page: the words behind the opening fence, its line, and the text.
fn fenced(page: &str) -> Vec<(String, usize, String)> {
    let (mut found, mut open): (Vec<_>, Option<(String, usize, String)>) = (Vec::new(), None);
    for (number, line) in (1..).zip(text(page).lines()) {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => found.push(block),
            (Some(info), None) => open = Some((info.trim().to_owned(), number, String::new())),
            (None, Some((info, at, mut text))) => {
                text += line;
                text.push('\n');
                open = Some((info, at, text));
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block has no end");
    found
}

/// The blocks of commands of a page.
pub fn blocks(page: &str) -> Vec<Block> {
    let blocks = fenced(page).into_iter();
    let blocks = blocks.filter(|(info, ..)| {
        info.split_whitespace().next().is_some_and(|language| SHELLS.contains(&language))
    });
    blocks.map(|(info, line, text)| Block { line, mark: mark(&info), text }).collect()
}

fn mark(info: &str) -> Mark {
    match info.split_whitespace().collect::<Vec<_>>()[..] {
        ["sh", "run"] => Mark::Run { exits: 0 },
        ["sh", "run", "exits", code] => match code.parse() {
            Ok(exits) => Mark::Run { exits },
            Err(_) => Mark::Wrong(format!("\"{code}\" is no exit code")),
        },
        ["sh", "suite"] => Mark::Suite,
        ["sh", "not-run", reason] if REASONS.iter().any(|(known, _)| *known == reason) => Mark::NotRun,
        ["sh", ..] => {
            let known: Vec<&str> = REASONS.iter().map(|(known, _)| *known).collect();
            Mark::Wrong(format!(
                "\"{info}\": write `sh run`, `sh suite`, or `sh not-run` and one of {}",
                known.join(", ")
            ))
        }
        _ => Mark::Wrong(format!("\"{info}\": write `sh`, and what becomes of it")),
    }
}

/// The configs of a page that its commands take, by their files' names.
pub fn files(page: &str) -> Vec<(String, String)> {
    let blocks = fenced(page).into_iter();
    let named = blocks.filter_map(|(info, _, text)| {
        let file = info.strip_prefix("yaml config ").or_else(|| info.strip_prefix("yaml campaign "))?;
        Some((file.to_owned(), text))
    });
    named.collect()
}

/// Whether a test of the Python client reads a page.
pub fn is_run_by_a_suite(page: &str) -> bool {
    let tests = fs::read_dir(root().join("clients/python/tests")).unwrap();
    tests.into_iter().any(|test| {
        let path = test.unwrap().path();
        path.is_file() && fs::read_to_string(path).is_ok_and(|text| text.contains(page))
    })
}

#[test]
fn marks_are_read() {
    assert_eq!(mark("sh run"), Mark::Run { exits: 0 });
    assert_eq!(mark("sh run exits 2"), Mark::Run { exits: 2 });
    assert_eq!(mark("sh not-run minutes"), Mark::NotRun);
    for wrong in ["sh", "bash run", "sh not-run", "sh not-run lazy", "sh run exits two", "console"] {
        assert!(matches!(mark(wrong), Mark::Wrong(_)), "{wrong}");
    }
}
