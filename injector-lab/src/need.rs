//! The needs of tests, and the log of tests that could not run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The environment variable with the file that tests which skip themselves append a line to.
pub const SKIP_LOG: &str = "INJECTOR_SKIP_LOG";

/// Debian packages that are unpacked for tests and never installed, in a folder by program, below the workspace.
pub const UNPACKED: &str = "target/unpacked";

/// The guest that tests boot in QEMU, below the workspace: the set-up of `cargo xtask test` puts it there.
pub const GUESTS: &str = "target/guests";

/// The program in [`GUESTS`] that starts one.
pub const BOOT_GUEST: &str = "boot-guest";

/// The environment variable that lets tests of many minutes run.
const LONG: &str = "INJECTOR_LONG";

/// A test that takes this many minutes, or more, runs in the long form only.
pub const LONG_MINUTES: u32 = 5;

/// Names the groups of a test program, in its root file: `kernels` for what `cargo xtask vm` runs on another kernel, `timed`
/// for what measures times that an emulated machine can't keep, `waits` for tests that wait for most of their time. `cargo
/// xtask` reads it from the source.
#[macro_export]
macro_rules! group {
    (@kernels) => {};
    (@timed) => {};
    (@waits) => {};
    ($($group:ident),+) => { $($crate::group!(@$group);)+ };
}

/// The needs of a test. The attribute [`crate::needs`] makes this value; `cargo xtask test` reads the same
/// attribute from the source, so that it installs and builds that much and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Root, for namespaces and eBPF.
    pub root: bool,
    /// A kernel with TCX, from Linux 6.6 on.
    pub tcx: bool,
    /// The machine to itself, because it measures, or a quiet one: no test of the same process runs beside it.
    pub alone: bool,
    /// About so many minutes; from [`LONG_MINUTES`] on it runs in the long form only.
    pub minutes: u32,
    /// Programs on PATH.
    pub programs: &'static [&'static str],
    /// Examples of its package, built.
    pub examples: &'static [&'static str],
}

/// A test's turn: until it is dropped, no test of this process that needs the machine to itself runs beside it.
#[derive(Debug)]
pub struct Turn {
    _together: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

/// Waits for a test's turn. Where something is missing that this machine does not have, logs that the test is skipped,
/// and returns `None`.
///
/// # Panics
/// Something is missing that cargo would have built.
pub fn meet(test: &str, needs: &Needs) -> Option<Turn> {
    static TURNS: RwLock<()> = RwLock::new(());
    if let Some(reason) = missing(needs) {
        skip(test, &reason);
        return None;
    }
    for example in needs.examples {
        let program = example_program(example);
        let built = program.is_some_and(|program| program.exists());
        assert!(built, "{test} needs an example: cargo build -p injector --example {example}");
    }
    // A test that failed in its turn leaves nothing behind that matters here.
    Some(if needs.alone {
        Turn { _together: None, _alone: Some(TURNS.write().unwrap_or_else(PoisonError::into_inner)) }
    } else {
        Turn { _together: Some(TURNS.read().unwrap_or_else(PoisonError::into_inner)), _alone: None }
    })
}

/// Why a test can't run here, if it can't.
fn missing(needs: &Needs) -> Option<String> {
    if needs.root && !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if needs.tcx && !has_tcx() {
        return Some("this kernel has no TCX (Linux 6.6 brought it)".to_owned());
    }
    if needs.minutes >= LONG_MINUTES && std::env::var_os(LONG).is_none() {
        return Some(format!("takes {} minutes; `cargo xtask test --long` runs it", needs.minutes));
    }
    let program = needs.programs.iter().find(|name| program(name).is_none())?;
    Some(format!("there is no {program}; `cargo xtask test` installs what the tests that it runs need"))
}

/// The path of a program: on PATH, or in this workspace, where its set-up puts a program whose installation
/// would start a server.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    // Beside the program that it is named by, a tree may have others.
    let unpacked = std::fs::read_dir(workspace.join(UNPACKED)).into_iter().flatten().flatten();
    let unpacked = unpacked.flat_map(|tree| ["usr/bin", "usr/sbin"].map(|folder| tree.path().join(folder)));
    let folders = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(unpacked)
        .chain([workspace.join(GUESTS)]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The path where cargo builds an example of the running test's package.
fn example_program(example: &str) -> Option<PathBuf> {
    // target/debug/deps/test-0123 → target/debug/examples/…
    let profile = std::env::current_exe().ok()?.parent()?.parent()?.to_path_buf();
    Some(profile.join("examples").join(example))
}

/// Logs that a test did not run, for the count of `cargo xtask test`.
///
/// # Panics
/// The log can't be written.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
    if let Some(path) = std::env::var_os(SKIP_LOG) {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        let written = log.and_then(|mut log| writeln!(log, "SKIP {test}: {reason}"));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The version of the running kernel.
///
/// # Panics
/// The kernel's release does not begin with two numbers.
pub fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { panic!("a kernel {release}") };
    (major, minor)
}

/// Whether the running kernel has TCX, by its version: the injector's own probing is under test.
pub fn has_tcx() -> bool {
    kernel_version() >= (6, 6)
}
