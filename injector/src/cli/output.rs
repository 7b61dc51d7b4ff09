//! What commands print.

use std::io::{self, Write as _};

use serde::Serialize;

use super::args::Common;
use super::failure::{Exit, Failure};
use crate::terminal::clean;

/// Prints the value as JSON or as text, as the user asked.
pub(super) fn show(
    common: &Common,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<Reader, Failure> {
    print(&match &common.one_of_several {
        None if common.json => to_json(value)?,
        None => text(),
        Some(host) if common.json => line_of(host, value)?,
        Some(host) => format!("{}{}", heading(host), text()),
    })
}

/// What precedes the answer of one of several hosts.
pub(super) fn heading(host: &str) -> String {
    format!("== {host}\n")
}

/// The answer of one of several hosts as JSON, on one line.
pub(super) fn line_of(host: &str, answer: &impl Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(&serde_json::json!({ "host": host, "answer": answer }));
    line.map(|line| line + "\n").map_err(not_json)
}

/// A value as JSON, one line after the other.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(not_json)?;
    text.push('\n');
    Ok(text)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn not_json(error: serde_json::Error) -> Failure {
    Failure::new(Exit::UNDECIDED, format!("the answer can't be written as JSON: {error}"))
}

/// Whether somebody still reads our standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Reads,
    /// As `| head` does: it has read enough. Commands that continue end now.
    Gone,
}

/// To standard output, [`clean`].
pub(super) fn print(text: &str) -> Result<Reader, Failure> {
    print_raw(&clean(text))
}

/// To standard error, [`clean`]: what happens meanwhile. Where nobody can read it, as on a full disk, the command continues.
pub(super) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(clean(text).as_bytes());
}

/// To standard output as it is: for our own control sequences.
pub(super) fn print_raw(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(Exit::UNDECIDED, format!("standard output: {error}"))),
    }
}
