//! The stack of the main thread, which grows up to a limit of the process: raised to what deep calls need, or an error that
//! says how. Other threads have stacks of a size of their own.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The usual limit on Linux, in bytes: the kernel maps nothing else so near to the stack, whatever the limit was.
const WANTED: u64 = 8 << 20;
/// The least that any command begins with, in bytes: reading the command line takes more than 256 KiB in a debug build.
const LEAST: u64 = 1 << 20;

/// The limit that this process was started with, for the commands that it starts; empty if it was not changed.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Why no command can run.
#[derive(Debug, thiserror::Error)]
#[error(
    "the stack is limited to {limit} KiB, and {needed} are needed; write `ulimit -s 8192` before the command, or set LimitSTACK=8M in the unit"
)]
pub struct TooSmall {
    limit: u64,
    needed: u64,
}

/// Raises the limit as far as this process may. Must come before any deep call.
///
/// # Errors
/// The limit is too small, and can't be raised.
pub fn raise() -> Result<(), TooSmall> {
    let found = getrlimit(Resource::Stack);
    let (soft, hard) = (found.current.unwrap_or(u64::MAX), found.maximum.unwrap_or(u64::MAX));
    if soft >= WANTED {
        return Ok(());
    }
    let is_set = |current, maximum| setrlimit(Resource::Stack, Rlimit { current, maximum }).is_ok();
    // A limit above the hard one takes CAP_SYS_RESOURCE, which root has.
    let limit = if hard >= WANTED {
        if is_set(Some(WANTED), found.maximum) { WANTED } else { soft }
    } else if is_set(Some(WANTED), Some(WANTED)) {
        WANTED
    } else if is_set(found.maximum, found.maximum) {
        hard
    } else {
        soft
    };
    if limit != soft {
        INHERITED.get_or_init(|| found);
    }
    if limit < LEAST {
        return Err(TooSmall { limit: limit / 1024, needed: LEAST / 1024 });
    }
    Ok(())
}

/// The limit for commands; `None` if it was not changed.
pub fn inherited() -> Option<Rlimit> {
    INHERITED.get().copied()
}
