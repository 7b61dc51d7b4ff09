//! What the tests of the Python client run with: a virtual environment of their own, with pinned packages.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::packages::Packages;
use crate::command::{output, run_for_at_most, workspace};

/// The newest that Python 3.9 can run; `packaging` is pinned since the type checker reads it.
const PACKAGES: [&str; 5] =
    ["flit_core==3.12.0", "mypy==1.19.1", "packaging==25.0", "pytest==8.4.2", "pytest-xdist==3.8.0"];

/// How long pip may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Where the environment is; `injector/tests/netns_python.rs` looks for it there.
fn folder() -> PathBuf {
    workspace().join("target/python")
}

/// Installs what is missing. Where that is impossible, the tests name themselves as skipped.
pub(super) fn python() -> bool {
    let (folder, wanted) = (folder(), PACKAGES.join("\n"));
    let stamp = folder.join("installed");
    let runs =
        || output(Command::new(folder.join("bin/python")).args(["-c", "import pytest, xdist"])).is_ok();
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && runs() {
        return false;
    }
    println!("Set-up: Python packages for the tests of the Python client, into {}", folder.display());
    let install = || -> Result<()> {
        Packages::default()
            .program("python3", "python3")
            .program("make", "make")
            .install("the tests of the Python client and of the examples")?;
        if output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_err() {
            Packages::default().add("python3-venv").install("the tests of the Python client")?;
        }
        let version =
            output(Command::new("python3").args(["-c", "import sys; print(sys.version_info >= (3, 9))"]))?;
        ensure!(version.trim() == "True", "python3 is older than 3.9");
        let venv = ["-m", "venv", "--clear"];
        run_for_at_most(PATIENCE, Command::new("python3").args(venv).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
        run_for_at_most(PATIENCE, &mut pip)?;
        std::fs::write(&stamp, &wanted).with_context(|| format!("writing {}", stamp.display()))
    };
    install().unwrap_or_else(|error| println!("  not available here ({error:#})"));
    true
}
