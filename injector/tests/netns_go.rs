//! The Go module `clients/go`: its own tests, which use it as a user would, against the real daemon in namespaces. Needs root, and
//! Go. Nothing is downloaded.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use injector_core::api::HealedBy;
use injector_core::clock::MonoNs;
use injector_lab::{Lab, needs, program, until};
use live::daemon::{Daemon, isolate};
use live::traffic::{KINDS, Sent, Server, ServerMode, Stream, assert_flows};
use tempfile::TempDir;

/// How many tests the module has, at least.
const TESTS: usize = 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn module() -> PathBuf {
    root().join("clients/go")
}

/// Where Go keeps what it has built.
struct Cache {
    path: PathBuf,
    _own: Option<Arc<TempDir>>,
}

impl Cache {
    /// A folder beside what cargo has built, so that the next run builds little. Where that is another user's, to whom files of
    /// root would be in the way: one that is gone with the last of the tests that run at the same time.
    fn new() -> Self {
        static SHARED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
        let target = Path::new(env!("CARGO_BIN_EXE_injector")).ancestors().nth(2).unwrap();
        if std::fs::metadata(target).unwrap().uid() == rustix::process::geteuid().as_raw() {
            return Self { path: target.join("go"), _own: None };
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shared.upgrade().unwrap_or_else(|| {
            let own = Arc::new(tempfile::tempdir().unwrap());
            *shared = Arc::downgrade(&own);
            own
        });
        Self { path: own.path().to_owned(), _own: Some(own) }
    }
}

/// A command in the module's folder, without the settings of whoever runs the tests.
fn command(name: &str, arguments: &[&str]) -> Command {
    let path = program(name).unwrap_or_else(|| panic!("there is no {name}; it comes with Go"));
    let mut command = Command::new(path);
    command.args(arguments).current_dir(module());
    for variable in ["INJECTOR_SOCKET", "INJECTOR_HOST", "INJECTOR_MISSING"] {
        command.env_remove(variable);
    }
    command
}

/// Go itself. It fetches neither modules nor another Go, and needs no C compiler.
fn go(cache: &Cache, arguments: &[&str]) -> Command {
    let mut command = command("go", arguments);
    let settings = [
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
        ("GOENV", "off"),
        ("GOWORK", "off"),
        ("GOFLAGS", "-buildvcs=false"),
        ("CGO_ENABLED", "0"),
    ];
    command.envs(settings);
    command.env("GOCACHE", cache.path.join("build")).env("GOPATH", cache.path.join("path"));
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// A server on n1, which n2 asks for its health, and a daemon. What runs ends before the namespaces do.
struct Fixture {
    daemon: Daemon,
    server: Server,
    lab: Lab,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let (lab, server, daemon) = live::up_with_service();
        Self { daemon, server, lab, cache: Cache::new() }
    }

    /// A command that finds the daemon.
    fn with_daemon(&self, mut command: Command) -> Command {
        command.env("INJECTOR_SOCKET", self.daemon.socket());
        command
    }

    /// Builds the tests with the tag `driven` into a program, which a test can run without building them again.
    fn driven(&self) -> PathBuf {
        let path = self.daemon.folder().join("driven.test");
        let arguments = ["test", "-c", "-tags", "driven", "-o", path.to_str().unwrap(), "."];
        succeeds(go(&self.cache, &arguments));
        path
    }

    /// Runs one test of that program.
    fn run(&self, suite: &Path, test: &str) -> Output {
        let mut command = self.with_daemon(driven_command(suite, test));
        command.output().unwrap()
    }

    /// What ended a partition.
    fn healed_by(&self, name: &str) -> HealedBy {
        until(name, || self.daemon.partition(name).healed).healed_by
    }

    fn assert_nothing_is_cut(&self) {
        let live: Vec<_> =
            self.daemon.status().partitions.into_iter().filter(|it| it.healed.is_none()).collect();
        assert!(live.is_empty(), "{live:#?}");
        assert_flows(&self.lab, &KINDS, "n1", "n2");
    }
}

fn driven_command(suite: &Path, test: &str) -> Command {
    let mut command = Command::new(suite);
    command.args(["-test.v", "-test.run", &format!("^{test}$")]).current_dir(module());
    command.env_remove("INJECTOR_SOCKET").env_remove("INJECTOR_HOST").env_remove("INJECTOR_MISSING");
    command
}

/// A test that must fail, and what it must say.
fn assert_fails(output: &Output, sentences: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "{said}");
    for sentence in sentences {
        assert!(said.contains(sentence), "\"{sentence}\" is not in:\n{said}");
    }
}

