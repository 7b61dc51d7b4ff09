//! The files of the packages, and their places in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{run, workspace};
use crate::files::{files_below, listed};

/// The parts of the packages.
pub(super) struct Parts {
    pub(super) version: String,
    /// The architecture, as Debian names it: `amd64`.
    pub(super) architecture: &'static str,
    pub(super) binary: PathBuf,
    /// Manual pages and completions.
    pub(super) manuals: PathBuf,
    pub(super) sbom: PathBuf,
}

/// Files at the top of the repository that are for users, or that these link to.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "CHANGELOG.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

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

/// Writes the files that both packages contain alike, below `root` (such as `usr`): the binary, manuals,
/// completions, documents with the handbook, examples, the schema.
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
    for document in DOCUMENTS {
        put(&workspace().join(document), tree, &format!("{root}/share/doc/injector/{document}"), 0o644)?;
    }
    // The README leads into the handbook, and that to examples. What campaigns left in docs/results is not for users.
    let is_read = |path: &&PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        end.is_some_and(|end| ["md", "png", "svg"].contains(&end))
    };
    let pages = files_below(&workspace().join("docs"))?;
    let examples = files_below(&workspace().join("examples"))?;
    for file in pages.iter().filter(is_read).chain(&examples) {
        let inside = file.strip_prefix(workspace()).context("a document is in the workspace")?;
        put(file, tree, &format!("{root}/share/doc/injector/{}", inside.display()), 0o644)?;
    }
    // The example configs name the schema as it lies beside them.
    for config in listed(&workspace().join("configs"))?.into_iter().filter(|path| path.is_file()) {
        put(&config, tree, &format!("{root}/share/doc/injector/configs/{}", name(&config)?), 0o644)?;
    }
    let schema = workspace().join("configs/lab.schema.json");
    put(&schema, tree, &format!("{root}/share/injector/lab.schema.json"), 0o644)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that the links of a page name, from the page's folder.
    fn linked(page: &str) -> impl Iterator<Item = &str> {
        let targets = page.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        let files = targets.filter(|target| !target.contains("://"));
        files.map(|target| target.split('#').next().unwrap_or(target)).filter(|file| !file.is_empty())
    }

    #[test]
    fn what_documents_link_to_is_laid_out_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let (manuals, file) = (folder.path().join("manuals"), folder.path().join("file"));
        for below in ["man", "completions"] {
            fs::create_dir_all(manuals.join(below)).unwrap();
        }
        for shell in ["injector.bash", "_injector", "injector.fish"] {
            fs::write(manuals.join("completions").join(shell), "").unwrap();
        }
        fs::write(&file, "").unwrap();
        let parts = Parts {
            version: "0.0.0".to_owned(),
            architecture: "amd64",
            binary: file.clone(),
            manuals,
            sbom: file,
        };
        let tree = folder.path().join("tree");
        lay_out(&parts, &tree, "usr").unwrap();

        let documents = tree.join("usr/share/doc/injector");
        let is_page = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
        let pages: Vec<PathBuf> = files_below(&documents).unwrap().into_iter().filter(is_page).collect();
        assert!(pages.len() > 20, "{pages:?}");
        for page in pages {
            for file in linked(&fs::read_to_string(&page).unwrap()) {
                assert!(page.parent().unwrap().join(file).exists(), "{}: {file} is missing", page.display());
            }
        }
        for file in ["configs/lab.yaml", "configs/lab.schema.json", "examples/suite.sh"] {
            assert!(documents.join(file).exists(), "{file} is missing");
        }
    }
}
