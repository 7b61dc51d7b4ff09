//! The Python environments of tests: virtual environments of their own, with pinned packages.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::packages::Packages;
use crate::command::{output, run_for_at_most, workspace};

/// A virtual environment.
struct Environment {
    /// The environment's folder, below the workspace, where the tests expect it.
    folder: &'static str,
    /// The tests that use it.
    of: &'static str,
    packages: &'static [&'static str],
    /// The modules that show that it works.
    modules: &'static str,
    /// The oldest Python that runs the packages.
    least: (u32, u32),
}

/// The environment of `injector/tests/netns_python.rs`: the newest packages that Python 3.9 can run;
/// `packaging` is pinned since the type checker reads it.
const CLIENT: Environment = Environment {
    folder: "target/python",
    of: "the tests of the Python client",
    packages: &[
        "flit_core==3.12.0",
        "mypy==1.19.1",
        "packaging==25.0",
        "pytest==8.4.2",
        "pytest-xdist==3.8.0",
    ],
    modules: "pytest, xdist",
    least: (3, 9),
};

/// The environment of `injector/tests/netns_contract.rs`.
const CONTRACT: Environment = Environment {
    folder: "target/schemathesis",
    of: "the test of the API's contract",
    packages: &["schemathesis==4.32.5"],
    modules: "schemathesis",
    least: (3, 10),
};

/// How long pip may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Installs what is missing. Where that is impossible, the tests name themselves as skipped.
pub(super) fn python() -> bool {
    let [client, contract] = [CLIENT, CONTRACT].map(|environment| environment.install());
    client | contract
}

impl Environment {
    fn install(&self) -> bool {
        let (folder, wanted) = (workspace().join(self.folder), self.packages.join("\n"));
        let stamp = folder.join("installed");
        let import = format!("import {}", self.modules);
        let runs = || output(Command::new(folder.join("bin/python")).args(["-c", &import])).is_ok();
        if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && runs() {
            return false;
        }
        println!("Set-up: Python packages for {}, into {}", self.of, folder.display());
        let install = || -> Result<()> {
            self.interpreter()?;
            let venv = ["-m", "venv", "--clear"];
            run_for_at_most(PATIENCE, Command::new("python3").args(venv).arg(&folder))?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(self.packages);
            run_for_at_most(PATIENCE, &mut pip)?;
            std::fs::write(&stamp, &wanted).with_context(|| format!("writing {}", stamp.display()))
        };
        install().unwrap_or_else(|error| println!("  not available here ({error:#})"));
        true
    }

    /// Python with what makes environments, new enough.
    fn interpreter(&self) -> Result<()> {
        Packages::default()
            .program("python3", "python3")
            .program("make", "make")
            .install("the tests of the Python client and of the examples")?;
        if output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_err() {
            Packages::default().add("python3-venv").install("the tests that run with Python")?;
        }
        let (major, minor) = self.least;
        let is_new = format!("import sys; print(sys.version_info >= ({major}, {minor}))");
        let version = output(Command::new("python3").args(["-c", &is_new]))?;
        ensure!(version.trim() == "True", "python3 is older than {major}.{minor}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_environment_has_a_folder_of_its_own_and_pinned_packages() {
        let paths: Vec<PathBuf> = [CLIENT, CONTRACT].map(|one| workspace().join(one.folder)).into();
        assert_ne!(paths[0], paths[1]);
        let packages = || [CLIENT, CONTRACT].into_iter().flat_map(|one| one.packages);
        assert!(packages().all(|package| package.contains("==")), "{:?}", packages().collect::<Vec<_>>());
    }
}
