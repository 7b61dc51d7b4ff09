//! Kernels as Debian packages, which are unpacked and never installed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::{as_root, find_program, output, run_shown};
use crate::toolchain::cache_dir;
use crate::unpack::unpack;

/// The folder of unpacked kernels.
pub fn cache() -> Result<PathBuf> {
    let cache = cache_dir().join("kernels");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    Ok(cache)
}

/// A line of kernels that Debian has packages of.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Series {
    /// The oldest that the injector runs on; without TCX
    #[value(name = "6.1")]
    V6_1,
    /// The newer one, with TCX
    #[value(name = "6.12")]
    V6_12,
    /// The newest that apt knows beyond 6.12, as where the backports of Debian 13 are among its sources
    #[value(name = "newer")]
    Newer,
    /// The newest with `PREEMPT_RT`, on which the injector says that it is not reliable
    #[value(name = "rt")]
    Realtime,
}

/// The version that [`Series::Newer`] is newer than.
const NEWER_THAN: [u32; 2] = [6, 12];

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newer => "newer",
            Self::Realtime => "rt",
        })
    }
}

/// An unpacked kernel.
pub struct Kernel {
    /// Its version, as `uname -r` says.
    pub release: String,
    /// The file to boot.
    pub image: PathBuf,
    folder: PathBuf,
}

/// A module to load, in the order that they need each other.
pub struct Module {
    /// Its file's name.
    pub name: String,
    /// The parameters that the module is loaded with.
    pub parameters: &'static str,
    /// The file, not compressed.
    pub bytes: Vec<u8>,
}

impl Series {
    /// All that the injector supports.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::Newer];

    /// The newest kernel of the series that has been unpacked, or else that can be had.
    pub fn fetch(self) -> Result<Kernel> {
        let cache = cache()?;
        match self.unpacked(&cache)? {
            Some(kernel) => Ok(kernel),
            None => Kernel::open(&cache.join(self.get(&cache)?)),
        }
    }

    /// The newest kernel of the series that has been unpacked, if there is one.
    pub fn unpacked(self, cache: &Path) -> Result<Option<Kernel>> {
        let unpacked = fs::read_dir(cache).with_context(|| format!("reading {}", cache.display()))?;
        let unpacked = unpacked.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        self.newest(unpacked).map(|package| Kernel::open(&cache.join(package))).transpose()
    }

    fn get(self, cache: &Path) -> Result<String> {
        let known = || -> Result<Option<String>> {
            let names = output(Command::new("apt-cache").args(["pkgnames", "linux-image-"]))?;
            Ok(self.newest(names.lines().map(str::to_owned)))
        };
        let mut package = known()?;
        if package.is_none() {
            run_shown(as_root("apt-get")?.args(["update", "--quiet=2"]))?;
            package = known()?;
        }
        let package = package.with_context(|| match self {
            Self::Newer => {
                "apt knows no package of a kernel that is newer than 6.12: add the backports of Debian 13 \
                            (trixie-backports) to its sources"
                    .to_owned()
            }
            Self::Realtime => {
                "apt knows no package `linux-image-*-rt-amd64-unsigned`: add Debian 12 to its sources"
                    .to_owned()
            }
            _ => format!(
                "apt knows no package `linux-image-{self}*-cloud-amd64-unsigned`: add Debian 12 (with \
                 bookworm-security) to its sources"
            ),
        })?;
        println!("Set-up: Linux {self}, to unpack into {} (it is not installed)", cache.display());
        let parts = parts(&package)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        unpack(&parts, &cache.join(&package), |tree| {
            // Debian 13 has its modules below `/usr` alone, where the tools of Debian 12 do not search.
            let lib = tree.join("lib");
            if !lib.exists() {
                symlink("usr/lib", &lib).with_context(|| format!("linking {}", lib.display()))?;
            }
            let release = Kernel::open(tree)?.release;
            let depmod = find_program("depmod").context("set-up has run, but there is no depmod")?;
            run_shown(Command::new(depmod).arg("-b").arg(tree).arg(&release))
        })?;
        Ok(package)
    }

    /// The newest of these names of packages that is of the series.
    fn newest(self, names: impl Iterator<Item = String>) -> Option<String> {
        let version = |name: &str| -> Option<Vec<u32>> {
            let rest = name.strip_prefix("linux-image-")?;
            let rest = match self {
                Self::Realtime => rest.strip_suffix("-rt-amd64-unsigned")?,
                // The newest ones have no twin that is not signed.
                Self::Newer => rest
                    .strip_suffix("-cloud-amd64-unsigned")
                    .or_else(|| rest.strip_suffix("-cloud-amd64"))?,
                _ => rest.strip_suffix("-cloud-amd64-unsigned")?,
            };
            let numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
            let numbers: Vec<u32> = numbers.collect();
            let of_the_series = match self {
                Self::Newer => numbers.get(..2)? > &NEWER_THAN[..],
                Self::Realtime => !numbers.is_empty(),
                _ => rest.strip_prefix(&self.to_string())?.starts_with(['.', '-', '+']),
            };
            of_the_series.then_some(numbers)
        };
        names.filter_map(|name| Some((version(&name)?, name))).max().map(|(_, name)| name)
    }
}

