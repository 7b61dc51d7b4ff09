//! Programs that a test writes, and runs.
//!
//! The kernel refuses to run a file that is open for writing anywhere (ETXTBSY). What another thread starts while this process
//! writes one has it open until it is another program, so that other processes write them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program that everyone may run.
///
/// # Panics
/// It can't be written.
#[track_caller]
pub fn write_program(path: &Path, text: &str) {
    install(Path::new("/dev/stdin"), path, text);
}

/// Copies a program, so that everyone may run it.
///
/// # Panics
/// It can't be copied.
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    install(from, to, "");
}

#[track_caller]
fn install(from: &Path, to: &Path, input: &str) {
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(from).arg(to).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install");
    install.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("install reads");
    let status = install.wait().expect("install ends");
    assert!(status.success(), "installing {}: {status}", to.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without another process, some of these starts fail.
    #[test]
    fn what_was_written_runs_while_others_start() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = folder.path().join(format!("{thread}"));
                scope.spawn(move || {
                    for round in 0..50 {
                        if round % 2 == 0 {
                            copy_program(Path::new("/bin/true"), &path);
                        } else {
                            write_program(&path, "#!/bin/sh\nexit 0\n");
                        }
                        assert!(Command::new(&path).status().unwrap().success());
                    }
                });
            }
        });
    }
}