#[test]
#[needs(program = "go")]
fn go_vet_and_gofmt_find_nothing() {
    let unformatted = succeeds(command("gofmt", &["-l", "."]));
    assert_eq!(unformatted, "", "run `gofmt -w clients/go`");
    let cache = Cache::new();
    succeeds(go(&cache, &["vet", "./..."]));
    succeeds(go(&cache, &["vet", "-tags", "driven", "./..."]));
}

/// Packets that were sent while the record says that their link was cut, and not so near to its ends that they may have been
/// under way.
fn during(packets: &[Sent], cut: MonoNs, heal: MonoNs) -> Vec<&Sent> {
    let margin = Duration::from_millis(50);
    packets.iter().filter(|packet| packet.at > cut && packet.at + margin < heal).collect()
}

#[test]
#[needs(root, program = "go", minutes = 1)]
fn the_go_client_cuts_heals_and_measures() {
    let fixture = Fixture::new();
    let often = Duration::from_millis(10);
    let streams = [("n1", "n2"), ("n2", "n1")].map(|(from, to)| Stream::start(&fixture.lab, from, to, often));
    let said = succeeds(fixture.with_daemon(go(&fixture.cache, &["test", "-count=1", "-v", "./..."])));
    let passed = said.lines().filter(|line| line.starts_with("--- PASS")).count();
    assert!(passed >= TESTS && !said.contains("--- SKIP"), "{passed} passed:\n{said}");

    let record = fixture.daemon.record("go-proof");
    let (cut, heal) = (record.cut.unwrap().end_ns, record.heal.unwrap().begin_ns);
    for stream in streams {
        let packets = stream.stop();
        let cut_off = during(&packets, cut, heal);
        assert!(cut_off.len() > 10, "{} packets", cut_off.len());
        assert!(cut_off.iter().all(|packet| packet.received.is_none()), "{cut_off:?}");
        assert!(packets.iter().any(|packet| packet.at < cut && packet.received.is_some()));
        assert!(packets.iter().any(|packet| packet.at > heal && packet.received.is_some()));
    }
    fixture.assert_nothing_is_cut();
}

#[test]
#[needs(root, program = "go", minutes = 1)]
fn go_tests_that_fail_or_die_leave_nothing_cut() {
    let fixture = Fixture::new();
    let suite = fixture.driven();
    let own = ["the test's own failure", "go-fails: ", "phases: silence", "--- FAIL: TestFailsWhileCut"];
    assert_fails(&fixture.run(&suite, "TestFailsWhileCut"), &own);
    assert_eq!(fixture.healed_by("go-fails"), HealedBy::Request);
    // Go prints nothing that is logged once a test has panicked.
    assert_fails(&fixture.run(&suite, "TestPanicsWhileCut"), &["the test's own panic"]);
    assert_eq!(fixture.healed_by("go-panics"), HealedBy::Request);
    // A process that is killed has no time to heal.
    let died = fixture.run(&suite, "TestDiesWhileCut");
    assert!(died.status.code().is_none(), "{}", said(&died));
    assert_eq!(fixture.healed_by("go-dies"), HealedBy::Disconnect);
    // What a test saw was not under the partition, and the test fails for it.
    let why = "\"go-healed\" was not in force until it was healed: another client healed it";
    assert_fails(&fixture.run(&suite, "TestWasHealedByAnother"), &[why]);
    fixture.assert_nothing_is_cut();
}