/// A kernel's package, and those into which its files may have been split.
fn parts(package: &str) -> Result<Vec<String>> {
    let listed = output(Command::new("apt-cache").args(["depends", "--important", package]))?;
    let needed = listed.lines().filter_map(|line| line.trim_start().strip_prefix("Depends: "));
    let further =
        needed.filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
    Ok([package].into_iter().chain(further).map(str::to_owned).collect())
}

impl Kernel {
    fn open(folder: &Path) -> Result<Self> {
        let modules = folder.join("lib/modules");
        let mut releases =
            fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))?.flatten();
        let release = releases.next().with_context(|| format!("{} is empty", modules.display()))?;
        let release = release.file_name().to_string_lossy().into_owned();
        // Newer packages have it beside the modules.
        let images = [folder.join(format!("boot/vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
        let image = images.into_iter().find(|image| image.is_file());
        let image = image.with_context(|| {
            format!("there is no kernel in {}: remove that folder and try again", folder.display())
        })?;
        Ok(Self { release, image, folder: folder.to_path_buf() })
    }

    /// Modules by name, each with its parameters, and those that they need, each after what it needs. A module that is
    /// built in is none, nor is one that the kernel lacks: not each package lists what is built in, and a guest finds out.
    pub fn modules(&self, wanted: &[(&str, &'static str)]) -> Result<Vec<Module>> {
        let modprobe = find_program("modprobe").context("set-up has run, but there is no modprobe")?;
        let mut taken = BTreeSet::new();
        let mut modules = Vec::new();
        for (name, parameters) in wanted {
            let mut command = Command::new(&modprobe);
            command.arg("-d").arg(&self.folder).args(["-S", &self.release, "--show-depends", name]);
            let listed = match output(&mut command) {
                Err(error) if format!("{error:#}").contains("not found in directory") => continue,
                listed => listed.with_context(|| format!("Linux {}", self.release))?,
            };
            let files: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("insmod ")).collect();
            for (at, line) in files.iter().enumerate() {
                let file = PathBuf::from(line.split(' ').next().unwrap_or(line));
                if !taken.insert(file.clone()) {
                    continue;
                }
                let is_compressed = file.extension().is_some_and(|extension| extension == "xz");
                let bytes = if is_compressed { decompressed(&file)? } else { read(&file)? };
                let name = file.with_extension("");
                let name = if is_compressed { &name } else { &file };
                let name = name.file_name().context("a module has a name")?.to_string_lossy().into_owned();
                // The last one listed is the one that was asked for.
                modules.push(Module {
                    name,
                    parameters: if at + 1 == files.len() { parameters } else { "" },
                    bytes,
                });
            }
        }
        Ok(modules)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let output = Command::new("xz").arg("-dc").arg(file).output().context("starting `xz`")?;
    ensure!(output.status.success(), "`xz -dc {}` failed ({})", file.display(), output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_of_a_series_is_taken() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64-unsigned",
            "linux-image-6.1.0-47-cloud-amd64-unsigned",
            "linux-image-6.1.0-48-cloud-amd64",
            "linux-image-6.1.0-49-amd64-unsigned",
            "linux-image-6.12.9+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.107+deb12-cloud-amd64-unsigned",
            "linux-image-6.1.0-9-rt-amd64-unsigned",
            "linux-image-6.1.0-50-rt-amd64-unsigned",
            "linux-image-6.1.0-53-rt-amd64-dbg",
            "linux-image-rt-amd64-unsigned",
        ];
        let newest = |series: Series| series.newest(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(newest(Series::V6_1).as_deref(), Some("linux-image-6.1.0-47-cloud-amd64-unsigned"));
        assert_eq!(newest(Series::V6_12).as_deref(), Some("linux-image-6.12.107+deb12-cloud-amd64-unsigned"));
        assert!(newest(Series::Newer).is_none());
        assert_eq!(newest(Series::Realtime).as_deref(), Some("linux-image-6.1.0-50-rt-amd64-unsigned"));
        let newer = [
            "linux-image-6.17.8+deb13-cloud-amd64-unsigned",
            "linux-image-7.0+deb14-cloud-amd64",
            "linux-image-7.1+deb14-cloud-amd64-dbg",
        ];
        let all = names.iter().chain(&newer).map(|name| (*name).to_owned());
        assert_eq!(Series::Newer.newest(all).as_deref(), Some(newer[1]));
        assert!(Series::V6_1.newest(["part-7".to_owned()].into_iter()).is_none());
    }
}
