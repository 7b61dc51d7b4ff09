//! Commands beside trials: run by `sh -c`, with their trial in the environment.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::process_group::Group;
use injector_core::api::{RecoveryRecord, Trial};

/// The record that a hook may read, in the run directory.
const RECORD: &str = "hook-record.json";

/// The variables that a hook gets in its environment.
pub struct HookVariables<'a> {
    /// The trial.
    pub trial: Trial,
    /// Its partition's name.
    pub name: &'a str,
    /// The run directory.
    pub out: &'a Path,
    /// The record, once there is one.
    pub record: Option<&'a RecoveryRecord>,
}

/// Runs a hook and waits for it; an error says how it failed. Its output goes to standard error, as standard output
/// is the campaign's. It is killed with all that it started if the campaign is interrupted.
pub async fn run(what: &str, command: &str, variables: &HookVariables<'_>) -> Result<(), String> {
    let failed = |error: io::Error| format!("{what}: `{command}`: {error}");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(io::stderr());
    shell
        .env("INJECTOR_TRIAL", variables.trial.index.to_string())
        .env("INJECTOR_ATTEMPT", variables.trial.attempt.to_string())
        .env("INJECTOR_NAME", variables.name)
        .env("INJECTOR_OUT", absolute(variables.out));
    if let Some(record) = variables.record {
        let path = absolute(variables.out).join(RECORD);
        std::fs::write(&path, serde_json::to_vec_pretty(record).expect("a record has string keys"))
            .map_err(failed)?;
        let outcome = record.outcome.map_or("undecided", injector_core::figures::outcome);
        shell.env("INJECTOR_OUTCOME", outcome.replace(' ', "_")).env("INJECTOR_RECORD", path);
    }
    let status = Group::spawn(shell).map_err(failed)?.wait().await.map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("{what}: `{command}` ended with {status}")) }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_hook_that_is_given_up_takes_along_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let variables = HookVariables {
            trial: Trial { index: 0, attempt: 1 },
            name: "t",
            out: folder.path(),
            record: None,
        };
        let command = format!("sleep 1000 & echo $! > {0}.new && mv {0}.new {0}; wait", pid_file.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started: i32 = runtime.block_on(async {
            let until_started = async {
                loop {
                    if let Ok(text) = std::fs::read_to_string(&pid_file) {
                        return text.trim().parse().unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                ended = run("--before-trial", &command, &variables) => panic!("{ended:?}"),
                pid = until_started => pid,
            }
        });
        // Killed, and perhaps not yet reaped by the process that inherited it.
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{started}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let end = Instant::now() + Duration::from_mins(1);
        while is_there() {
            assert!(Instant::now() < end, "it lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
