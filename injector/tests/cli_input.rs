//! What the `injector` program takes from people and files, and what of it reaches the terminal. No privileges.

#[expect(dead_code, reason = "each test program uses a part")]
#[path = "support/served.rs"]
mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use injector_core::api::PartitionRequest;
use support::{Asked, Served};

fn run(socket: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(arguments).env_remove("INJECTOR_HOST").env("INJECTOR_SOCKET", socket);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn refused(arguments: &[&str], says: &str) {
    let output = run(Path::new("/nonexistent/injector.sock"), arguments, "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
    assert!(said.contains(says), "{arguments:?}: {said}");
}

fn applied(served: &Served) -> PartitionRequest {
    match served.wait_for(|asked| matches!(asked, Asked::Apply { .. })) {
        Asked::Apply { request, .. } => *request,
        _ => unreachable!("that is what was waited for"),
    }
}

#[test]
fn a_grudge_comes_from_a_file_or_from_standard_input() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grudge.json");
    let grudge = "\u{feff}{\"n1\": [],\n \"n2\": [\"n1\"]}\n";
    std::fs::write(&file, grudge).unwrap();
    let at = format!("@{}", file.display());
    for (from, input) in [(at.as_str(), ""), ("-", grudge)] {
        let output = run(&served.path, &["partition", "grudge", from], input);
        assert_eq!(output.status.code(), Some(0), "{from}: {}", text(&output.stderr));
        let shape = serde_json::to_value(applied(&served).shape).unwrap();
        assert_eq!(shape, serde_json::json!({ "grudge": { "n1": [], "n2": ["n1"] } }));
    }
    refused(&["partition", "grudge", "@/nonexistent"], "can't be read (No such file");
    refused(&["partition", "grudge", "@/dev/zero"], "is a device, not a regular file");
    refused(&["partition", "grudge", &format!("@{}", directory.path().display())], "is a directory");
    let output = run(&served.path, &["partition", "grudge", "-"], "[\"n1\"]");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("does not parse"), "{}", text(&output.stderr));
}

