//! `injector with`: the exit code, the outcome, and signals. No privileges.

#[expect(dead_code, reason = "each test program uses a part")]
#[path = "support/program.rs"]
mod program;
#[expect(dead_code, reason = "each test program uses a part")]
#[path = "support/served.rs"]
mod support;

use std::time::{Duration, Instant};

use program::{code, injector, run, stderr};
use support::{Asked, Served};

#[test]
fn with_passes_the_exit_code_through_and_heals() {
    let served = Served::start();
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let output = run(&served.path, &["with", "isolate", "n1", "--name", "w", "--", "sh", "-c", script]);
        assert_eq!(code(&output), expected, "{script}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "standard output is the command's");
        let Asked::Apply { request, .. } = served.wait_for(|asked| matches!(asked, Asked::Apply { .. }))
        else {
            unreachable!("that is what was waited for")
        };
        assert_eq!(serde_json::to_value(request.owner).unwrap(), "connection");
        served.wait_for(|asked| *asked == Asked::Heal("w".to_owned()));
    }
    let missing = run(&served.path, &["with", "isolate", "n1", "--name", "w", "--", "/nonexistent"]);
    assert_eq!(code(&missing), 127);
    served.wait_for(|asked| *asked == Asked::Heal("w".to_owned()));
    assert_eq!(
        code(&run(&served.path, &["with", "isolate", "n1", "--name", "taken", "--", "true"])),
        125,
        "the partition failed"
    );
    let later = run(&served.path, &["with", "isolate", "n1", "--name", "w", "--at", "+5s", "--", "true"]);
    assert_eq!(code(&later), 64, "it would run before the cut");
    assert!(stderr(&later).contains("--at"), "{}", stderr(&later));
    let help = |command: &str| String::from_utf8(run(&served.path, &[command, "--help"]).stdout).unwrap();
    assert!(!help("with").contains("--at ") && help("partition").contains("--at "));
}

/// Where the command succeeded, `--wait` exits by the outcome. What is not known is 125, since 2 may be the command's own.
#[test]
fn with_waits_for_the_outcome_if_it_is_asked_to() {
    let served = Served::start();
    let with = |name, more: &[&str], script| {
        let arguments =
            [&["with", "isolate", "n1", "--name", name], more, &["--", "sh", "-c", script]].concat();
        run(&served.path, &arguments)
    };
    for (name, script, expected, says) in [
        ("recovered", "exit 0", 0, "recovered (deadline 20.000 s)"),
        ("slow", "exit 0", 1, "NOT recovered within 20.000 s"),
        ("failed", "exit 0", 125, "harness failed"),
        ("recovered", "exit 2", 2, "healed"),
    ] {
        let waited = with(name, &["--wait"], script);
        assert_eq!(code(&waited), expected, "{name}: {}", stderr(&waited));
        assert!(stderr(&waited).contains(says) && waited.stdout.is_empty(), "{}", stderr(&waited));
        assert_eq!(code(&with(name, &[], "exit 0")), 0, "without --wait it is the command's");
    }

    // The outcome of this one is never decided; a signal ends the wait, after the heal.
    let arguments = ["with", "isolate", "n1", "--name", "open", "--wait", "--", "true"];
    let mut child = injector(&arguments).env("INJECTOR_SOCKET", &served.path).spawn().unwrap();
    served.wait_for(|asked| *asked == Asked::Heal("open".to_owned()));
    served.wait_for(|asked| matches!(asked, Asked::Recovery { wait, .. } if !wait.is_zero()));
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn with_forwards_signals_and_a_kill_is_heard_as_a_disconnect() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let up = directory.path().join("up");
    let script = format!("trap 'exit 9' TERM; : > {}; while :; do sleep 0.05; done", up.display());
    let spawn = || {
        injector(&["with", "isolate", "n1", "--name", "w", "--", "sh", "-c", &script])
            .env("INJECTOR_SOCKET", &served.path)
            .spawn()
            .unwrap()
    };
    let wait_up = || {
        let end = Instant::now() + Duration::from_secs(20);
        while !up.exists() {
            assert!(Instant::now() < end, "the command never ran");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::remove_file(&up).unwrap();
    };
    let signal = |pid: u32, signal| {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    };
    let mut child = spawn();
    wait_up();
    signal(child.id(), rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(9), "the command's own answer to the signal");
    served.wait_for(|asked| *asked == Asked::Heal("w".to_owned()));

    // `exec` keeps the pid, so that the test can end the orphan that a killed `with` leaves.
    let pid_file = directory.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60", pid_file.display());
    let mut child = injector(&["with", "isolate", "n1", "--name", "w", "--", "sh", "-c", &script])
        .env("INJECTOR_SOCKET", &served.path)
        .spawn()
        .unwrap();
    let Asked::Apply { connection, .. } = served.wait_for(|asked| matches!(asked, Asked::Apply { .. }))
    else {
        unreachable!("that is what was waited for")
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !pid_file.exists() {
        assert!(Instant::now() < end, "the command never ran");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    served.wait_for(|asked| *asked == Asked::Disconnected(connection));
    let orphan: u32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    signal(orphan, rustix::process::Signal::KILL);
}
