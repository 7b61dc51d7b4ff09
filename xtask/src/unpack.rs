//! Debian packages that are unpacked into the user's cache and never installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::run_shown;

/// Downloads packages and unpacks them into one tree, which is at its place only once it is `finish`ed.
pub fn unpack(names: &[&str], to: &Path, finish: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let cache = to.parent().context("a cache is a folder")?;
    // The tree is under another name until it is whole.
    let part = cache.join(format!("part-{}", std::process::id()));
    fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
    let done = unpack_into(names, &part).and_then(|()| finish(&part.join("tree"))).and_then(|()| {
        fs::rename(part.join("tree"), to).with_context(|| format!("moving a tree to {}", to.display()))
    });
    let _ = fs::remove_dir_all(&part);
    done
}

fn unpack_into(names: &[&str], part: &Path) -> Result<()> {
    run_shown(Command::new("apt-get").args(["download", "--quiet=2"]).args(names).current_dir(part))?;
    let entries = fs::read_dir(part).with_context(|| format!("reading {}", part.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let archives: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect();
    ensure!(
        archives.len() == names.len(),
        "apt-get has downloaded {} of {}",
        archives.len(),
        names.join(", ")
    );
    for archive in archives {
        run_shown(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(part.join("tree")))?;
    }
    Ok(())
}
