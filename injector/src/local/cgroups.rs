//! The cgroups of peers: found by their paths or by their units' names, and found again when they are recreated.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, inotify, openat, statat};
use rustix::io::Errno;

/// How deep units are looked for.
const DEEPEST: usize = 6;

/// What a peer's cgroup is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupName {
    /// Its path from the root.
    Path(PathBuf),
    /// The name of a unit: of a cgroup wherever it is.
    Unit(String),
}

/// A cgroup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path from the root.
    pub path: PathBuf,
    /// Its id in the kernel.
    pub id: u64,
}

/// The tree of all cgroups.
pub struct Tree {
    root: OwnedFd,
    /// Notifies when a cgroup is made where one of a peer's may come.
    news: OwnedFd,
}

impl Tree {
    pub fn new(root: OwnedFd) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { root, news: inotify::init(flags)? })
    }

    /// A descriptor that is readable when cgroups were made.
    pub fn news(&self) -> io::Result<OwnedFd> {
        self.news.try_clone()
    }

    /// Finds a cgroup; what may change that is watched before it is looked for.
    pub fn find(&self, name: &CgroupName) -> io::Result<Option<Cgroup>> {
        match name {
            CgroupName::Path(path) => {
                let mut above = PathBuf::new();
                self.watch(&above)?;
                for part in path.components() {
                    above.push(part);
                    if !self.watch(&above)? {
                        return Ok(None);
                    }
                }
                self.at(path)
            }
            CgroupName::Unit(unit) => self.search(Path::new(""), OsStr::new(unit), DEEPEST),
        }
    }

    fn search(&self, at: &Path, unit: &OsStr, depth: usize) -> io::Result<Option<Cgroup>> {
        if depth == 0 || !self.watch(at)? {
            return Ok(None);
        }
        let directory =
            match openat(&self.root, below(at), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        for entry in Dir::new(directory)? {
            let Ok(entry) = entry else { return Ok(None) };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() != FileType::Directory || name == "." || name == ".." {
                continue;
            }
            let path = at.join(name);
            if name == unit {
                return self.at(&path);
            }
            if let Some(found) = self.search(&path, unit, depth - 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn at(&self, path: &Path) -> io::Result<Option<Cgroup>> {
        match statat(&self.root, below(path), AtFlags::empty()) {
            // The kernel's ids of cgroups are the numbers of their inodes.
            Ok(stat) => Ok(Some(Cgroup { path: path.to_owned(), id: stat.st_ino })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches what is made in a cgroup; whether there is such a one.
    fn watch(&self, path: &Path) -> io::Result<bool> {
        let at = Path::new("/proc/self/fd").join(self.root.as_raw_fd().to_string()).join(below(path));
        let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.news, &at, flags) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A path from the root for calls that take none that is empty.
fn below(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Takes the news that are there.
pub fn drain(news: BorrowedFd<'_>) {
    let mut buffer = [0; 4096];
    while rustix::io::read(news, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// The cgroup of a process, as its path from the root; `None` if it has ended.
pub fn of_process(process: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// A root that is opened once more, for another owner.
pub fn reopen(root: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
