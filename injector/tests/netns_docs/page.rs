//! The pages, and the blocks of commands in them.

use std::fs;
use std::path::{Path, PathBuf};

/// Why a block may not be run by a test.
pub const REASONS: [(&str, &str); 2] = [
    ("kubernetes", "it needs a Kubernetes cluster"),
    ("other-tool", "it shows what a suite did with another tool that can't be had"),
];

/// The names under which shells are known to those who colour them.
const SHELLS: [&str; 7] = ["sh", "bash", "shell", "zsh", "console", "shell-session", "terminal"];

/// What becomes of a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// A test of this program runs it.
    Run { exits: i32, length: Length },
    /// A test of this program runs it on a terminal, and leaves it by `q`.
    Terminal,
    /// A test of this program runs it on a terminal, and answers each question by Enter.
    Answered,
    /// `cargo xtask campaign --short` runs it in this lab.
    Lab(String),
    /// A test of the Python client runs it.
    Suite,
    /// `cargo xtask bare` runs it in a Debian that has nothing else.
    Bare,
    /// Chores that take many minutes: xtask reads them, and the page names their short forms.
    Chore,
    /// It says why it is not run.
    NotRun,
    /// It says nothing, or nothing that is known.
    Wrong(String),
}

/// How long a block is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As it is.
    Full,
    /// As [`shortened`] has it.
    Short,
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
        ["sh", "run", "terminal"] => Mark::Terminal,
        ["sh", "run", "answered"] => Mark::Answered,
        ["sh", "run", ref rest @ ..] => run(rest).unwrap_or_else(Mark::Wrong),
        ["sh", "lab", system] => Mark::Lab(system.to_owned()),
        ["sh", "suite"] => Mark::Suite,
        ["sh", "bare"] => Mark::Bare,
        ["sh", "chore"] => Mark::Chore,
        ["sh", "not-run", reason] if REASONS.iter().any(|(known, _)| *known == reason) => Mark::NotRun,
        ["sh", ..] => {
            let known: Vec<&str> = REASONS.iter().map(|(known, _)| *known).collect();
            Mark::Wrong(format!(
                "\"{info}\": write `sh run`, `sh suite`, `sh lab SYSTEM`, `sh bare`, `sh chore`, or `sh not-run` and one of {}",
                known.join(", ")
            ))
        }
        _ => Mark::Wrong(format!("\"{info}\": write `sh`, and what becomes of it")),
    }
}

/// What follows `run`: `short`, `exits CODE`, both or nothing.
fn run(words: &[&str]) -> Result<Mark, String> {
    let (length, words) = match words {
        ["short", rest @ ..] => (Length::Short, rest),
        all => (Length::Full, all),
    };
    let exits = match words {
        [] => 0,
        ["exits", code] => code.parse().map_err(|_| format!("\"{code}\" is no exit code"))?,
        _ => return Err(format!("\"{}\" can't stand behind `sh run`", words.join(" "))),
    };
    Ok(Mark::Run { exits, length })
}

/// Commands with 2 trials and campaign files with 3 (one for each shape), and both with holds of 1 s and pauses of 1 s, in place
/// of their own, and scripts that sleep for 5 s: all else stays as it is.
pub fn shortened(text: &str) -> String {
    let words = text.split(' ').collect::<Vec<_>>();
    let mut after = "";
    let words = words.into_iter().map(|word| {
        let (option, end) =
            (std::mem::replace(&mut after, word), word.trim_start_matches(char::is_alphanumeric));
        match option {
            "--trials" => format!("2 --cooldown 1s{end}"),
            "--hold" => format!("1s{end}"),
            _ => word.replace("HOLD=5s", "HOLD=1s"),
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let lines = text.split_inclusive('\n').map(|line| match line.split_once(':').map(|(key, _)| key) {
        Some("holds") => "holds: [1s]\n",
        Some("trials") => "trials: 3\ncooldown: 1s\n",
        _ if line.starts_with("sleep ") => "sleep 5\n",
        _ => line,
    });
    lines.collect()
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
    assert_eq!(mark("sh run"), Mark::Run { exits: 0, length: Length::Full });
    assert_eq!(mark("sh run exits 2"), Mark::Run { exits: 2, length: Length::Full });
    assert_eq!(mark("sh run short exits 2"), Mark::Run { exits: 2, length: Length::Short });
    assert_eq!(mark("sh run terminal"), Mark::Terminal);
    assert_eq!(mark("sh lab vms"), Mark::Lab("vms".to_owned()));
    assert_eq!(mark("sh bare"), Mark::Bare);
    assert_eq!(mark("sh chore"), Mark::Chore);
    assert_eq!(mark("sh run answered"), Mark::Answered);
    assert_eq!(mark("sh not-run kubernetes"), Mark::NotRun);
    for wrong in [
        "sh",
        "bash run",
        "sh not-run",
        "sh not-run minutes",
        "sh run exits two",
        "sh run shortly",
        "console",
    ] {
        assert!(matches!(mark(wrong), Mark::Wrong(_)), "{wrong}");
    }
}

#[test]
fn short_forms_differ_in_trials_holds_and_pauses_alone() {
    assert_eq!(
        shortened(
            "injector measure random-node --hold 5s --trials 100 --deadline 20s\nHOLD=5s sh suite.sh\n"
        ),
        "injector measure random-node --hold 1s --trials 2 --cooldown 1s --deadline 20s\nHOLD=1s sh suite.sh\n"
    );
    assert_eq!(shortened("heal\nsleep 20\ncurl"), "heal\nsleep 5\ncurl");
    assert_eq!(shortened("measure --trials 9\nreport\n"), "measure --trials 2 --cooldown 1s\nreport\n");
    assert_eq!(
        shortened("shapes:\n  - halves\nholds: [1s, 5s]\ntrials: 180\n"),
        "shapes:\n  - halves\nholds: [1s]\ntrials: 3\ncooldown: 1s\n"
    );
}
