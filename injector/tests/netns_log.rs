//! The daemon's log as JSON: every line is an object, the last words of a failed start too.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::net::TcpListener;

use injector_lab::{CLIENT, Launch, NotStarted, needs, until};
use live::lab::{AttachPoint, Lab};
use serde_json::Value;

/// Every line of a log.
fn lines(log: &str) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(read).collect()
}

fn launch(folder: &tempfile::TempDir, config: &str) -> Launch {
    let mut launch = Launch::in_folder(env!("CARGO_BIN_EXE_injector"), folder.path(), "d", config).unwrap();
    launch.command().args(["--log-format", "json"]);
    launch
}

#[test]
#[needs(root)]
fn each_line_of_the_log_is_an_object() {
    let (lab, folder) = (Lab::new(2), tempfile::tempdir().unwrap());
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let daemon = launch(&folder, &config).start().unwrap();
    // A name that would break a line of text.
    lab.ip("n1", "link delete eth0");
    until("the interface is reported", || daemon.log().contains("eth0").then_some(()));
    drop(daemon);
    let log = std::fs::read_to_string(folder.path().join("d.log")).unwrap();
    let lines = lines(&log);
    let ready = lines.iter().find(|line| line["message"] == "ready").unwrap_or_else(|| panic!("{log}"));
    assert!(ready["level"] == "INFO" && ready["peers"] == 2 && ready["timestamp"].is_string(), "{ready}");
    assert!(lines.iter().any(|line| line["message"] == "stopping: healing and detaching"), "{log}");
}

#[test]
#[needs(root)]
fn a_start_that_fails_says_why_in_the_same_form() {
    let (lab, folder) = (Lab::new(2), tempfile::tempdir().unwrap());
    let config =
        format!("{}metrics: {{ listen: 127.0.0.1:9464 }}\n", lab.config(AttachPoint::OwnNic, "auto"));
    let log = lab.within(CLIENT, || {
        let _taken = TcpListener::bind("127.0.0.1:9464").unwrap();
        match launch(&folder, &config).start() {
            Err(NotStarted::Ended { log, .. }) => log,
            other => panic!("{other:?}"),
        }
    });
    let lines = lines(&log);
    let last = lines.last().unwrap();
    assert!(last["level"] == "ERROR" && last["exit"].as_u64().is_some_and(|exit| exit > 0), "{last}");
    assert!(last["message"].as_str().unwrap().starts_with("metrics.listen: 127.0.0.1:9464"), "{last}");
    // The text form is the default.
    let text = folder.path().join("text");
    std::fs::create_dir(&text).unwrap();
    let daemon = Launch::in_folder(
        env!("CARGO_BIN_EXE_injector"),
        &text,
        "t",
        &lab.config(AttachPoint::OwnNic, "auto"),
    );
    let daemon = daemon.unwrap().start().unwrap();
    until("it logs", || daemon.log().contains(" INFO ").then_some(()));
    assert!(!daemon.log().starts_with('{'), "{}", daemon.log());
}
