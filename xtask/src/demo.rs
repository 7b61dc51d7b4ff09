//! `cargo xtask demo`: cuts a small cluster apart, heals it, and shows how long each peer takes to come back.

use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::build::programs;
use crate::command::{again_as_root, check_interrupt, words, workspace};
use crate::lab::{Lab, System};
use crate::setup::setup;

/// The demo's options.
#[derive(clap::Args)]
pub struct Options {
    /// Which cluster
    #[arg(long, value_enum, default_value = "quorum")]
    system: System,
    /// How many times to cut and heal
    #[arg(long, default_value_t = 5)]
    trials: u32,
    /// Seeds the choice of the peers that are isolated
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Sets up, brings a lab up, and runs the trials. Exit code 0: all recovered; 1: one did not; 2: one can't be told.
pub fn demo(options: &Options) -> Result<ExitCode> {
    setup(options.system.needs())?;
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    println!("Bringing up three peers in network namespaces.");
    let mut lab = Lab::up(options.system, &programs)?;
    let injector = Injector { program: &programs.injector(), socket: &lab.socket() };
    lab.start("injector", Command::new(injector.program).args(["start", "--config"]).arg(lab.config()))?;
    println!("Waiting until every endpoint is healthy.");
    lab.wait_until("becoming healthy", Duration::from_mins(1), |_| injector.is_healthy())?;

    println!("\nMilliseconds from the heal; a random peer is isolated for 5 s.\n\n{}", header());
    let run = RunFolder::create()?;
    let code = measure(&injector, options, &run.0, &mut lab)?;
    ensure!((0..=2).contains(&code), "`injector measure` failed with {code}; see {}", lab.folder().display());
    let verdict = match code {
        0 => "every trial recovered",
        1 => "a trial did not recover by its deadline",
        _ => "the outcome of a trial is not known",
    };
    println!("\n{} trials: {verdict}.", options.trials);
    let page = run.0.join("report.html");
    let [folder, file] = [&run.0, &page].map(|path| path.to_string_lossy().into_owned());
    injector.ask(&["report", &folder, "--html", &file])?.succeeded()?;
    run.give_back()?;
    println!("The report is in {file}.");
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(2)))
}

/// Runs the campaign and prints each trial as its record comes; answers the exit code of `injector measure`.
fn measure(injector: &Injector<'_>, options: &Options, folder: &Path, lab: &mut Lab) -> Result<i32> {
    let mut command = Command::new(injector.program);
    command.args(["measure", "random-node", "--hold", "5s", "--cooldown", "1s", "--quiet", "--json"]);
    command.arg("--trials").arg(options.trials.to_string()).arg("--seed").arg(options.seed.to_string());
    command.arg("--out").arg(folder).arg("--socket").arg(injector.socket);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("starting `{}`", words(&command)))?;
    let mut printed = 0;
    loop {
        // Asked before reading: what was written until the end is then read.
        let status = child.try_wait().context("waiting for the campaign")?;
        let text = std::fs::read_to_string(folder.join("trials.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().skip(printed) {
            let record: Value = serde_json::from_str(line).context("a record of the campaign")?;
            print!("{}", rows(record["trial"].as_u64().unwrap_or(0) + 1, &record)?);
            printed += 1;
        }
        if let Some(status) = status {
            return Ok(status.code().unwrap_or(-1));
        }
        if let Err(error) = lab.check() {
            // The daemon heals what a killed campaign held.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where a demo's records stay: `target/demo/run-N`.
struct RunFolder(PathBuf);

impl RunFolder {
    fn create() -> Result<Self> {
        let demos = workspace().join("target/demo");
        std::fs::create_dir_all(&demos).with_context(|| format!("creating {}", demos.display()))?;
        for number in 1.. {
            let path = demos.join(format!("run-{number}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
            }
        }
        bail!("{} has no free name", demos.display())
    }

    /// To the owner of `target`: what root has written there would be in the way of `cargo clean`.
    fn give_back(&self) -> Result<()> {
        let demos = self.0.parent().context("the folder is in another one")?;
        let owner = std::fs::metadata(workspace().join("target")).context("looking at target")?;
        let files = std::fs::read_dir(&self.0).with_context(|| format!("listing {}", self.0.display()))?;
        for path in files.flatten().map(|file| file.path()).chain([self.0.clone(), demos.to_owned()]) {
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))
                .with_context(|| format!("giving {} back to its owner", path.display()))?;
        }
        Ok(())
    }
}

/// The command line of the daemon's client.
struct Injector<'a> {
    program: &'a Path,
    socket: &'a Path,
}

/// What a command of it said.
struct Answer {
    code: i32,
    output: String,
    error: String,
}

impl Answer {
    fn succeeded(self) -> Result<Self> {
        ensure!(self.code == 0, "injector failed with {}: {}", self.code, self.error.trim());
        Ok(self)
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.output).with_context(|| format!("not JSON: {}", self.output.trim()))
    }
}

impl Injector<'_> {
    fn ask(&self, words_: &[&str]) -> Result<Answer> {
        let mut command = Command::new(self.program);
        command.args(words_).arg("--json").arg("--socket").arg(self.socket);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting `{}`", words(&command)))?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let (Some(mut output), Some(mut error)) = pipes else { bail!("the client's output is not piped") };
        std::thread::scope(|scope| {
            // Read while it runs: a full pipe would stop it.
            let output = scope.spawn(move || {
                let mut text = String::new();
                output.read_to_string(&mut text).map(|_| text)
            });
            let error = scope.spawn(move || {
                let mut text = String::new();
                error.read_to_string(&mut text).map(|_| text)
            });
            let status = loop {
                if let Some(status) = child.try_wait().context("waiting for the client")? {
                    break status;
                }
                if let Err(interrupted) = check_interrupt() {
                    // It may have ended in this moment; either way it is gone after `wait`.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(interrupted);
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            Ok(Answer {
                code: status.code().unwrap_or(-1),
                output: output
                    .join()
                    .expect("reading does not panic")
                    .context("reading the client's output")?,
                error: error
                    .join()
                    .expect("reading does not panic")
                    .context("reading the client's errors")?,
            })
        })
    }

    /// Fails with what is not healthy yet.
    fn is_healthy(&self) -> Result<()> {
        let status = self.ask(&["status"])?.succeeded()?.json().context("the daemon's status")?;
        let endpoints = status["endpoints"].as_array().context("the status names no endpoints")?;
        for endpoint in endpoints {
            ensure!(endpoint["healthy"] == true, "{endpoint}");
        }
        ensure!(!endpoints.is_empty(), "the status names no endpoints");
        Ok(())
    }
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
        // A stamp inside the interval of the heal is at the heal, as far as anyone can tell.
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
