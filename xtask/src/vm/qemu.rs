//! QEMU: the system's, installed if nothing is in the way, or else unpacked beside it.
//!
//! Debian's parts of QEMU must be of one version. Where one of them is installed in another version than apt would take
//! for `qemu-system-x86` (such as `qemu-utils` from backports), apt would have to remove it. That is the user's to decide:
//! QEMU is then unpacked into the cache, and what is installed stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::{check_interrupt, find_program, output};
use crate::setup::packages::Packages;
use crate::toolchain::cache_dir;
use crate::unpack::unpack;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// Packages that must be of one version with [`PACKAGE`], or that hold the files which a machine boots with.
const PARTS: [&str; 4] = [PACKAGE, "qemu-system-common", "qemu-system-data", "seabios"];

/// Where QEMU is.
pub struct Qemu {
    program: PathBuf,
    /// The folders where QEMU searches for firmware; empty for its built-in ones.
    firmware: Vec<PathBuf>,
}

impl Qemu {
    /// The system's, or the one that was unpacked.
    pub fn find() -> Option<Self> {
        if let Some(program) = find_program(PROGRAM) {
            return Some(Self { program, firmware: Vec::new() });
        }
        let tree = tree();
        let program = tree.join("usr/bin").join(PROGRAM);
        let firmware = ["qemu", "seabios"].map(|of| tree.join("usr/share").join(of)).into();
        program.is_file().then_some(Self { program, firmware })
    }

    /// A command that starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for folder in &self.firmware {
            command.arg("-L").arg(folder);
        }
        command
    }
}

fn tree() -> PathBuf {
    cache_dir().join("qemu")
}

/// Gets it, if it is not there; answers whether there was anything to do.
pub fn install() -> Result<bool> {
    if Qemu::find().is_some() {
        return Ok(false);
    }
    let why = match Packages::default().program(PROGRAM, &package()).install("virtual machines") {
        Ok(_) if Qemu::find().is_some() => return Ok(true),
        Ok(_) => format!("{PACKAGE} is installed, but there is no {PROGRAM} on PATH"),
        Err(error) => format!("{error:#}"),
    };
    check_interrupt()?;
    println!(
        "  {PACKAGE} can't be installed beside what is there ({why}).\n  \
         Nothing is removed: QEMU is unpacked into {}, and its libraries are installed.",
        tree().display()
    );
    libraries()?.install("QEMU's libraries")?;
    unpack(&PARTS, &tree(), |tree| starts(&tree.join("usr/bin").join(PROGRAM)))?;
    Ok(true)
}

/// The package, in the version of `qemu-utils` if apt has that.
fn package() -> String {
    let installed =
        output(Command::new("dpkg-query").args(["-W", "-f", "${Status} ${Version}", "qemu-utils"]));
    let version =
        installed.ok().and_then(|text| Some(text.strip_prefix("install ok installed ")?.to_owned()));
    let listed = output(Command::new("apt-cache").args(["madison", PACKAGE])).unwrap_or_default();
    match version {
        Some(version) if versions(&listed).any(|known| known == version) => format!("{PACKAGE}={version}"),
        _ => PACKAGE.to_owned(),
    }
}

/// The versions in what `apt-cache madison` says: `package | version | source` on each line.
fn versions(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim()))
}

/// The packages that QEMU depends on, besides its own parts.
fn libraries() -> Result<Packages> {
    let listed = output(Command::new("apt-cache").args(["depends", "--important", PACKAGE]))?;
    let packages = dependencies(&listed).filter(|name| !PARTS.contains(name));
    let packages: Vec<&str> = packages.filter(|name| !is_installed(name)).collect();
    Ok(packages.into_iter().fold(Packages::default(), Packages::add))
}

/// The packages in what `apt-cache depends` says; the first of those that may replace each other.
fn dependencies(listed: &str) -> impl Iterator<Item = &str> {
    let mut was_alternative = false;
    listed.lines().filter_map(move |line| {
        let line = line.trim_start();
        let is_further = was_alternative;
        was_alternative = line.starts_with('|');
        let name = line.trim_start_matches('|').strip_prefix("Depends: ")?;
        (!is_further && !name.starts_with('<')).then_some(name)
    })
}

fn is_installed(name: &str) -> bool {
    let status = output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", name]));
    status.is_ok_and(|status| status.ends_with(" installed"))
}

fn starts(program: &Path) -> Result<()> {
    let version =
        output(Command::new(program).arg("--version")).context("the unpacked QEMU does not start")?;
    ensure!(version.contains("QEMU"), "{} says {version}", program.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_dependencies_are_read_from_what_apt_says() {
        let listed = "qemu-system-x86 | 1:10.0.2+ds-2~bpo12+1 | http://d bookworm-backports/main amd64 Packages\n\
                      qemu-system-x86 | 1:7.2+dfsg-7 | http://d bookworm/main amd64 Packages\n";
        assert_eq!(versions(listed).collect::<Vec<_>>(), ["1:10.0.2+ds-2~bpo12+1", "1:7.2+dfsg-7"]);
        let listed = "qemu-system-x86\n  Depends: libaio1\n |Depends: a\n  Depends: b\n  Depends: <virtual>\n  Depends: libz\n";
        assert_eq!(dependencies(listed).collect::<Vec<_>>(), ["libaio1", "a", "libz"]);
    }
}
