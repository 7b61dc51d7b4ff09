//! The `injector` command with faults injected where a test asks; never what users run. `injector/tests/netns_crash/main.rs` runs it.
//!
//! `INJECTOR_FAULT=STEP#N=KIND` injects a fault when the step is passed for the Nth time, once. KIND is `kill` (SIGKILL), `panic`,
//! `wait` (the thread waits there until the file that `INJECTOR_FAULT_LOG` names with `.go` after it exists), or an errno
//! (`ENOMEM`, `EPERM`, `ENOSPC`) as the result of the system call behind the step.
//! `INJECTOR_FAULT=record` injects none. `INJECTOR_FAULT_LOG` names a file that gets a line for each step that is
//! passed: its name, how often it was passed, `at` or `here`, and `injected` where the fault was injected.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};

use injector::fault::{FaultInjector, arm};
use rustix::process::{Signal, getpid, kill_process};

/// What happens to a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Panic,
    Wait,
    Errno(i32),
}

/// What the environment asks for.
struct Plan {
    /// The step, the how-manieth pass, and what then.
    fault: Option<(String, u32, Kind)>,
    log: Option<File>,
    passed: Mutex<BTreeMap<&'static str, u32>>,
}

impl Plan {
    /// # Panics
    /// On a plan that can't be read: a test that injects nothing by mistake would pass.
    fn read() -> Option<Self> {
        let asked = std::env::var("INJECTOR_FAULT").ok()?;
        let fault = (asked != "record").then(|| {
            let parts = asked.split_once('=').and_then(|(point, kind)| {
                let (step, pass) = point.split_once('#')?;
                Some((step.to_owned(), pass.parse().ok()?, kind_of(kind)?))
            });
            parts.unwrap_or_else(|| panic!("INJECTOR_FAULT={asked} is not STEP#N=KIND"))
        });
        let log = std::env::var_os("INJECTOR_FAULT_LOG").map(|path| {
            OpenOptions::new().append(true).create(true).open(path).expect("the log of faults opens")
        });
        Some(Self { fault, log, passed: Mutex::default() })
    }

    /// Counts a pass; what is to happen.
    fn pass(&self, step: &'static str, form: &str) -> Option<Kind> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = passed.entry(step).or_default();
        *count += 1;
        let kind = self.fault.as_ref().filter(|(at, pass, _)| at == step && pass == count);
        let kind = kind.map(|(_, _, kind)| *kind);
        if let Some(mut log) = self.log.as_ref() {
            let injected = if kind.is_some() { " injected" } else { "" };
            let _ = log.write_all(format!("{step} {count} {form}{injected}\n").as_bytes());
        }
        kind
    }
}

fn kind_of(text: &str) -> Option<Kind> {
    Some(match text {
        "kill" => Kind::Kill,
        "panic" => Kind::Panic,
        "wait" => Kind::Wait,
        "ENOMEM" => Kind::Errno(libc::ENOMEM),
        "EPERM" => Kind::Errno(libc::EPERM),
        "ENOSPC" => Kind::Errno(libc::ENOSPC),
        _ => return None,
    })
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(Plan::read).as_ref()
}

/// A step whose system call can fail.
fn at(step: &'static str) -> std::io::Result<()> {
    match plan().and_then(|plan| plan.pass(step, "at")) {
        Some(Kind::Errno(errno)) => Err(std::io::Error::from_raw_os_error(errno)),
        kind => {
            end(step, kind);
            Ok(())
        }
    }
}

/// A step that can't fail.
fn here(step: &'static str) {
    end(step, plan().and_then(|plan| plan.pass(step, "here")));
}

fn end(step: &'static str, kind: Option<Kind>) {
    match kind {
        Some(Kind::Kill) => {
            let _ = kill_process(getpid(), Signal::KILL);
            // Nothing of this thread may run on until the signal is there.
            loop {
                std::thread::park();
            }
        }
        Some(Kind::Panic) => panic!("fault injected at {step}, as INJECTOR_FAULT asks"),
        Some(Kind::Wait) => {
            let mut go = std::env::var_os("INJECTOR_FAULT_LOG").expect("`wait` needs INJECTOR_FAULT_LOG");
            go.push(".go");
            while !std::path::Path::new(&go).exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        Some(Kind::Errno(_)) | None => {}
    }
}

fn main() -> ExitCode {
    arm(FaultInjector { at, here });
    injector::cli::main()
}
