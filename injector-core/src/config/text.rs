//! The text of a file that a user named: bounded, and never waited for.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::text_position::TextPosition;

/// The largest file that is read.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Why a file gives no text; what it says follows the file's name.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The system refuses it.
    #[error("can't be read ({0})")]
    Io(#[from] io::Error),
    /// The path is a FIFO, a device, a socket or a directory, which may have no end.
    #[error("is {0}, not a regular file")]
    NotAFile(&'static str),
    /// The file is larger than [`MAX_BYTES`].
    #[error("has more than {} MiB", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    /// The content is not UTF-8 text.
    #[error("{what}")]
    NotUtf8 {
        /// The fault, in words.
        what: &'static str,
        /// The first byte that is wrong: line and column, from 1.
        line: usize,
        /// See `line`.
        column: usize,
    },
}

impl TextError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io(_) => "name a UTF-8 text file that this user may read",
            Self::NotAFile(_) => "write the text to a file, and name that",
            Self::TooLarge => "name the right file, or write it shorter",
            Self::NotUtf8 { .. } => "save the file as UTF-8",
        }
    }

    /// The place of the fault in the text, if it has one.
    pub(super) fn position(&self) -> Option<TextPosition> {
        match self {
            Self::NotUtf8 { line, column, .. } => Some(TextPosition { line: *line, column: *column }),
            _ => None,
        }
    }
}

/// Opens a regular file; what is not one is refused without waiting for it.
///
/// # Errors
/// [`TextError::Io`] and [`TextError::NotAFile`].
pub fn open(path: &Path) -> Result<File, TextError> {
    // Non-blocking: to open a FIFO would wait for its writer. Nothing changes for a regular file.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // A socket can't be opened at all.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(TextError::NotAFile("a socket or a device without a driver"));
        }
        Err(error) => return Err(error.into()),
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(TextError::NotAFile(if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }))
}

/// The whole text, without a byte order mark.
///
/// # Errors
/// Any [`TextError`].
pub fn read(path: &Path) -> Result<String, TextError> {
    text_of(open(path)?)
}

/// The text of standard input, bounded in the same way.
///
/// # Errors
/// Any [`TextError`] but [`TextError::NotAFile`].
pub fn from_stdin() -> Result<String, TextError> {
    text_of(io::stdin().lock())
}

fn text_of(file: impl io::Read) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(TextError::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let what = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "is UTF-16, not UTF-8",
            _ => "is not UTF-8 here",
        };
        let before = &bytes[..error.utf8_error().valid_up_to()];
        let lines: Vec<&[u8]> = before.split(|byte| *byte == b'\n').collect();
        let (line, last) = (lines.len(), lines.last().copied().unwrap_or_default());
        TextError::NotUtf8 { what, line, column: String::from_utf8_lossy(last).chars().count() + 1 }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn written(bytes: &[u8]) -> Result<String, TextError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(written(b"\xef\xbb\xbfpeers:").unwrap(), "peers:");
        assert_eq!(written(b"").unwrap(), "");
        let error = written(b"\xff\xfep\0").unwrap_err();
        assert!(error.to_string().contains("UTF-16"), "{error}");
        assert_eq!(error.position(), Some(TextPosition { line: 1, column: 1 }));
        let error = written("a\nä\u{e9}".as_bytes()).map(|_| ());
        assert!(error.is_ok());
        let error = written(b"a\n\xc3\xa4x\xff").unwrap_err();
        assert_eq!(error.position(), Some(TextPosition { line: 2, column: 3 }), "{error}");
    }

    #[test]
    fn what_may_have_no_end_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, kind) in [
            (fifo.as_path(), "a FIFO"),
            (directory.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
            (socket.as_path(), "a socket"),
        ] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(kind), "{}: {error}", path.display());
        }
        assert!(matches!(read(&directory.path().join("none")), Err(TextError::Io(_))));
    }

    #[test]
    fn large_files_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, MAX_BYTES);
        file.set_len(1 << 40).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("8 MiB"), "{error}");
    }
}
