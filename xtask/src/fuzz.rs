//! `cargo xtask fuzz`: libFuzzer on what reads bytes of others, from the stored corpora.
//!
//! Built by plain cargo with the coverage flags that cargo-fuzz gives, so that neither cargo-fuzz nor a nightly
//! is needed. The sanitizers, which do need a nightly, would find nothing: what is fuzzed has no unsafe memory
//! access, and overflows and bounds are checked in this build. `cargo fuzz run parse` works too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

const COVERAGE: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The code that is fuzzed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Target {
    /// The packet parser
    Parse,
    /// Bodies of requests
    Request,
    /// Configs
    Config,
    /// Run directories
    Run,
}

/// Fuzzes one target, or each, for some seconds: as many side by side as there are processors.
///
/// # Errors
/// A crash, which names the file that makes it; or no C++ compiler, which libFuzzer is built with.
pub fn fuzz(target: Option<Target>, seconds: u64) -> Result<()> {
    let one = target.map(|target| vec![target]);
    let mut names = Vec::new();
    for target in one.as_deref().unwrap_or(Target::value_variants()) {
        names.push(target.to_possible_value().context("every target has a name")?.get_name().to_owned());
    }
    let folder = build(&names)?;
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(names.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    // The output of several fuzzers that run at once is shown when they have ended.
    let stderr = if one.is_some() { Stdio::inherit } else { Stdio::piped };
    let lane = || std::iter::from_fn(next).try_for_each(|target| run(&folder, &target, seconds, stderr()));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        // Each is waited for, also after one has failed.
        let ended: Vec<Result<()>> =
            lanes.into_iter().map(|lane| lane.join().expect("a lane does not panic")).collect();
        ended.into_iter().collect()
    })
}

/// Builds targets; answers where they are.
fn build(targets: &[String]) -> Result<PathBuf> {
    let fuzz = root().join("fuzz");
    let host = host()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target", &host]);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
    cargo.arg("--manifest-path").arg(fuzz.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(fuzz.join("target"));
    let status = cargo
        .env("RUSTFLAGS", COVERAGE)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo does not run")?;
    if !status.success() {
        bail!(
            "the fuzz target does not build; what cargo says above is why, most often a C++ compiler that is missing"
        );
    }
    Ok(fuzz.join("target").join(host).join("release"))
}

/// Fuzzes for some seconds; what it finds beyond the stored corpus stays in `fuzz/target`, a crash in
/// `fuzz/artifacts`.
fn run(programs: &Path, target: &str, seconds: u64, stderr: Stdio) -> Result<()> {
    println!("Fuzzing: {target}");
    let fuzz = root().join("fuzz");
    let found = fuzz.join("target/found").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("no folder {}", folder.display()))?;
    }
    let output = Command::new(programs.join(target))
        // The first folder is written to; the stored one is only read.
        .arg(&found)
        .arg(fuzz.join("corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-max_len=65536", "-timeout=25", "-print_final_stats=1"])
        .stderr(stderr)
        .output()
        .context("the fuzz target does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{said}");
        bail!("{target} fails on an input under {}; add it to fuzz/corpus/{target}", artifacts.display());
    }
    let figures: Vec<&str> = said.lines().filter(|line| line.starts_with("stat::")).collect();
    println!("Fuzzed: {target}\n{}", figures.join("\n"));
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc does not run")?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc -vV names no host")?.to_owned())
}
