//! Campaigns on a lab: `injector measure`, followed trial by trial.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use injector_lab::Lab;
use serde_json::Value;

use crate::command::{words, workspace};
use crate::injector::Injector;

/// Runs `injector measure` with these words, and prints each trial as its record comes; answers the exit code: 0, 1 or 2.
///
/// # Errors
/// A program of the lab has ended, the user asks to stop, or the campaign could not be run.
pub fn measure(injector: &Injector<'_>, options: &[String], folder: &Path, lab: &mut Lab) -> Result<u8> {
    // The run keeps the command line: it is to say the same in every checkout.
    let mut command = Command::new(injector.program);
    command.arg0("injector").current_dir(workspace());
    command.arg("measure").args(options).args(["--quiet", "--json", "--out"]).arg(below_workspace(folder));
    // Commands of the campaign file may run `injector` themselves.
    injector.reach(&mut command)?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let records = folder.join("trials.jsonl");
    let read = || std::fs::read_to_string(&records).unwrap_or_default();
    // The trials that a resumed campaign has made already are not printed.
    let mut printed = read().lines().count();
    println!("\nMilliseconds from the heal.\n\n{}", header());
    let mut child = command.spawn().with_context(|| format!("starting `{}`", words(&command)))?;
    loop {
        // Asked before reading: what was written until the end is then read.
        let status = child.try_wait().context("waiting for the campaign")?;
        let text = read();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().skip(printed) {
            let record: Value = serde_json::from_str(line).context("a record of the campaign")?;
            print!("{}", rows(record["trial"].as_u64().unwrap_or(0) + 1, &record)?);
            printed += 1;
        }
        if let Some(status) = status {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code <= 2);
            // 2 is also what a campaign exits with that never began.
            let code = code.filter(|_| records.exists());
            return code.with_context(|| format!("`{}` failed ({status})", words(&command)));
        }
        if let Err(error) = lab.check() {
            // The daemon heals what a killed campaign held.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A path relative to the workspace, if it is in there.
pub fn below_workspace(path: &Path) -> &Path {
    path.strip_prefix(workspace()).unwrap_or(path)
}

/// The meaning of an exit code of `injector measure`, in words.
pub fn verdict(code: u8) -> &'static str {
    match code {
        0 => "every trial recovered",
        1 => "a trial did not recover by its deadline",
        _ => "the outcome of a trial is not known",
    }
}

/// Makes a folder `target/<of>/run-N`, with the next free number.
///
/// # Errors
/// The folder can't be made.
pub fn run_folder(of: &str) -> Result<PathBuf> {
    let runs = workspace().join("target").join(of);
    std::fs::create_dir_all(&runs).with_context(|| format!("creating {}", runs.display()))?;
    for number in 1.. {
        let path = runs.join(format!("run-{number}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
        }
    }
    bail!("{} has no free name", runs.display())
}

/// Writes the report of a run into its folder; answers the page.
///
/// # Errors
/// The run can't be read.
pub fn report(injector: &Injector<'_>, folder: &Path) -> Result<PathBuf> {
    let page = folder.join("report.html");
    let [run, file] = [folder, &page].map(|path| path.to_string_lossy().into_owned());
    injector.ask(&["report", &run, "--html", &file])?.succeeded()?;
    Ok(page)
}

/// Gives a file or folder, with all in it and the folders above it in the workspace, to the workspace's owner: what root
/// has written would be in the way of `cargo clean`.
///
/// # Errors
/// The owner of a path can't be read or changed.
pub fn give_back(path: &Path) -> Result<()> {
    let owner = std::fs::metadata(workspace()).context("looking at the workspace")?;
    let mut all = vec![path.to_owned()];
    while let Some(path) = all.pop() {
        std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid()))
            .with_context(|| format!("giving {} back to its owner", path.display()))?;
        if path.is_dir() && !path.is_symlink() {
            let entries = std::fs::read_dir(&path).with_context(|| format!("listing {}", path.display()))?;
            all.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    let above = path.ancestors().skip(1).take_while(|folder| *folder != workspace());
    for folder in above.filter(|folder| folder.starts_with(workspace())) {
        std::os::unix::fs::chown(folder, Some(owner.uid()), Some(owner.gid()))
            .with_context(|| format!("giving {} back to its owner", folder.display()))?;
    }
    Ok(())
}

fn header() -> String {
    format!(
        "{:>5}  {:<12} {:>12} {:>14} {:>9} {:>9} {:>9}  outcome",
        "trial", "endpoint", "first packet", "first response", "first ok", "ready", "settled"
    )
}

/// A row for each endpoint, and what is said about the whole trial.
fn rows(trial: u64, record: &Value) -> Result<String> {
    let healed = record["heal"]["end_ns"].as_u64();
    let since = |instant: &Value| match (healed, instant.as_u64()) {
        // A stamp inside the interval of the heal counts as at the heal: nothing finer is known.
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a trial are far below 2^52 ns")]
        (Some(healed), Some(at)) => format!("{:.1}", at.saturating_sub(healed) as f64 / 1e6),
        _ => "–".to_owned(),
    };
    let list = |value: &'static str| {
        record[value].as_array().with_context(|| format!("the record has no {value}: {record}"))
    };
    let links = list("links")?;
    let mut text = String::new();
    for endpoint in list("endpoints")? {
        let reached = links.iter().filter(|link| link["dst"] == endpoint["peer"]);
        let first_packet = reached
            .map(|link| &link["first_packet_ns"])
            .filter(|at| at.is_u64())
            .min_by_key(|at| at.as_u64());
        writeln!(
            text,
            "{trial:>5}  {:<12} {:>12} {:>14} {:>9} {:>9} {:>9}  {}",
            endpoint["name"].as_str().unwrap_or("?"),
            since(first_packet.unwrap_or(&Value::Null)),
            since(&endpoint["first_response_ns"]),
            since(&endpoint["first_ok_ns"]),
            since(&endpoint["ready_ns"]),
            since(&endpoint["settled_ns"]),
            endpoint["outcome"].as_str().unwrap_or("undecided"),
        )?;
    }
    let outcome = record["outcome"].as_str().unwrap_or("undecided");
    let resolved = &record["shape"]["resolved"];
    write!(text, "{trial:>5}  {outcome}, {resolved}")?;
    if let Some(reason) = record["outcome_reason"].as_str() {
        write!(text, ": {reason}")?;
    }
    if record["starved"] == true {
        write!(text, " (this host was short of CPU: the times are too long)")?;
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_relative_to_the_heal_and_show_what_is_missing() {
        let record = serde_json::json!({
            "heal": { "begin_ns": 900_000_000, "end_ns": 1_000_000_000 },
            "shape": { "resolved": { "isolate": ["n1"] } },
            "links": [
                { "src": "n2", "dst": "n1", "first_packet_ns": 1_030_000_000 },
                { "src": "n3", "dst": "n1", "first_packet_ns": 1_020_000_000 },
                { "src": "n1", "dst": "n2", "first_packet_ns": null },
            ],
            "endpoints": [
                { "name": "ingress@n1", "peer": "n1", "first_response_ns": 1_250_000_000, "first_ok_ns": 1_260_500_000,
                  "ready_ns": 1_300_000_000, "settled_ns": null, "outcome": "not_recovered" },
                { "name": "ingress@n2", "peer": "n2", "outcome": "recovered" },
            ],
            "outcome": "not_recovered", "outcome_reason": "ingress@n1 was not settled", "starved": false,
        });
        let text = rows(3, &record).unwrap();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["3", "ingress@n1", "20.0", "250.0", "260.5", "300.0", "–", "not_recovered"]);
        assert_eq!(words[1], ["3", "ingress@n2", "–", "–", "–", "–", "–", "recovered"]);
        assert!(text.ends_with("3  not_recovered, {\"isolate\":[\"n1\"]}: ingress@n1 was not settled\n"));
        assert!(rows(1, &serde_json::json!({})).is_err());
    }
}
