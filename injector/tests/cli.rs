//! The `injector` program: exit codes, output, and the way over ssh. No privileges. `cli_with.rs` has `with`.

#[path = "support/program.rs"]
mod program;
#[expect(dead_code, reason = "each test program uses a part")]
#[path = "support/served.rs"]
mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use program::{code, injector, run, stderr, stdout};
use support::{Asked, Served};

#[test]
fn a_page_that_reaches_the_limit_of_a_files_size_is_an_error_and_not_left_in_half() {
    const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results/vms/run");
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let limited = || {
        let mut command = injector(&["report", RUN, "--html"]);
        command.arg(&page);
        let limit = rustix::process::Rlimit { current: Some(4096), maximum: Some(4096) };
        // SAFETY: between fork and exec one system call is made, and nothing allocates.
        unsafe {
            command
                .pre_exec(move || Ok(rustix::process::setrlimit(rustix::process::Resource::Fsize, limit)?));
        }
        command.output().unwrap()
    };
    let left = || std::fs::read_dir(folder.path()).unwrap().count();
    let output = limited();
    let error = stderr(&output);
    assert!(error.contains(page.to_str().unwrap()) && error.contains("ulimit -f"), "{output:?}");
    assert_eq!(left(), 0);
    std::fs::write(&page, "what was there").unwrap();
    assert_eq!(code(&limited()), code(&output));
    assert_eq!((std::fs::read_to_string(&page).unwrap().as_str(), left()), ("what was there", 1));
}

