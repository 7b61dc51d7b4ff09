//! The real daemon on real namespaces, as root.

pub mod daemon;
pub mod foreign;
#[path = "../kernel.rs"]
pub mod kernel;
pub mod lab;
pub mod tap;
pub mod traffic;

/// Whether these tests can run here; if not, it is logged for the count of `cargo xtask test`.
pub fn can_run(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip(test, "needs root");
    false
}

/// Logs that a test did not run.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write as _;
    eprintln!("SKIP {test}: {reason}");
    if let Some(path) = std::env::var_os("INJECTOR_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(log, "SKIP {test}: {reason}").unwrap();
    }
}
