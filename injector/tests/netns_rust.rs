//! The guards of `injector_client::test`, used by a crate outside the workspace (`clients/rust`) against the real daemon
//! in namespaces. Needs root.

injector_lab::group!(timed);

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use injector_core::api::HealedBy;
use injector_lab::{AttachPoint, Lab, needs};
use live::daemon::Daemon;
use live::traffic::{KINDS, assert_flows};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The crate's test programs, built as its user would build them.
fn built() -> &'static [PathBuf] {
    static BUILT: OnceLock<Vec<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_injector")).ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "test",
            "--locked",
            "--no-run",
            "--message-format=json-render-diagnostics",
            "--manifest-path",
        ]);
        cargo.arg(root().join("clients/rust/Cargo.toml")).arg("--target-dir").arg(target);
        // As the workspace is built: what both need is built once, and debug information helps nobody here.
        cargo.args(["--config", "profile.dev.debug='line-tables-only'"]);
        cargo.args(["--config", "profile.dev.package.'*'.debug=false"]);
        cargo.args(["--config", "profile.dev.build-override.debug='line-tables-only'"]);
        // What this test was built with says nothing of another crate.
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_") && name != "CARGO_HOME" {
                cargo.env_remove(name);
            }
        }
        // Root may run the tests of another user, whose files stay that user's.
        let owner = std::fs::metadata(target).unwrap();
        if owner.uid() != 0 {
            cargo.uid(owner.uid()).gid(owner.gid()).env_remove("HOME");
            // That of the user who built this test, if there was one; cargo asks the system without.
            if let Some(home) = option_env!("HOME") {
                cargo.env("HOME", home);
            }
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).collect()
    })
}

/// Runs one of the programs.
fn run(daemon: &Daemon, program: &str, arguments: &[&str]) -> Output {
    let is_it =
        |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{program}-"));
    let path = built().iter().find(is_it).unwrap_or_else(|| panic!("{program} is not in {:?}", built()));
    let mut command = Command::new(path);
    command.args(arguments).env("INJECTOR_SOCKET", daemon.socket()).env_remove("INJECTOR_HOST");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_passed(output: &Output, least: usize) {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    let passed =
        said.split(" passed").next().and_then(|before| before.rsplit(' ').next()?.parse::<usize>().ok());
    assert!(passed.is_some_and(|passed| passed >= least), "{said}");
}

/// Nothing of the daemon's is cut.
fn assert_nothing_is_cut(lab: &Lab, daemon: &Daemon) {
    let live: Vec<_> = daemon.status().partitions.into_iter().filter(|it| it.healed.is_none()).collect();
    assert!(live.is_empty(), "{live:#?}");
    assert_flows(lab, &KINDS, "n1", "n2");
}

#[test]
#[needs(root, minutes = 1)]
fn guards_heal_what_they_cut_and_nothing_else() {
    let lab = Lab::new(2);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    assert_passed(&run(&daemon, "guard", &[]), 10);
    assert_nothing_is_cut(&lab, &daemon);
    // A process that dies has no time to heal.
    let died = run(&daemon, "guard", &["--ignored", "--exact", "a_suite_that_dies"]);
    assert!(!died.status.success() && died.status.code().is_none(), "{}", said(&died));
    injector_lab::until("the daemon sees the end of the connection", || {
        daemon.partition("died").healed.map(|healed| assert_eq!(healed.healed_by, HealedBy::Disconnect))
    });
    assert_nothing_is_cut(&lab, &daemon);
}

#[test]
#[needs(root, minutes = 1)]
fn a_strict_guard_fails_where_nobody_knows_whether_its_cut_was_in_force() {
    let (lab, daemon) = live::up_with_unknown_coverage();
    let output = run(&daemon, "guard", &["--ignored", "--exact", "unknown_is_no_for_a_strict_guard"]);
    assert_passed(&output, 1);
    assert_nothing_is_cut(&lab, &daemon);
}

#[test]
#[needs(root, minutes = 1)]
fn the_suites_of_the_page() {
    let (lab, _server, daemon) = live::up_with_service();
    // One after another: a second cut ends the watch of the first.
    assert_passed(&run(&daemon, "page", &["--test-threads=1"]), 2);
    daemon.wait_healthy();
    assert_passed(&run(&daemon, "bounds", &["--test-threads=1"]), 2);
    assert_nothing_is_cut(&lab, &daemon);

    let page = std::fs::read_to_string(root().join("docs/clients/rust.md")).unwrap();
    let source = std::fs::read_to_string(root().join("clients/rust/tests/page.rs")).unwrap();
    // The modules of the file are not on the page.
    let source: Vec<&str> = source.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let source = source.join("\n");
    let suites: Vec<&str> =
        page.split("```rust suite\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(suites.len(), 2);
    for suite in suites {
        assert!(source.contains(suite.trim()), "not in clients/rust/tests/page.rs:\n{suite}");
    }
}
