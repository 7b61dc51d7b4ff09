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
    print(&if common.json { to_json(value)? } else { text() })
}

/// A value as JSON, one line after the other.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| {
        Failure::new(Exit::UNDECIDED, format!("the answer can't be written as JSON: {error}"))
    })?;
    text.push('\n');
    Ok(text)
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

/// To standard output as it is: for our own control sequences.
pub(super) fn print_raw(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::new(Exit::UNDECIDED, format!("standard output: {error}"))),
    }
}
