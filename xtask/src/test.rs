//! `cargo xtask test`: every test that this machine can run, with one count at the end.
//!
//! Tests are built as the user. Integration tests whose file is named `netns_*` or `kernel_*` need root: they run
//! as root, through sudo if it is there, and are otherwise skipped by name. A test that finds out by itself that it
//! can't run here appends a line `SKIP <test>: <reason>` to the file that [`SKIP_LOG`] names.
//!
//! Most of their time tests wait, for a heal or for a back-off: programs run side by side, but for those that
//! measure.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::build::{Artifact, artifacts, cargo};
use crate::command::{as_root, check_interrupt, find_program, is_root, output, words};
use crate::setup::{Need, setup};

/// The environment variable with the file that tests append their skips to.
pub const SKIP_LOG: &str = "INJECTOR_SKIP_LOG";

/// How files of tests that need root are named.
const PRIVILEGED: [&str; 2] = ["netns_", "kernel_"];

/// Test programs that hold what they measure against a bound: they get the machine to themselves.
const ALONE: [&str; 6] =
    ["kernel_model", "netns_client", "netns_exact", "netns_planted", "netns_verify", "report_large"];

/// The one that takes longest: it is begun first, so that no lane waits for it alone.
const LONGEST: &str = "netns_campaign";

/// How many of the other programs run side by side. Each runs as many tests at once as there are processors.
const LANES: usize = 2;

/// Builds and runs the tests.
pub fn test(filter: Option<&str>) -> Result<ExitCode> {
    setup(&[Need::Build, Need::Network, Need::Services, Need::Browser])?;
    let log = SkipLog::create()?;
    let mut count = Count::default();

    let mut tests = artifacts(cargo().args(["test", "--workspace", "--no-run"]))?;
    tests.retain(|test| test.is_test && test.kind != "example");
    let (mut alone, mut together) = (VecDeque::new(), VecDeque::new());
    for test in &tests {
        if is_privileged(test) && !is_root() && find_program("sudo").is_none() {
            skip_all(test, filter, &mut count)?;
            continue;
        }
        let mut command = command(test, &log)?;
        command.args(filter).current_dir(&test.package);
        let queue = if ALONE.contains(&test.name.as_str()) { &mut alone } else { &mut together };
        let named = (format!("{} ({})", test.name, test.kind), command);
        if test.name == LONGEST { queue.push_front(named) } else { queue.push_back(named) }
    }
    let mut documentation = cargo();
    documentation.args(["test", "--workspace", "--doc", "--quiet", "--"]).args(filter);
    documentation.env(SKIP_LOG, &log.path);
    together.push_back(("the documentation".to_owned(), documentation));
    run_all(together, LANES, &mut count)?;
    run_all(alone, 1, &mut count)?;

    count.take_skips(&log)?;
    Ok(count.tell())
}

fn is_privileged(test: &Artifact) -> bool {
    test.kind == "test" && is_privileged_name(&test.name)
}

/// Whether a file of tests with this name needs root.
pub fn is_privileged_name(name: &str) -> bool {
    PRIVILEGED.iter().any(|prefix| name.starts_with(prefix))
}

fn command(test: &Artifact, log: &SkipLog) -> Result<Command> {
    let mut command = if is_privileged(test) && !is_root() {
        let mut command = as_root("env")?;
        // sudo cleans the environment.
        for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("INJECTOR_")) {
            command.arg(format!("{name}={value}"));
        }
        command.arg(format!("{SKIP_LOG}={}", log.path.display()));
        command.arg(format!("CARGO_MANIFEST_DIR={}", test.package.display()));
        command.arg(&test.executable);
        command
    } else {
        Command::new(&test.executable)
    };
    command.env("CARGO_MANIFEST_DIR", &test.package).env(SKIP_LOG, &log.path);
    Ok(command)
}

/// Names every test of a file that can't run.
fn skip_all(test: &Artifact, filter: Option<&str>, count: &mut Count) -> Result<()> {
    let list = output(Command::new(&test.executable).args(["--list", "--format=terse"]).args(filter))?;
    for name in list.lines().filter_map(|line| line.strip_suffix(": test")) {
        count.skips.push(format!("{}::{name}: needs root, and there is no sudo", test.name));
        count.skipped += 1;
    }
    Ok(())
}

