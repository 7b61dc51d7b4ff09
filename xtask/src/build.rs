//! `cargo xtask build`, and where the built programs are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command::{BUILT, check_interrupt, words, workspace};

/// The programs that demo and labs start.
pub struct Programs {
    /// The folder of the profile, such as `target/debug`.
    pub folder: PathBuf,
}

impl Programs {
    /// The daemon and command line.
    pub fn injector(&self) -> PathBuf {
        self.folder.join("injector")
    }

    /// The process that tests control.
    pub fn talker(&self) -> PathBuf {
        self.folder.join("examples/talker")
    }

    /// The example service.
    pub fn quorum(&self) -> PathBuf {
        self.folder.join("examples/quorum")
    }
}

/// Builds the injector and the example service, or takes what was built before sudo.
pub fn programs() -> Result<Programs> {
    if let Some(folder) = std::env::var_os(BUILT) {
        return Ok(Programs { folder: folder.into() });
    }
    let built =
        artifacts(cargo().args(["build", "--package", "injector", "--bin", "injector", "--examples"]))?;
    let injector = built
        .iter()
        .find(|artifact| artifact.name == "injector" && artifact.kind == "bin")
        .context("cargo built no program named injector")?;
    let folder = injector.executable.parent().map(Path::to_path_buf).context("the program has no folder")?;
    Ok(Programs { folder })
}

/// A program or test that cargo has built.
pub struct Artifact {
    /// The target's name, such as `netns_cut`.
    pub name: String,
    /// `bin`, `lib`, `test`, `example`, …
    pub kind: String,
    /// The folder of its package.
    pub package: PathBuf,
    /// Its file.
    pub executable: PathBuf,
    /// Whether it is a test program: `cargo test` also builds the programs that tests run.
    pub is_test: bool,
}

/// Runs a cargo build and answers the programs that came out.
pub fn artifacts(cargo: &mut Command) -> Result<Vec<Artifact>> {
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().with_context(|| format!("starting `{}`", words(cargo)))?;
    check_interrupt()?;
    ensure!(output.status.success(), "`{}` failed ({})", words(cargo), output.status);
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    Ok(messages.lines().filter_map(|line| artifact(&serde_json::from_str(line).ok()?)).collect())
}

fn artifact(message: &Value) -> Option<Artifact> {
    Some(Artifact {
        executable: message["executable"].as_str()?.into(),
        package: Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf(),
        name: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
    })
}

/// The cargo that runs this xtask, in the workspace.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    // `cargo run` sets these variables for xtask itself. Build scripts watch them (ring's does), and would
    // run again whenever `cargo test` and `cargo xtask test` take turns.
    for (name, _) in std::env::vars_os() {
        let is_of_xtask = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_of_xtask {
            cargo.env_remove(name);
        }
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_read_from_cargos_message() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/injector/Cargo.toml",
            "target":{"kind":["test"],"name":"netns_cut"},"profile":{"test":true},
            "executable":"/w/target/debug/deps/netns_cut-1"}"#;
        let found = artifact(&serde_json::from_str(message).unwrap()).unwrap();
        assert_eq!((found.name.as_str(), found.kind.as_str()), ("netns_cut", "test"));
        assert_eq!(found.package, Path::new("/w/injector"));
        // A library that is no test has no executable.
        assert!(artifact(&serde_json::json!({"executable": null})).is_none());
    }
}
