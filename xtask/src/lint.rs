//! `cargo xtask lint`: everything that must be clean before a commit.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::build::cargo;
use crate::circles::check_circles;
use crate::command::{check_interrupt, find_program, output, run_shown, workspace};
use crate::handbook::check_handbook;
use crate::layers::check_layers;
use crate::setup::{Need, has_clippy, setup};
use crate::toolchain;

/// Runs every lint, also after one has failed.
pub fn lint() -> Result<ExitCode> {
    setup(&[Need::Build, Need::Lint])?;
    let mut failed = Vec::new();
    let mut check = |name: &'static str, run: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        println!("Lint: {name}");
        if let Err(error) = run() {
            check_interrupt()?;
            eprintln!("{error:#}");
            failed.push(name);
        }
        Ok(())
    };

    check("format", &mut || run_shown(cargo().args(["fmt", "--all", "--check"])))?;
    let mut host = cargo();
    host.args(["clippy", "--workspace", "--exclude", "injector-ebpf", "--all-targets"]);
    host.args(["--", "--deny", "warnings"]);
    check("clippy", &mut || run_shown(&mut host))?;
    match ebpf_clippy() {
        Ok(mut clippy) => check("clippy of the eBPF programs", &mut || run_shown(&mut clippy))?,
        Err(reason) => println!("Lint: clippy of the eBPF programs is skipped: {reason}"),
    }
    check("layers", &mut check_layers)?;
    check("circles of files", &mut check_circles)?;
    if find_program("mdbook").is_some() {
        check("the handbook as a book", &mut check_handbook)?;
    } else {
        println!("Lint: the handbook as a book is skipped: there is no mdbook (cargo install mdbook)");
    }
    // These packages are no members of the workspace: nothing else notices that their lock file is behind.
    for (what, manifest) in [
        ("the fuzz targets' lock file", "fuzz/Cargo.toml"),
        ("the lock file of the suite outside the workspace", "clients/rust/Cargo.toml"),
    ] {
        let mut metadata = cargo();
        metadata.args(["metadata", "--locked", "--format-version=1", "--manifest-path", manifest]);
        check(what, &mut || output(&mut metadata).map(drop))?;
    }
    if find_program("cargo-deny").is_some() {
        check("licences and sources", &mut || {
            run_shown(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
        })?;
        // The database of advisories is downloaded: without a network nothing is known, and that is said.
        let mut fetch = cargo();
        if run_shown(fetch.args(["deny", "fetch", "db"])).is_ok() {
            check("advisories", &mut || {
                run_shown(cargo().args(["deny", "--offline", "check", "advisories"]))
            })?;
        } else {
            check_interrupt()?;
            println!("Lint: advisories are NOT checked: their database can't be downloaded here");
        }
    } else {
        println!("Lint: licences and sources are skipped: there is no cargo-deny (cargo install cargo-deny)");
    }
    if find_program("cargo-audit").is_some() {
        // Lock files outside the workspace, too, which cargo-deny does not know.
        for lock in ["Cargo.lock", "fuzz/Cargo.lock", "clients/rust/Cargo.lock"] {
            match audit(lock)? {
                Audited::Clean => println!("Lint: cargo audit of {lock}: clean"),
                Audited::Vulnerable(report) => {
                    check("cargo audit", &mut || anyhow::bail!("{lock} has vulnerable packages: {report}"))?;
                }
                Audited::Unknown(why) => {
                    check_interrupt()?;
                    println!("Lint: {lock} is NOT audited: {why}");
                    break;
                }
            }
        }
    } else {
        println!("Lint: cargo audit is skipped: there is no cargo-audit (cargo install cargo-audit)");
    }

    if failed.is_empty() {
        println!("Lint: clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("Lint: not clean: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The result of `cargo audit` for a lock file.
enum Audited {
    /// No advisory names one of its packages.
    Clean,
    /// Advisories name some of its packages; the report.
    Vulnerable(String),
    /// The audit was not made, for want of its database; the reason.
    Unknown(String),
}

fn audit(lock: &str) -> Result<Audited> {
    let mut audit = cargo();
    audit.args(["audit", "--json", "--file", lock]).current_dir(workspace());
    let found = audit.output().context("starting cargo audit")?;
    let report = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    // cargo audit fails for both reasons, and prints a report only after an audit.
    Ok(if found.status.success() {
        Audited::Clean
    } else if report.starts_with('{') {
        Audited::Vulnerable(report)
    } else {
        Audited::Unknown(String::from_utf8_lossy(&found.stderr).trim().to_owned())
    })
}

/// clippy of the toolchain that builds the programs, or why it can't be run.
fn ebpf_clippy() -> Result<Command, String> {
    let found = toolchain::find()?;
    if !has_clippy(&found.name) {
        return Err(format!("the toolchain `{}` has no clippy", found.name));
    }
    let mut clippy = Command::new("rustup");
    clippy.args(["run", &found.name, "cargo", "clippy", "--package", "injector-ebpf", "--bins"]);
    clippy.args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--release"]);
    // A folder of its own: another compiler's artifacts would evict the host's.
    clippy.arg("--target-dir").arg(workspace().join("target/ebpf-lint"));
    clippy.args(["--", "--deny", "warnings"]).current_dir(workspace());
    // The programs are compiled as aya-build does it.
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    clippy.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", arch);
    Ok(clippy)
}
