//! Files of a report: whole, or as they were before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file through `fill`. A reader never sees half of it, and where it can't be written, what was there is left.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // Where the path is a symbolic link, the file is replaced and not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let known = fs::metadata(&target).ok();
    if known.as_ref().is_some_and(|known| !known.is_file()) {
        // A pipe, or a device such as /dev/stdout.
        return filled(File::options().write(true).open(path)?, fill);
    }
    let fresh = beside(&target);
    let made = match File::options().write(true).create_new(true).open(&fresh) {
        // Only the file itself may be written to.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && known.is_some() => {
            return filled(File::options().write(true).truncate(true).open(&target)?, fill);
        }
        opened => opened?,
    };
    let written = known
        .map_or(Ok(()), |known| made.set_permissions(known.permissions()))
        .and_then(|()| filled(made, fill))
        .and_then(|()| fs::rename(&fresh, &target));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn filled(opened: File, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(opened);
    fill(&mut out)?;
    out.flush()
}

/// A name in the same directory that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

/// The remedy where a file can't be written.
pub fn remedy(error: &io::Error) -> &'static str {
    crate::run::remedy(error).unwrap_or("name a file in a directory that you may write to")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_fails_half_way_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        let failed = |out: &mut dyn Write| {
            out.write_all(&vec![b'x'; 100_000])?;
            Err(io::Error::from(io::ErrorKind::FileTooLarge))
        };
        assert!(write(&path, failed).is_err());
        assert!(names(folder.path()).is_empty());
        write(&path, |out| out.write_all(b"old")).unwrap();
        assert!(write(&path, failed).is_err());
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"old".to_vec(), vec!["a.html".to_owned()])
        );
        write(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn links_and_devices_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, |out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        write(Path::new("/dev/null"), |out| out.write_all(b"gone")).unwrap();
        assert!(write(Path::new("/dev/full"), |out| out.write_all(b"no room")).is_err());
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
