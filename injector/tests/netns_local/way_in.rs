//! `init` and `doctor` know processes: which could be peers, which belong to whom, and what can't be told apart.

use std::process::{Command, Output};

use injector_core::config::Config;
use injector_lab::{Lab, needs};

use super::talker::Talker;
use super::{A, B, machine, talkers};

/// The command line on the machine.
fn injector(lab: &Lab, words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(words.split(' '));
    lab.within("m", || command.output().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the doctor says of a config, and how it ends.
fn doctor(lab: &Lab, config: &str) -> (Option<i32>, String) {
    let path = lab.folder().join("doctor.yaml");
    std::fs::write(&path, config).unwrap();
    let output = injector(lab, &format!("doctor --config {}", path.display()));
    (output.status.code(), text(&output.stdout))
}

#[test]
#[needs(root, example = "talker")]
fn init_writes_processes_by_their_ports_and_doctor_shows_which_belong_to_whom() {
    let lab = machine();
    let talkers = talkers(&lab);
    // Other labs on this host have namespaces too: these peers are named.
    let output = injector(&lab, "init --yes --out - --peer talker-1 --peer talker-2 --peer talker-3");
    let written = text(&output.stdout);
    assert!(output.status.success(), "{written}{}", text(&output.stderr));
    for (number, talker) in (1..).zip(&talkers) {
        let line =
            format!("talker-{number}: {{ listens: [700{number}] }}  # process {} (talker)", talker.id());
        assert!(written.contains(&line), "{written}");
    }
    let config = Config::parse(&written, "init").unwrap();
    let endpoints: Vec<&str> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(endpoints, ["talker-1@talker-1", "talker-2@talker-2", "talker-3@talker-3"], "{written}");
    let (code, said) = doctor(&lab, &written);
    assert_eq!(code, Some(0), "{said}");
    for (number, talker) in (1..).zip(&talkers) {
        let line = format!("peer talker-{number}, by port 700{number}: process {} (talker)", talker.id());
        assert!(said.contains(&line), "{said}");
    }
    assert!(said.contains("would attach to lo: for talker-1, talker-2, talker-3"), "{said}");
    assert!(said.contains("6 of 6 directed links would pass a hook for sure"), "{said}");
}

#[test]
#[needs(root, example = "talker")]
fn doctor_says_what_can_not_be_told_apart_and_the_remedy() {
    let lab = machine();
    let both = Talker::start(&lab, "m", &[A, B]);
    let config = "peers:\n  a: { listens: [7001] }\n  b: { listens: [7002] }\n  c: { listens: [7003] }\ninterfaces: auto\n";
    let (code, said) = doctor(&lab, config);
    assert_eq!(code, Some(1), "{said}");
    for peer in ["a, by port 7001", "b, by port 7002"] {
        let line = format!(
            "PREVENTS  peer {peer}: process {} (talker) belongs to a and b: what it sends can't be attributed to one peer; \
             run each peer in a process of its own",
            both.id()
        );
        assert!(said.contains(&line), "{said}");
    }
    let none = "note      peer c, by port 7003: no process now; start it";
    assert!(said.contains(none), "{said}");
    let (code, said) =
        doctor(&lab, "peers: { a: { pid: 4194303 }, b: { listens: [7002] } }\ninterfaces: auto\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("PREVENTS  start: peer a: there is no process 4194303"), "{said}");
}