#[test]
fn directions_and_seeds_say_what_to_write() {
    for command in
        [&["partition", "isolate", "n1"][..], &["measure", "isolate", "n1", "--trials", "1", "--out", "x"]]
    {
        let with = |more: [&'static str; 2]| [command, &more[..]].concat();
        refused(&with(["--direction", "to"]), "write `out` (what the first group sends) or `in`");
        refused(&with(["--direction", "from"]), "opposite things in other tools");
        refused(&with(["--direction", "left"]), "write `both`, `out`");
        refused(&with(["--seed", "9007199254740992"]), "above 9007199254740991 (2^53 - 1)");
        refused(&with(["--seed", "99999999999999999999"]), "write a smaller one");
    }
    let served = Served::start();
    let arguments = ["partition", "isolate", "n1", "--direction", "out", "--seed", "9007199254740991"];
    let output = run(&served.path, &arguments, "");
    assert!(text(&output.stdout).contains(": isolate n1 (generation 7)"), "{output:?}");
    assert!(text(&output.stdout).contains("  traffic direction out\n"), "{output:?}");
    let request = applied(&served);
    assert_eq!(
        (request.traffic.direction.to_string().as_str(), request.seed),
        ("out", Some(9_007_199_254_740_991))
    );
    for (body, says) in [
        (r#"{"shape":{"isolate":["n1"]},"direction":"to"}"#, "write `out`"),
        (r#"{"shape":{"random_node":{}},"seed":9007199254740992}"#, "write a smaller one"),
        (r#"{"shape":{"random_node":{}},"seed":18446744073709551616}"#, "write a smaller one"),
        (r#"{"shape":{"random_node":{}},"seed":-1}"#, "write a whole number from 0"),
    ] {
        let answer = served.call("PUT", "/v1/partitions/p", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.body.contains(says), "{body}: {answer:?}");
    }
}

#[test]
fn a_config_without_end_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    std::fs::File::create(path("large")).unwrap().set_len(100 << 20).unwrap();
    std::fs::write(path("utf16"), b"\xff\xfep\0").unwrap();
    let begun = Instant::now();
    for (file, says) in [
        (path("fifo"), "a FIFO, not a regular file"),
        (path("large"), "more than 8 MiB"),
        (path("utf16"), "utf16:1:1: "),
        ("/dev/zero".into(), "a device, not a regular file"),
        (directory.path().to_owned(), "a directory, not a regular file"),
    ] {
        let file = file.to_str().unwrap();
        for arguments in [&["check", "--config", file][..], &["measure", "--campaign", file, "--out", "x"]] {
            refused(arguments, says);
        }
    }
    assert!(begun.elapsed() < Duration::from_mins(2), "it waited: {:?}", begun.elapsed());
}

/// A config with much to say.
#[test]
fn a_large_list_is_checked_in_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    let list = "10.0.0.1, ".repeat(300_000);
    std::fs::write(&file, format!("peers: {{ n1: {{ addresses: [{list}] }} }}\ninterfaces: auto\n")).unwrap();
    let begun = Instant::now();
    let output = run(Path::new("/nonexistent"), &["check", "--config", file.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stderr.len() < 100_000, "{} bytes of faults", output.stderr.len());
    assert!(text(&output.stderr).contains("more faults"), "{}", &text(&output.stderr)[..400]);
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}

/// What a user can give to a command, with a sequence that clears the screen in it.
#[test]
fn no_input_acts_on_the_terminal() {
    const CLEAR: &str = "\u{1b}[2J";
    let directory = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let head = "holds: [5s]\ntrials: 4\nshapes: ";
    let campaigns = [
        written("key", &format!("\"\\e[2J\": 1\n{head}[isolate n1]\n")),
        written("shape", &format!("{head}[\"sideways \\e[2J\"]\n")),
        written("peer", &format!("{head}[\"isolate \\e[2J\"]\n")),
        written("raw", &format!("{head}[isolate {CLEAR}]\n")),
    ];
    let lab = written("lab.yaml", "peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: auto\n");
    let grudges = [
        written("g1", &format!("{{\"n1\": [\"{CLEAR}\"]}}")),
        written("g2", "{\"n1\\u001b[2J\": 3}"),
        written("g3", CLEAR),
    ]
    .map(|path| format!("@{path}"));
    let run_directory = directory.path().join("run");
    std::fs::create_dir(&run_directory).unwrap();
    std::fs::write(run_directory.join("campaign.json"), format!("{{\"schema\": \"{CLEAR}\"}}")).unwrap();
    let run_directory = run_directory.to_str().unwrap();
    let mut asked: Vec<Vec<&str>> = Vec::new();
    for campaign in &campaigns {
        asked.push(vec!["check", "--campaign", campaign, "--config", &lab]);
        asked.push(vec!["measure", "--campaign", campaign, "--out", CLEAR]);
    }
    asked.extend(grudges.iter().map(|grudge| vec!["partition", "grudge", grudge]));
    asked.extend([
        vec!["report", CLEAR],
        vec!["report", run_directory],
        vec!["compare", run_directory, CLEAR],
        vec!["check", "--config", CLEAR],
        vec!["partition", "isolate", "n1", "--scope", CLEAR],
        vec!["partition", CLEAR],
        vec!["partition", "isolate", "n1", "--direction", CLEAR],
        vec![CLEAR],
    ]);
    for arguments in &asked {
        for json in [&[][..], &["--json"]] {
            let output = run(Path::new("/nonexistent"), &[arguments, json].concat(), "");
            assert_ne!(output.status.code(), Some(0), "{arguments:?}");
            let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{arguments:?}: {said:?}");
        }
    }
}

/// A byte order mark, as editors on Windows write it, is no text: places are those that the editor shows.
#[test]
fn files_may_begin_with_a_byte_order_mark() {
    let directory = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let checked = |arguments: &[&str]| run(Path::new("/nonexistent"), arguments, "");
    let lab = written("lab.yaml", "peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: auto\n");
    let campaign = written("campaign.yaml", "shapes: [isolate n1]\nholds: [5s]\ntrials: 4\n");
    for arguments in [["check", "--config", &lab], ["check", "--campaign", &campaign]] {
        let good = checked(&arguments);
        assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    }
    let lab = written("lab.yaml", "perrs: {}\ninterfaces: auto\n");
    let campaign = written("campaign.yaml", "shapes: [isolate n1]\nholds: [5]\ntrials: 4\n");
    for (arguments, says) in [
        (["check", "--config", lab.as_str()], "lab.yaml:1:1: perrs: unknown key"),
        (["check", "--campaign", campaign.as_str()], "campaign.yaml:2:9: holds[0]: "),
    ] {
        let output = checked(&arguments);
        assert_eq!(output.status.code(), Some(64));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}

#[test]
fn nothing_of_a_config_or_an_api_acts_on_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    std::fs::write(
        &file,
        "peers: { \"\\e]0;x\\a\\u009b2J\": { addresses: [10.0.0.1] } }\ninterfaces: auto\n",
    )
    .unwrap();
    for json in [&[][..], &["--json"]] {
        let arguments = [&["check", "--config", file.to_str().unwrap()], json].concat();
        let output = run(Path::new("/nonexistent"), &arguments, "");
        assert_eq!(output.status.code(), Some(64));
        let said = text(&output.stderr);
        assert!(said.contains("\\u001b]0;x") && said.contains("\\u009b2J"), "{said:?}");
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
    let served = Served::start();
    let mark = run(&served.path, &["mark", "a\u{1b}[2Jb\u{202e}"], "");
    let timeline = run(&served.path, &["timeline"], "");
    for output in [mark, timeline] {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains(['\u{1b}', '\u{202e}']), "{:?}", text(&output.stdout));
    }
}
