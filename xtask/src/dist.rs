//! `cargo xtask dist`: what users install, in `target/packages`.
//!
//! A static binary (musl, so that it runs on systems older than this one), a Debian package, a tarball, their checksums, and
//! a list of what is in the binary.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::build::cargo;
use crate::command::{output, run_shown, workspace};
use crate::setup::{self, Need};

mod booted;
mod layout;
mod package;
mod sbom;
mod trial;

use layout::Parts;

/// The most that the binary may weigh.
const MOST_BYTES: u64 = 15_000_000;

/// Has the linker write the addresses that a start adjusts as a bitmap, which is 0.3 MB smaller (binutils 2.38, musl 1.2.4).
const COMPACT: &str = "-Wl,-z,pack-relative-relocs";

/// What to do beside building.
#[derive(clap::Args)]
pub struct Options {
    /// Also install, run, upgrade and purge the package in a clean Debian below target/ (debootstrap, as root)
    #[arg(long)]
    try_package: bool,
    /// Leave the binary as it was built last
    #[arg(long)]
    no_build: bool,
}

pub fn dist(options: &Options) -> Result<()> {
    setup::setup(&[Need::Build, Need::Dist])?;
    let folder = workspace().join("target/packages");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let parts = parts(&folder, options)?;
    let deb = package::deb(&parts, &folder, &parts.version)?;
    let tarball = package::tarball(&parts, &folder)?;
    let mut sums = String::new();
    for file in [&deb, &tarball, &parts.sbom] {
        let name = file.file_name().context("a package has a name")?;
        sums += &output(Command::new("sha256sum").arg(name).current_dir(&folder))?;
        println!("{}", file.display());
    }
    let file = folder.join("SHA256SUMS");
    fs::write(&file, sums).with_context(|| format!("writing {}", file.display()))?;
    println!("{}", file.display());
    if options.try_package {
        trial::run(&parts, &deb, &folder)?;
    }
    Ok(())
}

fn parts(folder: &Path, options: &Options) -> Result<Parts> {
    let (architecture, triple) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "x86_64-unknown-linux-musl"),
        "aarch64" => ("arm64", "aarch64-unknown-linux-musl"),
        other => anyhow::bail!(
            "there is no package for {other}; `cargo build --release -p injector` builds for this machine"
        ),
    };
    let binary = workspace().join("target").join(triple).join("dist/injector");
    if !options.no_build {
        let flags = format!("target.{triple}.rustflags=['-Clink-arg={COMPACT}']");
        run_shown(cargo().args(["build", "--package", "injector", "--bin", "injector"]).args([
            "--profile",
            "dist",
            "--target",
            triple,
            "--config",
            &flags,
        ]))?;
    }
    checked(&binary)?;
    let manuals = folder.join("manuals");
    run_shown(
        cargo().args(["run", "--quiet", "--package", "injector", "--example", "manuals", "--"]).arg(&manuals),
    )?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let sbom = sbom::write(folder, &version, triple)?;
    Ok(Parts { version, architecture, binary, manuals, sbom })
}

/// Refuses a binary that would not run elsewhere, or is larger than promised.
fn checked(binary: &Path) -> Result<()> {
    let size = fs::metadata(binary).with_context(|| format!("{} was not built", binary.display()))?.len();
    ensure!(size < MOST_BYTES, "{} has {size} bytes, and may have {MOST_BYTES}", binary.display());
    let headers =
        output(Command::new("readelf").args(["--program-headers", "--dynamic", "--wide"]).arg(binary))?;
    ensure!(
        !headers.contains("INTERP") && !headers.contains("(NEEDED)"),
        "{} needs libraries of the system that it runs on:\n{headers}",
        binary.display()
    );
    let said = output(Command::new(binary).arg("--version"))?;
    println!("{}: {:.1} MB, {}", binary.display(), size as f64 / 1e6, said.trim());
    Ok(())
}
