//! `cargo xtask test`: the tests that this machine can run, with one count at the end.
//!
//! What a test needs it declares itself, by `#[needs(…)]`. From that this chore knows, before it builds anything, what to
//! install, what to build, who runs as root (through sudo if it is there), and which tests have the machine to
//! themselves. A test that finds out by itself that it can't run here appends a line `SKIP <test>: <reason>` to the
//! file that [`injector_lab::SKIP_LOG`] names.
//!
//! Most of their time tests wait, for a heal or for a back-off: programs run side by side. Then come the tests that need a quiet
//! machine, one for each processor, and at the end those that measure, one at a time.

use std::collections::{BTreeSet, VecDeque};
use std::process::{Command, ExitCode};

use anyhow::Result;
use injector_lab::SKIP_LOG;

use crate::build::{Artifact, artifacts, cargo};
use crate::command::{as_root, find_program, is_root, output};
use crate::form::Form;
use crate::setup::{self, Need};

pub mod catalog;
mod count;
mod declared;
mod lanes;
mod source;

use catalog::Target;
pub use count::Count;
use count::SkipLog;
use declared::{Beside, Test};
use lanes::run_all;

/// How many programs run side by side. With three, the heaviest of them would meet: suites that start many processes each.
const LANES: usize = 2;

/// How many tests a program runs at once for each processor, if they wait for most of their time: for the end of a cut, for a
/// back-off, or for what the kernel does in its own time. One of them uses a sixth of a processor. Recoveries that a test
/// expects to be judged are not among them: on a machine that is too busy, the daemon can't send its probes in time.
const WAITING_TESTS_PER_PROCESSOR: usize = 2;

/// What a user may have set for programs of their own: how they print, which daemon they ask, what the examples are told. Tests
/// set those of them that they are about.
const NOT_FOR_TESTS: [&str; 20] = [
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
    "NO_COLOR",
    "INJECTOR_HOST",
    "INJECTOR_LOG",
    "INJECTOR_SOCKET",
    "NOTIFY_SOCKET",
    "PYTEST_ADDOPTS",
    "PYTHONPATH",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "CLIENT",
    "DEADLINE",
    "HOLD",
    "INJECTOR",
    "PATIENCE",
    "SHAPES",
    "TEST",
];

/// The options of the chore.
#[derive(clap::Args)]
pub struct Options {
    /// Only tests with this in their name or in that of their program: `netns_cut`, `netns_cut::a_cut_by_clsact`,
    /// `by_clsact`. Nothing is installed or built that they do not need
    filter: Option<String>,
    /// Also the tests that take many minutes, and more cases where tests draw them
    #[arg(long)]
    long: bool,
    /// Name the tests, with what they need, and run none
    #[arg(long)]
    list: bool,
}

/// Builds and runs the tests.
pub fn test(options: &Options) -> Result<ExitCode> {
    let targets = catalog::read()?;
    let chosen = catalog::select(&targets, options.filter.as_deref())?;
    if options.list {
        list(&chosen);
        return Ok(ExitCode::SUCCESS);
    }
    let form = if options.long { Form::Long } else { Form::Usual };
    install(&chosen)?;
    let log = SkipLog::create()?;
    let run = Run { form, log, is_whole: options.filter.is_none() };
    let built = if run.is_whole { build_all()? } else { build(&chosen)? };
    let mut count = Count::default();

    let mut programs = paired(&chosen, &built, &mut count);
    // The slowest programs begin first, so that no lane waits for one of them at the end.
    programs.sort_by_key(|(target, _)| std::cmp::Reverse(target.minutes()));
    let (mut together, mut quiet, mut alone) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    for (target, artifact) in programs {
        if run.is_whole {
            compare(&target, artifact, &mut count)?;
        }
        if let Some(rest) = target.with(|test| test.needs.beside == Beside::Any) {
            let mut command = run.command(&rest, &target, artifact)?;
            if rest.waits() {
                command.arg(format!("--test-threads={}", processors() * WAITING_TESTS_PER_PROCESSOR));
            }
            together.push_back((named(&rest, ""), command));
        }
        let measuring = [
            (target.with(|test| test.needs.beside == Beside::Quiet), &mut quiet, ", quiet"),
            (target.with(|test| test.needs.beside == Beside::None), &mut alone, ", alone"),
        ];
        for (some, programs, how) in measuring {
            let Some(some) = some else { continue };
            let mut command = run.command(&some, &target, artifact)?;
            command.arg("--test-threads=1");
            programs.push_back((named(&some, how), command));
        }
    }
    if run.is_whole {
        let mut documentation = cargo();
        documentation.args(["test", "--workspace", "--doc", "--quiet"]).env(SKIP_LOG, &run.log.path);
        without_the_users_variables(&mut documentation);
        together.push_back(("the documentation".to_owned(), documentation));
    }
    run_all(together, LANES, &mut count)?;
    run_all(quiet, processors(), &mut count)?;
    run_all(alone, 1, &mut count)?;

    count.take_skips(&run.log)?;
    Ok(count.report())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn named(target: &Target, how: &str) -> String {
    format!("{} ({}{how})", target.name, target.kind)
}

/// Installs what the tests need, and no more.
fn install(chosen: &[Target]) -> Result<()> {
    let mut needs = Vec::new();
    if chosen.iter().any(|target| target.is_ebpf) {
        needs.push(Need::Build);
    }
    if chosen.iter().any(Target::needs_root) {
        needs.push(Need::Network);
    }
    setup::setup(&needs)?;
    let tests = chosen.iter().flat_map(|target| &target.tests);
    let programs: BTreeSet<&str> = tests.flat_map(|test| &test.needs.programs).map(String::as_str).collect();
    setup::programs(&programs)
}

/// Builds every test of the workspace.
fn build_all() -> Result<Vec<Artifact>> {
    artifacts(cargo().args(["test", "--workspace", "--no-run"]))
}

/// Builds these programs alone, and the examples that their tests run.
fn build(chosen: &[Target]) -> Result<Vec<Artifact>> {
    let packages: BTreeSet<&str> = chosen.iter().map(|target| target.package.as_str()).collect();
    let mut built = Vec::new();
    for package in packages {
        let mut command = cargo();
        command.args(["test", "--no-run", "--package", package]);
        let targets: Vec<&Target> = chosen.iter().filter(|target| target.package == package).collect();
        let examples = targets.iter().flat_map(|target| &target.tests).flat_map(|test| &test.needs.examples);
        for example in examples.collect::<BTreeSet<_>>() {
            command.args(["--example", example]);
        }
        for target in targets {
            command.args(target.arguments());
        }
        built.extend(artifacts(&mut command)?);
    }
    Ok(built)
}

/// Each target with its built program.
fn paired<'a>(chosen: &[Target], built: &'a [Artifact], count: &mut Count) -> Vec<(Target, &'a Artifact)> {
    let mut pairs = Vec::new();
    for target in chosen.iter().filter(|target| !target.tests.is_empty()) {
        let same = |artifact: &&Artifact| {
            artifact.is_test
                && artifact.package == target.folder
                && artifact.name == target.name
                && artifact.kind == target.kind
        };
        match built.iter().find(same) {
            Some(artifact) => pairs.push((target.clone(), artifact)),
            None => count.fail(format!("cargo has built no tests of {} ({})", target.name, target.kind)),
        }
    }
    pairs
}

