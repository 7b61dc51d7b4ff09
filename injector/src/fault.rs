//! Faults on purpose: with the feature `fault-injection`, which no default build has, a run of the daemon can be struck
//! at any step that is named by [`at`] or [`here`].
//!
//! `INJECTOR_FAULT=STEP#N=KIND` strikes when the step is passed for the Nth time, once. KIND is `kill` (SIGKILL), `panic`,
//! or an errno (`ENOMEM`, `EPERM`, `ENOSPC`) that represents the answer of the system call behind the step.
//! `INJECTOR_FAULT=record` strikes nowhere. `INJECTOR_FAULT_LOG` names a file that gets a line for each step that is
//! passed: its name, how often it was passed, `at` or `here`, and `struck` if it was struck.

/// A step whose system call can fail: the errno that it is struck with, if it is.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn at(_step: &'static str) -> std::io::Result<()> {
    Ok(())
}

/// A step that can't fail: the process, or the thread, can only end there.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn here(_step: &'static str) {}

#[cfg(feature = "fault-injection")]
pub use armed::{at, here};

#[cfg(feature = "fault-injection")]
mod armed {
    use std::collections::BTreeMap;
    use std::fs::{File, OpenOptions};
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    /// What happens to a step.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Kill,
        Panic,
        Errno(i32),
    }

    /// What the environment asks for.
    struct Plan {
        /// The step, the how-manieth pass, and what then.
        strike: Option<(String, u32, Kind)>,
        log: Option<File>,
        passed: Mutex<BTreeMap<&'static str, u32>>,
    }

    impl Plan {
        /// # Panics
        /// On a plan that can't be read: a test that strikes nothing by mistake would pass.
        fn read() -> Option<Self> {
            let asked = std::env::var("INJECTOR_FAULT").ok()?;
            let strike = (asked != "record").then(|| {
                let parts = asked.split_once('=').and_then(|(point, kind)| {
                    let (step, pass) = point.split_once('#')?;
                    Some((step.to_owned(), pass.parse().ok()?, kind_of(kind)?))
                });
                parts.unwrap_or_else(|| panic!("INJECTOR_FAULT={asked} is not STEP#N=KIND"))
            });
            let log = std::env::var_os("INJECTOR_FAULT_LOG").map(|path| {
                OpenOptions::new().append(true).create(true).open(path).expect("the log of faults opens")
            });
            Some(Self { strike, log, passed: Mutex::default() })
        }

        /// Counts a pass; what is to happen.
        fn pass(&self, step: &'static str, form: &str) -> Option<Kind> {
            let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
            let count = passed.entry(step).or_default();
            *count += 1;
            let kind = self.strike.as_ref().filter(|(struck, pass, _)| struck == step && pass == count);
            let kind = kind.map(|(_, _, kind)| *kind);
            if let Some(mut log) = self.log.as_ref() {
                let struck = if kind.is_some() { " struck" } else { "" };
                let _ = log.write_all(format!("{step} {count} {form}{struck}\n").as_bytes());
            }
            kind
        }
    }

    fn kind_of(text: &str) -> Option<Kind> {
        Some(match text {
            "kill" => Kind::Kill,
            "panic" => Kind::Panic,
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

    /// A step whose system call can fail: the errno that it is struck with, if it is.
    pub fn at(step: &'static str) -> std::io::Result<()> {
        match plan().and_then(|plan| plan.pass(step, "at")) {
            Some(Kind::Errno(errno)) => Err(std::io::Error::from_raw_os_error(errno)),
            kind => {
                end(step, kind);
                Ok(())
            }
        }
    }

    /// A step that can't fail: the process, or the thread, can only end there.
    pub fn here(step: &'static str) {
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
            Some(Kind::Panic) => panic!("struck at {step}, as INJECTOR_FAULT asks"),
            Some(Kind::Errno(_)) | None => {}
        }
    }
}
