//! The `injector` program, as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

/// The program with arguments, without what the environment says of a daemon.
pub fn injector(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(arguments).env_remove("INJECTOR_SOCKET").env_remove("INJECTOR_HOST");
    command
}

/// Its end, with a daemon's socket.
pub fn run(socket: &Path, arguments: &[&str]) -> Output {
    injector(arguments).env("INJECTOR_SOCKET", socket).output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
