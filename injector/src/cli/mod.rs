//! The command line: a thin shell over the API's client. One file a command.

use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use self::args::{Command, CommandLine, Common};
use self::failure::{Exit, Failure};
use crate::terminal::clean;

pub mod args;
mod check;
mod compare;
mod dial_stdio;
mod doctor;
pub mod failure;
mod heal;
pub mod human;
mod mark;
mod measure;
mod partition;
mod peers;
mod probe;
mod progress;
mod render_record;
mod report;
mod start;
mod status;
mod timeline;
mod wait;
mod with;

/// Reads the command line, runs it, and gives the exit code.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::USAGE.0 } else { Exit::OK.0 });
        }
    };
    let common = line.common;
    match run(&common, line.command) {
        Ok(exit) => ExitCode::from(exit.0),
        Err(failure) => {
            report(&common, &failure);
            ExitCode::from(failure.exit.0)
        }
    }
}

fn run(common: &Common, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Start(args) => start::run(common, &args),
        Command::Check(args) => check::run(common, &args),
        Command::DialStdio => dial_stdio::run(common),
        Command::Doctor(args) => block_on(doctor::run(common, args)),
        Command::Partition(args) => block_on(partition::run(common, args)),
        Command::Heal(args) => block_on(heal::run(common, args)),
        Command::Status(args) => block_on(status::run(common, args)),
        Command::Peers => block_on(peers::run(common)),
        Command::Timeline(args) => block_on(timeline::run(common, args)),
        Command::Mark(args) => block_on(mark::run(common, args)),
        Command::Wait(args) => block_on(wait::run(common, args)),
        Command::With(args) => block_on(with::run(common, args)),
        Command::Probe => block_on(probe::run(common)),
        Command::Measure(args) => block_on(measure::run(common, *args)),
        Command::Report(args) => report::run(common, args),
        Command::Compare(args) => compare::run(common, args),
    }
}

fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::UNDECIDED, format!("the runtime can't be made: {error}")))?;
    runtime.block_on(work)
}

fn report(common: &Common, failure: &Failure) {
    let _ = io::stderr().write_all(failure_line(common, failure).as_bytes());
}

/// What a failure says on standard error.
fn failure_line(common: &Common, failure: &Failure) -> String {
    if common.json {
        let exit = failure.exit.0;
        let mut report = serde_json::json!({ "exit": exit, "error": failure.message });
        for (key, value) in failure.details.iter().filter_map(|details| details.as_object()).flatten() {
            report[key] = value.clone();
        }
        format!("{}\n", clean(&report.to_string()))
    } else {
        format!("injector: {}\n", clean(&failure.message))
    }
}

/// Prints the value as JSON or as text, as the user asked.
fn show(common: &Common, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<Reader, Failure> {
    print(&if common.json { to_json(value)? } else { text() })
}

fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| {
        Failure::new(Exit::UNDECIDED, format!("the answer can't be written as JSON: {error}"))
    })?;
    text.push('\n');
    Ok(text)
}

/// Whether somebody still reads our standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Reads,
    /// As `| head` does: it has read enough. Commands that go on end now.
    Gone,
}

/// To standard output, [`clean`].
fn print(text: &str) -> Result<Reader, Failure> {
    print_raw(&clean(text))
}

/// To standard output as it is: for our own control sequences.
fn print_raw(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(Exit::UNDECIDED, format!("standard output: {error}"))),
    }
}
