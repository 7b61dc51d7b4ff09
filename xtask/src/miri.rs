//! `cargo xtask miri`: the tests of what is shared with the kernel, interpreted, so that undefined behaviour is found.
//!
//! Miri runs no system call of ours: what touches the kernel is tested in namespaces instead.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;

use crate::command::{check_interrupt, run_for_at_most, run_shown, workspace};
use crate::toolchain::NIGHTLY;

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
    let mut miri = Command::new("rustup");
    miri.args(["run", NIGHTLY, "cargo", "miri", "test", "--package", "injector-common", "--lib"]);
    // A folder of its own: another compiler's artifacts would evict the host's.
    miri.arg("--target-dir").arg(workspace().join("target/miri"));
    run_shown(miri.current_dir(workspace()))?;
    println!("Miri: clean");
    Ok(ExitCode::SUCCESS)
}
