//! The commands of README.md and of the handbook. Each block of them is run here as a reader would, in a lab that the test
//! makes, or says why it is not; `injector` lines are read by the real command line either way. Pictures of the documents
//! come from here too.
//!
//! The line that opens a block says what becomes of it: `sh run` (it must succeed), `sh run exits 2`, `sh run short` (with
//! few trials), `sh run terminal`, `sh run answered`, `sh suite` (a test of the Python client runs it), `sh lab vms` (`cargo xtask campaign
//! --short` runs it in that lab), `sh bare` (`cargo xtask bare` runs it), `sh chore` (xtask reads it), or `sh not-run REASON` with one of [`page::REASONS`]. A config that a block's commands
//! take is written from the page too: `yaml config local.yaml`.
#![allow(clippy::unwrap_used, reason = "a test")]

#[expect(dead_code, reason = "each test program uses a part")]
mod hosts;
#[path = "../netns_containers/located.rs"]
mod located;
mod machine;
mod node;
mod page;
mod page_lab;
mod picture;
#[path = "../netns_containers/podman.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod podman;
#[path = "../netns_containers/release.rs"]
mod release;
mod script;
#[path = "../netns_jepsen/sshd.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod sshd;
#[path = "../support/terminal.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod terminal;

use std::time::{Duration, Instant};

use clap::error::ContextKind;
use injector::cli::args::{Command, CommandLine};
use injector_core::topology::words;
use injector_lab::{PATIENCE, needs};
use page::{Block, Length, Mark};
use page_lab::PageLab;

/// Whether recoveries are observed as long as a page's config says.
fn is_long() -> bool {
    std::env::var_os("INJECTOR_LONG").is_some()
}

/// Runs the blocks of a page, one after the other.
fn runs(page: &str, page_lab: &PageLab) {
    for (file, text) in page::files(page) {
        page_lab.write(&file, &text);
    }
    let blocks = page::blocks(page);
    let is_short = |block: &Block| matches!(block.mark, Mark::Run { length: Length::Short, .. });
    let is_brief = !is_long() || blocks.iter().any(is_short);
    let mut count = 0;
    for block in blocks {
        count += 1;
        if is_brief && page_lab.has_daemon() {
            page_lab.observe_briefly();
        }
        let (exits, text) = match block.mark {
            Mark::Run { exits, length: Length::Full } => (exits, block.text),
            Mark::Run { exits, length: Length::Short } => {
                page_lab.shorten(page);
                (exits, page::shortened(&block.text))
            }
            Mark::Terminal => {
                on_terminal(page_lab, &block.text);
                continue;
            }
            Mark::Answered => {
                println!("{page}:{}: {}\n{}", block.line, block.text, answered(page_lab, &block.text));
                page_lab.append_more();
                continue;
            }
            _ => {
                count -= 1;
                continue;
            }
        };
        run_block(page_lab, &format!("{page}:{}", block.line), &text, exits);
    }
    assert!(count > 0, "{page} has no block that is run");
}

/// Runs a block, which must exit as the page says.
fn run_block(page_lab: &PageLab, place: &str, text: &str, exits: i32) {
    let begun = Instant::now();
    let output = page_lab.attempt(text, exits);
    let (status, written) = (output.status, [output.stdout, output.stderr].concat());
    let written = String::from_utf8_lossy(&written);
    assert_eq!(status.code(), Some(exits), "{place}:\n{text}\n{written}");
    println!("{place}, {:.1?}: {text}\n{written}", begun.elapsed());
}

/// Runs the one command of a block on a terminal, until it shows a peer, and leaves it.
fn on_terminal(page_lab: &PageLab, text: &str) {
    let commands = script::commands_of("injector", text);
    let [words] = commands.as_slice() else { panic!("one command is run on a terminal: {text}") };
    let mut terminal = page_lab.terminal(&words[1]);
    terminal.wait_for("a peer", |shown| !line(shown, "n1 ").is_empty());
    terminal.press("q");
    assert!(terminal.end().success());
}