/// Whether the source and the built program have the same tests: else declarations would be overlooked.
fn compare(target: &Target, artifact: &Artifact, count: &mut Count) -> Result<()> {
    let listed = output(Command::new(&artifact.executable).args(["--list", "--format=terse"]))?;
    let built: BTreeSet<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let read: BTreeSet<&str> = target.tests.iter().map(|test| test.path.as_str()).collect();
    for path in built.symmetric_difference(&read) {
        let where_ = if built.contains(path) { "built, but not found in the source" } else { "not built" };
        count.fail(format!("{}::{path} is {where_}; see xtask/src/test/source.rs", target.name));
    }
    Ok(())
}

/// The settings that all programs of a run share.
struct Run {
    form: Form,
    log: SkipLog,
    is_whole: bool,
}

impl Run {
    /// The command that runs some tests of a target.
    fn command(&self, some: &Target, all: &Target, artifact: &Artifact) -> Result<Command> {
        let package = &artifact.package;
        // Without sudo, tests that need root skip themselves.
        let mut command = if some.needs_root() && !is_root() && find_program("sudo").is_some() {
            let mut command = as_root("env")?;
            // sudo cleans the environment.
            for (name, value) in self.form.variables() {
                command.arg(format!("{name}={value}"));
            }
            command.arg(format!("{SKIP_LOG}={}", self.log.path.display()));
            command.arg(format!("CARGO_MANIFEST_DIR={}", package.display()));
            command.arg(&artifact.executable);
            command
        } else {
            Command::new(&artifact.executable)
        };
        without_the_users_variables(&mut command);
        self.form.set(&mut command);
        command.env("CARGO_MANIFEST_DIR", package).env(SKIP_LOG, &self.log.path).current_dir(package);
        if some.tests.len() < all.tests.len() || !self.is_whole {
            command.arg("--exact").args(some.tests.iter().map(|test| &test.path));
        }
        Ok(command)
    }
}

fn without_the_users_variables(command: &mut Command) {
    for name in NOT_FOR_TESTS {
        command.env_remove(name);
    }
}

/// Names every test with what it needs.
fn list(chosen: &[Target]) {
    for target in chosen {
        for test in &target.tests {
            println!("{}{}", target.full_path(test), in_words(test, target));
        }
    }
}

fn in_words(test: &Test, target: &Target) -> String {
    let needs = &test.needs;
    let flags = [
        (target.is_ebpf, "the eBPF toolchain"),
        (needs.root, "root"),
        (needs.beside == Beside::Quiet, "a quiet machine"),
        (needs.beside == Beside::None, "the machine alone"),
    ];
    let flags = flags.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned());
    let minutes = (needs.minutes > 0).then(|| format!("{} min", needs.minutes));
    let words =
        flags.chain(needs.programs.iter().cloned()).chain(needs.examples.iter().cloned()).chain(minutes);
    let words: Vec<String> = words.collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}