/// Runs one test of the program up to where it waits for its driver, which `meanwhile` is, and then to its end.
fn run_with(mut test: Command, meanwhile: impl FnOnce()) -> Output {
    let mut child = test.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.ends_with("ready\n") && stdout.read_line(&mut said).unwrap() > 0 {}
    if said.ends_with("ready\n") {
        meanwhile();
        stdin.write_all(b"\n").unwrap();
    }
    stdout.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    Output { stdout: said.into_bytes(), ..output }
}

#[test]
#[needs(root, program = "go", minutes = 1)]
fn a_restarted_daemons_partition_is_not_taken_for_ones_own() {
    let mut fixture = Fixture::new();
    let suite = fixture.driven();
    // A daemon counts from 1, and this one has cut nothing.
    let test = fixture.with_daemon(driven_command(&suite, "TestHealsNotWhatAnotherCutAfterARestart"));
    let daemon = &mut fixture.daemon;
    let output = run_with(test, || {
        daemon.restart();
        daemon.apply("go-restarted", &isolate("n1", Duration::from_mins(1)));
    });
    assert!(output.status.success(), "{}", said(&output));
    fixture.daemon.heal("go-restarted");
    fixture.assert_nothing_is_cut();
}

#[test]
#[needs(root, program = "go", minutes = 1)]
fn go_tests_fail_where_nothing_is_known() {
    let (lab, daemon) = live::up_with_unknown_coverage();
    let server = Server::start(&lab, "n1");
    let fixture = Fixture { daemon, server, lab, cache: Cache::new() };
    let suite = fixture.driven();
    // This daemon has no endpoint.
    for test in ["TestUnknownIsNoForAStrictCut", "TestHasNothingToWaitFor"] {
        let output = fixture.run(&suite, test);
        assert!(output.status.success(), "{}", said(&output));
    }
    fixture.assert_nothing_is_cut();
}

#[test]
#[needs(root, program = "go", minutes = 1)]
fn go_tests_say_what_is_missing_or_not_healthy() {
    let fixture = Fixture::new();
    let suite = fixture.driven();
    assert_fails(&fixture.run(&suite, "TestNeedsAPeer"), &["has no peer n9 (it has n1, n2); start it with"]);
    let nowhere = fixture.daemon.folder().join("nowhere.sock");
    let without_daemon = |missing: &str| {
        let mut command = driven_command(&suite, "TestNeedsAPeer");
        command.env("INJECTOR_SOCKET", &nowhere).env("INJECTOR_MISSING", missing);
        command.output().unwrap()
    };
    assert_fails(&without_daemon("fail"), &["can't be reached", "sudo injector start --config lab.yaml"]);
    // Where it was asked to, it skips, and says so.
    let skipped = without_daemon("skip");
    let why = said(&skipped);
    assert!(skipped.status.success() && why.contains("--- SKIP: TestNeedsAPeer"), "{why}");
    assert!(why.contains("sudo injector start --config lab.yaml"), "{why}");

    fixture.server.set(ServerMode::Failing);
    until("the endpoint fails", || {
        fixture.daemon.status().endpoints.iter().any(|endpoint| endpoint.healthy == Some(false)).then_some(())
    });
    let sick = fixture.run(&suite, "TestIsNotHealthyInTime");
    assert!(sick.status.success(), "{}", said(&sick));
    let not_known = "it is not known whether go-unknown settled within 1s";
    let shown = [not_known, "n1→n2: dropped ", "  web@n1: ready –"];
    assert_fails(&fixture.run(&suite, "TestIsNotKnownToRecover"), &shown);
    fixture.assert_nothing_is_cut();
}

/// The programs of the page are those that the module's tests build and run.
#[test]
fn the_page_shows_what_is_tested() {
    let page = std::fs::read_to_string(root().join("docs/clients/go.md")).unwrap();
    let sources: String = ["suite_test.go", "example_test.go"]
        .map(|file| std::fs::read_to_string(module().join(file)).unwrap())
        .concat();
    let blocks: Vec<&str> =
        page.split("```go suite\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(sources.contains(block.trim()), "not in clients/go:\n{block}");
    }
}