/// Runs a block on a terminal, and presses Enter at each of its questions; what it wrote.
fn answered(page_lab: &PageLab, text: &str) -> String {
    let mut terminal = page_lab.script_on_terminal(text);
    let (mut count, end) = (0, Instant::now() + PATIENCE);
    let status = loop {
        if let Some(status) = terminal.ended() {
            break status;
        }
        assert!(Instant::now() < end, "it does not end:\n{}", terminal.written());
        // A question ends with its default in brackets.
        if terminal.written().matches("]: ").count() > count {
            count += 1;
            terminal.press("\r");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let written = terminal.written();
    assert!(status.success() && count > 0, "{text}\n{count} questions, {status}:\n{written}");
    written
}

#[test]
#[needs(root, quiet, example = "quorum", program = "curl")]
fn the_readme() {
    runs("README.md", &PageLab::cluster());
}

#[test]
#[needs(root, example = "quorum")]
fn the_first_cluster() {
    let page_lab = PageLab::cluster();
    runs("docs/first-cluster.md", &page_lab);
    // The nodes' own port 7000 takes connections whatever happens; clients' port 8080 shows that they serve.
    let written = page_lab.expect("cat lab.yaml");
    let ingress = written.split("name: ingress").nth(1).unwrap();
    assert!(ingress.lines().take(4).any(|line| line.contains(":8080/")), "{written}");
}

#[test]
#[needs(root, example = "quorum")]
fn the_page_on_recovery_records() {
    runs("docs/reading-a-record.md", &PageLab::cluster().with_daemon());
}

#[test]
#[needs(root, example = "quorum", minutes = 1)]
fn the_page_on_reports() {
    let outs = ["runs/before", "runs/after"];
    runs("docs/reading-a-report.md", &PageLab::cluster().with_daemon().with_campaigns(&outs));
}

#[test]
#[needs(root, example = "quorum", minutes = 1)]
fn the_page_on_intermittent_failures() {
    runs("docs/intermittent-failures.md", &PageLab::cluster().with_daemon().with_campaigns(&["runs/after"]));
}

#[test]
#[needs(root, example = "quorum")]
fn the_page_on_coverage_and_proof() {
    runs("docs/was-it-cut.md", &PageLab::cluster().with_daemon());
}

#[test]
#[needs(root, example = "quorum", program = "curl", program = "iptables-nft", program = "sshd")]
fn the_page_on_shells() {
    if let Some(why) = sshd::why_not() {
        return injector_lab::skip("the_page_on_shells", &why);
    }
    let page_lab = PageLab::cluster().with_daemon().with_ssh();
    runs("docs/clients/shell.md", &page_lab);
    let rules = page_lab.expect("ssh n1 iptables -S INPUT");
    assert_eq!(rules.trim(), "-P INPUT ACCEPT", "the page's script has healed");
}

#[test]
#[needs(root, example = "quorum")]
fn the_path_of_one_cut() {
    runs("docs/follow-one-cut.md", &PageLab::cluster().with_daemon());
}

#[test]
#[needs(root, program = "etcd", program = "curl", minutes = 2)]
fn the_page_on_one_machine() {
    let shipped = include_str!("../../../configs/local.yaml");
    let shown = page::files("docs/local.md").into_iter().find(|(file, _)| file == "local.yaml");
    assert_eq!(shown.unwrap().1, shipped, "the page shows configs/local.yaml");
    let page_lab = PageLab::one_machine();
    // Three recoveries, each observed for ten seconds.
    let page_lab =
        if is_long() { page_lab } else { page_lab.with_more("local.yaml", "ready: { observe: 1s }\n") };
    runs("docs/local.md", &page_lab);
}

#[test]
#[needs(root, program = "podman", program = "busybox", program = "etcd", program = "curl", minutes = 1)]
fn the_page_on_containers() {
    let shipped = include_str!("../../../configs/containers.yaml");
    let shown = page::files("docs/containers.md").into_iter().find(|(file, _)| file == "containers.yaml");
    assert_eq!(shown.unwrap().1, shipped, "the page shows configs/containers.yaml");
    let Some(page_lab) = PageLab::with_podman("the_page_on_containers") else { return };
    runs("docs/containers.md", &page_lab);
}

#[test]
#[needs(root, program = "podman", program = "busybox", program = "strip", minutes = 1)]
fn the_page_on_the_image() {
    let Some(page_lab) = PageLab::with_release("the_page_on_the_image") else { return };
    // Recoveries that are observed for 12 s by default.
    let page_lab = page_lab.with_more("/etc/injector/config.yaml", "ready: { observe: 1s }\n");
    runs("docs/recipes/image.md", &page_lab);
    // The config that the page has written is that of the three containers, and the daemon has ended as it should.
    let config = page_lab.expect("cat /etc/injector/config.yaml");
    for name in machine::CONTAINERS {
        assert!(config.contains(&format!("container: {name}")), "{config}");
    }
    assert_eq!(page_lab.expect("podman wait injector").trim(), "0");
}

#[test]
#[needs(root, example = "quorum", program = "sshd", minutes = 1)]
fn the_page_on_several_hosts() {
    if let Some(why) = sshd::why_not() {
        return injector_lab::skip("the_page_on_several_hosts", &why);
    }
    runs("docs/recipes/hosts.md", &PageLab::with_hosts("docs/recipes/hosts.md"));
}

#[test]
#[needs(root, example = "quorum")]
fn the_page_on_kubernetes() {
    let page_lab = PageLab::kubernetes_node().with_more("lab.yaml", "ready: { observe: 1s }\n");
    runs("docs/recipes/kubernetes.md", &page_lab);
    // The pod's own device has the hook, in the namespace that the node has a name for.
    let status = page_lab.expect("injector status");
    assert!(status.lines().any(|line| line.starts_with("eth0") && line.contains(node::POD)), "{status}");
}

#[test]
#[needs(root)]
fn the_page_on_restate() {
    let page_lab = PageLab::one_machine();
    page_lab.copy("docs/results/restate");
    runs("docs/results/restate/README.md", &page_lab);
}

/// `cargo xtask campaign --short` runs what is marked with its lab.
#[test]
fn the_page_on_virtual_machines_shows_the_shipped_config() {
    let shown = page::files("docs/recipes/vms.md").into_iter().find(|(file, _)| file == "vms.yaml");
    assert_eq!(shown.unwrap().1, include_str!("../../../configs/vms.yaml"));
}

#[test]
fn each_block_is_run_or_says_why_not() {
    let mut faults = Vec::new();
    let (own, labs) = (include_str!("main.rs"), include_str!("../../../xtask/src/campaign/page.rs"));
    let bare = include_str!("../../../xtask/src/bare.rs");
    let chores = include_str!("../../../xtask/src/chores.rs");
    for name in page::documents() {
        for block in page::blocks(&name) {
            let place = format!("{name}:{}", block.line);
            match block.mark {
                Mark::Run { .. } | Mark::Terminal | Mark::Answered
                    if !own.contains(&format!("runs(\"{name}\"")) =>
                {
                    faults.push(format!("{place}: no test of netns_docs runs the blocks of this page"));
                }
                Mark::Suite if !page::is_run_by_a_suite(&name) => {
                    faults.push(format!("{place}: no test below clients/python/tests reads this page"));
                }
                Mark::Lab(lab) if !labs.contains(&format!("(\"{lab}\", \"{name}\")")) => {
                    faults.push(format!("{place}: no short campaign on {lab} runs the blocks of this page"));
                }
                Mark::Bare if !bare.contains(&format!("\"{name}\"")) => {
                    faults.push(format!("{place}: `cargo xtask bare` does not run the blocks of this page"));
                }
                Mark::Chore if !chores.contains("\"sh chore\"") => {
                    faults.push(format!("{place}: no test of xtask reads chores of pages"));
                }
                Mark::Run { .. }
                | Mark::Terminal
                | Mark::Answered
                | Mark::Lab(_)
                | Mark::Suite
                | Mark::Bare
                | Mark::Chore
                | Mark::NotRun => {}
                Mark::Wrong(why) => faults.push(format!("{place}: {why}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with a command line, and with the shape in it.
fn fault(words: &[String]) -> Option<String> {
    let line = match CommandLine::read_words(words) {
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
#[needs(root, quiet, example = "quorum")]
fn the_picture_of_top() {
    let page_lab = PageLab::cluster().with_daemon();
    let mut top = page_lab.terminal("top");
    top.wait_for("the strip", |shown| line(shown, "ingress@n3").matches('✓').count() > 6);
    let first = "injector partition isolate n1 --name first --for 5s && injector wait first";
    assert!(page_lab.attempt(first, 0).status.success());
    page_lab.expect("injector partition isolate n1 --name second --for 1m");
    let begun = Instant::now();
    let shown = top.wait_for("the cut", |shown| {
        begun.elapsed() > Duration::from_secs(4)
            && line(shown, "second").contains("cuts, ")
            && line(shown, "n1 ").contains('✂')
            && line(shown, "ingress@n1").matches('✗').count() > 6
    });
    assert!(begun.elapsed() < PATIENCE && shown.contains("recovered"), "{shown}");
    // A probe of the majority may be late on a busy machine.
    let failed = |endpoint: &str| line(&shown, endpoint).matches('✗').count();
    assert!(failed("ingress@n2") * 3 < failed("ingress@n1"), "the majority serves: {shown}");
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
