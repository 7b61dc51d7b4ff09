//! Servers of Debian packages for labs: unpacked into the user's cache, never installed. An installed server would be
//! started on this machine, now and at every boot.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::packages::Packages;
use crate::command::output;
use crate::toolchain::cache_dir;
use crate::unpack::unpack;

/// A tree with some packages and those that they depend on and this machine lacks.
pub struct Tree {
    /// Its folder in the cache.
    pub name: &'static str,
    /// The packages.
    pub packages: &'static [&'static str],
    /// Runs its program, which says its version.
    pub version: fn(&Self) -> Result<String>,
}

impl Tree {
    /// A file or folder in it, such as `usr/bin/etcd`.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    /// The variable, and its value, by which the tree's programs find its libraries.
    pub fn libraries(&self) -> (&'static str, PathBuf) {
        ("LD_LIBRARY_PATH", self.path(&format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)))
    }

    /// Gets it, if it is not there; answers whether there was anything to do.
    ///
    /// # Errors
    /// apt does not have a package, or its program does not run here.
    pub fn install(&self) -> Result<bool> {
        if (self.version)(self).is_ok() {
            return Ok(false);
        }
        println!(
            "Set-up: {}, to unpack into {} (nothing is installed)",
            self.packages.join(" "),
            self.root().display()
        );
        let wanted = self.packages.iter().fold(Packages::default(), |all, package| all.add(package));
        wanted.find()?;
        // A tree that was unpacked beside libraries that are gone since.
        if self.root().exists() {
            std::fs::remove_dir_all(self.root())
                .with_context(|| format!("removing {}", self.root().display()))?;
        }
        let missing = self.missing()?;
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        unpack(&missing, &self.root(), |_| Ok(()))?;
        (self.version)(self).map(|_| true)
    }

    /// A command that runs one of its programs with its libraries.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.envs([self.libraries()]);
        command
    }

    fn root(&self) -> PathBuf {
        cache_dir().join(self.name)
    }

    /// The packages that apt would install for these on this machine.
    fn missing(&self) -> Result<Vec<String>> {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--simulate", "--reinstall", "--no-install-recommends"]);
        let plan = output(apt.args(["--option", "Debug::NoLocking=true"]).args(self.packages))?;
        let names: Vec<String> = installs(&plan).map(str::to_owned).collect();
        let has = |package: &&str| names.iter().any(|name| name == *package);
        ensure!(
            self.packages.iter().all(has),
            "apt would not install all of {}: {plan}",
            self.packages.join(", ")
        );
        Ok(names)
    }
}

/// The packages that a simulated run of apt would install.
fn installs(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_read_from_its_plan() {
        let plan = "NOTE: This is only a simulation!\nInst libjemalloc2 (5.3.0-1 Debian:12.15/oldstable [amd64])\n\
                    Inst redis-server [7.0] (5:7.0.15 Debian [amd64])\nConf redis-server (5:7.0.15 Debian [amd64])\n";
        assert_eq!(installs(plan).collect::<Vec<_>>(), ["libjemalloc2", "redis-server"]);
    }
}
