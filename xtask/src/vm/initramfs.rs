//! The guest's file system: a cpio archive, as the kernel unpacks it into memory.
//!
//! Written here, since device files and root's ownership would else need root.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTERS: u32 = 0o020_000;

/// An archive in the making.
pub struct Initramfs<W: Write> {
    out: BufWriter<W>,
    there: BTreeSet<PathBuf>,
}

impl<W: Write> Initramfs<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Self { out: BufWriter::new(out), there: BTreeSet::new() }
    }

    /// A folder, with those above it.
    pub fn folder(&mut self, path: &Path) -> Result<()> {
        if path.parent().is_none() || self.there.contains(path) {
            return Ok(());
        }
        self.entry(path, FOLDER | 0o755, &[], (0, 0))
    }

    /// A file.
    pub fn file(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.entry(path, FILE | mode, bytes, (0, 0))
    }

    /// A symbolic link; none where something is already.
    pub fn link(&mut self, path: &Path, to: &Path) -> Result<()> {
        if self.there.contains(path) {
            return Ok(());
        }
        self.entry(path, LINK | 0o777, to.as_os_str().as_bytes(), (0, 0))
    }

    /// A character device.
    pub fn device(&mut self, path: &Path, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTERS | 0o600, &[], (major, minor))
    }

    /// A folder of this machine with all that is in it, at the same place.
    pub fn tree(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            if path.is_dir() {
                self.tree(&path)?;
            } else {
                self.file(&path, &read(&path)?, 0o644)?;
            }
        }
        Ok(())
    }

    /// A program, read from a file, with the libraries that the loader says it needs, each where it is here.
    pub fn program(&mut self, path: &Path, from: &Path) -> Result<()> {
        if self.there.contains(path) {
            return Ok(());
        }
        self.file(path, &read(from)?, 0o755)?;
        for library in libraries(from)? {
            if !self.there.contains(&library) {
                self.file(&library, &read(&library)?, 0o755)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        self.write("TRAILER!!!".as_bytes(), 0, &[], (0, 0))?;
        self.out.flush().context("writing the archive")
    }

    fn entry(&mut self, path: &Path, mode: u32, bytes: &[u8], device: (u32, u32)) -> Result<()> {
        ensure!(path.is_absolute(), "{} is not absolute", path.display());
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.there.insert(path.to_path_buf());
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
        self.write(name, mode, bytes, device).with_context(|| format!("writing {}", path.display()))
    }

    /// The "newc" format: 13 numbers of 8 hexadecimal digits, the name, the contents, each padded to 4 bytes.
    fn write(&mut self, name: &[u8], mode: u32, bytes: &[u8], device: (u32, u32)) -> Result<()> {
        let number = u32::try_from(self.there.len())?;
        let [length, name_length] = [bytes.len(), name.len() + 1].map(u32::try_from);
        let numbers = [number, mode, 0, 0, 1, 0, length?, 0, 0, device.0, device.1, name_length?, 0];
        write!(self.out, "070701")?;
        for number in numbers {
            write!(self.out, "{number:08x}")?;
        }
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.pad(6 + 13 * 8 + name.len() + 1)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, length: usize) -> Result<()> {
        let padding = length.next_multiple_of(4) - length;
        Ok(self.out.write_all(&[0; 3][..padding])?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// The loader and the libraries of a program; none if it is static.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new("ldd");
    let output =
        command.arg(program).env("LC_ALL", "C").stdin(Stdio::null()).output().context("starting `ldd`")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        ensure!(said.contains("not a dynamic executable"), "`ldd {}` failed: {said}", program.display());
        return Ok(Vec::new());
    }
    let missing: Vec<&str> = said.lines().filter(|line| line.contains("not found")).collect();
    ensure!(missing.is_empty(), "{} lacks {}", program.display(), missing.join(", "));
    Ok(listed(&said))
}

/// The paths in `name => /path (address)` and `/path (address)`; what is in the kernel has none.
fn listed(said: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let right = line.split_once("=> ").map_or(line, |(_, right)| right);
        right.trim().split(' ').next().filter(|path| path.starts_with('/')).map(PathBuf::from)
    };
    said.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_the_loader_says() {
        let said = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(listed(said), [Path::new("/lib/x/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]);
        assert_eq!(listed("\tstatically linked\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn an_archive_has_each_folder_once_and_is_aligned() {
        let mut bytes = Vec::new();
        let mut system = Initramfs::new(&mut bytes);
        system.file(Path::new("/a/b/one"), b"12345", 0o644).unwrap();
        system.file(Path::new("/a/b/two"), b"", 0o755).unwrap();
        assert!(system.file(Path::new("relative"), b"", 0o644).is_err());
        system.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let number = |index: usize| {
                let digits = &bytes[at + 6 + index * 8..][..8];
                usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (length, name_length) = (number(6), number(11));
            let name = &bytes[at + 110..][..name_length - 1];
            let contents = (at + 110 + name_length).next_multiple_of(4);
            names.push((String::from_utf8(name.to_vec()).unwrap(), bytes[contents..][..length].to_vec()));
            at = (contents + length).next_multiple_of(4);
        }
        let names: Vec<(&str, &[u8])> =
            names.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
        let none: &[u8] = b"";
        assert_eq!(
            names,
            [("a", none), ("a/b", none), ("a/b/one", b"12345"), ("a/b/two", none), ("TRAILER!!!", none)]
        );
    }
}
