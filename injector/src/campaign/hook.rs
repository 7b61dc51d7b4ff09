//! Commands beside trials: run by `sh -c`, told of their trial by the environment.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::api::types::{RecoveryRecord, Trial};

/// The record that a hook may read, in the run directory.
const RECORD: &str = "hook-record.json";

/// What a hook is told.
pub struct Told<'a> {
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
/// is the campaign's. It is killed if the campaign is interrupted.
pub async fn run(what: &str, command: &str, told: &Told<'_>) -> Result<(), String> {
    let failed = |error: io::Error| format!("{what}: `{command}`: {error}");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(io::stderr()).kill_on_drop(true);
    shell
        .env("INJECTOR_TRIAL", told.trial.index.to_string())
        .env("INJECTOR_ATTEMPT", told.trial.attempt.to_string())
        .env("INJECTOR_NAME", told.name)
        .env("INJECTOR_OUT", absolute(told.out));
    if let Some(record) = told.record {
        let path = absolute(told.out).join(RECORD);
        std::fs::write(&path, serde_json::to_vec_pretty(record).expect("a record has string keys"))
            .map_err(failed)?;
        let outcome = record.outcome.map_or("undecided", crate::report::format::outcome);
        shell.env("INJECTOR_OUTCOME", outcome.replace(' ', "_")).env("INJECTOR_RECORD", path);
    }
    let status = shell.status().await.map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("{what}: `{command}` ended with {status}")) }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
