//! Where a report may be written: to no file of a run, to no file twice, and over no file that is no report.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::run::layout;

/// A file is asked for that must not be written.
#[derive(Debug, thiserror::Error)]
#[error("{option} {} {why}; name another file", .path.display())]
pub struct OutputError {
    /// The option that names the file.
    option: &'static str,
    /// The file.
    path: PathBuf,
    /// Why not.
    why: String,
}

/// A file that is asked for, and the option that asks for it.
pub(super) type Output<'a> = (&'static str, Option<&'a PathBuf>);

/// Refuses files that would destroy what the runs measured, or each other, or one of `pages`, which are written beside them, or a
/// file that is no report of the kind that the option writes. To be asked before anything is written.
pub(super) fn refuse<'a>(
    runs: impl IntoIterator<Item = &'a Path>,
    pages: &[PathBuf],
    outputs: &[Output<'_>],
) -> Result<(), OutputError> {
    let outputs: Vec<(&str, &PathBuf)> =
        outputs.iter().filter_map(|(option, path)| path.map(|path| (*option, path))).collect();
    let own = runs.into_iter().flat_map(|run| layout::FILES.map(|file| File::at(&run.join(file))));
    let own: Vec<File> = own.collect();
    for (at, (option, path)) in outputs.iter().enumerate() {
        let refused = |why: &str| Err(OutputError { option, path: (*path).clone(), why: why.to_owned() });
        if path.as_os_str() == "-" {
            return refused("is not written to standard output");
        }
        let target = File::at(path);
        if own.iter().any(|file| file.is(&target)) {
            return refused("is a file of a run, which would be lost");
        }
        if pages.iter().any(|page| File::at(page).is(&target)) {
            return refused("is the page of a run, which is written too");
        }
        if let Some((other, _)) = outputs[..at].iter().find(|(_, other)| File::at(other).is(&target)) {
            return refused(&format!("is what {other} writes too"));
        }
        if !may_replace(option, path) {
            return refused("holds something else than such a report, and is left as it is");
        }
    }
    Ok(())
}

/// Whether a path has no file yet, or an empty one, or an older report of the kind that an option writes: a mistyped path must not
/// cost its owner a config.
fn may_replace(option: &str, path: &Path) -> bool {
    let opening = match option {
        "--junit" => super::junit::OPENING,
        "--csv" => super::csv::OPENING,
        _ => super::html::OPENING,
    };
    let is_file = path.metadata().is_ok_and(|known| known.is_file());
    // One that can't be read can't be written either, or is not ours to judge: writing it says so.
    let Some(file) = is_file.then(|| std::fs::File::open(path).ok()).flatten() else { return true };
    let mut begin = Vec::new();
    let read = file.take(opening.len() as u64).read_to_end(&mut begin);
    read.is_err() || begin.is_empty() || begin == opening.as_bytes()
}

/// The identity of a file: two paths may lead to the same one.
struct File {
    path: PathBuf,
    /// Its device and inode, if it exists: it may have several paths.
    inode: Option<(u64, u64)>,
    /// Whether it takes everything and keeps nothing, as a device or a pipe.
    is_stream: bool,
}

impl File {
    fn at(path: &Path) -> Self {
        let known = path.metadata().ok();
        Self {
            path: resolved(path),
            inode: known.as_ref().map(|known| (known.dev(), known.ino())),
            is_stream: known.is_some_and(|known| !known.is_file() && !known.is_dir()),
        }
    }

    /// Whether what is written to one would replace the other.
    fn is(&self, other: &Self) -> bool {
        let is_same = self.path == other.path || self.inode.is_some() && self.inode == other.inode;
        is_same && !self.is_stream
    }
}

/// A path without links; of a file that does not exist, that of its directory with its name.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            parent.canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name))
        }
        _ => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::slice;

    use super::*;

    #[test]
    fn files_of_a_run_and_files_asked_for_twice_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join(layout::TRIALS), "").unwrap();
        symlink(run.join(layout::TRIALS), folder.path().join("link")).unwrap();
        std::fs::hard_link(run.join(layout::TRIALS), folder.path().join("hard")).unwrap();
        let index = folder.path().join("index.html");
        let said = |outputs: &[Output<'_>]| {
            refuse([run.as_path()], slice::from_ref(&index), outputs).err().map(|e| e.to_string())
        };
        let page = folder.path().join("page.html");
        let inside = run.join("report.html");
        assert_eq!(said(&[("--html", Some(&page)), ("--csv", Some(&inside)), ("--junit", None)]), None);
        let links = ["link", "hard"].map(|name| folder.path().join(name));
        for lost in [run.join("trials.jsonl"), run.join("../a/campaign.json")].into_iter().chain(links) {
            let said = said(&[("--csv", Some(&lost))]).unwrap();
            let wanted = format!(
                "--csv {} is a file of a run, which would be lost; name another file",
                lost.display()
            );
            assert_eq!(said, wanted);
        }
        let again = run.join("../page.html");
        let said_twice = said(&[("--html", Some(&page)), ("--csv", Some(&again))]).unwrap();
        assert!(said_twice.contains("is what --html writes too"), "{said_twice}");
        assert!(said(&[("--html", Some(&index))]).unwrap().contains("is the page of a run"));
        let null = PathBuf::from("/dev/null");
        assert_eq!(said(&[("--html", Some(&null)), ("--csv", Some(&null))]), None);
        assert!(said(&[("--csv", Some(&PathBuf::from("-")))]).unwrap().contains("standard output"));
    }

    #[test]
    fn only_a_report_of_the_same_kind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let openings = [
            ("--html", "<!doctype html>"),
            ("--junit", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite "),
            ("--csv", "trial,"),
        ];
        let said = |option| refuse([], &[], &[(option, Some(&path))]).err().map(|e| e.to_string());
        for (option, opening) in openings {
            std::fs::write(&path, "").unwrap();
            assert_eq!(said(option), None, "an empty file");
            for (other, before) in openings {
                std::fs::write(&path, format!("{before} and more")).unwrap();
                assert_eq!(said(option).is_none(), option == other, "{option} over what {other} wrote");
            }
            for text in ["peers: {}\n", "<", &opening[..3]] {
                std::fs::write(&path, text).unwrap();
                let wanted = format!(
                    "{option} {} holds something else than such a report, and is left as it is; name another file",
                    path.display()
                );
                assert_eq!(said(option), Some(wanted), "{text}");
            }
        }
    }
}