/// As a CI job sets a variable whose own setting has no value.
#[test]
fn an_empty_variable_is_as_good_as_unset() {
    const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results/vms/run");
    let empty = |arguments: &[&str]| {
        injector(arguments).env("INJECTOR_HOST", "").env("INJECTOR_SOCKET", "").output().unwrap()
    };
    assert_eq!(code(&empty(&["report", RUN])), 0);
    let served = Served::start();
    let output = empty(&["status", "--socket", served.path.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{output:?}");
}

/// Only a terminal gets colours, whatever a variable forces.
#[test]
fn what_is_no_terminal_gets_no_colours() {
    for arguments in [&["--help"][..], &["nonsense"], &["status", "--help"]] {
        let output = injector(arguments).env("CLICOLOR_FORCE", "1").output().unwrap();
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty());
        assert!(!stdout(&output).contains('\u{1b}') && !stderr(&output).contains('\u{1b}'), "{output:?}");
    }
}

#[test]
fn usage_errors_are_64_and_help_is_0() {
    for arguments in [
        &["nonsense"][..],
        &[],
        &["partition"],
        &["partition", "isolate", "n1", "--loss", "7"],
        &["partition", "isolate", "n1", "--at", "noon"],
        &["heal"],
        &["heal", "p", "--all"],
        &["with", "isolate", "n1"],
        &["status", "--host", "vm"],
        &["partition", "sideways", "n1"],
        &["measure", "random-node", "--trials", "5"],
        &["measure", "random-node", "--out", "x"],
        &["measure", "--trials", "5", "--out", "x"],
        &["measure", "random-node", "--trials", "5", "--out", "x", "--max-rate", "7"],
        &["measure", "random-node", "--trials", "5", "--out", "x", "--stop-when", "p0=0.05,p1=0.01"],
        &["measure", "random-node", "--trials", "5", "--out", "x", "--campaign", "y"],
        &["measure", "--campaign", "/nonexistent.yaml", "--out", "x"],
        &["report", "/nonexistent"],
        &["compare", "/nonexistent", "/nonexistent"],
    ] {
        let output = injector(arguments).output().unwrap();
        assert_eq!(code(&output), 64, "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
    for arguments in
        [&["nonsense", "--json"][..], &["--json", "heal"], &["partition", "isolate", "--json", "--loss", "7"]]
    {
        let output = injector(arguments).output().unwrap();
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((code(&output), &error["exit"]), (64, &64.into()), "{error}");
        assert!(error["error"].as_str().unwrap().contains("--help"), "{error}");
    }
    // What follows is the command's.
    let output = injector(&["with", "isolate", "n1", "--nonsense", "--", "true", "--json"]).output().unwrap();
    assert!(stderr(&output).starts_with("error: "), "{output:?}");
    for arguments in [["--loss", "-1%"], ["--for", "-5s"]] {
        let output = injector(&["partition", "isolate", "n1"]).args(arguments).output().unwrap();
        assert_eq!(code(&output), 64, "{arguments:?}");
        assert!(stderr(&output).contains("write it as"), "{arguments:?}: {}", stderr(&output));
    }
    for arguments in [&["--help"][..], &["--version"], &["with", "--help"], &["help"], &["help", "measure"]] {
        assert_eq!(code(&injector(arguments).output().unwrap()), 0, "{arguments:?}");
    }
}

#[test]
fn help_is_a_command_and_lists_the_others() {
    let help = stdout(&injector(&["help"]).output().unwrap());
    assert_eq!(help, stdout(&injector(&["--help"]).output().unwrap()));
    for command in ["partition", "heal", "measure", "help"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let of = injector(&["help", command]).output().unwrap();
        assert_eq!((code(&of), stderr(&of).as_str()), (0, ""), "{command}");
    }
    let wrong = injector(&["help", "isolate"]).output().unwrap();
    assert_eq!(code(&wrong), 64);
    assert!(stderr(&wrong).contains("unrecognized subcommand 'isolate'"), "{}", stderr(&wrong));
}

#[test]
fn an_argument_that_is_no_text_is_named() {
    let odd = std::ffi::OsStr::from_bytes(b"a\xff");
    for words in [&["mark"][..], &["heal", "p"], &["partition", "isolate"], &["status", "--host"]] {
        let output = injector(words).arg(odd).output().unwrap();
        let said = stderr(&output);
        assert_eq!(code(&output), 64, "{said}");
        let named = format!("argument {}, \"a\\xFF\", is not UTF-8", words.len() + 1);
        assert!(said.contains(&named), "{said}");
    }
    // A path may have any bytes.
    let path = injector(&["check", "--config"]).arg(odd).output().unwrap();
    assert!(stderr(&path).contains("can't be read (No such file"), "{}", stderr(&path));
}

#[test]
fn a_bad_config_is_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lab.yaml");
    std::fs::write(&file, "peers: [nonsense\n").unwrap();
    let output = injector(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(code(&output), 64);
    assert!(stderr(&output).contains("lab.yaml"), "{}", stderr(&output));
    let output = injector(&["check", "--json", "--config", file.to_str().unwrap()]).output().unwrap();
    let report: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert!(report["errors"][0]["line"].is_u64() && report["errors"][0]["remedy"].is_string(), "{report}");
    let missing = injector(&["check", "--config", "/nonexistent.yaml"]).output().unwrap();
    assert_eq!(code(&missing), 64);
}

#[test]
fn check_reads_campaigns_and_builds_their_shapes_with_a_config() {
    let directory = tempfile::tempdir().unwrap();
    let campaign = directory.path().join("campaign.yaml");
    let write = |shapes: &str| {
        std::fs::write(&campaign, format!("shapes: [{shapes}]\nholds: [5s, 9s]\ntrials: 8\n")).unwrap();
    };
    let check = |config: &[&str]| {
        injector(&["check", "--campaign", campaign.to_str().unwrap()]).args(config).output().unwrap()
    };
    let with_config = ["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/lab.yaml")];
    write("isolate n1, preset lonely, isolate @leader");
    for config in [&[][..], &with_config] {
        let output = check(config);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("campaign.yaml: good: 6 cells, 8 trials"), "{said}");
    }
    for (shape, says) in [
        ("isolate n9", "campaign.yaml:1:10: shapes[0]: \"isolate n9\" can't be built with"),
        ("isolate n1, isolate n9", "campaign.yaml:1:22: shapes[1]: \"isolate n9\" can't be built with"),
        ("preset nosuch", "nosuch"),
        ("isolate @nobody", "nobody"),
    ] {
        write(shape);
        assert_eq!(code(&check(&[])), 0, "{shape}: nobody knows the peers yet");
        let output = check(&with_config);
        assert_eq!(code(&output), 64, "{shape}");
        assert!(stderr(&output).contains(says), "{shape}: {}", stderr(&output));
    }
    for (line, says) in [
        ("advisory: [nosuch]", "no endpoint \"nosuch\" is configured; the endpoints are ingress@n1, "),
        ("advisory: [ingress]", "every endpoint is advisory"),
        ("direction: out", "links has no first group that a direction could be relative to"),
    ] {
        let text = format!("shapes: [\"links n1:n2\"]\nholds: [5s]\ntrials: 8\n{line}\n");
        std::fs::write(&campaign, text).unwrap();
        assert_eq!(code(&check(&[])), 0, "{line}: nobody knows the endpoints yet");
        let output = check(&with_config);
        assert_eq!(code(&output), 64, "{line}");
        assert!(stderr(&output).contains(says), "{line}: {}", stderr(&output));
    }
    write("isolate");
    assert_eq!(code(&check(&[])), 64);
    // All faults at once: what can't be read, and what can't be built.
    write("isolated n1, isolate @leder, isolate n9");
    let said = stderr(&check(&with_config));
    for says in [
        "shapes[0]: unknown shape \"isolated\"",
        "shapes[1]: \"isolate @leder\" can't be",
        "shapes[2]: \"isolate n9\" can't be",
    ] {
        assert_eq!(said.matches(says).count(), 1, "{says}: {said}");
    }
    std::fs::write(&campaign, "shapes: [isolate n1]\nholds: [5s]\ntrials: 0\n").unwrap();
    let output = check(&[]);
    assert_eq!(code(&output), 64);
    assert!(
        stderr(&output).contains("campaign.yaml:3:9: trials: a campaign of 0 trials"),
        "{}",
        stderr(&output)
    );
    assert_eq!(code(&injector(&["check"]).output().unwrap()), 64, "nothing to check");
}

/// A config named without `--config` is the same config.
#[test]
fn a_config_may_be_named_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.yaml");
    let file = path.to_str().unwrap();
    std::fs::write(&path, "peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: auto\n").unwrap();
    let good = injector(&["check", file]).output().unwrap();
    assert_eq!(code(&good), 0, "{}", stderr(&good));
    assert!(String::from_utf8_lossy(&good.stdout).contains("lab.yaml: good: 1 peer"), "{good:?}");
    std::fs::write(&path, "peers: { n1: { addresses: [10.0.0.1] } }\ninterface: auto\n").unwrap();
    for command in ["check", "doctor"] {
        let bad = injector(&[command, file]).output().unwrap();
        assert_eq!(code(&bad), 64, "{command}");
        let said = stderr(&bad);
        assert!(said.contains("lab.yaml:2:1: interface: unknown key"), "{command}: {said}");
        assert!(said.contains("did you mean \"interfaces\"?"), "{command}: {said}");
    }
    for (arguments, says) in [
        (&["check", file, "--config", file][..], "cannot be used with"),
        (&["doctor", file, "--config", file], "cannot be used with"),
        (&["start", file, "--config", file], "cannot be used with"),
        (&["start"], "<FILE>"),
    ] {
        let twice = injector(arguments).output().unwrap();
        assert_eq!(code(&twice), 64, "{arguments:?}");
        assert!(stderr(&twice).contains(says), "{arguments:?}: {}", stderr(&twice));
    }
}

