//! The files of a run directory: regular ones alone, since others may keep a reader waiting or have no end, and no more of
//! one at a time than memory has room for.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::{ReadError, io_error};
use crate::config::text::{self, TextError};

/// The longest line, and the largest file that is read whole: more than an hour's probes of any lab take.
pub(super) const LONGEST: u64 = 512 << 20;

/// Opens a file to read.
pub(super) fn open(path: &Path) -> Result<File, ReadError> {
    text::open(path).map_err(|error| {
        io_error(path)(match error {
            TextError::Io(error) => error,
            other => io::Error::other(format!("it {other}")),
        })
    })
}

/// Opens a file as the options say, to write.
pub(super) fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Non-blocking: to open a FIFO would wait for its reader. Nothing changes for a regular file.
    let is_other = || io::Error::other("it is not a regular file");
    let file = match options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        // A FIFO that nobody reads.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Err(is_other()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(is_other()) }
}

/// The remedy where there is no room for a file; `None` for other errors.
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Some("raise the limit of a file's size (`ulimit -f unlimited`)"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on that file system, or choose another one")
        }
        _ => None,
    }
}

/// All of a file.
pub(super) fn whole(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    open(path)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    if bytes.len() as u64 > LONGEST {
        return Err(io_error(path)(too_long("it")));
    }
    Ok(bytes)
}

/// Appends the next line to `line`; how many bytes it has, 0 at the end of the file.
pub(super) fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    next_line_within(LONGEST, file, line)
}

fn next_line_within(most: u64, file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let read = file.take(most + 1).read_until(b'\n', line)? as u64;
    if read > most { Err(too_long("a line")) } else { Ok(read) }
}

fn too_long(what: &str) -> io::Error {
    io::Error::other(format!("{what} has more than {} MiB", LONGEST >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut file: &[u8] = b"123\n\n12345\n";
        let mut read = || {
            let mut line = Vec::new();
            next_line_within(4, &mut file, &mut line).map(|read| (read, line.len() as u64)).ok()
        };
        assert_eq!([read(), read(), read()], [Some((4, 4)), Some((1, 1)), None]);
    }
}
