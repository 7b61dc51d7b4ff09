//! The commands of README.md and of the handbook. Each block of them is run here as a reader would, in a lab that the test
//! makes, or says why it is not; `injector` lines are read by the real command line either way. Pictures of the documents
//! come from here too.
//!
//! The line that opens a block says what becomes of it: `sh run` (it must succeed), `sh run exits 2`, `sh suite` (a test of
//! the Python client runs it), or `sh not-run REASON` with one of [`page::REASONS`]. A config that a block's commands take
//! is written from the page too: `yaml config local.yaml`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod ground;
mod page;
mod picture;
mod script;
#[path = "../support/terminal.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod terminal;

use std::time::{Duration, Instant};

use clap::Parser as _;
use clap::error::ContextKind;
use ground::Ground;
use injector::cli::args::{Command, CommandLine};
use injector_core::topology::words;
use injector_lab::{PATIENCE, needs};
use page::Mark;

/// Runs the blocks of a page, one after the other.
fn runs(page: &str, ground: &Ground) {
    for (file, text) in page::files(page) {
        ground.write(&file, &text);
    }
    let mut count = 0;
    for block in page::blocks(page) {
        let Mark::Run { exits } = block.mark else { continue };
        count += 1;
        let output = ground.sh(&block.text);
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(exits),
            "{page}:{}:\n{}\n{said}\n{errors}",
            block.line,
            block.text
        );
        println!("{page}:{}: {}\n{said}{errors}", block.line, block.text);
    }
    assert!(count > 0, "{page} has no block that is run");
}

#[test]
#[needs(root, alone, example = "quorum", program = "curl")]
fn the_readme() {
    runs("README.md", &Ground::cluster());
}

#[test]
#[needs(root, example = "quorum")]
fn the_first_cluster() {
    let ground = Ground::cluster();
    runs("docs/first-cluster.md", &ground);
    // The nodes' own port 7000 takes connections whatever happens; clients' port 8080 shows that they serve.
    let written = ground.expect("cat lab.yaml");
    let ingress = written.split("name: ingress").nth(1).unwrap();
    assert!(ingress.lines().take(4).any(|line| line.contains(":8080/")), "{written}");
}

#[test]
#[needs(root, example = "quorum")]
fn the_page_on_recovery_records() {
    runs("docs/reading-a-record.md", &Ground::cluster().with_daemon());
}

#[test]
#[needs(root, example = "quorum", minutes = 1)]
fn the_pages_on_reports_and_on_intermittent_failures() {
    let ground = Ground::cluster().with_daemon().with_campaigns();
    runs("docs/reading-a-report.md", &ground);
    runs("docs/intermittent-failures.md", &ground);
}

#[test]
#[needs(root, example = "quorum")]
fn the_page_on_coverage_and_proof() {
    runs("docs/was-it-cut.md", &Ground::cluster().with_daemon());
}

#[test]
#[needs(root, example = "quorum")]
fn the_page_on_shells() {
    runs("docs/clients/shell.md", &Ground::cluster().with_daemon());
}

#[test]
#[needs(root, example = "quorum")]
fn the_path_of_one_cut() {
    runs("docs/follow-one-cut.md", &Ground::cluster().with_daemon());
}

#[test]
#[needs(root, program = "etcd", program = "curl", minutes = 2)]
fn the_page_on_one_machine() {
    let shipped = include_str!("../../../configs/local.yaml");
    let shown = page::files("docs/local.md").into_iter().find(|(file, _)| file == "local.yaml");
    assert_eq!(shown.unwrap().1, shipped, "the page shows configs/local.yaml");
    let ground = Ground::one_machine();
    // Three recoveries, each observed for ten seconds: the long form waits for them.
    let is_long = std::env::var_os("INJECTOR_LONG").is_some();
    let ground = if is_long { ground } else { ground.with_more("local.yaml", "ready: { observe: 1s }\n") };
    runs("docs/local.md", &ground);
}