/// Runs programs in so many lanes. What one says is shown when it has ended, in one piece.
fn run_all(programs: VecDeque<(String, Command)>, lanes: usize, count: &mut Count) -> Result<()> {
    let programs = Mutex::new(programs);
    let count = Mutex::new(count);
    // A lane that panicked left whole values behind.
    let next = || programs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let lane = || {
        while let Some((name, mut command)) = next() {
            check_interrupt()?;
            println!("Tests of {name} begin");
            let said = run(&mut command)?;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            println!("\nTests of {name}\n{}", said.text);
            count.take(&said, &command);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
    })
}

/// What a test program said.
struct Said {
    text: String,
    succeeded: bool,
    status: String,
}

fn run(command: &mut Command) -> Result<Said> {
    // What tests print beside libtest is on standard error, and belongs to no count.
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{}`", words(command)))?;
    Ok(Said {
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        succeeded: output.status.success(),
        status: output.status.to_string(),
    })
}

/// The results of many test programs.
#[derive(Default)]
pub struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
    skips: Vec<String>,
    failures: Vec<String>,
}

impl Count {
    /// Adds up the results of one test program.
    fn take(&mut self, said: &Said, command: &Command) {
        let failed: usize = said.text.lines().map(|line| self.line(line)).sum();
        // A program that died has not told which of its tests failed.
        if !said.succeeded && failed == 0 {
            self.fail(format!("`{}` ({})", words(command), said.status));
        }
    }

    /// Takes in a line of libtest's output; answers the failures that it adds.
    pub fn line(&mut self, line: &str) -> usize {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| -> usize {
                let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
                part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
            };
            let failed = number("failed");
            self.passed += number("passed");
            self.failed += failed;
            self.skipped += number("ignored");
            return failed;
        }
        if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... ")) {
            match outcome.split_once(", ").map_or((outcome, "ignored"), |(outcome, reason)| (outcome, reason))
            {
                ("ignored", reason) => self.skips.push(format!("{name}: {reason}")),
                ("FAILED", _) => self.failures.push(name.to_owned()),
                _ => {}
            }
        }
        0
    }

    /// Counts what libtest has not counted.
    pub fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }

    /// A test that skipped itself has passed by libtest's count, but not by ours.
    pub fn skip(&mut self, line: &str) {
        self.skips.push(line.strip_prefix("SKIP ").unwrap_or(line).to_owned());
        self.skipped += 1;
        self.passed = self.passed.saturating_sub(1);
    }

    /// Whether no test has run.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// Names what was skipped and what failed, then the numbers; the exit code is theirs.
    pub fn tell(&self) -> ExitCode {
        println!();
        for line in &self.skips {
            println!("SKIP {line}");
        }
        for name in &self.failures {
            println!("FAILED {name}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn take_skips(&mut self, log: &SkipLog) -> Result<()> {
        let text =
            std::fs::read_to_string(&log.path).with_context(|| format!("reading {}", log.path.display()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.skip(line);
        }
        Ok(())
    }
}

/// The file that tests append to; removed at the end.
struct SkipLog {
    path: PathBuf,
}

impl SkipLog {
    fn create() -> Result<Self> {
        let folder = crate::command::workspace().join("target");
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join(format!("skipped-tests-{}.log", std::process::id()));
        std::fs::write(&path, "").with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        // Nobody reads a log that stays behind.
        let _ = std::fs::remove_file(Path::new(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test b ... FAILED",
            "test c ... ignored, needs a kernel module",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.10s",
        ] {
            count.line(line);
        }
        assert_eq!((count.passed, count.failed, count.skipped), (13, 1, 1));
        assert_eq!(count.skips, ["c: needs a kernel module"]);
        assert_eq!(count.failures, ["b"]);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let mut count = Count::default();
        let program = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            (script.to_owned(), command)
        };
        let programs = [program("echo 'running 1 test'; kill -9 $$"), program("exit 0")];
        run_all(programs.into(), 2, &mut count).unwrap();
        assert_eq!((count.passed, count.failed), (0, 1));
    }

    #[test]
    fn a_logged_skip_is_no_pass() {
        let log = SkipLog::create().unwrap();
        std::fs::write(&log.path, "SKIP vlan: no 802.1Q devices\n").unwrap();
        let mut count = Count { passed: 5, ..Count::default() };
        count.take_skips(&log).unwrap();
        assert_eq!((count.passed, count.skipped), (4, 1));
        assert_eq!(count.skips, ["vlan: no 802.1Q devices"]);
    }
}
