//! The stack of the main thread grows up to a limit of the process, which may be too small for a command; other threads have stacks
//! of a size of their own.

use std::process::ExitCode;

use rustix::process::{Resource, getrlimit};

use crate::rights;

/// The limit from which on the main thread's stack is enough, in bytes: reading the command line alone takes more than 256 KiB
/// in a debug build.
const ENOUGH: u64 = 4 << 20;
/// The stack of the thread that takes its place, in bytes: what the main thread usually may have on Linux.
const OF_THREAD: usize = 8 << 20;
/// The exit code where there is no such thread.
const NO_THREAD: u8 = 2;
/// The exit code of a panic, as Rust has it.
const PANICKED: u8 = 101;

/// Runs a whole program on a stack that is large enough: on this thread, or on another one, for which this one waits without
/// any rights.
pub fn run_on_enough(program: fn() -> ExitCode) -> ExitCode {
    if getrlimit(Resource::Stack).current.is_none_or(|limit| limit >= ENOUGH) {
        return program();
    }
    let started = std::thread::Builder::new().name("injector".into()).stack_size(OF_THREAD).spawn(program);
    let thread = match started {
        Ok(thread) => thread,
        Err(error) => {
            eprintln!(
                "injector: the stack is limited to less than {} MiB, and there is no thread with a larger one: {error}; write `ulimit \
                 -s 8192` before the command, or set LimitSTACK=8M in the unit",
                ENOUGH >> 20
            );
            return ExitCode::from(NO_THREAD);
        }
    };
    if let Err(error) = rights::take_none() {
        tracing::debug!(%error, "the thread that only waits keeps its rights");
    }
    // A panic was reported by its thread.
    thread.join().unwrap_or(ExitCode::from(PANICKED))
}
