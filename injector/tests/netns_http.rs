//! The programs of docs/clients/http.md, run as they are written there, against a real daemon.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::path::Path;
use std::process::Command;

use injector_lab::{AttachPoint, Lab, needs, skip};
use live::daemon::Daemon;
use serde_json::Value;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/clients/http.md");

/// The page's program in a language.
fn program(language: &str) -> String {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```\n").unwrap().0.to_owned()
}

/// What a tool that can run a source file succeeds with: a Java without its compiler can't.
fn tool_check(tool: &str) -> &'static [&'static str] {
    match tool {
        "java" => &["--describe-module", "jdk.compiler"],
        "go" => &["version"],
        _ => &["--version"],
    }
}

/// Runs the page's program, if the tool is there: a cut, a heal, and the final record.
fn runs(test: &str, language: &str, file: &str, tool: &[&str]) {
    let Ok(asked) = Command::new(tool[0]).args(tool_check(tool[0])).output() else {
        return skip(test, &format!("there is no {}", tool[0]));
    };
    if !asked.status.success() {
        return skip(
            test,
            &format!("`{}` can run no source file: {}", tool[0], String::from_utf8_lossy(&asked.stderr)),
        );
    }
    let lab = Lab::new(2);
    let daemon = Daemon::start(&(lab.config(AttachPoint::OwnNic, "auto") + "ready: { observe: 500ms }\n"));
    let path = daemon.folder().join(file);
    let source = program(language);
    std::fs::write(&path, &source).unwrap();
    let run = |socket: &Path| {
        let mut command = Command::new(tool[0]);
        // Go keeps what it has built below the home folder.
        command.args(&tool[1..]).arg(&path).arg(socket).env("GOCACHE", daemon.folder().join("go"));
        command.output().unwrap()
    };
    let output = run(daemon.socket());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&record["name"], &record["final"]),
        (&format!("{language}-p").into(), &true.into()),
        "{record}"
    );
    assert_eq!(
        (&record["healed_by"], &record["links"][0]["src"]),
        (&"request".into(), &"n1".into()),
        "{record}"
    );
    assert!(record["hold_ns"].as_u64().unwrap() >= 499_000_000, "{record}");

    // What is refused ends the program, with the daemon's words.
    std::fs::write(&path, source.replace("n1", "n9")).unwrap();
    let output = run(daemon.socket());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("n9"), "{said}");
    assert!(!run(&daemon.folder().join("nowhere")).status.success());
}

#[test]
#[needs(root)]
fn the_javascript_of_the_page() {
    runs("the_javascript_of_the_page", "js", "cut.mjs", &["node"]);
}

#[test]
#[needs(root)]
fn the_java_of_the_page() {
    runs("the_java_of_the_page", "java", "Cut.java", &["java"]);
}

#[test]
#[needs(root, program = "go")]
fn the_go_of_the_page() {
    runs("the_go_of_the_page", "go", "cut.go", &["go", "run"]);
}
