//! Removes the namespaces and folders that labs of killed processes left behind.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, run};
use crate::namespace::ip;

/// Removes namespaces and folders whose makers died without doing it (SIGKILL), and kills what still runs inside the
/// namespaces. Returns the namespaces' names.
///
/// # Errors
/// The namespaces can't be listed.
pub fn remove_leftovers() -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    let listed = run(ip().args(["netns", "list"]))?;
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if !maker(name).is_some_and(is_dead) {
            continue;
        }
        let inside = run(ip().args(["netns", "pids", name]))?;
        let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
        for pid in inside.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // The process was just listed inside a namespace of ours; it may have ended since.
            let _ = kill_process(pid, Signal::KILL);
        }
        // Another run may be removing the same one.
        if run(ip().args(["netns", "delete", name])).is_ok() {
            removed.push(name.to_owned());
        }
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(maker).is_some_and(is_dead) {
            // Another user's folder may refuse; it is not ours then.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(removed)
}

/// The process that a namespace or a folder is named after, if it is one of ours.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix("inj")?.split_once('-')?.0.parse().ok()
}

/// Whether a process is gone. A pid that was given to another process counts as alive: nothing is removed then.
fn is_dead(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_our_prefix_and_a_pid_have_a_maker() {
        assert_eq!(maker("inj1234-lab0-n1"), Some(1234));
        assert_eq!(maker("inj7-t0"), Some(7));
        for other in ["n1", "inj-n1", "injector-1", "inj12x-n1", "inj1234"] {
            assert_eq!(maker(other), None, "{other}");
        }
        assert!(!is_dead(std::process::id()));
    }
}