#[test]
fn each_block_is_run_or_says_why_not() {
    let mut faults = Vec::new();
    let own = include_str!("main.rs");
    for name in page::documents() {
        for block in page::blocks(&name) {
            let place = format!("{name}:{}", block.line);
            match block.mark {
                Mark::Run { .. } if !own.contains(&format!("runs(\"{name}\"")) => {
                    faults.push(format!("{place}: no test of netns_docs runs the blocks of this page"));
                }
                Mark::Suite if !page::is_run_by_a_suite(&name) => {
                    faults.push(format!("{place}: no test below clients/python/tests reads this page"));
                }
                Mark::Run { .. } | Mark::Suite | Mark::NotRun => {}
                Mark::Wrong(why) => faults.push(format!("{place}: {why}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with a command line, and with the shape in it.
fn fault(words: &[String]) -> Option<String> {
    let line = match CommandLine::try_parse_from(words) {
        Ok(line) => line,
        // `--help` and `--version` are no faults, and values that a script puts in are not known here.
        Err(error) => return (error.use_stderr() && !is_put_in(&error)).then(|| error.to_string()),
    };
    let (shape, among) = match &line.command {
        Command::Partition(args) => (&args.cut.shape, &args.cut.among),
        Command::With(args) => (&args.cut.shape, &args.cut.among),
        Command::Measure(args) if !args.shape.is_empty() => (&args.shape, &args.among),
        _ => return None,
    };
    let mut shape = shape.clone();
    if !among.is_empty() {
        shape.extend(["--among".to_owned(), among.join(",")]);
    }
    if shape.iter().any(|word| word.contains('$')) {
        return None;
    }
    words::parse_words(&shape).err().map(|error| error.to_string())
}

/// Whether what is refused is the value of a variable.
fn is_put_in(error: &clap::Error) -> bool {
    let value = error.get(ContextKind::InvalidValue);
    value.is_some_and(|value| value.to_string().contains('$'))
}

#[test]
fn injector_lines_are_read_by_the_command_line() {
    let (mut read, mut faults) = (0, Vec::new());
    for name in page::documents() {
        for block in page::blocks(&name) {
            for words in script::commands_of("injector", &block.text) {
                read += 1;
                if let Some(why) = fault(&words) {
                    faults.push(format!("{name}:{}: {}\n{why}", block.line, words.join(" ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(read > 40, "{read} lines");
}

#[test]
fn wrong_lines_are_noticed() {
    let words = |line: &str| script::commands_of("injector", line).remove(0);
    for wrong in [
        "injector wait --patience 5s",
        "sudo injector partition isolated n1",
        "injector with between n1 --for 5s -- true",
        "FOO=1 injector measure random-node --trials 3",
    ] {
        assert!(fault(&words(wrong)).is_some(), "{wrong}");
    }
    assert_eq!(fault(&words("injector partition random 2 --among n1,n2 --for 5s")), None);
}

/// The picture of README.md: `n1` is cut off for the second time.
#[test]
#[needs(root, alone, example = "quorum")]
fn the_picture_of_top() {
    let ground = Ground::cluster().with_daemon();
    let mut top = ground.terminal("top");
    top.wait_for("the strip", |shown| line(shown, "ingress@n3").matches('✓').count() > 6);
    ground.expect("injector partition isolate n1 --name first --for 5s && injector wait first");
    ground.expect("injector partition isolate n1 --name second --for 1m");
    let begun = Instant::now();
    let shown = top.wait_for("the cut", |shown| {
        begun.elapsed() > Duration::from_secs(4)
            && line(shown, "second").contains("cuts, ")
            && line(shown, "n1 ").contains('✂')
            && line(shown, "ingress@n1").matches('✗').count() > 6
    });
    assert!(begun.elapsed() < PATIENCE && shown.contains("recovered"), "{shown}");
    assert!(!line(&shown, "ingress@n2").contains('✗'), "the majority serves: {shown}");
    picture::keep("top", "injector top, while n1 is cut off for the second time", &top.screen());
    top.press("q");
    assert!(top.end().success());
}

fn line<'a>(shown: &'a str, begins: &str) -> &'a str {
    shown
        .lines()
        .find(|line| line.trim_start_matches("> ").trim_start().starts_with(begins))
        .unwrap_or_default()
}
