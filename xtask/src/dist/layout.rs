//! What the packages contain, and where it lies in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::command::{run, words, workspace};
use crate::files::{files_below, listed};

/// What the packages contain.
pub(super) struct Parts {
    pub(super) version: String,
    /// As Debian names it: `amd64`.
    pub(super) architecture: &'static str,
    pub(super) binary: PathBuf,
    /// Manual pages and completions.
    pub(super) manuals: PathBuf,
    pub(super) sbom: PathBuf,
}

/// Puts a file into a tree, with its folders, readable to everyone.
pub(super) fn put(from: &Path, tree: &Path, to: &str, mode: u32) -> Result<()> {
    let target = tree.join(to);
    let folder = target.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::copy(from, &target).with_context(|| format!("copying {} to {}", from.display(), target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
        .with_context(|| format!("the mode of {}", target.display()))
}

/// Compresses a file in place; the same input gives the same output.
fn compress(file: &Path) -> Result<()> {
    run(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(file))
}

/// What both packages contain alike, below `root` (such as `usr`): the binary, manuals, completions,
/// documents with the handbook, examples, the schema.
pub(super) fn lay_out(parts: &Parts, tree: &Path, root: &str) -> Result<()> {
    put(&parts.binary, tree, &format!("{root}/bin/injector"), 0o755)?;
    for page in listed(&parts.manuals.join("man"))? {
        let to = format!("{root}/share/man/man1/{}", name(&page)?);
        put(&page, tree, &to, 0o644)?;
        compress(&tree.join(to))?;
    }
    for (file, to) in [
        ("injector.bash", "bash-completion/completions/injector"),
        ("_injector", "zsh/vendor-completions/_injector"),
        ("injector.fish", "fish/vendor_completions.d/injector.fish"),
    ] {
        put(&parts.manuals.join("completions").join(file), tree, &format!("{root}/share/{to}"), 0o644)?;
    }
    for document in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        put(&workspace().join(document), tree, &format!("{root}/share/doc/injector/{document}"), 0o644)?;
    }
    // The README leads into the handbook. What campaigns left in docs/results is not for users.
    let is_read = |path: &&PathBuf| path.extension().is_some_and(|end| end == "md" || end == "svg");
    for page in files_below(&workspace().join("docs"))?.iter().filter(is_read) {
        let inside = page.strip_prefix(workspace()).context("a page is in the workspace")?;
        put(page, tree, &format!("{root}/share/doc/injector/{}", inside.display()), 0o644)?;
    }
    for config in listed(&workspace().join("configs"))?.into_iter().filter(|path| path.is_file()) {
        let to = match name(&config)?.as_str() {
            "lab.schema.json" => format!("{root}/share/injector/lab.schema.json"),
            name => format!("{root}/share/doc/injector/configs/{name}"),
        };
        put(&config, tree, &to, 0o644)?;
    }
    put(&parts.sbom, tree, &format!("{root}/share/doc/injector/sbom.cdx.json"), 0o644)
}

fn name(path: &Path) -> Result<String> {
    Ok(path
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} has no name", path.display()))?
        .to_owned())
}

/// A folder that is empty now.
pub(super) fn emptied(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}

/// What a command prints, where a failure is expected and shown by its status.
pub(super) fn said(command: &mut Command) -> Result<(Option<i32>, String)> {
    let shown = words(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting `{shown}`"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handbook_is_laid_out_with_its_pictures() {
        let files = files_below(&workspace().join("docs")).unwrap();
        for file in ["docs/README.md", "docs/reference/config.md", "docs/pictures/top.svg"] {
            assert!(files.contains(&workspace().join(file)), "{file} is missing");
        }
    }
}
