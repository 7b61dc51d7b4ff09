//! `cargo xtask miri`: tests that need no kernel, interpreted, so that undefined behaviour is found: those of what is shared
//! with the kernel, and those by which configs are parsed. `injector-core` itself has no unsafe code, but its YAML parser consists of it, and
//! reads what others wrote.
//!
//! Miri runs no system call of ours: what touches the kernel is tested in namespaces instead.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command::{check_interrupt, output, run_for_at_most, words, workspace};
use crate::toolchain::NIGHTLY;

/// The code that Miri interprets: packages, and a filter of their tests.
const TESTS: [(&str, &str); 2] = [("injector-common", ""), ("injector-core", "config::text_position")];

/// How long the component may take to come.
const PATIENCE: Duration = Duration::from_mins(3);

/// Installs Miri if it can, and runs it. Where it can't be installed the chore is skipped, and says so.
///
/// # Errors
/// Undefined behaviour, or a test that fails.
pub fn miri() -> Result<ExitCode> {
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--no-self-update"]);
    rustup.args(["--component", "miri", "--component", "rust-src"]);
    rustup.env("RUSTUP_MAX_RETRIES", "1").env("RUST_BACKTRACE", "0");
    if let Err(error) = run_for_at_most(PATIENCE, &mut rustup) {
        check_interrupt()?;
        println!(
            "Miri: SKIPPED, nothing was checked: {NIGHTLY} with its component miri can't be installed here ({error:#})"
        );
        return Ok(ExitCode::SUCCESS);
    }
    for (package, filter) in TESTS {
        let mut miri = Command::new("rustup");
        miri.args(["run", NIGHTLY, "cargo", "miri", "test", "--package", package, "--lib"]);
        // A folder of its own: another compiler's artifacts would evict the host's.
        miri.arg("--target-dir").arg(workspace().join("target/miri"));
        // Some tests of configs write files, and the interpreter takes a hundred times as long.
        miri.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "8");
        miri.args(["--", filter]);
        println!("  $ {}", words(&miri));
        let said = output(miri.current_dir(workspace()))?;
        print!("{said}");
        // A filter that no test has any more would interpret nothing.
        ensure!(!said.contains("running 0 tests"), "no test of {package} has {filter} in its name");
    }
    println!("Miri: clean");
    Ok(ExitCode::SUCCESS)
}
