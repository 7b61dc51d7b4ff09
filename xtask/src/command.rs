//! Running other programs, and stopping when the user does.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::toolchain::OVERRIDE;

/// The user has asked to stop (Ctrl-C, SIGTERM, SIGHUP).
#[derive(Debug)]
pub struct Interrupted;

impl Interrupted {
    /// Whether this is why something failed, here or in a lab.
    pub fn is(error: &anyhow::Error) -> bool {
        error.is::<Self>() || matches!(error.downcast_ref(), Some(injector_lab::Error::Interrupted))
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Set for the part of a chore that runs as root: the folder with what the user has built before.
pub const BUILT: &str = "INJECTOR_BUILT";

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on a signal is a request that [`check_interrupt`] and [`pause`] answer, so that `Drop`s run.
pub fn watch_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("registering a signal handler")?;
    }
    Ok(())
}

/// Whether a signal came.
pub fn is_interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Fails with [`Interrupted`] once a signal came.
pub fn check_interrupt() -> Result<()> {
    if is_interrupted() { Err(Interrupted.into()) } else { Ok(()) }
}

/// Sleeps, unless a signal comes.
pub fn pause(span: Duration) -> Result<()> {
    let end = Instant::now() + span;
    loop {
        check_interrupt()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// A command's words as a user would type them.
pub fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command with this terminal; its failure is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", words(command)))?;
    check_interrupt()?;
    ensure!(status.success(), "`{}` failed ({status})", words(command));
    Ok(())
}

/// Runs a command and shows it first, as set-up does with everything that changes the machine.
pub fn run_shown(command: &mut Command) -> Result<()> {
    println!("  $ {}", words(command));
    run(command)
}

/// Runs a command quietly; answers its standard output. Its failure is an error with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting `{}`", words(command)))?;
    ensure!(
        output.status.success(),
        "`{}` failed ({}): {}",
        words(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that may hang; kills it when its time is over.
pub fn run_for_at_most(limit: Duration, command: &mut Command) -> Result<()> {
    println!("  $ {}", words(command));
    let mut child = command.spawn().with_context(|| format!("starting `{}`", words(command)))?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for `{}`", words(command)))? {
            ensure!(status.success(), "`{}` failed ({status})", words(command));
            return Ok(());
        }
        if Instant::now() > end || check_interrupt().is_err() {
            // The child may have ended in this moment; either way it is gone after `wait`.
            let _ = child.kill();
            let _ = child.wait();
            check_interrupt()?;
            bail!("`{}` took longer than {} s", words(command), limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and can't fail.
    unsafe { libc::geteuid() == 0 }
}

/// Where a program is on PATH, or in the folders of system tools that a user's PATH may lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A command that runs as root: itself, or through sudo.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    ensure!(
        find_program("sudo").is_some(),
        "`{}` needs root, and there is no sudo: run this as root",
        program.as_ref().to_string_lossy()
    );
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// If this process is not root: runs this very program again through sudo, with the same arguments, the user's
/// folders and what has been `built`, and answers its exit code.
pub fn again_as_root(built: &Path) -> Result<Option<ExitCode>> {
    if is_root() {
        return Ok(None);
    }
    let exe = std::env::current_exe().context("finding this program")?;
    let assign = |name: &str, value: &OsStr| {
        let mut assignment = OsString::from(format!("{name}="));
        assignment.push(value);
        assignment
    };
    // sudo cleans the environment, but caches and toolchains are the user's.
    let kept = ["HOME", "PATH", "XDG_CACHE_HOME", "RUSTUP_HOME", "CARGO_HOME", OVERRIDE]
        .into_iter()
        .filter_map(|name| Some(assign(name, &std::env::var_os(name)?)));
    let mut again = Command::new("env");
    again.args(kept).arg(assign(BUILT, built.as_os_str())).arg(exe).args(std::env::args_os().skip(1));
    ensure!(
        find_program("sudo").is_some(),
        "network namespaces and eBPF need root, and there is no sudo; as root, run: {}",
        words(&again)
    );
    println!("Network namespaces and eBPF need root: continuing with sudo.");
    let mut sudo = Command::new("sudo");
    let status = sudo.arg(again.get_program()).args(again.get_args()).status().context("starting sudo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(code.map_or(ExitCode::FAILURE, ExitCode::from)))
}

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}
