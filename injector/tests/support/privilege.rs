//! What a test needs to run, and the log of those that could not.

/// Whether a test that needs root can run here; if not, it is logged for the count of `cargo xtask test`.
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