#[test]
fn the_version_names_the_build_and_the_abi() {
    let output = injector(&["--version"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (version, abi) = (env!("CARGO_PKG_VERSION"), injector_common::ABI_VERSION);
    assert!(said.starts_with(&format!("injector {version} (")), "{said}");
    assert!(said.ends_with(&format!(", abi {abi})\n")), "{said}");
}

#[test]
fn the_schema_is_printed_as_it_is_shipped() {
    let shipped = include_str!("../../configs/lab.schema.json");
    assert_eq!(
        String::from_utf8(injector(&["check", "--schema"]).output().unwrap().stdout).unwrap(),
        shipped
    );
}

#[test]
fn without_a_daemon_it_is_69_and_says_what_to_do() {
    for arguments in [
        &["status"][..],
        &["peers"],
        &["timeline"],
        &["mark", "x"],
        &["wait", "p"],
        &["heal", "--all"],
        &["probe"],
        &["stop"],
        &["partition", "isolate", "n1"],
        &["dial-stdio"],
        &["measure", "random-node", "--trials", "5", "--out", "/nonexistent/run"],
    ] {
        let output = run(Path::new("/nonexistent/injector.sock"), arguments);
        assert_eq!(code(&output), 69, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("sudo injector start"), "{}", stderr(&output));
    }
    let output = run(Path::new("/nonexistent/injector.sock"), &["with", "isolate", "n1", "--", "true"]);
    assert_eq!(code(&output), 125, "its own failure");
}

/// The socket of another service, by a slip: this test's own process, which must live on.
#[test]
fn a_process_that_is_no_daemon_is_neither_stopped_nor_called_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for arguments in [&["stop"][..], &["heal", "--all"]] {
        let output = run(&socket, arguments);
        assert_eq!(code(&output), 69, "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        let said = stderr(&output);
        let names = ["is no injector daemon", "other.sock", "--socket", &std::process::id().to_string()];
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
    }
    drop(listener);
}

/// As nobody, if the tests run as root: neither the socket nor `start` is for everyone.
#[test]
fn without_permission_it_is_77() {
    use std::os::unix::process::CommandExt;
    let served = Served::start();
    let socket = served.path.to_str().unwrap();
    for arguments in [&["status", "--socket", socket][..], &["start", "--config", "/nonexistent.yaml"]] {
        let mut command = injector(arguments);
        if rustix::process::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        } else if arguments[0] == "status" {
            continue;
        }
        match command.output() {
            Ok(output) => {
                assert_eq!(code(&output), 77, "{arguments:?}: {}", stderr(&output));
                assert!(stderr(&output).contains("sudo"), "{}", stderr(&output));
            }
            Err(error) => {
                let name = "without_permission_it_is_77";
                return injector_lab::skip(
                    name,
                    &format!("nobody can't run the program where it was built: {error}"),
                );
            }
        }
    }
}

#[test]
fn a_partition_is_printed_for_people_and_for_programs() {
    let served = Served::start();
    let output =
        run(&served.path, &["partition", "isolate", "n1", "--name", "p", "--for", "5s", "--at", "+2s"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("p: isolate n1 (generation 7)\n"), "{text}");
    assert!(text.contains("5.000 s later") && text.contains("2: n1→n2 n2→n1"), "{text}");
    let Asked::Apply { request, .. } = served.wait_for(|asked| matches!(asked, Asked::Apply { .. })) else {
        unreachable!("that is what was waited for")
    };
    let at = serde_json::to_value(request.at).unwrap();
    assert_eq!(at["mono_ns"], 4_000_000_000_u64, "two seconds after the daemon's now");

    let output = run(&served.path, &["partition", "isolate", "n1", "--json", "--dry-run"]);
    let view: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(view["name"].as_str().unwrap().starts_with("isolate-"), "{view}");
    served.wait_for(|asked| matches!(asked, Asked::Apply { step: "dry-run", .. }));

    let taken = run(&served.path, &["partition", "isolate", "n1", "--name", "taken", "--json"]);
    assert_eq!(code(&taken), 64);
    let report: serde_json::Value = serde_json::from_str(&stderr(&taken)).unwrap();
    assert_eq!(report["problem"]["code"], "name-taken");
}

#[test]
fn wait_tells_the_story_and_exits_by_the_outcome() {
    let served = Served::start();
    for (name, expected, says) in [
        ("recovered", 0, "recovered (deadline 20.000 s)"),
        ("slow", 1, "NOT recovered within 20.000 s"),
        ("failed", 2, "harness failed"),
        ("ghost", 64, ""),
    ] {
        let output = run(&served.path, &["wait", name]);
        assert_eq!(code(&output), expected, "{name}: {}", stderr(&output));
        assert!(stdout(&output).contains(says), "{}", stdout(&output));
    }
    let undecided = run(&served.path, &["wait", "open", "--timeout", "50ms"]);
    assert_eq!(code(&undecided), 2);
    assert!(stdout(&undecided).contains("not yet decided"), "{}", stdout(&undecided));
    let only = run(&served.path, &["wait", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&stdout(&only)).unwrap();
    assert_eq!((record["name"].as_str(), record["settled_ns"].as_u64()), (Some("recovered"), None));
    served.wait_for(|asked| matches!(asked, Asked::Recovery { generation: Some(7), .. }));
}

#[test]
fn heal_goes_on_past_a_name_it_does_not_know() {
    let served = Served::start();
    let output = run(&served.path, &["heal", "ghost", "p"]);
    assert_eq!(code(&output), 64);
    assert!(stdout(&output).starts_with("p: healed 1970-01-01T00:00:06"), "{}", stdout(&output));
    served.wait_for(|asked| *asked == Asked::Heal("p".to_owned()));
    let all = run(&served.path, &["heal", "--all"]);
    assert_eq!((code(&all), stdout(&all).lines().count()), (0, 2));
}

#[test]
fn the_other_commands_print_and_are_0() {
    let served = Served::start();
    for (arguments, says) in [
        (&["status"][..], "nothing is cut"),
        (&["peers"], "PEER"),
        (&["probe"], "ingress@n1  2.0 ms  seen after 1.5 ms  ok"),
        (&["timeline"], "mark       old"),
        (&["mark", "hello", "there"], "mark       hello there"),
    ] {
        let output = run(&served.path, arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).contains(says), "{arguments:?}: {}", stdout(&output));
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let json = run(&served.path, &arguments);
        let lines = stdout(&json);
        let parsed: Result<Vec<serde_json::Value>, _> =
            serde_json::Deserializer::from_str(&lines).into_iter().collect();
        assert!(parsed.is_ok_and(|values| !values.is_empty()), "{arguments:?}: {lines}");
    }
}

/// As with `| head -1`: a command that continues would ask the daemon forever, and nobody would notice.
#[test]
fn what_goes_on_ends_with_its_reader() {
    let served = Served::start();
    for arguments in [&["status", "--watch"][..], &["timeline", "--follow"]] {
        let mut command = injector(arguments);
        // Gone before anything is printed: what there is to print may be printed once.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = command.env("INJECTOR_SOCKET", &served.path).stdout(writer).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{arguments:?} continues");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

/// The whole way but the network: a stand-in for ssh runs what it is given, through a shell as sshd does.
#[test]
fn a_host_is_reached_through_dial_stdio() {
    let served = Served::start();
    let directory = tempfile::tempdir().unwrap();
    let ssh = directory.path().join("ssh");
    let script = "#!/bin/sh\nwhile [ \"$1\" != user@vm ]; do shift; done\nshift\nexec sh -c \"$*\"\n";
    injector_lab::write_program(&ssh, script);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_injector"), directory.path().join("injector")).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let over_ssh = |arguments: &[&str], socket: &Path| {
        injector(arguments)
            .args(["--host", "ssh://user@vm:2222", "--socket"])
            .arg(socket)
            .env("PATH", &path)
            .output()
            .unwrap()
    };
    let output = over_ssh(&["wait", "slow"], &served.path);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stdout(&output).contains("NOT recovered"));
    let timeline = over_ssh(&["timeline"], &served.path);
    assert_eq!((code(&timeline), stdout(&timeline).lines().count()), (0, 3), "{}", stderr(&timeline));
    let output = over_ssh(&["status"], Path::new("/nonexistent/it's.sock"));
    assert_eq!(code(&output), 69, "{}", stderr(&output));
    assert!(stderr(&output).contains("/nonexistent/it's.sock"), "the quoting held: {}", stderr(&output));
}
