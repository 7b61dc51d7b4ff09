//! Where a report may be written: to no file of a run, and to no file twice.

use std::path::{Path, PathBuf};

use crate::run::layout;

/// A file is asked for that must not be written.
#[derive(Debug, thiserror::Error)]
#[error("{option} {} {why}; name another file", .path.display())]
pub struct OutputError {
    /// By which option.
    option: &'static str,
    /// Which.
    path: PathBuf,
    /// Why not.
    why: String,
}

/// A file that is asked for, and the option that asks for it.
pub(super) type Output<'a> = (&'static str, Option<&'a PathBuf>);

/// Refuses files that would destroy what the runs measured, or each other. To be asked before anything is written.
pub(super) fn refuse<'a>(
    runs: impl IntoIterator<Item = &'a Path>,
    outputs: &[Output<'_>],
) -> Result<(), OutputError> {
    let outputs: Vec<(&str, &PathBuf)> =
        outputs.iter().filter_map(|(option, path)| path.map(|path| (*option, path))).collect();
    let own: Vec<PathBuf> = runs
        .into_iter()
        .flat_map(|run| layout::FILES.map(|file| run.join(file)))
        .map(|file| resolved(&file))
        .collect();
    for (at, (option, path)) in outputs.iter().enumerate() {
        let refused = |why: &str| Err(OutputError { option, path: (*path).clone(), why: why.to_owned() });
        if path.as_os_str() == "-" {
            return refused("is not written to standard output");
        }
        let target = resolved(path);
        if own.contains(&target) {
            return refused("is a file of a run, which would be lost");
        }
        if let Some((other, _)) = outputs[..at].iter().find(|(_, other)| resolved(other) == target) {
            return refused(&format!("is what {other} writes too"));
        }
    }
    Ok(())
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

    use super::*;

    #[test]
    fn files_of_a_run_and_files_asked_for_twice_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("a");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join(layout::TRIALS), "").unwrap();
        symlink(run.join(layout::TRIALS), folder.path().join("link")).unwrap();
        let said = |outputs: &[Output<'_>]| refuse([run.as_path()], outputs).err().map(|e| e.to_string());
        let page = folder.path().join("page.html");
        let inside = run.join("report.html");
        assert_eq!(said(&[("--html", Some(&page)), ("--csv", Some(&inside)), ("--junit", None)]), None);
        for lost in [run.join("trials.jsonl"), run.join("../a/campaign.json"), folder.path().join("link")] {
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
        assert!(said(&[("--csv", Some(&PathBuf::from("-")))]).unwrap().contains("standard output"));
    }
}
