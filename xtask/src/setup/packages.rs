//! Debian packages.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail, ensure};

use crate::command::{as_root, find_program, is_root, output, run_shown};

/// Serialises calls of apt: apt has one lock, and sudo may ask for a password.
static APT: Mutex<()> = Mutex::new(());

/// Debian packages to install, collected first so that apt runs once.
#[derive(Default)]
pub struct Packages {
    names: Vec<String>,
}

impl Packages {
    /// Asks for a package if its program is not there.
    pub fn program(self, program: &str, package: &str) -> Self {
        if find_program(program).is_some() { self } else { self.add(package) }
    }

    /// Asks for a package if its file is not there.
    pub fn missing_file(self, file: impl Into<PathBuf>, package: &str) -> Self {
        if file.into().exists() { self } else { self.add(package) }
    }

    /// Asks for a package.
    pub fn add(mut self, package: &str) -> Self {
        if !self.names.iter().any(|name| name == package) {
            self.names.push(package.to_owned());
        }
        self
    }

    /// Installs them; answers whether there was anything to do.
    pub fn install(self, purpose: &str) -> Result<bool> {
        if self.names.is_empty() {
            return Ok(false);
        }
        let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.join(" ");
        println!("Set-up: Debian packages for {purpose}: {names}");
        if find_program("apt-get").is_none() {
            bail!("there is no apt-get here: install by hand what contains {names}");
        }
        if !is_root() && find_program("sudo").is_none() {
            bail!(
                "installing them needs root, and there is no sudo; as root, run: apt-get install \
                 --no-install-recommends {names}"
            );
        }
        let install = || {
            let mut apt = as_root("env")?;
            apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet=2"]);
            // The user has to decide about a package that conflicts with an installed one.
            run_shown(apt.args(["--no-remove", "--no-install-recommends"]).args(&self.names))
        };
        // Lists may be absent (a fresh container) or name versions that the mirror no longer has.
        if self.known_to_apt() && install().is_ok() {
            return Ok(true);
        }
        self.update()?;
        install()?;
        Ok(true)
    }

    /// Makes sure that apt knows a version of each, without installing any.
    pub fn find(&self) -> Result<()> {
        let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            find_program("apt-get").is_some(),
            "there is no apt-get here to get {} with",
            self.names.join(" ")
        );
        if self.known_to_apt() { Ok(()) } else { self.update() }
    }

    pub fn update(&self) -> Result<()> {
        run_shown(as_root("apt-get")?.args(["update", "--quiet=2"]))?;
        ensure!(self.known_to_apt(), "this distribution does not have all of {}", self.names.join(" "));
        Ok(())
    }

    /// Whether apt's lists name a version of each.
    pub fn known_to_apt(&self) -> bool {
        self.names.iter().all(|name| {
            // A version may be named behind it.
            let name = name.split('=').next().unwrap_or(name);
            let policy = output(Command::new("apt-cache").args(["policy", name]).env("LC_ALL", "C"));
            policy.is_ok_and(|policy| policy.contains("Candidate:") && !policy.contains("Candidate: (none)"))
        })
    }
}
